//! `sipring explain`: the choice of a node, told step by step.
//!
//! Takes a message, or makes the least one that has the given Call-ID, and asks the very functions
//! that the shard asks. Knows the plan of the files only: no health, no marks, no dialogs.

use std::fmt::{self, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use clap::Args;
use sipring::balance::{self, KeyBy, NodeIx, NodeSet, Plan, Refusal, Secrets, Vitals};
use sipring::config::Config;
use sipring::control;
use sipring::packet::PortId;
use sipring::shard;
use sipring::sip::{Message, Method, scan};

/// What is to be explained.
#[derive(Args)]
pub(crate) struct Question {
    /// The configuration.
    #[arg(short, long, default_value = "sipring.toml")]
    config: PathBuf,
    /// A request whose Call-ID is this, and whose other headers are made up.
    #[arg(long, required_unless_present = "message", conflicts_with = "message")]
    call_id: Option<String>,
    /// A file that holds one request as it came, line ends included.
    #[arg(long)]
    message: Option<PathBuf>,
    /// The listener that it arrives at; the first, if not said.
    #[arg(long)]
    listener: Option<String>,
    /// The address that it comes from.
    #[arg(long, default_value = "192.0.2.1", value_parser = source)]
    source: SocketAddr,
    /// The method that goes with `--call-id`.
    #[arg(long, default_value = "INVITE", conflicts_with = "message")]
    method: String,
}

fn source(text: &str) -> Result<SocketAddr, String> {
    let bare = |ip: IpAddr| SocketAddr::new(ip, 5060);
    text.parse()
        .or_else(|_| text.parse().map(bare))
        .map_err(|_| "an address, with or without a port, is right".to_owned())
}

/// The explanation.
pub(crate) fn answer(question: &Question) -> Result<String, String> {
    let config = Config::read(&question.config, None).map_err(|faults| faults.to_string())?;
    let secret = config.secret.as_ref().ok_or_else(|| {
        format!("{}: absent, and nodes are chosen by it; `sipring run` makes it", config.secret_file.display())
    })?;
    let secrets = Secrets::derive(&secret.hash);
    let found = control::resolve(&config.dns, &config.names())?;
    let spec = config.plan_spec(&found).map_err(|faults| faults.to_string())?;
    let plan = Plan::build(spec, &secrets, None).map_err(|error| format!("{}: {error}", config.file.display()))?;
    let bytes = bytes(question)?;
    let port = port(&config, question.listener.as_deref())?;
    let (watched, _) = shard::watched(&plan);
    let watch = shard::watch_of(&watched).ok_or("more headers are to be looked for than the scanner can")?;
    let message = scan(&bytes, &watch);
    if let Some(fault) = message.fault {
        return Err(format!("this is no sound message: {fault:?}"));
    }
    let method = message.method().ok_or("this is a response: it goes where its Via says, not to a chosen node")?;
    let mut text = head(question, &config, port, &bytes, &message, method).map_err(|error| error.to_string())?;
    let host = sipring::sip::uri::parse(message.uri().of(&bytes)).map_or(&b""[..], |uri| uri.host);
    let Some((rule, set)) = shard::rule_of(&plan, port, method, host, question.source.ip()) else {
        return Err(format!(
            "{text}rule      none matches: the request is refused; a `set` for the listener or a rule is right"
        ));
    };
    let key = shard::key_of(set, &bytes, &message, question.source, &secrets, &watch, &watched);
    let written = config.rules_written();
    let rule =
        if rule < written { format!("{} of {written}", rule + 1) } else { "none; the listener's own set".to_owned() };
    choice(&mut text, &rule, &plan, set, &key).map_err(|error| error.to_string())?;
    if question.call_id.is_some() && !matches!(key.by, KeyBy::CallId | KeyBy::Source) {
        text.push_str("note      this set looks at more than the Call-ID, and the rest was made up; use --message\n");
    }
    Ok(text)
}

fn bytes(question: &Question) -> Result<Vec<u8>, String> {
    if let Some(file) = &question.message {
        return std::fs::read(file).map_err(|error| format!("{}: cannot be read: {error}", file.display()));
    }
    let method = &question.method;
    let call_id = question.call_id.as_deref().unwrap_or_default();
    let text = format!(
        "{method} sip:somebody@invalid SIP/2.0\r\nVia: SIP/2.0/UDP {};branch=z9hG4bKexplain\r\nFrom: <sip:anybody@invalid>;tag=1\r\n\
         To: <sip:somebody@invalid>\r\nCall-ID: {call_id}\r\nCSeq: 1 {method}\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n",
        question.source
    );
    Ok(text.into_bytes())
}

fn port(config: &Config, name: Option<&str>) -> Result<PortId, String> {
    let edges = || config.ports.iter().zip(0..).filter(|(port, _)| port.edge);
    let mut wanted = edges().filter(|(port, _)| name.is_none_or(|name| port.name == name));
    wanted.next().map(|(_, at)| PortId(at)).ok_or_else(|| {
        let names: Vec<&str> = edges().map(|(port, _)| port.name.as_str()).collect();
        format!("unknown listener `{}`; one of: {}", name.unwrap_or_default(), names.join(", "))
    })
}

fn head(
    question: &Question,
    config: &Config,
    port: PortId,
    bytes: &[u8],
    message: &Message,
    method: Method,
) -> Result<String, fmt::Error> {
    let mut text = String::new();
    let shown = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let name = if method == Method::Unknown { "a method of its own" } else { method.name() };
    writeln!(
        text,
        "request   {name} {}, Call-ID {}",
        shown(message.uri().of(bytes)),
        shown(message.call_id.of(bytes))
    )?;
    if let Some(port) = config.ports.get(usize::from(port.0)) {
        writeln!(text, "arrives   at listener {} ({}) from {}", port.name, port.local.bind, question.source)?;
    }
    if !message.to.tag.is_empty() || !message.route.is_empty() {
        writeln!(text, "note      it has a To tag or a Route: with a cookie of ours it follows that instead")?;
    }
    Ok(text)
}

fn choice(text: &mut String, rule: &str, plan: &Plan, set: &NodeSet, key: &shard::SpreadKey) -> fmt::Result {
    let by = match &key.by {
        KeyBy::CallId => "call-id".to_owned(),
        KeyBy::User => "user".to_owned(),
        KeyBy::Aor => "aor".to_owned(),
        KeyBy::RequestUser => "request-user".to_owned(),
        KeyBy::Source => "source".to_owned(),
        KeyBy::Header(name) => format!("header:{name}"),
    };
    let value = match key.value.as_array::<16>().filter(|_| key.by == KeyBy::Source) {
        Some(octets) => IpAddr::from(*octets).to_canonical().to_string(),
        None => String::from_utf8_lossy(&key.value).into_owned(),
    };
    let fell_back = if key.fell_back { " (absent: the Call-ID stands in)" } else { "" };
    let vitals = Vitals::default();
    let told = balance::explain(set, key.hash, |ix| plan.node(ix).and_then(|node| node.refusal(&vitals)));
    writeln!(text, "rule      {rule}")?;
    writeln!(text, "set       {}", set.name)?;
    writeln!(text, "key       {by}{fell_back} = {value}")?;
    writeln!(text, "hash      {:016x}", key.hash)?;
    writeln!(text, "slot      {}", told.slot)?;
    for ((ix, refusal), rank) in told.ranked.iter().zip(1..) {
        let why = match refusal {
            Some(Refusal::Stopped) => "not: stopped",
            Some(Refusal::Draining) => "not: draining",
            Some(Refusal::Down) => "not: down",
            Some(Refusal::Closed) => "not: takes no new calls for a while",
            Some(Refusal::Unresolved) => "not: its name has no address",
            Some(Refusal::Avoided) => "not: avoided after an error",
            None if told.chosen == Some(*ix) => "chosen",
            None => "stands by",
        };
        writeln!(text, "rank {rank:<4} {} {why}", named(plan, *ix))?;
    }
    match told.chosen {
        Some(ix) => writeln!(text, "node      {}", named(plan, ix)),
        None => writeln!(text, "node      none: no node of the set takes new calls"),
    }
}

fn named(plan: &Plan, ix: NodeIx) -> String {
    let unknown = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
    plan.node(ix).map_or_else(String::new, |node| {
        let addr = node.endpoints.iter().flatten().next().map_or(unknown, |end| end.addr);
        format!("{} {addr} (id {}, weight {})", node.name, node.id.0, node.weight)
    })
}
