//! The shape of `sipring.toml`, key by key, before anything is checked.
//!
//! Unknown keys are refused here; what values mean is for `ports` and `cluster`. Spans are kept
//! wherever a later check may have to point at the place.

use std::collections::BTreeMap;

use serde::Deserialize;
use toml::Spanned;

pub(super) type Text = Spanned<String>;
pub(super) type Number = Spanned<i64>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub(super) cluster_secret_file: Option<String>,
    pub(super) drain_max_s: Option<Number>,
    pub(super) ringing_max_s: Option<Number>,
    pub(super) marks_max: Option<Number>,
    pub(super) cookies: Option<bool>,
    #[serde(default)]
    pub(super) aliases: Vec<Text>,
    #[serde(default)]
    pub(super) listener: Vec<Spanned<Listener>>,
    #[serde(default)]
    pub(super) node_side: Vec<Spanned<NodeSide>>,
    #[serde(default)]
    pub(super) set: Vec<Set>,
    #[serde(default)]
    pub(super) rule: Vec<Rule>,
    #[serde(default)]
    pub(super) dns: Dns,
    #[serde(default)]
    pub(super) health: Health,
    #[serde(default)]
    pub(super) admin: Admin,
    #[serde(default)]
    pub(super) log: Log,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Listener {
    pub(super) name: Text,
    pub(super) bind: Text,
    pub(super) advertise: Option<Text>,
    #[serde(default)]
    pub(super) aliases: Vec<Text>,
    pub(super) set: Option<Text>,
    pub(super) force_rport: Option<Text>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NodeSide {
    pub(super) bind: Text,
    pub(super) advertise: Option<Text>,
    pub(super) ports: Text,
    #[serde(default)]
    pub(super) trusted: Vec<Text>,
    pub(super) node_source: Option<Text>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Set {
    pub(super) name: Text,
    pub(super) slots: Option<Number>,
    pub(super) key: Option<Text>,
    #[serde(default)]
    pub(super) keys: BTreeMap<Text, Text>,
    pub(super) lost_dialog: Option<Text>,
    pub(super) relay_503: Option<bool>,
    pub(super) egress: Option<Text>,
    pub(super) path: Option<Text>,
    pub(super) contact: Option<Text>,
    pub(super) panic: Option<Text>,
    pub(super) source_header: Option<SourceHeader>,
    #[serde(default)]
    pub(super) health: Health,
    #[serde(default)]
    pub(super) node: Vec<Node>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SourceHeader {
    pub(super) name: Text,
    pub(super) form: Option<Text>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Node {
    pub(super) name: Text,
    pub(super) id: Option<Number>,
    pub(super) address: Text,
    pub(super) pair: Option<Text>,
    pub(super) weight: Option<Number>,
    pub(super) intent: Option<Text>,
    #[serde(default)]
    pub(super) labels: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rule {
    pub(super) listener: Option<Text>,
    pub(super) method: Option<Text>,
    pub(super) host: Option<Text>,
    pub(super) source: Option<Text>,
    pub(super) set: Text,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Dns {
    #[serde(default)]
    pub(super) servers: Vec<Text>,
    pub(super) ttl_min_s: Option<Number>,
    pub(super) ttl_max_s: Option<Number>,
    pub(super) names_max: Option<Number>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Health {
    pub(super) probe: Option<bool>,
    pub(super) interval_ms: Option<Number>,
    pub(super) timeout_ms: Option<Number>,
    pub(super) misses: Option<Number>,
    pub(super) answers: Option<Number>,
    pub(super) homing: Option<Number>,
    pub(super) unanswered_requests: Option<Number>,
    pub(super) unanswered_ms: Option<Number>,
    pub(super) busy_row: Option<Number>,
    pub(super) busy_percent: Option<Number>,
    pub(super) ejected_s: Option<Number>,
    pub(super) ejected_max_percent: Option<Number>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Admin {
    pub(super) bind: Option<Text>,
    pub(super) token_file: Option<Text>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Log {
    pub(super) format: Option<Text>,
    pub(super) level: Option<Text>,
}
