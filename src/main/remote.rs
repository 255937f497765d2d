//! Asking a running balancer over its admin side.
//!
//! Finds address and token, by the file or by options, and turns every failure into words.

use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use serde_json::Value;
use sipring::config::Config;
use ureq::http::{Response, StatusCode};
use ureq::{Agent, Body, RequestBuilder};

/// Longer than the balancer takes for an answer.
const PATIENCE: Duration = Duration::from_secs(35);
/// How long whoever listens may take to take a connection.
const PRESENCE: Duration = Duration::from_secs(2);

/// Where the balancer is.
#[derive(Args)]
pub(crate) struct Remote {
    /// The configuration; its [admin] says where the balancer listens and which token it wants.
    #[arg(short, long, default_value = "sipring.toml")]
    config: PathBuf,
    /// Where the balancer listens, instead of what the configuration says: `http://127.0.0.1:8060`.
    #[arg(long, value_name = "URL")]
    admin: Option<String>,
    /// The file of the token, instead of the one that the configuration names.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

impl Remote {
    pub(crate) fn config(&self) -> &Path {
        &self.config
    }

    /// Whether a balancer was named, so that the files alone will not do.
    pub(crate) fn is_named(&self) -> bool {
        self.admin.is_some() || self.token_file.is_some()
    }
}

/// A balancer that can be asked.
pub(crate) struct Api {
    agent: Agent,
    base: String,
    token: Option<String>,
}

impl Api {
    pub(crate) fn open(remote: &Remote) -> Result<Self, String> {
        let (base, mut token) = match &remote.admin {
            Some(url) => (url_of(url)?, None),
            None => {
                let admin = Config::read_admin(&remote.config).map_err(|faults| faults.to_string())?;
                let bind = admin.bind.ok_or_else(|| {
                    format!("{}: the admin side is off; `--admin URL` names another one", remote.config.display())
                })?;
                let mut bind = bind;
                // What listens on every address is asked on this machine's own.
                if bind.ip().is_unspecified() {
                    let own = if bind.is_ipv4() { "127.0.0.1" } else { "::1" };
                    bind.set_ip(own.parse().map_err(|_| "no loopback address")?);
                }
                (format!("http://{bind}"), admin.token.map(|token| token.reveal().to_owned()))
            }
        };
        if let Some(file) = &remote.token_file {
            let text = std::fs::read_to_string(file);
            let text = text.map_err(|error| format!("{}: cannot be read: {error}", file.display()))?;
            token = Some(text.trim().to_owned());
        }
        let config = Agent::config_builder().timeout_global(Some(PATIENCE)).http_status_as_error(false);
        let agent = config.max_redirects(0).proxy(None).build().new_agent();
        Ok(Self { agent, base, token })
    }

    /// The one that the configuration names, if anybody listens there; else why not.
    pub(crate) fn of_listening(remote: &Remote) -> Result<Self, String> {
        let api = Self::open(remote)?;
        let at = api.base.trim_start_matches("http://").parse();
        let at: SocketAddr = at.map_err(|_| format!("{} is no address", api.base))?;
        let tried = TcpStream::connect_timeout(&at, PRESENCE);
        tried.map(|_| api).map_err(|error| format!("nobody listens on {at}: {error}"))
    }

    pub(crate) fn ask(&self, path: &str, query: &[(&str, &str)]) -> Result<Value, String> {
        let request = self.agent.get(format!("{}{path}", self.base)).query_pairs(query.iter().copied());
        self.read(self.signed(request).call())
    }

    pub(crate) fn post(&self, path: &str) -> Result<Value, String> {
        self.post_with(path, &[], &[])
    }

    pub(crate) fn post_with(&self, path: &str, query: &[(&str, &str)], body: &[u8]) -> Result<Value, String> {
        let request = self.agent.post(format!("{}{path}", self.base)).query_pairs(query.iter().copied());
        self.read(self.signed(request).send(body))
    }

    pub(crate) fn post_json(&self, path: &str, body: &Value) -> Result<Value, String> {
        self.read(self.signed(self.agent.post(format!("{}{path}", self.base))).send_json(body))
    }

    pub(crate) fn put_json(&self, path: &str, body: &Value) -> Result<Value, String> {
        self.read(self.signed(self.agent.put(format!("{}{path}", self.base))).send_json(body))
    }

    pub(crate) fn delete(&self, path: &str) -> Result<Value, String> {
        self.read(self.signed(self.agent.delete(format!("{}{path}", self.base))).call())
    }

    fn signed<B>(&self, request: RequestBuilder<B>) -> RequestBuilder<B> {
        match &self.token {
            Some(token) => request.header("Authorization", format!("Bearer {token}")),
            None => request,
        }
    }

    fn read(&self, answer: Result<Response<Body>, ureq::Error>) -> Result<Value, String> {
        let base = &self.base;
        let mut answer = answer.map_err(|error| {
            format!("{base}: {error}; is sipring running there? `--admin URL` names another address")
        })?;
        let status = answer.status();
        let text = answer.body_mut().read_to_string().map_err(|error| format!("{base}: {error}"))?;
        let value: Option<Value> = serde_json::from_str(&text).ok();
        if status.is_success() {
            return value.ok_or_else(|| format!("{base}: this is not the admin side of sipring: {status}"));
        }
        let why = value.as_ref().and_then(|value| value.get("error")?.as_str());
        let hint = match status {
            StatusCode::UNAUTHORIZED => "; `--token-file FILE` names its file",
            _ => "",
        };
        Err(why.map_or_else(|| format!("{base}: {status}"), |why| format!("{base}: {why}{hint}")))
    }
}

fn url_of(text: &str) -> Result<String, String> {
    let rest = text.strip_prefix("http://").unwrap_or(text).trim_end_matches('/');
    if rest.is_empty() || rest.contains(['/', '@', '?', '#', ' ']) {
        return Err(format!("`{text}` is no address of an admin side; `http://127.0.0.1:8060` is right"));
    }
    Ok(format!("http://{rest}"))
}
