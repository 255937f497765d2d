//! Ten million messages over AF_XDP, with every frame and every message accounted for.

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

/// `cpus.toml` of the balancer.
const TUNING: &str = "datapath = \"xdp\"\n[xdp]\ninterfaces = [\"edge\", \"nodes\"]\n";

/// Frames by where they are: all, lent, kept, in stock.
fn frames(counters: &Counters) -> [u64; 4] {
    ["all", "lent", "kept", "stock"].map(|kind| sum(counters, &["sipring_frames{", &format!("kind=\"{kind}\"")]))
}

pub(crate) fn carries(messages: u64) -> bool {
    println!(
        "{messages} messages, half of them requests and half answers, through sipring over AF_XDP at two veth links"
    );
    let path = Lab::new();
    let mut balancer = Balancer::start(&path.middle(), &spec(TUNING));
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

/// What the balancer said of itself when it was ready.
fn ready(balancer: &mut Balancer) -> String {
    let lines = balancer.process().lines(0);
    let told = lines.iter().find_map(|(_, line)| line.find("event=ready").and_then(|at| line.get(at..)));
    told.expect("it is ready").to_owned()
}
