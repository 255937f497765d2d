//! The plain scene of most tests: a core with one edge listener, one node side, some nodes and some clients.

use std::net::SocketAddr;
use std::time::Duration;

use super::agent::Start;
use super::balancer::Balancer;
use super::dialog::State;
use super::lab::Core;
use super::spec::{Node, Spec};
use super::world::{Call, Who, World};

pub(crate) const PATIENCE: Duration = Duration::from_secs(3);

pub(crate) struct Cluster {
    pub(crate) world: World,
    pub(crate) balancer: Balancer,
    pub(crate) spec: Spec,
    /// One for each node agent, whether the balancer knows it from the start or not.
    pub(crate) members: Vec<Node>,
    pub(crate) nodes: Vec<Who>,
    pub(crate) client: Who,
    pub(crate) edge: SocketAddr,
    pub(crate) core: Core,
}

impl Cluster {
    /// `count` nodes, of which the balancer is told `told`; `adapt` completes its config.
    pub(crate) fn new(count: u8, told: usize, adapt: impl FnOnce(Spec) -> Spec) -> Self {
        let core = Core::new();
        let at = |net, host| SocketAddr::new(core.address(net, host), 5060);
        let (edge, node_side) = (at(0, 1), at(1, 1));
        let mut world = World::new();
        let node_at: Vec<SocketAddr> = (1..=count).map(|host| at(2, host)).collect();
        let members: Vec<Node> =
            (0..).zip(&node_at).map(|(i, at)| Node::new(format!("node{i}"), *at)).collect::<Vec<_>>();
        let nodes = members.iter().map(|node: &Node| world.add(&node.name, &core.place(), node.address)).collect();
        let client = world.add("client", &core.place(), at(3, 1));
        let spec = adapt(Spec::new(edge, node_side).nodes(members.iter().take(told).cloned()));
        let balancer = Balancer::start(&core.place(), &spec);
        Self { world, balancer, spec, members, nodes, client, edge, core }
    }

    /// A request to this address at the edge.
    pub(crate) fn start(&self) -> Start {
        Start::new(format!("sip:any@{}", self.edge), self.edge)
    }

    /// Calls of the client, in `state`.
    pub(crate) fn calls(&mut self, count: usize, state: State) -> Vec<Call> {
        let starts = vec![self.start(); count];
        self.world.call(self.client, &starts, state)
    }

    /// How many of `calls` came to each node.
    pub(crate) fn spread(&self, calls: &[Call]) -> Vec<usize> {
        self.nodes.iter().map(|node| calls.iter().filter(|call| call.callee == Some(*node)).count()).collect()
    }

    /// The status that a request of the client outside dialogs is answered with.
    pub(crate) fn status(&mut self, method: &str, start: &Start) -> Option<u16> {
        let client = self.client;
        let id = self.world.agent_mut(client).start(method, start);
        self.world.run(PATIENCE, |world| world.agent(client).answers.contains_key(&id));
        self.world.agent(client).answers.get(&id).and_then(super::message::Message::status)
    }

    /// All that the nodes received.
    pub(crate) fn received_by_nodes(&self) -> usize {
        self.nodes.iter().map(|node| self.world.agent(*node).received.len()).sum()
    }
}
