//! Calls outlive the balancer and its tables.

use std::time::Duration;

use crate::harness::{restart, ringing, size, turn};

#[test]
fn dialogs_survive_a_killed_balancer_and_another_table() {
    let _turn = turn();
    let outcome = restart::run(100, true);
    println!("{outcome}");
    assert!(outcome.holds(), "{outcome}\n{:#?}", outcome.faults);
}

#[test]
fn without_cookies_a_changed_table_loses_dialogs() {
    let _turn = turn();
    let outcome = restart::run(100, false);
    assert!(outcome.reinvites < outcome.dialogs, "the test of cookies would pass without them: {outcome}");
}

#[test]
fn ringing_calls_keep_their_node_while_the_table_changes() {
    let _turn = turn();
    let outcome = ringing::run(120, Duration::from_secs(5));
    println!("{outcome}");
    println!("{outcome}");
    assert!(outcome.holds(), "{outcome}\n{:#?}", outcome.faults);
}

#[test]
fn large_datagrams_cross_an_mtu_of_1500_unharmed() {
    let _turn = turn();
    let rows = size::run();
    let harmed: Vec<String> = rows.iter().filter(|row| !row.there || !row.back).map(ToString::to_string).collect();
    assert!(rows.len() == 16 && harmed.is_empty(), "{harmed:#?}");
}
