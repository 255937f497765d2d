//! Calls through frames: by SIPp and by plain sockets, in both families, over one queue and several.

use crate::harness::balancer::{Balancer, sum};
use crate::harness::lab::Path;
use crate::harness::sipp::{Run, Sipp};
use crate::harness::spec::{Node, Spec};
use crate::harness::turn;
use crate::rig::{Rig, balanced, tuning};

/// Messages of one call: INVITE, 180, 200, ACK, BYE, 200.
const MESSAGES: u64 = 6;

fn sipp_calls(v6: bool, queues: u16) {
    const CALLS: u32 = 200;
    let path = Path::with_queues(queues);
    let at = |host: &str, port: u16| Path::at(v6, host, port);
    let node_at = at("2.2", 5060);
    let spec = Spec::new(at("1.1", 5060), at("2.1", 5060)).nodes([Node::new("node0", node_at)]).workers(queues);
    let mut balancer = Balancer::start(&path.middle(), &spec.tuning(&tuning("")));
    let run = |scenario, place, local, remote| Run {
        scenario,
        place,
        local,
        remote,
        target: at("1.1", 5060),
        rate: 100,
        calls: CALLS,
        pause_ms: 50,
    };
    let (client, node) = (path.client(), path.node());
    let callee = Sipp::start("uas", &run("uas-call.xml", &node, node_at, None));
    let caller = Sipp::start("uac", &run("uac-call.xml", &client, at("1.2", 5070), Some(at("1.1", 5060)))).finish();
    let callee = callee.stop();
    assert_eq!((caller.successful, caller.failed, callee.failed), (u64::from(CALLS), 0, 0), "{caller:?} {callee:?}");
    let counters = balanced(&mut balancer);
    let of = |name: &str| sum(&counters, &[name]);
    let again = caller.retransmissions + callee.retransmissions;
    let (received, sent) = (of("sipring_datagrams_received{"), of("sipring_datagrams_sent{"));
    let wanted = u64::from(CALLS) * MESSAGES;
    assert!((wanted..=wanted + again).contains(&received), "{received} of {wanted}, {again} sent again");
    assert_eq!(sent, received, "{counters:#?}");
    assert_eq!((of("slow_received"), of("frames_dropped"), of("frames_foreign")), (0, 0, 0), "{counters:#?}");
    assert!(of("slow_sent") < sent / 2, "only until next hops are known: {counters:#?}");
    // Within a turn, what follows one that takes the slow path must not overtake it.
    assert!((1..=of("slow_sent")).contains(&of("next_hop_unknown")), "{counters:#?}");
}

#[test]
fn calls_of_sipp_cross_in_frames_over_ipv4_and_one_queue() {
    let _turn = turn();
    sipp_calls(false, 1);
}

#[test]
fn calls_of_sipp_cross_in_frames_over_ipv6_and_four_queues() {
    let _turn = turn();
    sipp_calls(true, 4);
}

#[test]
fn messages_of_any_length_that_a_frame_holds_cross_whole_in_both_families() {
    let _turn = turn();
    for v6 in [false, true] {
        let mut rig = Rig::new(1, v6, "dscp = 24\n");
        rig.warm_up();
        let before = rig.counters();
        for body in [0, 1, 2, 3, 60, 333, 700, 900] {
            rig.exchange(body);
        }
        assert_eq!(rig.since(&before, "slow_"), 0);
        assert_eq!(rig.since(&before, "sipring_datagrams_sent{"), 16);
        rig.balanced();
    }
}

#[test]
fn a_program_in_the_kernels_stack_serves_where_the_driver_has_none() {
    let _turn = turn();
    let mut rig = Rig::new(1, false, "mode = \"generic\"\nzero_copy = \"off\"\n");
    assert!(rig.balancer.process().said().contains("edge generic, nodes generic, copy"));
    rig.warm_up();
    let before = rig.counters();
    (0..20).for_each(|_| rig.exchange(300));
    assert_eq!(rig.since(&before, "slow_"), 0);
    rig.balanced();
}

#[test]
fn a_worker_that_polls_busily_serves_and_still_hears_its_mail() {
    let _turn = turn();
    let mut rig = Rig::new(1, false, "busy_poll_us = 1000000\n");
    rig.warm_up();
    let before = rig.counters();
    (0..50).for_each(|_| rig.exchange(300));
    assert_eq!(rig.since(&before, "slow_"), 0);
    rig.balanced();
    rig.balancer.terminate();
    rig.balancer.ended(std::time::Duration::from_secs(10));
}

/// Messages that each worker received, and how many were handed over, when many clients send.
fn many_clients(owner_handoff: bool) -> (Vec<u64>, u64) {
    let further = format!("owner_handoff = {owner_handoff}\n---");
    let mut rig = Rig::new(4, false, &further);
    rig.warm_up();
    for port in 0..64 {
        rig.client = rig.path.client().socket(Path::at(false, "1.2", 20_000 + port));
        rig.exchange(100);
    }
    // No rule of a veth brings responses to their owner.
    let warned = |(_, line): &(_, String)| line.contains("event=worker_ports_without_rule ");
    assert_eq!(rig.balancer.process().lines(0).iter().any(warned), owner_handoff);
    rig.balanced();
    let counters = rig.counters();
    assert_eq!((sum(&counters, &["frames_dropped"]), sum(&counters, &["sipring_drop{"])), (0, 0), "{counters:#?}");
    let of = |worker| sum(&counters, &[&format!("sipring_datagrams_received{{worker=\"{worker}\"}}")]);
    let received: Vec<u64> = (0..4).map(of).collect();
    (received, sum(&counters, &["kind=\"handoff\""]))
}

#[test]
fn messages_of_many_clients_reach_all_queues_and_whichever_worker_gets_one_forwards_it() {
    let _turn = turn();
    let (received, handed) = many_clients(false);
    println!("received by worker {received:?}, handed over {handed}");
    assert_eq!(handed, 0);
    assert!(received.iter().all(|count| *count > 0), "{received:?}");
}

#[test]
fn frames_handed_over_to_their_owner_are_forwarded_there_and_none_is_lost() {
    let _turn = turn();
    let (received, handed) = many_clients(true);
    let all: u64 = received.iter().sum();
    println!("received by worker {received:?}, handed over {handed}: {} % of {all}", handed * 100 / all);
    assert!(handed > 0 && handed < all, "{handed} of {all}");
}
