//! Challenges: a request that was refused for want of credentials is sent again with them.
//!
//! Part of the agent (RFC 3261 22). The first request is tried a few times, since a nonce may have
//! gone stale; one within a dialog once, whichever side sent it.

use sipring::packet::Outbox;
use sipring::sip::{Message, Method};

use super::leg::{Side, Step};
use super::{Agent, method_of};
use crate::digest;

/// Tries of a first request, credentials included.
const TRIES_MAX: u32 = 3;

impl Agent {
    /// Handles a 401 or 407 to the request last sent; false if that is to be taken as it is.
    #[cold]
    pub(super) fn challenged(
        &mut self,
        slot: u32,
        message: &Message,
        code: u16,
        bytes: &[u8],
        out: &mut Outbox,
    ) -> bool {
        let Some(leg) = self.legs.at(slot).filter(|_| self.rules.password.is_some()) else { return false };
        match leg.step {
            Step::Inviting | Step::Asking if leg.seq < TRIES_MAX => {
                self.try_again(slot, message, code, bytes, out);
                true
            }
            Step::Reinviting | Step::Ending => self.try_within(slot, message, code, bytes, out),
            Step::Inviting
            | Step::Asking
            | Step::Cancelling
            | Step::Held
            | Step::Waiting
            | Step::Ringing
            | Step::Accepting
            | Step::Refusing
            | Step::Confirmed => false,
        }
    }

    /// The first request again, with credentials.
    fn try_again(&mut self, slot: u32, message: &Message, code: u16, bytes: &[u8], out: &mut Outbox) {
        if method_of(message, bytes) == Method::Invite {
            self.send_further(slot, Method::Ack, message.to.line.value.of(bytes), out);
        }
        let Some(leg) = self.legs.at(slot) else { return };
        let target = self.rules.targets.get(leg.target as usize).map_or("", |target| target);
        let request = digest::Request {
            method: leg.method.name(),
            uri: target.trim_start().split(' ').next().unwrap_or_default(),
            user: &self.rules.user,
            number: (self.rules.users > 1).then_some(leg.user),
            password: self.rules.password.as_deref().unwrap_or_default(),
            client_nonce: &leg.digits,
        };
        leg.invite_credentials.clear();
        if !digest::answer(bytes, message, code, &request, &mut leg.invite_credentials) {
            return self.finish(slot, Some(code));
        }
        self.ask_again(slot);
        self.send_first(slot, out);
    }

    /// The request within the dialog again, with credentials; false if it had some already, or the
    /// challenge cannot be answered.
    fn try_within(&mut self, slot: u32, message: &Message, code: u16, bytes: &[u8], out: &mut Outbox) -> bool {
        let Some(leg) = self.legs.at(slot) else { return false };
        let method = leg.method;
        if !leg.credentials(method).is_empty() {
            return false;
        }
        let mut line = std::mem::take(leg.credentials(method));
        let request = digest::Request {
            method: method.name(),
            uri: str::from_utf8(leg.dialog.uri()).unwrap_or_default(),
            user: &self.rules.user,
            number: (self.rules.users > 1 && leg.side == Side::Caller).then_some(leg.user),
            password: self.rules.password.as_deref().unwrap_or_default(),
            client_nonce: &leg.digits,
        };
        let answers = digest::answer(bytes, message, code, &request, &mut line);
        if answers && method == Method::Invite {
            leg.ack_tx = leg.tx;
            self.send_within(slot, Method::Ack, out);
        }
        let Some(leg) = self.legs.at(slot) else { return false };
        *leg.credentials(method) = line;
        if answers {
            self.ask_again(slot);
            self.send_within(slot, method, out);
        }
        answers
    }

    /// Another transaction for the request last sent.
    fn ask_again(&mut self, slot: u32) {
        let Some(leg) = self.legs.at(slot) else { return };
        leg.seq += 1;
        leg.tx = leg.tx.wrapping_add(2);
        if leg.method == Method::Invite {
            leg.invite_seq = leg.seq;
        }
        leg.proceeding = false;
        self.begin_timers(slot);
    }
}
