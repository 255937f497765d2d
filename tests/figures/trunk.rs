//! One trunk, all from one socket, through two workers: what each does of it, and what it costs over AF_XDP beside two
//! trunks that reach both queues. The callers and the nodes are `sipring-load`, as processes.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use super::harness::balancer::{Balancer, Counters, sum};
use super::harness::lab::{Core, Path as Lab};
use super::harness::namespace::Place;
use super::harness::process::{Output, Process};
use super::harness::spec::{Node, Spec};
use super::harness::wait_until;

const CALLS: u64 = 40_000;
/// Calls under way.
const WINDOW: u64 = 60;
/// INVITE, 180, 200, ACK, BYE, 200.
const MESSAGES: u64 = 6;
const ROUNDS: usize = 5;
const LIMIT: Duration = Duration::from_secs(120);
/// Ports that a second trunk is looked for at.
const PORTS: std::ops::Range<u16> = 5_070..5_170;

fn program() -> PathBuf {
    std::env::var_os("LOAD_BIN").expect("set LOAD_BIN to the sipring-load binary (tests/prove does)").into()
}

/// Nodes that answer at these addresses.
fn nodes(place: &Place, at: &[SocketAddr]) -> Process {
    let list: Vec<String> = at.iter().map(SocketAddr::to_string).collect();
    let mut command = place.command(program());
    let node = Process::start("nodes", command.args(["answer", "--quiet", "--at", &list.join(",")]), false);
    let listen = wait_until(Duration::from_secs(10), || at.iter().all(|at| place.inside(|| bound(*at))));
    assert!(listen, "nodes do not listen; {}", node.said());
    node
}

fn bound(at: SocketAddr) -> bool {
    let table = fs::read_to_string("/proc/thread-self/net/udp").unwrap();
    table.contains(&format!(":{:04X} ", at.port()))
}

/// What a caller told in the end.
struct Told(Value);

impl Told {
    fn calls(&self, what: &str) -> u64 {
        self.0["calls"][what].as_u64().unwrap_or_else(|| panic!("no calls.{what} in {}", self.0))
    }

    fn holds(&self) -> bool {
        let wrong = self.0["wrong"].as_u64();
        self.calls("ok") == CALLS && self.calls("lost") + self.calls("failed") == 0 && wrong == Some(0)
    }
}

/// Calls from these sockets, to their end.
fn calls(place: &Place, edge: SocketAddr, from: &[SocketAddr]) -> Told {
    let from: Vec<String> = from.iter().map(SocketAddr::to_string).collect();
    let mut command = place.command(program());
    command.args(["call", "--json", "--quiet", "--to", &edge.to_string(), "--from", &from.join(",")]);
    command.args(["--calls", &CALLS.to_string(), "--window", &WINDOW.to_string()]);
    if let [_] = from[..] {
        command.arg("--one-source");
    } else {
        command.args(["--sources", &from.len().to_string()]);
    }
    let mut caller = Process::start("caller", &mut command, false);
    assert!(caller.wait(LIMIT).is_some(), "calls without end; {}", caller.said());
    let lines = caller.lines(0);
    let line = lines.iter().rev().find(|(output, line)| *output == Output::Out && line.starts_with('{'));
    let (_, line) = line.unwrap_or_else(|| panic!("no result; {}", caller.said()));
    Told(serde_json::from_str(line).unwrap())
}

/// What a counter grew by at each of the two workers.
fn each(before: &Counters, after: &Counters, words: &[&str]) -> [u64; 2] {
    [0, 1].map(|worker| {
        let label = format!("worker=\"{worker}\"");
        let words: Vec<&str> = words.iter().copied().chain([label.as_str()]).collect();
        sum(after, &words) - sum(before, &words)
    })
}

fn shared([first, second]: [u64; 2]) -> bool {
    (40..=60).contains(&(first * 100 / (first + second).max(1)))
}

/// Over io_uring, steered by the program that the kernel runs for each datagram.
fn steered() -> bool {
    let core = Core::new();
    let at = |net, host| SocketAddr::new(core.address(net, host), 5060);
    let (client, edge, node_side) = (at(3, 1), at(0, 1), at(1, 1));
    let all: Vec<SocketAddr> = (1..=3).map(|host| at(2, host)).collect();
    let named = all.iter().zip(0..).map(|(at, number)| Node::new(format!("node{number}"), *at));
    let spec = Spec::new(edge, node_side).nodes(named).workers(2).datapath("uring");
    let mut balancer = Balancer::start(&core.place(), &spec);
    let _nodes = nodes(&core.place(), &all);
    let before = balancer.counters();
    let told = calls(&core.place(), edge, &[client]);
    let after = balancer.counters();
    let received = each(&before, &after, &["sipring_received{"]);
    let astray: u64 = each(&before, &after, &["not_owner"]).iter().sum();
    let all: u64 = received.iter().sum();
    println!(
        "  io_uring: {} of {CALLS} calls; received by worker {received:?}, {astray} of {all} by another than the owner",
        told.calls("ok")
    );
    told.holds() && shared(received) && astray * 100 <= all && all >= CALLS * MESSAGES
}

/// A balancer over two queues, with its nodes.
struct Scene {
    path: Lab,
    balancer: Balancer,
    edge: SocketAddr,
    client: IpAddr,
    _nodes: Process,
}

impl Scene {
    fn new() -> Self {
        let path = Lab::with_queues(2);
        let at = |host: &str, port: u16| Lab::at(false, host, port);
        let all: Vec<SocketAddr> = (0..3).map(|node| at("2.2", 5_060 + 2 * node)).collect();
        let named = all.iter().zip(0..).map(|(at, number)| Node::new(format!("node{number}"), *at));
        let tuning = "owner_handoff = true\ndatapath = \"xdp\"\n[xdp]\ninterfaces = [\"edge\", \"nodes\"]\n";
        let spec = Spec::new(at("1.1", 5060), at("2.1", 5060)).nodes(named).workers(2).tuning(tuning);
        let balancer = Balancer::start(&path.middle(), &spec);
        let nodes = nodes(&path.node(), &all);
        Self { balancer, edge: at("1.1", 5060), client: at("1.2", 0).ip(), _nodes: nodes, path }
    }

    /// Which queue's worker gets what this socket sends: told by a request that goes no further.
    fn queue(&mut self, port: u16) -> usize {
        let socket = self.path.client().socket(SocketAddr::new(self.client, port));
        socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        let via = socket.local_addr().unwrap();
        let request = format!(
            "OPTIONS sip:{} SIP/2.0\r\nVia: SIP/2.0/UDP {via};branch=z9hG4bKq{port}\r\nFrom: <sip:a@{via}>;tag=1\r\n\
             To: <sip:b@{via}>\r\nCall-ID: {port}@{via}\r\nCSeq: 1 OPTIONS\r\nMax-Forwards: 0\r\nContent-Length: 0\r\n\r\n",
            self.edge
        );
        let before = self.balancer.counters();
        socket.send_to(request.as_bytes(), self.edge).unwrap();
        let mut answer = [0; 2_048];
        socket.recv(&mut answer).expect("an answer");
        let after = self.balancer.counters();
        let received = each(&before, &after, &["sipring_datagrams_received{"]);
        received.iter().position(|count| *count == 1).expect("one datagram")
    }

    /// CPU time that the workers have had, ns.
    fn cpu_ns(&mut self) -> u64 {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.balancer.process().id())).unwrap().flatten();
        let workers = tasks
            .map(|task| task.path())
            .filter(|task| fs::read_to_string(task.join("comm")).is_ok_and(|name| name.starts_with("worker-")));
        let ran = |task: PathBuf| {
            let told = fs::read_to_string(task.join("schedstat")).unwrap();
            told.split_whitespace().next().unwrap().parse::<u64>().unwrap()
        };
        workers.map(ran).sum()
    }

    /// Microseconds of the workers a message, whether all calls went well, and what each worker forwarded of all.
    fn round(&mut self, ports: &[u16]) -> (f64, bool, [u64; 2], u64) {
        let from: Vec<SocketAddr> = ports.iter().map(|port| SocketAddr::new(self.client, *port)).collect();
        let (before, cpu) = (self.balancer.counters(), self.cpu_ns());
        let told = calls(&self.path.client(), self.edge, &from);
        let (after, used) = (self.balancer.counters(), self.cpu_ns() - cpu);
        let forwarded = each(&before, &after, &["kind=\"forward\""]);
        let handed = each(&before, &after, &["kind=\"handoff\""]).iter().sum();
        let messages: u64 = forwarded.iter().sum();
        (used as f64 / 1e3 / messages as f64, told.holds() && messages >= CALLS * MESSAGES, forwarded, handed)
    }
}

/// Over AF_XDP one trunk comes in at one queue, and its owner gets each message by handoff.
fn handed() -> bool {
    let mut scene = Scene::new();
    let first = PORTS.start;
    let queue = scene.queue(first);
    let other = PORTS.skip(1).find(|port| scene.queue(*port) != queue).expect("a port that reaches the other queue");
    println!("  AF_XDP, 2 queues: port {first} reaches queue {queue}, port {other} the other");
    let (mut ratios, mut whole) = (Vec::new(), true);
    for round in 0..=ROUNDS {
        let (two, two_hold, forwarded_two, handed_two) = scene.round(&[first, other]);
        let (one, one_holds, forwarded, handed) = scene.round(&[first]);
        whole &= two_hold && one_holds && shared(forwarded);
        println!(
            "  one trunk {one:.2} us a message, by worker {forwarded:?}, {handed} handed over; two {two:.2} us, {forwarded_two:?}, {handed_two}: {:.3}{}",
            one / two,
            if round == 0 { " (to warm up)" } else { "" }
        );
        ratios.extend((round > 0).then_some(one / two));
    }
    ratios.sort_by(f64::total_cmp);
    let median = ratios[ratios.len() / 2];
    println!("  median {median:.3} of at most 1.25");
    whole && median <= 1.25
}

pub(crate) fn run() -> bool {
    println!("one source, two workers, {CALLS} calls of {MESSAGES} messages, {WINDOW} under way, three nodes");
    let steered = steered();
    let handed = handed();
    steered && handed
}
