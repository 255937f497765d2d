//! SIPp calls over sipring to three nodes, in both directions.

use crate::harness::flows::{self, Flow, Row};
use crate::harness::turn;

/// Every flow in one direction, IPv4 with one worker and IPv6 with two, and shorter over plain sockets.
fn flows_stay_whole(flow: Flow, from_nodes: bool) {
    let _turn = turn();
    for (v6, workers, datapath, seconds) in [(false, 1, None, 2), (true, 2, None, 2), (false, 2, Some("mmsg"), 1)] {
        let row = Row { flow, from_nodes, v6, workers, datapath, rate: 60, seconds, pause_ms: 100 };
        let report = flows::run(row);
        println!("{report}");
        assert!(report.holds(), "{report}\n{}\ncounters: {:#?}", report.errors, report.counters);
    }
}

#[test]
fn calls_of_clients_stay_on_one_node() {
    flows_stay_whole(Flow::Call, false);
}

#[test]
fn busy_answers_reach_clients_and_their_acks_the_node() {
    flows_stay_whole(Flow::Busy, false);
}

#[test]
fn cancels_of_clients_reach_the_node_that_rings() {
    flows_stay_whole(Flow::Cancel, false);
}

#[test]
fn nodes_can_hang_up_calls_of_clients() {
    flows_stay_whole(Flow::Hangup, false);
}

#[test]
fn re_invites_in_calls_of_clients_reach_the_peer_from_both_sides() {
    flows_stay_whole(Flow::Reinvite, false);
}

#[test]
fn calls_of_nodes_reach_clients() {
    flows_stay_whole(Flow::Call, true);
}

#[test]
fn busy_clients_refuse_calls_of_nodes() {
    flows_stay_whole(Flow::Busy, true);
}

#[test]
fn nodes_can_cancel_their_calls() {
    flows_stay_whole(Flow::Cancel, true);
}

#[test]
fn clients_can_hang_up_calls_of_nodes() {
    flows_stay_whole(Flow::Hangup, true);
}

#[test]
fn re_invites_in_calls_of_nodes_reach_the_peer_from_both_sides() {
    flows_stay_whole(Flow::Reinvite, true);
}
