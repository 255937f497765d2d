//! CPU time of the process for each request that it forwards, with trains and without, at several mean trains.
//!
//! The process alone on one core; a generator and three nodes that only read are one busy thread on another. How many
//! kinds of lengths the requests have says how long trains get. Rounds take turns, as ratios count within one run.

use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::far::Door;
use crate::far::sockets::Sockets;
use crate::harness::balancer::{Balancer, Counters, sum};
use crate::harness::lab::Core;
use crate::harness::namespace::Place;
use crate::harness::spec::{Node, Spec};
use crate::harness::sys;

const NODES: u8 = 3;
const ROUNDS: usize = 5;
const WARM_UP: Duration = Duration::from_millis(300);
const MEASURED: Duration = Duration::from_millis(1_500);
/// Requests under way: many batches, less than the buffers hold.
const WINDOW: u64 = 1_536;
const BURST: usize = 64;
/// Requests that are made once and sent again and again; a multiple of all numbers of kinds.
const TEXTS: usize = 840;
/// Without an arrival for so long, what is under way is lost.
const PATIENCE: Duration = Duration::from_millis(500);
/// Length of the shortest kind, and from one kind to the next: more than is padded.
const SHORTEST: usize = 340;
const STEP: usize = 70;

/// What the requests are like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mix {
    /// So many kinds of lengths, in calls of their own.
    Kinds(usize),
    /// Of three calls, each longer than the one before: hardly any can ride together.
    Alone,
}

impl Mix {
    /// Call and length of a request.
    fn of(self, number: u64) -> (u64, usize) {
        // What is of one kind differs, too, as names and numbers in messages do.
        let stirred = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
        match self {
            Self::Kinds(kinds) => (number, SHORTEST + number as usize % kinds * STEP + stirred as usize % 31),
            Self::Alone => (number % 3, SHORTEST + number as usize / 3 % 14 * STEP),
        }
    }
}

/// Generator and nodes. Trains reach the nodes whole, as they reach a network card that cuts them itself.
struct Traffic {
    door: Sockets,
    edge: SocketAddr,
    texts: Vec<Vec<u8>>,
    sent: u64,
    arrived: u64,
    lost: u64,
    moved: Instant,
}

impl Traffic {
    fn new(mix: Mix, client: SocketAddr, nodes: &[SocketAddr], edge: SocketAddr) -> Self {
        let at: Vec<SocketAddr> = std::iter::once(client).chain(nodes.iter().copied()).collect();
        let door = Sockets::open(&at, true).unwrap();
        let texts = (0..TEXTS as u64).map(|number| request(number, mix, client, edge)).collect();
        Self { door, edge, texts, sent: 0, arrived: 0, lost: 0, moved: Instant::now() }
    }

    /// Loads the balancer for `time`; requests that arrived, and those that were lost.
    fn run(&mut self, time: Duration) -> (u64, u64) {
        let (begun, before, lost) = (Instant::now(), self.arrived, self.lost);
        while begun.elapsed() < time {
            if self.under_way() <= WINDOW - BURST as u64 {
                (0..BURST).for_each(|_| self.put());
                self.door.flush();
            }
            let came = self.door.receive();
            if came > 0 {
                self.moved = Instant::now();
            } else if self.moved.elapsed() > PATIENCE {
                self.lost += self.under_way();
                self.moved = Instant::now();
            }
            self.arrived += came as u64;
        }
        (self.arrived - before, self.lost - lost)
    }

    fn under_way(&self) -> u64 {
        self.sent.saturating_sub(self.arrived + self.lost)
    }

    fn put(&mut self) {
        let text = &self.texts[self.sent as usize % TEXTS];
        self.sent += 1;
        self.door.post(0, self.edge, text);
    }
}

fn request(number: u64, mix: Mix, client: SocketAddr, edge: SocketAddr) -> Vec<u8> {
    let (call, len) = mix.of(number);
    let mut text = format!(
        "MESSAGE sip:bob@{edge} SIP/2.0\r\nVia: SIP/2.0/UDP {client};branch=z9hG4bK{number:016x};rport\r\n\
         Max-Forwards: 70\r\nFrom: <sip:alice@example.net>;tag=a{call:016x}\r\nTo: <sip:bob@example.net>\r\n\
         Call-ID: {call:016x}@example.net\r\nCSeq: 1 MESSAGE\r\nContent-Length: "
    );
    let body = len.saturating_sub(text.len() + 7);
    text.push_str(&format!("{body:03}\r\n\r\n{}", "x".repeat(body)));
    text.into_bytes()
}

/// One round.
#[derive(Clone, Copy, Debug)]
struct Row {
    us: f64,
    share: f64,
    /// Datagrams a send.
    train: f64,
    /// Requests a turn.
    turn: f64,
    /// Bytes of filler a request.
    filler: f64,
    lost: u64,
}

struct Scene {
    core: Core,
    edge: SocketAddr,
    node_side: SocketAddr,
    nodes: Vec<SocketAddr>,
    client: SocketAddr,
}

impl Scene {
    fn new() -> Self {
        let core = Core::new();
        let at = |net, host| SocketAddr::new(core.address(net, host), 5060);
        let nodes = (1..=NODES).map(|host| at(2, host)).collect();
        let (edge, node_side, client) = (at(0, 1), at(1, 1), at(3, 1));
        Self { core, edge, node_side, nodes, client }
    }

    fn round(&self, datapath: &str, trains: bool, mix: Mix) -> Row {
        let nodes = (0..).zip(&self.nodes).map(|(number, at)| Node::new(format!("n{number}"), *at));
        let spec = Spec::new(self.edge, self.node_side).nodes(nodes).datapath(datapath);
        let mut balancer = Balancer::start(&self.core.place(), &spec.tuning(&format!("trains = {trains}")));
        let leader = balancer.process().id();
        seize(leader);
        let (client, nodes, edge) = (self.client, self.nodes.clone(), self.edge);
        let place = self.core.place();
        let drive = move || drive(&place, (client, &nodes, edge), (mix, leader));
        let (arrived, lost, cpu) = std::thread::spawn(drive).join().unwrap();
        let row = row(&balancer.counters(), (arrived, lost), cpu);
        balancer.kill();
        row
    }
}

fn drive(
    place: &Place,
    (client, nodes, edge): (SocketAddr, &[SocketAddr], SocketAddr),
    (mix, leader): (Mix, u32),
) -> (u64, u64, u64) {
    place.enter();
    let mut traffic = Traffic::new(mix, client, nodes, edge);
    sys::occupy(1, 50).unwrap();
    traffic.run(WARM_UP);
    let ids = group(leader);
    let before = cpu(&ids);
    let (arrived, lost) = traffic.run(MEASURED);
    (arrived, lost, cpu(&ids) - before)
}

fn row(counters: &Counters, (arrived, lost): (u64, u64), cpu: u64) -> Row {
    let count = |name: &str| sum(counters, &[name]) as f64;
    let sent = count("datagrams_sent");
    Row {
        us: cpu as f64 / 1e3 / arrived as f64,
        share: cpu as f64 / MEASURED.as_nanos() as f64,
        train: sent / (sent - count("train_datagrams") + count("trains_sent")),
        turn: count("datagrams_received") / count("sipring_turns"),
        filler: count("padding_bytes") / sent,
        lost,
    }
}

/// Puts the process `leader` and its children on the first core, before all others there.
fn seize(leader: u32) {
    // Who was begun meanwhile inherits its place, or is found by looking again.
    let mut placed = Vec::new();
    while placed != group(leader) {
        placed = group(leader);
        for id in &placed {
            tell("taskset", &["-a", "-c", "-p", "0", &id.to_string()]);
            tell("chrt", &["-a", "-f", "-p", "50", &id.to_string()]);
        }
    }
}

/// A process and all others of its group.
fn group(leader: u32) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let of_group = |id: &u32| {
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        let behind_name = stat.rsplit(')').next().unwrap_or_default();
        *id == leader || behind_name.split_whitespace().nth(2) == Some(&leader.to_string())
    };
    ids.filter(of_group).collect()
}

/// Time on a cpu of all threads of these processes, ns, by the scheduler's own account.
fn cpu(ids: &[u32]) -> u64 {
    let tasks = |id: &u32| std::fs::read_dir(format!("/proc/{id}/task")).into_iter().flatten().flatten();
    let spent = |task: std::fs::DirEntry| {
        let text = std::fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
        text.split(' ').next().and_then(|number| number.parse::<u64>().ok()).unwrap_or_default()
    };
    ids.iter().flat_map(tasks).map(spent).sum()
}

fn tell(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// What the ratio of a mean train may be: between these on a straight line.
fn limit(train: f64) -> f64 {
    const LIMITS: [(f64, f64); 4] = [(1.0, 1.05), (1.9, 0.90), (2.8, 0.76), (3.5, 0.70)];
    let between = |pair: &[(f64, f64)]| {
        let [(from, high), (to, low)] = [pair[0], pair[1]];
        (train < to).then(|| high - (high - low) * (train - from) / (to - from))
    };
    LIMITS.windows(2).find_map(between).unwrap_or(LIMITS[LIMITS.len() - 1].1)
}

/// Measures over the datapaths named, or over both; prints medians and ratios.
pub(crate) fn run_all(named: &[String]) -> bool {
    println!(
        "requests one way to {NODES} nodes, {WINDOW} under way; the process alone on core 0, all others on core 1;"
    );
    println!("CPU time of all its threads by schedstat; medians of {ROUNDS} rounds in turn");
    let scene = Scene::new();
    let mixes = [Mix::Alone, Mix::Kinds(12), Mix::Kinds(6), Mix::Kinds(3), Mix::Kinds(2), Mix::Kinds(1)];
    let mut sound = true;
    for datapath in ["uring", "mmsg"].into_iter().filter(|own| named.is_empty() || named.iter().any(|n| n == own)) {
        for mix in mixes {
            let rounds: Vec<[Row; 2]> =
                (0..ROUNDS).map(|_| [false, true].map(|trains| scene.round(datapath, trains, mix))).collect();
            let median = |of: &dyn Fn(&[Row; 2]) -> f64| {
                let mut all: Vec<f64> = rounds.iter().map(of).collect();
                all.sort_by(f64::total_cmp);
                all[ROUNDS / 2]
            };
            let (plain, trains) = (median(&|pair| pair[0].us), median(&|pair| pair[1].us));
            println!(
                "  {datapath:<5} {:<9} train {:4.1}: {plain:5.2} us without, {trains:5.2} with, ratio {:4.2} (of pairs {:4.2}); \
                 {:4.1} bytes of filler, {:2.0} a turn; {:3.0} and {:3.0} % of the core; lost {}",
                format!("{mix:?}"),
                median(&|pair| pair[1].train),
                trains / plain,
                median(&|pair| pair[1].us / pair[0].us),
                median(&|pair| pair[1].filler),
                median(&|pair| pair[1].turn),
                100.0 * median(&|pair| pair[0].share),
                100.0 * median(&|pair| pair[1].share),
                rounds.iter().flatten().map(|row| row.lost).sum::<u64>(),
            );
            let (ratio, limit) = (median(&|pair| pair[1].us / pair[0].us), limit(median(&|pair| pair[1].train)));
            if ratio > limit {
                println!("    limit {limit:4.2}: missed");
            }
            sound &= rounds.iter().flatten().all(|row| row.lost == 0) && ratio <= limit;
        }
    }
    sound
}
