//! Ten million messages over AF_XDP, with every frame and every message accounted for; and what a message costs there
//! and over plain sockets, at the same links.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::generator::Generator;
use super::harness::balancer::{Balancer, Counters, sum};
use super::harness::lab::Path as Lab;
use super::harness::spec::{Node, Spec};
use super::harness::wait_until;

const WINDOW: u64 = 256;
const LENGTH: usize = 420;

fn spec(tuning: &str) -> Spec {
    let at = |host: &str, port: u16| Lab::at(false, host, port);
    let spec = Spec::new(at("1.1", 5060), at("2.1", 5060)).nodes([Node::new("node0", at("2.2", 5060))]);
    Spec { cookies: false, ..spec.tuning(tuning) }
}

/// `cpus.toml` of the balancer, pinned to the first cpu.
fn tuning(xdp: bool) -> String {
    if xdp { "datapath = \"xdp\"\n[xdp]\ninterfaces = [\"edge\", \"nodes\"]\n".into() } else { String::new() }
}

/// Frames by where they are: all, lent, kept, in stock.
fn frames(counters: &Counters) -> [u64; 4] {
    ["all", "lent", "kept", "stock"].map(|kind| sum(counters, &["sipring_frames{", &format!("kind=\"{kind}\"")]))
}

pub(crate) fn carries(messages: u64) -> bool {
    println!(
        "{messages} messages, half of them requests and half answers, through sipring over AF_XDP at two veth links"
    );
    let path = Lab::new();
    let mut balancer = Balancer::start(&path.middle(), &spec(&tuning(true)));
    println!("  {}", ready(&mut balancer));
    let mut generator = Generator::new(&path, LENGTH);
    // Until the balancer knows its neighbours.
    let settled = wait_until(Duration::from_secs(10), || {
        let before = sum(&balancer.counters(), &["slow_sent"]);
        let warm = generator.run(100, 8);
        warm.answers == 100 && sum(&balancer.counters(), &["slow_sent"]) == before
    });
    let before = balancer.counters();
    let load = generator.run(messages / 2, WINDOW);
    let mut after = balancer.counters();
    let exact = wait_until(Duration::from_secs(10), || {
        after = balancer.counters();
        let [all, lent, kept, stock] = frames(&after);
        all > 0 && all == lent + kept + stock
    });
    let of = |name: &str| sum(&after, &[name]) - sum(&before, &[name]);
    let [all, lent, kept, stock] = frames(&after);
    println!("  {load:?}: {:.0} messages/s", (load.arrived + load.answers) as f64 / load.seconds);
    println!("  frames: {all} = {lent} with the kernel + {kept} kept by the worker + {stock} in stock");
    let names = ["sipring_received{", "sipring_datagrams_received{", "sipring_datagrams_sent{", "kind=\"forward\""];
    let rest = ["slow_received", "slow_sent", "send_error", "frames_dropped", "frames_foreign", "frames_invalid"];
    let counted: Vec<u64> = names.iter().map(|name| of(name)).collect();
    let troubles: Vec<u64> =
        rest.iter().chain(&["sipring_drop", "books_wrong", "packets_copied"]).map(|n| of(n)).collect();
    println!("  received by shard and datapath, sent, forwarded: {counted:?}");
    println!(
        "  slow received and sent, send errors, frames dropped, foreign, invalid, messages dropped, books, copies: {troubles:?}"
    );
    let whole = load.requests == messages / 2 && load.arrived == load.requests && load.answers == load.requests;
    settled
        && exact
        && whole
        && counted.iter().all(|count| *count == messages)
        && troubles.iter().all(|count| *count == 0)
}

fn ready(balancer: &mut Balancer) -> String {
    let lines = balancer.process().lines(0);
    let line = lines.iter().map(|(_, line)| line).find(|line| line.contains("ready"));
    line.and_then(|line| line.split_once("INFO ")).map_or_else(String::new, |(_, told)| told.to_owned())
}

/// The directory of the worker's thread.
fn worker(balancer: &mut Balancer) -> PathBuf {
    let tasks = fs::read_dir(format!("/proc/{}/task", balancer.process().id())).unwrap().flatten();
    let named = |task: &PathBuf| fs::read_to_string(task.join("comm")).is_ok_and(|name| name.trim() == "worker-0");
    tasks.map(|task| task.path()).find(named).expect("a worker")
}

/// Nanoseconds that a thread has run.
fn ran_ns(thread: &Path) -> u64 {
    let told = fs::read_to_string(thread.join("schedstat")).unwrap();
    told.split_whitespace().next().unwrap().parse().unwrap()
}

/// Gives a thread a cpu before all others there.
fn alone(thread: &Path, cpu: &str) {
    tell("taskset", &["-pc", cpu], thread);
    tell("chrt", &["-f", "-p", "10"], thread);
}

/// Gives it back.
fn together(thread: &Path) {
    tell("chrt", &["-o", "-p", "0"], thread);
}

fn tell(program: &str, arguments: &[&str], thread: &Path) {
    let done = Command::new(program).args(arguments).arg(thread.file_name().unwrap()).output().unwrap();
    assert!(done.status.success(), "{program}: {done:?}");
}

/// CPU time of the worker for one message, microseconds, and its share of the time.
fn cost(path: &Lab, xdp: bool, messages: u64) -> (f64, f64) {
    let mut balancer = Balancer::start(&path.middle(), &spec(&tuning(xdp)));
    let mut generator = Generator::new(path, LENGTH);
    // Next hops are found by others than the two that are about to take the cpus.
    generator.run(2_000, 32);
    let (worker, this) = (worker(&mut balancer), Path::new("/proc").join(fs::read_link("/proc/thread-self").unwrap()));
    alone(&worker, "0");
    alone(&this, "1");
    generator.run(20_000, WINDOW);
    let before = ran_ns(&worker);
    let load = generator.run(messages / 2, WINDOW);
    let used = (ran_ns(&worker) - before) as f64;
    together(&this);
    assert_eq!(load.answers, messages / 2, "{load:?}");
    (used / 1e3 / messages as f64, used / 1e9 / load.seconds)
}

/// Rounds of one after the other at the same links, and the median of their ratios.
pub(crate) fn compare(rounds: usize, messages: u64) -> bool {
    println!("CPU time of the worker a message, {LENGTH} bytes, {messages} messages a round, generator over AF_XDP");
    let path = Lab::new();
    let mut ratios = Vec::new();
    for _ in 0..rounds {
        let (xdp, busy) = cost(&path, true, messages);
        let (mmsg, busy_mmsg) = cost(&path, false, messages);
        println!(
            "  xdp {xdp:.3} us (worker busy {:.0} %), mmsg {mmsg:.3} us (busy {:.0} %): {:.3}",
            busy * 100.0,
            busy_mmsg * 100.0,
            xdp / mmsg
        );
        ratios.push(xdp / mmsg);
    }
    ratios.sort_by(f64::total_cmp);
    let median = ratios[ratios.len() / 2];
    println!("  median ratio {median:.3}");
    median < 1.0
}
