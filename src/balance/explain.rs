//! The same choice as `pick`, told step by step for the command line.
//!
//! Driven by `sipring explain`; allocates, so shards never call it.

use super::{NodeIx, NodeSet, Refusal};

/// How a key's node was chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// Slot of the key.
    pub slot: u32,
    /// Every node with a weight, best first, and why it was passed over. Nodes behind the chosen
    /// one are told as well.
    pub ranked: Vec<(NodeIx, Option<Refusal>)>,
    /// The first without a refusal.
    pub chosen: Option<NodeIx>,
}

/// Tells how [`pick`](super::pick) chooses among the nodes of `set` for the hash of a key.
#[must_use]
pub fn explain(set: &NodeSet, hash: u64, mut refusal: impl FnMut(NodeIx) -> Option<Refusal>) -> Explanation {
    let slot = set.table.slot(hash);
    let ranked: Vec<_> = set
        .table
        .ranked(slot)
        .filter_map(|place| set.members.get(usize::from(place)).copied())
        .map(|node| (node, refusal(node)))
        .collect();
    let chosen = ranked.iter().find(|(_, refusal)| refusal.is_none()).map(|(node, _)| *node);
    Explanation { slot, ranked, chosen }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::{Intent, KeyBy, Keys, NodeSpec, Plan, PlanSpec, Secrets, SetPolicy, SetSpec, pick};

    fn plan(nodes: u16) -> Plan {
        let node = |place| NodeSpec {
            name: format!("n{place}"),
            id: None,
            addrs: [None, None],
            weight: 100,
            labels: Vec::new(),
            intent: Intent::Serve,
        };
        let set = SetSpec {
            name: "x".into(),
            slots_log2: 10,
            keys: Keys::new(&KeyBy::CallId, &[]),
            policy: SetPolicy::default(),
            nodes: (0..nodes).map(node).collect(),
        };
        Plan::build(PlanSpec { sets: vec![set], ..PlanSpec::default() }, &Secrets::derive(&[3; 32]), None).unwrap()
    }

    #[test]
    fn what_is_told_is_what_is_picked_however_many_nodes_refuse() {
        let plan = plan(7);
        let set = &plan.sets[0];
        for hash in (0..500_u64).map(|i| i.wrapping_mul(0x9e37_79b9_7f4a_7c15)) {
            let ranked = explain(set, hash, |_| None).ranked;
            assert_eq!(ranked.len(), 7);
            for refusing in 0..=7 {
                let refuses = |node: NodeIx| ranked[..refusing].iter().any(|(other, _)| *other == node);
                let told = explain(set, hash, |node| refuses(node).then_some(Refusal::Down));
                assert_eq!(told.chosen, ranked.get(refusing).map(|(node, _)| *node));
                assert_eq!(told.chosen, pick(set, hash, |node| !refuses(node)));
                assert_eq!(told.slot, set.table.slot(hash));
                assert!(told.ranked.iter().all(|(node, why)| why.is_some() == refuses(*node)));
            }
        }
    }
}
