//! A balancer inside this process: what it knows of its nodes, as programs are told it.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::disallowed_methods, reason = "a test")]

use std::net::{SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use sipring::config::Config;
use sipring::control::health::status::{EndpointStatus, NodeStatus};
use sipring::serve::{self, Running};

const LIMIT: Duration = Duration::from_secs(10);

/// An address of this process's own, so that runs side by side do not meet.
fn host(number: u8) -> String {
    format!("127.{}.{}.{number}", 128 + std::process::id() / 250 % 120, std::process::id() % 250 + 1)
}

struct Files(PathBuf);

impl Drop for Files {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Answers whatever comes with 200 until it is dropped.
struct Node {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Node {
    fn new(at: &str) -> Self {
        let socket = UdpSocket::bind((at, 5060)).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let over = Arc::new(AtomicBool::new(false));
        let seen = over.clone();
        let thread = std::thread::spawn(move || {
            let mut buffer = [0; 4_096];
            while !seen.load(Ordering::Relaxed) {
                let Ok((length, source)) = socket.recv_from(&mut buffer) else { continue };
                let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
                if !text.starts_with("ACK") && !text.starts_with("SIP") {
                    socket.send_to(answer(&text).as_bytes(), source).unwrap();
                }
            }
        });
        Self { over, thread: Some(thread) }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn answer(request: &str) -> String {
    let kept = ["Via", "From", "To", "Call-ID", "CSeq", "Record-Route"];
    let lines = request.lines().filter(|line| kept.iter().any(|name| line.starts_with(&format!("{name}:"))));
    let lines = lines.map(|line| {
        let bare = line.starts_with("To:") && !line.contains(";tag=");
        format!("{line}{}\r\n", if bare { ";tag=n1" } else { "" })
    });
    let lines: String = lines.collect();
    format!("SIP/2.0 200 OK\r\n{lines}Contact: <sip:n@{}>\r\nContent-Length: 0\r\n\r\n", host(9))
}

fn config(files: &Files, intent: &str) -> PathBuf {
    let text = format!(
        "[health]\ninterval_ms = 250\n[admin]\nbind = \"off\"\n[[listener]]\nname = \"phones\"\nbind = \"{}:5060\"\n\
         [[node_side]]\nbind = \"{}:5060\"\nports = \"5070-5071\"\n[[set]]\nname = \"pbx\"\nslots = 1024\n\
         [[set.node]]\nname = \"one\"\naddress = \"{}:5060\"\nintent = \"{intent}\"\n\
         [[set.node]]\nname = \"two\"\naddress = \"{}:5060\"\npair = \"{}:5060\"\n",
        host(1),
        host(2),
        host(11),
        host(12),
        host(13)
    );
    let file = files.0.join("sipring.toml");
    std::fs::write(&file, text).unwrap();
    file
}

fn node(running: &Running, name: &str) -> NodeStatus {
    let status = running.status().unwrap();
    assert_eq!(status.sets.len(), 1);
    status.sets[0].nodes.iter().find(|node| node.name == name).unwrap().clone()
}

/// The node's endpoint once it is as wanted.
fn wait(running: &Running, name: &str, at: usize, wanted: impl Fn(&EndpointStatus) -> bool) -> EndpointStatus {
    let until = Instant::now() + LIMIT;
    loop {
        let end = node(running, name).endpoints[at].clone();
        if wanted(&end) {
            return end;
        }
        assert!(Instant::now() < until, "{end:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Sends requests from the edge, and returns the answer to each.
fn ask(socket: &UdpSocket, text: &str) -> String {
    let mut buffer = [0; 4_096];
    socket.send_to(text.as_bytes(), (host(1), 5060)).unwrap();
    let (length, _) = socket.recv_from(&mut buffer).unwrap();
    String::from_utf8_lossy(&buffer[..length]).into_owned()
}

fn request(method: &str, call: usize, more: &str, to_tag: &str) -> String {
    let (us, own) = (host(1), host(40));
    format!(
        "{method} sip:b@{us} SIP/2.0\r\nVia: SIP/2.0/UDP {own}:5060;branch=z9hG4bK{method}{call}\r\n{more}Max-Forwards: 70\r\n\
         From: <sip:a@{own}>;tag=a\r\nTo: <sip:b@{us}>{to_tag}\r\nCall-ID: status-{call}\r\nCSeq: 1 {method}\r\n\
         Contact: <sip:a@{own}:5060>\r\nContent-Length: 0\r\n\r\n"
    )
}

#[test]
fn status_tells_health_probes_traffic_and_what_a_drained_node_still_has() {
    let files = Files(std::env::temp_dir().join(format!("sipring-status-{}", std::process::id())));
    std::fs::create_dir_all(&files.0).unwrap();
    let (one, _two) = (Node::new(&host(11)), Node::new(&host(12)));
    let running = serve::start(Config::read(&config(&files, "serve"), None).unwrap()).unwrap();

    let up = wait(&running, "one", 0, |end| end.probes > 2 && end.rtt_us.is_some());
    assert_eq!((up.health, up.role), ("up", "primary"));
    assert!(up.probes_failed < up.probes && up.since_s <= 10 && up.heard_ms_ago.is_none());
    let dead = wait(&running, "two", 1, |end| end.health == "down");
    assert_eq!((dead.role, dead.cause), ("backup", "no_answer"));
    let two = node(&running, "two");
    assert_eq!((two.refusal, two.active), (None, format!("{}:5060", host(12)).parse::<SocketAddr>().ok()));
    assert!(running.status().unwrap().sets[0].takes_calls);

    let client = UdpSocket::bind((host(40), 5060)).unwrap();
    client.set_read_timeout(Some(LIMIT)).unwrap();
    let answers: Vec<String> = (0..40).map(|call| ask(&client, &request("INVITE", call, "", ""))).collect();
    let responses =
        || -> u64 { ["one", "two"].map(|name| node(&running, name).endpoints[0].traffic.responses[1]).iter().sum() };
    wait(&running, "one", 0, |_| responses() == answers.len() as u64);
    let told = wait(&running, "one", 0, |end| end.heard_ms_ago.is_some());
    assert!(told.traffic.requests > 0 && told.traffic.responses[1] == told.traffic.requests, "{told:?}");
    assert_eq!(told.traffic.calls_answered, told.traffic.requests);
    assert_eq!((node(&running, "one").dialogs, node(&running, "one").marks), (None, 0), "all are settled");

    config(&files, "drain");
    running.reload().unwrap();
    let drained = node(&running, "one");
    assert_eq!((drained.refusal, drained.intent, drained.dialogs), (Some("draining"), "drain", Some(0)));
    assert!(drained.endpoints[0].traffic.requests >= told.traffic.requests, "a reload forgets nothing");
    let mut at_one = 0;
    for (call, answer) in answers.iter().enumerate() {
        let routes = answer.lines().filter_map(|line| line.strip_prefix("Record-Route: ")).rev();
        let routes: String = routes.map(|value| format!("Route: {value}\r\n")).collect();
        let before = node(&running, "one").dialogs.unwrap();
        let info = ask(&client, &request("INFO", call, &routes, ";tag=n1"));
        assert!(info.starts_with("SIP/2.0 200"), "{info}");
        at_one += usize::from(node(&running, "one").dialogs.unwrap() > before);
    }
    let dialogs = node(&running, "one").dialogs.unwrap();
    assert!(at_one > 5 && dialogs.abs_diff(told.traffic.requests) <= 2, "{dialogs} of {}", told.traffic.requests);

    drop(one);
    let down = wait(&running, "one", 0, |end| end.health == "down");
    assert!(down.probes_failed >= 3);
    running.stop();
    assert!(running.wait());
}
