//! Requests that legs send, and what responses to them bring about.
//!
//! The client transactions of either side of a call (RFC 3261 17.1, 13.2). Part of the agent; every
//! response is checked before it means anything.

use std::net::SocketAddr;

use sipring::packet::{Outbox, Packet};
use sipring::sip::{Header, Message, Method, Span, Watch, uri, values};

use super::check::{self, Fits};
use super::leg::{Found, Side, Step};
use super::number::{LegId, NODE_DIGITS, Tag};
use super::{Agent, method_of, node_key, send};
use crate::digest;
use crate::flow::Flow;
use crate::tally::{Kind, Odd};
use crate::wire::dialog::From;
use crate::wire::stencil::Fill;
use crate::wire::{self, NO_BODY};

/// Tries of a first request, credentials included.
const TRIES_MAX: u32 = 3;
/// CANCEL is answered; the INVITE that it cancels is.
const CANCEL_ANSWERED: u8 = 1;
const INVITE_ANSWERED: u8 = 2;

impl Agent {
    /// Begins a call that should have begun at `intended_ns`; false if there is no place for it.
    pub(crate) fn begin(&mut self, intended_ns: u64, out: &mut Outbox) -> bool {
        let (Some(flow), false) = (self.rules.flow, self.sources.is_empty()) else { return false };
        let Some(slot) = self.legs.begin() else { return false };
        let turn = self.begun as usize;
        self.begun += 1;
        let source = self.sources.get(turn % self.sources.len()).copied();
        let Some(spot) = source.and_then(|port| self.spots.get(usize::from(port.0))?.as_ref()) else { return false };
        let Some(leg) = self.legs.at(slot) else { return false };
        (leg.side, leg.flow) = (Side::Caller, flow);
        leg.step = if flow.method() == Method::Invite { Step::Inviting } else { Step::Asking };
        leg.method = flow.method();
        (leg.port, leg.hop) = (spot.port, self.rules.to);
        (leg.seq, leg.invite_seq, leg.tx) = (1, 1, 1);
        leg.target = (turn % self.rules.targets.len().max(1)) as u32;
        leg.user = (turn as u64 % u64::from(self.rules.users.max(1))) as u32;
        leg.intended_ns = intended_ns;
        leg.call_hash = check::own_call_id(&leg.digits, &spot.call_id_tail);
        self.callers += 1;
        self.tally.started += 1;
        self.tally.lag.saturating_record(self.now_ns.saturating_sub(intended_ns));
        self.begin_timers(slot);
        self.send_first(slot, out);
        true
    }

    /// Sends the first request, or the same with credentials.
    pub(super) fn send_first(&mut self, slot: u32, out: &mut Outbox) {
        let Some(leg) = self.legs.at(slot) else { return };
        let Some(spot) = self.spots.get_mut(usize::from(leg.port.0)).and_then(Option::as_mut) else { return };
        let target = self.rules.targets.get(leg.target as usize).map_or("", |target| target);
        send(out, leg.port, leg.hop, self.rules.to, |text| {
            text.str(leg.method.name());
            text.str(target);
            let fill = Fill { leg: &leg.digits, tx: leg.tx, seq: leg.seq, user: leg.user, extra: &leg.kept };
            spot.first.write(&fill, text);
        });
    }

    /// Sends CANCEL, or the ACK to a refusal, whose To that came with `to`.
    pub(super) fn send_further(&mut self, slot: u32, method: Method, to: &[u8], out: &mut Outbox) {
        let Some(leg) = self.legs.at(slot) else { return };
        let (digits, tx, seq, user) = (leg.digits, leg.tx, leg.seq, leg.user);
        let (port, hop, target) = (leg.port, leg.hop, leg.target);
        let Some(spot) = self.spots.get_mut(usize::from(port.0)).and_then(Option::as_mut) else { return };
        let target = self.rules.targets.get(target as usize).map_or("", |target| target);
        send(out, port, hop, self.rules.to, |text| {
            text.str(method.name());
            text.str(target);
            spot.further.write(&Fill { leg: &digits, tx, seq, user, extra: b"" }, text);
            if to.is_empty() {
                text.bytes(&spot.to);
            } else {
                text.str("To: ");
                text.bytes(to);
                text.str("\r\n");
            }
            text.str("CSeq: ");
            text.number(seq.into());
            text.byte(b' ');
            text.str(method.name());
            text.str("\r\n");
            text.bytes(NO_BODY);
        });
    }

    /// Sends a request within the dialog. An ACK is to the INVITE last sent.
    pub(super) fn send_within(&mut self, slot: u32, method: Method, out: &mut Outbox) {
        let Some(leg) = self.legs.at(slot) else { return };
        let Some(spot) = self.spots.get(usize::from(leg.port.0)).and_then(Option::as_ref) else { return };
        let (seq, tx) = if method == Method::Ack { (leg.invite_seq, leg.ack_tx) } else { (leg.seq, leg.tx) };
        let (dialog, digits) = (&leg.dialog, &leg.digits);
        send(out, leg.port, leg.hop, self.rules.to, |text| {
            dialog.write(method, seq, &spot.via, digits, tx, text);
            text.bytes(if method == Method::Invite { &spot.offer } else { NO_BODY });
        });
    }

    /// Handles a response.
    pub(super) fn response(&mut self, packet: &Packet, message: &Message, code: u16, out: &mut Outbox) {
        let bytes = packet.bytes();
        let run = self.rules.run;
        let Some(tag) = Tag::parse(message.from.tag.of(bytes), &run) else {
            return self.tally.odd(Odd::Stray, bytes);
        };
        let slot = match self.legs.find(&tag) {
            Found::Live(slot) => slot,
            Found::Ended => return self.late(packet, message, code, tag.leg, out),
            Found::Elsewhere => return self.tally.odd(Odd::WrongSocket, bytes),
            Found::Never => return self.tally.odd(Odd::Stray, bytes),
        };
        let Some(leg) = self.legs.at(slot) else { return };
        let Some(spot) = self.spots.get(usize::from(leg.port.0)).and_then(Option::as_ref) else { return };
        match check::response(leg, spot, packet, message, code, self.rules.checks) {
            Err(odd) => self.tally.odd(odd, bytes),
            Ok(Fits::Older) => self.repeated(slot, message, code, bytes, out),
            Ok(Fits::Current) if method_of(message, bytes) == Method::Cancel => self.cancel_answered(slot, code, bytes),
            Ok(Fits::Current) if code < 200 => self.provisional(slot, message, code, bytes, out),
            Ok(Fits::Current) => self.last_answer(slot, message, code, bytes, out),
        }
    }

    /// A response for a leg that has ended. Who retransmits a refusal wants an ACK.
    #[cold]
    fn late(&mut self, packet: &Packet, message: &Message, code: u16, leg: LegId, out: &mut Outbox) {
        let bytes = packet.bytes();
        self.tally.odd(Odd::Late, bytes);
        if method_of(message, bytes) != Method::Invite || code < 300 || message.cseq.number > 9 {
            return;
        }
        let (proxy, digits) = (self.rules.to, leg.digits());
        let Some(spot) = self.spots.get_mut(usize::from(packet.port.0)).and_then(Option::as_mut) else { return };
        let Some(target) = self.rules.targets.first() else { return };
        let tx = message.via.branch.of(bytes).last_chunk::<2>().map_or(1, check::small);
        send(out, packet.port, proxy, proxy, |text| {
            text.str("ACK");
            text.str(target);
            spot.further.write(&Fill { leg: &digits, tx, seq: message.cseq.number, user: 0, extra: b"" }, text);
            text.str("To: ");
            text.bytes(message.to.line.value.of(bytes));
            text.str("\r\nCSeq: ");
            text.number(message.cseq.number.into());
            text.str(" ACK\r\n");
            text.bytes(NO_BODY);
        });
    }

    /// A response that was there before. A 200 to INVITE is sent until its ACK arrives.
    #[cold]
    fn repeated(&mut self, slot: u32, message: &Message, code: u16, bytes: &[u8], out: &mut Outbox) {
        self.tally.odd(Odd::Repeated, bytes);
        let Some(leg) = self.legs.at(slot) else { return };
        let to_invite = method_of(message, bytes) == Method::Invite && message.cseq.number == leg.invite_seq;
        if to_invite && (200..300).contains(&code) && leg.dialog.stands() {
            self.tally.retransmitted += 1;
            self.send_within(slot, Method::Ack, out);
        }
    }

    fn provisional(&mut self, slot: u32, message: &Message, code: u16, bytes: &[u8], out: &mut Outbox) {
        let (now_ms, now_ns, t2_ms) = (self.now_ms, self.now_ns, self.rules.t2_ms);
        let answer_wait_ms = self.rules.answer_wait_ms;
        let Some(leg) = self.legs.at(slot) else { return };
        if leg.step == Step::Cancelling {
            return;
        }
        leg.proceeding = true;
        if leg.method != Method::Invite {
            leg.interval_ms = t2_ms;
            return;
        }
        leg.resend_ms = 0;
        leg.deadline_ms = now_ms + answer_wait_ms;
        if code == 100 || leg.step != Step::Inviting {
            return;
        }
        if leg.node.is_none() {
            self.tally.took(Kind::Ringing, now_ns.saturating_sub(leg.intended_ns));
            let node = self.node_of(bytes, message);
            let Some(leg) = self.legs.at(slot) else { return };
            leg.node = Some(node);
        }
        let Some(leg) = self.legs.at(slot) else { return };
        if leg.flow == Flow::Cancel {
            leg.step = Step::Cancelling;
            leg.intended_ns = now_ns;
            self.begin_timers(slot);
            self.send_further(slot, Method::Cancel, b"", out);
        }
    }

    /// Which node a response comes from, by its To tag if that is of an answering side of ours, else by
    /// its Contact.
    fn node_of(&mut self, bytes: &[u8], message: &Message) -> u16 {
        let contact = || -> Option<(SocketAddr, Span)> {
            let value = values(bytes, message.contact(), Header::Contact, &Watch::NONE).next()?;
            let span = uri::name_addr_in(bytes, value.span)?.uri;
            let uri = uri::parse_in(bytes, span)?;
            Some((SocketAddr::new(uri::host_ip(uri.host)?, uri.port.unwrap_or(5060)), span))
        };
        let name = || contact().map_or_else(|| "unknown".to_owned(), |(address, _)| address.to_string());
        let tag = message.to.tag.of(bytes);
        match tag.last_chunk::<NODE_DIGITS>() {
            Some(digits) if tag.len() == 32 && tag.iter().all(u8::is_ascii_hexdigit) => {
                self.tally.node(node_key(digits), name)
            }
            _ => {
                let name = name();
                self.tally.node(wire::hash(name.as_bytes()), || name)
            }
        }
    }

    /// A final response to the request last sent.
    fn last_answer(&mut self, slot: u32, message: &Message, code: u16, bytes: &[u8], out: &mut Outbox) {
        let Some(leg) = self.legs.at(slot) else { return };
        let (kind, took) = (kind(leg.step, leg.method), self.now_ns.saturating_sub(leg.intended_ns));
        let (step, challenged) = (leg.step, matches!(code, 401 | 407) && leg.seq < TRIES_MAX);
        if matches!(step, Step::Inviting | Step::Asking) && challenged && self.rules.password.is_some() {
            return self.try_again(slot, message, code, bytes, out);
        }
        if let Some(kind) = kind {
            self.tally.took(kind, took);
        }
        match step {
            Step::Asking => {
                if code < 300 {
                    self.count_node(slot, message, bytes);
                }
                self.finish(slot, (code >= 300).then_some(code));
            }
            Step::Inviting if code < 300 => self.established(slot, message, bytes, out),
            Step::Inviting | Step::Cancelling => self.refused(slot, message, code, bytes, out),
            Step::Reinviting => self.reinvited(slot, code, out),
            Step::Ending => self.finish(slot, (code >= 300).then_some(code)),
            Step::Held | Step::Waiting | Step::Ringing | Step::Accepting | Step::Refusing | Step::Confirmed => {
                self.tally.odd(Odd::Unexpected, bytes);
            }
        }
    }

    fn count_node(&mut self, slot: u32, message: &Message, bytes: &[u8]) {
        let known = self.legs.at(slot).and_then(|leg| leg.node);
        let place = known.unwrap_or_else(|| self.node_of(bytes, message));
        if let Some(node) = self.tally.nodes.get_mut(usize::from(place)) {
            node.calls += 1;
        }
    }

    /// The first INVITE got a 200.
    fn established(&mut self, slot: u32, message: &Message, bytes: &[u8], out: &mut Outbox) {
        self.count_node(slot, message, bytes);
        let Some(leg) = self.legs.at(slot) else { return };
        let Some(hop) = leg.dialog.establish(bytes, message, From::Answer) else {
            self.tally.odd(Odd::Malformed, bytes);
            return self.break_off(slot);
        };
        leg.hop = hop.unwrap_or(leg.hop);
        leg.ack_tx = leg.tx.wrapping_add(1);
        let flow = leg.flow;
        // Whoever wanted a refusal hangs up at once.
        let failing = matches!(flow, Flow::Busy | Flow::Cancel);
        leg.failing = if failing { 200 } else { 0 };
        self.send_within(slot, Method::Ack, out);
        match flow {
            Flow::NodeHangup => self.wait(slot),
            _ if failing => self.pause(slot, 0, out),
            Flow::Call | Flow::NodeCall | Flow::Reinvite => self.pause(slot, self.rules.hold_ms, out),
            Flow::Options | Flow::Register | Flow::Busy | Flow::Cancel => self.break_off(slot),
        }
    }

    /// The first INVITE is refused, or crossed with its CANCEL.
    fn refused(&mut self, slot: u32, message: &Message, code: u16, bytes: &[u8], out: &mut Outbox) {
        if code < 300 {
            return self.established(slot, message, bytes, out);
        }
        self.send_further(slot, Method::Ack, message.to.line.value.of(bytes), out);
        let Some(leg) = self.legs.at(slot) else { return };
        match (leg.flow, code) {
            (Flow::Busy, 486) => {
                self.count_node(slot, message, bytes);
                self.finish(slot, None);
            }
            (Flow::Cancel, 487) if leg.step == Step::Cancelling => {
                leg.cancelled |= INVITE_ANSWERED;
                if leg.cancelled & CANCEL_ANSWERED != 0 {
                    self.count_node(slot, message, bytes);
                    self.finish(slot, None);
                }
            }
            _ => self.finish(slot, Some(code)),
        }
    }

    fn cancel_answered(&mut self, slot: u32, code: u16, bytes: &[u8]) {
        let (now_ns, now_ms) = (self.now_ns, self.now_ms);
        let timeout_ms = self.rules.timeout_ms;
        let Some(leg) = self.legs.at(slot) else { return };
        if leg.step != Step::Cancelling || leg.cancelled & CANCEL_ANSWERED != 0 {
            return self.tally.odd(Odd::Repeated, bytes);
        }
        if code < 200 {
            return;
        }
        self.tally.took(Kind::Cancel, now_ns.saturating_sub(leg.intended_ns));
        leg.cancelled |= CANCEL_ANSWERED;
        leg.resend_ms = 0;
        leg.deadline_ms = now_ms + timeout_ms;
        leg.failing = if code < 300 { 0 } else { code };
        if leg.cancelled & INVITE_ANSWERED != 0 {
            let node = leg.node;
            if let Some(node) = node.and_then(|place| self.tally.nodes.get_mut(usize::from(place))) {
                node.calls += 1;
            }
            self.finish(slot, None);
        }
    }

    /// An INVITE within the dialog got its final response.
    fn reinvited(&mut self, slot: u32, code: u16, out: &mut Outbox) {
        let Some(leg) = self.legs.at(slot) else { return };
        leg.ack_tx = if code < 300 { leg.tx.wrapping_add(1) } else { leg.tx };
        self.send_within(slot, Method::Ack, out);
        if code < 300 {
            return self.wait(slot);
        }
        let Some(leg) = self.legs.at(slot) else { return };
        leg.failing = code;
        self.pause(slot, 0, out);
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
        leg.kept.clear();
        if !digest::answer(bytes, message, code, &request, &mut leg.kept) {
            return self.finish(slot, Some(code));
        }
        leg.seq += 1;
        leg.invite_seq = leg.seq;
        leg.tx = leg.tx.wrapping_add(2);
        leg.proceeding = false;
        self.begin_timers(slot);
        self.send_first(slot, out);
    }
}

/// What a final response in this step is the answer to; none if its time tells nothing.
fn kind(step: Step, method: Method) -> Option<Kind> {
    match step {
        Step::Asking if method == Method::Register => Some(Kind::Register),
        Step::Asking => Some(Kind::Options),
        Step::Inviting => Some(Kind::Invite),
        Step::Reinviting => Some(Kind::Reinvite),
        Step::Ending => Some(Kind::Bye),
        Step::Cancelling
        | Step::Held
        | Step::Waiting
        | Step::Ringing
        | Step::Accepting
        | Step::Refusing
        | Step::Confirmed => None,
    }
}
