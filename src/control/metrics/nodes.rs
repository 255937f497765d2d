//! Sets, nodes and their addresses: intent, weight, health, and what is still seen of them.
//!
//! Every state is a line of its own, 1 for the one that holds, so that none appears from nowhere.

use super::rows::Page;
use crate::balance::{Health, Intent, Node};
use crate::control::health::status::EndpointStatus;
use crate::control::view::View;

/// Classes of responses, as the counters order them.
const CLASSES: [&str; crate::shard::CLASSES] = ["1xx", "2xx", "3xx", "4xx", "5xx", "6xx"];

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
    for end in view.endpoints(node) {
        of_endpoint(page, &labels, end);
    }
}

fn of_endpoint(page: &mut Page, node: &[(&str, &str); 2], end: &EndpointStatus) {
    let address = end.address.to_string();
    let [set, name] = *node;
    let labels = [set, name, ("address", address.as_str()), ("role", end.role)];
    let [first, second, third, fourth] = labels;
    let with = |key: &'static str, word: &'static str| [first, second, third, fourth, (key, word)];
    for health in Health::ALL {
        let holds = flag(end.health == health.word());
        let help = "1 for what is observed of the address";
        page.gauge("sipring_endpoint_health", help).of(&with("health", health.word()), holds);
    }
    let help = "1 while it takes no new calls because it asked for that, or refused them";
    page.gauge("sipring_endpoint_closed", help).of(&labels, flag(end.closed));
    let help = "1 while it says that the other half of its pair takes the calls";
    page.gauge("sipring_endpoint_standby", help).of(&labels, flag(end.standby));
    if let Some(rtt_us) = end.rtt_us {
        let help = "Round trip of the last probe that was answered at once";
        page.gauge("sipring_endpoint_probe_rtt_seconds", help).of(&labels, rtt_us as f64 / 1e6);
    }
    let probes = [("sent", end.probes), ("failed", end.probes_failed), ("late", end.probes_late)];
    for (result, count) in probes {
        let help = "Probes of the address; those that failed, and answers that came too late";
        page.counter("sipring_endpoint_probes", help).of(&with("result", result), count as f64);
    }
    let traffic = &end.traffic;
    page.counter("sipring_endpoint_requests", "Requests sent to the address, without ACK")
        .of(&labels, traffic.requests as f64);
    page.counter("sipring_endpoint_begun", "Requests that came from the address").of(&labels, traffic.begun as f64);
    for (class, count) in CLASSES.into_iter().zip(traffic.responses) {
        let help = "Responses of the address by class";
        page.counter("sipring_endpoint_responses", help).of(&with("class", class), count as f64);
    }
    let calls = [("answered", traffic.calls_answered), ("refused_503", traffic.calls_refused)];
    for (result, count) in calls {
        let help = "Final responses of the address to INVITE, and 503s among them";
        page.counter("sipring_endpoint_calls", help).of(&with("result", result), count as f64);
    }
    let help = "ICMP errors that came back from the address";
    page.counter("sipring_endpoint_unreachable", help).of(&labels, traffic.unreachable as f64);
}

fn flag(holds: bool) -> f64 {
    f64::from(u8::from(holds))
}
