//! What must hold of everything that comes back.
//!
//! Pure: compares a message with the leg that it names and says what is odd about it first. Driven by
//! the agent for every message of a live leg.

use sipring::packet::Packet;
use sipring::sip::{Message, Method, Text};

use super::leg::{Leg, Side, Step};
use super::method_of;
use super::number::DIGITS;
use crate::tally::Odd;
use crate::wire::spot::Spot;
use crate::wire::{self, block, two_digits};

/// What a response is to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fits {
    /// The request last sent, which waits for it.
    Current,
    /// A request that has got its answer.
    Older,
}

/// The hash of the Call-ID of a leg's own.
pub(super) fn own_call_id(digits: &[u8; DIGITS], tail: &[u8]) -> u64 {
    let mut room = [0; 96];
    let mut text = Text::new(&mut room);
    text.bytes(digits);
    text.bytes(tail);
    let len = text.len();
    wire::hash(room.get(..len).unwrap_or_default())
}

/// The number that two hexadecimal digits write.
pub(super) fn small(digits: &[u8; 2]) -> u8 {
    digits.iter().fold(0, |sum, digit| sum << 4 | ((digit & 15) + 9 * (digit >> 6 & 1)))
}

/// Checks a response for `leg`, which its From tag names.
#[inline]
pub(super) fn response(
    leg: &mut Leg,
    spot: &Spot,
    packet: &Packet,
    message: &Message,
    code: u16,
    strict: bool,
) -> Result<Fits, Odd> {
    let bytes = packet.bytes();
    if strict {
        if packet.port != leg.port {
            return Err(Odd::WrongSocket);
        }
        if message.vias.count != 1 || message.via.shares_line {
            return Err(Odd::ViaNotPopped);
        }
        if message.via.sent_by.of(bytes) != spot.address.as_bytes() {
            return Err(Odd::WrongVia);
        }
        if wire::hash(message.call_id.of(bytes)) != leg.call_hash {
            return Err(Odd::WrongCallId);
        }
    }
    let tx = transaction(message.via.branch.of(bytes), leg, spot).ok_or(Odd::WrongVia)?;
    let method = method_of(message, bytes);
    let cancels = method == Method::Cancel;
    let current = message.cseq.number == leg.seq && (method == leg.method || cancels);
    if current != (tx == leg.tx) {
        return Err(Odd::WrongCSeq);
    }
    if !current {
        return older(leg, message, method);
    }
    if cancels {
        return if leg.step == Step::Cancelling { Ok(Fits::Current) } else { Err(Odd::Unexpected) };
    }
    let waits = matches!(leg.step, Step::Asking | Step::Inviting | Step::Cancelling | Step::Reinviting | Step::Ending);
    let answered = leg.step == Step::Cancelling && leg.cancelled & 2 != 0;
    if !waits || answered {
        return Ok(Fits::Older);
    }
    if strict {
        tags(leg, message, bytes, code)?;
    }
    Ok(Fits::Current)
}

/// Tags and Record-Route, from the first response of the dialog on.
fn tags(leg: &mut Leg, message: &Message, bytes: &[u8], code: u16) -> Result<(), Odd> {
    let tag = message.to.tag.of(bytes);
    if code > 100 && tag.is_empty() {
        return Err(Odd::WrongTag);
    }
    let in_dialog = matches!(leg.step, Step::Reinviting | Step::Ending);
    let forms = leg.method == Method::Invite && (101..300).contains(&code);
    if (in_dialog || forms) && !tag.is_empty() && !leg.dialog.knows_tag(tag) {
        return Err(Odd::WrongTag);
    }
    if forms && !in_dialog && !message.record_route().is_empty() {
        let routes = wire::hash(block(bytes, message.record_route()).unwrap_or_default());
        if *leg.routes_hash.get_or_insert(routes) != routes {
            return Err(Odd::RecordRouteChanged);
        }
    }
    Ok(())
}

fn older(leg: &Leg, message: &Message, method: Method) -> Result<Fits, Odd> {
    let was_there = message.cseq.number < leg.seq || (message.cseq.number == leg.seq && method == leg.method);
    if was_there { Ok(Fits::Older) } else { Err(Odd::WrongCSeq) }
}

/// The transaction of a branch of `leg`.
#[inline]
fn transaction(branch: &[u8], leg: &Leg, spot: &Spot) -> Option<u8> {
    let rest = branch.strip_prefix(spot.branch.as_slice())?.strip_prefix(leg.digits.as_slice())?;
    let digits = <&[u8; 2]>::try_from(rest).ok()?;
    let tx = small(digits);
    (two_digits(tx) == *digits).then_some(tx)
}

/// Checks a request for `leg`, which its To tag names.
#[inline]
pub(super) fn request(leg: &Leg, spot: &Spot, packet: &Packet, message: &Message, method: Method) -> Result<(), Odd> {
    let bytes = packet.bytes();
    if packet.port != leg.port {
        return Err(if leg.side == Side::Callee { Odd::WrongNode } else { Odd::WrongSocket });
    }
    if wire::hash(message.call_id.of(bytes)) != leg.call_hash {
        return Err(Odd::WrongCallId);
    }
    if message.from.tag.of(bytes) != leg.dialog.peer_tag() {
        return Err(Odd::WrongTag);
    }
    let refused = matches!(leg.step, Step::Refusing | Step::Confirmed);
    if !refused && !message.route().is_empty() {
        return Err(Odd::RouteLeft);
    }
    if !refused && message.uri().of(bytes) != spot.contact_uri {
        return Err(Odd::WrongUri);
    }
    let number = message.cseq.number;
    let sound = if method == Method::Ack { number <= leg.peer_seq } else { number >= leg.peer_seq };
    if sound { Ok(()) } else { Err(Odd::WrongCSeq) }
}
