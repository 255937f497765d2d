//! What requests within a dialog are written from.
//!
//! Owns the texts that the dialog's first messages brought: the peer's address and tag, routes and
//! the identifying headers, copied once when it is established. Driven by the agent.

use std::net::SocketAddr;

use sipring::sip::{Header, Message, Method, Span, Text, Watch, uri, values};

use super::two_digits;
use crate::agent::number::DIGITS;

/// Routes of a dialog that are kept.
const ROUTES_MAX: usize = 16;

/// The texts of one dialog.
#[derive(Debug, Default)]
pub(crate) struct Dialog {
    text: Vec<u8>,
    /// The peer's tag.
    tag: Span,
    /// Where requests are addressed to.
    uri: Span,
    /// Header lines from Route up to `CSeq: `.
    lines: Span,
}

/// Whose Record-Route and Contact it is that a dialog is made from.
#[derive(Clone, Copy, Debug)]
pub(crate) enum From<'a> {
    /// A 200 to an INVITE of ours.
    Answer,
    /// An INVITE that is answered with this To tag.
    Request(&'a [u8]),
}

impl Dialog {
    pub(crate) fn clear(&mut self) {
        self.text.clear();
        (self.tag, self.uri, self.lines) = (Span::NONE, Span::NONE, Span::NONE);
    }

    /// Takes the peer's tag if none is known; false if another is.
    pub(crate) fn knows_tag(&mut self, tag: &[u8]) -> bool {
        if self.tag.is_empty() {
            self.text.clear();
            self.text.extend_from_slice(tag);
            self.tag = Span::new(0, tag.len());
        }
        self.peer_tag() == tag
    }

    pub(crate) fn peer_tag(&self) -> &[u8] {
        self.tag.of(&self.text)
    }

    /// Whether it is established.
    pub(crate) fn stands(&self) -> bool {
        !self.uri.is_empty()
    }

    /// Takes everything over from a message; where requests go then, if the message says so by
    /// address. None if it has no sound Contact.
    pub(crate) fn establish(&mut self, bytes: &[u8], message: &Message, from: From<'_>) -> Option<Option<SocketAddr>> {
        let contact = values(bytes, message.contact(), Header::Contact, &Watch::NONE).next()?;
        let target = uri::name_addr_in(bytes, contact.span)?.uri;
        self.text.truncate(self.tag.end as usize);
        let text = &mut self.text;
        let at = text.len();
        text.extend_from_slice(target.of(bytes));
        self.uri = Span::new(at, text.len());
        let at = text.len();
        let hop = address(routes(bytes, message, matches!(from, From::Answer), text).unwrap_or(target).of(bytes));
        text.extend_from_slice(b"Max-Forwards: 70\r\nFrom: ");
        let (own, peer) = match from {
            From::Answer => (message.from, message.to),
            From::Request(_) => (message.to, message.from),
        };
        text.extend_from_slice(own.line.value.of(bytes));
        if let From::Request(tag) = from {
            text.extend_from_slice(b";tag=");
            text.extend_from_slice(tag);
        }
        text.extend_from_slice(b"\r\nTo: ");
        text.extend_from_slice(peer.line.value.of(bytes));
        text.extend_from_slice(b"\r\nCall-ID: ");
        text.extend_from_slice(message.call_id.of(bytes));
        text.extend_from_slice(b"\r\nCSeq: ");
        self.lines = Span::new(at, text.len());
        Some(hop)
    }

    /// Writes a request but for what follows CSeq. `via` ends before the leg's digits.
    #[inline]
    pub(crate) fn write(
        &self,
        method: Method,
        seq: u32,
        via: &[u8],
        digits: &[u8; DIGITS],
        tx: u8,
        text: &mut Text<'_>,
    ) {
        text.str(method.name());
        text.byte(b' ');
        text.bytes(self.uri.of(&self.text));
        text.str(" SIP/2.0\r\n");
        text.bytes(via);
        text.bytes(digits);
        text.bytes(&two_digits(tx));
        text.str("\r\n");
        text.bytes(self.lines.of(&self.text));
        text.number(seq.into());
        text.byte(b' ');
        text.str(method.name());
        text.str("\r\n");
    }
}

/// Appends the Route line; the topmost URI, if there is any.
fn routes(bytes: &[u8], message: &Message, reversed: bool, text: &mut Vec<u8>) -> Option<Span> {
    if message.record_route().is_empty() {
        return None;
    }
    let mut spans = [Span::NONE; ROUTES_MAX];
    let mut count = 0;
    let all = values(bytes, message.record_route(), Header::RecordRoute, &Watch::NONE);
    for (place, value) in spans.iter_mut().zip(all) {
        *place = value.span;
        count += 1;
    }
    let spans = spans.get_mut(..count)?;
    if reversed {
        spans.reverse();
    }
    for (index, span) in spans.iter().enumerate() {
        text.extend_from_slice(if index == 0 { b"Route: " } else { b", " });
        text.extend_from_slice(span.of(bytes));
    }
    text.extend_from_slice(b"\r\n");
    uri::name_addr_in(bytes, *spans.first()?).map(|top| top.uri)
}

/// The address that a URI's host and port are literally.
fn address(text: &[u8]) -> Option<SocketAddr> {
    let uri = uri::parse(text)?;
    Some(SocketAddr::new(uri::host_ip(uri.host)?, uri.port.unwrap_or(5060)))
}
