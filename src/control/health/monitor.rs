//! One endpoint: its probes, and what they and the traffic say of it.
//!
//! Performs no I/O and reads no clock: time and evidence come in, sendings of probes go out, and the
//! owner compares [`Monitor::outward`] before and after. Knows no plan and no other endpoint.

use crate::balance::{Health, HealthPolicy};
use crate::shard::{AVOID_MS, Account};

use super::cause::Cause;
use super::dice::Dice;
use super::news::News;
use super::traffic::{Suspicion, Traffic};

/// One probe is told from another by this: unguessable, the same for its retransmissions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Token(pub(super) u128);

/// Sendings of one probe: at once, after a quarter and after half of its time.
pub(super) const SENDINGS: u8 = 3;
/// A probe begins this part of its interval earlier or later, so that many do not fall in step.
const JITTER: u64 = 16;
/// ICMP errors start a probe no more often than workers avoid an endpoint for one.
const ALARM_GAP_US: u64 = AVOID_MS * 1_000;
/// The first probe of an endpoint comes within this time, however long the interval is.
pub(super) const FIRST_US: u64 = 1_000_000;
/// When nothing is due.
pub(super) const NEVER: u64 = u64::MAX;

/// What others see of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Outward {
    pub(super) health: Health,
    /// Alive, and says that the other half of its pair takes the calls.
    pub(super) standby: bool,
    /// It takes no new calls for a while.
    pub(super) closed: bool,
}

impl Outward {
    /// Whether calls may go there, as far as it is concerned.
    pub(super) fn takes_calls(self) -> bool {
        self.health != Health::Down && !self.standby && !self.closed
    }
}

/// What is counted of probes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Figures {
    pub(super) probes: u64,
    pub(super) answered: u64,
    pub(super) failed: u64,
    /// Answers that came after their probe had failed.
    pub(super) late: u64,
    /// How often traffic took it out, and how often the cap kept it in.
    pub(super) ejections: u64,
    pub(super) held: u64,
    pub(super) rtt_us: Option<u64>,
}

/// A probe under way.
#[derive(Clone, Copy, Debug)]
struct Flight {
    token: Token,
    begun_us: u64,
    sendings: u8,
    /// It was begun anew because control overslept a sending.
    anew: bool,
}

/// What traffic keeps out, and until when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ejection {
    pub(super) cause: Cause,
    pub(super) until_us: u64,
}

/// The state of one endpoint.
#[derive(Debug)]
pub(super) struct Monitor {
    policy: HealthPolicy,
    /// Half of a pair: its 503 means alive, not primary.
    paired: bool,
    /// By probes alone.
    health: Health,
    standby: bool,
    /// In a row: unanswered probes (for a single node also those answered 503), answered ones, good
    /// answers, 503s of a half.
    misses: u16,
    alive: u16,
    good: u16,
    refusals: u16,
    flight: Option<Flight>,
    /// The probe before, for answers that come late.
    lapsed: Option<Token>,
    probe_us: u64,
    alarmed_us: Option<u64>,
    ejection: Option<Ejection>,
    traffic: Traffic,
    pub(super) cause: Cause,
    pub(super) since_us: u64,
    pub(super) figures: Figures,
    pub(super) news: News,
}

impl Monitor {
    /// Of an endpoint that nothing is known of: its first probe comes within `within_us`.
    pub(super) fn new(policy: HealthPolicy, paired: bool, now_us: u64, within_us: u64, dice: &mut Dice) -> Self {
        let mut monitor = Self {
            policy,
            paired,
            health: Health::Up,
            standby: false,
            misses: 0,
            alive: 0,
            good: 0,
            refusals: 0,
            flight: None,
            lapsed: None,
            probe_us: NEVER,
            alarmed_us: None,
            ejection: None,
            traffic: Traffic::default(),
            cause: Cause::Started,
            since_us: now_us,
            figures: Figures::default(),
            news: News::default(),
        };
        monitor.schedule(now_us, within_us, dice);
        monitor
    }

    /// Takes over what a new plan says. Where probing ends, nothing is held against the endpoint any
    /// more: nobody would ever find that it is back.
    pub(super) fn adopt(&mut self, policy: HealthPolicy, paired: bool, now_us: u64, dice: &mut Dice) {
        self.traffic.forget();
        if policy == self.policy && paired == self.paired {
            return;
        }
        let timed = |policy: &HealthPolicy| (policy.probe, policy.interval_ms, policy.timeout_ms);
        let rescheduled = timed(&policy) != timed(&self.policy);
        (self.policy, self.paired) = (policy, paired);
        self.standby &= paired;
        if !policy.probe && self.health != Health::Up {
            (self.health, self.cause) = (Health::Up, Cause::Started);
        }
        if rescheduled {
            self.flight = None;
            (self.misses, self.alive, self.good, self.refusals) = (0, 0, 0, 0);
            self.schedule(now_us, FIRST_US, dice);
        }
    }

    fn schedule(&mut self, now_us: u64, within_us: u64, dice: &mut Dice) {
        let within = within_us.min(u64::from(self.policy.interval_ms) * 1_000);
        self.probe_us = if self.policy.probe { now_us + dice.below(within) } else { NEVER };
    }

    pub(super) fn outward(&self) -> Outward {
        let cause = self.ejection.map(|ejection| ejection.cause);
        let silent = cause == Some(Cause::Unanswered);
        Outward {
            health: if silent { Health::Down } else { self.health },
            standby: self.standby,
            closed: cause.is_some() && !silent,
        }
    }

    /// When [`Monitor::step`] wants to be called.
    pub(super) fn due_us(&self) -> u64 {
        self.probe_us.min(self.ejection.map_or(NEVER, |ejection| ejection.until_us))
    }

    /// The probe under way.
    pub(super) fn flies(&self) -> Option<Token> {
        self.flight.map(|flight| flight.token)
    }

    pub(super) fn ejection(&self) -> Option<Ejection> {
        self.ejection
    }

    pub(super) fn traffic(&self) -> &Traffic {
        &self.traffic
    }

    /// Good answers in a row; enough of them if none are asked for.
    pub(super) fn has_proved(&self, answers: u16) -> bool {
        !self.policy.probe || self.good >= answers
    }

    /// Does one thing that is due; a token is to be sent. To be called again while more is due.
    pub(super) fn step(&mut self, now_us: u64, dice: &mut Dice) -> Option<Token> {
        if let Some(over) = self.ejection.take_if(|ejection| ejection.until_us <= now_us) {
            self.cause = if over.cause == self.cause { Cause::Elapsed } else { self.cause };
            self.traffic.start_over();
        }
        if self.probe_us > now_us {
            return None;
        }
        let timeout_us = u64::from(self.policy.timeout_ms) * 1_000;
        let Some(flight) = &mut self.flight else { return Some(self.begin(now_us, dice)) };
        // Who was not there to send and to listen has no right to say that nobody answered.
        if now_us - self.probe_us > timeout_us / 2 && !flight.anew {
            *flight = Flight { begun_us: now_us, sendings: 1, anew: true, ..*flight };
            self.probe_us = now_us + timeout_us / 4;
            return Some(flight.token);
        }
        if flight.sendings < SENDINGS {
            flight.sendings += 1;
            // From when it was sent, not from when it should have been: every sending gets its time.
            self.probe_us = now_us + if flight.sendings < SENDINGS { timeout_us / 4 } else { timeout_us / 2 };
            return Some(flight.token);
        }
        self.missed(now_us, dice);
        None
    }

    fn begin(&mut self, now_us: u64, dice: &mut Dice) -> Token {
        let token = Token(u128::from(dice.roll()) << 64 | u128::from(dice.roll()));
        self.figures.probes += 1;
        self.flight = Some(Flight { token, begun_us: now_us, sendings: 1, anew: false });
        self.probe_us = now_us + u64::from(self.policy.timeout_ms) * 1_000 / 4;
        token
    }

    /// The probe could not even be tried, for a reason of our own: as if it had never begun.
    pub(super) fn withdraw(&mut self, now_us: u64, dice: &mut Dice) {
        if self.flight.take().is_some() {
            self.figures.probes = self.figures.probes.saturating_sub(1);
        }
        self.rest(now_us, dice);
    }

    fn missed(&mut self, now_us: u64, dice: &mut Dice) {
        self.figures.failed += 1;
        (self.alive, self.good, self.refusals) = (0, 0, 0);
        let begun_us = self.flight.map_or(now_us, |flight| flight.begun_us);
        self.lapsed = self.flight.take().map(|flight| flight.token);
        self.suspect(Cause::NoAnswer);
        if self.health == Health::Down {
            self.rest(begun_us, dice);
        } else {
            // What is in doubt is settled at once.
            self.probe_us = now_us;
        }
    }

    /// One thing more against it.
    fn suspect(&mut self, cause: Cause) {
        self.misses = self.misses.saturating_add(1);
        if self.health == Health::Down {
            return;
        }
        self.health = if self.misses >= self.policy.misses { Health::Down } else { Health::Probing };
        self.cause = cause;
    }

    /// The next probe comes an interval after `begun_us`, more or less.
    fn rest(&mut self, begun_us: u64, dice: &mut Dice) {
        let interval = u64::from(self.policy.interval_ms) * 1_000;
        let jitter = dice.below(interval / JITTER * 2);
        self.probe_us = if self.policy.probe { begun_us + interval - interval / JITTER + jitter } else { NEVER };
    }

    /// A final response with the branch of `token` came from the endpoint.
    pub(super) fn answered(&mut self, now_us: u64, token: Token, code: u16, dice: &mut Dice) {
        let Some(flight) = self.flight.take_if(|flight| flight.token == token) else {
            if self.lapsed.take_if(|lapsed| *lapsed == token).is_some() {
                self.figures.late += 1;
            }
            return;
        };
        if flight.sendings == 1 && !flight.anew {
            self.figures.rtt_us = Some(now_us.saturating_sub(flight.begun_us));
        }
        self.rest(flight.begun_us, dice);
        match (code, self.paired) {
            (503, false) => {
                self.figures.failed += 1;
                (self.alive, self.good) = (0, 0);
                self.suspect(Cause::Refused);
                if self.health != Health::Down {
                    self.probe_us = now_us + u64::from(self.policy.timeout_ms) * 1_000;
                }
            }
            (503, true) => {
                self.good = 0;
                self.figures.answered += 1;
                self.refusals = self.refusals.saturating_add(1);
                if !self.standby && self.refusals >= self.policy.misses {
                    (self.standby, self.cause) = (true, Cause::Refused);
                } else if !self.standby {
                    self.probe_us = now_us + u64::from(self.policy.timeout_ms) * 1_000;
                }
                self.lives(Cause::Refused);
            }
            _ => {
                self.figures.answered += 1;
                self.refusals = 0;
                self.good = self.good.saturating_add(1);
                if self.standby && self.good >= self.policy.answers {
                    (self.standby, self.cause) = (false, Cause::Answered);
                }
                self.lives(Cause::Answered);
            }
        }
    }

    /// It answered: what was only suspected is settled, what was down must answer more than once.
    fn lives(&mut self, cause: Cause) {
        self.misses = 0;
        self.alive = self.alive.saturating_add(1);
        let settled = match self.health {
            Health::Up => false,
            Health::Probing => true,
            Health::Down => self.alive >= self.policy.answers,
        };
        if settled && self.health == Health::Down {
            // What was sent there while it was down proves nothing.
            self.traffic.start_over();
            self.ejection.take_if(|ejection| ejection.cause == Cause::Unanswered);
        }
        if settled {
            (self.health, self.cause) = (Health::Up, cause);
        }
    }

    /// Something other than a probe speaks against it: a probe settles that at once.
    pub(super) fn alarm(&mut self, now_us: u64, cause: Cause) {
        let recent = self.alarmed_us.is_some_and(|at_us| now_us < at_us + ALARM_GAP_US);
        if !self.policy.probe || self.health == Health::Down || recent {
            return;
        }
        self.alarmed_us = Some(now_us);
        if self.flight.is_none() {
            self.probe_us = now_us;
        }
        if self.health == Health::Up {
            (self.health, self.cause) = (Health::Probing, cause);
        }
    }

    /// What the traffic shows now. The suspicion that it is too bad to go on is the owner's to judge.
    pub(super) fn observe(&mut self, now_us: u64, account: &Account, left_alone_us: u64) -> Option<Suspicion> {
        let seen = self.traffic.observe(now_us, account, left_alone_us, &self.policy);
        if seen.unreachable {
            self.alarm(now_us, Cause::Unreachable);
        }
        if seen.silent {
            self.alarm(now_us, Cause::Unanswered);
        }
        if self.health == Health::Down {
            self.traffic.start_over();
            return None;
        }
        seen.suspicion.filter(|suspicion| match self.ejection {
            Some(ejection) => suspicion.cause == Cause::RetryAfter && suspicion.until_us > ejection.until_us,
            None => true,
        })
    }

    /// Takes it out of new calls, or out altogether if it is silent.
    pub(super) fn eject(&mut self, suspicion: Suspicion) {
        let Suspicion { cause, until_us } = suspicion;
        self.figures.ejections += u64::from(self.ejection.is_none());
        self.ejection = Some(Ejection { cause, until_us });
        self.cause = cause;
    }

    /// What traffic showed was not acted on: it has to show it anew. True if that is worth telling.
    pub(super) fn pardon(&mut self, now_us: u64) -> bool {
        self.traffic.start_over();
        self.figures.held += 1;
        self.news.held(now_us)
    }
}
