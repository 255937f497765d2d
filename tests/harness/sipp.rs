//! SIPp with scenarios of our own, its statistics and the log of its messages.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use super::namespace::Place;
use super::process::Process;
use super::sys::Signal;
use super::{TempDir, ports, repository, wait_until};

/// What one SIPp is to do. Without `remote` it answers.
#[derive(Clone, Debug)]
pub(crate) struct Run<'a> {
    pub(crate) scenario: &'a str,
    pub(crate) place: &'a Place,
    pub(crate) local: SocketAddr,
    pub(crate) remote: Option<SocketAddr>,
    /// The host of request-URI and To.
    pub(crate) target: SocketAddr,
    pub(crate) rate: u32,
    pub(crate) calls: u32,
    /// What `<pause/>` means, and so how long a call lasts.
    pub(crate) pause_ms: u32,
}

/// What became of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) name: String,
    pub(crate) created: u64,
    pub(crate) successful: u64,
    pub(crate) failed: u64,
    pub(crate) retransmissions: u64,
    /// Messages that belonged to no call of this SIPp, or to one it had ended.
    pub(crate) strays: u64,
    /// Received messages by Call-ID.
    pub(crate) received: HashMap<String, u32>,
    /// When an INVITE came, seconds since 1970.
    pub(crate) invited_s: Vec<f64>,
    pub(crate) errors: String,
}

pub(crate) struct Sipp {
    name: String,
    dir: TempDir,
    process: Process,
    limit: Duration,
}

impl Sipp {
    /// Starts it; one that answers is listening when this returns.
    pub(crate) fn start(name: &str, run: &Run<'_>) -> Self {
        let dir = TempDir::new(name);
        let limit = Duration::from_secs(u64::from(run.calls / run.rate.max(1)) + u64::from(run.pause_ms / 1000) + 25);
        let mut command = run.place.command("sipp");
        command.current_dir(dir.path());
        if let Some(remote) = run.remote {
            command.arg(remote.to_string()).args(["-r", &run.rate.to_string(), "-m", &run.calls.to_string()]);
            command.args(["-timeout", &limit.as_secs().to_string(), "-timeout_error"]);
        }
        command.arg("-sf").arg(repository("tests/interop/scenarios").join(run.scenario));
        let ip = run.local.ip().to_string();
        command.args(["-i", &ip, "-p", &run.local.port().to_string(), "-bind_local"]);
        command.args(["-cp", &ports::free(1).to_string(), "-mp", &ports::free(4).to_string()]);
        command.args(["-key", "target", &run.target.to_string(), "-s", "service", "-d", &run.pause_ms.to_string()]);
        command.args(["-nostdin", "-buff_size", "8388608", "-l", "100000", "-recv_timeout", "20000"]);
        command.args(["-trace_err", "-error_file", "errors"]);
        command.args(["-trace_stat", "-stf", "statistics", "-fd", "1"]);
        command.args(["-trace_shortmsg", "-shortmessage_file", "messages"]);
        let process = Process::start(name, &mut command, false);
        let mut sipp = Self { name: name.to_owned(), dir, process, limit };
        if run.remote.is_none() {
            let listening = wait_until(Duration::from_secs(10), || {
                sipp.process.ended().is_some() || ports::bound(sipp.process.id(), run.local)
            });
            let alive = sipp.process.ended().is_none();
            assert!(listening && alive, "{name} does not listen on {}: {}", run.local, sipp.process.said());
        }
        sipp
    }

    /// Waits until a calling SIPp has made its calls.
    pub(crate) fn finish(mut self) -> Outcome {
        let status = self.process.wait(self.limit + Duration::from_secs(5));
        assert!(status.is_some(), "{} did not end within {:?}: {}", self.name, self.limit, self.process.said());
        self.outcome()
    }

    /// Asks an answering SIPp to end when its calls have, and waits for that.
    pub(crate) fn stop(mut self) -> Outcome {
        if self.process.ended().is_none() {
            self.process.signal(Signal::User1);
        }
        if self.process.wait(Duration::from_secs(8)).is_none() {
            self.process.signal(Signal::User1);
            self.process.wait(Duration::from_secs(5));
        }
        self.outcome()
    }

    fn outcome(&self) -> Outcome {
        let file = |name: &str| {
            String::from_utf8_lossy(&std::fs::read(self.dir.path().join(name)).unwrap_or_default()).into_owned()
        };
        let statistics = file("statistics");
        let mut lines = statistics.lines();
        let names: Vec<&str> = lines.next().unwrap_or_default().split(';').collect();
        let values: Vec<&str> = lines.next_back().unwrap_or_default().split(';').collect();
        let of = |wanted: &str| {
            let at = names.iter().position(|name| *name == wanted);
            at.and_then(|at| values.get(at)).and_then(|value| value.parse::<u64>().ok()).unwrap_or(0)
        };
        let messages = file("messages");
        let successful = of("SuccessfulCall(C)");
        let created = of("TotalCallCreated");
        Outcome {
            name: self.name.clone(),
            created,
            successful,
            // A call still open when SIPp ends has not succeeded.
            failed: created.saturating_sub(successful).max(of("FailedCall(C)")),
            retransmissions: of("Retransmissions(C)"),
            strays: of("OutOfCallMsgs(C)") + of("DeadCallMsgs(C)"),
            received: received(&messages),
            invited_s: invited_s(&messages),
            errors: file("errors"),
        }
    }
}

/// Received messages by Call-ID, from SIPp's log of short messages (day, time, seconds, R or S, Call-ID, ...).
fn received(log: &str) -> HashMap<String, u32> {
    let mut counts = HashMap::new();
    for line in log.lines() {
        let mut fields = line.split('\t').skip(3);
        if let (Some("R"), Some(call_id)) = (fields.next(), fields.next()) {
            *counts.entry(call_id.to_owned()).or_default() += 1;
        }
    }
    counts
}

/// When INVITEs were received, from the same log.
fn invited_s(log: &str) -> Vec<f64> {
    let came = log.lines().filter_map(|line| {
        let mut fields = line.split('\t').skip(2);
        let at = fields.next()?.parse().ok()?;
        (fields.next() == Some("R") && fields.any(|field| field.starts_with("INVITE "))).then_some(at)
    });
    came.collect()
}
