//! `sipring drain | serve | stop | weight | add | remove | reload`: what a running balancer is told.
//!
//! One request each; says what is then in force.

use clap::Args;
use serde_json::{Map, Value, json};

use super::remote::{Api, Remote};
use super::status;

/// A node, as `SET/NODE`.
#[derive(Clone)]
struct Target {
    set: String,
    node: String,
}

impl Target {
    fn path(&self) -> String {
        format!("/sets/{}/nodes/{}", self.set, self.node)
    }
}

fn target(text: &str) -> Result<Target, String> {
    let sound = |name: &str| {
        !matches!(name, "" | "." | "..")
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
    };
    match text.split_once('/') {
        Some((set, node)) if sound(set) && sound(node) => Ok(Target { set: set.to_owned(), node: node.to_owned() }),
        _ => Err("`SET/NODE` is right".to_owned()),
    }
}

/// A node to do something to.
#[derive(Args)]
pub(crate) struct Named {
    /// The node.
    #[arg(value_name = "SET/NODE", value_parser = target)]
    target: Target,
    #[command(flatten)]
    remote: Remote,
}

/// What to drain.
#[derive(Args)]
pub(crate) struct Drain {
    /// The node.
    #[arg(value_name = "SET/NODE", value_parser = target, required_unless_present = "instance")]
    target: Option<Target>,
    /// The whole balancer, which then ends, as by SIGTERM.
    #[arg(long, conflicts_with = "target")]
    instance: bool,
    #[command(flatten)]
    remote: Remote,
}

/// A node and its share.
#[derive(Args)]
pub(crate) struct Weight {
    /// The node.
    #[arg(value_name = "SET/NODE", value_parser = target)]
    target: Target,
    /// Its share of new calls, 1 to 65535.
    weight: u32,
    #[command(flatten)]
    remote: Remote,
}

/// A node to be.
#[derive(Args)]
pub(crate) struct Add {
    /// The set, which is there, and the name of the node.
    #[arg(value_name = "SET/NODE", value_parser = target)]
    target: Target,
    /// Address or name, port 5060 if there is none.
    address: String,
    /// The other address of a primary/backup pair.
    #[arg(long)]
    pair: Option<String>,
    /// Number in cookies; a hash of the name, if not said.
    #[arg(long)]
    id: Option<u32>,
    /// Share of new calls, 1 to 65535.
    #[arg(long, default_value_t = 100)]
    weight: u32,
    /// serve, drain or stop.
    #[arg(long, default_value = "serve")]
    intent: String,
    /// A word of your own, `site=east`; may be repeated.
    #[arg(long, value_name = "KEY=WORD", value_parser = label)]
    label: Vec<(String, String)>,
    #[command(flatten)]
    remote: Remote,
}

fn label(text: &str) -> Result<(String, String), String> {
    let (key, word) = text.split_once('=').ok_or("`KEY=WORD` is right")?;
    Ok((key.to_owned(), word.to_owned()))
}

pub(crate) fn drain(asked: &Drain) -> Result<String, String> {
    let api = Api::open(&asked.remote)?;
    match &asked.target {
        Some(target) => Ok(status::line(&target.set, &api.post(&format!("{}/drain", target.path()))?)),
        None => api.post("/drain").map(|_| "the whole balancer takes no new calls, and ends when it may\n".to_owned()),
    }
}

pub(crate) fn intent(asked: &Named, word: &str) -> Result<String, String> {
    let answer = Api::open(&asked.remote)?.post(&format!("{}/{word}", asked.target.path()))?;
    Ok(status::line(&asked.target.set, &answer))
}

pub(crate) fn weight(asked: &Weight) -> Result<String, String> {
    let path = format!("{}/weight", asked.target.path());
    let answer = Api::open(&asked.remote)?.put_json(&path, &json!({ "weight": asked.weight }))?;
    Ok(status::line(&asked.target.set, &answer))
}

pub(crate) fn add(asked: &Add) -> Result<String, String> {
    let mut node = Map::new();
    let mut put = |key: &str, value: Value| node.insert(key.to_owned(), value);
    put("name", json!(asked.target.node));
    put("address", json!(asked.address));
    put("pair", json!(asked.pair));
    put("id", json!(asked.id));
    put("weight", json!(asked.weight));
    put("intent", json!(asked.intent));
    put("labels", asked.label.iter().map(|(key, word)| (key.clone(), json!(word))).collect::<Map<_, _>>().into());
    let path = format!("/sets/{}/nodes", asked.target.set);
    let answer = Api::open(&asked.remote)?.post_json(&path, &node.into())?;
    Ok(status::line(&asked.target.set, &answer))
}

pub(crate) fn remove(asked: &Named) -> Result<String, String> {
    Api::open(&asked.remote)?.delete(&asked.target.path())?;
    Ok(format!("{}/{} is removed, until the next restart\n", asked.target.set, asked.target.node))
}

pub(crate) fn reload(remote: &Remote) -> Result<String, String> {
    let answer = Api::open(remote)?.post("/reload")?;
    let count = |what: &str| answer.get(what).and_then(Value::as_u64).unwrap_or_default();
    Ok(format!("in force: {} sets, {} nodes, {} rules\n", count("sets"), count("nodes"), count("rules")))
}
