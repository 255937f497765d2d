//! What the traffic of an endpoint shows: silence, calls refused one after the other, a wish to be
//! left alone.
//!
//! Fed with the workers' sums several times a second; compares them with those before. Never acts.

use crate::balance::HealthPolicy;
use crate::shard::{Account, CLASSES, RETRY_AFTER_MAX_S};

use super::cause::Cause;

/// How far back the share of refused calls is looked at, microseconds; counted in two halves.
const SHARE_US: u64 = 10_000_000;

/// What was counted of an endpoint since it is known, over all plans.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Totals {
    /// Requests sent to it, without ACK.
    pub requests: u64,
    /// Requests that it sent.
    pub begun: u64,
    /// Its responses by class, 1xx to 6xx.
    pub responses: [u64; CLASSES],
    /// Final responses to INVITE.
    pub calls_answered: u64,
    /// 503s among them.
    pub calls_refused: u64,
    /// 503s among those that bore Retry-After.
    pub retry_after: u64,
    /// ICMP errors that came back from there.
    pub unreachable: u64,
}

/// Reason to take an endpoint out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Suspicion {
    pub(super) cause: Cause,
    pub(super) until_us: u64,
}

/// What one look shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Shown {
    /// ICMP errors came back since the last look.
    pub(super) unreachable: bool,
    /// Enough requests have gone there without any packet coming back, though not for long enough yet.
    pub(super) silent: bool,
    pub(super) suspicion: Option<Suspicion>,
}

/// The traffic of one endpoint.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    /// The workers' sums at the last look.
    last: Account,
    total: Totals,
    heard_us: Option<u64>,
    /// Requests since the last packet from there, and when the first of them was seen.
    unheard: u32,
    unheard_since_us: u64,
    refused_row: u32,
    /// Final responses to calls, and refusals among them: in this half and in the one before.
    halves: [(u32, u32); 2],
    half_since_us: u64,
}

impl Traffic {
    /// The workers' sums begin anew.
    pub(super) fn forget(&mut self) {
        self.last = Account::default();
    }

    /// What was seen so far counts no longer.
    pub(super) fn start_over(&mut self) {
        (self.unheard, self.refused_row, self.halves) = (0, 0, [(0, 0); 2]);
    }

    pub(super) fn total(&self) -> Totals {
        self.total
    }

    /// When a packet from there was last seen.
    pub(super) fn heard_us(&self) -> Option<u64> {
        self.heard_us
    }

    /// Looks at the workers' sums; `left_alone_us` is until when the endpoint wants to be left alone.
    pub(super) fn observe(
        &mut self,
        now_us: u64,
        account: &Account,
        left_alone_us: u64,
        policy: &HealthPolicy,
    ) -> Shown {
        let new = difference(account, &self.last);
        self.last = *account;
        add(&mut self.total, &new);
        self.listen(now_us, &new);
        self.share(now_us, &new);
        let enough = self.unheard >= policy.unanswered_requests.max(1);
        let long = now_us.saturating_sub(self.unheard_since_us) >= u64::from(policy.unanswered_ms) * 1_000;
        let until_us = now_us + u64::from(policy.ejected_s) * 1_000_000;
        let suspicion = if enough && long {
            Some(Suspicion { cause: Cause::Unanswered, until_us })
        } else if new.retry_after > 0 && left_alone_us > now_us {
            let bound_us = now_us + u64::from(RETRY_AFTER_MAX_S) * 1_000_000;
            Some(Suspicion { cause: Cause::RetryAfter, until_us: left_alone_us.min(bound_us) })
        } else if self.is_busy(policy) {
            Some(Suspicion { cause: Cause::Busy, until_us })
        } else {
            None
        };
        Shown { unreachable: new.unreachable > 0, silent: enough, suspicion }
    }

    fn listen(&mut self, now_us: u64, new: &Account) {
        if new.heard() > 0 {
            self.heard_us = Some(now_us);
            self.unheard = 0;
        } else if new.requests > 0 {
            if self.unheard == 0 {
                self.unheard_since_us = now_us;
            }
            self.unheard = self.unheard.saturating_add(new.requests);
        }
    }

    fn share(&mut self, now_us: u64, new: &Account) {
        if now_us.saturating_sub(self.half_since_us) >= SHARE_US / 2 {
            let [now, _] = self.halves;
            let fresh = now_us.saturating_sub(self.half_since_us) < SHARE_US;
            self.halves = [(0, 0), if fresh { now } else { (0, 0) }];
            self.half_since_us = now_us;
        }
        if new.calls_answered == 0 {
            return;
        }
        let [(answered, refused), _] = &mut self.halves;
        *answered = answered.saturating_add(new.calls_answered);
        *refused = refused.saturating_add(new.calls_refused);
        let only = new.calls_refused == new.calls_answered;
        self.refused_row = if only { self.refused_row.saturating_add(new.calls_refused) } else { 0 };
    }

    /// 503s to calls in a row, and above their share: healthy nodes answer 503 for a carrier's sake.
    fn is_busy(&self, policy: &HealthPolicy) -> bool {
        let [(answered, refused), (before, refused_before)] = self.halves;
        let answered = u64::from(answered) + u64::from(before);
        let refused = u64::from(refused) + u64::from(refused_before);
        self.refused_row >= policy.busy_row.max(1) && refused * 100 >= answered * u64::from(policy.busy_percent)
    }
}

fn difference(now: &Account, before: &Account) -> Account {
    let mut responses = [0; CLASSES];
    for (new, (now, before)) in responses.iter_mut().zip(now.responses.iter().zip(&before.responses)) {
        *new = now.wrapping_sub(*before);
    }
    Account {
        requests: now.requests.wrapping_sub(before.requests),
        begun: now.begun.wrapping_sub(before.begun),
        responses,
        calls_answered: now.calls_answered.wrapping_sub(before.calls_answered),
        calls_refused: now.calls_refused.wrapping_sub(before.calls_refused),
        retry_after: now.retry_after.wrapping_sub(before.retry_after),
        unreachable: now.unreachable.wrapping_sub(before.unreachable),
        leave_alone_ds: now.leave_alone_ds,
    }
}

fn add(sum: &mut Totals, new: &Account) {
    sum.requests += u64::from(new.requests);
    sum.begun += u64::from(new.begun);
    sum.responses.iter_mut().zip(&new.responses).for_each(|(sum, new)| *sum += u64::from(*new));
    sum.calls_answered += u64::from(new.calls_answered);
    sum.calls_refused += u64::from(new.calls_refused);
    sum.retry_after += u64::from(new.retry_after);
    sum.unreachable += u64::from(new.unreachable);
}
