//! The change that nearly every request gets: a block above its first header, the source address at
//! the end of its Via, our Route lines gone.
//!
//! Worked into the packet from the back to the front, so that no offset shifts before it is used.
//! Whatever else is to be changed is left to an `Edit`.

use std::net::SocketAddr;

use crate::packet::Packet;
use crate::sip::{Method, Rport, Span};

use super::digits;
use super::request::NewUri;
use super::rewrite::{Draft, lowers_in_place};

/// Room for `;received=255.255.255.255;rport=65535`, and for writing it by whole pieces.
const WIDTH: usize = 64;

/// A short text and where it goes.
#[derive(Debug)]
struct Insert {
    at: u16,
    len: usize,
    text: [u8; WIDTH],
}

impl Insert {
    #[inline]
    fn new(at: u16) -> Self {
        Self { at, len: 0, text: [0; WIDTH] }
    }

    /// Appends the first `len` of these bytes.
    #[inline]
    fn put<const N: usize>(&mut self, text: &[u8; N], len: usize) {
        if let Some(room) = self.text.get_mut(self.len..).and_then(<[u8]>::first_chunk_mut) {
            *room = *text;
            self.len += len;
        }
    }

    #[inline]
    fn port(&mut self, port: u16) {
        let (digits, len) = digits::port(port);
        self.put(&digits, len);
    }

    #[inline]
    fn text(&self) -> &[u8] {
        self.text.get(..self.len).unwrap_or_default()
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Plain {
    /// Behind the word `rport`, if not at the end of the Via.
    asked: Insert,
    /// At the end of the Via.
    end: Insert,
    lines: Span,
}

impl Draft<'_> {
    /// The change, if it is a plain one.
    #[inline]
    pub(super) fn plain(&self) -> Option<Plain> {
        let (message, course) = (self.incoming.message, self.course);
        let (via, SocketAddr::V4(source)) = (&message.via, self.incoming.source) else { return None };
        let hops = message.max_forwards.is_none_or(lowers_in_place);
        let routes = course.pops == 0 || course.own_lines.is_some();
        if course.uri != NewUri::Keep
            || !hops
            || !routes
            || !via.received.is_empty()
            || self.incoming.method == Method::Register
            || self.bears_forged()
        {
            return None;
        }
        let (mut asked, mut end) = (Insert::new(via.value.end), Insert::new(via.value.end));
        match (via.rport, self.back.rport) {
            (Rport::Asked { at }, Some(_)) => {
                let insert = if at == via.value.end { &mut end } else { &mut asked };
                insert.at = at;
                insert.put(b"=", 1);
                insert.port(source.port());
            }
            (Rport::Value { .. }, Some(_)) => return None,
            (Rport::Absent, _) | (_, None) => {}
        }
        if self.back.received.is_some() {
            end.put(b";received=", 10);
            let (text, len) = self.back.quad.wide();
            end.put(text, len);
        }
        if via.rport == Rport::Absent && self.back.rport.is_some() {
            end.put(b";rport=", 7);
            end.port(source.port());
        }
        Some(Plain { asked, end, lines: course.own_lines.unwrap_or(Span::NONE) })
    }
}

impl Plain {
    /// Bytes that it puts in.
    #[inline]
    pub(super) fn added(&self) -> usize {
        self.asked.len + self.end.len
    }

    /// Works it into the packet, with `block` at `first_header`. Room for both was asked for before.
    #[inline]
    pub(super) fn apply(&self, packet: &mut Packet, block: &[u8], first_header: u16) -> bool {
        let behind = self.lines.start >= self.end.at;
        (!behind || self.cut_lines(packet))
            && put(packet, &self.end)
            && put(packet, &self.asked)
            && (behind || self.cut_lines(packet))
            && packet.put_in(usize::from(first_header), block)
    }

    #[inline]
    fn cut_lines(&self, packet: &mut Packet) -> bool {
        self.lines.is_empty() || packet.cut_out(usize::from(self.lines.start), self.lines.len())
    }
}

#[inline]
fn put(packet: &mut Packet, insert: &Insert) -> bool {
    insert.len == 0 || packet.put_in(usize::from(insert.at), insert.text())
}
