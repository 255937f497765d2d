//! Every flow, through a balancer to three nodes: all calls go as they should, and the report tells what happened.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a test stops at the first surprise and is its own clock"
)]

mod rig;

use std::time::Duration;

use rig::{Balancer, Net, assert_clean, odd};
use sipring_load::crew;
use sipring_load::flow::Flow;
use sipring_load::plan::{Load, Plan};
use sipring_load::report::Report;

const CALLS: u64 = 200;

fn run(flow: Flow, adapt: impl FnOnce(Plan) -> Plan) -> Report {
    let net = Net::new();
    let _balancer = Balancer::start(&net, 3, net.edge());
    let plan = Plan { answer_at: net.nodes(3), ..net.plan(flow, net.edge()) };
    let report = crew::run(&adapt(plan)).unwrap();
    assert_clean(&report, CALLS);
    assert_eq!(report.calls.left_over, 0, "{report}");
    assert_eq!(report.wrong + odd(&report, "late"), 0, "{report}");
    report
}

/// Every node has its share, and what callers and nodes count is the same.
fn assert_spread(report: &Report) {
    assert_eq!(report.nodes.len(), 3, "{report}");
    assert_eq!(report.nodes.iter().map(|node| node.calls).sum::<u64>(), CALLS, "{report}");
    for node in &report.nodes {
        assert!(node.calls > 20 && node.calls == node.requests, "{report}");
    }
}

fn assert_latencies(report: &Report, names: &[&str]) {
    let found: Vec<_> = report.latency_us.keys().copied().collect();
    assert_eq!(found, names, "{report}");
    for latency in report.latency_us.values() {
        assert!(latency.p50 > 0.0 && latency.p50 <= latency.p99 && latency.p99 <= latency.max, "{report}");
    }
}

#[test]
fn calls_are_set_up_held_and_ended_by_the_caller() {
    let report = run(Flow::Call, |plan| Plan { hold: Duration::from_millis(50), ..plan });
    assert_spread(&report);
    assert_latencies(&report, &["BYE", "INVITE", "INVITE to 180"]);
    assert_eq!(report.messages.sent, 6 * CALLS, "{report}");
    assert_eq!(report.messages.received, 6 * CALLS, "{report}");
}

#[test]
fn a_callee_may_say_100_first_and_ring_for_a_while() {
    let ring = Duration::from_millis(300);
    let report = run(Flow::Call, |plan| Plan { trying: true, ring, ..plan });
    assert_spread(&report);
    let (rang, answered) = (report.latency_us["INVITE to 180"], report.latency_us["INVITE"]);
    assert!(answered.p50 >= 300_000.0 && rang.p50 + 250_000.0 < answered.p50, "{report}");
}

#[test]
fn busy_callees_refuse_and_are_acknowledged() {
    let report = run(Flow::Busy, |plan| plan);
    assert_spread(&report);
    assert_latencies(&report, &["INVITE", "INVITE to 180"]);
    assert_eq!((report.messages.sent, report.messages.received), (4 * CALLS, 4 * CALLS), "{report}");
}

#[test]
fn ringing_calls_are_cancelled() {
    let report = run(Flow::Cancel, |plan| plan);
    assert_spread(&report);
    assert_latencies(&report, &["CANCEL", "INVITE to 180"]);
}

#[test]
fn callees_hang_up() {
    let report = run(Flow::NodeHangup, |plan| Plan { hold: Duration::from_millis(30), ..plan });
    assert_spread(&report);
    assert_latencies(&report, &["BYE", "INVITE", "INVITE to 180"]);
    assert_eq!(report.latency_us["BYE"].count, CALLS, "{report}");
}

#[test]
fn either_side_invites_again_within_the_dialog() {
    let report = run(Flow::Reinvite, |plan| plan);
    assert_spread(&report);
    assert_eq!(report.latency_us["re-INVITE"].count, 2 * CALLS, "{report}");
}

#[test]
fn nodes_call_clients_through_the_node_side() {
    let net = Net::new();
    let _balancer = Balancer::start(&net, 3, net.edge());
    let clients = vec![net.at(101, 5060), net.at(102, 5060)];
    let plan = Plan {
        from: net.nodes(3),
        answer_at: clients.clone(),
        targets: clients,
        ..net.plan(Flow::NodeCall, net.node_side())
    };
    let report = crew::run(&plan).unwrap();
    assert_clean(&report, CALLS);
    assert_eq!(report.nodes.iter().map(|node| node.requests).collect::<Vec<_>>(), [CALLS / 2; 2], "{report}");
}

#[test]
fn options_and_registrations_are_answered_by_nodes() {
    let report = run(Flow::Options, |plan| Plan { callee: Some("ping".into()), ..plan });
    assert_spread(&report);
    assert_latencies(&report, &["OPTIONS"]);
    let report = run(Flow::Register, |plan| Plan { users: 200, ..plan });
    assert_spread(&report);
    assert_latencies(&report, &["REGISTER"]);
}

#[test]
fn two_workers_and_one_source_carry_the_same_calls() {
    let report = run(Flow::Call, |plan| Plan { cpus: vec![None; 2], ..plan });
    assert_eq!(report.workers.len(), 2);
    assert_spread(&report);
    let report = run(Flow::Call, |plan| Plan { from: plan.from[..1].to_vec(), ..plan });
    assert_spread(&report);
}

#[test]
fn a_closed_loop_keeps_its_window_full_and_no_fuller() {
    let net = Net::new();
    let _balancer = Balancer::start(&net, 3, net.edge());
    let hold = Duration::from_millis(100);
    let plan = Plan {
        load: Load::Window(10),
        calls: Some(100),
        hold,
        answer_at: net.nodes(3),
        ..net.plan(Flow::Call, net.edge())
    };
    let report = crew::run(&plan).unwrap();
    assert_clean(&report, 100);
    // Ten rounds of a tenth of a second, one after the other.
    assert!(report.seconds >= 1.0, "{report}");
    assert_eq!(report.window, Some(10));
}

#[test]
fn ipv6_calls_need_no_balancer() {
    let at = std::net::UdpSocket::bind("[::1]:0").unwrap().local_addr().unwrap();
    let plan = Plan {
        flow: Some(Flow::Reinvite),
        to: at,
        from: vec!["[::1]:0".parse().unwrap(); 2],
        answer_at: vec![at],
        calls: Some(20),
        load: Load::Rate(100.0),
        ..Plan::default()
    };
    assert_clean(&crew::run(&plan).unwrap(), 20);
}
