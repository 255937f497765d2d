//! What a run has found, as text and as JSON.
//!
//! Made once from what the workers counted. The JSON's fields are described in loadgen/README.md;
//! `schema` changes when one of them changes its meaning or goes.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::plan::{Load, Plan};
use crate::tally::{Kind, Odd, Tally};
use crate::worker::Done;

/// Version of the JSON.
const SCHEMA: u32 = 1;

/// What a run has found.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub schema: u32,
    pub flow: &'static str,
    pub to: String,
    /// Calls a second that were intended; none in a closed loop.
    pub rate: Option<f64>,
    /// Calls under way at once, in a closed loop.
    pub window: Option<u32>,
    /// From the first call to the end of the last.
    pub seconds: f64,
    pub calls: Calls,
    pub messages: Messages,
    /// Messages that were wrong or strange, by kind; every kind is there.
    pub odd: BTreeMap<&'static str, u64>,
    /// Of these, the ones that must not be.
    pub wrong: u64,
    /// The first wrong ones.
    pub examples: Vec<String>,
    /// By request, microseconds from when it should have been sent to its answer.
    pub latency_us: BTreeMap<&'static str, Latency>,
    /// How much later than intended calls were begun, microseconds.
    pub lag_us: Latency,
    pub nodes: Vec<Node>,
    pub workers: Vec<Processor>,
}

/// Calls by what became of them.
#[derive(Clone, Debug, Serialize)]
pub struct Calls {
    pub started: u64,
    pub ok: u64,
    /// Without an answer in time.
    pub lost: u64,
    /// Ended otherwise than their flow says.
    pub failed: u64,
    pub failed_by_code: BTreeMap<String, u64>,
    /// Due and not begun, or come and not taken, for want of a place.
    pub held_back: u64,
    /// Calls begun a second, while calls were begun.
    pub started_per_second: f64,
    /// At answering addresses of this process: calls taken, given up, left unanswered for the limit.
    pub answered: u64,
    pub abandoned: u64,
    pub over_limit: u64,
    /// Legs that were there when the run ended.
    pub left_over: u64,
}

/// Datagrams.
#[derive(Clone, Debug, Serialize)]
pub struct Messages {
    pub sent: u64,
    pub received: u64,
    pub sent_per_second: f64,
    pub received_per_second: f64,
    pub retransmitted: u64,
    pub send_errors: u64,
    pub icmp_errors: u64,
    /// Not sent for want of a free packet.
    pub refused: u64,
    pub system_calls: u64,
}

/// A distribution.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Latency {
    pub count: u64,
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub p99_9: f64,
    pub max: f64,
}

/// An answering node.
#[derive(Clone, Debug, Serialize)]
pub struct Node {
    pub name: String,
    /// Calls that it answered.
    pub calls: u64,
    /// Requests outside dialogs that it received, if it is of this process.
    pub requests: u64,
}

/// What a worker cost.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Processor {
    pub cpu: Option<usize>,
    pub cpu_seconds: f64,
    /// Of the run's time.
    pub busy: f64,
    pub cpu_us_per_message: f64,
}

impl Latency {
    fn of(histogram: &Histogram<u64>) -> Self {
        let at = |share: f64| histogram.value_at_quantile(share).min(histogram.max()) as f64 / 1e3;
        Self {
            count: histogram.len(),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p99_9: at(0.999),
            max: histogram.max() as f64 / 1e3,
        }
    }
}

impl Report {
    pub(crate) fn new(plan: &Plan, done: &[Done]) -> Self {
        let mut tally = Tally::default();
        done.iter().for_each(|done| tally.add(&done.tally));
        let longest = |of: fn(&Done) -> Duration| done.iter().map(of).max().unwrap_or_default().as_secs_f64();
        let (seconds, beginning) = (longest(|done| done.wall), longest(|done| done.beginning));
        let (rate, window) = match plan.load {
            _ if plan.flow.is_none() => (None, None),
            Load::Rate(rate) => (Some(rate), None),
            Load::Window(window) => (None, Some(window)),
        };
        let mut nodes: Vec<Node> = tally
            .nodes
            .iter()
            .map(|node| Node { name: node.name.clone(), calls: node.calls, requests: node.requests })
            .collect();
        nodes.sort_by(|a, b| a.name.cmp(&b.name));
        let latency = Kind::ALL.iter().zip(&tally.latency).filter(|(_, latency)| !latency.is_empty());
        Self {
            schema: SCHEMA,
            flow: plan.flow.map_or("answer", |flow| flow.name()),
            to: plan.to.to_string(),
            rate,
            window,
            seconds,
            calls: Calls::new(&tally, done, beginning),
            messages: Messages::new(done, &tally, seconds),
            odd: Odd::ALL.iter().zip(tally.odd).map(|(odd, count)| (odd.name(), count)).collect(),
            wrong: tally.wrong(),
            examples: tally.examples.clone(),
            latency_us: latency.map(|(kind, latency)| (kind.name(), Latency::of(latency))).collect(),
            lag_us: Latency::of(&tally.lag),
            nodes,
            workers: done.iter().zip(&plan.cpus).map(|(done, cpu)| Processor::new(done, *cpu)).collect(),
        }
    }

    /// Whether every call went as its flow says, none that was answered had to be given up, and no message
    /// came that must not be.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        let calls = &self.calls;
        calls.lost + calls.failed + calls.held_back + calls.abandoned + self.wrong == 0
    }

    /// Calls of all begun that did not go as they should.
    #[must_use]
    pub fn loss(&self) -> f64 {
        let due = self.calls.started + self.calls.held_back;
        (self.calls.lost + self.calls.failed + self.calls.held_back) as f64 / due.max(1) as f64
    }

    /// The highest of the requests' 99th percentiles, microseconds.
    #[must_use]
    pub fn p99_us(&self) -> f64 {
        self.latency_us.values().map(|latency| latency.p99).fold(0.0, f64::max)
    }

    /// As JSON, one line.
    #[must_use]
    pub fn json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

impl Calls {
    fn new(tally: &Tally, done: &[Done], beginning: f64) -> Self {
        let codes = (0..).zip(&tally.failed).filter(|(_, count)| **count > 0);
        let mut by_code: BTreeMap<String, u64> =
            codes.map(|(code, count): (u16, _)| (code.to_string(), *count)).collect();
        if tally.broken > 0 {
            by_code.insert("unusable".to_owned(), tally.broken);
        }
        Self {
            started: tally.started,
            ok: tally.ok,
            lost: tally.lost,
            failed: tally.failed_in_all(),
            failed_by_code: by_code,
            held_back: tally.held_back,
            // From the first to the last, there is one gap fewer than calls.
            started_per_second: if beginning > 0.0 { tally.started.saturating_sub(1) as f64 / beginning } else { 0.0 },
            answered: tally.answered,
            abandoned: tally.abandoned,
            over_limit: tally.over_limit,
            left_over: done.iter().map(|done| done.left_over).sum(),
        }
    }
}

impl Messages {
    fn new(done: &[Done], tally: &Tally, seconds: f64) -> Self {
        let sum = |of: fn(&Done) -> u64| done.iter().map(of).sum::<u64>();
        let per_second = |count: u64| if seconds > 0.0 { count as f64 / seconds } else { 0.0 };
        let sent = sum(|done| done.counts.sent);
        Self {
            sent,
            received: tally.received,
            sent_per_second: per_second(sent),
            received_per_second: per_second(tally.received),
            retransmitted: tally.retransmitted,
            send_errors: sum(|done| done.counts.send_errors.sum()),
            icmp_errors: sum(|done| done.counts.icmp),
            refused: sum(|done| done.refused),
            system_calls: sum(|done| done.counts.syscalls),
        }
    }
}

impl Processor {
    fn new(done: &Done, cpu: Option<usize>) -> Self {
        let messages = (done.counts.sent + done.counts.received).max(1);
        let spent = done.cpu.as_secs_f64();
        let wall = done.wall.as_secs_f64();
        Self {
            cpu,
            cpu_seconds: spent,
            busy: if wall > 0.0 { spent / wall } else { 0.0 },
            cpu_us_per_message: spent * 1e6 / messages as f64,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { calls, messages, .. } = self;
        writeln!(
            f,
            "calls      {} started ({:.0}/s), {} ok, {} failed, {} lost{}",
            calls.started,
            calls.started_per_second,
            calls.ok,
            calls.failed,
            calls.lost,
            if calls.held_back > 0 { format!(", {} held back here", calls.held_back) } else { String::new() }
        )?;
        if !calls.failed_by_code.is_empty() {
            let codes: Vec<String> =
                calls.failed_by_code.iter().map(|(code, count)| format!("{code}: {count}")).collect();
            writeln!(f, "failed     {}", codes.join(", "))?;
        }
        if calls.answered + calls.over_limit + calls.abandoned > 0 {
            writeln!(
                f,
                "answered   {} calls here, {} over the limit, {} given up",
                calls.answered, calls.over_limit, calls.abandoned
            )?;
        }
        writeln!(
            f,
            "messages   {} sent ({:.0}/s), {} received ({:.0}/s), {} retransmitted, {} not sent",
            messages.sent,
            messages.sent_per_second,
            messages.received,
            messages.received_per_second,
            messages.retransmitted,
            messages.send_errors + messages.refused
        )?;
        let odd: Vec<String> =
            self.odd.iter().filter(|(_, count)| **count > 0).map(|(name, count)| format!("{name}: {count}")).collect();
        writeln!(f, "checks     {} wrong{}{}", self.wrong, if odd.is_empty() { "" } else { "; " }, odd.join(", "))?;
        for (name, latency) in &self.latency_us {
            writeln!(f, "{name:<14} {latency}")?;
        }
        if self.lag_us.count > 0 {
            writeln!(f, "{:<14} {}", "begun late by", self.lag_us)?;
        }
        for node in &self.nodes {
            writeln!(f, "node       {:<24} {} calls, {} requests", node.name, node.calls, node.requests)?;
        }
        for (place, worker) in self.workers.iter().enumerate() {
            writeln!(
                f,
                "worker {place}   {:.0} % busy, {:.2} us of cpu a message",
                worker.busy * 100.0,
                worker.cpu_us_per_message
            )?;
        }
        for example in &self.examples {
            writeln!(f, "wrong: {example}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { count, p50, p90, p99, p99_9, max } = self;
        write!(
            f,
            "p50 {} p90 {} p99 {} p99.9 {} max {} of {count}",
            time(*p50),
            time(*p90),
            time(*p99),
            time(*p99_9),
            time(*max)
        )
    }
}

/// Microseconds, in the unit that reads best.
fn time(us: f64) -> String {
    if us < 1_000.0 {
        format!("{us:.0} us")
    } else if us < 1_000_000.0 {
        format!("{:.1} ms", us / 1e3)
    } else {
        format!("{:.2} s", us / 1e6)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_a_second_are_counted_by_the_gaps_between_them() {
        for (started, beginning, wanted) in [(3, 0.02, 100.0), (1, 0.02, 0.0), (1, 0.0, 0.0), (0, 0.0, 0.0)] {
            let calls = Calls::new(&Tally { started, ..Tally::default() }, &[], beginning);
            assert!((calls.started_per_second - wanted).abs() < 1e-9, "{started}: {}", calls.started_per_second);
        }
    }
}
