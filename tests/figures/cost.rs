//! CPU time of a whole process for each message that it forwards, beside Kamailio doing the same.
//!
//! One of them at a time runs alone on one core; callers and nodes are one thread on another, which never sleeps. Rounds
//! take turns, since the machine has a fast and a slow state: ratios count, within one run.

#[path = "cost/traffic.rs"]
mod traffic;

use std::fmt;
use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::harness::balancer::Balancer;
use crate::harness::kamailio::Kamailio;
use crate::harness::lab::Core;
use crate::harness::namespace::Place;
use crate::harness::spec::{Node, Spec};
use crate::harness::{TempDir, repository, sys};
use traffic::{Seen, Traffic};

/// Rounds that count, and rounds at most.
const VALID_MIN: usize = 5;
const ROUNDS_MAX: usize = 9;
const WARM_UP: Duration = Duration::from_millis(1_000);
const MEASURED: Duration = Duration::from_millis(2_500);
/// Calls under way: as much as the receive buffer of Kamailio's default holds.
const WINDOW: usize = 40;
/// Kamailio's own buffers and allocators, or what its operators are told to set.
const TUNED: [&str; 6] = ["-x", "tlsf", "-X", "tlsf", "-b", "8388608"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Subject {
    Sipring(&'static str),
    Kamailio { tuned: bool },
}

const SUBJECTS: [Subject; 4] = [
    Subject::Sipring("uring"),
    Subject::Sipring("mmsg"),
    Subject::Kamailio { tuned: true },
    Subject::Kamailio { tuned: false },
];

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Sipring(datapath) => datapath,
            Self::Kamailio { tuned: true } => "kamailio -x tlsf",
            Self::Kamailio { tuned: false } => "kamailio",
        })
    }
}

/// One round of one subject.
#[derive(Clone, Copy, Debug)]
struct Row {
    seen: Seen,
    /// Of all its threads, ns.
    cpu: u64,
    /// Of the core, ns, its own included.
    core: u64,
    elapsed: Duration,
}

impl Row {
    fn us(&self) -> f64 {
        self.cpu as f64 / 1e3 / self.seen.messages as f64
    }

    /// Nothing was lost, and nobody else had the core.
    fn valid(&self) -> bool {
        self.seen.lost == 0 && self.seen.strange == 0 && self.share() > 0.6
    }

    /// Of the core that it had.
    fn share(&self) -> f64 {
        self.cpu as f64 / self.elapsed.as_nanos() as f64
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:6.2} us a message at {:7.0} messages/s, {:3.0} % of the core (all of it {:3.0} %); lost {}, strange {}",
            self.us(),
            self.seen.messages as f64 / self.elapsed.as_secs_f64(),
            100.0 * self.share(),
            100.0 * self.core as f64 / self.elapsed.as_nanos() as f64,
            self.seen.lost,
            self.seen.strange
        )
    }
}

/// A network of its own with a balancer's place in it.
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
        let nodes = (1..=3).map(|host| at(2, host)).collect();
        let (edge, node_side, client) = (at(0, 1), at(1, 1), at(3, 1));
        Self { core, edge, node_side, nodes, client }
    }

    fn round(&self, subject: Subject) -> Row {
        match subject {
            Subject::Sipring(datapath) => {
                let nodes = (0..).zip(&self.nodes).map(|(number, at)| Node::new(format!("n{number}"), *at));
                let spec = Spec::new(self.edge, self.node_side).nodes(nodes).datapath(datapath);
                let mut balancer = Balancer::start(&self.core.place(), &spec);
                let row = self.measure(balancer.process().id());
                balancer.kill();
                row
            }
            Subject::Kamailio { tuned } => {
                let dir = TempDir::new("nodes");
                let list = dir.path().join("nodes.list");
                let lines: String = self.nodes.iter().map(|node| format!("1 sip:{node}\n")).collect();
                std::fs::write(&list, lines).unwrap();
                let config = repository("tests/figures/cost/kamailio.cfg");
                let words = [("NODES", format!("\"{}\"", list.display()))];
                let flags: &[&str] = if tuned { &TUNED } else { &[] };
                let kamailio = Kamailio::start_with(&self.core.place(), &config, self.edge, &words, flags);
                self.measure(kamailio.id())
            }
        }
    }

    /// Drives calls through the process `leader` and its children, alone on the first core.
    fn measure(&self, leader: u32) -> Row {
        seize(leader);
        let (client, nodes, edge) = (self.client, self.nodes.clone(), self.edge);
        let place = self.core.place();
        std::thread::spawn(move || drive(&place, client, &nodes, edge, leader)).join().unwrap()
    }
}

fn drive(place: &Place, client: SocketAddr, nodes: &[SocketAddr], edge: SocketAddr, leader: u32) -> Row {
    place.enter();
    let mut traffic = Traffic::new(client, nodes, edge, WINDOW);
    sys::occupy(1, 50).unwrap();
    traffic.run(WARM_UP);
    let ids = group(leader);
    let (begun, cpu, core) = (Instant::now(), cpu(&ids), core_busy(0));
    let seen = traffic.run(MEASURED);
    Row { seen, cpu: self::cpu(&ids) - cpu, core: core_busy(0) - core, elapsed: begun.elapsed() }
}

/// Puts the process `leader` and its children on the first core, before all others there.
pub(crate) fn seize(leader: u32) {
    // Who was begun meanwhile inherits its place, or is found by looking again.
    let mut placed = Vec::new();
    while placed != group(leader) {
        placed = group(leader);
        for id in &placed {
            run("taskset", &["-a", "-c", "-p", "0", &id.to_string()]);
            run("chrt", &["-a", "-f", "-p", "50", &id.to_string()]);
        }
    }
}

/// A process and all others of its group.
pub(crate) fn group(leader: u32) -> Vec<u32> {
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
pub(crate) fn cpu(ids: &[u32]) -> u64 {
    let tasks = |id: &u32| std::fs::read_dir(format!("/proc/{id}/task")).into_iter().flatten().flatten();
    let spent = |task: std::fs::DirEntry| {
        let text = std::fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
        text.split(' ').next().and_then(|number| number.parse::<u64>().ok()).unwrap_or_default()
    };
    ids.iter().flat_map(tasks).map(spent).sum()
}

/// Time that a core was not idle, ns.
fn core_busy(core: u32) -> u64 {
    let text = std::fs::read_to_string("/proc/stat").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("cpu{core} "))).unwrap();
    let ticks: Vec<u64> = line.split_whitespace().map(|ticks| ticks.parse().unwrap()).collect();
    // User, nice, system, irq, softirq; in hundredths of a second.
    (ticks[0] + ticks[1] + ticks[2] + ticks[5] + ticks[6]) * 10_000_000
}

fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Measures those named, or all; prints every round, medians and ratios.
pub(crate) fn run_all(named: &[String]) -> bool {
    let wanted = |subject: &Subject| named.is_empty() || named.contains(&subject.to_string());
    let subjects: Vec<Subject> = SUBJECTS.into_iter().filter(wanted).collect();
    println!(
        "INVITE 200 ACK BYE 200, {WINDOW} calls under way, three nodes; the process alone on core 0, callers and nodes in"
    );
    println!(
        "one busy thread on core 1; CPU time of all its threads by schedstat; in turn until {VALID_MIN} rounds of each count"
    );
    let scene = Scene::new();
    let mut rows: Vec<Vec<Row>> = vec![Vec::new(); subjects.len()];
    for round in 1..=ROUNDS_MAX {
        if rows.iter().all(|rows| rows.len() >= VALID_MIN) {
            break;
        }
        for (subject, rows) in subjects.iter().zip(&mut rows) {
            let row = scene.round(*subject);
            println!("  round {round} {subject:<17} {row}{}", if row.valid() { "" } else { ": not valid" });
            rows.extend(row.valid().then_some(row));
        }
    }
    if let Some(few) = rows.iter().position(|rows| rows.len() < VALID_MIN) {
        println!("  fewer than {VALID_MIN} valid rounds of {}", subjects[few]);
        return false;
    }
    let medians: Vec<f64> = rows.iter().map(|rows| median(rows)).collect();
    for ((subject, rows), median) in subjects.iter().zip(&rows).zip(&medians) {
        let least = rows.iter().map(Row::us).fold(f64::INFINITY, f64::min);
        println!(
            "  {subject:<17} median {median:6.2} us a message, least {least:6.2}, of {} rounds; {:5.2} times {}",
            rows.len(),
            median / medians[0],
            subjects[0]
        );
    }
    let of_kamailio = subjects.iter().zip(&medians).filter(|(subject, _)| matches!(subject, Subject::Kamailio { .. }));
    of_kamailio.into_iter().all(|(_, median)| *median > medians[0])
}

fn median(rows: &[Row]) -> f64 {
    let mut us: Vec<f64> = rows.iter().map(Row::us).collect();
    us.sort_by(f64::total_cmp);
    us[us.len() / 2]
}
