//! Large datagrams over links with an MTU of 1,500: bodies compared byte by byte behind the balancer.

use std::time::Duration;

use super::agent::Start;
use super::balancer::{Balancer, Counters};
use super::dialog::State;
use super::lab::Path;
use super::spec::{Node, Spec};
use super::world::World;

/// Bytes of body. The last fills the datagram up to what our own headers may add.
pub(crate) const SIZES: [usize; 4] = [1_300, 5_000, 20_000, 64_500];

#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) v6: bool,
    pub(crate) from_node: bool,
    pub(crate) size: usize,
    /// The INVITE came to the other side with these very bytes, and so did the 200 that brought them back.
    pub(crate) there: bool,
    pub(crate) back: bool,
}

impl std::fmt::Display for Row {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ip = if self.v6 { "IPv6" } else { "IPv4" };
        let way = if self.from_node { "node to client" } else { "client to node" };
        let said = |ok: bool| if ok { "unharmed" } else { "LOST OR HARMED" };
        write!(f, "{ip} {way} {:>6} bytes of body: INVITE {}, its 200 {}", self.size, said(self.there), said(self.back))
    }
}

pub(crate) fn run() -> Vec<Row> {
    let path = Path::new();
    [false, true].into_iter().flat_map(|v6| family(&path, v6, "").0).collect()
}

/// All sizes in one family, with further lines of `cpus.toml`; and what was counted.
pub(crate) fn family(path: &Path, v6: bool, tuning: &str) -> (Vec<Row>, Counters) {
    let (client_at, edge) = (Path::at(v6, "1.2", 5060), Path::at(v6, "1.1", 5060));
    let (node_at, node_side) = (Path::at(v6, "2.2", 5060), Path::at(v6, "2.1", 5060));
    let spec = Spec::new(edge, node_side).nodes([Node::new("node0", node_at)]).tuning(tuning);
    let mut balancer = Balancer::start(&path.middle(), &spec);
    let mut world = World::new();
    let client = world.add("client", &path.client(), client_at);
    let node = world.add("node0", &path.node(), node_at);
    let mut rows = Vec::new();
    for size in SIZES {
        for from_node in [false, true] {
            let (from, to) = if from_node { (node, client) } else { (client, node) };
            let (uri, first) = if from_node { (client_at, node_side) } else { (edge, edge) };
            let body = body(size);
            let start = Start::new(format!("sip:any@{uri}"), first).body(body.clone());
            let id = world.agent_mut(from).start("INVITE", &start);
            world.run(Duration::from_secs(3), |world| world.agent(from).state(&id) == Some(State::Confirmed));
            let came = |who, method: &str| {
                let mut messages =
                    world.agent(who).received.iter().filter(|m| m.call_id() == id && m.cseq().1 == "INVITE");
                messages.any(|m| m.start.starts_with(method) && m.body == body)
            };
            rows.push(Row { v6, from_node, size, there: came(to, "INVITE"), back: came(from, "SIP/2.0 200") });
        }
    }
    (rows, balancer.counters())
}

/// Bytes of every value, line ends and NUL among them, that no shift by a fragment leaves equal.
fn body(size: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64 ^ size as u64;
    let byte = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    std::iter::repeat_with(byte).take(size).collect()
}
