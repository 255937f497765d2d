//! What happens when nothing comes: retransmissions, pauses that end, and giving up.
//!
//! One timer a leg, which fires when the next thing is due or earlier. Driven by the worker once a
//! turn (RFC 3261 17.1.1.2, 17.1.2.2, 17.2.1, 13.3.1.4).

use sipring::packet::Outbox;
use sipring::sip::Method;

use super::leg::{Side, Step};
use super::number::LegId;
use super::{Agent, arm};
use crate::flow::Flow;

/// Timers served in one turn.
const TIMERS_MAX: usize = 1_024;

/// T4 of RFC 3261 in T1: 5 s where that is 500 ms.
const T4_IN_T1: u64 = 10;

impl Agent {
    /// When it next wants to be called, milliseconds.
    pub(crate) fn wakes_at_ms(&self) -> Option<u64> {
        self.timers.next_at()
    }

    /// Does what is due.
    pub(crate) fn expire(&mut self, out: &mut Outbox) {
        let mut fired = std::mem::take(&mut self.fired);
        self.timers.expire(self.now_ms, TIMERS_MAX, |id| fired.push(id));
        for id in fired.drain(..) {
            self.fire(LegId::of_bits(id), out);
        }
        self.fired = fired;
    }

    fn fire(&mut self, id: LegId, out: &mut Outbox) {
        let Some(leg) = self.legs.by_id(id) else { return };
        leg.timer = None;
        if self.now_ms < leg.due_ms() {
            return arm(&mut self.timers, leg, id);
        }
        if self.now_ms >= leg.deadline_ms {
            return self.deadline(id.slot, out);
        }
        // Timers A and E, and G for answers; all but A stay at T2.
        let inviting = matches!(leg.step, Step::Inviting | Step::Reinviting);
        let bound_ms = if inviting { u64::MAX } else { self.rules.t2_ms };
        leg.interval_ms = (leg.interval_ms * 2).min(bound_ms);
        leg.resend_ms = self.now_ms + leg.interval_ms;
        arm(&mut self.timers, leg, id);
        self.tally.retransmitted += 1;
        self.send_again(id.slot, out);
    }

    /// The step has lasted as long as it may.
    fn deadline(&mut self, slot: u32, out: &mut Outbox) {
        let Some(leg) = self.legs.at(slot) else { return };
        leg.intended_ns = leg.deadline_ms * 1_000_000;
        match (leg.step, leg.side) {
            (Step::Held, _) => self.go_on(slot, out),
            (Step::Ringing, _) => self.answer(slot, out),
            (Step::Confirmed, _) => self.end(slot),
            (_, Side::Caller) => {
                self.tally.lost += 1;
                self.end(slot);
            }
            (_, Side::Callee) => {
                self.tally.abandoned += 1;
                self.end(slot);
            }
        }
    }

    /// Sends what was sent last once more.
    pub(super) fn send_again(&mut self, slot: u32, out: &mut Outbox) {
        let Some(leg) = self.legs.at(slot) else { return };
        match leg.step {
            Step::Asking | Step::Inviting => self.send_first(slot, out),
            Step::Cancelling => self.send_further(slot, Method::Cancel, b"", out),
            Step::Reinviting => self.send_within(slot, Method::Invite, out),
            Step::Ending => self.send_within(slot, Method::Bye, out),
            Step::Accepting | Step::Refusing => self.send_final(slot, out),
            Step::Held | Step::Waiting | Step::Ringing | Step::Confirmed => {}
        }
    }

    /// The flow goes on after a pause, or at once if there is none.
    pub(super) fn pause(&mut self, slot: u32, pause_ms: u64, out: &mut Outbox) {
        let (now_ms, now_ns) = (self.now_ms, self.now_ns);
        let Some(leg) = self.legs.at(slot) else { return };
        leg.step = Step::Held;
        leg.resend_ms = 0;
        if pause_ms == 0 {
            leg.intended_ns = now_ns;
            return self.go_on(slot, out);
        }
        // The millisecond that is under way is not counted in.
        leg.deadline_ms = now_ms + 1 + pause_ms;
        self.arm(slot);
    }

    /// Waits for the other end.
    pub(super) fn wait(&mut self, slot: u32) {
        let rules = &self.rules;
        let (now_ms, patience_ms) = (self.now_ms, rules.hold_ms + rules.answer_wait_ms);
        let idle_ms = rules.idle_ms;
        let Some(leg) = self.legs.at(slot) else { return };
        let deadline_ms = now_ms + if leg.side == Side::Caller { patience_ms } else { idle_ms };
        leg.step = Step::Waiting;
        leg.resend_ms = 0;
        leg.deadline_ms = deadline_ms;
        self.arm(slot);
    }

    /// Stays for what comes late of a refused INVITE.
    pub(super) fn confirm(&mut self, slot: u32) {
        let (now_ms, timeout_ms) = (self.now_ms, self.rules.timeout_ms);
        let t4_ms = self.rules.t1_ms.saturating_mul(T4_IN_T1);
        let Some(leg) = self.legs.at(slot) else { return };
        // CANCEL may come again for as long as its sender tries (timer J).
        let deadline_ms = now_ms + if leg.flow == Flow::Cancel { timeout_ms } else { t4_ms };
        leg.step = Step::Confirmed;
        leg.resend_ms = 0;
        leg.deadline_ms = deadline_ms;
        self.arm(slot);
    }

    /// The next request of whoever's turn it is.
    fn go_on(&mut self, slot: u32, out: &mut Outbox) {
        let Some(leg) = self.legs.at(slot) else { return };
        let reinvites = leg.flow == Flow::Reinvite
            && leg.failing == 0
            && match leg.side {
                Side::Caller => leg.round == 0,
                Side::Callee => true,
            };
        if reinvites {
            leg.round += 1;
            self.ask_within(slot, Method::Invite, out);
        } else {
            self.ask_within(slot, Method::Bye, out);
        }
    }

    /// Begins a request within the dialog.
    fn ask_within(&mut self, slot: u32, method: Method, out: &mut Outbox) {
        let Some(leg) = self.legs.at(slot) else { return };
        leg.step = if method == Method::Bye { Step::Ending } else { Step::Reinviting };
        leg.method = method;
        leg.seq += 1;
        leg.tx = leg.tx.wrapping_add(2);
        if method == Method::Invite {
            leg.invite_seq = leg.seq;
        }
        leg.proceeding = false;
        leg.credentials(method).clear();
        self.begin_timers(slot);
        self.send_within(slot, method, out);
    }

    /// Timers of a request or a final response just sent.
    pub(super) fn begin_timers(&mut self, slot: u32) {
        let (now_ms, t1_ms, timeout_ms) = (self.now_ms, self.rules.t1_ms, self.rules.timeout_ms);
        let Some(leg) = self.legs.at(slot) else { return };
        leg.interval_ms = t1_ms;
        leg.resend_ms = now_ms + t1_ms;
        leg.deadline_ms = now_ms + timeout_ms;
        self.arm(slot);
    }
}
