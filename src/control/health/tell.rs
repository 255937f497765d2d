//! One log event for each change of state, with a name that stays.
//!
//! Alerts hang on these names and fields: `set`, `node`, `endpoint`, `cause`. Decides nothing.

use std::net::SocketAddr;

use crate::balance::{Health, Node, Plan};

use super::cause::Cause;
use super::monitor::Outward;

/// An endpoint has changed outwardly; `news`: its health is worth telling to all.
pub(super) fn changed(
    plan: &Plan,
    node: &Node,
    endpoint: SocketAddr,
    (before, after): (Outward, Outward),
    cause: Cause,
    news: bool,
) {
    let (set, name, cause) = (set(plan, node), node.name.as_str(), cause.label());
    if before.health != after.health {
        match after.health {
            Health::Up if news => tracing::info!(set, node = name, %endpoint, cause, "node_up"),
            Health::Up => tracing::debug!(set, node = name, %endpoint, cause, "node_up"),
            Health::Probing if news => tracing::info!(set, node = name, %endpoint, cause, "node_probing"),
            Health::Probing => tracing::debug!(set, node = name, %endpoint, cause, "node_probing"),
            Health::Down => tracing::warn!(set, node = name, %endpoint, cause, "node_down"),
        }
    }
    if before.standby != after.standby {
        let standby = after.standby;
        tracing::info!(set, node = name, %endpoint, cause, standby, "pair_standby");
    }
    match (before.closed, after.closed) {
        (false, true) => tracing::warn!(set, node = name, %endpoint, cause, "node_closed"),
        (true, false) => tracing::info!(set, node = name, %endpoint, cause, "node_opened"),
        (false, false) | (true, true) => {}
    }
}

/// The calls of a pair go to another half.
pub(super) fn switched(plan: &Plan, node: &Node, endpoint: SocketAddr, cause: Cause) {
    let (set, cause) = (set(plan, node), cause.label());
    tracing::warn!(set, node = node.name, %endpoint, cause, "pair_switched");
}

/// A node was not taken out, for the sake of the cap.
pub(super) fn held(plan: &Plan, node: &Node, endpoint: SocketAddr, cause: Cause) {
    let (set, cause) = (set(plan, node), cause.label());
    tracing::warn!(set, node = node.name, %endpoint, cause, "ejection_held");
}

/// No node of a set takes new calls any more, or one does again; `panics`: they are sent to all of them
/// all the same.
pub(super) fn filled(set: &str, takes: bool, panics: bool) {
    let calls = if panics { "sent_all_the_same" } else { "refused" };
    if takes {
        tracing::info!(set, "set_filled");
    } else {
        tracing::error!(set, calls, "set_empty");
    }
}

fn set<'p>(plan: &'p Plan, node: &Node) -> &'p str {
    plan.set(node.set).map_or("", |set| set.name.as_str())
}
