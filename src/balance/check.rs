//! What a plan must hold before it is built: names, ids and addresses once each, limits kept.
//!
//! Asked by `Plan::build`; the first fault found refuses the plan.

use std::collections::HashMap;
use std::net::SocketAddr;

use super::plan::{WEIGHT_MAX, id_of};
use super::{NODES_MAX, NodeId, PlanError, PlanSpec, SetSpec};

pub(super) fn check(spec: &PlanSpec) -> Result<(), PlanError> {
    let count = spec.sets.iter().map(|set| set.nodes.len()).sum();
    if count > NODES_MAX {
        return Err(PlanError::TooManyNodes(count));
    }
    let mut names: HashMap<&str, ()> = HashMap::new();
    let mut ids: HashMap<NodeId, &str> = HashMap::new();
    for (set, earlier) in spec.sets.iter().zip(0..) {
        if spec.sets.iter().take(earlier).any(|other| other.name == set.name) {
            return Err(PlanError::DuplicateSet(set.name.clone()));
        }
        if set.nodes.iter().all(|node| node.weight == 0) {
            return Err(PlanError::EmptySet(set.name.clone()));
        }
        for node in &set.nodes {
            if names.insert(&node.name, ()).is_some() {
                return Err(PlanError::DuplicateNode(node.name.clone()));
            }
            if let Some(other) = ids.insert(id_of(node), &node.name) {
                return Err(PlanError::SameId { id: id_of(node), names: [other.to_owned(), node.name.clone()] });
            }
            if node.weight > WEIGHT_MAX {
                return Err(PlanError::Weight { node: node.name.clone(), weight: node.weight });
            }
        }
        check_addresses(set)?;
    }
    match spec.rules.iter().position(|rule| usize::from(rule.set.0) >= spec.sets.len()) {
        Some(rule) => Err(PlanError::NoSuchSet { rule: rule + 1 }),
        None => Ok(()),
    }
}

fn check_addresses(set: &SetSpec) -> Result<(), PlanError> {
    let mut addrs: HashMap<SocketAddr, &str> = HashMap::new();
    for node in &set.nodes {
        for addr in node.addrs.iter().flatten() {
            if addr.port() == 0 {
                return Err(PlanError::NoPort { node: node.name.clone(), addr: *addr });
            }
            if let Some(other) = addrs.insert(*addr, &node.name) {
                let nodes = [other.to_owned(), node.name.clone()];
                return Err(PlanError::SameAddress { set: set.name.clone(), addr: *addr, nodes });
            }
        }
    }
    Ok(())
}
