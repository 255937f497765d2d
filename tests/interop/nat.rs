//! Phones behind NATs of their own, with one and the same private address, can be called.

use std::net::SocketAddr;
use std::time::Duration;

use crate::harness::agent::Start;
use crate::harness::balancer::Balancer;
use crate::harness::dialog::State;
use crate::harness::kamailio::Kamailio;
use crate::harness::lab::{Core, Nat};
use crate::harness::restart::registered;
use crate::harness::spec::{Node, Spec};
use crate::harness::turn;
use crate::harness::world::{Call, Who, World};

const PATIENCE: Duration = Duration::from_secs(3);
const CALLS: usize = 10;

struct Scene {
    world: World,
    phones: Vec<Who>,
    nodes: Vec<Who>,
    edge: SocketAddr,
    _balancer: Balancer,
    _kamailio: Option<Kamailio>,
    _nats: Vec<Nat>,
    _core: Core,
}

/// Two phones behind two NATs, one edge listener, and as nodes either three user agents or one Kamailio.
fn scene(kamailio: bool) -> Scene {
    let core = Core::new();
    let at = |net, host| SocketAddr::new(core.address(net, host), 5060);
    let (edge, node_side) = (at(0, 1), at(1, 1));
    let nats: Vec<Nat> = (0..2).map(|index| Nat::new(&core, index)).collect();
    let mut world = World::new();
    let inside = SocketAddr::new(Nat::PHONE, 5060);
    let phones = nats.iter().zip(["alice", "bob"]).map(|(nat, name)| world.add(name, &nat.place(), inside)).collect();
    let node_at: Vec<SocketAddr> = (1..=if kamailio { 1 } else { 3 }).map(|host| at(2, host)).collect();
    let mut nodes = Vec::new();
    let mut started = None;
    if kamailio {
        started = Some(Kamailio::start(&core.place(), "kamailio-node.cfg", node_at[0], &[]));
    } else {
        nodes = node_at.iter().map(|at| world.add(&format!("node{at}"), &core.place(), *at)).collect();
    }
    let spec = Spec::new(edge, node_side).nodes(node_at.iter().map(|at| Node::new(format!("n{}", at.ip()), *at)));
    let balancer = Balancer::start(&core.place(), &spec);
    Scene { world, phones, nodes, edge, _balancer: balancer, _kamailio: started, _nats: nats, _core: core }
}

/// A re-INVITE from either side and a BYE from the callee in each call.
fn talk_and_hang_up(world: &mut World, calls: &[Call]) {
    let callee = |call: &Call| call.callee.expect("a call came to one other agent");
    let again = world.each(
        calls,
        PATIENCE,
        |world, call| world.agent_mut(callee(call)).within("INVITE", &call.id),
        |world, call| world.agent(call.caller).got(&call.id, "ACK") == 1,
    );
    assert_eq!(again, calls.len(), "re-INVITEs of the callee, {:?}", world.faults());
    let again = world.each(
        calls,
        PATIENCE,
        |world, call| world.agent_mut(call.caller).within("INVITE", &call.id),
        |world, call| world.agent(callee(call)).got(&call.id, "ACK") == 2,
    );
    assert_eq!(again, calls.len(), "re-INVITEs of the caller, {:?}", world.faults());
    let ended = world.each(
        calls,
        PATIENCE,
        |world, call| world.agent_mut(callee(call)).within("BYE", &call.id),
        |world, call| {
            world.agent(callee(call)).got(&call.id, "200 BYE") == 1
                && world.agent(call.caller).got(&call.id, "BYE") == 1
        },
    );
    assert_eq!(ended, calls.len(), "BYEs of the callee, {:?}", world.faults());
    assert_eq!(world.faults(), Vec::<String>::new());
}

#[test]
fn nodes_call_two_phones_with_the_same_private_contact() {
    let _turn = turn();
    let mut scene = scene(false);
    let world = &mut scene.world;
    for phone in scene.phones {
        let (node, start) = registered(world, phone, &scene.nodes, scene.edge);
        assert!(start.uri.contains("192.168.1.10"), "the Contact is the phone's own: {}", start.uri);
        let calls = world.call(node, &vec![start; CALLS], State::Confirmed);
        assert!(calls.iter().all(|call| call.callee == Some(phone)), "a call came to the wrong phone");
        talk_and_hang_up(world, &calls);
    }
}

#[test]
fn phones_behind_nat_call_the_cluster() {
    let _turn = turn();
    let mut scene = scene(false);
    for phone in scene.phones {
        let start = Start::new("sip:any@example.com", scene.edge);
        let calls = scene.world.call(phone, &vec![start; CALLS], State::Confirmed);
        assert!(calls.iter().all(|call| call.callee.is_some_and(|callee| scene.nodes.contains(&callee))));
        talk_and_hang_up(&mut scene.world, &calls);
    }
}

#[test]
fn phones_behind_nat_call_each_other_through_kamailio_as_node() {
    let _turn = turn();
    let mut scene = scene(true);
    let (alice, bob) = (scene.phones[0], scene.phones[1]);
    let world = &mut scene.world;
    for phone in [alice, bob] {
        let id = world.agent_mut(phone).start("REGISTER", &Start::new("sip:example.com", scene.edge).body(Vec::new()));
        assert!(world.run(PATIENCE, |world| world.agent(phone).answers.contains_key(&id)), "no answer to REGISTER");
        assert_eq!(world.agent(phone).answers[&id].status(), Some(200), "{:?}", world.agent(phone).answers[&id]);
    }
    for (caller, callee, name) in [(alice, bob, "bob"), (bob, alice, "alice")] {
        let start = Start::new(format!("sip:{name}@example.com"), scene.edge);
        let calls = world.call(caller, &vec![start; CALLS], State::Confirmed);
        assert!(calls.iter().all(|call| call.callee == Some(callee)), "a call came to the wrong phone");
        talk_and_hang_up(world, &calls);
    }
}
