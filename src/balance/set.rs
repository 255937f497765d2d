//! A set: a named group of nodes, what its calls are keyed by, and how it wants to be treated.
//!
//! Filled from the file by `config` through `Plan::build`; shards read it once a request. Holds no
//! state and decides nothing itself.

use std::sync::Arc;

use crate::packet::PortId;

use super::{HealthPolicy, Node, NodeIx, Plan, Table, Vitals};

/// Place in [`Plan::sets`](super::Plan::sets).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SetIx(pub u16);

/// What is hashed to choose a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum KeyBy {
    /// Call-ID.
    #[default]
    CallId,
    /// user@host of From, normalised, without tag and parameters.
    User,
    /// The same of To.
    Aor,
    /// User part of the request-URI.
    RequestUser,
    /// Source address, without port.
    Source,
    /// Value of the header of this name.
    Header(String),
}

/// Method numbers that [`Keys`] tells apart, 0 to `METHODS - 1`; what they stand for is the caller's.
pub const METHODS: usize = 16;

/// A key for every method.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    by_method: [KeyBy; METHODS],
}

impl Keys {
    /// `default` for every method without an override; a later override of a method wins over an
    /// earlier one, and a method number beyond [`METHODS`] is ignored.
    #[must_use]
    pub fn new(default: &KeyBy, overrides: &[(u8, KeyBy)]) -> Self {
        let mut by_method: [KeyBy; METHODS] = std::array::from_fn(|_| default.clone());
        for (method, by) in overrides {
            if let Some(place) = by_method.get_mut(usize::from(*method)) {
                place.clone_from(by);
            }
        }
        Self { by_method }
    }

    /// The key of a method; Call-ID for a number beyond [`METHODS`].
    #[inline]
    #[must_use]
    pub fn by(&self, method: u8) -> &KeyBy {
        self.by_method.get(usize::from(method)).unwrap_or(&KeyBy::CallId)
    }
}

/// What becomes of a request within a dialog whose node is stopped or removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LostDialog {
    /// 481.
    #[default]
    Refuse,
    /// Choose by key again: for nodes that share state.
    Rehash,
}

/// When a REGISTER to a node gets our Path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PathMode {
    /// Always, with `Supported: path` if absent.
    #[default]
    Always,
    /// If the client supports it.
    Supported,
    /// Never.
    Off,
}

/// What happens to the Contact of a REGISTER.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ContactMode {
    /// Nothing.
    #[default]
    Keep,
    /// It becomes an address of ours, for nodes that know no Path.
    Rewrite,
}

/// How the source header tells where a request came from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SourceForm {
    /// `192.0.2.7:5060;listener=NAME`.
    #[default]
    Full,
    /// `192.0.2.7`.
    Address,
}

/// The header that tells nodes where a request came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceHeader {
    /// Header name.
    pub name: String,
    /// What its value looks like.
    pub form: SourceForm,
}

/// How a set wants its messages treated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SetPolicy {
    /// Requests within dialogs whose node is gone.
    pub lost_dialog: LostDialog,
    /// Whether a node's 503 reaches the client as such.
    pub relay_503: bool,
    /// Listener that requests to clients leave from when nothing else says.
    pub egress: Option<PortId>,
    /// Path on REGISTER.
    pub path: PathMode,
    /// Contact on REGISTER.
    pub contact: ContactMode,
    /// Header that tells nodes the source; `None`: none.
    pub source_header: Option<SourceHeader>,
    /// Whether calls go to nodes that are down when no other is left, instead of being refused.
    pub use_all_when_down: bool,
    /// How its nodes are watched.
    pub health: HealthPolicy,
}

/// A named group of nodes.
#[derive(Clone, Debug)]
pub struct NodeSet {
    /// Its name in the file, unique in the plan.
    pub name: String,
    /// Its place in the plan.
    pub ix: SetIx,
    /// Its nodes in order of [`NodeId`](super::NodeId); what the table's places count.
    pub members: Vec<NodeIx>,
    /// What its calls are keyed by.
    pub keys: Keys,
    /// From key to members.
    pub table: Arc<Table>,
    /// How it wants its messages treated.
    pub policy: SetPolicy,
}

impl NodeSet {
    /// Whether a new call gets a node: one takes it, or the set sends it to a node all the same.
    #[must_use]
    pub fn takes_calls(&self, plan: &Plan, vitals: &Vitals) -> bool {
        self.has_taker(plan, vitals) || self.panics(plan, vitals)
    }

    /// Whether any of its nodes takes new calls.
    #[must_use]
    pub fn has_taker(&self, plan: &Plan, vitals: &Vitals) -> bool {
        self.nodes(plan).any(|node| node.refusal(vitals).is_none())
    }

    /// Whether none does, and new calls are sent to those that are meant to serve all the same.
    #[must_use]
    pub fn panics(&self, plan: &Plan, vitals: &Vitals) -> bool {
        let meant = || self.nodes(plan).any(Node::is_meant_to_serve);
        self.policy.use_all_when_down && !self.has_taker(plan, vitals) && meant()
    }

    /// Those of its nodes that the table knows.
    fn nodes<'p>(&self, plan: &'p Plan) -> impl Iterator<Item = &'p Node> {
        self.members.iter().filter_map(|ix| plan.node(*ix)).filter(|node| node.weight > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_has_its_override_or_the_default() {
        let keys = Keys::new(&KeyBy::User, &[(2, KeyBy::Aor), (99, KeyBy::Source), (2, KeyBy::Header("X".into()))]);
        assert_eq!(keys.by(0), &KeyBy::User);
        assert_eq!(keys.by(2), &KeyBy::Header("X".into()));
        assert_eq!(keys.by(15), &KeyBy::User);
        assert_eq!(keys.by(99), &KeyBy::CallId);
    }
}
