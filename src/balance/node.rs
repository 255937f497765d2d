//! A node: one SIP server, or a primary/backup pair that is one server to its callers.
//!
//! Owns the words for it: identity, the operator's intent, observed health, and whether it may take
//! a new call. `Plan` numbers nodes and endpoints; nothing here observes anything.

use std::net::SocketAddr;

use siphasher::sip::SipHasher24;

use crate::packet::PeerId;

use super::{SetIx, Vitals};

/// What a node is called in cookies and in the table, the same on every instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub u32);

impl NodeId {
    /// The id of a node that the file gives none: a hash of its name, fixed for ever, since cookies
    /// of other instances and other versions carry it.
    #[must_use]
    pub fn of_name(name: &str) -> Self {
        Self(SipHasher24::new_with_keys(0, 0).hash(name.as_bytes()) as u32)
    }
}

/// Place in [`Plan::nodes`](super::Plan::nodes); differs from plan to plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeIx(pub u16);

/// Number of a [`NodeId`] within this process: the same in every plan since start, and not given to
/// another node after the node is gone. Below 2^15; `u16::MAX` is nobody's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MarkIx(pub u16);

/// The operator's wish.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Intent {
    /// Serve.
    #[default]
    Serve,
    /// No new calls.
    Drain,
    /// Nothing at all.
    Stop,
}

impl Intent {
    /// All, as files and commands write them.
    pub const WORDS: [(&'static str, Self); 3] = [("serve", Self::Serve), ("drain", Self::Drain), ("stop", Self::Stop)];

    /// As files and commands write it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Serve => "serve",
            Self::Drain => "drain",
            Self::Stop => "stop",
        }
    }
}

/// What is observed of an endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Health {
    /// It answers, or nothing is known against it.
    #[default]
    Up,
    /// There is evidence against it that a probe has not settled yet; it still takes calls.
    Probing,
    /// It does not answer.
    Down,
}

impl Health {
    /// All, worst last.
    pub const ALL: [Self; 3] = [Self::Up, Self::Probing, Self::Down];

    /// As `status` and metrics write it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Probing => "probing",
            Self::Down => "down",
        }
    }
}

/// One address of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Where it is reached.
    pub addr: SocketAddr,
    /// Its place in [`Plan::endpoints`](super::Plan::endpoints).
    pub peer: PeerId,
}

/// A SIP server behind us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// What cookies and the table call it.
    pub id: NodeId,
    /// Its name in the file, unique in the plan.
    pub name: String,
    /// The set that it is a member of.
    pub set: SetIx,
    /// Share of new calls in proportion to the set's others, 0 to 65535; 0: none by table.
    pub weight: u32,
    /// Free words of the operator, for `status` and metrics.
    pub labels: Vec<(String, String)>,
    /// The operator's wish.
    pub intent: Intent,
    /// Primary, and backup of a pair; `None` also while a name has not resolved.
    pub endpoints: [Option<Endpoint>; 2],
    /// What marks call it.
    pub mark: MarkIx,
}

impl Node {
    /// The endpoint to send to: of a pair the half that takes the calls, else the other one if that is
    /// alive; `None` if none is alive.
    #[inline]
    #[must_use]
    pub fn living(&self, vitals: &Vitals) -> Option<Endpoint> {
        self.ready(vitals).or_else(|| self.in_order(vitals).find(|end| vitals.of(end.peer) != Health::Down))
    }

    /// The endpoint that takes new calls: alive, and no half of a pair that stands by; `None` if none is.
    #[inline]
    #[must_use]
    pub fn ready(&self, vitals: &Vitals) -> Option<Endpoint> {
        self.in_order(vitals).find(|end| vitals.of(end.peer) != Health::Down && !vitals.stands_by(end.peer))
    }

    /// The endpoints, that first which calls go to.
    fn in_order(&self, vitals: &Vitals) -> impl Iterator<Item = Endpoint> {
        let [primary, backup] = self.endpoints;
        let both = if vitals.at_backup(self.mark) { [backup, primary] } else { [primary, backup] };
        both.into_iter().flatten()
    }

    /// Whether `endpoint` is the backup of this pair.
    #[inline]
    #[must_use]
    pub fn is_backup(&self, endpoint: Endpoint) -> bool {
        matches!(self.endpoints, [_, Some(backup)] if backup.peer == endpoint.peer)
    }

    /// Whether calls may be sent to it where no node takes any: the operator wants it, and it has an
    /// address.
    #[must_use]
    pub fn is_meant_to_serve(&self) -> bool {
        self.intent == Intent::Serve && self.endpoints.iter().any(Option::is_some)
    }

    /// Why it may not take a new call, `None` if it may.
    #[inline]
    #[must_use]
    pub fn refusal(&self, vitals: &Vitals) -> Option<Refusal> {
        match self.intent {
            Intent::Stop => Some(Refusal::Stopped),
            Intent::Drain => Some(Refusal::Draining),
            Intent::Serve if self.ready(vitals).is_some() => vitals.is_closed(self.mark).then_some(Refusal::Closed),
            Intent::Serve if self.endpoints.iter().all(Option::is_none) => Some(Refusal::Unresolved),
            Intent::Serve => Some(Refusal::Down),
        }
    }
}

/// Why a node may not take a new call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The operator stopped it.
    Stopped,
    /// The operator drains it.
    Draining,
    /// No endpoint is alive, or none of a pair takes calls.
    Down,
    /// It is alive and takes no new calls for a while: it said so, or its answers did.
    Closed,
    /// Its name has not resolved to an address.
    Unresolved,
    /// This worker avoids it for a moment, after an error of its own.
    Avoided,
}

impl Refusal {
    /// As `explain`, `status` and the admin side write it: one word that stays.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::Draining => "draining",
            Self::Down => "down",
            Self::Closed => "closed",
            Self::Unresolved => "unresolved",
            Self::Avoided => "avoided",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_names_are_those_of_every_other_version() {
        assert_eq!(NodeId::of_name("pbx1"), NodeId(2705762397));
        assert_ne!(NodeId::of_name("pbx1"), NodeId::of_name("PBX1"));
    }
}
