//! Requests outside dialogs: which of them begin a call, and those that need none.
//!
//! Part of the agent. OPTIONS, REGISTER and whatever belongs to nobody are answered from the request
//! alone; an answering side's limit is kept here.

use sipring::packet::{Outbox, Packet};
use sipring::sip::Method;

use super::callee::OK;
use super::number::DIGITS;
use super::{Agent, BURST_S, node_key, send};
use crate::digest;
use crate::tally::Odd;
use crate::wire::answer::Asked;
use crate::wire::spot::Spot;
use crate::wire::{self, NO_BODY};

pub(super) const NO_CALL: &str = "SIP/2.0 481 Call/Transaction Does Not Exist\r\n";
const NOT_HERE: &str = "SIP/2.0 480 Temporarily Unavailable\r\n";
const UNAUTHORIZED: &str = "SIP/2.0 401 Unauthorized\r\n";

impl Agent {
    /// Answers with a bare status; never an ACK.
    pub(super) fn say(&mut self, packet: &Packet, asked: &Asked<'_>, method: Method, status: &str, out: &mut Outbox) {
        let Some(spot) = self.spot(packet.port).filter(|_| method != Method::Ack) else { return };
        let tag = plain_tag(&self.rules.run, spot);
        send(out, packet.port, asked.reply_to(), self.rules.to, |text| {
            text.str(status);
            asked.write(&tag, false, text);
            text.bytes(NO_BODY);
        });
    }

    /// A request outside dialogs.
    pub(super) fn outside(&mut self, packet: &Packet, asked: &Asked<'_>, method: Method, out: &mut Outbox) {
        let bytes = asked.bytes;
        let Some(spot) = self.spot(packet.port) else { return };
        let (answers, node) = (spot.answers, node_key(&spot.key));
        let key = key(asked);
        let known = self.taken.get(&key).copied();
        if matches!(method, Method::Invite | Method::Register | Method::Options) && known.is_none() {
            let place = self.tally.node(node, String::new);
            if let Some(node) = self.tally.nodes.get_mut(usize::from(place)).filter(|_| answers) {
                node.requests += 1;
            }
        }
        match method {
            Method::Invite if known.is_some() => {
                self.tally.odd(Odd::Repeated, bytes);
                known.into_iter().for_each(|slot| self.invited_again(slot, packet, asked, out));
            }
            Method::Invite if answers => self.invited(key, packet, asked, out),
            Method::Invite => {
                self.tally.odd(Odd::Unexpected, bytes);
                self.say(packet, asked, method, NOT_HERE, out);
            }
            Method::Cancel => match known {
                Some(slot) => self.cancelled(slot, packet, asked, out),
                None => {
                    self.tally.odd(Odd::Late, bytes);
                    self.say(packet, asked, method, NO_CALL, out);
                }
            },
            Method::Options if self.admits() => self.with_contact(packet, asked, out),
            Method::Register if self.admits() => self.register(packet, asked, out),
            Method::Options | Method::Register => {}
            Method::Ack
            | Method::Bye
            | Method::Prack
            | Method::Publish
            | Method::Message
            | Method::Info
            | Method::Update
            | Method::Subscribe
            | Method::Notify
            | Method::Refer
            | Method::Unknown => {
                self.tally.odd(Odd::Stray, bytes);
                self.say(packet, asked, method, NO_CALL, out);
            }
        }
    }

    /// Whether the answering side's limit lets one more through.
    pub(super) fn admits(&mut self) -> bool {
        let Some(limit) = self.rules.answer_limit else { return true };
        let passed_s = self.now_ns.saturating_sub(self.topped_up_ns) as f64 / 1e9;
        self.topped_up_ns = self.now_ns;
        self.allowance = (self.allowance + passed_s * limit).min((limit * BURST_S).max(1.0));
        let admits = self.allowance >= 1.0;
        if admits {
            self.allowance -= 1.0;
        } else {
            self.tally.over_limit += 1;
        }
        admits
    }

    fn with_contact(&mut self, packet: &Packet, asked: &Asked<'_>, out: &mut Outbox) {
        let Some(spot) = self.spot(packet.port) else { return };
        let tag = plain_tag(&self.rules.run, spot);
        send(out, packet.port, asked.reply_to(), self.rules.to, |text| {
            text.str(OK);
            asked.write(&tag, false, text);
            text.bytes(&spot.contact);
        });
    }

    /// Registers whoever knows the password, or everybody if none is asked for.
    fn register(&mut self, packet: &Packet, asked: &Asked<'_>, out: &mut Outbox) {
        let Asked { bytes, message, .. } = *asked;
        let Some(spot) = self.spot(packet.port) else { return };
        let tag = plain_tag(&self.rules.run, spot);
        let nonce = wire::hash(message.call_id.of(bytes)) ^ u64::from_le_bytes(self.rules.run);
        let welcome =
            self.rules.registrar.as_ref().is_none_or(|password| digest::verify(bytes, message, password, nonce));
        let contact = message.contact().first.value.of(bytes);
        send(out, packet.port, asked.reply_to(), self.rules.to, |text| {
            text.str(if welcome { OK } else { UNAUTHORIZED });
            asked.write(&tag, false, text);
            if welcome {
                text.str("Contact: ");
                text.bytes(contact);
                text.str(";expires=3600\r\n");
            } else {
                digest::challenge(nonce, text);
            }
            text.bytes(NO_BODY);
        });
    }
}

/// What the retransmissions and the CANCEL of a request without To tag have in common with it.
fn key(asked: &Asked<'_>) -> u64 {
    let Asked { bytes, message, .. } = *asked;
    wire::hash(message.call_id.of(bytes)).rotate_left(17) ^ wire::hash(message.from.tag.of(bytes))
}

/// The To tag of an answering leg.
pub(super) fn own_tag(run: &[u8; 8], digits: &[u8; DIGITS], spot: &Spot) -> [u8; 32] {
    let mut tag = [0; 32];
    let parts = run.iter().chain(digits).chain(&spot.key);
    tag.iter_mut().zip(parts).for_each(|(to, from)| *to = *from);
    tag
}

/// The To tag of answers that no leg stands behind.
fn plain_tag(run: &[u8; 8], spot: &Spot) -> [u8; 32] {
    own_tag(run, b"ffffffffffffffff", spot)
}
