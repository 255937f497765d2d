//! Packets: one datagram each, in a slot with head room, moved and never borrowed.
//!
//! Owns the buffers' shape and what travels with them between datapath, shard and mail: where a
//! datagram came from, where a send goes, and the outbox of what leaves in a turn. Knows no SIP.

mod ahead;
mod copy;
mod head;
mod hops;
mod outbox;
mod pool;
mod ports;
mod shape;

pub use ahead::asked_ahead;
pub use head::Head;
pub use hops::{Device, HOP_HEADER_MAX, Hop, Hops, Mac, Neighbour, Route, Tag};
pub use outbox::{Outbox, Outgoing, Sent};
pub use pool::Pool;
pub use ports::{Egress, Endpoints, Event, LocalPort, PeerId, PortId, PortRole, Trouble, WorkerId};
pub use shape::{FRAME_BYTES, FRAME_FRONT, PoolOptions, PoolUse};

use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};

use pool::Slot;

/// Bytes kept free in front of every received datagram: what `edit` may grow a message by.
pub const HEAD_ROOM: usize = 640;
/// Longest UDP payload over IPv4, bytes; what is longer was truncated by the kernel.
pub const DATAGRAM_MAX: usize = 65_507;

/// Bytes of a slot from a datagram's first on, whether they belong to it or not: every offset of 16
/// bits lies within, and a few bytes behind each.
pub type Window = [u8; 65_536 + WINDOW_SLACK];
const WINDOW_SLACK: usize = 64;
/// What stands behind a datagram in its window: no value goes beyond a line end.
const WINDOW_END: [u8; 16] = [b'\r'; 16];

/// One datagram and what is known of it, which stands in its [`Head`].
///
/// Owns its slot: dropping the packet gives the slot back to the pool, on the dropping thread's
/// free list.
#[derive(Debug)]
pub struct Packet {
    slot: Slot,
}

impl Deref for Packet {
    type Target = Head;

    #[inline]
    fn deref(&self) -> &Head {
        &self.slot
    }
}

impl DerefMut for Packet {
    #[inline]
    fn deref_mut(&mut self) -> &mut Head {
        &mut self.slot
    }
}

impl Packet {
    #[inline]
    fn new(slot: Slot) -> Self {
        Self { slot }
    }

    /// Forgets the datagram that was in the slot before.
    #[inline]
    fn clear(&mut self) {
        *self.slot = Head::new();
    }

    /// The datagram.
    #[inline]
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        let start = self.start as usize;
        match self.slot.bytes().get(start..start + self.len as usize) {
            Some(bytes) => bytes,
            None => nothing(),
        }
    }

    /// The datagram, writable.
    #[inline]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        let (start, end) = (self.start as usize, (self.start + self.len) as usize);
        self.slot.bytes_mut().get_mut(start..end).unwrap_or_default()
    }

    /// The slot from the datagram's first byte on, with CRs put behind its last: what searches for the
    /// end of a line need not ask where the datagram ends. None if the slot is not large enough.
    #[inline]
    pub fn window(&mut self) -> Option<&Window> {
        let (start, len) = (self.start as usize, self.len as usize);
        if len > DATAGRAM_MAX {
            return None;
        }
        self.high_water = self.high_water.max((start + len + WINDOW_END.len()) as u32);
        let window = self.slot.bytes_mut().get_mut(start..)?.first_chunk_mut::<{ size_of::<Window>() }>()?;
        *window.get_mut(len..)?.first_chunk_mut()? = WINDOW_END;
        Some(window)
    }

    /// Length of the datagram, bytes.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether the datagram has no bytes.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Free bytes in front of the datagram.
    #[inline]
    #[must_use]
    pub fn head_room(&self) -> usize {
        self.start as usize
    }

    /// Moves the first byte: `start` becomes `start - by` for a positive `by`, later for a negative
    /// one, and the length changes with it. False, and nothing done, if that leaves the slot or the
    /// datagram.
    #[inline]
    #[must_use]
    pub fn grow_front(&mut self, by: isize) -> bool {
        let start = self.start as isize - by;
        let len = self.len as isize + by;
        if start < 0 || len < 0 {
            return false;
        }
        self.start = start as u32;
        self.len = len as u32;
        true
    }

    /// Takes `len` bytes from `at` on out of the datagram; what stands before them moves. False, and
    /// nothing done, if they do not lie within it.
    #[inline(always)]
    #[must_use]
    pub fn cut_out(&mut self, at: usize, len: usize) -> bool {
        let (start, end) = (self.start as usize, self.len as usize);
        if at + len > end || start + end > self.slot.size() {
            return false;
        }
        copy::forward(self.slot.bytes_mut(), start..start + at, len);
        self.start += len as u32;
        self.len -= len as u32;
        true
    }

    /// Puts `text` in front of the byte at `at`; what stands before it moves into the head room. False,
    /// and nothing done, if there is too little, or no such place.
    #[inline]
    #[must_use]
    pub fn put_in(&mut self, at: usize, text: &[u8]) -> bool {
        let by = text.len();
        if by > self.start as usize || at > self.len as usize {
            return false;
        }
        self.start -= by as u32;
        self.len += by as u32;
        let Some(moved) = self.bytes_mut().get_mut(..at + by) else { return false };
        moved.copy_within(by.., 0);
        if let Some(room) = moved.get_mut(at..) {
            copy::short(room, text);
        }
        true
    }

    /// Replaces the first `len` bytes by `text`. False, and nothing done, if there is too little head room,
    /// or they do not lie within the datagram.
    #[inline]
    #[must_use]
    pub fn replace_front(&mut self, len: usize, text: &[u8]) -> bool {
        if len > self.len as usize {
            return false;
        }
        let Some(start) = (self.start as usize + len).checked_sub(text.len()) else { return false };
        let Some(room) = self.slot.bytes_mut().get_mut(start..start + text.len()) else { return false };
        room.copy_from_slice(text);
        self.start = start as u32;
        self.len = self.len - len as u32 + text.len() as u32;
        true
    }

    /// Cuts the datagram to its first `len` bytes; longer than it is does nothing.
    #[inline]
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(u32::try_from(len).unwrap_or(u32::MAX));
    }

    /// The whole of the slot behind the head room, for a datapath to receive into. Follow with
    /// [`Packet::received`].
    #[inline]
    pub fn room(&mut self) -> &mut [u8] {
        self.room_from(0)
    }

    /// The same, and the last `ahead` bytes of the head room with it: for what a datapath is told of
    /// a datagram in front of it.
    #[inline]
    pub fn room_from(&mut self, ahead: usize) -> &mut [u8] {
        self.slot.bytes_mut().get_mut(HEAD_ROOM - ahead.min(HEAD_ROOM)..).unwrap_or_default()
    }

    /// Tells that the datapath wrote `len` bytes into [`Packet::room`].
    #[inline]
    pub fn received(&mut self, len: usize, port: PortId, source: SocketAddr) {
        self.start = HEAD_ROOM as u32;
        self.len = len.min(self.slot.size() - HEAD_ROOM) as u32;
        self.high_water = self.high_water.max(self.start + self.len);
        self.port = port;
        self.source = source;
        self.pad_at = 0;
        self.order = 0;
        self.handed = false;
    }

    /// Tells what the kernel wrote into a frame: `len` bytes at `at`. False, and nothing done, if they
    /// do not lie within it and behind its front.
    #[inline]
    fn frame_filled(&mut self, at: usize, len: usize) -> bool {
        let fits = at >= FRAME_FRONT && at - FRAME_FRONT + len <= self.slot.size();
        if fits {
            self.start = (at - FRAME_FRONT) as u32;
            self.len = len as u32;
        }
        fits
    }

    /// Cuts a whole frame down to its datagram: the `len` bytes from `at` on.
    #[inline]
    pub fn arrived(&mut self, at: usize, len: usize, port: PortId, source: SocketAddr) {
        let at = (at as u32).min(self.len);
        self.start += at;
        self.len = (self.len - at).min(u32::try_from(len).unwrap_or(u32::MAX));
        self.port = port;
        self.source = source;
    }

    /// The datagram and the `headers` bytes in front of it, writable; none if it lies in no frame, or
    /// too near to the frame's begin.
    #[inline]
    pub fn framed(&mut self, headers: usize) -> Option<&mut [u8]> {
        let start = (FRAME_FRONT + self.start as usize).checked_sub(headers)?;
        let end = FRAME_FRONT + (self.start + self.len) as usize;
        self.slot.frame_mut()?.get_mut(start..end)
    }

    /// Whether it lies in a frame of `pool`.
    #[inline]
    pub(crate) fn lies_in(&self, pool: &Pool) -> bool {
        self.slot.is_frame_of(pool)
    }

    /// Lends its frame to the kernel, to send the datagram and the `headers` bytes in front of it:
    /// address in the area of `pool`, and length.
    ///
    /// # Errors
    /// The packet, if it lies in no frame of `pool` or has no room for the headers.
    #[inline]
    pub(crate) fn lend(self, pool: &Pool, headers: usize) -> Result<(u64, u32), Self> {
        let Some(at) = (FRAME_FRONT + self.start as usize).checked_sub(headers) else { return Err(self) };
        if !self.slot.is_frame_of(pool) {
            return Err(self);
        }
        let len = headers as u32 + self.len;
        let address = self.slot.lend() + at as u64;
        std::mem::forget(self);
        Ok((address, len))
    }

    /// Replaces the datagram by `bytes`; false, and nothing done, if they do not fit the slot.
    #[must_use]
    pub fn replace(&mut self, bytes: &[u8]) -> bool {
        let Some(room) = self.room().get_mut(..bytes.len()) else { return false };
        room.copy_from_slice(bytes);
        self.start = HEAD_ROOM as u32;
        self.len = bytes.len() as u32;
        self.high_water = self.high_water.max(self.start + self.len);
        self.pad_at = 0;
        true
    }
}

#[cold]
fn nothing() -> &'static [u8] {
    &[]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_keeps_what_was_written_and_grows_into_its_head_room_only() {
        let pool = Pool::new(&PoolOptions { slots: 2, threads: 1 }).unwrap();
        let mut packet = pool.take().unwrap();
        assert!(packet.replace(b"hello"));
        assert_eq!(packet.bytes(), b"hello");
        assert!(packet.grow_front(HEAD_ROOM as isize));
        assert_eq!(packet.len(), HEAD_ROOM + 5);
        assert!(!packet.grow_front(1));
        assert!(packet.grow_front(-(HEAD_ROOM as isize) - 5));
        assert!(packet.is_empty());
        assert!(!packet.grow_front(-1));
        assert!(packet.replace(&vec![7; DATAGRAM_MAX]));
        assert_eq!(packet.len(), DATAGRAM_MAX);
        assert!(!packet.replace(&vec![7; 70_000]));
    }

    #[test]
    fn what_is_put_in_stands_where_it_was_to_stand() {
        let pool = Pool::new(&PoolOptions { slots: 1, threads: 1 }).unwrap();
        let mut packet = pool.take().unwrap();
        assert!(packet.replace(b"one, three"));
        assert!(packet.put_in(5, b"two, "));
        assert!(packet.put_in(15, b"!"));
        assert!(packet.put_in(0, b"> "));
        assert_eq!(packet.bytes(), b"> one, two, three!");
        assert!(!packet.put_in(19, b"x"));
        assert!(!packet.put_in(0, &[b'x'; HEAD_ROOM]));
        assert_eq!(packet.bytes(), b"> one, two, three!");
    }

    #[test]
    fn a_new_front_stands_where_the_old_one_ended() {
        let pool = Pool::new(&PoolOptions { slots: 1, threads: 1 }).unwrap();
        let mut packet = pool.take().unwrap();
        assert!(packet.replace(b"one, three"));
        assert!(packet.replace_front(5, b"two, "));
        assert!(packet.replace_front(0, b"one, "));
        assert_eq!(packet.bytes(), b"one, two, three");
        assert!(packet.replace_front(10, b""));
        assert!(!packet.replace_front(6, b"four"));
        assert!(!packet.replace_front(5, &[b'x'; HEAD_ROOM + 11]));
        assert_eq!(packet.bytes(), b"three");
        assert!(packet.replace_front(5, &[b'x'; HEAD_ROOM + 10]));
        assert_eq!((packet.len(), packet.head_room()), (HEAD_ROOM + 10, 0));
    }

    #[test]
    fn what_is_cut_out_is_gone_and_the_rest_is_as_it_was() {
        let pool = Pool::new(&PoolOptions { slots: 1, threads: 1 }).unwrap();
        let mut packet = pool.take().unwrap();
        assert!(packet.replace(b"one, two, three"));
        assert!(packet.cut_out(3, 5));
        assert_eq!(packet.bytes(), b"one, three");
        assert!(!packet.cut_out(9, 2));
        assert!(packet.cut_out(0, 10));
        assert!(packet.is_empty());
    }
}
