//! Nodes that die and freeze under 200 calls/s, pairs that change halves, ten minutes of loss.

use std::time::Duration;

use crate::harness::callers::Habit;
use crate::harness::failover::{self, Effort, Fault};

const CALLS: Habit = Habit { rate: 200, hold: Duration::from_secs(5), patience: Duration::from_secs(32) };

/// Rings long enough that some calls have nothing but a provisional response when the node goes.
const EFFORT: Effort = Effort {
    habit: CALLS,
    ring: Duration::from_millis(500),
    before: Duration::from_secs(10),
    away: Duration::from_secs(10),
    after: Duration::from_secs(10),
    down_max: Duration::from_secs(1),
};

/// `part`: `killed`, `frozen` or `loss` alone.
pub(crate) fn finds_lost_nodes(part: Option<&str>) -> bool {
    let wanted = |name: &str| part.is_none_or(|part| part == name);
    println!("three nodes, 200 calls/s with 5 s hold, probes every 250 ms; one node is lost and returns 10 s after");
    println!("Down; callers retransmit by T1, T2 and give up after 32 s");
    let mut holds = true;
    let faults = [("killed", Fault::Killed), ("frozen", Fault::Frozen)];
    for (_, fault) in faults.into_iter().filter(|(name, _)| wanted(name)) {
        let outcome = failover::run(fault, EFFORT);
        println!("{outcome}: {}", if outcome.holds() { "holds" } else { "DOES NOT HOLD" });
        if !outcome.holds() {
            outcome.said.iter().for_each(|line| println!("    {line}"));
        }
        holds &= outcome.holds();
    }
    if !wanted("loss") {
        return holds;
    }
    let outcome = failover::loss(Duration::from_secs(600), Habit { rate: 50, ..CALLS });
    println!("{outcome}: {}", if outcome.holds() { "holds" } else { "DOES NOT HOLD" });
    outcome.said.iter().for_each(|line| println!("    {line}"));
    holds && outcome.holds()
}

pub(crate) fn switches_pairs() -> bool {
    println!(
        "a pair and a node, 200 calls/s with 5 s hold, probes every 250 ms, 3 misses; the backup answers 503 until the"
    );
    println!("primary dies and 200 from then on; later both answer for 60 s");
    let outcome = failover::pair(Effort { after: Duration::from_secs(60), ..EFFORT });
    println!("{outcome}");
    if !outcome.holds() {
        outcome.said.iter().for_each(|line| println!("    {line}"));
    }
    outcome.holds()
}
