//! How slots are shaped: those of sockets, which hold any datagram, and frames, which a kernel bypass
//! shares with the kernel.
//!
//! Numbers only; the memory is `pool`'s.

use super::{DATAGRAM_MAX, HEAD_ROOM};

pub(super) const PAGE: usize = 4096;
/// Address space of a socket slot, bytes: head room, the longest datagram, rounded up to pages.
pub(super) const SOCKET_BYTES: usize = 17 * PAGE;
/// Bytes of a socket slot that stay resident.
pub(super) const RESIDENT: usize = 2 * PAGE;
/// Bytes of a frame, the unit in which a region is shared with the kernel.
pub const FRAME_BYTES: usize = PAGE;
/// Bytes of a frame in front of a packet's head room, kept for the headers below UDP's payload:
/// Ethernet, two VLAN tags, IPv6, UDP.
pub const FRAME_FRONT: usize = 80;

const _: () = assert!(SOCKET_BYTES >= HEAD_ROOM + DATAGRAM_MAX);

/// How large a pool is.
#[derive(Clone, Copy, Debug)]
pub struct PoolOptions {
    /// Packets that can be alive at once; each takes 68 kB of address space and 8 kB of memory, or 4 kB
    /// in a region of frames.
    pub slots: u32,
    /// Threads that take and free packets.
    pub threads: u16,
}

/// What a pool holds at the moment, for gauges and tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolUse {
    /// Slots in all.
    pub slots: u32,
    /// Free ones, as this thread sees them: its own and the stock's.
    pub free: u32,
}

/// What the slots of a region are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Any datagram, sent and received by sockets.
    Socket,
    /// Frames that the kernel fills and sends.
    Frame,
}

impl Kind {
    /// Address space of a slot, bytes.
    pub(super) const fn stride(self) -> usize {
        match self {
            Self::Socket => SOCKET_BYTES,
            Self::Frame => FRAME_BYTES,
        }
    }

    /// Bytes of a slot in front of what a packet may use.
    pub(super) const fn front(self) -> usize {
        match self {
            Self::Socket => 0,
            Self::Frame => FRAME_FRONT,
        }
    }

    /// Bytes of a slot that stay resident.
    pub(super) const fn resident(self) -> usize {
        match self {
            Self::Socket => RESIDENT,
            Self::Frame => FRAME_BYTES,
        }
    }
}
