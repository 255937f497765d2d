//! Established dialogs over a kill -9: plain clients on several edge listeners and phones behind NAT, calls begun by
//! either side, and a restart with one node more, another weight, another order and another number of workers.

use std::net::SocketAddr;
use std::time::Duration;

use super::agent::Start;
use super::balancer::Balancer;
use super::dialog::State;
use super::lab::{Core, Nat};
use super::message::host_port;
use super::spec::{Node, Spec};
use super::world::{Call, Who, World};

#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) dialogs: usize,
    /// Re-INVITEs that reached the peer, were answered and acknowledged.
    pub(crate) reinvites: usize,
    pub(crate) byes: usize,
    /// What came where it should not have, after the restart.
    pub(crate) faults: Vec<String>,
}

impl Outcome {
    pub(crate) fn holds(&self) -> bool {
        self.reinvites == self.dialogs && self.byes == self.dialogs && self.faults.is_empty()
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { dialogs, reinvites, byes, faults } = self;
        write!(
            f,
            "{reinvites} of {dialogs} re-INVITEs and {byes} of {dialogs} BYEs reached their peer, {} astray",
            faults.len()
        )
    }
}

struct Cast {
    world: World,
    spec: Spec,
    /// Comes with the restart.
    fourth: Node,
    nodes: Vec<Who>,
    phones: Vec<Who>,
    clients: Vec<(Who, SocketAddr)>,
    edges: Vec<SocketAddr>,
    /// Kept so that they last as long as the world.
    _nats: Vec<Nat>,
}

/// How long a message that goes astray is waited for.
const PATIENCE: Duration = Duration::from_secs(2);

pub(crate) fn run(dialogs: usize, cookies: bool) -> Outcome {
    let core = Core::new();
    let mut cast = cast(&core);
    cast.spec.cookies = cookies;
    let mut balancer = Balancer::start(&core.place(), &cast.spec);
    let calls = establish(&mut cast, dialogs);
    assert_eq!(cast.world.faults(), Vec::<String>::new(), "before the restart");
    balancer.kill();
    balancer.start_again(&changed(&cast.spec, cast.fourth.clone()));
    let Cast { mut world, nodes, .. } = cast;
    let reinvites = reinvite(&mut world, &calls, &nodes);
    let byes = hang_up(&mut world, &calls, &nodes);
    Outcome { dialogs: calls.len(), reinvites, byes, faults: world.faults() }
}

fn cast(core: &Core) -> Cast {
    let at = |net, host, port| SocketAddr::new(core.address(net, host), port);
    let edges = vec![at(0, 1, 5060), at(0, 2, 5060), at(0, 3, 5080)];
    let (node_side, mut world) = (at(1, 1, 5060), World::new());
    let node_at: Vec<SocketAddr> = (1..=4).map(|host| at(2, host, 5060)).collect();
    let nodes: Vec<Who> =
        node_at.iter().enumerate().map(|(i, at)| world.add(&format!("node{i}"), &core.place(), *at)).collect();
    let clients = (1..=3).map(|host| (host, at(3, host, 5060)));
    let clients: Vec<(Who, SocketAddr)> =
        clients.map(|(host, at)| (world.add(&format!("client{host}"), &core.place(), at), at)).collect();
    let nats: Vec<Nat> = (0..2).map(|index| Nat::new(core, index)).collect();
    let inside = SocketAddr::new(Nat::PHONE, 5060);
    let phones =
        nats.iter().enumerate().map(|(i, nat)| world.add(&format!("phone{i}"), &nat.place(), inside)).collect();
    let mut spec = Spec::new(edges[0], node_side).listener("second", edges[1]).listener("third", edges[2]);
    spec = spec.nodes((0..3).map(|i| Node::new(format!("node{i}"), node_at[i])));
    let fourth = Node::new("node3", node_at[3]);
    Cast { world, spec, fourth, nodes, phones, clients, edges, _nats: nats }
}

/// One node more, one weight changed, all in another order, one worker more.
fn changed(spec: &Spec, added: Node) -> Spec {
    let mut changed = spec.clone().workers(spec.workers + 1);
    changed.nodes.push(added);
    changed.nodes[1].weight = 300;
    changed.nodes.reverse();
    changed
}

/// 45 % begun by plain clients, 20 % by phones behind NAT, 15 % by nodes to clients, 20 % by nodes to those phones;
/// without cookies there is no Path that a node could call a phone behind NAT by, and the phones begin those too.
fn establish(cast: &mut Cast, dialogs: usize) -> Vec<Call> {
    let Cast { world, spec, nodes, phones, clients, edges, .. } = cast;
    let mut calls = Vec::new();
    let times = |start: Start, percent: usize| vec![start; dialogs * percent / 100];
    for ((client, _), edge) in clients.iter().zip(edges.iter()) {
        calls.extend(world.call(*client, &times(Start::new(format!("sip:any@{edge}"), *edge), 15), State::Confirmed));
    }
    for (phone, edge) in phones.iter().zip(edges.iter()) {
        calls.extend(world.call(*phone, &times(Start::new(format!("sip:any@{edge}"), *edge), 10), State::Confirmed));
    }
    for ((node, (client, at)), _) in nodes.iter().zip(clients.iter()).zip(0..3) {
        let uri = format!("sip:{}@{at}", world.agent(*client).name);
        calls.extend(world.call(*node, &times(Start::new(uri, spec.node_side()), 5), State::Confirmed));
    }
    for (phone, edge) in phones.iter().zip(edges.iter()) {
        let (caller, start) = if spec.cookies {
            registered(world, *phone, nodes, *edge)
        } else {
            (*phone, Start::new(format!("sip:any@{edge}"), *edge))
        };
        calls.extend(world.call(caller, &times(start, 10), State::Confirmed));
    }
    (0..).zip(&mut calls).for_each(|(index, call)| call.index = index);
    let unknown = calls.iter().filter(|call| call.callee.is_none()).count();
    assert_eq!(unknown, 0, "calls that came to none or to several");
    calls
}

/// Registers a phone through `edge`, and says which node has it and how that node calls it, by its Path (RFC 3327).
pub(crate) fn registered(world: &mut World, phone: Who, nodes: &[Who], edge: SocketAddr) -> (Who, Start) {
    let name = world.agent(phone).name.clone();
    let id = world.agent_mut(phone).start("REGISTER", &Start::new("sip:example.com", edge));
    let answered = world.run(PATIENCE, |world| world.agent(phone).answers.contains_key(&id));
    assert!(answered, "{name} is not registered");
    let code = world.agent(phone).answers[&id].status();
    assert_eq!(code, Some(200), "{name}");
    let node = nodes.iter().copied().find(|node| world.agent(*node).bindings.contains_key(&name));
    let node = node.unwrap_or_else(|| panic!("no node has the binding of {name}"));
    let binding = world.agent(node).bindings[&name].clone();
    let first = binding.path.first().unwrap_or_else(|| panic!("{name} registered without Path"));
    let to = host_port(super::message::uri(first)).unwrap_or_else(|| panic!("no address in {first}"));
    (node, Start { uri: binding.contact, routes: binding.path.clone(), to, body: Vec::new() })
}

/// The two sides of a call: the one at the edge and the one in the cluster.
fn sides(call: &Call, nodes: &[Who]) -> (Who, Who) {
    let callee = call.callee.expect("known since the call was established");
    if nodes.contains(&call.caller) { (callee, call.caller) } else { (call.caller, callee) }
}

/// Re-INVITEs, every other one from the edge; how many went all the way: INVITE, 200, ACK.
fn reinvite(world: &mut World, calls: &[Call], nodes: &[Who]) -> usize {
    let way = |call: &Call| {
        let (edge, node) = sides(call, nodes);
        if call.index.is_multiple_of(2) { (edge, node) } else { (node, edge) }
    };
    let counts = |world: &World, call: &Call, (from, to): (Who, Who)| {
        [(from, "200 INVITE"), (to, "INVITE"), (to, "ACK")].map(|(who, what)| world.agent(who).got(&call.id, what))
    };
    let before: Vec<[usize; 3]> = calls.iter().map(|call| counts(world, call, way(call))).collect();
    world.each(
        calls,
        PATIENCE,
        |world, call| world.agent_mut(way(call).0).within("INVITE", &call.id),
        |world, call| counts(world, call, way(call)) == before[call.index].map(|count| count + 1),
    )
}

/// BYEs, every other pair from the edge; how many reached the peer and were answered.
fn hang_up(world: &mut World, calls: &[Call], nodes: &[Who]) -> usize {
    let way = |call: &Call| {
        let (edge, node) = sides(call, nodes);
        if (call.index / 2).is_multiple_of(2) { (edge, node) } else { (node, edge) }
    };
    world.each(
        calls,
        PATIENCE,
        |world, call| world.agent_mut(way(call).0).within("BYE", &call.id),
        |world, call| {
            let (from, to) = way(call);
            world.agent(from).got(&call.id, "200 BYE") == 1 && world.agent(to).got(&call.id, "BYE") == 1
        },
    )
}
