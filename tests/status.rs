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
        let socket = UdpSocket::bind(at).unwrap();
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
    format!("SIP/2.0 200 OK\r\n{}Contact: <sip:n@127.22.3.9>\r\nContent-Length: 0\r\n\r\n", lines.collect::<String>())
}

fn config(files: &Files, intent: &str) -> PathBuf {
    let text = format!(
        "[health]\ninterval_ms = 250\n[[listener]]\nname = \"phones\"\nbind = \"127.22.3.1:5060\"\n\
         [[node_side]]\nbind = \"127.22.3.2:5060\"\nports = \"5070-5071\"\n[[set]]\nname = \"pbx\"\nslots = 1024\n\
         [[set.node]]\nname = \"one\"\naddress = \"127.22.3.11:5060\"\nintent = \"{intent}\"\n\
         [[set.node]]\nname = \"two\"\naddress = \"127.22.3.12:5060\"\npair = \"127.22.3.13:5060\"\n"
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
    socket.send_to(text.as_bytes(), "127.22.3.1:5060").unwrap();
    let (length, _) = socket.recv_from(&mut buffer).unwrap();
    String::from_utf8_lossy(&buffer[..length]).into_owned()
}

fn request(method: &str, call: usize, more: &str, to_tag: &str) -> String {
    format!(
        "{method} sip:b@127.22.3.1 SIP/2.0\r\nVia: SIP/2.0/UDP 127.22.3.40:5060;branch=z9hG4bK{method}{call}\r\n{more}Max-Forwards: 70\r\n\
         From: <sip:a@127.22.3.40>;tag=a\r\nTo: <sip:b@127.22.3.1>{to_tag}\r\nCall-ID: status-{call}\r\nCSeq: 1 {method}\r\n\
         Contact: <sip:a@127.22.3.40:5060>\r\nContent-Length: 0\r\n\r\n"
    )
}

#[test]
fn status_tells_health_probes_traffic_and_what_a_drained_node_still_has() {
    let files = Files(std::env::temp_dir().join(format!("sipring-status-{}", std::process::id())));
    std::fs::create_dir_all(&files.0).unwrap();
    let (one, _two) = (Node::new("127.22.3.11:5060"), Node::new("127.22.3.12:5060"));
    let running = serve::start(Config::read(&config(&files, "serve"), None).unwrap()).unwrap();

    let up = wait(&running, "one", 0, |end| end.probes > 2 && end.rtt_us.is_some());
    assert_eq!((up.health, up.role, up.probes_failed), ("up", "primary", 0));
    assert!(up.cause == "started" && up.since_s <= 10 && up.heard_ms_ago.is_none());
    let dead = wait(&running, "two", 1, |end| end.health == "down");
    assert_eq!((dead.role, dead.cause), ("backup", "no_answer"));
    let two = node(&running, "two");
    assert_eq!((two.refusal, two.active), (None, "127.22.3.12:5060".parse::<SocketAddr>().ok()));
    assert!(running.status().unwrap().sets[0].takes_calls);

    let client = UdpSocket::bind("127.22.3.40:5060").unwrap();
    client.set_read_timeout(Some(LIMIT)).unwrap();
    let answers: Vec<String> = (0..40).map(|call| ask(&client, &request("INVITE", call, "", ""))).collect();
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
