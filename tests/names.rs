//! Names follow their records: those of nodes into the plan, those of next hops into the workers' table.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::expect_used,
    reason = "a test"
)]

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use sipring::balance::{Keys, Plan, PlanSpec, Secrets, SetPolicy, SetSpec};
use sipring::config::Config;
use sipring::control::{self, Added, Addresses, Control, DnsOptions, Hooks, Options, Overlay, Wish};
use sipring::serve::{self, Running};
use sipring::shard::{Asks, HostName, Lookup, State};

const LIMIT: Duration = Duration::from_secs(20);

/// A name, and the questions for it with who asked them.
type Held = (String, Vec<(Vec<u8>, SocketAddr)>);

/// A name server whose records a test changes; it counts the questions for A records.
#[derive(Clone)]
struct NameServer {
    addr: SocketAddr,
    records: Arc<Mutex<HashMap<String, Vec<Ipv4Addr>>>>,
    asked: Arc<Mutex<HashMap<String, u32>>>,
    socket: Arc<UdpSocket>,
    /// A name whose questions are not answered yet, and those questions.
    held: Arc<Mutex<Held>>,
}

impl NameServer {
    fn start() -> Self {
        let socket = Arc::new(UdpSocket::bind("127.0.0.1:0").unwrap());
        let addr = socket.local_addr().unwrap();
        let (records, asked, held) = Default::default();
        let server = Self { addr, records, asked, socket, held };
        let own = server.clone();
        std::thread::spawn(move || {
            let mut question = [0; 1500];
            while let Ok((length, from)) = own.socket.recv_from(&mut question) {
                let (name, answer) = own.answer(&question[..length]);
                let mut held = own.held.lock().unwrap();
                if held.0 == name {
                    held.1.push((question[..length].to_vec(), from));
                } else {
                    let _ = own.socket.send_to(&answer, from);
                }
            }
        });
        server
    }

    /// Leaves questions for a name unanswered.
    fn hold(&self, name: &str) {
        self.held.lock().unwrap().0 = name.to_owned();
    }

    /// Answers them.
    fn release(&self) {
        for (question, from) in std::mem::take(&mut *self.held.lock().unwrap()).1 {
            let _ = self.socket.send_to(&self.answer(&question).1, from);
        }
    }

    fn set(&self, name: &str, addresses: &[[u8; 4]]) {
        let addresses = addresses.iter().map(|octets| Ipv4Addr::from(*octets)).collect();
        self.records.lock().unwrap().insert(name.to_owned(), addresses);
    }

    fn clear(&self) {
        self.records.lock().unwrap().clear();
    }

    fn asked(&self, name: &str) -> u32 {
        self.asked.lock().unwrap().get(name).copied().unwrap_or(0)
    }

    /// RFC 1035 4.1: one question, its answers with a TTL of one second; and the name.
    fn answer(&self, question: &[u8]) -> (String, Vec<u8>) {
        let mut at = 12;
        let mut labels = Vec::new();
        while question[at] != 0 {
            let end = at + 1 + usize::from(question[at]);
            labels.push(String::from_utf8_lossy(&question[at + 1..end]).to_lowercase());
            at = end;
        }
        let (name, is_a) = (labels.join("."), question[at + 1..at + 3] == [0, 1]);
        if is_a {
            *self.asked.lock().unwrap().entry(name.clone()).or_default() += 1;
        }
        let found = self.records.lock().unwrap().get(&name).cloned();
        let answers = found.iter().flatten().filter(|_| is_a).count() as u8;
        let code = if found.is_none() { 3 } else { 0 };
        let mut reply = question[..2].to_vec();
        reply.extend([0x81, 0x80 | code, 0, 1, 0, answers, 0, 0, 0, 0]);
        reply.extend(&question[12..at + 5]);
        for address in found.iter().flatten().filter(|_| is_a) {
            reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4]);
            reply.extend(address.octets());
        }
        (name, reply)
    }
}

/// A plan of one node at what `name` resolves to.
fn wish(name: &str) -> Wish {
    let of = name.to_owned();
    let build = move |found: &Addresses, _: &Overlay, previous: Option<&Plan>| {
        let ip = found.get(&of).and_then(|ips| ips.first()).ok_or_else(|| format!("`{of}` does not resolve"))?;
        let node = sipring::balance::NodeSpec {
            name: "n".into(),
            id: None,
            addrs: [Some(SocketAddr::new(*ip, 5060)), None],
            weight: 1,
            labels: Vec::new(),
            intent: Default::default(),
        };
        let keys = Keys::new(&Default::default(), &[]);
        let set = SetSpec { name: "s".into(), slots_log2: 10, keys, policy: SetPolicy::default(), nodes: vec![node] };
        let spec = PlanSpec { sets: vec![set], ..PlanSpec::default() };
        Plan::build(spec, &Secrets::derive(&[1; 32]), previous).map_err(|error| error.to_string())
    };
    let admit = Arc::new(|_: &Added| Ok(Vec::new()));
    Wish { names: vec![name.to_owned()], build: Arc::new(build), listed: Arc::new([]), admit, rules_written: 0 }
}

fn address(state: &State) -> IpAddr {
    state.plan.endpoints.peers[0].ip()
}

struct Rig {
    control: Control,
    asks: Arc<Asks>,
    posted: Receiver<State>,
    stopped: Receiver<()>,
    next: Arc<Mutex<Result<Wish, String>>>,
}

fn options(server: &NameServer) -> Options {
    let dns = DnsOptions { servers: vec![server.addr], ..DnsOptions::default() };
    Options { dns, drain_max_s: 5, ..Options::default() }
}

impl Rig {
    fn start(server: &NameServer, name: &str) -> (Self, State) {
        let opened = control::open(options(server), wish(name)).unwrap();
        let state = opened.state.clone();
        let (post, posted) = channel();
        let (stop, stopped) = channel();
        let asks = Arc::new(Asks::new(16));
        let next: Arc<Mutex<Result<Wish, String>>> = Arc::new(Mutex::new(Err("a.toml:1:1: bad".to_owned())));
        let reload = next.clone();
        let control = opened.serve(Hooks {
            reload: Box::new(move || reload.lock().unwrap().clone()),
            post: Box::new(move |state| drop(post.send(state.clone()))),
            stop: Box::new(move || stop.send(()).unwrap_or(())),
            pending: Box::new(|| 0),
            marks: Box::new(Vec::new),
            clock_ms: Box::new(|| 0),
            print: Box::new(|_| ()),
            asks: asks.clone(),
            sight: None,
        });
        (Self { control, asks, posted, stopped, next }, state)
    }

    /// The first state posted that `is` true of.
    fn state(&self, is: impl Fn(&State) -> bool) -> State {
        let until = Instant::now() + LIMIT;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let state = self.posted.recv_timeout(left).expect("no such state was posted");
            if is(&state) {
                return state;
            }
        }
    }

    fn finds(state: &State, name: &str) -> Option<IpAddr> {
        match state.names.find(&HostName::new(name.as_bytes()).unwrap(), true, true) {
            Lookup::Found(ip) => Some(ip),
            Lookup::Nowhere | Lookup::Unknown => None,
        }
    }

    fn end(self) {
        self.control.stop();
        self.stopped.recv_timeout(LIMIT).unwrap();
        assert!(self.control.wait());
    }
}

#[test]
fn a_node_moves_with_its_record_and_stays_when_the_record_is_gone() {
    let server = NameServer::start();
    server.set("pbx.test", &[[127, 0, 0, 9], [127, 0, 0, 8]]);
    let (rig, state) = Rig::start(&server, "pbx.test");
    assert_eq!(address(&state), IpAddr::from([127, 0, 0, 8]), "the lowest, whatever their order");
    server.set("pbx.test", &[[127, 0, 0, 10]]);
    rig.state(|state| address(state) == IpAddr::from([127, 0, 0, 10]));
    server.clear();
    let asked = server.asked("pbx.test");
    let until = Instant::now() + LIMIT;
    while server.asked("pbx.test") < asked + 2 {
        assert!(Instant::now() < until, "the name is still looked up");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(rig.posted.try_iter().all(|state| address(&state) == IpAddr::from([127, 0, 0, 10])));
    rig.end();
}

#[test]
fn a_name_that_does_not_resolve_at_start_is_refused() {
    let server = NameServer::start();
    let refused = control::open(options(&server), wish("none.test")).map(|_| ());
    assert_eq!(refused, Err("`none.test` does not resolve".to_owned()));
}

#[test]
fn a_next_hop_that_a_worker_asks_for_is_found_once_and_so_is_its_absence() {
    let server = NameServer::start();
    server.set("pbx.test", &[[127, 0, 0, 9]]);
    server.set("phone.test", &[[127, 0, 0, 20]]);
    let (rig, _) = Rig::start(&server, "pbx.test");
    assert!(rig.asks.ask(HostName::new(b"Phone.test").unwrap()));
    assert!(rig.asks.ask(HostName::new(b"none.test").unwrap()));
    let state = rig.state(|state| Rig::finds(state, "phone.test").is_some() && server.asked("none.test") > 0);
    assert_eq!(Rig::finds(&state, "phone.test"), Some(IpAddr::from([127, 0, 0, 20])));
    assert_eq!(Rig::finds(&state, "none.test"), None);
    for _ in 0..10 {
        assert!(rig.asks.ask(HostName::new(b"none.test").unwrap()));
    }
    server.set("phone.test", &[[127, 0, 0, 21]]);
    rig.state(|state| Rig::finds(state, "phone.test") == Some(IpAddr::from([127, 0, 0, 21])));
    assert_eq!(server.asked("none.test"), 1, "that it does not resolve is remembered");
    rig.end();
}

#[test]
fn a_reload_is_in_force_when_it_returns_and_a_refused_one_changes_nothing() {
    let server = NameServer::start();
    server.set("pbx.test", &[[127, 0, 0, 9]]);
    server.set("other.test", &[[127, 0, 0, 11]]);
    let (rig, _) = Rig::start(&server, "pbx.test");
    assert_eq!(rig.control.reload(), Err("a.toml:1:1: bad".to_owned()));
    *rig.next.lock().unwrap() = Ok(wish("none.test"));
    assert_eq!(rig.control.reload(), Err("`none.test` does not resolve".to_owned()));
    assert!(rig.posted.try_iter().all(|state| address(&state) == IpAddr::from([127, 0, 0, 9])));
    *rig.next.lock().unwrap() = Ok(wish("other.test"));
    assert_eq!(rig.control.reload(), Ok(()));
    let last = rig.posted.try_iter().last().unwrap();
    assert_eq!(address(&last), IpAddr::from([127, 0, 0, 11]));
    rig.end();
}

#[test]
fn a_drain_is_posted_and_ends_by_itself_when_nothing_is_pending() {
    let server = NameServer::start();
    server.set("pbx.test", &[[127, 0, 0, 9]]);
    let (rig, state) = Rig::start(&server, "pbx.test");
    assert!(!state.draining);
    rig.control.drain();
    rig.state(|state| state.draining);
    rig.stopped.recv_timeout(LIMIT).unwrap();
    assert!(rig.control.wait());
}

#[test]
fn a_record_that_changes_while_a_reload_is_refused_is_followed() {
    let server = NameServer::start();
    server.set("pbx.test", &[[127, 0, 0, 9]]);
    let (rig, _) = Rig::start(&server, "pbx.test");
    server.set("pbx.test", &[[127, 0, 0, 10]]);
    let mut bad = wish("none.test");
    bad.names = vec!["none.test".to_owned(), "pbx.test".to_owned()];
    *rig.next.lock().unwrap() = Ok(bad);
    assert!(rig.control.reload().is_err());
    let until = Instant::now() + LIMIT;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let state = rig.posted.recv_timeout(left).expect("the node's new address is followed");
        if address(&state) == IpAddr::from([127, 0, 0, 10]) {
            break;
        }
    }
    rig.end();
}

struct Files(std::path::PathBuf);

impl Drop for Files {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A balancer in this process, with two nodes known by name, at addresses 127.22.`net`.x.
fn serve(server: &NameServer, net: u8) -> (Files, Running) {
    let files = Files(std::env::temp_dir().join(format!("sipring-names-{net}-{}", std::process::id())));
    std::fs::create_dir_all(&files.0).unwrap();
    let node = |name: &str| format!("[[set.node]]\nname = \"{name}\"\naddress = \"{name}.test\"\n");
    let text = format!(
        "[health]\nprobe = false\n[dns]\nservers = [\"{}\"]\n[admin]\nbind = \"127.22.{net}.1:8060\"\n\
         [[listener]]\nname = \"phones\"\nbind = \"127.22.{net}.1:5060\"\n\
         [[node_side]]\nbind = \"127.22.{net}.2:5060\"\nports = \"5070-5071\"\n\
         [[set]]\nname = \"pbx\"\nslots = 1024\n{}{}",
        server.addr,
        node("a"),
        node("b")
    );
    std::fs::write(files.0.join("sipring.toml"), text).unwrap();
    let running = serve::start(Config::read(&files.0.join("sipring.toml"), None).unwrap()).unwrap();
    (files, running)
}

/// What the admin side answers, head and body.
fn http(running: &Running, request: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(running.admin_at().unwrap()).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    write!(stream, "{request} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn eventually(what: &str, holds: impl Fn() -> bool) {
    let until = Instant::now() + LIMIT;
    while !holds() {
        assert!(Instant::now() < until, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Addresses of the nodes, in the order of the file.
fn nodes_at(running: &Running) -> Vec<IpAddr> {
    running.status().unwrap().sets[0].nodes.iter().map(|node| node.endpoints[0].address.ip()).collect()
}

#[test]
fn a_record_that_changes_while_an_edit_that_is_refused_waits_is_followed() {
    let server = NameServer::start();
    server.set("a.test", &[[127, 22, 4, 11]]);
    server.set("b.test", &[[127, 22, 4, 12]]);
    let (_files, running) = serve(&server, 4);
    server.hold("slow.test");
    let answer = std::thread::scope(|scope| {
        let body = r#"{"name": "c", "address": "slow.test"}"#;
        let adding = scope.spawn(|| http(&running, "POST /sets/pbx/nodes", body));
        eventually("the added node's name is looked up", || server.asked("slow.test") > 0);
        server.set("a.test", &[[127, 22, 4, 13]]);
        // A question behind the next one is asked when the next one's answer is known.
        let asked = server.asked("a.test");
        eventually("names are refreshed meanwhile", || server.asked("a.test") >= asked + 2);
        server.release();
        adding.join().unwrap()
    });
    assert!(answer.starts_with("HTTP/1.1 4"), "there is no such name: {answer}");
    let moved = [[127, 22, 4, 13], [127, 22, 4, 12]].map(IpAddr::from);
    eventually("the new address is followed", || nodes_at(&running) == moved);
    running.stop();
    assert!(running.wait());
}

#[test]
fn addresses_that_make_no_plan_are_told_as_such_and_are_no_refused_reload() {
    let server = NameServer::start();
    server.set("a.test", &[[127, 22, 5, 11]]);
    server.set("b.test", &[[127, 22, 5, 12]]);
    let (_files, running) = serve(&server, 5);
    let metric = |line: &str| http(&running, "GET /metrics", "").lines().any(|own| own == line);
    assert!(metric("sipring_names_refused_total 0"));
    server.set("a.test", &[[127, 22, 5, 12]]);
    eventually("two nodes of one address are no plan", || metric("sipring_names_refused_total 1"));
    assert!(metric("sipring_reloads_total{result=\"refused\"} 0") && metric("sipring_last_reload_successful 1.0"));
    assert_eq!(nodes_at(&running), [[127, 22, 5, 11], [127, 22, 5, 12]].map(IpAddr::from));
    server.set("b.test", &[[127, 22, 5, 13]]);
    let moved = [[127, 22, 5, 12], [127, 22, 5, 13]].map(IpAddr::from);
    eventually("both are followed as soon as they make one", || nodes_at(&running) == moved);
    assert!(metric("sipring_names_refused_total 1"), "it is not tried over and over");
    running.stop();
    assert!(running.wait());
}
