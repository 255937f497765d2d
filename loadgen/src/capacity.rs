//! The highest rate that holds a stated loss and p99, found by itself (RFC 7502 in spirit).
//!
//! Doubles the rate until a step misses twice, halves the gap, then confirms what held by a longer run. Says
//! what limited it; a step at which the generator itself fell behind says nothing about anybody else.

use std::fmt;
use std::io::Write as _;
use std::time::Duration;

use serde::Serialize;

use crate::cli::CapacityArgs;
use crate::crew;
use crate::plan::{Load, Plan};
use crate::report::Report;

/// How much longer than a step the confirming run is.
const CONFIRM: u32 = 3;
/// Rates tried at most, whatever the resolution.
const STEPS_MAX: usize = 90;
/// In a search, a call without an answer is lost after this.
const LOST_AFTER: Duration = Duration::from_secs(2);
/// Between steps, so that one does not pay for the other.
const REST: Duration = Duration::from_millis(300);
/// A generator that is busier than this, that begins fewer calls than this of those due, or begins them
/// later than this part of the p99 allowed, was the limit itself.
const BUSY_MAX: f64 = 0.95;
const BEGUN_MIN: f64 = 0.97;
const LAG_MAX: f64 = 0.5;
/// Tries of a rate before a miss is believed: what else the machines did for a moment is no limit.
const TRIES: usize = 2;
const TRIES_BEHIND: usize = 3;
/// What is taken off a rate that held once and was not confirmed.
const BACK_OFF: f64 = 0.95;

/// What must hold, and where to look.
#[derive(Clone, Copy, Debug)]
pub struct Goal {
    /// Share of calls that may be lost or fail.
    pub loss_max: f64,
    pub p99_max: Duration,
    /// Calls a second.
    pub start_rate: f64,
    pub rate_max: f64,
    /// How close both ends of the gap must come, as a share.
    pub resolution: f64,
    pub step: Duration,
}

/// What kept a rate from holding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// More calls were lost or failed than may be.
    Loss,
    /// Answers came too late.
    P99,
    /// The answering side of this process left calls unanswered for its own limit.
    Answering,
    /// This generator fell behind.
    Generator,
    /// Nothing: the highest rate allowed held.
    RateMax,
}

/// One rate that was tried.
#[derive(Clone, Debug, Serialize)]
pub struct Step {
    pub rate: f64,
    pub seconds: f64,
    pub loss: f64,
    pub p99_us: f64,
    /// How much later than intended calls were begun, 99th percentile.
    pub lag_p99_us: f64,
    /// Of the busiest worker.
    pub busy: f64,
    /// None: it held.
    pub missed_by: Option<Limit>,
}

/// What a search has found.
#[derive(Clone, Debug, Serialize)]
pub struct Capacity {
    pub schema: u32,
    /// The highest rate that held and was confirmed, calls a second; 0: none held.
    pub rate: f64,
    pub limited_by: Limit,
    /// The same in words.
    pub why: String,
    pub steps: Vec<Step>,
    /// The run that confirmed the rate.
    pub confirmed: Option<Report>,
}

/// Searches as the command line says, and prints what it finds; whether any rate held.
///
/// # Errors
/// What could not be had.
pub fn command(args: &CapacityArgs) -> Result<bool, String> {
    let mut plan = args.call.plan(args.flow)?;
    if args.call.amount.window.is_some() || args.call.amount.rate.is_some() {
        return Err("a search chooses the rate itself: --rate and --window have no place here".to_owned());
    }
    plan.calls = None;
    let step = Duration::try_from_secs_f64(args.step_seconds).map_err(|error| error.to_string())?;
    let goal = Goal {
        loss_max: args.loss_max / 100.0,
        p99_max: Duration::try_from_secs_f64(args.p99_max_ms / 1e3).map_err(|error| error.to_string())?,
        start_rate: args.start_rate,
        rate_max: args.rate_max,
        resolution: args.resolution / 100.0,
        step,
    };
    let quiet = args.call.running.quiet;
    let found = search(&plan, &goal, |step| {
        if !quiet {
            let _ = writeln!(std::io::stderr(), "{step}");
        }
    })?;
    let text = if args.call.running.json {
        serde_json::to_string(&found).unwrap_or_default() + "\n"
    } else {
        found.to_string()
    };
    std::io::stdout().write_all(text.as_bytes()).map_err(|error| error.to_string())?;
    Ok(found.rate > 0.0)
}

/// Searches; tells every step.
///
/// # Errors
/// What a run could not have.
pub fn search(plan: &Plan, goal: &Goal, tell: impl FnMut(&Step)) -> Result<Capacity, String> {
    if !(goal.start_rate > 0.0 && goal.rate_max >= goal.start_rate && goal.resolution > 0.0) || goal.step.is_zero() {
        return Err("a search needs rates, a resolution and steps above 0".to_owned());
    }
    let mut search = Search { plan, goal, tell, steps: Vec::new() };
    let (low, high) = search.ramp()?;
    let (low, missed) = search.halve(low, high)?;
    search.confirm(low, missed)
}

struct Search<'a, T: FnMut(&Step)> {
    plan: &'a Plan,
    goal: &'a Goal,
    tell: T,
    steps: Vec<Step>,
}

/// A rate that did not hold, and why.
type Missed = Option<(f64, Limit)>;

impl<T: FnMut(&Step)> Search<'_, T> {
    /// Doubles, or halves, until a rate holds and its double does not: the highest that held, and
    /// the lowest that did not.
    fn ramp(&mut self) -> Result<(f64, Missed), String> {
        let (mut low, mut rate) = (0.0, self.goal.start_rate);
        let mut missed: Missed = None;
        while self.steps.len() < STEPS_MAX {
            match self.try_rate(rate, self.goal.step)?.0.missed_by {
                None => low = rate,
                Some(limit) => missed = Some((rate, limit)),
            }
            rate = match missed {
                None if rate >= self.goal.rate_max => break,
                None => (rate * 2.0).min(self.goal.rate_max),
                Some(_) if low > 0.0 || rate < 1.0 => break,
                Some(_) => rate / 2.0,
            };
        }
        Ok((low, missed))
    }

    /// Halves the gap until it is small enough.
    fn halve(&mut self, mut low: f64, mut missed: Missed) -> Result<(f64, Missed), String> {
        while let Some((high, _)) = missed
            && low > 0.0
            && (high - low) / high > self.goal.resolution
            && self.steps.len() < STEPS_MAX
        {
            let rate = (low + high) / 2.0;
            match self.try_rate(rate, self.goal.step)?.0.missed_by {
                None => low = rate,
                Some(limit) => missed = Some((rate, limit)),
            }
        }
        Ok((low, missed))
    }

    /// Holds the rate for longer; goes back until one is confirmed.
    fn confirm(mut self, mut rate: f64, mut missed: Missed) -> Result<Capacity, String> {
        let mut confirmed = None;
        while rate >= 1.0 && confirmed.is_none() && self.steps.len() < STEPS_MAX {
            let (step, report) = self.try_rate(rate, self.goal.step * CONFIRM)?;
            match step.missed_by {
                None => confirmed = Some(report),
                Some(limit) => {
                    missed = Some((rate, limit));
                    rate *= BACK_OFF;
                }
            }
        }
        let rate = if confirmed.is_some() { rate } else { 0.0 };
        let limited_by = missed.map_or(Limit::RateMax, |(_, limit)| limit);
        let why = why(missed, self.goal, &self.steps);
        Ok(Capacity { schema: 1, rate, limited_by, why, steps: self.steps, confirmed })
    }

    /// Tries a rate, once more if it missed.
    fn try_rate(&mut self, rate: f64, time: Duration) -> Result<(Step, Report), String> {
        let mut tries = 1;
        loop {
            let tried = self.run(rate, time)?;
            match tried.0.missed_by {
                Some(Limit::Generator) if tries < TRIES_BEHIND => {}
                Some(Limit::Loss | Limit::P99 | Limit::Answering) if tries < TRIES => {}
                None | Some(_) => return Ok(tried),
            }
            tries += 1;
        }
    }

    fn run(&mut self, rate: f64, time: Duration) -> Result<(Step, Report), String> {
        if !self.steps.is_empty() {
            std::thread::sleep(REST);
        }
        let plan = Plan {
            load: Load::Rate(rate),
            time: Some(time),
            timeout: self.plan.timeout.min(LOST_AFTER),
            answer_wait: self.plan.answer_wait.min(LOST_AFTER + self.plan.ring),
            ..self.plan.clone()
        };
        let report = crew::run(&plan)?;
        let step = Step {
            rate,
            seconds: time.as_secs_f64(),
            loss: report.loss(),
            p99_us: report.p99_us(),
            lag_p99_us: report.lag_us.p99,
            busy: report.workers.iter().map(|worker| worker.busy).fold(0.0, f64::max),
            missed_by: self.judge(rate, &report),
        };
        (self.tell)(&step);
        self.steps.push(step.clone());
        Ok((step, report))
    }

    /// What kept the rate from holding.
    fn judge(&self, rate: f64, report: &Report) -> Option<Limit> {
        let lost = report.loss() > self.goal.loss_max || report.calls.started == 0;
        let late = report.p99_us() > self.goal.p99_max.as_secs_f64() * 1e6;
        let busy = report.workers.iter().any(|worker| worker.busy > BUSY_MAX);
        let lags = report.lag_us.p99 > self.goal.p99_max.as_secs_f64() * 1e6 * LAG_MAX;
        let begun = report.calls.started as f64 / (rate * self.seconds(report)).max(1.0);
        let unsent = report.messages.send_errors + report.messages.refused > 0;
        let behind = begun < BEGUN_MIN || report.calls.held_back > 0;
        match () {
            () if behind || ((lost || late) && (busy || lags || unsent)) => Some(Limit::Generator),
            () if (lost || late) && report.calls.over_limit > 0 => Some(Limit::Answering),
            () if lost => Some(Limit::Loss),
            () if late => Some(Limit::P99),
            () => None,
        }
    }

    /// How long calls were begun, if they were begun at the rate.
    fn seconds(&self, report: &Report) -> f64 {
        match report.calls.started_per_second {
            per_second if per_second > 0.0 => report.calls.started as f64 / per_second,
            _ => self.goal.step.as_secs_f64(),
        }
    }
}

fn why(missed: Missed, goal: &Goal, steps: &[Step]) -> String {
    let Some((rate, limit)) = missed else {
        return format!("{:.0} calls/s is the highest rate allowed here (--rate-max), and it held", goal.rate_max);
    };
    let step = steps.iter().rev().find(|step| step.rate == rate && step.missed_by == Some(limit));
    let (loss, p99, lag, busy) =
        step.map_or((0.0, 0.0, 0.0, 0.0), |step| (step.loss, step.p99_us, step.lag_p99_us, step.busy));
    let share = loss * 100.0;
    match limit {
        Limit::Loss => format!("at {rate:.0} calls/s {share:.2} % of calls were lost or failed"),
        Limit::P99 => format!("at {rate:.0} calls/s the 99th percentile was {:.1} ms", p99 / 1e3),
        Limit::Answering => format!(
            "at {rate:.0} calls/s the answering side left calls unanswered, by its own limit; {share:.2} % were lost"
        ),
        Limit::Generator => format!(
            "at {rate:.0} calls/s this generator fell behind ({:.0} % busy, calls begun {:.1} ms late at the 99th \
             percentile): what it loads can do at least what is told here; give it more cpus",
            busy * 100.0,
            lag / 1e3
        ),
        Limit::RateMax => String::new(),
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match self.missed_by {
            None => "holds",
            Some(Limit::Loss) => "misses: loss",
            Some(Limit::P99) => "misses: p99",
            Some(Limit::Answering) => "misses: the answering side's limit",
            Some(Limit::Generator) => "tells nothing: the generator fell behind",
            Some(Limit::RateMax) => "",
        };
        write!(
            f,
            "{:>9.0} calls/s for {:>4.1} s: lost {:.3} %, p99 {:.1} ms, begun late by {:.1} ms at p99, {:.0} % busy: {verdict}",
            self.rate,
            self.seconds,
            self.loss * 100.0,
            self.p99_us / 1e3,
            self.lag_p99_us / 1e3,
            self.busy * 100.0
        )
    }
}

impl fmt::Display for Capacity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.confirmed {
            None => writeln!(f, "no rate held: {}", self.why),
            Some(report) => {
                let messages = report.messages.sent_per_second + report.messages.received_per_second;
                writeln!(f, "{report}\n{:.0} calls/s held ({messages:.0} messages/s sent and received)", self.rate)?;
                writeln!(f, "limited by: {}", self.why)
            }
        }
    }
}
