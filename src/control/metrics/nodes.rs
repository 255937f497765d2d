//! Sets, nodes and their addresses: intent, weight, health, and what is still seen of them.
//!
//! Every state is a line of its own, 1 for the one that holds, so that none appears from nowhere.

use super::rows::Page;
use crate::balance::{Health, Intent, Node};
use crate::control::health::status::{EndpointStatus, Totals};
use crate::control::view::View;

/// Classes of responses, as the counters order them.
const CLASSES: [&str; crate::shard::CLASSES] = ["1xx", "2xx", "3xx", "4xx", "5xx", "6xx"];

pub(super) fn tell(page: &mut Page, view: &View, marks: &[u64]) {
    for set in &view.plan().sets {
        let help = "1 if new calls of the set get a node";
        page.gauge("sipring_set_takes_calls", help).of(&[("set", &set.name)], flag(view.takes_calls(set)));
        let help = "1 while no node of the set takes new calls, and they are sent to nodes all the same";
        page.gauge("sipring_set_panics", help).of(&[("set", &set.name)], flag(view.panics(set)));
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
    let help = "Dialogs of a node that drains whose requests still come; of others they are not counted";
    with(&[], page, "sipring_node_dialogs", help, known(traffic.dialogs));
    let help = "For how long they have been counted; before two minutes, not all have been seen";
    with(&[], page, "sipring_node_dialogs_counted_seconds", help, known(traffic.dialogs_counted_s));
    let observed = view.observed(node);
    if let Some(switches) = observed.and_then(|status| status.switches) {
        let help = "How often the calls of a pair have gone over to its other half";
        page.counter("sipring_pair_switches", help).of(&labels, switches as f64);
    }
    for end in view.endpoints(node) {
        let active = observed.is_some_and(|status| status.active == Some(end.address));
        of_endpoint(page, &labels, end, active);
    }
}

fn of_endpoint(page: &mut Page, node: &[(&str, &str); 2], end: &EndpointStatus, active: bool) {
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
    page.gauge("sipring_endpoint_active", "1 for the address that the node's calls go to").of(&labels, flag(active));
    let help = "Round trip of the last probe that was answered at once";
    page.gauge("sipring_endpoint_probe_rtt_seconds", help).of(&labels, known(end.rtt_us) / 1e6);
    for (result, count) in [("answered", end.probes_answered), ("failed", end.probes_failed)] {
        let help = "Probes of the address that are over, by result";
        page.counter("sipring_endpoint_probes", help).of(&with("result", result), count as f64);
    }
    let help = "Answers to probes of the address that had failed by then";
    page.counter("sipring_endpoint_probes_late", help).of(&labels, end.probes_late as f64);
    for (result, count) in [("taken", end.ejections), ("held", end.ejections_held)] {
        let help = "How often its traffic took the address out, or would have but for the set's cap";
        page.counter("sipring_endpoint_ejections", help).of(&with("result", result), count as f64);
    }
    of_traffic(page, &labels, &end.traffic);
}

fn of_traffic(page: &mut Page, labels: &[(&str, &str); 4], traffic: &Totals) {
    let [first, second, third, fourth] = *labels;
    let with = |key: &'static str, word: &'static str| [first, second, third, fourth, (key, word)];
    let help = "Requests sent to the address, without ACK";
    page.counter("sipring_endpoint_requests", help).of(labels, traffic.requests as f64);
    page.counter("sipring_endpoint_begun", "Requests that came from the address").of(labels, traffic.begun as f64);
    for (class, count) in CLASSES.into_iter().zip(traffic.responses) {
        let help = "Responses of the address by class";
        page.counter("sipring_endpoint_responses", help).of(&with("class", class), count as f64);
    }
    let other = traffic.calls_answered.saturating_sub(traffic.calls_refused);
    for (result, count) in [("refused_503", traffic.calls_refused), ("other", other)] {
        let help = "Calls that the address gave a final response, by whether that was a 503";
        page.counter("sipring_endpoint_calls", help).of(&with("result", result), count as f64);
    }
    let help = "ICMP errors that came back from the address";
    page.counter("sipring_endpoint_unreachable", help).of(labels, traffic.unreachable as f64);
}

/// What is not known is told as such, so that its line is there from the start.
fn known(value: Option<u64>) -> f64 {
    value.map_or(f64::NAN, |value| value as f64)
}

fn flag(holds: bool) -> f64 {
    f64::from(u8::from(holds))
}
