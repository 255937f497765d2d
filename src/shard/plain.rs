//! The change that nearly every request gets: a block above its first header, the source address at
//! the end of its Via, our Route lines gone.
//!
//! Worked into the packet at once, or from the back to the front, so that no offset shifts before it is
//! used. Whatever else is to be changed is left to an `Edit`.

use crate::packet::Packet;
use crate::sip::{Message, Method, Rport, Span};

use super::block::Block;
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
    pub(super) fn apply(self, packet: &mut Packet, message: &Message, block: &mut Block, told: &Told) -> bool {
        let (top, end) = (usize::from(message.first_header), usize::from(message.via.value.end));
        let (from, to) = (usize::from(self.lines.start), usize::from(self.lines.end));
        let (text, text_from, text_to) = match (self.rport, self.received) {
            (NewPort::Behind(at), true) if usize::from(at) == end => told.both_at(),
            (NewPort::Nowhere, true) => told.received_at(),
            (NewPort::Nowhere, false) => (&[][..], 0, 0),
            (NewPort::Behind(_) | NewPort::Whole, _) => return self.apply_apart(packet, top, end, block, told),
        };
        // All that changes is at the front: it is put together anew behind the block, and copied once.
        let (bytes, added) = (packet.bytes(), block.len());
        block.copy::<128>(bytes, top, end);
        block.copy::<40>(text, text_from, text_to);
        let whole = self.lines.is_empty();
        if !whole {
            block.copy::<16>(bytes, end, from);
        }
        match block.whole(top) {
            Some(front) if whole => packet.replace_front(end, front),
            Some(front) if from >= end => packet.replace_front(to, front),
            Some(_) | None => {
                block.cut(added);
                self.apply_apart(packet, top, end, block, told)
            }
        }
    }

    /// The same, one change after the other.
    #[inline(never)]
    fn apply_apart(self, packet: &mut Packet, top: usize, end: usize, block: &Block, told: &Told) -> bool {
        let behind = usize::from(self.lines.start) >= end;
        (!behind || self.cut_lines(packet))
            && self.tell_source(packet, end, told)
            && (behind || self.cut_lines(packet))
            && block.added().is_some_and(|added| packet.put_in(top, added))
    }

    /// The source address, into a Via that ends at `end`: from the back to the front, so that offsets
    /// hold.
    fn tell_source(self, packet: &mut Packet, end: usize, told: &Told) -> bool {
        let received = |packet: &mut Packet| !self.received || packet.put_in(end, told.received());
        match self.rport {
            NewPort::Nowhere => received(packet),
            NewPort::Behind(at) => received(packet) && packet.put_in(at.into(), told.port()),
            NewPort::Whole => packet.put_in(end, told.port()) && packet.put_in(end, b";rport") && received(packet),
        }
    }

    #[inline(always)]
    fn cut_lines(self, packet: &mut Packet) -> bool {
        self.lines.is_empty() || packet.cut_out(usize::from(self.lines.start), self.lines.len())
    }
}
