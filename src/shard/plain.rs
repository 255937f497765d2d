//! The change that nearly every request gets: a block above its first header, the source address at
//! the end of its Via, our Route lines gone.
//!
//! Worked into the packet from the back to the front, so that no offset shifts before it is used.
//! Whatever else is to be changed is left to an `Edit`.

use crate::packet::Packet;
use crate::sip::{Message, Method, Rport, Span};

use super::digits::{self, Quad};
use super::request::NewUri;
use super::rewrite::{Draft, lowers_in_place};

/// Room for `=65535;received=255.255.255.255`, and for writing it by whole pieces.
const WIDTH: usize = 64;

/// A short text.
struct Short {
    len: usize,
    text: [u8; WIDTH],
}

impl Short {
    #[inline]
    fn new() -> Self {
        Self { len: 0, text: [0; WIDTH] }
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

    /// Goes in front of the byte at `at`.
    #[inline]
    fn put_in(&self, packet: &mut Packet, at: u16) -> bool {
        self.len == 0 || packet.put_in(usize::from(at), self.text.get(..self.len).unwrap_or_default())
    }
}

/// See the module.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plain {
    /// Our Route lines.
    lines: Span,
    /// `received` goes to the end of the Via.
    received: bool,
    rport: NewPort,
    /// The source address.
    quad: Quad,
}

/// Where the source port goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NewPort {
    Nowhere,
    /// Behind the word `rport`.
    Behind(u16),
    /// To the end of the Via, with the word.
    Whole,
}

/// Most that goes into a Via.
pub(super) const VIA_GROWTH: usize = 48;

impl Draft<'_> {
    /// The change, if it is a plain one.
    #[inline]
    pub(super) fn plain(&self) -> Option<Plain> {
        let (message, course) = (self.incoming.message, self.course);
        let via = &message.via;
        let hops = message.max_forwards.is_none_or(lowers_in_place);
        let routes = course.pops == 0 || course.own_lines.is_some();
        if course.uri != NewUri::Keep
            || !hops
            || !routes
            || !via.received.is_empty()
            || self.incoming.method == Method::Register
            || self.incoming.source.is_ipv6()
            || self.bears_forged()
        {
            return None;
        }
        let rport = match (via.rport, self.back.rport) {
            (_, None) => NewPort::Nowhere,
            (Rport::Asked { at }, Some(_)) => NewPort::Behind(at),
            (Rport::Absent, Some(_)) => NewPort::Whole,
            (Rport::Value { .. }, Some(_)) => return None,
        };
        let lines = course.own_lines.unwrap_or(Span::NONE);
        Some(Plain { lines, received: self.back.received.is_some(), rport, quad: self.back.quad })
    }
}

impl Plain {
    /// Works it into the packet that `message` was read from, with `block` above the first header.
    /// Room was asked for before: for the block, and [`VIA_GROWTH`].
    #[inline]
    pub(super) fn apply(self, packet: &mut Packet, message: &Message, block: &[u8]) -> bool {
        let behind = self.lines.start >= message.via.value.end;
        (!behind || self.cut_lines(packet))
            && self.tell_source(packet, message.via.value.end)
            && (behind || self.cut_lines(packet))
            && packet.put_in(usize::from(message.first_header), block)
    }

    /// The source address, into a Via that ends at `end`.
    #[inline]
    fn tell_source(self, packet: &mut Packet, end: u16) -> bool {
        let mut text = Short::new();
        let port = packet.source.port();
        if self.rport == NewPort::Behind(end) {
            text.put(b"=", 1);
            text.port(port);
        }
        if self.received {
            text.put(b";received=", 10);
            let (address, len) = self.quad.wide();
            text.put(address, len);
        }
        if self.rport == NewPort::Whole {
            text.put(b";rport=", 7);
            text.port(port);
        }
        let apart = match self.rport {
            NewPort::Behind(at) if at != end => Some(at),
            NewPort::Nowhere | NewPort::Behind(_) | NewPort::Whole => None,
        };
        text.put_in(packet, end) && apart.is_none_or(|at| answer_rport(packet, at, port))
    }

    #[inline]
    fn cut_lines(self, packet: &mut Packet) -> bool {
        self.lines.is_empty() || packet.cut_out(usize::from(self.lines.start), self.lines.len())
    }
}

#[inline(never)]
fn answer_rport(packet: &mut Packet, at: u16, port: u16) -> bool {
    let mut text = Short::new();
    text.put(b"=", 1);
    text.port(port);
    text.put_in(packet, at)
}
