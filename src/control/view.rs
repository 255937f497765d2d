//! What the admin side sees: the state in force as control knows it, and what workers count.
//!
//! The one place where the plan, health, marks and counters of a node are put together; HTTP and
//! metrics only print it. Writes nothing.

use std::sync::Arc;
use std::time::Instant;

use crate::balance::{Node, NodeSet, Plan};
use crate::datapath::Whereabouts;
use crate::packet::Pool;
use crate::shard::{Counters, Shared, State};
use crate::worker::{Ledger, Post};

use super::health::Status;
use super::health::status::{EndpointStatus, NodeStatus};
use super::{Listed, Overlay};

/// What one worker counts.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// Its shard: verdicts, drops, replies.
    pub counters: Arc<Counters>,
    /// Its datapath and turns.
    pub ledger: Arc<Ledger>,
    /// Its frames, if it bypasses the kernel.
    pub frames: Option<Frames>,
}

/// Where frames are.
#[derive(Clone, Debug)]
pub struct Frames {
    /// Those that the worker has, or lent to the kernel.
    pub whereabouts: Arc<Whereabouts>,
    /// The region that they are of; told with the first worker of each.
    pub region: Option<&'static Pool>,
}

impl Frames {
    /// Name and value of every figure: when all workers sleep and no packet is alive, those in the
    /// stock, kept and lent are all.
    pub fn each(&self, mut tell: impl FnMut(&'static str, u64)) {
        tell("lent", self.whereabouts.lent());
        tell("kept", self.whereabouts.kept());
        tell("all", self.region.map_or(0, |region| u64::from(region.slots())));
        tell("stock", self.region.map_or(0, |region| u64::from(region.stock())));
    }
}

/// The running workers, to be looked at from outside.
#[derive(Clone)]
pub struct Sight {
    /// What each worker counts.
    pub figures: Arc<[Figures]>,
    /// How each worker is woken.
    pub posts: Vec<Arc<Post>>,
    /// The instance and the marks.
    pub shared: Shared,
    /// The memory of packets.
    pub pool: &'static Pool,
    /// Zero of the workers' clock.
    pub origin: Instant,
    /// The datapath in use.
    pub datapath: &'static str,
}

impl Sight {
    /// Calls that are being set up, by the number that marks know their node by.
    pub(super) fn marks(&self) -> Vec<u64> {
        self.shared.marks.pending_by_node(self.origin.elapsed().as_millis() as u64)
    }
}

/// Reloads since the start.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Reloads {
    pub(super) taken: u64,
    pub(super) refused: u64,
    /// New addresses of names that made no plan; no reload, and nobody's file is wrong.
    pub(super) names_refused: u64,
    /// When the last was, seconds since 1970, and whether it was taken.
    pub(super) last: Option<(f64, bool)>,
}

impl Reloads {
    pub(super) fn taken(&mut self, now_s: f64) {
        self.taken += 1;
        self.last = Some((now_s, true));
    }

    pub(super) fn refused(&mut self, now_s: f64) {
        self.refused += 1;
        self.last = Some((now_s, false));
    }
}

/// What control's loop knows, as it answers with.
pub(super) struct View {
    pub(super) state: State,
    pub(super) listed: Arc<[Listed]>,
    pub(super) rules_written: usize,
    pub(super) overlay: Arc<Overlay>,
    pub(super) reloads: Reloads,
    /// What health knows; its marks are not filled in.
    pub(super) status: Status,
}

/// What is still seen of a node.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Traffic {
    /// Requests that it was given and that wait for their final response.
    pub(super) marks: u64,
    /// About how many dialogs had traffic in the last one to two minutes; of nodes that drain.
    pub(super) dialogs: Option<u64>,
    /// For how long they have been counted, seconds.
    pub(super) dialogs_counted_s: Option<u64>,
}

impl View {
    pub(super) fn plan(&self) -> &Plan {
        &self.state.plan
    }

    /// Whether a node takes new calls, and else why not.
    pub(super) fn refusal(&self, node: &Node) -> Option<&'static str> {
        let refusal = node.refusal(&self.state.vitals).map(crate::balance::Refusal::word);
        refusal.or_else(|| self.state.draining.then_some("instance_draining"))
    }

    /// Whether a set takes new calls.
    pub(super) fn takes_calls(&self, set: &NodeSet) -> bool {
        !self.state.draining && set.takes_calls(self.plan(), &self.state.vitals)
    }

    /// Whether a set takes new calls for the sole reason that it sends them to nodes that take none.
    pub(super) fn panics(&self, set: &NodeSet) -> bool {
        !self.state.draining && set.panics(self.plan(), &self.state.vitals)
    }

    pub(super) fn traffic(&self, node: &Node, marks: &[u64]) -> Traffic {
        let observed = self.observed(node);
        Traffic {
            marks: marks.get(usize::from(node.mark.0)).copied().unwrap_or(0),
            dialogs: observed.and_then(|status| status.dialogs),
            dialogs_counted_s: observed.and_then(|status| status.dialogs_counted_s),
        }
    }

    /// What health knows of a node.
    pub(super) fn observed(&self, node: &Node) -> Option<&NodeStatus> {
        // Of the same plan: control tells both in one answer.
        self.status.sets.iter().flat_map(|set| &set.nodes).find(|status| status.id == node.id.0)
    }

    /// What health knows of a node's addresses.
    pub(super) fn endpoints(&self, node: &Node) -> &[EndpointStatus] {
        self.observed(node).map(|status| status.endpoints.as_slice()).unwrap_or_default()
    }
}

/// Seconds since 1970.
#[expect(clippy::disallowed_methods, reason = "control tells operators when things happened")]
pub(super) fn unix_s() -> f64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0.0, |since| since.as_secs_f64())
}
