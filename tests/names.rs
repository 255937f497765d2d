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
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use sipring::balance::{Keys, Plan, PlanSpec, Secrets, SetPolicy, SetSpec};
use sipring::control::{self, Addresses, Control, DnsOptions, Hooks, Options, Wish};
use sipring::shard::{Asks, HostName, Lookup, State};

const LIMIT: Duration = Duration::from_secs(20);

/// A name server whose records a test changes; it counts the questions for A records.
#[derive(Clone)]
struct NameServer {
    addr: SocketAddr,
    records: Arc<Mutex<HashMap<String, Vec<Ipv4Addr>>>>,
    asked: Arc<Mutex<HashMap<String, u32>>>,
}

impl NameServer {
    fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let server = Self { addr: socket.local_addr().unwrap(), records: Arc::default(), asked: Arc::default() };
        let own = server.clone();
        std::thread::spawn(move || {
            let mut question = [0; 1500];
            while let Ok((length, from)) = socket.recv_from(&mut question) {
                let _ = socket.send_to(&own.answer(&question[..length]), from);
            }
        });
        server
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

    /// RFC 1035 4.1: one question, its answers with a TTL of one second.
    fn answer(&self, question: &[u8]) -> Vec<u8> {
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
        reply
    }
}

/// A plan of one node at what `name` resolves to.
fn wish(name: &str) -> Wish {
    let of = name.to_owned();
    let build = move |found: &Addresses, previous: Option<&Plan>| {
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
    Wish { names: vec![name.to_owned()], build: Arc::new(build) }
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
            print: Box::new(|| ()),
            asks: asks.clone(),
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
