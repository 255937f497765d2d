//! Nodes that die, freeze, refuse and return, found by the balancer as a process; the nodes are processes too.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use crate::harness::callers::Habit;
use crate::harness::failover::{self, Effort, Fault, Ward};
use crate::harness::namespace::Place;
use crate::harness::node::{NodeProcess, Task};
use crate::harness::spec::{Node, WORKER_PORTS};
use crate::harness::{node, ports, turn, wait_until};

fn short() -> Effort {
    let habit = Habit { rate: 50, hold: Duration::from_secs(2), patience: Duration::from_secs(8) };
    Effort {
        habit,
        ring: Duration::from_millis(300),
        before: Duration::from_secs(3),
        away: Duration::from_millis(1_500),
        after: Duration::from_secs(2),
        // A second where nothing else has the cpus, which the figure shows.
        down_max: Duration::from_secs(2),
    }
}

/// Whether a node answers OPTIONS within half a second.
fn answers(node: SocketAddr) -> bool {
    let socket = UdpSocket::bind((node.ip(), 0)).expect("a socket");
    let via = socket.local_addr().expect("its address");
    let options = format!(
        "OPTIONS sip:{node} SIP/2.0\r\nVia: SIP/2.0/UDP {via};branch=z9hG4bKnode\r\nFrom: <sip:test@{via}>;tag=1\r\n\
         To: <sip:{node}>\r\nCall-ID: node@{via}\r\nCSeq: 1 OPTIONS\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
    );
    socket.set_read_timeout(Some(Duration::from_millis(500))).expect("a limit");
    socket.send_to(options.as_bytes(), node).expect("sent");
    let mut answer = [0; 1_024];
    socket.recv(&mut answer).is_ok_and(|length| answer[..length].starts_with(b"SIP/2.0 200"))
}

/// What the other tests rest on. The nodes are copies of this program, told to run this test with a task.
#[test]
fn a_node_answers_until_it_is_frozen_or_killed() {
    if node::serve_if_told() {
        return;
    }
    let _turn = turn();
    let at = SocketAddr::from(([127, 0, 0, 14], ports::free(1)));
    let task = Task { name: "node".into(), at, ring_ms: 0, code: 200 };
    let mut node = NodeProcess::start(&Place::here(), task);
    let answers_in_time = || wait_until(Duration::from_secs(10), || answers(at));
    assert!(answers_in_time());
    node.freeze();
    assert!(!answers(at), "it answers while it is frozen");
    node.thaw();
    assert!(answers_in_time());
    node.kill();
    assert!(!answers(at), "it answers after its death");
    node.start_again();
    assert!(answers_in_time());
}

#[test]
fn a_killed_node_is_down_soon_and_costs_its_own_calls_only() {
    let _turn = turn();
    let outcome = failover::run(Fault::Killed, short());
    println!("{outcome}");
    assert!(outcome.holds(), "{outcome}\n{:#?}", outcome.said);
}

#[test]
fn a_frozen_node_is_down_soon_and_returns_when_it_thaws() {
    let _turn = turn();
    let outcome = failover::run(Fault::Frozen, short());
    println!("{outcome}");
    assert!(outcome.holds(), "{outcome}\n{:#?}", outcome.said);
}

#[test]
fn a_pair_is_switched_when_its_backup_takes_over_and_stays_there_when_the_primary_returns() {
    let _turn = turn();
    let outcome = failover::pair(short());
    println!("{outcome}");
    assert!(outcome.holds(), "{outcome}\n{:#?}", outcome.said);
}

#[test]
fn loss_of_one_packet_in_twenty_takes_no_node_down() {
    let _turn = turn();
    let habit = Habit { rate: 20, ..short().habit };
    let outcome = failover::loss(Duration::from_secs(15), habit);
    println!("{outcome}");
    assert!(outcome.holds() && outcome.probes > 3 * 15 * 3, "{outcome}\n{:#?}", outcome.said);
}

/// Three nodes that are probed, and callers beside them.
fn ward(lines: &[&str]) -> Ward {
    // Doubts after the first in a minute are told at this level.
    let level = "[log]\nlevel = \"debug\"\n";
    Ward::new(3, Duration::from_millis(20), |spec| spec.probes(lines).tables(level))
}

#[test]
fn a_node_that_answers_503_to_probes_gets_no_calls_until_it_answers_otherwise() {
    let _turn = turn();
    // Probes alone: in the time that they take, calls are refused too.
    let mut ward = ward(&["busy_row = 1000"]);
    let mut callers = ward.callers(short().habit);
    let mark = ward.mark();
    ward.nodes[1].answers(503);
    let words = ["node_down", "node=node1", "refused_503"];
    assert!(ward.until_said(&mut callers, Duration::from_secs(3), mark, &words).is_some(), "it is not said");
    callers.run(Duration::from_millis(200), |_| false);
    let down = callers.calls.len();
    callers.run(Duration::from_secs(1), |_| false);
    assert!(callers.calls[down..].iter().all(|call| call.node != "node1" && call.refused.is_none()));
    ward.nodes[1].answers(404);
    assert!(ward.until_said(&mut callers, Duration::from_secs(3), mark, &["node_up", "node=node1"]).is_some());
    let up = callers.calls.len();
    let again =
        callers.run(Duration::from_secs(5), |callers| callers.calls[up..].iter().any(|call| call.node == "node1"));
    assert!(again, "no calls at a node that is up");
}

#[test]
fn a_node_that_asks_to_be_left_alone_is_and_gets_calls_again_after_that() {
    let _turn = turn();
    let mut ward = ward(&[]);
    let mut callers = ward.callers(short().habit);
    let mark = ward.mark();
    ward.nodes[1].refuses_calls(2);
    let words = ["node_closed", "node=node1", "retry_after"];
    assert!(ward.until_said(&mut callers, Duration::from_secs(3), mark, &words).is_some(), "it is not said");
    callers.run(Duration::from_millis(200), |_| false);
    let closed = callers.calls.len();
    callers.run(Duration::from_secs(1), |_| false);
    assert!(callers.calls[closed..].iter().all(|call| call.node != "node1" && call.refused.is_none()));
    let opened = ward.until_said(&mut callers, Duration::from_secs(3), mark, &["node_opened", "node=node1"]);
    assert!(opened.is_some(), "it stays closed");
    assert!(ward.said(mark, &["node_down"]).is_empty(), "a node that answers is not down");
}

#[test]
fn a_node_that_stutters_does_not_flap() {
    let _turn = turn();
    let mut ward = ward(&["misses = 8"]);
    let mut callers = ward.callers(short().habit);
    callers.run(Duration::from_millis(500), |_| false);
    let mark = ward.mark();
    for _ in 0..12 {
        ward.nodes[0].freeze();
        // Longer than an interval and what makes a probe fail, shorter than eight of those.
        callers.run(Duration::from_millis(460), |_| false);
        ward.nodes[0].thaw();
        callers.run(Duration::from_millis(250), |_| false);
    }
    assert!(!ward.said(mark, &["node_probing"]).is_empty(), "the stutter was not felt");
    assert_eq!(ward.said(mark, &["node_down"]), Vec::<String>::new());
    assert!(callers.finish());
    assert_eq!(callers.calls.iter().filter(|call| call.failed()).count(), 0);
}

#[test]
fn forged_icmp_errors_are_settled_by_probes_and_take_nobody_down() {
    let _turn = turn();
    let mut ward = ward(&["unanswered_ms = 600000"]);
    let mut callers = ward.callers(short().habit);
    callers.run(Duration::from_millis(500), |_| false);
    let mark = ward.mark();
    let (node_side, first) = ward.spec.node_sides[0];
    let node = ward.nodes[0].task.at;
    for _ in 0..20 {
        for port in first..first + WORKER_PORTS {
            ward.core.forge_unreachable(SocketAddr::new(node_side.ip(), port), node);
        }
        callers.run(Duration::from_millis(100), |_| false);
    }
    assert!(!ward.said(mark, &["node_probing", "node=node0", "unreachable"]).is_empty(), "the errors were not felt");
    assert!(!ward.said(mark, &["node_up", "node=node0", "answered"]).is_empty(), "nothing was settled");
    assert_eq!(ward.said(mark, &["node_down"]), Vec::<String>::new());
    assert!(callers.finish());
    assert_eq!(callers.calls.iter().filter(|call| call.failed() || call.nodes.len() > 1).count(), 0);
}

#[test]
fn a_reload_that_moves_a_node_to_another_address_forgets_the_dead_one() {
    let _turn = turn();
    let mut ward = ward(&[]);
    let spare = ward.spec.nodes.remove(2);
    ward.balancer.reload(&ward.spec);
    let mut callers = ward.callers(short().habit);
    let mark = ward.mark();
    ward.nodes[0].kill();
    assert!(ward.until_said(&mut callers, Duration::from_secs(3), mark, &["node_down", "node=node0"]).is_some());
    // The dead address under another name stays dead; the old name at a living address serves at once.
    let dead = Node::new("renamed", ward.spec.nodes[0].address);
    ward.spec.nodes[0].address = spare.address;
    ward.spec.nodes.insert(0, dead);
    ward.balancer.reload(&ward.spec);
    let reloaded = callers.calls.len();
    callers.run(Duration::from_secs(2), |_| false);
    assert!(callers.finish());
    let after = &callers.calls[reloaded..];
    assert_eq!(after.iter().filter(|call| call.failed()).count(), 0);
    assert!(["node1", "node2"].iter().all(|name| after.iter().any(|call| call.node == *name)));
}

#[test]
fn probes_are_no_calls_and_reach_no_worker() {
    let _turn = turn();
    let mut ward = ward(&[]);
    let probed = wait_until(Duration::from_secs(5), || ward.counted(&["sipring_probes{"]) > 20);
    assert!(probed, "nobody is probed");
    let (probes, failed) = (ward.counted(&["sipring_probes{"]), ward.counted(&["sipring_probes_failed{"]));
    assert!(failed < probes, "{failed} of {probes} failed");
    let received = ward.counted(&["sipring_received"]);
    let forwarded = ward.counted(&["sipring_verdict"]);
    assert_eq!((received, forwarded), (0, 0));
}

#[test]
fn without_probes_none_are_sent() {
    let _turn = turn();
    let mut ward = ward(&["probe = false"]);
    let mut callers = ward.callers(short().habit);
    callers.run(Duration::from_secs(1), |_| false);
    assert_eq!(ward.counted(&["sipring_probes{"]), 0);
    ward.nodes[0].kill();
    let mark = ward.mark();
    callers.run(Duration::from_secs(1), |_| false);
    assert_eq!(ward.said(mark, &["node_probing"]), Vec::<String>::new());
}
