//! Nodes that die, freeze, refuse and return, found by the balancer as a process; the nodes are processes too.

use std::time::Duration;

use crate::harness::callers::Habit;
use crate::harness::failover::{self, Effort, Fault};
use crate::harness::{node, turn};

fn short() -> Effort {
    let habit = Habit { rate: 50, hold: Duration::from_secs(2), patience: Duration::from_secs(8) };
    Effort {
        habit,
        ring: Duration::from_millis(300),
        before: Duration::from_secs(3),
        away: Duration::from_millis(1_500),
        after: Duration::from_secs(2),
    }
}

/// No test: what the others run as processes of their own, to be killed and frozen.
#[test]
#[ignore = "a node for the other tests, which start it with a task"]
fn node_process() {
    assert!(node::serve_if_told(), "this is started by other tests");
}

#[test]
fn a_killed_node_is_down_within_a_second_and_costs_its_own_calls_only() {
    let _turn = turn();
    let outcome = failover::run(Fault::Killed, short());
    println!("{outcome}");
    assert!(outcome.holds(), "{outcome}\n{:#?}", outcome.said);
}

#[test]
fn a_frozen_node_is_down_within_a_second_and_returns_when_it_thaws() {
    let _turn = turn();
    let outcome = failover::run(Fault::Frozen, short());
    println!("{outcome}");
    assert!(outcome.holds(), "{outcome}\n{:#?}", outcome.said);
}
