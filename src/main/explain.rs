//! `sipring explain`: the choice of a node, told step by step.
//!
//! By the running balancer, with its health and run-time changes; by the files alone where none runs.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use clap::Args;
use sipring::balance::{Plan, Secrets, Vitals};
use sipring::config::Config;
use sipring::control::{self, Ground, Question, Told};

use super::remote::{Api, Remote};

/// What is to be explained.
#[derive(Args)]
pub(crate) struct Asked {
    #[command(flatten)]
    remote: Remote,
    /// Ask the running balancer, and nobody else if it does not answer.
    #[arg(long)]
    live: bool,
    /// By the files alone: as the balancer would choose after a reload, with all nodes up.
    #[arg(long, conflicts_with_all = ["live", "admin", "token_file"])]
    files: bool,
    /// A request whose Call-ID is this, and whose other headers are made up.
    #[arg(long, required_unless_present = "message", conflicts_with = "message")]
    call_id: Option<String>,
    /// A file that holds one request as it came, line ends included.
    #[arg(long)]
    message: Option<PathBuf>,
    /// The listener that it arrives at; the first, if not said.
    #[arg(long)]
    listener: Option<String>,
    /// The set that it goes to, whatever the rules say.
    #[arg(long)]
    set: Option<String>,
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
pub(crate) fn answer(asked: &Asked) -> Result<String, String> {
    if asked.files {
        return by_files(asked).map(|told| told.to_string());
    }
    if asked.live || asked.remote.is_named() {
        return live(asked, &Api::open(&asked.remote)?).map(|told| told.to_string());
    }
    match Api::of_listening(&asked.remote) {
        Ok(api) => live(asked, &api).map(|told| told.to_string()),
        Err(why) => {
            let mut told = by_files(asked)?;
            told.notes.push(format!("by the files alone, without health and run-time changes: {why}"));
            Ok(told.to_string())
        }
    }
}

fn by_files(asked: &Asked) -> Result<Told, String> {
    let config = Config::read(asked.remote.config(), None).map_err(|faults| faults.to_string())?;
    let secret = config.secret.as_ref().ok_or_else(|| {
        format!("{}: absent, and nodes are chosen by it; `sipring run` makes it", config.secret_file.display())
    })?;
    let secrets = Secrets::derive(&secret.hash);
    let found = control::resolve(&config.dns, &config.names())?;
    let spec = config.plan_spec(&found).map_err(|faults| faults.to_string())?;
    let plan = Plan::build(spec, &secrets, None).map_err(|error| format!("{}: {error}", config.file.display()))?;
    let question = match &asked.message {
        Some(file) => Question::of_message(read(file)?, asked.source),
        None => Question::of_call(asked.call_id.as_deref().unwrap_or_default(), &asked.method, asked.source)?,
    };
    let ground = Ground {
        plan: &plan,
        vitals: &Vitals::default(),
        draining: false,
        ports: &config.ports,
        secrets: &secrets,
        rules_written: config.rules_written(),
    };
    ground.explain(&question.at(asked.listener.clone()).to(asked.set.clone()))
}

fn live(asked: &Asked, api: &Api) -> Result<Told, String> {
    let source = asked.source.to_string();
    let mut query = vec![("source", source.as_str())];
    query.extend(asked.listener.as_deref().map(|listener| ("listener", listener)));
    query.extend(asked.set.as_deref().map(|set| ("set", set)));
    let answer = match &asked.message {
        Some(file) => api.post_with("/explain", &query, &read(file)?)?,
        None => {
            query.extend([("call_id", asked.call_id.as_deref().unwrap_or_default()), ("method", &asked.method)]);
            api.ask("/explain", &query)?
        }
    };
    serde_json::from_value(answer).map_err(|error| format!("the answer is not understood: {error}"))
}

fn read(file: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(file).map_err(|error| format!("{}: cannot be read: {error}", file.display()))
}
