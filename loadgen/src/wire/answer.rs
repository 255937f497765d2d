//! Responses, written from the request that they answer.
//!
//! What RFC 3261 8.2.6 wants copied is copied in whole lines; the topmost Via gets what its sender
//! cannot know (RFC 3581). Driven by the agent with a packet of its own.

use std::net::SocketAddr;

use sipring::sip::{Header, Lines, Message, Rport, Span, Text, headers};

use super::block;

/// What a response copies.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) message: &'a Message,
    pub(crate) source: SocketAddr,
}

impl Asked<'_> {
    /// Where its response goes (RFC 3261 18.2.2, RFC 3581).
    pub(crate) fn reply_to(&self) -> SocketAddr {
        match self.message.via.rport {
            Rport::Absent => SocketAddr::new(self.source.ip(), self.message.via.port.unwrap_or(5060)),
            Rport::Asked { .. } | Rport::Value { .. } => self.source,
        }
    }

    /// Writes the lines between status line and Contact; where they stand. `to_tag` is put into a To
    /// that has none.
    pub(crate) fn write(&self, to_tag: &[u8], routes: bool, text: &mut Text<'_>) -> Span {
        let Self { bytes, message, .. } = *self;
        let at = text.len();
        self.vias(text);
        if routes && !message.record_route().is_empty() {
            lines(bytes, message, message.record_route(), Header::RecordRoute, text);
        }
        text.str("From: ");
        text.bytes(message.from.line.value.of(bytes));
        text.str("\r\nTo: ");
        text.bytes(message.to.line.value.of(bytes));
        if message.to.tag.is_empty() && !to_tag.is_empty() {
            text.str(";tag=");
            text.bytes(to_tag);
        }
        text.str("\r\nCall-ID: ");
        text.bytes(message.call_id.of(bytes));
        text.str("\r\nCSeq: ");
        text.bytes(message.cseq.value.of(bytes));
        text.str("\r\n");
        Span::new(at, text.len())
    }

    fn vias(&self, text: &mut Text<'_>) {
        let Self { bytes, message, source } = *self;
        let (Rport::Asked { at }, Some(all)) = (message.via.rport, block(bytes, &message.vias)) else {
            return lines(bytes, message, &message.vias, Header::Via, text);
        };
        let (front, back) = all.split_at_checked((at - message.vias.first.start).into()).unwrap_or((all, b""));
        text.bytes(front);
        text.byte(b'=');
        text.number(source.port().into());
        text.str(";received=");
        text.ip(source.ip());
        text.bytes(back);
    }
}

/// All lines of a header, in order.
fn lines(bytes: &[u8], message: &Message, of: &Lines, header: Header, text: &mut Text<'_>) {
    if let Some(all) = block(bytes, of) {
        return text.bytes(all);
    }
    for line in headers(bytes, message).filter(|line| line.header == header) {
        text.str(header.name());
        text.str(": ");
        text.bytes(line.line.value.of(bytes));
        text.str("\r\n");
    }
}
