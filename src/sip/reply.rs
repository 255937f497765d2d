//! Writes whole responses to requests that the shard answers itself.
//!
//! Driven by the shard with a request, sound or not, and a buffer of its own. Copies what RFC 3261
//! 8.2.6 wants copied byte for byte and leaves out what the request lacks. Never decides whether a
//! response is due, and never grows the buffer.

use std::net::IpAddr;

use super::message::{Line, Message, Rport, Span};
use super::names::Header;
use super::text::Text;
use super::values;

/// What a response says besides what it copies from the request.
#[derive(Clone, Copy, Debug)]
pub struct Reply<'a> {
    pub code: u16,
    pub reason: &'a str,
    /// Put into To if it has no tag.
    pub to_tag: Option<&'a [u8]>,
    /// Put into the topmost Via as `received`, in place of what it claims.
    pub received: Option<IpAddr>,
    /// Put into the topmost Via as `rport`, in place of what it claims.
    pub rport: Option<u16>,
    /// Whole header lines, each with its CRLF.
    pub extra: &'a [u8],
}

/// Writes the response to `message`, scanned from `bytes`, into `out` and returns its length; None if
/// it does not fit.
#[must_use]
pub fn write(bytes: &[u8], message: &Message, reply: &Reply<'_>, out: &mut [u8]) -> Option<usize> {
    let mut text = Text::new(out);
    text.str("SIP/2.0 ");
    text.number(reply.code.into());
    text.byte(b' ');
    text.str(reply.reason);
    text.str("\r\n");
    vias(bytes, message, reply, &mut text);
    field(bytes, "From: ", message.from.line.value, &mut text);
    match reply.to_tag {
        Some(tag) if message.to.tag.is_empty() => tagged(bytes, message, tag, &mut text),
        _ => field(bytes, "To: ", message.to.line.value, &mut text),
    }
    field(bytes, "Call-ID: ", message.call_id, &mut text);
    field(bytes, "CSeq: ", message.cseq.value, &mut text);
    text.bytes(reply.extra);
    text.str("Content-Length: 0\r\n\r\n");
    text.fits().then(|| text.len())
}

/// A header line; none for an empty value.
fn field(bytes: &[u8], name: &str, value: Span, text: &mut Text<'_>) {
    if value.is_empty() {
        return;
    }
    text.str(name);
    text.bytes(value.of(bytes));
    text.str("\r\n");
}

/// To, which has no tag, with `tag`.
fn tagged(bytes: &[u8], message: &Message, tag: &[u8], text: &mut Text<'_>) {
    let (value, place) = (message.to.line.value, message.to.tag);
    if value.is_empty() {
        return;
    }
    text.str("To: ");
    if place == Span::NONE {
        let all = value.of(bytes);
        text.bytes(all.strip_suffix(b";").unwrap_or(all));
        text.str(";tag=");
        text.bytes(tag);
    } else {
        text.bytes(Span { start: value.start, end: place.start }.of(bytes));
        text.bytes(tag);
        text.bytes(Span { start: place.end, end: value.end }.of(bytes));
    }
    text.str("\r\n");
}

/// All Via lines in order, the topmost value with what its sender cannot know.
fn vias(bytes: &[u8], message: &Message, reply: &Reply<'_>, text: &mut Text<'_>) {
    let lines = message.vias;
    if lines.is_empty() {
        return;
    }
    top_via(bytes, message, reply, text);
    for other in values::between(bytes, lines.first.next as usize, lines.end as usize) {
        if other.header == Header::Via {
            text.str("Via: ");
            text.bytes(other.line.value.of(bytes));
            text.str("\r\n");
        }
    }
}

fn top_via(bytes: &[u8], message: &Message, reply: &Reply<'_>, text: &mut Text<'_>) {
    let Line { value: line, .. } = message.vias.first;
    let via = &message.via;
    if via.value.is_empty() {
        // It was not understood.
        return field(bytes, "Via: ", line, text);
    }
    let received = reply.received.map(Known::Received);
    let rport = reply.rport.map(Known::Rport);
    // What stands in the value already is replaced there, the rest follows at its end.
    let received_at = if via.received.is_empty() { via.value.end } else { via.received.start };
    let (rport_at, rport_end, equals) = match via.rport {
        Rport::Absent => (via.value.end, via.value.end, ";rport="),
        Rport::Asked { at } => (at, at, "="),
        Rport::Value { span, .. } => (span.start, span.end, ""),
    };
    let received_end = received_at + via.received.len() as u16;
    let name = if via.received.is_empty() { ";received=" } else { "" };
    let mut puts = [(received_at, received_end, name, received), (rport_at, rport_end, equals, rport)];
    // A bare `rport` may end the value: what completes it goes in front of what follows it.
    if rport_at <= received_at {
        puts.reverse();
    }
    text.str("Via: ");
    let mut from = line.start;
    for (at, end, name, known) in puts {
        let Some(known) = known else { continue };
        text.bytes(Span { start: from, end: at }.of(bytes));
        text.str(name);
        match known {
            Known::Received(ip) => text.ip(ip),
            Known::Rport(port) => text.number(port.into()),
        }
        from = end;
    }
    text.bytes(Span { start: from, end: line.end }.of(bytes));
    text.str("\r\n");
}

/// What the sender of a request cannot know of itself.
#[derive(Clone, Copy)]
enum Known {
    Received(IpAddr),
    Rport(u16),
}
