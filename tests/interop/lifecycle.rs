//! Reload, drain and counters, as an operator meets them.

use std::time::Duration;

use crate::harness::agent::{Policy, Start};
use crate::harness::cluster::{Cluster, PATIENCE};
use crate::harness::dialog::State;
use crate::harness::turn;

#[test]
fn a_reload_moves_new_calls_to_the_new_nodes() {
    let _turn = turn();
    let mut cluster = Cluster::new(3, 2, |spec| spec);
    let before = cluster.calls(30, State::Confirmed);
    let spread = cluster.spread(&before);
    assert!(spread[0] > 0 && spread[1] > 0 && spread[2] == 0, "{spread:?}");
    cluster.spec.nodes = vec![cluster.members[2].clone()];
    cluster.balancer.reload(&cluster.spec);
    let after = cluster.calls(30, State::Confirmed);
    assert_eq!(cluster.spread(&after), [0, 0, 30]);
    assert_eq!(cluster.world.faults(), Vec::<String>::new());
}

#[test]
fn a_bad_file_is_refused_and_the_old_plan_kept() {
    let _turn = turn();
    let mut cluster = Cluster::new(2, 1, |spec| spec);
    let good = cluster.spec.sipring_toml();
    let other = cluster.spec.clone().nodes([cluster.members[1].clone()]).sipring_toml();
    let bad = [
        (other.replace("[[set]]", "[[set"), "a file that is no TOML"),
        (other.replace("weight = 100", "wieght = 100"), "an unknown key"),
        (other.replace("set = \"cluster\"", "set = \"elsewhere\""), "a set that is not there"),
        (other.replace("weight = 100", "weight = 0"), "a weight out of range"),
    ];
    for (text, what) in bad {
        assert_ne!(text, other, "{what}");
        let line = cluster.balancer.reload_text(&text).to_lowercase();
        assert!(line.contains("refused"), "{what}: {line}");
        let calls = cluster.calls(20, State::Confirmed);
        assert_eq!(cluster.spread(&calls), [20, 0], "{what}");
    }
    let moved = good.replace("10.77.0.1:5060", "10.77.0.1:5070");
    let line = cluster.balancer.reload_text(&moved);
    assert!(line.contains("needs a restart"), "a moved listener: {line}");
    let calls = cluster.calls(20, State::Confirmed);
    assert_eq!(cluster.spread(&calls), [20, 0]);
    assert_eq!(cluster.world.faults(), Vec::<String>::new());
}

#[test]
fn sigterm_lets_calls_end_and_begins_none() {
    let _turn = turn();
    let mut cluster = Cluster::new(2, 2, |mut spec| {
        spec.drain_max_s = 60;
        spec
    });
    let to_us = Start::new(format!("sip:{}", cluster.edge), cluster.edge).body(Vec::new());
    assert_eq!(cluster.status("OPTIONS", &to_us), Some(200));
    let talking = cluster.calls(10, State::Confirmed);
    cluster.world.policy(&cluster.nodes, Policy::Ring);
    let ringing = cluster.calls(10, State::Ringing);
    cluster.balancer.terminate();
    let mut answers =
        std::iter::repeat_with(|| cluster.status("OPTIONS", &to_us)).take(2_000).take_while(Option::is_some);
    let drains = answers.any(|code| code == Some(503));
    assert!(drains, "OPTIONS is not answered 503 after SIGTERM");

    let client = cluster.client;
    let start = cluster.start();
    let new = cluster.world.agent_mut(client).start("INVITE", &start);
    assert!(cluster.world.run(PATIENCE, |world| world.agent(client).got(&new, "503 INVITE") == 1), "a new call");
    let told = cluster.world.agent(client).received.iter().find(|m| m.call_id() == new && m.status() == Some(503));
    assert!(told.is_some_and(|m| !m.header("Retry-After").is_empty()), "503 without Retry-After");

    let ended = cluster.world.each(
        &talking,
        PATIENCE,
        |world, call| world.agent_mut(call.caller).within("BYE", &call.id),
        |world, call| world.agent(call.caller).got(&call.id, "200 BYE") == 1,
    );
    assert_eq!(ended, talking.len(), "calls that were established when SIGTERM came");
    let answered = cluster.world.each(
        &ringing,
        PATIENCE,
        |world, call| world.agent_mut(call.callee.expect("rings")).answer(&call.id, 200),
        |world, call| world.agent(call.callee.expect("rings")).got(&call.id, "ACK") == 1,
    );
    assert_eq!(answered, ringing.len(), "calls that rang when SIGTERM came");
    let counters = cluster.balancer.ended(Duration::from_secs(12));
    assert!(!counters.is_empty(), "no counters at exit");
    assert_eq!(cluster.world.faults(), Vec::<String>::new());
}

#[test]
fn counters_grow_with_the_traffic() {
    let _turn = turn();
    let mut cluster = Cluster::new(2, 2, |spec| spec.workers(2));
    let sum = |cluster: &mut Cluster, label: &str| {
        let counters = cluster.balancer.counters();
        counters.iter().filter(|(name, _)| name.contains(label)).map(|(_, value)| value).sum::<u64>()
    };
    cluster.calls(10, State::Confirmed);
    let first = sum(&mut cluster, "kind=\"forward\"");
    assert!(first >= 30, "INVITE, 200 and ACK of ten calls: {first}");
    cluster.calls(10, State::Confirmed);
    let second = sum(&mut cluster, "kind=\"forward\"");
    assert!(second >= first + 30, "{first}, then {second}");
    assert_eq!(sum(&mut cluster, "books_wrong"), 0);
}
