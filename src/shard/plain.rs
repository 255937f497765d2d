//! The change that nearly every request gets: a block above its first header, the source address at
//! the end of its Via, our Route lines gone.
//!
//! Worked into the packet at once, or from the back to the front, so that no offset shifts before it is
//! used.
//! Whatever else is to be changed is left to an `Edit`.

use crate::packet::Packet;
use crate::sip::{Message, Method, Rport, Span};

use super::request::NewUri;
use super::rewrite::{Draft, lowers_in_place};
use super::told::Told;

/// See the module.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plain {
    /// Our Route lines.
    lines: Span,
    /// `received` goes to the end of the Via.
    received: bool,
    rport: NewPort,
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
        Some(Plain { lines, received: self.back.received, rport })
    }
}

impl Plain {
    /// Works it into the packet that `message` was read from, with `block` above the first header.
    /// Room was asked for before: for the block, and [`VIA_GROWTH`].
    #[inline]
    pub(super) fn apply(self, packet: &mut Packet, message: &Message, block: &[u8], told: &Told) -> bool {
        let (top, end) = (usize::from(message.first_header), usize::from(message.via.value.end));
        let lines = usize::from(self.lines.start)..usize::from(self.lines.end);
        let behind = lines.start >= end;
        let told = match (self.rport, self.received) {
            (NewPort::Behind(at), true) if usize::from(at) == end => told.both(),
            (NewPort::Nowhere, true) => told.received(),
            (NewPort::Nowhere, false) => b"",
            (NewPort::Behind(_) | NewPort::Whole, _) => {
                return (!behind || self.cut_lines(packet))
                    && self.tell_apart(packet, end, told)
                    && (behind || self.cut_lines(packet))
                    && packet.put_in(top, block);
            }
        };
        if lines.is_empty() {
            packet.recast((top, block), (end, told), end..end)
        } else if behind {
            packet.recast((top, block), (end, told), lines)
        } else {
            packet.put_in(end, told) && self.cut_lines(packet) && packet.put_in(top, block)
        }
    }

    /// The source address, where it does not go to the Via's end in one piece.
    #[inline(never)]
    fn tell_apart(self, packet: &mut Packet, end: usize, told: &Told) -> bool {
        let (at, word): (usize, &[u8]) = match self.rport {
            NewPort::Behind(at) => (usize::from(at), b""),
            NewPort::Nowhere | NewPort::Whole => (end, b";rport"),
        };
        // From the back to the front, so that `at` holds.
        (at == end || !self.received || packet.put_in(end, told.received()))
            && packet.put_in(at, told.port())
            && packet.put_in(at, word)
            && (at != end || !self.received || packet.put_in(at, told.received()))
    }

    #[inline(always)]
    fn cut_lines(self, packet: &mut Packet) -> bool {
        self.lines.is_empty() || packet.cut_out(usize::from(self.lines.start), self.lines.len())
    }
}
