//! Call flows by SIPp through the balancer to three nodes, and the check that each call stayed on one of them.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::balancer::{Balancer, Counters};
use super::kamailio::Kamailio;
use super::namespace::Place;
use super::ports;
use super::sipp::{Outcome, Run, Sipp};
use super::spec::{Node, Spec, WORKER_PORTS};

/// Who does what; the two scenarios of a flow share its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    Call,
    Busy,
    Cancel,
    Hangup,
    Reinvite,
}

impl Flow {
    pub(crate) const ALL: [Self; 5] = [Self::Call, Self::Busy, Self::Cancel, Self::Hangup, Self::Reinvite];

    fn name(self) -> &'static str {
        match self {
            Self::Call => "call",
            Self::Busy => "busy",
            Self::Cancel => "cancel",
            Self::Hangup => "hangup",
            Self::Reinvite => "reinvite",
        }
    }

    /// Messages that the answering side receives in one call.
    fn received_by_callee(self) -> u32 {
        match self {
            Self::Busy => 2,
            Self::Call | Self::Cancel | Self::Hangup => 3,
            // INVITE, ACK, INVITE, ACK, 200, BYE
            Self::Reinvite => 6,
        }
    }

    /// Messages that the calling side receives in one call: provisional and final responses, and requests.
    fn received_by_caller(self) -> u32 {
        match self {
            Self::Busy => 2,
            Self::Call | Self::Cancel | Self::Hangup => 3,
            // 180, 200, 200, INVITE, ACK, 200
            Self::Reinvite => 6,
        }
    }
}

/// One row: a flow under a load in one network.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    pub(crate) flow: Flow,
    /// The calls begin at the nodes.
    pub(crate) from_nodes: bool,
    pub(crate) v6: bool,
    pub(crate) workers: u16,
    /// The balancer's; none: as the environment says.
    pub(crate) datapath: Option<&'static str>,
    pub(crate) rate: u32,
    pub(crate) seconds: u32,
    pub(crate) pause_ms: u32,
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let begun = if self.from_nodes { "node" } else { "client" };
        let ip = if self.v6 { "IPv6" } else { "IPv4" };
        write!(f, "{:<9} by {begun:<6} {ip} {} worker(s)", self.flow.name(), self.workers)?;
        self.datapath.map_or(Ok(()), |datapath| write!(f, " over {datapath}"))
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Report {
    pub(crate) row: Row,
    pub(crate) calls: u64,
    /// Calls that failed at the caller or at the callee.
    pub(crate) failed: u64,
    /// Calls of which messages came to more than one node, or fewer than the flow has.
    pub(crate) split: u64,
    pub(crate) strays: u64,
    pub(crate) retransmissions: u64,
    pub(crate) per_node: Vec<u64>,
    pub(crate) counters: Counters,
    pub(crate) errors: String,
}

impl Report {
    pub(crate) fn holds(&self) -> bool {
        let wanted = u64::from(self.row.rate) * u64::from(self.row.seconds);
        let spread = self.per_node.iter().all(|calls| *calls > 0);
        self.calls >= wanted && self.failed == 0 && self.split == 0 && self.strays == 0 && spread
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {:>6} calls, {} failed, {} not whole on one node, {} stray, {} retransmissions, by node {:?}",
            self.row, self.calls, self.failed, self.split, self.strays, self.retransmissions, self.per_node
        )
    }
}

/// Where everything listens.
struct Net {
    client: SocketAddr,
    edge: SocketAddr,
    node_side: SocketAddr,
    nodes: Vec<SocketAddr>,
}

impl Net {
    fn new(v6: bool, nodes: u8) -> Self {
        let at = |host: u8, count: u16| {
            let ip: IpAddr = if v6 { Ipv6Addr::LOCALHOST.into() } else { Ipv4Addr::new(127, 0, 0, host).into() };
            SocketAddr::new(ip, ports::free(count))
        };
        Self {
            client: at(1, 1),
            edge: at(2, 1),
            node_side: at(3, 1 + WORKER_PORTS),
            nodes: (0..nodes).map(|index| at(11 + index, 1)).collect(),
        }
    }

    fn spec(&self, row: Row) -> Spec {
        let nodes = self.nodes.iter().enumerate().map(|(index, at)| Node::new(format!("node{index}"), *at));
        // Other balancers of this machine may have the usual port.
        let spec =
            Spec::new(self.edge, self.node_side).nodes(nodes).workers(row.workers).tables("[admin]\nbind = \"off\"\n");
        row.datapath.map_or(spec.clone(), |datapath| spec.datapath(datapath))
    }
}

/// Runs one row on loopback.
pub(crate) fn run(row: Row) -> Report {
    let net = Net::new(row.v6, 3);
    let here = Place::here();
    let mut balancer = Balancer::start(&here, &net.spec(row));
    let (client, nodes) =
        if row.from_nodes { by_nodes(row, &net, &here) } else { by_client(row, &net, &here, net.edge) };
    report(row, &client, &nodes, balancer.counters())
}

/// The same through an element that stands between the client and the balancer, which `start_first` starts before the edge address it is given.
pub(crate) fn run_behind(row: Row, start_first: impl FnOnce(SocketAddr) -> (SocketAddr, Kamailio)) -> Report {
    let net = Net::new(row.v6, 3);
    let here = Place::here();
    let mut balancer = Balancer::start(&here, &net.spec(row));
    let (first, _kamailio) = start_first(net.edge);
    let (client, nodes) = by_client(row, &net, &here, first);
    report(row, &client, &nodes, balancer.counters())
}

fn by_client(row: Row, net: &Net, place: &Place, first: SocketAddr) -> (Outcome, Vec<Outcome>) {
    let callee = format!("uas-{}.xml", row.flow.name());
    let answering: Vec<Sipp> = net
        .nodes
        .iter()
        .enumerate()
        .map(|(index, at)| Sipp::start(&format!("node{index}"), &one(row, place, &callee, *at, None, *at)))
        .collect();
    let caller = format!("uac-{}.xml", row.flow.name());
    let client = Sipp::start("client", &one(row, place, &caller, net.client, Some(first), first)).finish();
    (client, answering.into_iter().map(Sipp::stop).collect())
}

fn by_nodes(row: Row, net: &Net, place: &Place) -> (Outcome, Vec<Outcome>) {
    let callee = format!("uas-{}.xml", row.flow.name());
    let answering = Sipp::start("client", &one(row, place, &callee, net.client, None, net.client));
    let caller = format!("uac-{}.xml", row.flow.name());
    let share = u32::try_from(net.nodes.len()).unwrap_or(1);
    let row = Row { rate: row.rate.div_ceil(share), ..row };
    let calling: Vec<Sipp> = net
        .nodes
        .iter()
        .enumerate()
        .map(|(index, at)| {
            Sipp::start(&format!("node{index}"), &one(row, place, &caller, *at, Some(net.node_side), net.client))
        })
        .collect();
    let nodes = calling.into_iter().map(Sipp::finish).collect();
    (answering.stop(), nodes)
}

fn one<'a>(
    row: Row,
    place: &'a Place,
    scenario: &'a str,
    local: SocketAddr,
    remote: Option<SocketAddr>,
    target: SocketAddr,
) -> Run<'a> {
    let calls = row.rate * row.seconds;
    Run { scenario, place, local, remote, target, rate: row.rate, calls, pause_ms: row.pause_ms }
}

pub(crate) fn report(row: Row, client: &Outcome, nodes: &[Outcome], counters: Counters) -> Report {
    let mut homes: HashMap<&str, (u32, u32)> = HashMap::new();
    for node in nodes {
        for (call_id, messages) in &node.received {
            let home = homes.entry(call_id).or_default();
            *home = (home.0 + 1, home.1 + messages);
        }
    }
    let least = if row.from_nodes { row.flow.received_by_caller() } else { row.flow.received_by_callee() };
    let split = homes.values().filter(|(homes, messages)| *homes != 1 || *messages < least).count();
    let begun = if row.from_nodes { nodes.iter().map(|n| n.created).sum() } else { client.created };
    let unseen = begun.saturating_sub(homes.len() as u64);
    let failed = client.failed.max(nodes.iter().map(|node| node.failed).sum());
    let everyone = || nodes.iter().chain([client]);
    Report {
        row,
        calls: begun,
        failed,
        split: split as u64 + unseen,
        strays: everyone().map(|o| o.strays).sum(),
        retransmissions: everyone().map(|o| o.retransmissions).sum(),
        per_node: nodes.iter().map(|node| node.created).collect(),
        counters,
        errors: everyone()
            .filter(|o| !o.errors.is_empty())
            .map(|o| format!("{}:\n{}", o.name, head(&o.errors)))
            .collect(),
    }
}

fn head(text: &str) -> String {
    text.lines().take(40).map(|line| format!("  {line}\n")).collect()
}

#[test]
fn a_call_at_two_nodes_or_short_of_a_message_is_seen() {
    let row = Row {
        flow: Flow::Call,
        from_nodes: false,
        v6: false,
        workers: 1,
        datapath: None,
        rate: 2,
        seconds: 1,
        pause_ms: 0,
    };
    let node = |received: &[(&str, u32)]| Outcome {
        created: received.len() as u64,
        successful: received.len() as u64,
        received: received.iter().map(|(call_id, count)| ((*call_id).to_owned(), *count)).collect(),
        ..Outcome::default()
    };
    let client = Outcome { created: 2, successful: 2, ..Outcome::default() };
    let of = |nodes: &[Outcome]| report(row, &client, nodes, Counters::new());
    assert!(of(&[node(&[("a", 3)]), node(&[("b", 3)])]).holds());
    assert_eq!(of(&[node(&[("a", 3), ("b", 1)]), node(&[("b", 2)])]).split, 1, "two homes");
    assert_eq!(of(&[node(&[("a", 3)]), node(&[("b", 2)])]).split, 1, "a message short");
    assert_eq!(of(&[node(&[("a", 3)]), node(&[])]).split, 1, "never seen");
    assert!(!of(&[node(&[("a", 3), ("b", 3)]), node(&[])]).holds(), "all on one node: nothing was balanced");
}
