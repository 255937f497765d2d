//! What changes while it serves: neighbours, links, routes; and its end.

use std::process::Command;
use std::time::Duration;

use crate::harness::namespace::Namespace;
use crate::harness::{turn, wait_until};
use crate::rig::{Rig, ping};

const LIMIT: Duration = Duration::from_secs(15);

/// Calls go past the kernel again, and no frame was lost on the way there.
fn bypasses(rig: &mut Rig) {
    rig.warm_up();
    let before = rig.counters();
    (0..10).for_each(|_| rig.exchange(100));
    assert_eq!(rig.since(&before, "slow_"), 0);
    rig.balanced();
}

/// Whether a program is attached to any link of a namespace.
fn attached(namespace: &Namespace) -> bool {
    let shown = Command::new("ip").args(["-n", namespace.name(), "link", "show"]).output().unwrap();
    String::from_utf8_lossy(&shown.stdout).contains("xdp")
}

#[test]
fn a_neighbour_that_changes_its_ethernet_address_is_found_again() {
    let _turn = turn();
    let mut rig = Rig::new(1, false, "");
    rig.warm_up();
    let [_, _, node] = rig.path.namespaces();
    node.ip("link set wan address 02:25:00:00:00:99");
    // The kernel learns the new address from the next word of the neighbour, as it would without us.
    assert!(ping(node, "10.79.2.1".parse().unwrap(), 56));
    let found = wait_until(LIMIT, || rig.try_exchange(100, Duration::from_millis(200)));
    assert!(found, "{:#?}", rig.counters());
    bypasses(&mut rig);
}

#[test]
fn our_own_ethernet_address_may_change_too() {
    let _turn = turn();
    let mut rig = Rig::new(1, false, "");
    rig.warm_up();
    let [client, middle, _] = rig.path.namespaces();
    middle.ip("link set edge address 02:25:00:00:00:77");
    client.ip("neigh flush dev wan");
    let found = wait_until(LIMIT, || rig.try_exchange(100, Duration::from_millis(200)));
    assert!(found, "{:#?}", rig.counters());
    rig.warm_up();
    rig.balanced();
}

#[test]
fn a_link_that_goes_down_loses_no_frame_and_serves_again_when_it_is_up() {
    let _turn = turn();
    let mut rig = Rig::new(1, false, "");
    rig.warm_up();
    let [_, middle, _] = rig.path.namespaces();
    middle.ip("link set nodes down");
    for _ in 0..20 {
        assert!(!rig.try_exchange(100, Duration::from_millis(20)), "there is no way to the node");
    }
    rig.balanced();
    let [_, middle, _] = rig.path.namespaces();
    middle.ip("link set nodes up");
    let served = wait_until(LIMIT, || rig.try_exchange(100, Duration::from_millis(200)));
    assert!(served, "{:#?}", rig.counters());
    bypasses(&mut rig);
}

#[test]
fn clients_behind_a_router_are_reached_through_it_and_through_the_next_one_when_the_route_changes() {
    let _turn = turn();
    let mut rig = Rig::new(1, false, "");
    rig.warm_up();
    let [client, middle, _] = rig.path.namespaces();
    client.address("lo", "10.25.200.1/32");
    client.address("wan", "10.79.1.3/24");
    middle.ip("route add default via 10.79.1.2");
    rig.client = client.place().socket("10.25.200.1:5090".parse().unwrap());
    rig.warm_up();
    let before = rig.counters();
    let [_, middle, _] = rig.path.namespaces();
    middle.ip("route change default via 10.79.1.3");
    // The next router is nobody's neighbour before something was sent to it by the slow path.
    let changed = wait_until(LIMIT, || {
        rig.exchange(100);
        rig.since(&before, "next_hop_unknown") > 0
    });
    assert!(changed, "{:#?}", rig.counters());
    bypasses(&mut rig);
}

#[test]
fn killed_or_ended_in_order_it_leaves_nothing_at_the_links_and_starts_again() {
    let _turn = turn();
    let mut rig = Rig::new(4, false, "");
    let middle = rig.path.namespaces()[1];
    assert!(attached(middle));
    rig.balancer.kill();
    let clean = wait_until(LIMIT, || !attached(rig.path.namespaces()[1]));
    assert!(clean, "a program stayed behind");
    let [client, middle, _] = rig.path.namespaces();
    assert!(ping(client, "10.79.1.1".parse().unwrap(), 56));

    let spec = crate::harness::spec::Spec::new(rig.edge, "10.79.2.1:5060".parse().unwrap());
    let spec = spec.nodes([crate::harness::spec::Node::new("node0", "10.79.2.2:5060".parse().unwrap())]).workers(4);
    let spec = spec.tuning(&crate::rig::tuning(""));
    let mut balancer = crate::harness::balancer::Balancer::start(&middle.place(), &spec);
    assert!(attached(middle));
    balancer.terminate();
    balancer.ended(LIMIT);
    assert!(!attached(middle), "a program stayed behind");
}
