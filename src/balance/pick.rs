//! The choice: the first node in a key's ranking that may take the call.
//!
//! Asked by the shard once for a request without cookie and mark. Keeps nothing and knows no health:
//! the caller says who may take it, and so a node that is away moves its own keys and no others.

use super::{NodeIx, NodeSet};

/// The first ranked node of `set` for the hash of a key that `may_take` allows; `None` if none may.
#[inline]
#[must_use]
pub fn pick(set: &NodeSet, hash: u64, mut may_take: impl FnMut(NodeIx) -> bool) -> Option<NodeIx> {
    set.table
        .ranked(set.table.slot(hash))
        .filter_map(|place| set.members.get(usize::from(place)).copied())
        .find(|node| may_take(*node))
}
