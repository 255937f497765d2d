//! The plan: an immutable snapshot of sets, nodes, endpoints and rules, with its look-ups.
//!
//! Built by `control` from what `config` read, mailed to workers, replaced whole on reload. Numbers
//! nodes and endpoints, keeps tables and marks' numbers of the plan before, resolves no names.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;

use crate::packet::{Endpoints, PeerId, PortId};

use super::check::check;
use super::index::{Index, Place};
use super::{
    Endpoint, Intent, Key, Keys, MarkIx, Node, NodeId, NodeIx, NodeSet, Rule, Secrets, SetIx, SetPolicy, Table,
};

/// Nodes that a plan may have.
pub const NODES_MAX: usize = 16_384;
/// Numbers that marks may use within a process.
const MARKS_MAX: usize = 1 << 15;
pub(super) const WEIGHT_MAX: u32 = 65_535;

/// What `config` read: names resolved, nothing numbered.
#[derive(Clone, Debug, Default)]
pub struct PlanSpec {
    /// Sets; the place is the [`SetIx`].
    pub sets: Vec<SetSpec>,
    /// Rules in order.
    pub rules: Vec<Rule>,
    /// Networks whose packets count as from the node side.
    pub trusted: Vec<IpNet>,
}

/// A set as read.
#[derive(Clone, Debug)]
pub struct SetSpec {
    /// Its name.
    pub name: String,
    /// Its table has 2^`slots_log2` slots, 10 to 18.
    pub slots_log2: u8,
    /// What its calls are keyed by.
    pub keys: Keys,
    /// How it wants its messages treated.
    pub policy: SetPolicy,
    /// Its nodes; the order has no effect but on [`NodeIx`].
    pub nodes: Vec<NodeSpec>,
}

/// A node as read.
#[derive(Clone, Debug)]
pub struct NodeSpec {
    /// Its name.
    pub name: String,
    /// Its id; `None`: the hash of its name.
    pub id: Option<NodeId>,
    /// Primary and backup; `None` also while a name has not resolved.
    pub addrs: [Option<SocketAddr>; 2],
    /// Share of new calls, 0 to 65535.
    pub weight: u32,
    /// Free words of the operator.
    pub labels: Vec<(String, String)>,
    /// The operator's wish.
    pub intent: Intent,
}

/// Why a plan is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PlanError {
    /// Two sets have this name.
    DuplicateSet(String),
    /// Two nodes have this name.
    DuplicateNode(String),
    /// Two nodes have the same id.
    SameId {
        /// The id.
        id: NodeId,
        /// Their names, in order.
        names: [String; 2],
    },
    /// Two endpoints of a set have the same address.
    SameAddress {
        /// The set.
        set: String,
        /// The address.
        addr: SocketAddr,
        /// The nodes, in order; twice the same for both endpoints of a pair.
        nodes: [String; 2],
    },
    /// An address has port 0.
    NoPort {
        /// The node.
        node: String,
        /// The address.
        addr: SocketAddr,
    },
    /// A weight is beyond 65535.
    Weight {
        /// The node.
        node: String,
        /// The weight.
        weight: u32,
    },
    /// The set has no node with a weight.
    EmptySet(String),
    /// There are more than [`NODES_MAX`] nodes.
    TooManyNodes(usize),
    /// Rule number `rule`, counted from 1, names a set that is not there.
    NoSuchSet {
        /// The rule.
        rule: usize,
    },
}

impl std::fmt::Display for PlanError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::DuplicateSet(name) => write!(f, "two sets are named `{name}`"),
            Self::DuplicateNode(name) => write!(f, "two nodes are named `{name}`; names are unique over all sets"),
            Self::SameId { id, names: [a, b] } => {
                write!(f, "nodes `{a}` and `{b}` have the same id {}; give one of them another `id`", id.0)
            }
            Self::SameAddress { set, addr, nodes: [a, b] } if a == b => {
                write!(f, "both addresses of node `{a}` in set `{set}` are {addr}")
            }
            Self::SameAddress { set, addr, nodes: [a, b] } => {
                write!(f, "nodes `{a}` and `{b}` in set `{set}` have the same address {addr}")
            }
            Self::NoPort { node, addr } => write!(f, "address {addr} of node `{node}` has no port"),
            Self::Weight { node, weight } => write!(f, "weight {weight} of node `{node}` is more than {WEIGHT_MAX}"),
            Self::EmptySet(name) => write!(f, "set `{name}` has no node with a weight"),
            Self::TooManyNodes(count) => write!(f, "{count} nodes are more than {NODES_MAX}"),
            Self::NoSuchSet { rule } => write!(f, "rule {rule} names a set that is not there"),
        }
    }
}

impl std::error::Error for PlanError {}

/// Who sends from an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sender {
    /// As [`Plan::from_addr`] says.
    pub node: Option<NodeIx>,
    /// As [`Plan::is_cluster`] says.
    pub inside: bool,
    /// The endpoint that it is, or that the packet counts for: the node's at that address.
    pub peer: PeerId,
}

/// Sets, nodes, endpoints and rules in force.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The sets; the place is the [`SetIx`].
    pub sets: Vec<NodeSet>,
    /// All nodes, in the order of the file; the place is the [`NodeIx`].
    pub nodes: Vec<Node>,
    /// All endpoints, in order of their nodes' ids.
    pub endpoints: Endpoints,
    /// Rules; the first that matches decides.
    pub rules: Vec<Rule>,
    /// Networks whose packets count as from the node side.
    pub trusted: Vec<IpNet>,
    by_id: Index<u32, NodeIx>,
    by_place: Index<Place, (PeerId, Option<NodeIx>)>,
    by_mark: Vec<Option<NodeIx>>,
    /// The node of every mark number given out, also of nodes that are gone.
    mark_ids: Vec<NodeId>,
}

impl Plan {
    /// A plan of `spec`. Tables of `previous` whose members and weights are the same are shared,
    /// others are derived from them; mark numbers stay with their nodes.
    pub fn build(spec: PlanSpec, secrets: &Secrets, previous: Option<&Self>) -> Result<Self, PlanError> {
        check(&spec)?;
        let PlanSpec { sets, rules, trusted } = spec;
        let mut plan = Self {
            sets: Vec::with_capacity(sets.len()),
            nodes: Vec::new(),
            endpoints: Endpoints::default(),
            rules,
            trusted,
            by_id: Index::build(&secrets.index, &[]),
            by_place: Index::build(&secrets.index, &[]),
            by_mark: Vec::new(),
            mark_ids: previous.map(|plan| plan.mark_ids.clone()).unwrap_or_default(),
        };
        for (set, ix) in sets.into_iter().zip(0..) {
            plan.add_set(set, SetIx(ix), &secrets.table, previous);
        }
        let mut by_id: Vec<NodeIx> = (0..).map(NodeIx).take(plan.nodes.len()).collect();
        by_id.sort_by_key(|ix| plan.node(*ix).map(|node| node.id));
        plan.number_marks(&by_id);
        plan.number_peers(&by_id);
        plan.index(&by_id, &secrets.index);
        Ok(plan)
    }

    /// The node at a place.
    #[inline]
    #[must_use]
    pub fn node(&self, ix: NodeIx) -> Option<&Node> {
        self.nodes.get(usize::from(ix.0))
    }

    /// The set at a place.
    #[inline]
    #[must_use]
    pub fn set(&self, ix: SetIx) -> Option<&NodeSet> {
        self.sets.get(usize::from(ix.0))
    }

    /// The node of an id.
    #[inline]
    #[must_use]
    pub fn by_id(&self, id: NodeId) -> Option<NodeIx> {
        self.by_id.find(id.0)
    }

    /// The node that a mark means; `None` if it is gone.
    #[inline]
    #[must_use]
    pub fn by_mark(&self, mark: MarkIx) -> Option<NodeIx> {
        self.by_mark.get(usize::from(mark.0)).copied().flatten()
    }

    /// The node that sends from `addr`: the one with that endpoint (of several, in several sets, the
    /// one with the least id), else the only one with that IP address.
    #[inline]
    #[must_use]
    pub fn from_addr(&self, addr: SocketAddr) -> Option<NodeIx> {
        let exact = self.by_place.find(Place::of(addr));
        exact.or_else(|| self.by_place.find(Place::of_ip(addr.ip()))).and_then(|(_, node)| node)
    }

    /// Who sends from `addr`, by one look-up where it is an endpoint.
    #[inline(always)]
    #[must_use]
    pub fn sender(&self, addr: SocketAddr) -> Sender {
        match self.by_place.find(Place::of(addr)) {
            Some((peer, node)) => Sender { node, inside: true, peer },
            None => self.roaming(addr.ip()),
        }
    }

    #[inline(never)]
    fn roaming(&self, ip: IpAddr) -> Sender {
        let node = self.by_place.find(Place::of_ip(ip)).map(|(_, node)| node);
        let ends = node.flatten().and_then(|ix| self.node(ix)).map(|node| node.endpoints);
        let here = |end: &&Endpoint| end.addr.ip().to_canonical() == ip.to_canonical();
        let peer = ends.iter().flatten().flatten().find(here).map_or(PeerId::NONE, |end| end.peer);
        Sender { node: node.flatten(), inside: node.is_some() || self.is_cluster(ip), peer }
    }

    /// Whether `ip` is a node's, whatever the port, or trusted.
    #[inline]
    #[must_use]
    pub fn is_cluster(&self, ip: IpAddr) -> bool {
        self.by_place.find(Place::of_ip(ip)).is_some() || {
            let ip = ip.to_canonical();
            self.trusted.iter().any(|net| net.contains(&ip))
        }
    }

    /// The endpoint at `addr`, [`PeerId::NONE`] if none is there.
    #[inline]
    #[must_use]
    pub fn peer(&self, addr: SocketAddr) -> PeerId {
        self.by_place.find(Place::of(addr)).map_or(PeerId::NONE, |(peer, _)| peer)
    }

    /// The first rule that matches, by its place, and the set that it names; `host` is the
    /// request-URI's.
    #[must_use]
    pub fn ruled(&self, port: PortId, method: u8, host: &[u8], source: IpAddr) -> Option<(usize, &NodeSet)> {
        let at = self.rules.iter().position(|rule| rule.matches(port, method, host, source))?;
        Some((at, self.set(self.rules.get(at)?.set)?))
    }

    fn add_set(&mut self, spec: SetSpec, ix: SetIx, key: &Key, previous: Option<&Self>) {
        let first = self.nodes.len() as u16;
        let mut members: Vec<(NodeId, u32, NodeIx)> = Vec::with_capacity(spec.nodes.len());
        for (node, place) in spec.nodes.into_iter().zip(first..) {
            let id = id_of(&node);
            members.push((id, node.weight, NodeIx(place)));
            self.nodes.push(Node {
                id,
                name: node.name,
                set: ix,
                weight: node.weight,
                labels: node.labels,
                intent: node.intent,
                endpoints: node.addrs.map(|addr| addr.map(|addr| Endpoint { addr, peer: PeerId::NONE })),
                mark: MarkIx(u16::MAX),
            });
        }
        members.sort_unstable();
        let weights: Vec<(NodeId, u32)> = members.iter().map(|(id, weight, _)| (*id, *weight)).collect();
        let old = previous.and_then(|plan| plan.sets.iter().find(|set| set.name == spec.name)).map(|set| &set.table);
        let table = match old {
            Some(table) if table.is_of(spec.slots_log2, key, &weights) => Arc::clone(table),
            Some(table) if table.fits(spec.slots_log2, key) => Arc::new(table.rebuild(&weights)),
            _ => Arc::new(Table::build(spec.slots_log2, key, &weights)),
        };
        self.sets.push(NodeSet {
            name: spec.name,
            ix,
            members: members.into_iter().map(|(_, _, node)| node).collect(),
            keys: spec.keys,
            table,
            policy: spec.policy,
        });
    }

    /// New nodes get the next numbers; only when all were given out, one of a node that is gone.
    fn number_marks(&mut self, by_id: &[NodeIx]) {
        let present: HashMap<NodeId, NodeIx> = by_id.iter().filter_map(|ix| Some((self.node(*ix)?.id, *ix))).collect();
        let mut known: HashMap<NodeId, u16> = self.mark_ids.iter().copied().zip(0..).collect();
        let mut free = 0;
        for ix in by_id {
            let Some(node) = self.nodes.get_mut(usize::from(ix.0)) else { continue };
            let mark = *known.entry(node.id).or_insert_with(|| {
                if self.mark_ids.len() < MARKS_MAX {
                    self.mark_ids.push(node.id);
                    return (self.mark_ids.len() - 1) as u16;
                }
                while self.mark_ids.get(free).is_some_and(|id| present.contains_key(id)) {
                    free += 1;
                }
                if let Some(id) = self.mark_ids.get_mut(free) {
                    *id = node.id;
                }
                free as u16
            });
            node.mark = MarkIx(mark);
        }
        self.by_mark = self.mark_ids.iter().map(|id| present.get(id).copied()).collect();
    }

    /// Endpoints of several sets may share an address, and then a number.
    fn number_peers(&mut self, by_id: &[NodeIx]) {
        let mut known: HashMap<SocketAddr, PeerId> = HashMap::new();
        for ix in by_id {
            let Some(node) = self.nodes.get_mut(usize::from(ix.0)) else { continue };
            for end in node.endpoints.iter_mut().flatten() {
                end.peer = *known.entry(end.addr).or_insert_with(|| {
                    self.endpoints.peers.push(end.addr);
                    PeerId((self.endpoints.peers.len() - 1) as u16)
                });
            }
        }
    }

    fn index(&mut self, by_id: &[NodeIx], key: &Key) {
        let nodes = || by_id.iter().filter_map(|ix| Some((*ix, self.node(*ix)?)));
        let ids: Vec<(u32, NodeIx)> = nodes().map(|(ix, node)| (node.id.0, ix)).collect();
        let mut places: Vec<(Place, (PeerId, Option<NodeIx>))> = Vec::new();
        let mut alone: HashMap<IpAddr, Option<NodeIx>> = HashMap::new();
        for (ix, node) in nodes() {
            for end in node.endpoints.iter().flatten() {
                places.push((Place::of(end.addr), (end.peer, Some(ix))));
                let only = alone.entry(end.addr.ip()).or_insert(Some(ix));
                *only = only.filter(|known| *known == ix);
            }
        }
        places.extend(alone.into_iter().map(|(ip, node)| (Place::of_ip(ip), (PeerId::NONE, node))));
        self.by_id = Index::build(key, &ids);
        self.by_place = Index::build(key, &places);
    }
}

pub(super) fn id_of(node: &NodeSpec) -> NodeId {
    node.id.unwrap_or_else(|| NodeId::of_name(&node.name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::{KeyBy, Refusal, Vitals, pick};

    fn secrets() -> Secrets {
        Secrets::derive(&[3; 32])
    }

    fn node(name: &str, addr: &str) -> NodeSpec {
        let addrs = [addr.parse().ok(), None];
        NodeSpec { name: name.into(), id: None, addrs, weight: 100, labels: Vec::new(), intent: Intent::Serve }
    }

    fn set(name: &str, nodes: Vec<NodeSpec>) -> SetSpec {
        let keys = Keys::new(&KeyBy::CallId, &[]);
        SetSpec { name: name.into(), slots_log2: 10, keys, policy: SetPolicy::default(), nodes }
    }

    fn spec(sets: Vec<SetSpec>) -> PlanSpec {
        PlanSpec { sets, ..PlanSpec::default() }
    }

    fn three() -> Vec<NodeSpec> {
        vec![node("a", "10.0.0.1:5060"), node("b", "10.0.0.2:5060"), node("c", "10.0.0.3:5060")]
    }

    fn built(sets: Vec<SetSpec>, previous: Option<&Plan>) -> Plan {
        Plan::build(spec(sets), &secrets(), previous).unwrap()
    }

    fn refused(sets: Vec<SetSpec>) -> (PlanError, String) {
        let error = Plan::build(spec(sets), &secrets(), None).unwrap_err();
        let text = error.to_string();
        (error, text)
    }

    /// Number of the plan's node of this name.
    fn ix(plan: &Plan, name: &str) -> NodeIx {
        NodeIx(plan.nodes.iter().position(|node| node.name == name).unwrap() as u16)
    }

    fn mark(plan: &Plan, name: &str) -> MarkIx {
        plan.node(ix(plan, name)).unwrap().mark
    }

    #[test]
    fn ids_that_collide_are_refused_with_both_names() {
        let mut nodes = three();
        nodes[2].id = Some(NodeId::of_name("a"));
        let (error, text) = refused(vec![set("x", nodes)]);
        assert_eq!(error, PlanError::SameId { id: NodeId::of_name("a"), names: ["a".into(), "c".into()] });
        assert!(text.contains("`a` and `c`"), "{text}");
        let mut nodes = three();
        nodes[0].id = Some(NodeId(5));
        let mut other = node("d", "10.0.0.4:5060");
        other.id = Some(NodeId(5));
        assert!(matches!(refused(vec![set("x", nodes), set("y", vec![other])]).0, PlanError::SameId { .. }));
    }

    #[test]
    fn names_that_collide_are_refused() {
        let (error, text) = refused(vec![set("x", three()), set("y", vec![node("b", "10.0.0.9:5060")])]);
        assert_eq!(error, PlanError::DuplicateNode("b".into()));
        assert!(text.contains("`b`"), "{text}");
        assert_eq!(refused(vec![set("x", three()), set("x", three())]).0, PlanError::DuplicateSet("x".into()));
    }

    #[test]
    fn an_address_twice_in_a_set_is_refused_but_not_in_two_sets() {
        let mut nodes = three();
        nodes[1].addrs[1] = nodes[2].addrs[0];
        let (_, text) = refused(vec![set("x", nodes)]);
        assert!(text.contains("`b` and `c`") && text.contains("10.0.0.3:5060"), "{text}");
        let mut nodes = three();
        nodes[1].addrs[1] = nodes[1].addrs[0];
        assert!(refused(vec![set("x", nodes)]).1.contains("both addresses of node `b`"));
        let plan = built(vec![set("x", three()), set("y", vec![node("d", "10.0.0.1:5060")])], None);
        assert_eq!(plan.endpoints.peers.len(), 3);
        let shared = plan.node(ix(&plan, "a")).unwrap().endpoints[0].unwrap();
        assert_eq!(plan.node(ix(&plan, "d")).unwrap().endpoints[0], Some(shared));
        let least = if NodeId::of_name("a") < NodeId::of_name("d") { "a" } else { "d" };
        assert_eq!(plan.from_addr(shared.addr), Some(ix(&plan, least)));
    }

    #[test]
    fn sets_and_nodes_out_of_bounds_are_refused() {
        assert_eq!(refused(vec![set("x", vec![])]).0, PlanError::EmptySet("x".into()));
        let mut idle = node("a", "10.0.0.1:5060");
        idle.weight = 0;
        assert_eq!(refused(vec![set("x", vec![idle])]).0, PlanError::EmptySet("x".into()));
        let mut heavy = node("a", "10.0.0.1:5060");
        heavy.weight = 65_536;
        assert_eq!(refused(vec![set("x", vec![heavy])]).0, PlanError::Weight { node: "a".into(), weight: 65_536 });
        assert!(matches!(refused(vec![set("x", vec![node("a", "10.0.0.1:0")])]).0, PlanError::NoPort { .. }));
        let many = (0..=NODES_MAX).map(|i| node(&format!("n{i}"), "")).collect();
        assert_eq!(refused(vec![set("x", many)]).0, PlanError::TooManyNodes(NODES_MAX + 1));
        let rule = Rule { listener: None, method: None, host: None, source: None, set: SetIx(1) };
        let spec = PlanSpec { sets: vec![set("x", three())], rules: vec![rule], trusted: Vec::new() };
        assert_eq!(Plan::build(spec, &secrets(), None).unwrap_err(), PlanError::NoSuchSet { rule: 1 });
    }

    #[test]
    fn an_id_and_an_address_find_their_node_and_no_other() {
        let mut nodes = three();
        nodes[0].addrs[1] = "[2001:db8::1]:5060".parse().ok();
        nodes.push(node("d", "10.0.0.3:5070"));
        nodes.push(node("e", "name that has not resolved"));
        let plan = built(vec![set("x", nodes)], None);
        for (place, node) in plan.nodes.iter().zip(0..).map(|(node, place)| (NodeIx(place), node)) {
            assert_eq!(plan.by_id(node.id), Some(place));
            assert_eq!(plan.by_mark(node.mark), Some(place));
            for end in node.endpoints.iter().flatten() {
                assert_eq!(plan.from_addr(end.addr), Some(place));
                assert_eq!(plan.peer(end.addr), end.peer);
                assert_eq!(plan.endpoints.peers[usize::from(end.peer.0)], end.addr);
            }
        }
        let from = |addr: &str| plan.from_addr(addr.parse().unwrap());
        assert_eq!(from("10.0.0.1:40000"), Some(ix(&plan, "a")));
        assert_eq!(from("[2001:db8::1]:40000"), Some(ix(&plan, "a")));
        assert_eq!(from("10.0.0.3:40000"), None, "two nodes have this address");
        assert_eq!(from("10.0.0.4:5060"), None);
        assert_eq!(plan.peer("10.0.0.1:40000".parse().unwrap()), PeerId::NONE);
        assert_eq!(plan.by_id(NodeId(1)), None);
        assert!(plan.node(ix(&plan, "e")).unwrap().endpoints.iter().all(Option::is_none));
    }

    #[test]
    fn the_cluster_is_the_nodes_addresses_at_any_port_and_what_is_trusted() {
        let trusted = vec!["10.1.0.0/16".parse().unwrap(), "2001:db8::/32".parse().unwrap()];
        let mut sets = vec![set("x", three())];
        sets[0].nodes.push(node("d", "10.0.0.3:5070"));
        let plan = Plan::build(PlanSpec { sets, rules: Vec::new(), trusted }, &secrets(), None).unwrap();
        for (ip, inside) in [
            ("10.0.0.1", true),
            ("10.0.0.3", true),
            ("::ffff:10.0.0.1", true),
            ("10.0.0.4", false),
            ("10.1.2.3", true),
            ("::ffff:10.1.2.3", true),
            ("10.2.0.0", false),
            ("2001:db8::7", true),
            ("2001:db9::7", false),
        ] {
            assert_eq!(plan.is_cluster(ip.parse().unwrap()), inside, "{ip}");
        }
    }

    #[test]
    fn the_order_of_nodes_in_the_file_changes_nothing_but_their_places() {
        let mut back = three();
        back.reverse();
        let (forth, back) = (built(vec![set("x", three())], None), built(vec![set("x", back)], None));
        assert_eq!(forth.endpoints, back.endpoints);
        assert!(forth.sets[0].table == back.sets[0].table);
        for name in ["a", "b", "c"] {
            let (one, other) = (forth.node(ix(&forth, name)).unwrap(), back.node(ix(&back, name)).unwrap());
            assert_eq!(one, other);
        }
        for hash in (0..1_000_u64).map(|i| i << 54) {
            let name = |plan: &Plan| plan.node(pick(&plan.sets[0], hash, |_| true).unwrap()).unwrap().name.clone();
            assert_eq!(name(&forth), name(&back));
        }
    }

    #[test]
    fn a_table_is_shared_over_reloads_until_its_members_or_weights_change() {
        let first = built(vec![set("x", three())], None);
        let mut back = three();
        back.reverse();
        back[0].intent = Intent::Drain;
        back[1].addrs[0] = None;
        let same = built(vec![set("y", vec![node("d", "10.0.0.4:5060")]), set("x", back)], Some(&first));
        assert!(Arc::ptr_eq(&first.sets[0].table, &same.sets[1].table));
        let mut heavier = three();
        heavier[0].weight = 101;
        for (nodes, slots_log2) in [(heavier, 10), (three().split_off(1), 10), (three(), 11)] {
            let mut changed = set("x", nodes);
            changed.slots_log2 = slots_log2;
            let second = built(vec![changed.clone()], Some(&first));
            assert!(second.sets[0].table == built(vec![changed], None).sets[0].table);
            assert!(second.sets[0].table != first.sets[0].table);
        }
        let other = Plan::build(spec(vec![set("x", three())]), &Secrets::derive(&[4; 32]), Some(&first)).unwrap();
        assert!(other.sets[0].table != first.sets[0].table);
    }

    #[test]
    fn marks_keep_their_node_over_reloads_and_never_name_another() {
        let first = built(vec![set("x", three())], None);
        let marks = ["a", "b", "c"].map(|name| mark(&first, name));
        let without = vec![node("d", "10.0.0.4:5060"), node("c", "10.0.0.3:5060"), node("a", "10.0.0.1:5060")];
        let second = built(vec![set("x", without)], Some(&first));
        assert_eq!([mark(&second, "a"), mark(&second, "c")], [marks[0], marks[2]]);
        assert!(!marks.contains(&mark(&second, "d")));
        assert_eq!(second.by_mark(marks[1]), None);
        assert_eq!(second.by_mark(marks[0]), Some(ix(&second, "a")));
        let third = built(vec![set("x", three())], Some(&second));
        assert_eq!(["a", "b", "c"].map(|name| mark(&third, name)), marks);
        assert_eq!(third.by_mark(mark(&second, "d")), None);
        assert_eq!(third.by_mark(MarkIx(u16::MAX)), None);
    }

    #[test]
    fn a_number_is_reused_only_when_all_are_given_out_and_its_node_is_gone() {
        let mut first = built(vec![set("x", three())], None);
        let kept = mark(&first, "b");
        first.mark_ids.extend((0..MARKS_MAX as u32 - 4).map(|i| NodeId(i | 0x8000_0000)).filter(|id| {
            [NodeId::of_name("a"), NodeId::of_name("b"), NodeId::of_name("c")].iter().all(|known| known != id)
        }));
        let left = MARKS_MAX - first.mark_ids.len();
        let many = || {
            let mut nodes: Vec<NodeSpec> = (0..4).map(|i| node(&format!("n{i}"), "")).collect();
            nodes.push(node("b", "10.0.0.2:5060"));
            nodes
        };
        assert_eq!(left, 1);
        let second = built(vec![set("x", many())], Some(&first));
        let mut numbers: Vec<MarkIx> = second.nodes.iter().map(|node| node.mark).collect();
        assert_eq!(mark(&second, "b"), kept);
        assert!(second.nodes.iter().zip(0..).all(|(node, place)| second.by_mark(node.mark) == Some(NodeIx(place))));
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), 5);
        assert_eq!(numbers[4], MarkIx(MARKS_MAX as u16 - 1), "the last free number is given out before one is reused");
    }

    #[test]
    fn the_first_rule_that_matches_decides() {
        let rule = |method, set| Rule { listener: None, method, host: None, source: None, set: SetIx(set) };
        let rules = vec![rule(Some(3), 1), rule(None, 0), rule(Some(3), 0)];
        let sets = vec![set("x", three()), set("y", vec![node("d", "10.0.0.4:5060")])];
        let mut plan = Plan::build(PlanSpec { sets, rules, trusted: Vec::new() }, &secrets(), None).unwrap();
        let source = "192.0.2.1".parse().unwrap();
        let ruled =
            |plan: &Plan, method| plan.ruled(PortId(0), method, b"", source).map(|(at, set)| (at, set.name.clone()));
        assert_eq!(ruled(&plan, 3), Some((0, "y".to_owned())));
        assert_eq!(ruled(&plan, 4), Some((1, "x".to_owned())));
        plan.rules.remove(1);
        assert_eq!(ruled(&plan, 4), None);
        assert_eq!(plan.set(SetIx(1)).map(|set| set.name.as_str()), Some("y"));
    }

    #[test]
    fn a_node_takes_calls_unless_the_operator_or_its_health_says_otherwise() {
        use crate::balance::Health::{Down, Probing, Up};
        let mut nodes = three();
        nodes[0].addrs[1] = "10.0.0.9:5060".parse().ok();
        nodes[1].addrs[0] = None;
        let plan = built(vec![set("x", nodes)], None);
        let mut pair = plan.node(ix(&plan, "a")).unwrap().clone();
        let [primary, backup] = pair.endpoints.map(Option::unwrap);
        let vitals = |one, other| {
            let mut vitals = Vitals::default();
            vitals.observe(primary.peer, one, false);
            vitals.observe(backup.peer, other, false);
            vitals
        };
        for (one, other, living, at_backup) in [
            (Up, Up, Some(primary), Some(backup)),
            (Probing, Up, Some(primary), Some(backup)),
            (Probing, Down, Some(primary), Some(primary)),
            (Down, Probing, Some(backup), Some(backup)),
            (Down, Up, Some(backup), Some(backup)),
            (Down, Down, None, None),
        ] {
            let mut vitals = vitals(one, other);
            assert_eq!(pair.living(&vitals), living);
            assert_eq!(pair.refusal(&vitals), living.is_none().then_some(Refusal::Down));
            vitals.prefer_backup(pair.mark, primary.peer);
            assert_eq!(pair.living(&vitals), at_backup);
        }
        let mut standing = vitals(Down, Up);
        standing.observe(backup.peer, Up, true);
        assert_eq!(pair.living(&standing), Some(backup), "what belongs to it goes to the living half");
        assert_eq!(pair.refusal(&standing), Some(Refusal::Down), "new calls do not");
        standing.observe(primary.peer, Up, false);
        standing.prefer_backup(pair.mark, primary.peer);
        assert_eq!(pair.living(&standing), Some(primary), "one that stands by is not asked while the other is ready");
        standing.close(pair.mark);
        assert_eq!(pair.refusal(&standing), Some(Refusal::Closed));
        assert_eq!(pair.living(&standing), Some(primary));
        assert_eq!(pair.living(&Vitals::default()), Some(primary), "nothing is known against it");
        assert_eq!(plan.nodes[1].refusal(&Vitals::default()), Some(Refusal::Unresolved));
        pair.intent = Intent::Drain;
        assert_eq!(pair.refusal(&Vitals::default()), Some(Refusal::Draining));
        pair.intent = Intent::Stop;
        assert_eq!(pair.refusal(&Vitals::default()), Some(Refusal::Stopped));
        assert_eq!(pair.living(&Vitals::default()), Some(primary), "calls in progress are not its refusal's matter");
    }
}
