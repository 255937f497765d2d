//! What is known of the datagram in a slot.
//!
//! Owned by a pool, one for each slot; lent with the slot to a packet, which is read and written through it. It stays
//! where it is while the packet is moved from hand to hand.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use super::{HEAD_ROOM, PortId};

/// What is known of a datagram: the part of a [`Packet`](super::Packet) that does not move with it.
#[derive(Debug)]
pub struct Head {
    /// Where the datagram begins in the slot, and its length.
    pub(super) start: u32,
    pub(super) len: u32,
    /// End of the longest datagram that was in the slot, so that its pages can be given back.
    pub(super) high_water: u32,
    /// Where filler may be put into our own Via, an offset into the bytes; 0: nowhere.
    pub pad_at: u16,
    /// Handed over by another worker already: never handed over a second time.
    pub handed: bool,
    /// The local port that it arrived at.
    pub port: PortId,
    /// Call-ID hash: packets of equal order keep their order when they are grouped into trains.
    pub order: u64,
    /// Observed source address.
    pub source: SocketAddr,
}

impl Head {
    /// That of no datagram.
    pub(super) const fn new() -> Self {
        Self {
            start: HEAD_ROOM as u32,
            len: 0,
            high_water: 0,
            pad_at: 0,
            handed: false,
            port: PortId(0),
            order: 0,
            source: SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0)),
        }
    }
}
