//! The command line: what it prints, what it exits with, and how a running balancer answers signals.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::disallowed_methods, reason = "a test")]

use std::io::{BufRead, BufReader, Read};
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

const LIMIT: Duration = Duration::from_secs(20);

struct Files(PathBuf);

impl Drop for Files {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Files {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("sipring-cli-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.0.join(name), text).unwrap();
    }

    fn sipring(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sipring"));
        command.args(args).current_dir(&self.0).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn done(&self, args: &[&str]) -> (i32, String, String) {
        let Output { status, stdout, stderr } = self.sipring(args).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (status.code().unwrap(), text(stdout), text(stderr))
    }
}

/// Every test has an address of its own, so that they can run side by side.
fn config(host: u8, node: &str) -> String {
    format!(
        "[[listener]]\nname = \"phones\"\nbind = \"127.9.9.{host}:5060\"\n[[node_side]]\nbind = \"127.9.9.{host}:5062\"\nports = \"5070-5071\"\n\
         [[set]]\nname = \"pbx\"\nslots = 1024\n[[set.node]]\nname = \"pbx1\"\naddress = \"{node}\"\n\
         [[set.node]]\nname = \"pbx2\"\naddress = \"127.9.9.99:5061\"\nintent = \"drain\"\n[health]\nprobe = false\n\
         [admin]\nbind = \"127.9.9.{host}:8060\"\n"
    )
}

/// A running balancer and the lines that it said.
struct Running {
    child: Child,
    log: Receiver<String>,
    out: Receiver<String>,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lines(from: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    receiver
}

fn line_with(lines: &Receiver<String>, words: &[&str]) -> String {
    let until = Instant::now() + LIMIT;
    let mut said = Vec::new();
    while let Ok(line) = lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
        if words.iter().all(|word| line.contains(word)) {
            return line;
        }
        said.push(line);
    }
    panic!("no line with {words:?}; there was: {said:#?}");
}

impl Running {
    fn start(files: &Files, args: &[&str]) -> Self {
        let mut child = files.sipring(args).spawn().unwrap();
        let log = lines(child.stderr.take().unwrap());
        let out = lines(child.stdout.take().unwrap());
        let running = Self { child, log, out };
        line_with(&running.log, &["event=ready "]);
        running
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    fn exit_code(&mut self) -> i32 {
        let until = Instant::now() + LIMIT;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code().unwrap();
            }
            assert!(Instant::now() < until, "it does not end");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

#[test]
fn check_says_sound_or_what_is_wrong_and_exits_accordingly() {
    let files = Files::new("check");
    files.write("sipring.toml", &config(1, "127.9.9.99:5060"));
    let (code, out, err) = files.done(&["check"]);
    assert_eq!((code, out.as_str()), (0, "sipring.toml: sound\n"));
    assert_eq!(err, "warning: cluster-secret.toml: absent; `sipring run` makes it\n");
    assert!(!files.0.join("cluster-secret.toml").exists(), "check makes nothing");
    files.write("bad.toml", &config(1, "127.9.9.99:5060").replace("slots", "slot"));
    let (code, out, err) = files.done(&["check", "-c", "bad.toml"]);
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(err.starts_with("bad.toml:9:1: unknown key `slot`; did you mean `slots`?"), "{err}");
    let (code, _, err) = files.done(&["run", "-c", "bad.toml"]);
    assert!(code == 1 && err.starts_with("bad.toml:9:1: unknown key `slot`"), "{err}");
    let (code, _, err) = files.done(&["check", "-c", "none.toml"]);
    assert!(code == 1 && err.starts_with("none.toml: cannot be read: "), "{err}");
    assert_eq!(files.done(&["serve"]).0, 2);
}

#[test]
fn the_default_files_are_sound() {
    let files = Files::new("default");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (config, cpus) = (root.join("sipring.toml"), root.join("tuning/cpus.toml"));
    let (code, out, err) = files.done(&["check", "-c", config.to_str().unwrap(), "-t", cpus.to_str().unwrap()]);
    assert!(code == 0 && out.ends_with("sipring.toml: sound\n"), "{out}{err}");
}

#[test]
fn every_commented_default_is_the_default() {
    let files = Files::new("commented");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(root.join("sipring.toml")).unwrap();
    let is_key = |line: &str| {
        line.strip_prefix("# ").is_some_and(|rest| {
        let key = rest.split(' ').next().unwrap_or_default();
        !key.is_empty() && key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_' || b.is_ascii_digit()) && rest.contains(" = ")
    } || rest.starts_with("[["))
    };
    let bare: String =
        text.lines().map(|line| if is_key(line) { line[2..].to_owned() } else { line.to_owned() } + "\n").collect();
    let tables = ["[set.health]", "[health]", "[dns]", "[admin]", "[log]"];
    let bare = tables.iter().fold(bare, |bare, table| bare.replace(&format!("# {table}"), table));
    files.write("sipring.toml", &bare);
    files.write("admin-token", "0123456789abcdef0123456789abcdef");
    std::fs::set_permissions(files.0.join("admin-token"), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let (code, out, err) = files.done(&["check"]);
    assert!(code == 0, "{out}{err}");
}

#[test]
fn explain_tells_the_choice_for_a_call_id_and_for_the_same_call_in_a_message() {
    let files = Files::new("explain");
    files.write("sipring.toml", &config(2, "127.9.9.99:5060"));
    let (code, _, err) = files.done(&["explain", "--call-id", "a@b"]);
    assert!(code == 1 && err.contains("cluster-secret.toml: absent"), "{err}");
    files.write(
        "cluster-secret.toml",
        &format!("hash = \"{}\"\n[[cookie]]\nid = 0\nkey = \"{}\"\nsign = true\n", "1f".repeat(32), "2e".repeat(16)),
    );
    let (code, out, err) = files.done(&["explain", "--call-id", "a@b"]);
    assert_eq!((code, err.lines().next()), (0, None), "{err}");
    for part in [
        "rule      none; the listener's own set\n",
        "set       pbx\n",
        "key       call-id = a@b\n",
        "pbx2 127.9.9.99:5061 (id ",
        ", weight 100) not: draining\n",
        "node      pbx1 127.9.9.99:5060 (id ",
    ] {
        assert!(out.contains(part), "{part} in {out}");
    }
    let invite = "INVITE sip:x@y SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\nf: <sip:z@y>;tag=1\r\nt: <sip:x@y>\r\n\
                  i: a@b\r\nCSeq: 1 INVITE\r\nMax-Forwards: 70\r\n\r\n";
    files.write("invite", invite);
    let (code, told, _) =
        files.done(&["explain", "--message", "invite", "--listener", "phones", "--source", "127.1.1.1:9"]);
    assert_eq!(code, 0);
    let choice = |text: &str| text.split_once("rule ").unwrap().1.to_owned();
    assert_eq!(choice(&told), choice(&out));
    let (code, told, _) = files.done(&["explain", "--call-id", "a@b", "--method", "REGISTER"]);
    assert!(code == 0 && told.contains("key       aor = ") && told.contains("use --message"), "{told}");
    let (code, _, err) = files.done(&["explain", "--call-id", "a", "--listener", "phone"]);
    assert!(code == 1 && err == "unknown listener `phone`; one of: phones\n", "{err}");
    files.write("bad", "INVITE");
    assert_eq!(files.done(&["explain", "--message", "bad"]).0, 1);
}

#[test]
fn a_run_makes_its_secret_reloads_on_sighup_prints_on_sigusr1_and_drains_on_sigterm() {
    let files = Files::new("run");
    let text = config(3, "127.9.9.99:5060");
    files.write("sipring.toml", &text);
    let mut running = Running::start(&files, &["run"]);
    let secret = std::fs::read_to_string(files.0.join("cluster-secret.toml")).unwrap();
    assert!(secret.contains("sign = true"));
    use std::os::unix::fs::MetadataExt;
    assert_eq!(std::fs::metadata(files.0.join("cluster-secret.toml")).unwrap().mode() & 0o777, 0o600);

    files.write("sipring.toml", &text.replace("\"pbx1\"", "\"pbx2\""));
    running.signal(Signal::HUP);
    let line = line_with(&running.log, &["reload_refused"]);
    assert!(line.contains("sipring.toml:14:8: there is a node `pbx2` already"), "{line}");
    files.write("sipring.toml", &text.replace("5070-5071", "5070-5072"));
    running.signal(Signal::HUP);
    let line = line_with(&running.log, &["reload_refused"]);
    assert!(line.contains("a change of node_side needs a restart"), "{line}");
    files.write("sipring.toml", &text.replace("drain", "serve"));
    running.signal(Signal::HUP);
    line_with(&running.log, &["reload", "nodes=2"]);

    running.signal(Signal::USR1);
    assert_eq!(line_with(&running.out, &["sipring_received{worker=\"0\"}"]), "sipring_received{worker=\"0\"} 0");
    line_with(&running.out, &["total sipring_drop{reason=\"not_sip\"} 0"]);
    running.signal(Signal::TERM);
    line_with(&running.log, &["drain"]);
    line_with(&running.log, &["stopped"]);
    line_with(&running.out, &["sipring_received{worker=\"0\"} 0"]);
    assert_eq!(running.exit_code(), 0);
}

#[test]
fn a_drain_waits_for_a_ringing_call_and_a_second_signal_does_not() {
    let files = Files::new("drain");
    let node = UdpSocket::bind("127.9.9.4:5090").unwrap();
    node.set_read_timeout(Some(LIMIT)).unwrap();
    files.write("sipring.toml", &config(4, "127.9.9.4:5090"));
    let mut running = Running::start(&files, &["run"]);
    let client = UdpSocket::bind("127.9.9.104:5060").unwrap();
    let invite = "INVITE sip:x@127.9.9.4 SIP/2.0\r\nVia: SIP/2.0/UDP 127.9.9.104;branch=z9hG4bK1;rport\r\nFrom: <sip:z@y>;tag=1\r\n\
                  To: <sip:x@y>\r\nCall-ID: a@b\r\nCSeq: 1 INVITE\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n";
    client.send_to(invite.as_bytes(), "127.9.9.4:5060").unwrap();
    let mut datagram = [0; 4096];
    let (length, _) = node.recv_from(&mut datagram).unwrap();
    assert!(datagram[..length].starts_with(b"INVITE "));
    let started = Instant::now();
    running.signal(Signal::TERM);
    line_with(&running.log, &["drain"]);
    // Longer than a drain with nothing pending takes.
    assert!(running.log.recv_timeout(Duration::from_secs(3)).is_err(), "the call still rings");
    running.signal(Signal::TERM);
    line_with(&running.log, &["stopped"]);
    assert_eq!(running.exit_code(), 0);
    assert!(started.elapsed() < Duration::from_secs(25), "not the whole of drain_max_s");
}

#[test]
fn a_cpu_or_an_address_that_cannot_be_had_is_named() {
    let files = Files::new("refused");
    files.write("sipring.toml", &config(5, "127.9.9.99:5060"));
    files.write("cpus.toml", "workers = [4095]");
    let (code, _, err) = files.done(&["run", "-t", "cpus.toml"]);
    assert_eq!(code, 1);
    assert!(err.contains("cpus.toml: cpu 4095 is not there or not allowed to this process; one of: "), "{err}");
    let _taken = UdpSocket::bind("127.9.9.5:5060").unwrap();
    let (code, _, err) = files.done(&["run"]);
    assert_eq!(code, 1);
    assert!(err.contains("`phones`: cannot bind udp 127.9.9.5:5060"), "{err}");
}
