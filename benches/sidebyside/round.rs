//! Rounds: bare, ours, peer, bare. What the two bares of a round disagree about is the machine's doing, and makes it void.

use std::path::Path;

use crate::far::{Flow, Pace};
use crate::scene::{Row, Scene, Times};
use crate::subject::Subject;

/// The two bares of a round differ by no more than this.
const DRIFT_MAX: f64 = 0.08;
/// Rounds at most, as a multiple of those that are wanted.
const TRIES: usize = 3;
/// Rounds whose bares differ by more than this factor are of different speeds of the machine.
const SPEEDS: f64 = 1.15;
/// A limit for a mean train is not one for a longer one.
const TRAIN_TOLERANCE: f64 = 1.1;
/// Failed measurements of a subject in a row that end a contest: what does not work does not work.
const FAILURES_MAX: usize = 4;

/// How calls are begun.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Load {
    /// As many under way as the table says: the subject works as fast as it can.
    Saturated,
    /// This share of the messages a second that the peer, or ours if there is none, carries on its cpu.
    Share(f64),
    /// So many messages a second.
    Messages(f64),
}

/// What is compared with what.
#[derive(Clone, Debug)]
pub(crate) struct Contest {
    pub(crate) name: &'static str,
    pub(crate) bare: Subject,
    pub(crate) ours: Subject,
    pub(crate) peer: Option<Subject>,
    pub(crate) load: Load,
    /// Of ours and the peer; bare forwarders know no other calls than those of one length.
    pub(crate) flow: Flow,
    pub(crate) limits: &'static [Limit],
}

/// What two figures are set against each other, and what their ratio, or a figure itself, may be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Limit {
    OursToBare(f64),
    OursToPeer(f64),
    /// At a mean train of ours that is no longer than about this.
    OursToPeerAtTrain(f64, f64),
    /// By speed of the machine: fast, slow.
    OursToPeerBySpeed(f64, f64),
    /// Of ours, p50 and p99, us.
    Latency(f64, f64),
    /// Of ours to that of bare, p50.
    LatencyToBare(f64),
}

/// One round, all measured in turn.
#[derive(Clone, Debug)]
pub(crate) struct Round {
    pub(crate) bares: [Row; 2],
    pub(crate) ours: Row,
    pub(crate) peer: Option<Row>,
}

impl Round {
    pub(crate) fn bare_us(&self) -> f64 {
        (self.bares[0].us() + self.bares[1].us()) / 2.0
    }

    pub(crate) fn to_bare(&self) -> f64 {
        self.ours.us() / self.bare_us()
    }

    pub(crate) fn to_peer(&self) -> Option<f64> {
        self.peer.as_ref().map(|peer| self.ours.us() / peer.us())
    }

    fn drift(&self) -> f64 {
        let [one, other] = [self.bares[0].us(), self.bares[1].us()];
        (one - other).abs() / one.min(other)
    }
}

/// What came of a contest.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    pub(crate) contest: Contest,
    pub(crate) rounds: Vec<Round>,
    pub(crate) void: usize,
    /// Why there is nothing, or less than was wanted.
    pub(crate) trouble: Option<String>,
    /// Messages a second that were offered, if not as many as possible.
    pub(crate) offered: Option<f64>,
}

pub(crate) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => sorted[middle],
        _ => (sorted[middle - 1] + sorted[middle]) / 2.0,
    }
}

impl Outcome {
    /// Rounds of the machine's fast state, and of its slow one; all are of the first if it had one only.
    pub(crate) fn speeds(&self) -> [Vec<&Round>; 2] {
        let costs = || self.rounds.iter().map(Round::bare_us);
        let (least, most) = (costs().fold(f64::INFINITY, f64::min), costs().fold(0.0, f64::max));
        let border = if most > least * SPEEDS { (least * most).sqrt() } else { f64::INFINITY };
        let (fast, slow) = self.rounds.iter().partition(|round| round.bare_us() <= border);
        [fast, slow]
    }

    /// Whether each limit is kept, in words; nothing if there are no rounds.
    pub(crate) fn verdicts(&self) -> Vec<(String, bool)> {
        if self.rounds.is_empty() {
            return Vec::new();
        }
        let of = |value: &dyn Fn(&Round) -> f64| median(self.rounds.iter().map(value));
        let peer = |round: &Round| round.to_peer().unwrap_or(f64::NAN);
        let told = |what: &str, is: f64, most: f64| (format!("{what} {is:.3}, at most {most:.2}"), is <= most);
        let latency = |quantile: f64| of(&|round| round.ours.latency_us(quantile));
        let verdicts = self.contest.limits.iter().flat_map(|limit| match *limit {
            Limit::OursToBare(most) => vec![told("ours to bare", of(&Round::to_bare), most)],
            Limit::OursToPeer(most) => vec![told("ours to peer", of(&peer), most)],
            Limit::OursToPeerAtTrain(train, most) => {
                let is = of(&|round| round.ours.mean_train());
                let (text, kept) = told(&format!("ours to peer at a mean train of {is:.2}"), of(&peer), most);
                vec![(text, kept && is <= train * TRAIN_TOLERANCE)]
            }
            Limit::OursToPeerBySpeed(fast, slow) => {
                let by_speed = self.speeds().into_iter().zip([("fast", fast), ("slow", slow)]);
                let some = by_speed.filter(|(rounds, _)| !rounds.is_empty());
                some.map(|(rounds, (speed, most))| {
                    told(&format!("ours to peer, {speed}"), median(rounds.iter().map(|round| peer(round))), most)
                })
                .collect()
            }
            Limit::Latency(p50, p99) => {
                vec![told("latency p50, us,", latency(0.5), p50), told("latency p99, us,", latency(0.99), p99)]
            }
            Limit::LatencyToBare(most) => {
                let ratio = |round: &Round| {
                    let bares: f64 = round.bares.iter().map(|bare| bare.latency_us(0.5)).sum();
                    round.ours.latency_us(0.5) / (bares / 2.0)
                };
                vec![told("latency p50 of ours to bare", of(&ratio), most)]
            }
        });
        verdicts.collect()
    }
}

/// Runs a contest until so many rounds are valid.
pub(crate) struct Ring<'a> {
    pub(crate) scene: &'a Scene,
    pub(crate) script: &'a Path,
    pub(crate) window: usize,
    pub(crate) times: Times,
    pub(crate) rounds: usize,
}

impl Ring<'_> {
    pub(crate) fn hold(&self, contest: &Contest) -> Outcome {
        println!("{}", contest.name);
        let mut outcome =
            Outcome { contest: contest.clone(), rounds: Vec::new(), void: 0, trouble: None, offered: None };
        if let Err(trouble) = self.fill(&mut outcome) {
            println!("  {trouble}");
            outcome.trouble = Some(trouble);
        }
        outcome
    }

    fn fill(&self, outcome: &mut Outcome) -> Result<(), String> {
        let contest = outcome.contest.clone();
        let pace = match contest.load {
            Load::Saturated => Pace::Window(self.window),
            Load::Messages(rate) => Pace::PerSecond(rate / 5.0),
            Load::Share(share) => {
                let slowest = contest.peer.unwrap_or(contest.ours);
                let full = self.measure(slowest, Pace::Window(self.window), contest.flow)?;
                println!("  {slowest:<34} {full}");
                Pace::PerSecond(share * full.per_core_second() / 5.0)
            }
        };
        outcome.offered = if let Pace::PerSecond(calls) = pace { Some(5.0 * calls) } else { None };
        let mut failures = 0;
        for tried in 1..=self.rounds * TRIES {
            if outcome.rounds.len() == self.rounds {
                return Ok(());
            }
            let round = self.round(&contest, pace)?;
            let rows = [Some(&round.bares[0]), Some(&round.ours), round.peer.as_ref(), Some(&round.bares[1])];
            let failed = rows.into_iter().flatten().any(|row| !row.valid());
            if failed || round.drift() > DRIFT_MAX {
                let why = if failed {
                    "lost messages or its cpu".into()
                } else {
                    format!("bares {:.0} % apart", 100.0 * round.drift())
                };
                println!("  round {tried} is void: {why}");
                outcome.void += 1;
                failures = if failed { failures + 1 } else { 0 };
                if failures == FAILURES_MAX {
                    return Err(format!("{failures} rounds in a row lost messages or their cpu"));
                }
                continue;
            }
            failures = 0;
            let to_peer = round.to_peer().map_or_else(String::new, |ratio| format!(", ours to peer {ratio:.3}"));
            println!("  round {tried}: ours to bare {:.3}{to_peer}", round.to_bare());
            outcome.rounds.push(round);
        }
        if outcome.rounds.len() == self.rounds {
            return Ok(());
        }
        Err(format!("only {} of {} rounds are valid", outcome.rounds.len(), self.rounds))
    }

    fn round(&self, contest: &Contest, pace: Pace) -> Result<Round, String> {
        let measure = |subject: Subject| {
            let bare = matches!(subject, Subject::Bare(_)) && contest.flow == Flow::Varied;
            let row = self.measure(subject, pace, if bare { Flow::Calls } else { contest.flow })?;
            println!("  {subject:<34} {row}");
            Ok::<Row, String>(row)
        };
        let first = measure(contest.bare)?;
        let ours = measure(contest.ours)?;
        let peer = contest.peer.map(measure).transpose()?;
        Ok(Round { bares: [first, measure(contest.bare)?], ours, peer })
    }

    fn measure(&self, subject: Subject, pace: Pace, flow: Flow) -> Result<Row, String> {
        let running = subject.start(self.scene, self.script).map_err(|why| format!("{subject}: {why}"))?;
        let row = self.scene.measure(&running, pace, flow, self.times);
        self.scene.end(running);
        Ok(row)
    }
}
