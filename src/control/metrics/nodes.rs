//! Sets, nodes and their addresses: intent, weight, health, and what is still seen of them.
//!
//! Every state is a line of its own, 1 for the one that holds, so that none appears from nowhere.

use super::rows::Page;
use crate::balance::{Health, Intent, Node};
use crate::control::health::status::EndpointStatus;
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
        if let Some(status) = view.endpoint(node, end.addr) {
            let all = [("set", set), ("node", node.name.as_str()), ("address", &address), ("role", role)];
            of_endpoint(page, &all, status);
        }
    }
}

/// What was counted at an address: probes, and the traffic of calls.
fn of_endpoint(page: &mut Page, labels: &[(&'static str, &str)], status: &EndpointStatus) {
    let total = |more: &[(&'static str, &str)], page: &mut Page, name: &str, help: &str, value: u64| {
        let all: Vec<(&str, &str)> = labels.iter().chain(more).copied().collect();
        page.counter(name, help).of(&all, value as f64);
    };
    let traffic = &status.traffic;
    total(&[], page, "sipring_endpoint_probes", "Probes sent, retransmissions not counted", status.probes);
    total(&[], page, "sipring_endpoint_probes_failed", "Probes that failed", status.probes_failed);
    total(&[], page, "sipring_endpoint_requests", "Requests sent to the address, without ACK", traffic.requests);
    total(&[], page, "sipring_endpoint_requests_begun", "Requests that came from the address", traffic.begun);
    let help = "Responses from the address by class";
    for (count, class) in traffic.responses.iter().zip(["1xx", "2xx", "3xx", "4xx", "5xx", "6xx"]) {
        total(&[("class", class)], page, "sipring_endpoint_responses", help, *count);
    }
    let help = "ICMP errors that came back from the address";
    total(&[], page, "sipring_endpoint_unreachable", help, traffic.unreachable);
    let seconds = status.rtt_us.map_or(f64::NAN, |us| us as f64 / 1e6);
    let help = "Round trip of the last probe that was answered at once; NaN if none was";
    page.gauge("sipring_endpoint_probe_rtt_seconds", help).of(labels, seconds);
    for (what, holds) in [("standby", status.standby), ("closed", status.closed)] {
        let help = "1 if the address is alive and takes no new calls, for that reason";
        let all: Vec<(&str, &str)> = labels.iter().chain(&[("reason", what)]).copied().collect();
        page.gauge("sipring_endpoint_aside", help).of(&all, flag(holds));
    }
}

fn flag(holds: bool) -> f64 {
    f64::from(u8::from(holds))
}
