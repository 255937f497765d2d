//! Health of the nodes: probes, what workers testify, and what follows from both (SIP.md section 7).
//!
//! Owns the sockets of the probes and the evidence that workers write; is driven by control's loop.
//! All decisions fall in `Monitors`, which knows neither socket nor clock.

mod cause;
mod dice;
mod doors;
mod monitor;
mod monitors;
mod news;
mod pair;
mod probe;
pub mod status;
mod tell;
#[cfg(test)]
mod tests;
mod traffic;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::balance::{Intent, Plan, Vitals};
use crate::packet::PeerId;
use crate::shard::Evidence;

use doors::Doors;
use monitor::NEVER;
use monitors::Monitors;
pub use status::Status;

/// How often the workers' evidence is read.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How soon sockets that could not be opened are tried again.
const OPEN_AGAIN: Duration = Duration::from_secs(5);

/// Empty evidence for the first plan, to be mailed with it; dialogs are counted of nodes that drain.
#[must_use]
pub fn evidence(plan: &Plan, workers: u16) -> Arc<Evidence> {
    let counted = draining(plan).into_iter().map(|(peer, _)| peer).collect();
    Arc::new(Evidence::new(workers, plan.endpoints.peers.len(), counted))
}

/// The same for the plan that follows another: dialogs are counted on where they were counted.
#[must_use]
pub fn next_evidence(plan: &Plan, (before, evidence): (&Plan, &Evidence), now_ms: u64) -> Arc<Evidence> {
    let counted: Vec<_> = draining(plan).into_iter().map(|(peer, addr)| (peer, before.peer(addr))).collect();
    Arc::new(evidence.next(plan.endpoints.peers.len(), &counted, now_ms))
}

/// The endpoints of nodes that drain.
fn draining(plan: &Plan) -> Vec<(PeerId, SocketAddr)> {
    let nodes = plan.nodes.iter().filter(|node| node.intent == Intent::Drain);
    let mut ends: Vec<_> =
        nodes.flat_map(|node| node.endpoints.iter().flatten().map(|end| (end.peer, end.addr))).collect();
    ends.sort_unstable();
    ends.dedup();
    ends
}

/// The health checks of a running balancer.
pub(super) struct Checks {
    monitors: Monitors,
    doors: Doors,
    evidence: Arc<Evidence>,
    /// By worker: the ICMP errors that were heard of.
    heard: Vec<u64>,
    looked: Instant,
    opened: Instant,
    origin: Instant,
}

impl Checks {
    /// Of the plan that the workers started with. To be made within the runtime, after the workers
    /// have bound their ports: a probe's may be any.
    pub(super) fn new(plan: Arc<Plan>, evidence: Arc<Evidence>, from: Vec<IpAddr>) -> Self {
        let mut key = [0; 16];
        if let Err(error) = getrandom::fill(&mut key) {
            // Probes can be forged then by whoever can send from a node's address, and no more.
            tracing::error!(%error, "no_randomness");
        }
        let now = Instant::now();
        let mut doors = Doors::new(from);
        doors.open();
        let monitors = Monitors::new(plan, 0, key);
        Self { monitors, doors, evidence, heard: Vec::new(), looked: now, opened: now, origin: now }
    }

    fn now_us(&self) -> u64 {
        self.origin.elapsed().as_micros() as u64
    }

    /// Waits until there is something to do.
    pub(super) async fn ready(&self) {
        let due_us = self.monitors.next_us();
        let due = self.origin + Duration::from_micros(due_us.min(NEVER >> 16));
        tokio::select! {
            () = self.doors.readable() => {}
            () = tokio::time::sleep_until(due) => {}
        }
    }

    /// Takes in what was answered, then does what is due: an answer that is there counts, however
    /// late control is.
    pub(super) fn work(&mut self) {
        let now_us = self.now_us();
        let Self { monitors, doors, .. } = self;
        doors.answers(|source, token, code| {
            monitors.answered(now_us, source, token, code);
        });
        monitors.expire(now_us, |to, token| doors.send(to, token));
    }

    /// Reads all evidence if it is time, else that of endpoints which an ICMP error came back from;
    /// `clock_ms` is the workers' clock.
    pub(super) fn tick(&mut self, clock_ms: u64) {
        let rung = self.evidence.rung(&mut self.heard);
        if self.looked.elapsed() >= LOOK_EVERY {
            self.looked = Instant::now();
            self.look(clock_ms, self.monitors.all());
        } else if !rung.is_empty() {
            self.look(clock_ms, rung.into_iter());
        }
        if !self.doors.are_open() && self.opened.elapsed() >= OPEN_AGAIN {
            self.opened = Instant::now();
            self.doors.open();
        }
    }

    fn look(&mut self, clock_ms: u64, at: impl Iterator<Item = PeerId>) {
        let now_us = self.now_us();
        let evidence = &self.evidence;
        self.monitors.look(now_us, at, |peer| {
            let account = evidence.account(peer);
            let left_ms = (u64::from(account.leave_alone_ds) * 100).saturating_sub(clock_ms);
            (account, now_us + left_ms * 1_000)
        });
    }

    /// Goes over to another plan, whose evidence begins anew.
    pub(super) fn adopt(&mut self, plan: Arc<Plan>, evidence: Arc<Evidence>, clock_ms: u64) {
        self.look(clock_ms, self.monitors.all());
        self.monitors.adopt(plan, self.now_us());
        (self.evidence, self.heard) = (evidence, Vec::new());
    }

    /// The vitals, if workers have not been told them yet.
    pub(super) fn news(&mut self) -> Option<Arc<Vitals>> {
        self.monitors.news()
    }

    /// Everything that is known, for people; `marks` are the pending ones by mark.
    pub(super) fn status(&self, marks: &[u64], clock_ms: u64) -> Status {
        status::of(&self.monitors, &self.evidence, marks, clock_ms, self.now_us())
    }
}
