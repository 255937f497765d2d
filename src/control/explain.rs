//! The choice of a node, told step by step, for the command line and for `GET /explain`.
//!
//! Takes a message, or makes the least one that has a given Call-ID, and asks the very functions
//! that the shard asks. Knows no marks and no dialogs; health and intents are the caller's.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::balance::{self, KeyBy, Node, NodeIx, NodeSet, Plan, Refusal, Secrets, Vitals};
use crate::packet::PortId;
use crate::shard::{self, Port};
use crate::sip::{Message, Method, scan, uri};

/// What is to be explained.
#[derive(Clone, Debug)]
pub struct Question {
    bytes: Vec<u8>,
    made_up: bool,
    source: SocketAddr,
    listener: Option<String>,
    set: Option<String>,
}

impl Question {
    /// A request as it came, line ends included.
    #[must_use]
    pub fn of_message(bytes: Vec<u8>, source: SocketAddr) -> Self {
        Self { bytes, made_up: false, source, listener: None, set: None }
    }

    /// A request of this method and Call-ID, all else made up.
    ///
    /// # Errors
    /// When either holds what cannot stand in a header.
    pub fn of_call(call_id: &str, method: &str, source: SocketAddr) -> Result<Self, String> {
        if call_id.is_empty() || call_id.bytes().any(|byte| byte.is_ascii_control() || byte == b' ') {
            return Err("this is no Call-ID; visible characters without spaces are right".to_owned());
        }
        if method.is_empty() || !method.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
            return Err("this is no method; `INVITE` is right".to_owned());
        }
        let text = format!(
            "{method} sip:somebody@invalid SIP/2.0\r\nVia: SIP/2.0/UDP {source};branch=z9hG4bKexplain\r\n\
             From: <sip:anybody@invalid>;tag=1\r\nTo: <sip:somebody@invalid>\r\nCall-ID: {call_id}\r\n\
             CSeq: 1 {method}\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
        );
        Ok(Self { made_up: true, ..Self::of_message(text.into_bytes(), source) })
    }

    /// The listener that it arrives at, instead of the first.
    #[must_use]
    pub fn at(mut self, listener: Option<String>) -> Self {
        self.listener = listener;
        self
    }

    /// The set that it goes to, whatever the rules say.
    #[must_use]
    pub fn to(mut self, set: Option<String>) -> Self {
        self.set = set;
        self
    }
}

/// What the explanation stands on.
#[derive(Clone, Copy)]
pub struct Ground<'a> {
    /// Sets, nodes and rules.
    pub plan: &'a Plan,
    /// Health of the plan's endpoints.
    pub vitals: &'a Vitals,
    /// The whole instance drains.
    pub draining: bool,
    /// The local ports.
    pub ports: &'a [Port],
    /// The cluster's keys.
    pub secrets: &'a Secrets,
    /// Rules that stand in the file.
    pub rules_written: usize,
}

/// The explanation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// Method, request-URI and Call-ID.
    pub request: String,
    /// Listener and source.
    pub arrives: String,
    /// The rule that matched.
    pub rule: String,
    /// The set.
    pub set: String,
    /// What is hashed, by its name in the file.
    pub key_by: String,
    /// The message has no such thing: its Call-ID stands in.
    pub fell_back: bool,
    /// What is hashed.
    pub key: String,
    /// Its hash, in hexadecimal.
    pub hash: String,
    /// Slot of the table.
    pub slot: u32,
    /// All nodes with a weight, best first.
    pub ranked: Vec<Rank>,
    /// Name of the node; none if no node of the set takes new calls.
    pub node: Option<String>,
    /// What limits the explanation.
    pub notes: Vec<String>,
}

/// One node in its place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rank {
    /// Its name.
    pub node: String,
    /// Its first address.
    pub address: String,
    /// What cookies call it.
    pub id: u32,
    /// Share of new calls.
    pub weight: u32,
    /// Why it takes none.
    pub refusal: Option<String>,
}

impl fmt::Display for Rank {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} (id {}, weight {})", self.node, self.address, self.id, self.weight)
    }
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "request   {}", self.request)?;
        writeln!(f, "arrives   {}", self.arrives)?;
        let fell_back = if self.fell_back { " (absent: the Call-ID stands in)" } else { "" };
        writeln!(f, "rule      {}", self.rule)?;
        writeln!(f, "set       {}", self.set)?;
        writeln!(f, "key       {}{fell_back} = {}", self.key_by, self.key)?;
        writeln!(f, "hash      {}", self.hash)?;
        writeln!(f, "slot      {}", self.slot)?;
        let chosen = |rank: &&Rank| self.node.as_ref() == Some(&rank.node);
        for (rank, place) in self.ranked.iter().zip(1..) {
            let why = match &rank.refusal {
                Some(refusal) => format!("not: {refusal}"),
                None if chosen(&rank) => "chosen".to_owned(),
                None => "stands by".to_owned(),
            };
            writeln!(f, "rank {place:<4} {rank} {why}")?;
        }
        match self.ranked.iter().find(chosen) {
            Some(rank) => writeln!(f, "node      {rank}")?,
            None => writeln!(f, "node      none: no node of the set takes new calls")?,
        }
        self.notes.iter().try_for_each(|note| writeln!(f, "note      {note}"))
    }
}

impl Ground<'_> {
    /// Which node a request goes to, and why.
    ///
    /// # Errors
    /// No sound request, an unknown listener or set, no rule that matches.
    pub fn explain(&self, question: &Question) -> Result<Told, String> {
        let bytes = &question.bytes;
        let (port_id, port) = self.port(question.listener.as_deref())?;
        let (watched, _) = shard::watched(self.plan);
        let watch = shard::watch_of(&watched).ok_or("more headers are to be looked for than the scanner can")?;
        let message = scan(bytes, &watch);
        if let Some(fault) = message.fault {
            return Err(format!("this is no sound message: {fault:?}"));
        }
        let method = message.method().ok_or("this is a response: it goes where its Via says, not to a chosen node")?;
        let (rule, set) = self.set(question, port_id, method, &message)?;
        let key = shard::key_of(set, bytes, &message, question.source, self.secrets, &watch, &watched);
        let told = balance::explain(set, key.hash, |ix| self.plan.node(ix).and_then(|node| node.refusal(self.vitals)));
        let rank = |(ix, refusal): &(NodeIx, Option<Refusal>)| {
            self.plan.node(*ix).map(|node| Rank::of(node, refusal.map(Refusal::word)))
        };
        let shown = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let name = if method == Method::Unknown { "a method of its own" } else { method.name() };
        let (uri, call_id) = (shown(message.uri().of(bytes)), shown(message.call_id.of(bytes)));
        Ok(Told {
            request: format!("{name} {uri}, Call-ID {call_id}"),
            arrives: format!("at listener {} ({}) from {}", port.name, port.local.bind, question.source),
            rule,
            set: set.name.clone(),
            key_by: by(&key.by),
            fell_back: key.fell_back,
            key: match key.value.as_array::<16>().filter(|_| key.by == KeyBy::Source) {
                Some(octets) => IpAddr::from(*octets).to_canonical().to_string(),
                None => shown(&key.value),
            },
            hash: format!("{:016x}", key.hash),
            slot: told.slot,
            ranked: told.ranked.iter().filter_map(rank).collect(),
            node: told.chosen.and_then(|ix| self.plan.node(ix)).map(|node| node.name.clone()),
            notes: self.notes(question, &message, &key.by),
        })
    }

    fn port(&self, name: Option<&str>) -> Result<(PortId, &Port), String> {
        let edges = || self.ports.iter().zip((0..).map(PortId)).filter(|(port, _)| port.edge);
        let found = edges().find(|(port, _)| name.is_none_or(|name| port.name == name));
        found.map(|(port, id)| (id, port)).ok_or_else(|| {
            let names: Vec<&str> = edges().map(|(port, _)| port.name.as_str()).collect();
            format!("unknown listener `{}`; one of: {}", name.unwrap_or_default(), names.join(", "))
        })
    }

    /// How the set is found, and the set.
    fn set(
        &self,
        question: &Question,
        port: PortId,
        method: Method,
        message: &Message,
    ) -> Result<(String, &NodeSet), String> {
        if let Some(name) = &question.set {
            let set = self.plan.sets.iter().find(|set| set.name == *name).ok_or_else(|| {
                let names: Vec<&str> = self.plan.sets.iter().map(|set| set.name.as_str()).collect();
                format!("unknown set `{name}`; one of: {}", names.join(", "))
            })?;
            return Ok(("not asked; the set was given".to_owned(), set));
        }
        let host = uri::parse(message.uri().of(&question.bytes)).map_or(&b""[..], |uri| uri.host);
        let found = shard::rule_of(self.plan, port, method, host, question.source.ip());
        let (rule, set) =
            found.ok_or("no rule matches: the request is refused; a `set` for the listener or a rule is right")?;
        let written = self.rules_written;
        let told = if rule < written {
            format!("{} of {written}", rule + 1)
        } else {
            "none; the listener's own set".to_owned()
        };
        Ok((told, set))
    }

    fn notes(&self, question: &Question, message: &Message, by: &KeyBy) -> Vec<String> {
        let mut notes = Vec::new();
        if !message.to.tag.is_empty() || !message.route().is_empty() {
            notes.push("it has a To tag or a Route: with a cookie of ours it follows that instead".to_owned());
        }
        if question.made_up && !matches!(by, KeyBy::CallId | KeyBy::Source) {
            notes.push("this set looks at more than the Call-ID, and the rest was made up; use --message".to_owned());
        }
        if self.draining {
            notes.push("the whole instance drains: new calls are refused".to_owned());
        }
        notes
    }
}

impl Rank {
    fn of(node: &Node, refusal: Option<&'static str>) -> Self {
        let first = node.endpoints.iter().flatten().next();
        Self {
            node: node.name.clone(),
            address: first.map_or_else(|| "-".to_owned(), |end| end.addr.to_string()),
            id: node.id.0,
            weight: node.weight,
            refusal: refusal.map(str::to_owned),
        }
    }
}

fn by(key: &KeyBy) -> String {
    match key {
        KeyBy::CallId => "call-id".to_owned(),
        KeyBy::User => "user".to_owned(),
        KeyBy::Aor => "aor".to_owned(),
        KeyBy::RequestUser => "request-user".to_owned(),
        KeyBy::Source => "source".to_owned(),
        KeyBy::Header(name) => format!("header:{name}"),
    }
}
