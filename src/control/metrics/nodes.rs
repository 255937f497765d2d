//! Sets, nodes and their addresses: intent, weight, health, and what is still seen of them.
//!
//! Every state is a line of its own, 1 for the one that holds, so that none appears from nowhere.

use super::rows::Page;
use crate::balance::{Health, Intent, Node};
use crate::control::view::View;

pub(super) fn tell(page: &mut Page, view: &View, marks: &[u64]) {
    for set in &view.plan().sets {
        let help = "1 if a node of the set takes new calls";
        let takes = flag(view.takes_calls(&set.members));
        page.gauge("sipring_set_takes_calls", help).of(&[("set", &set.name)], takes);
        for node in set.members.iter().filter_map(|ix| view.plan().node(*ix)) {
            of_node(page, view, marks, &set.name, node);
        }
    }
    let pending: u64 = marks.iter().sum();
    page.gauge("sipring_marks", "Requests that wait for their final response").of(&[], pending as f64);
}

fn of_node(page: &mut Page, view: &View, marks: &[u64], set: &str, node: &Node) {
    let labels = [("set", set), ("node", node.name.as_str())];
    let with = |more: &[(&'static str, &str)], page: &mut Page, name: &str, help: &str, value: f64| {
        let all: Vec<(&str, &str)> = labels.iter().chain(more).copied().collect();
        page.gauge(name, help).of(&all, value);
    };
    let takes = flag(view.refusal(node).is_none());
    with(&[], page, "sipring_node_takes_calls", "1 if the node takes new calls", takes);
    with(&[], page, "sipring_node_weight", "Share of new calls", f64::from(node.weight));
    for (word, intent) in Intent::WORDS {
        let help = "1 for the operator's wish";
        with(&[("intent", word)], page, "sipring_node_intent", help, flag(node.intent == intent));
    }
    let traffic = view.traffic(node, marks);
    let help = "Requests at the node that wait for their final response";
    with(&[], page, "sipring_node_marks", help, traffic.marks as f64);
    if let Some(dialogs) = traffic.dialogs {
        with(&[], page, "sipring_node_dialogs", "Dialogs whose requests still come for the node", dialogs as f64);
    }
    for (end, role) in node.endpoints.iter().zip(["primary", "backup"]) {
        let Some(end) = end else { continue };
        let address = end.addr.to_string();
        for health in Health::ALL {
            let more = [("address", address.as_str()), ("role", role), ("health", health.word())];
            let holds = flag(view.state.vitals.of(end.peer) == health);
            with(&more, page, "sipring_endpoint_health", "1 for what is observed of the address", holds);
        }
    }
}

fn flag(holds: bool) -> f64 {
    f64::from(u8::from(holds))
}
