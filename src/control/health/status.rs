//! What is known of every set, node and endpoint, as plain data for people and programs.
//!
//! Made by control when somebody asks; nothing here changes anything.

use std::net::SocketAddr;

use serde::Serialize;

use crate::balance::{Endpoint, Node, Refusal};
use crate::shard::Evidence;

use super::monitors::Monitors;
pub use super::traffic::Totals;

/// Everything, in the order of the file.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Status {
    /// All sets.
    pub sets: Vec<SetStatus>,
}

/// A set.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SetStatus {
    /// Its name.
    pub name: String,
    /// Whether new calls get a node: one takes them, or they are sent to one that does not (`panic`).
    pub takes_calls: bool,
    /// Its nodes.
    pub nodes: Vec<NodeStatus>,
}

/// A node.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NodeStatus {
    /// Its name.
    pub name: String,
    /// Its number in cookies.
    pub id: u32,
    /// Share of new calls.
    pub weight: u32,
    /// `serve`, `drain` or `stop`.
    pub intent: &'static str,
    /// Free words of the operator.
    pub labels: Vec<(String, String)>,
    /// Why it takes no new calls: `stopped`, `draining`, `down`, `closed`, `unresolved`, `avoided`; none if
    /// it does.
    pub refusal: Option<&'static str>,
    /// The endpoint that its calls go to.
    pub active: Option<SocketAddr>,
    /// Of a pair: since when that is so, seconds.
    pub active_since_s: Option<u64>,
    /// Of a pair: why it is so.
    pub active_cause: Option<&'static str>,
    /// Of a pair: how often its calls have gone over to the other half.
    pub switches: Option<u64>,
    /// Calls being set up that are bound to it.
    pub marks: u64,
    /// About how many dialogs had traffic in the last one to two minutes; told of nodes that drain.
    pub dialogs: Option<u64>,
    /// For how long they have been counted, seconds: in the first minute or two, not all have been seen.
    pub dialogs_counted_s: Option<u64>,
    /// Its addresses.
    pub endpoints: Vec<EndpointStatus>,
}

/// An address of a node.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EndpointStatus {
    /// The address.
    pub address: SocketAddr,
    /// `primary` or `backup`; the only one of a node that is no pair is `primary`.
    pub role: &'static str,
    /// `up`, `probing` or `down`.
    pub health: &'static str,
    /// Alive, and says that the other half of its pair takes the calls.
    pub standby: bool,
    /// It takes no new calls for a while.
    pub closed: bool,
    /// Since when it is so, seconds.
    pub since_s: u64,
    /// Why it is so.
    pub cause: &'static str,
    /// How long it stays out for what traffic showed, seconds.
    pub ejected_for_s: Option<u64>,
    /// Round trip of the last probe that was answered at once, microseconds.
    pub rtt_us: Option<u64>,
    /// Probes sent, retransmissions not counted.
    pub probes: u64,
    /// Probes that were answered in time.
    pub probes_answered: u64,
    /// Probes that failed.
    pub probes_failed: u64,
    /// Answers to probes that came too late.
    pub probes_late: u64,
    /// How often traffic took it out.
    pub ejections: u64,
    /// How often the set's cap kept it in all the same.
    pub ejections_held: u64,
    /// How long ago a packet of a call came from it, milliseconds; none if none ever did.
    pub heard_ms_ago: Option<u64>,
    /// What workers counted.
    pub traffic: Totals,
}

pub(super) fn of(monitors: &Monitors, evidence: &Evidence, marks: &[u64], clock_ms: u64, now_us: u64) -> Status {
    let plan = monitors.plan();
    let nodes_of = |set: &crate::balance::NodeSet| {
        let nodes = plan.nodes.iter().filter(|node| node.set == set.ix);
        nodes.map(|node| node_status(monitors, evidence, marks, clock_ms, now_us, node)).collect()
    };
    let sets = plan.sets.iter().map(|set| SetStatus {
        name: set.name.clone(),
        takes_calls: monitors.takes_calls(set.ix),
        nodes: nodes_of(set),
    });
    Status { sets: sets.collect() }
}

fn node_status(
    monitors: &Monitors,
    evidence: &Evidence,
    marks: &[u64],
    clock_ms: u64,
    now_us: u64,
    node: &Node,
) -> NodeStatus {
    let ends = || node.endpoints.iter().flatten().copied();
    let pair = monitors.pair(node);
    let dialogs = ends().filter_map(|end| evidence.dialogs(end.peer, clock_ms));
    NodeStatus {
        name: node.name.clone(),
        id: node.id.0,
        weight: node.weight,
        intent: node.intent.word(),
        labels: node.labels.clone(),
        refusal: node.refusal(monitors.vitals()).map(Refusal::word),
        active: pair.map(|pair| pair.active).or_else(|| ends().next().map(|end| end.addr)),
        active_since_s: pair.map(|pair| seconds(now_us.saturating_sub(pair.since_us))),
        active_cause: pair.map(|pair| pair.cause.label()),
        switches: pair.map(|pair| pair.switches),
        marks: marks.get(usize::from(node.mark.0)).copied().unwrap_or(0),
        dialogs: dialogs.reduce(|sum, count| sum + count),
        dialogs_counted_s: ends().filter_map(|end| evidence.dialogs_counted_s(end.peer, clock_ms)).min(),
        endpoints: ends().filter_map(|end| endpoint_status(monitors, now_us, node, end)).collect(),
    }
}

fn endpoint_status(monitors: &Monitors, now_us: u64, node: &Node, end: Endpoint) -> Option<EndpointStatus> {
    let monitor = monitors.monitor(end.peer)?;
    let (outward, figures, traffic) = (monitor.outward(), monitor.figures, monitor.traffic());
    Some(EndpointStatus {
        address: end.addr,
        role: if node.is_backup(end) { "backup" } else { "primary" },
        health: outward.health.word(),
        standby: outward.standby,
        closed: outward.closed,
        since_s: seconds(now_us.saturating_sub(monitor.since_us)),
        cause: monitor.cause.label(),
        ejected_for_s: monitor.ejection().map(|ejection| seconds(ejection.until_us.saturating_sub(now_us))),
        rtt_us: figures.rtt_us,
        probes: figures.probes,
        probes_answered: figures.answered,
        probes_failed: figures.failed,
        probes_late: figures.late,
        ejections: figures.ejections,
        ejections_held: figures.held,
        heard_ms_ago: traffic.heard_us().map(|heard_us| now_us.saturating_sub(heard_us) / 1_000),
        traffic: traffic.total(),
    })
}

fn seconds(us: u64) -> u64 {
    us / 1_000_000
}
