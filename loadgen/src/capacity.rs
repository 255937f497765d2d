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
use crate::watch::Watch;

/// How much longer than a step the confirming run is.
const CONFIRM: u32 = 3;
/// Steps at most until a rate is to be confirmed, whatever the resolution; and rates tried then.
const STEPS_MAX: usize = 90;
const CONFIRMS_MAX: usize = 20;
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
    /// A signal ended the search.
    Signal,
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
    /// The highest rate that held a step, confirmed or not.
    pub held: f64,
}

/// Searches as the command line says, and prints what it finds; whether any rate held.
///
/// # Errors
/// What could not be had.
pub fn command(args: &CapacityArgs) -> Result<bool, String> {
    let plan = args.plan()?;
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
    let mut watch = Watch::new(!quiet)?;
    let mut first = true;
    let run = |plan: &Plan| {
        if !std::mem::take(&mut first) {
            watch.rest(REST);
        }
        if watch.is_stopped() {
            return Ok(None);
        }
        let report = watch.run(plan)?;
        Ok((!watch.is_stopped()).then_some(report))
    };
    let found = search_by(&plan, &goal, run, |step| {
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
    let mut first = true;
    let run = |plan: &Plan| {
        if !std::mem::take(&mut first) {
            std::thread::sleep(REST);
        }
        crew::run(plan).map(Some)
    };
    search_by(plan, goal, run, tell)
}

/// Searches by what `run` makes of each plan; it ends where that makes nothing of one.
fn search_by(
    plan: &Plan,
    goal: &Goal,
    run: impl FnMut(&Plan) -> Result<Option<Report>, String>,
    tell: impl FnMut(&Step),
) -> Result<Capacity, String> {
    if !(goal.start_rate > 0.0 && goal.rate_max >= goal.start_rate && goal.resolution > 0.0) || goal.step.is_zero() {
        return Err("a search needs rates, a resolution and steps above 0".to_owned());
    }
    let mut search = Search { plan, goal, run, tell, steps: Vec::new() };
    let (missed, confirmed) = match search.all() {
        Ok(found) => found,
        Err(Halt::Fault(text)) => return Err(text),
        Err(Halt::Signal) => (Some((0.0, Limit::Signal)), None),
    };
    Ok(Capacity::new(missed, confirmed, goal, search.steps))
}

struct Search<'a, R, T> {
    plan: &'a Plan,
    goal: &'a Goal,
    run: R,
    tell: T,
    steps: Vec<Step>,
}

/// A rate that did not hold, and why.
type Missed = Option<(f64, Limit)>;

/// Why a search does not go on.
enum Halt {
    Fault(String),
    Signal,
}

impl<R, T> Search<'_, R, T>
where
    R: FnMut(&Plan) -> Result<Option<Report>, String>,
    T: FnMut(&Step),
{
    /// What kept rates from holding, and the rate confirmed with the run that did.
    fn all(&mut self) -> Result<(Missed, Option<(f64, Report)>), Halt> {
        let (low, high) = self.ramp()?;
        let (low, missed) = self.halve(low, high)?;
        self.confirm(low, missed)
    }

    /// Doubles, or halves, until a rate holds and its double does not: the highest that held, and
    /// the lowest that did not.
    fn ramp(&mut self) -> Result<(f64, Missed), Halt> {
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
    fn halve(&mut self, mut low: f64, mut missed: Missed) -> Result<(f64, Missed), Halt> {
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
    fn confirm(&mut self, mut rate: f64, mut missed: Missed) -> Result<(Missed, Option<(f64, Report)>), Halt> {
        let mut tries = 0;
        while rate >= 1.0 && tries < CONFIRMS_MAX {
            let (step, report) = self.try_rate(rate, self.goal.step * CONFIRM)?;
            match step.missed_by {
                None => return Ok((missed, Some((rate, report)))),
                Some(limit) => {
                    missed = Some((rate, limit));
                    rate *= BACK_OFF;
                }
            }
            tries += 1;
        }
        Ok((missed, None))
    }

    /// Tries a rate, once more if it missed.
    fn try_rate(&mut self, rate: f64, time: Duration) -> Result<(Step, Report), Halt> {
        let mut tries = 1;
        loop {
            let tried = self.step(rate, time)?;
            match tried.0.missed_by {
                Some(Limit::Generator) if tries < TRIES_BEHIND => {}
                Some(Limit::Loss | Limit::P99 | Limit::Answering) if tries < TRIES => {}
                None | Some(_) => return Ok(tried),
            }
            tries += 1;
        }
    }

    fn step(&mut self, rate: f64, time: Duration) -> Result<(Step, Report), Halt> {
        let plan = Plan {
            load: Load::Rate(rate),
            time: Some(time),
            calls: None,
            timeout: self.plan.timeout.min(LOST_AFTER),
            answer_wait: self.plan.answer_wait.min(LOST_AFTER + self.plan.ring),
            ..self.plan.clone()
        };
        let report = (self.run)(&plan).map_err(Halt::Fault)?.ok_or(Halt::Signal)?;
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
            per_second if per_second > 0.0 => report.calls.started.saturating_sub(1) as f64 / per_second,
            _ => self.goal.step.as_secs_f64(),
        }
    }
}

impl Capacity {
    fn new(missed: Missed, confirmed: Option<(f64, Report)>, goal: &Goal, steps: Vec<Step>) -> Self {
        let held = steps.iter().filter(|step| step.missed_by.is_none()).map(|step| step.rate).fold(0.0, f64::max);
        let (rate, confirmed) = confirmed.map_or((0.0, None), |(rate, report)| (rate, Some(report)));
        let limited_by = missed.map_or(Limit::RateMax, |(_, limit)| limit);
        Self { schema: 1, rate, limited_by, why: why(missed, goal, &steps), steps, confirmed, held }
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
        Limit::Signal => "a signal ended the search".to_owned(),
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
            Some(Limit::RateMax | Limit::Signal) => "",
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
            None if self.held > 0.0 => {
                writeln!(f, "no rate was confirmed; {:.0} calls/s held a step: {}", self.held, self.why)
            }
            None => writeln!(f, "no rate held: {}", self.why),
            Some(report) => {
                let messages = report.messages.sent_per_second + report.messages.received_per_second;
                writeln!(f, "{report}\n{:.0} calls/s held ({messages:.0} messages/s sent and received)", self.rate)?;
                writeln!(f, "limited by: {}", self.why)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Latency;

    const GOAL: Goal = Goal {
        loss_max: 0.001,
        p99_max: Duration::from_millis(50),
        start_rate: 50.0,
        rate_max: 100_000.0,
        resolution: 0.04,
        step: Duration::from_secs(1),
    };

    /// A run in which all went well.
    fn sound(plan: &Plan) -> Report {
        let Load::Rate(rate) = plan.load else { panic!("a search has rates") };
        let mut report = Report::new(plan, &[]);
        report.calls.started = (rate * plan.time.unwrap().as_secs_f64()).round() as u64;
        report.calls.started_per_second = rate;
        report
    }

    fn rate(report: &Report) -> f64 {
        report.calls.started_per_second
    }

    fn late(report: &mut Report, ms: f64) {
        report
            .latency_us
            .insert("INVITE", Latency { count: report.calls.started, p99: ms * 1e3, ..Latency::default() });
    }

    /// Searches at a server that does to each run what `deed` does.
    fn at(goal: Goal, mut deed: impl FnMut(&mut Report)) -> Capacity {
        let run = |plan: &Plan| {
            let mut report = sound(plan);
            deed(&mut report);
            Ok(Some(report))
        };
        search_by(&Plan::default(), &goal, run, |_| {}).unwrap()
    }

    /// Above its limit, a server leaves the rest unanswered.
    fn lossy(limit: f64) -> impl FnMut(&mut Report) {
        move |report| {
            let over = (1.0 - limit / rate(report)).max(0.0);
            report.calls.lost = (report.calls.started as f64 * over).ceil() as u64;
        }
    }

    #[test]
    fn a_known_limit_is_found_as_closely_as_asked() {
        for limit in [3.0, 49.0, 300.0, 777.0, 65_432.0] {
            let found = at(GOAL, lossy(limit));
            assert!(found.rate <= limit && found.rate >= limit * 0.96, "{limit}: {found}");
            assert_eq!((found.limited_by, found.held), (Limit::Loss, found.rate), "{found}");
            assert!(found.confirmed.is_some() && found.why.contains("were lost or failed"), "{found}");
        }
    }

    #[test]
    fn what_limits_is_named() {
        type Deed = fn(&mut Report);
        let cases: [(Limit, Deed); 6] = [
            (Limit::P99, |report| late(report, 51.0)),
            (Limit::Answering, |report| {
                report.calls.lost = 9;
                report.calls.over_limit = 9;
            }),
            // A generator that did not keep up blames nobody else.
            (Limit::Generator, |report| report.calls.started_per_second *= 0.9),
            (Limit::Generator, |report| report.calls.held_back = 1),
            (Limit::Generator, |report| {
                late(report, 51.0);
                report.lag_us.p99 = 26_000.0;
            }),
            (Limit::Generator, |report| {
                report.calls.lost = 9;
                report.messages.refused = 1;
            }),
        ];
        for (limit, deed) in cases {
            let found = at(GOAL, |report| {
                if rate(report) > 300.0 {
                    deed(report)
                }
            });
            assert_eq!(found.limited_by, limit, "{found}");
            assert!(found.rate <= 300.0 && found.rate >= 288.0, "{found}");
        }
    }

    #[test]
    fn one_bad_moment_is_no_limit() {
        let mut bad = true;
        let found = at(Goal { rate_max: 200.0, ..GOAL }, |report| {
            report.calls.lost = u64::from(std::mem::replace(&mut bad, false)) * report.calls.started;
        });
        assert_eq!((found.rate, found.limited_by, found.steps.len()), (200.0, Limit::RateMax, 5), "{found}");
    }

    #[test]
    fn a_rate_that_does_not_last_goes_back_until_one_does() {
        // For the time of a confirming run, only 250 calls a second hold.
        let found = at(GOAL, |report| {
            let long = report.calls.started as f64 > 1.5 * rate(report);
            lossy(if long { 250.0 } else { 300.0 })(report);
        });
        assert!(found.rate <= 250.0 && found.rate >= 250.0 * BACK_OFF, "{found}");
        assert!(found.held > 285.0, "{found}");
    }

    /// However fine the search, what it has found is confirmed.
    #[test]
    fn a_search_out_of_steps_confirms_what_held() {
        let found = at(Goal { resolution: 1e-15, ..GOAL }, lossy(300.0));
        assert!(
            found.steps.len() > STEPS_MAX && found.steps.len() <= STEPS_MAX + TRIES + CONFIRMS_MAX * TRIES,
            "{found}"
        );
        assert!(found.confirmed.is_some() && found.rate > 299.0, "{found}");
    }

    #[test]
    fn a_rate_that_only_ever_held_a_step_is_told() {
        let found = at(GOAL, |report| {
            let long = report.calls.started as f64 > 1.5 * rate(report);
            lossy(if long { 0.0 } else { 300.0 })(report);
        });
        assert_eq!((found.rate, found.confirmed.is_none()), (0.0, true), "{found}");
        assert!(found.held > 285.0 && found.to_string().contains("no rate was confirmed"), "{found}");
        let found = at(GOAL, lossy(0.0));
        assert_eq!((found.rate, found.held), (0.0, 0.0), "{found}");
        assert!(found.to_string().contains("no rate held"), "{found}");
    }

    #[test]
    fn a_search_that_is_ended_tells_what_it_found() {
        let mut runs = 0;
        let run = |plan: &Plan| {
            runs += 1;
            Ok((runs <= 3).then(|| sound(plan)))
        };
        let found = search_by(&Plan::default(), &GOAL, run, |_| {}).unwrap();
        assert_eq!((found.rate, found.held, found.limited_by), (0.0, 200.0, Limit::Signal), "{found}");
        assert_eq!(found.steps.len(), 3);
        assert!(found.to_string().contains("200 calls/s held a step: a signal ended the search"), "{found}");
    }
}
