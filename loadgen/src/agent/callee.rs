//! Requests that come, and what is answered.
//!
//! The server transactions of either side of a call (RFC 3261 17.2, 13.3). Part of the agent. What
//! needs no call (OPTIONS, REGISTER) is answered from the request alone.

use sipring::packet::{Outbox, Packet};
use sipring::sip::{Message, Method, Span, Text, uri};

use super::leg::{Found, Side, Step};
use super::number::Tag;
use super::outside::{NO_CALL, own_tag};
use super::{Agent, check, send};
use crate::flow::Flow;
use crate::tally::Odd;
use crate::wire::answer::Asked;
use crate::wire::dialog::From;
use crate::wire::{self, NO_BODY};

pub(super) const OK: &str = "SIP/2.0 200 OK\r\n";
const RINGING: &str = "SIP/2.0 180 Ringing\r\n";
const TRYING: &str = "SIP/2.0 100 Trying\r\n";
const BUSY: &str = "SIP/2.0 486 Busy Here\r\n";
const TERMINATED: &str = "SIP/2.0 487 Request Terminated\r\n";

impl Agent {
    /// Handles a request.
    pub(super) fn request(&mut self, packet: &Packet, message: &Message, method: Method, out: &mut Outbox) {
        let bytes = packet.bytes();
        let asked = Asked { bytes, message, source: packet.source };
        let tag = message.to.tag.of(bytes);
        if tag.is_empty() {
            return self.outside(packet, &asked, method, out);
        }
        let run = self.rules.run;
        let Some(tag) = Tag::parse(tag, &run) else {
            self.tally.odd(Odd::Stray, bytes);
            return self.say(packet, &asked, method, NO_CALL, out);
        };
        match self.legs.find(&tag) {
            Found::Live(slot) => self.within(slot, packet, &asked, method, out),
            Found::Ended => {
                self.tally.odd(Odd::Late, bytes);
                // Its 200 was lost: the same again.
                let status = if method == Method::Bye { OK } else { NO_CALL };
                self.say(packet, &asked, method, status, out);
            }
            Found::Elsewhere => {
                self.tally.odd(Odd::WrongNode, bytes);
                self.say(packet, &asked, method, NO_CALL, out);
            }
            Found::Never => {
                self.tally.odd(Odd::Stray, bytes);
                self.say(packet, &asked, method, NO_CALL, out);
            }
        }
    }

    /// A new call.
    pub(super) fn invited(&mut self, key: u64, packet: &Packet, asked: &Asked<'_>, out: &mut Outbox) {
        if !self.admits() {
            return;
        }
        let Asked { bytes, message, .. } = *asked;
        let flow = self.rules.answer_as.unwrap_or_else(|| {
            let user = uri::parse_in(bytes, message.uri()).and_then(|uri| uri.user).unwrap_or_default();
            Flow::by_user(user).unwrap_or(Flow::Call)
        });
        let Some(slot) = self.legs.begin(0, 1) else {
            self.tally.held_back += 1;
            return;
        };
        let Some(spot) = self.spots.get(usize::from(packet.port.0)).and_then(Option::as_ref) else { return };
        let Some(leg) = self.legs.at(slot) else { return };
        (leg.side, leg.flow, leg.port, leg.hop) = (Side::Callee, flow, packet.port, packet.source);
        (leg.key, leg.call_hash) = (key, wire::hash(message.call_id.of(bytes)));
        leg.peer_seq = message.cseq.number;
        self.taken.insert(key, slot);
        self.tally.answered += 1;
        let tag = own_tag(&self.rules.run, &leg.digits, spot);
        leg.dialog.knows_tag(message.from.tag.of(bytes));
        if matches!(flow, Flow::NodeHangup | Flow::Reinvite) {
            let Some(hop) = leg.dialog.establish(bytes, message, From::Request(&tag)) else {
                self.tally.odd(Odd::Malformed, bytes);
                return self.end(slot);
            };
            leg.hop = hop.unwrap_or(packet.source);
        }
        leg.reply_to = asked.reply_to();
        if self.rules.trying {
            send(out, packet.port, leg.reply_to, self.rules.to, |text| {
                text.str(TRYING);
                asked.write(b"", false, text);
                text.bytes(NO_BODY);
            });
        }
        // Written once: the final response and its retransmissions say the same.
        keep(asked, &tag, &mut self.scratch, &mut leg.kept);
        let ring_ms = self.rules.ring_ms;
        if self.rules.ringing {
            self.ring(slot, out);
        }
        if flow == Flow::Cancel {
            return self.wait(slot);
        }
        if ring_ms == 0 {
            return self.answer(slot, out);
        }
        let deadline_ms = self.now_ms + 1 + ring_ms;
        if let Some(leg) = self.legs.at(slot) {
            (leg.step, leg.deadline_ms) = (Step::Ringing, deadline_ms);
        }
        self.arm(slot);
    }

    fn ring(&mut self, slot: u32, out: &mut Outbox) {
        let Some(leg) = self.legs.at(slot) else { return };
        let Some(spot) = self.spots.get(usize::from(leg.port.0)).and_then(Option::as_ref) else { return };
        send(out, leg.port, leg.reply_to, self.rules.to, |text| {
            text.str(RINGING);
            text.bytes(&leg.kept);
            text.bytes(&spot.contact);
        });
    }

    /// The callee makes up its mind.
    pub(super) fn answer(&mut self, slot: u32, out: &mut Outbox) {
        let Some(leg) = self.legs.at(slot) else { return };
        leg.step = if leg.flow == Flow::Busy { Step::Refusing } else { Step::Accepting };
        self.begin_timers(slot);
        self.send_final(slot, out);
    }

    /// Sends the final response to INVITE.
    pub(super) fn send_final(&mut self, slot: u32, out: &mut Outbox) {
        let Some(leg) = self.legs.at(slot) else { return };
        let Some(spot) = self.spots.get(usize::from(leg.port.0)).and_then(Option::as_ref) else { return };
        let (status, tail) = match (leg.step, leg.flow) {
            (Step::Refusing, Flow::Busy) => (BUSY, NO_BODY),
            (Step::Refusing, _) => (TERMINATED, NO_BODY),
            _ => (OK, spot.offer.as_slice()),
        };
        send(out, leg.port, leg.reply_to, self.rules.to, |text| {
            text.str(status);
            text.bytes(&leg.kept);
            text.bytes(tail);
        });
    }

    /// The same INVITE again: what was said last is said again.
    #[cold]
    pub(super) fn invited_again(&mut self, slot: u32, packet: &Packet, asked: &Asked<'_>, out: &mut Outbox) {
        let Some(leg) = self.legs.at(slot) else { return };
        if leg.port != packet.port {
            self.tally.odd(Odd::WrongNode, asked.bytes);
            return self.say(packet, asked, Method::Invite, NO_CALL, out);
        }
        self.tally.retransmitted += 1;
        if matches!(leg.step, Step::Accepting | Step::Refusing) {
            self.send_final(slot, out);
        } else if leg.round == 0 && leg.step != Step::Confirmed {
            self.ring(slot, out);
        }
    }

    pub(super) fn cancelled(&mut self, slot: u32, packet: &Packet, asked: &Asked<'_>, out: &mut Outbox) {
        let Some(leg) = self.legs.at(slot) else { return };
        if leg.port != packet.port {
            self.tally.odd(Odd::WrongNode, asked.bytes);
            return self.say(packet, asked, Method::Cancel, NO_CALL, out);
        }
        let pending = leg.round == 0 && matches!(leg.step, Step::Waiting | Step::Ringing);
        self.say_cancelled(slot, packet, asked, out);
        if pending && let Some(leg) = self.legs.at(slot) {
            leg.step = Step::Refusing;
            self.begin_timers(slot);
            self.send_final(slot, out);
        }
    }

    /// The answer to CANCEL has the To tag that those to its INVITE have (RFC 3261 9.2).
    fn say_cancelled(&mut self, slot: u32, packet: &Packet, asked: &Asked<'_>, out: &mut Outbox) {
        let Some(leg) = self.legs.at(slot) else { return };
        let Some(spot) = self.spots.get(usize::from(leg.port.0)).and_then(Option::as_ref) else { return };
        let tag = own_tag(&self.rules.run, &leg.digits, spot);
        send(out, packet.port, asked.reply_to(), self.rules.to, |text| {
            text.str(OK);
            asked.write(&tag, false, text);
            text.bytes(NO_BODY);
        });
    }

    /// A request within a dialog of ours.
    fn within(&mut self, slot: u32, packet: &Packet, asked: &Asked<'_>, method: Method, out: &mut Outbox) {
        let Some(leg) = self.legs.at(slot) else { return };
        let Some(spot) = self.spots.get(usize::from(leg.port.0)).and_then(Option::as_ref) else { return };
        if self.rules.checks
            && let Err(odd) = check::request(leg, spot, packet, asked.message, method)
        {
            self.tally.odd(odd, asked.bytes);
            return self.say(packet, asked, method, NO_CALL, out);
        }
        if method == Method::Ack {
            self.acknowledged(slot, asked, out);
        } else if method == Method::Invite {
            self.reinvited_by_peer(slot, packet, asked, out);
        } else {
            self.say_within(slot, packet, asked, out);
            if method == Method::Bye {
                self.hung_up(slot, asked.bytes);
            }
        }
    }

    fn say_within(&mut self, slot: u32, packet: &Packet, asked: &Asked<'_>, out: &mut Outbox) {
        let Some(leg) = self.legs.at(slot) else { return };
        leg.peer_seq = asked.message.cseq.number;
        send(out, packet.port, asked.reply_to(), self.rules.to, |text| {
            text.str(OK);
            asked.write(b"", false, text);
            text.bytes(NO_BODY);
        });
    }

    /// BYE came, and was answered.
    fn hung_up(&mut self, slot: u32, bytes: &[u8]) {
        let Some(leg) = self.legs.at(slot) else { return };
        if leg.side == Side::Caller && leg.flow != Flow::NodeHangup {
            self.tally.odd(Odd::Unexpected, bytes);
            return self.break_off(slot);
        }
        self.finish(slot, None);
    }

    fn acknowledged(&mut self, slot: u32, asked: &Asked<'_>, out: &mut Outbox) {
        let hold_ms = self.rules.hold_ms;
        let Some(leg) = self.legs.at(slot) else { return };
        if leg.step == Step::Refusing {
            return self.confirm(slot);
        }
        if leg.step != Step::Accepting || asked.message.cseq.number != leg.peer_seq {
            return self.tally.odd(Odd::Repeated, asked.bytes);
        }
        leg.round += 1;
        match (leg.side, leg.flow, leg.round) {
            (Side::Caller, ..) | (Side::Callee, Flow::NodeHangup, 1) => self.pause(slot, hold_ms, out),
            (Side::Callee, Flow::Reinvite, 2) => self.pause(slot, 0, out),
            _ => self.wait(slot),
        }
    }

    fn reinvited_by_peer(&mut self, slot: u32, packet: &Packet, asked: &Asked<'_>, out: &mut Outbox) {
        let Some(leg) = self.legs.at(slot) else { return };
        if asked.message.cseq.number == leg.peer_seq {
            self.tally.odd(Odd::Repeated, asked.bytes);
            if leg.step == Step::Accepting {
                self.tally.retransmitted += 1;
                self.send_final(slot, out);
            }
            return;
        }
        // Who invites again has our 200, though its ACK was lost.
        leg.round += u8::from(leg.step == Step::Accepting);
        leg.peer_seq = asked.message.cseq.number;
        leg.port = packet.port;
        leg.reply_to = asked.reply_to();
        keep(asked, b"", &mut self.scratch, &mut leg.kept);
        leg.step = Step::Accepting;
        self.begin_timers(slot);
        self.send_final(slot, out);
    }
}

/// Keeps what a response to INVITE copies, to be sent several times.
fn keep(asked: &Asked<'_>, tag: &[u8], scratch: &mut [u8], kept: &mut Vec<u8>) {
    let mut text = Text::new(scratch);
    let Span { end, .. } = asked.write(tag, true, &mut text);
    kept.clear();
    kept.extend_from_slice(scratch.get(..end.into()).unwrap_or_default());
}
