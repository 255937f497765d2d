//! Empty packets that the kernel receives into: a ring of buffers shared with it.
//!
//! Owns those packets until the kernel has filled them, and the ring that tells it where they lie.
//! Every buffer is a packet's slot, so that nothing is copied: the payload comes to lie where a
//! packet's datagram begins, what the kernel tells of it in the head room before.

use std::io;
use std::mem;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::{BufRingEntry, RecvMsgOut};

use super::ring::Ring;
use crate::datapath::address::{self, Name};
use crate::datapath::headers::Told;
use crate::packet::{Packet, Pool};

/// The group that all receives of a ring choose their buffers from.
pub(super) const GROUP: u16 = 0;
/// What the kernel writes before a payload: four numbers and the source.
pub(super) const AHEAD: usize = 16 + Name::ROOM as usize;
/// Buffers for one batch that waits and three that come meanwhile: a socket that fills them all
/// makes the others wait for no more turns than that.
const BATCHES: usize = 4;

/// Packets that the kernel may fill.
pub(super) struct Stock {
    pool: &'static Pool,
    entries: Entries,
    /// By buffer number.
    packets: Vec<Option<Packet>>,
    /// Numbers of buffers without a packet.
    free: Vec<u16>,
}

/// The header of every receive; tells the kernel how much room there is before the payload.
pub(super) fn header() -> libc::msghdr {
    // SAFETY: a header of zeros is a valid empty one.
    let mut header: libc::msghdr = unsafe { mem::zeroed() };
    header.msg_namelen = Name::ROOM;
    header
}

impl Stock {
    /// How many packets a worker keeps, of a pool that `workers` share.
    pub(super) fn size(pool: &'static Pool, batch: usize, workers: u16) -> usize {
        let share = pool.usage().slots as usize / (2 * usize::from(workers.max(1)));
        (BATCHES * batch).min(share).max(batch)
    }

    /// A stock of at most `size` packets, empty yet, and its ring, registered with `ring`.
    pub(super) fn new(ring: &Ring, pool: &'static Pool, size: usize) -> io::Result<Self> {
        let entries = Entries::new(size)?;
        let size = size.min(entries.count);
        // SAFETY: the entries are a mapping of their own, and unmapped after the ring is closed: the
        // datapath drops the ring first.
        unsafe {
            let address = entries.first.as_ptr() as u64;
            ring.io().submitter().register_buf_ring_with_flags(address, entries.count as u16, GROUP, 0)?;
        }
        let free = (0..size as u16).rev().collect();
        Ok(Self { pool, entries, packets: (0..size).map(|_| None).collect(), free })
    }

    /// Packets that it keeps at most.
    pub(super) fn size_max(&self) -> usize {
        self.packets.len()
    }

    /// Gives the kernel packets until it has its fill; false if it has none at all then.
    #[inline]
    pub(super) fn fill(&mut self) -> bool {
        if self.free.is_empty() {
            return true;
        }
        while let Some(number) = self.free.last().copied() {
            let Some(mut packet) = self.pool.take() else { break };
            self.entries.offer(number, packet.room_from(AHEAD));
            if let Some(place) = self.packets.get_mut(usize::from(number)) {
                *place = Some(packet);
            }
            self.free.pop();
        }
        self.entries.publish();
        self.free.len() < self.packets.len()
    }

    /// The packet that the kernel has filled.
    #[inline]
    pub(super) fn filled(&mut self, number: u16) -> Option<Packet> {
        let packet = self.packets.get_mut(usize::from(number))?.take();
        if packet.is_some() {
            self.free.push(number);
        }
        packet
    }

    /// What the kernel said of the datagram in `packet`; none if it wrote less than it should.
    #[inline]
    pub(super) fn told(packet: &mut Packet, written: i32, header: &libc::msghdr) -> Option<Told> {
        let written = usize::try_from(written).ok()?;
        let out = RecvMsgOut::parse(packet.room_from(AHEAD).get(..written)?, header).ok()?;
        Some(Told {
            len: out.payload_data().len(),
            truncated: out.is_payload_truncated(),
            source: address::read(out.name_data()),
        })
    }
}

/// The ring of buffers as the kernel reads it.
struct Entries {
    first: NonNull<BufRingEntry>,
    count: usize,
    /// Of all offered, modulo 2^16.
    tail: u16,
}

impl Entries {
    fn new(size: usize) -> io::Result<Self> {
        let count = size.next_power_of_two().min(1 << 15);
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_POPULATE;
        // SAFETY: a fresh anonymous mapping, no address asked for.
        let map = unsafe { libc::mmap(ptr::null_mut(), bytes(count), protection, flags, -1, 0) };
        if map == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let first = NonNull::new(map.cast()).ok_or_else(|| io::Error::other("mmap gave address 0"))?;
        Ok(Self { first, count, tail: 0 })
    }

    /// Writes the next entry; the kernel sees it when it is published.
    #[inline]
    fn offer(&mut self, number: u16, room: &mut [u8]) {
        let at = usize::from(self.tail) & (self.count - 1);
        // SAFETY: inside the mapping, and the kernel does not read what is not published. Only the
        // three fields are written: the tail lies in another one of the first entry.
        let entry = unsafe { &mut *self.first.as_ptr().add(at) };
        entry.set_addr(room.as_mut_ptr() as u64);
        entry.set_len(room.len() as u32);
        entry.set_bid(number);
        self.tail = self.tail.wrapping_add(1);
    }

    #[inline]
    fn publish(&self) {
        // SAFETY: the field of the first entry that the kernel reads as the tail, aligned for it.
        let tail = unsafe { &*BufRingEntry::tail(self.first.as_ptr()).cast::<AtomicU16>() };
        tail.store(self.tail, Ordering::Release);
    }
}

impl Drop for Entries {
    fn drop(&mut self) {
        // SAFETY: mapped in `new` with this length. The kernel holds the pages for itself.
        unsafe { libc::munmap(self.first.as_ptr().cast(), bytes(self.count)) };
    }
}

fn bytes(count: usize) -> usize {
    count * mem::size_of::<BufRingEntry>()
}
