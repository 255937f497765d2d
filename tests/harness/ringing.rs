//! Calls that ring while the table of nodes changes under them: what comes later for them, their CANCELs, the ACKs to
//! their refusals and their retransmissions, belongs to the node that rings.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::agent::{Policy, Start};
use super::balancer::Balancer;
use super::dialog::State;
use super::lab::Core;
use super::spec::{Node, Spec};
use super::world::{Call, Who, World};

#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) calls: usize,
    pub(crate) rang: Duration,
    /// Calls one of whose messages did not come to the node that rings.
    pub(crate) wrong: usize,
    pub(crate) retransmissions: usize,
    pub(crate) faults: Vec<String>,
    /// New calls by node at the start and after each change, as told.
    pub(crate) tables: Vec<(String, Vec<usize>)>,
    /// The changes had the effect they should have on new calls.
    pub(crate) took_effect: bool,
}

impl Outcome {
    pub(crate) fn holds(&self) -> bool {
        self.wrong == 0 && self.faults.is_empty() && self.took_effect
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (change, spread) in &self.tables {
            writeln!(f, "  {change:<28} new calls by node {spread:?}")?;
        }
        let Self { calls, rang, wrong, retransmissions, faults, .. } = self;
        let rang = rang.as_secs();
        let astray = faults.len();
        write!(
            f,
            "  {wrong} of {calls} wrong after {rang} s of ringing, {retransmissions} retransmissions, {astray} astray"
        )
    }
}

struct Stage {
    world: World,
    balancer: Balancer,
    clients: Vec<Who>,
    nodes: Vec<Who>,
    edge: SocketAddr,
    calls: Vec<Call>,
    late: HashMap<String, usize>,
    retransmissions: usize,
}

/// What an operator changes in a config that has room for all of these nodes.
type Change = fn(&mut Spec, &[Node]);

const PATIENCE: Duration = Duration::from_secs(3);
const NEW_CALLS: usize = 60;

pub(crate) fn run(calls: usize, ring: Duration) -> Outcome {
    let core = Core::new();
    let at = |net, host| SocketAddr::new(core.address(net, host), 5060);
    let (edge, node_side) = (at(0, 1), at(1, 1));
    let mut world = World::new();
    let node_at: Vec<SocketAddr> = (1..=4).map(|host| at(2, host)).collect();
    let nodes: Vec<Who> =
        node_at.iter().enumerate().map(|(i, at)| world.add(&format!("node{i}"), &core.place(), *at)).collect();
    let clients: Vec<Who> =
        (1..=2).map(|host| world.add(&format!("client{host}"), &core.place(), at(3, host))).collect();
    world.policy(&nodes, Policy::Ring);
    let all: Vec<Node> = node_at.iter().enumerate().map(|(i, at)| Node::new(format!("node{i}"), *at)).collect();
    let mut spec = Spec::new(edge, node_side).nodes(all[..3].to_vec()).workers(2);
    let balancer = Balancer::start(&core.place(), &spec);
    let begun = Instant::now();
    let mut stage =
        Stage { world, balancer, clients, nodes, edge, calls: Vec::new(), late: HashMap::new(), retransmissions: 0 };
    stage.calls = stage.ring(calls);
    let mut tables = vec![("three nodes".to_owned(), stage.new_calls())];
    let steps: [(&str, Change); 4] = [
        ("a node added", |spec, all| spec.nodes.push(all[3].clone())),
        ("another drained", |spec, _| spec.nodes[1].intent = "drain"),
        ("returned", |spec, _| spec.nodes[1].intent = "serve"),
        ("a weight changed to 1,000", |spec, _| spec.nodes[2].weight = 1000),
    ];
    for (index, (name, change)) in (1u32..).zip(steps) {
        stage.world.run((begun + ring * index / 5).saturating_duration_since(Instant::now()), |_| false);
        change(&mut spec, &all);
        stage.balancer.reload(&spec);
        stage.retransmit(index as usize);
        tables.push((name.to_owned(), stage.new_calls()));
    }
    stage.world.run((begun + ring).saturating_duration_since(Instant::now()), |_| false);
    let rang = begun.elapsed();
    let ended = stage.end();
    let took_effect = took_effect(&tables);
    let wrong = calls - ended;
    Outcome {
        calls,
        rang,
        wrong,
        retransmissions: stage.retransmissions,
        faults: stage.world.faults(),
        tables,
        took_effect,
    }
}

/// The added node gets calls, the drained one none, the returned one some, the heavy one most.
fn took_effect(tables: &[(String, Vec<usize>)]) -> bool {
    let by = |step: usize, node: usize| tables[step].1[node];
    let heavy = (0..4).filter(|node| *node != 2).all(|node| by(4, 2) > by(4, node));
    by(0, 3) == 0 && by(1, 3) > 0 && by(2, 1) == 0 && by(3, 1) > 0 && heavy
}

impl Stage {
    /// Starts calls from both clients and waits until all ring.
    fn ring(&mut self, count: usize) -> Vec<Call> {
        let starts = vec![Start::new(format!("sip:any@{}", self.edge), self.edge); count.div_ceil(2)];
        let mut calls = Vec::new();
        for client in self.clients.clone() {
            let rest = (count - calls.len()).min(starts.len());
            calls.extend(self.world.call(client, &starts[..rest], State::Ringing));
        }
        assert!(calls.iter().all(|call| call.callee.is_some()), "a call rings nowhere or at two nodes");
        calls
    }

    /// New calls, refused by the nodes they come to; how many came to each.
    fn new_calls(&mut self) -> Vec<usize> {
        let calls = self.ring(NEW_CALLS);
        let ended = self.world.each(
            &calls,
            PATIENCE,
            |world, call| answer(world, call, 486),
            |world, call| refused(world, call, 486),
        );
        assert_eq!(ended, calls.len(), "new calls that were not refused whole: {:?}", self.world.faults());
        self.nodes.iter().map(|node| calls.iter().filter(|call| call.callee == Some(*node)).count()).collect()
    }

    /// Every fourth INVITE once more, others each time; those that did not come to their node are wrong.
    fn retransmit(&mut self, round: usize) {
        let some: Vec<Call> = self.calls.iter().skip(round % 4).step_by(4).cloned().collect();
        self.again(&some);
    }

    fn again(&mut self, calls: &[Call]) {
        let heard = |world: &World, call: &Call| node(world, call).got(&call.id, "INVITE again");
        for call in calls {
            self.late.insert(call.id.clone(), heard(&self.world, call));
        }
        let late = &self.late;
        self.world.each(
            calls,
            PATIENCE,
            |world, call| world.agent(call.caller).retransmit(&call.id),
            |world, call| heard(world, call) > late[&call.id],
        );
        self.retransmissions += calls.len();
        for call in calls {
            let reached = heard(&self.world, call) > self.late[&call.id];
            if reached {
                self.late.remove(&call.id);
            }
        }
    }

    /// A third is cancelled, a third refused, a third retransmitted and then refused; how many went all the way.
    fn end(&mut self) -> usize {
        let third = |of: usize| self.calls.iter().skip(of).step_by(3).cloned().collect::<Vec<Call>>();
        let (cancelled, busy, declined) = (third(0), third(1), third(2));
        self.again(&declined);
        let world = &mut self.world;
        world.each(&cancelled, PATIENCE, |world, call| world.agent_mut(call.caller).cancel(&call.id), was_cancelled);
        world.each(&busy, PATIENCE, |world, call| answer(world, call, 486), |world, call| refused(world, call, 486));
        world.each(
            &declined,
            PATIENCE,
            |world, call| answer(world, call, 603),
            |world, call| refused(world, call, 603),
        );
        let whole = |calls: &[Call], ended: &dyn Fn(&World, &Call) -> bool| {
            calls.iter().filter(|call| ended(world, call) && !self.late.contains_key(&call.id)).count()
        };
        whole(&cancelled, &was_cancelled)
            + whole(&busy, &|world, call| refused(world, call, 486))
            + whole(&declined, &|world, call| refused(world, call, 603))
    }
}

fn node<'a>(world: &'a World, call: &Call) -> &'a super::agent::Agent {
    world.agent(call.callee.expect("rings at a node"))
}

fn answer(world: &mut World, call: &Call, code: u16) {
    let callee = call.callee.expect("rings at a node");
    world.agent_mut(callee).answer(&call.id, code);
}

fn refused(world: &World, call: &Call, code: u16) -> bool {
    let told = world.agent(call.caller).got(&call.id, &format!("{code} INVITE")) > 0;
    told && node(world, call).got(&call.id, &format!("ACK to {code}")) == 1
}

fn was_cancelled(world: &World, call: &Call) -> bool {
    let heard = node(world, call).got(&call.id, "CANCEL") == 1;
    heard && world.agent(call.caller).got(&call.id, "200 CANCEL") == 1 && refused(world, call, 487)
}
