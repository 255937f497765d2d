//! What workers testify about nodes, and how they treat pairs and nodes that take no new calls.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test")]

mod rig;

use std::net::SocketAddr;
use std::sync::Arc;

use rig::{CLIENT, NODES, Outcome, Parts, Rig, WORKERS, request, response};
use sipring::balance::{Health, Intent, Vitals};
use sipring::packet::{Event, PeerId, Trouble};
use sipring::shard::{Account, Evidence, Tally};

const BOB: &str = "sip:bob@example.org";
const PRIMARY: &str = "10.0.0.11:5060";
const BACKUP: &str = "10.0.0.91:5060";

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn account(rig: &Rig, node: SocketAddr) -> Account {
    let state = rig.shard.state();
    state.evidence.account(state.plan.peer(node))
}

/// One pair and nothing else, or with node2 beside it.
fn pair(alone: bool) -> Rig {
    Rig::with(|parts| {
        parts.nodes.truncate(if alone { 1 } else { 2 });
        parts.nodes[0].addrs[1] = BACKUP.parse().ok();
    })
}

/// Sets the health of the halves of the pair, and where its calls go.
fn halves(rig: &mut Rig, health: [Health; 2], standby: [bool; 2], at_backup: bool) {
    rig.change_state(|state| {
        let plan = &state.plan;
        let ends = [PRIMARY, BACKUP].map(|end| plan.peer(addr(end)));
        let mut vitals = Vitals::default();
        for ((peer, health), standby) in ends.into_iter().zip(health).zip(standby) {
            vitals.observe(peer, health, standby);
        }
        if at_backup {
            let node = plan.node(plan.from_addr(addr(PRIMARY)).unwrap()).unwrap();
            vitals.prefer_backup(node.mark, ends[0]);
        }
        state.vitals = Arc::new(vitals);
    });
}

fn routes(invite: &Outcome) -> String {
    invite.all("Record-Route").iter().rev().map(|value| format!("Route: {value}\r\n")).collect()
}

fn bye(invite: &Outcome) -> String {
    request("BYE", "sip:bob@10.0.0.99", &routes(invite))
        .replace("To: <sip:bob@example.org>", "To: <sip:bob@example.org>;tag=b1")
}

fn fresh(call: u32) -> String {
    request("INVITE", BOB, "").replace("c1@", &format!("fresh{call}@"))
}

#[test]
fn requests_without_ack_and_responses_by_class_are_testified_of_their_endpoint() {
    let mut rig = Rig::new();
    let invite = rig.from_client(&request("INVITE", BOB, ""));
    let node = invite.to().unwrap();
    let ack = request("ACK", BOB, "").replace("To: <sip:bob@example.org>", "To: <sip:bob@example.org>;tag=b1");
    rig.from_client(&ack);
    for code in [100, 180, 200] {
        rig.from_node(&response(&invite, code, "b1", ""), node);
    }
    let told = account(&rig, node);
    assert_eq!((told.requests, told.responses, told.calls_answered), (1, [2, 1, 0, 0, 0, 0], 1));
    let ended = rig.from_client(&bye(&invite));
    rig.from_node(&response(&ended, 200, "b1", ""), node);
    let told = account(&rig, node);
    assert_eq!((told.requests, told.responses[1], told.calls_answered), (2, 2, 1), "a BYE is no call");
    let others: u32 = (0..3).map(|peer| rig.shard.state().evidence.account(PeerId(peer)).requests).sum();
    assert_eq!(others, 2, "nobody else is testified of");
}

#[test]
fn what_a_node_sends_from_another_port_is_heard_of_it() {
    let mut rig = Rig::new();
    let text = request("OPTIONS", "sip:alice@192.0.2.50:5060", "");
    rig.pass(text.as_bytes(), NODES, "10.0.0.11:40000");
    rig.pass(text.as_bytes(), NODES, PRIMARY);
    assert_eq!(account(&rig, addr(PRIMARY)).begun, 2);
    assert_eq!(account(&rig, addr(PRIMARY)).heard(), 2);
}

#[test]
fn a_503_to_a_call_is_told_apart_by_its_retry_after() {
    let mut rig = Rig::new();
    let invite = rig.from_client(&request("INVITE", BOB, ""));
    let node = invite.to().unwrap();
    rig.from_node(&response(&invite, 503, "b1", ""), node);
    let told = account(&rig, node);
    assert_eq!((told.calls_refused, told.retry_after, told.leave_alone_ds), (1, 0, 0));
    for (line, wanted_s) in [("Retry-After: 7\r\n", 7), ("retry-after :  120 (busy);duration=9\r\n", 30)] {
        let invite = rig.from_client(&fresh(wanted_s));
        let node = invite.to().unwrap();
        rig.from_node(&response(&invite, 503, "b1", line), node);
        let told = account(&rig, node);
        assert!(told.retry_after > 0, "{line}");
        assert_eq!(told.leave_alone_ds, (rig.now_ms / 100) as u32 + wanted_s * 10, "{line}");
        rig.now_ms += 60_000;
    }
    let invite = rig.from_client(&fresh(99));
    let node = invite.to().unwrap();
    let before = account(&rig, node).retry_after;
    rig.from_node(&response(&invite, 503, "b1", "Retry-After: soon\r\n"), node);
    assert_eq!(account(&rig, node).retry_after, before, "no number");
    let register = rig.from_client(&request("REGISTER", "sip:example.org", ""));
    let node = register.to().unwrap();
    let before = account(&rig, node).calls_refused;
    rig.from_node(&response(&register, 503, "b1", "Retry-After: 7\r\n"), node);
    assert_eq!(account(&rig, node).calls_refused, before, "no call");
}

#[test]
fn nobody_but_the_node_testifies_for_it() {
    let mut rig = Rig::new();
    let invite = rig.from_client(&request("INVITE", BOB, ""));
    let node = invite.to().unwrap();
    let refusal = response(&invite, 503, "b1", "Retry-After: 30\r\n");
    rig.pass(refusal.as_bytes(), rig::EDGE, CLIENT);
    rig.pass(refusal.as_bytes(), NODES, "198.51.100.9:5060");
    let forged = refusal.replace("branch=z9hG4bK0r", "branch=z9hG4bK0s");
    rig.from_node(&forged, node);
    assert_eq!(account(&rig, node).heard(), 0);
    assert_eq!(account(&rig, node).calls_refused, 0);
}

#[test]
fn an_icmp_error_is_testified_and_rings_the_alarm() {
    let mut rig = Rig::new();
    let event = |to: &str| Event { port: WORKERS, to: addr(to), trouble: Trouble::Unreachable };
    rig.shard.event(rig.now_ms, event(PRIMARY));
    rig.shard.event(rig.now_ms, event("192.0.2.50:5060"));
    assert_eq!(account(&rig, addr(PRIMARY)).unreachable, 1);
    assert_eq!(rig.shard.state().evidence.alarms(), 1, "a client is nobody's concern");
    assert_eq!(rig.counters.tallied(Tally::EndpointAvoided), 1);
}

#[test]
fn evidence_begins_anew_with_every_plan_and_goes_to_the_right_endpoint() {
    let mut parts = Parts::default();
    let mut rig = Rig::of(&parts);
    let invite = rig.from_client(&request("INVITE", BOB, ""));
    let node = invite.to().unwrap();
    parts.nodes.retain(|spec| spec.addrs[0] == Some(node));
    parts.nodes.push(rig::node(0, 100));
    rig.reload(&parts);
    rig.change_state(|state| state.evidence = Arc::new(Evidence::new(2, state.plan.endpoints.peers.len(), Vec::new())));
    rig.from_client(&request("INVITE", BOB, ""));
    assert_eq!(account(&rig, node).requests, 1);
}

#[test]
fn dialogs_of_a_node_that_drains_are_counted_by_their_call_ids() {
    let mut rig = Rig::with(|parts| parts.nodes.truncate(1));
    rig.change_state(|state| state.evidence = Arc::new(Evidence::new(2, 1, vec![PeerId(0)])));
    let count = |rig: &Rig| rig.shard.state().evidence.dialogs(PeerId(0), rig.now_ms);
    for call in 0..40 {
        rig.from_client(&fresh(call));
    }
    assert_eq!(count(&rig), Some(0), "what begins is no dialog yet");
    for call in 0..40 {
        let invite = rig.from_client(&fresh(call));
        for method in ["INFO", "BYE"] {
            let inside = bye(&invite).replace("BYE", method).replace("c1@", &format!("fresh{call}@"));
            assert!(rig.from_client(&inside).to().is_some());
        }
    }
    assert!(count(&rig).is_some_and(|count| count.abs_diff(40) <= 2), "{:?}", count(&rig));
}

#[test]
fn a_closed_node_gets_no_new_calls_and_keeps_what_it_has() {
    let mut rig = Rig::new();
    let invite = rig.from_client(&request("INVITE", BOB, ""));
    let node = invite.to().unwrap();
    rig.change_state(|state| {
        let ix = state.plan.from_addr(node).unwrap();
        let mut vitals = Vitals::default();
        vitals.close(state.plan.node(ix).unwrap().mark);
        state.vitals = Arc::new(vitals);
    });
    assert!((0..60).all(|call| rig.from_client(&fresh(call)).to().is_some_and(|to| to != node)));
    assert_eq!(rig.from_client(&request("CANCEL", BOB, "")).to(), Some(node), "a call that rings there");
    assert_eq!(rig.from_client(&bye(&invite)).to(), Some(node), "a dialog");
}

#[test]
fn calls_of_a_pair_go_to_the_half_that_control_names() {
    use Health::{Down, Up};
    let mut rig = pair(true);
    assert_eq!(rig.from_client(&fresh(1)).to(), Some(addr(PRIMARY)));
    halves(&mut rig, [Up, Up], [false, false], true);
    assert_eq!(rig.from_client(&fresh(2)).to(), Some(addr(BACKUP)), "both answer: where control says");
    halves(&mut rig, [Up, Up], [true, false], true);
    assert_eq!(rig.from_client(&fresh(3)).to(), Some(addr(BACKUP)));
    halves(&mut rig, [Down, Up], [false, true], false);
    assert_eq!(rig.from_client(&fresh(4)).reply(), Some(503), "nobody of the pair takes calls yet");
}

#[test]
fn a_ringing_call_stays_with_the_half_that_got_it_while_that_lives() {
    use Health::{Down, Up};
    let mut rig = pair(true);
    let first = rig.from_client(&request("INVITE", BOB, ""));
    assert_eq!(first.to(), Some(addr(PRIMARY)));
    halves(&mut rig, [Up, Up], [false, false], true);
    let second = rig.from_client(&fresh(2));
    assert_eq!(second.to(), Some(addr(BACKUP)));
    let cancel = |call: &str| request("CANCEL", BOB, "").replace("c1@", call);
    assert_eq!(rig.from_client(&request("INVITE", BOB, "")).to(), Some(addr(PRIMARY)), "its retransmission");
    assert_eq!(rig.from_client(&cancel("c1@")).to(), Some(addr(PRIMARY)));
    halves(&mut rig, [Up, Up], [false, false], false);
    assert_eq!(rig.from_client(&cancel("fresh2@")).to(), Some(addr(BACKUP)));
    assert_eq!(rig.from_client(&cancel("c1@")).to(), Some(addr(PRIMARY)));
    // Its half dies: the other one gets it, and keeps it when the first returns.
    halves(&mut rig, [Down, Up], [false, false], true);
    assert_eq!(rig.from_client(&request("INVITE", BOB, "")).to(), Some(addr(BACKUP)));
    halves(&mut rig, [Up, Up], [false, false], false);
    assert_eq!(rig.from_client(&cancel("c1@")).to(), Some(addr(BACKUP)));
}

#[test]
fn a_dialog_of_a_pair_goes_to_its_living_half() {
    use Health::{Down, Up};
    let mut rig = pair(false);
    let mut call = 0;
    let invite = loop {
        call += 1;
        let invite = rig.from_client(&fresh(call));
        if invite.to() == Some(addr(PRIMARY)) {
            break invite;
        }
    };
    let bye = bye(&invite).replace("c1@", &format!("fresh{call}@"));
    for (health, standby, at_backup, wanted) in [
        ([Up, Up], [false, false], false, PRIMARY),
        ([Up, Up], [false, false], true, BACKUP),
        ([Down, Up], [false, true], false, BACKUP),
        ([Up, Down], [false, false], true, PRIMARY),
        ([Down, Down], [false, false], false, PRIMARY),
    ] {
        halves(&mut rig, health, standby, at_backup);
        assert_eq!(rig.from_client(&bye).to(), Some(addr(wanted)), "{health:?} {standby:?} {at_backup}");
    }
}

#[test]
fn a_worker_that_is_not_among_those_that_testify_serves_all_the_same() {
    let mut rig = Rig::new();
    rig.change_state(|state| state.evidence = Arc::new(Evidence::default()));
    let invite = rig.from_client(&request("INVITE", BOB, ""));
    let node = invite.to().unwrap();
    assert!(rig.from_node(&response(&invite, 200, "b1", ""), node).to().is_some());
    assert_eq!(account(&rig, node), Account::default());
}

#[test]
fn a_refusal_that_is_sent_until_it_is_acknowledged_is_one_call() {
    let mut rig = Rig::new();
    let invite = rig.from_client(&request("INVITE", BOB, ""));
    let node = invite.to().unwrap();
    let refusal = response(&invite, 503, "b1", "Retry-After: 7\r\n");
    rig.from_node(&refusal, node);
    let first = account(&rig, node);
    assert_eq!((first.calls_answered, first.calls_refused, first.retry_after), (1, 1, 1));
    // As timer G has it, for 32 s.
    for after_ms in [500, 1_000, 2_000, 4_000, 4_000, 4_000, 4_000, 4_000, 4_000, 4_000] {
        rig.now_ms += after_ms;
        assert!(rig.from_node(&refusal, node).to().is_some(), "it is forwarded all the same");
    }
    let again = account(&rig, node);
    assert_eq!(again.responses[4], 11, "each is heard");
    assert_eq!((again.calls_answered, again.calls_refused, again.retry_after), (1, 1, 1));
    assert_eq!(again.leave_alone_ds, first.leave_alone_ds, "7 s from the first");
    let before: u32 = (0..3).map(|peer| rig.shard.state().evidence.account(PeerId(peer)).calls_answered).sum();
    let other = rig.from_client(&fresh(1));
    rig.from_node(&response(&other, 486, "b1", ""), other.to().unwrap());
    let after: u32 = (0..3).map(|peer| rig.shard.state().evidence.account(PeerId(peer)).calls_answered).sum();
    assert_eq!((before, after), (1, 2), "another call is another");
}

#[test]
fn where_calls_go_to_dead_nodes_all_the_same_options_says_that_calls_are_taken() {
    let options = || request("OPTIONS", "sip:192.0.2.1", "");
    for (use_all, wanted) in [(false, 503), (true, 200)] {
        let mut rig = Rig::with(|parts| parts.policy.use_all_when_down = use_all);
        assert_eq!(rig.from_client(&options()).reply(), Some(200));
        rig.change_state(|state| state.vitals = Arc::new(Vitals::of_endpoints([Health::Down; 3])));
        assert_eq!(rig.from_client(&fresh(1)).to().is_some(), use_all);
        assert_eq!(rig.from_client(&options()).reply(), Some(wanted));
        rig.change_state(|state| state.draining = true);
        assert_eq!(rig.from_client(&options()).reply(), Some(503), "it is about to end");
    }
    let mut rig = Rig::with(|parts| {
        parts.policy.use_all_when_down = true;
        parts.nodes.iter_mut().for_each(|node| node.intent = Intent::Drain);
    });
    assert_eq!(rig.from_client(&options()).reply(), Some(503), "nobody is meant to serve");
}
