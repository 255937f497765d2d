//! Where the Vias of phones lead, and the last few of them kept ready.
//!
//! A Via that we filled in ends `;rport=PORT;received=ADDRESS`; carriers and other proxies have few such
//! ends. What is not kept is read by `respond` and kept then. Owned by the shard.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use crate::sip;

/// Ends that are kept, a power of two.
const KEPT: usize = 64;
/// More than the longest end.
pub(super) const WIDTH: usize = 48;
/// Length of `;rport=`.
const NAME: usize = 7;

/// The end of a Via, from its last parameter but one on.
#[derive(Clone, Copy)]
pub(super) struct Tail<'a> {
    bytes: &'a [u8; WIDTH],
    /// Where the last parameter but one begins.
    at: usize,
    place: usize,
}

impl<'a> Tail<'a> {
    /// The end of a Via's value; none if it is too short or has not two parameters there.
    #[inline]
    pub(super) fn of(value: &'a [u8]) -> Option<Self> {
        let bytes: &[u8; WIDTH] = value.last_chunk()?;
        let at = sip::last_but_one(bytes, b';')?;
        // The port and something behind it; the end of the address.
        let port = bytes.get(at + NAME..)?.first_chunk::<8>()?;
        let address = bytes.last_chunk::<8>()?;
        let both = u64::from_le_bytes(*port).wrapping_mul(ODD) ^ u64::from_le_bytes(*address);
        Some(Self { bytes, at, place: (both.wrapping_mul(ODD) >> 58) as usize % KEPT })
    }
}

const ODD: u64 = 0x9e37_79b9_7f4a_7c15;

#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
struct Home {
    tail: [u8; WIDTH],
    addr: SocketAddrV4,
}

/// The last few.
#[derive(Debug)]
pub(super) struct Homes(Box<[Home; KEPT]>);

impl Homes {
    pub(super) fn new() -> Self {
        // No end is like this one, since each has a `;`.
        let none = Home { tail: [0; WIDTH], addr: SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0) };
        Self(Box::new([none; KEPT]))
    }

    /// Where a Via with this end leads, if that is kept.
    #[inline]
    pub(super) fn find(&self, tail: Tail<'_>) -> Option<SocketAddr> {
        let kept = self.0.get(tail.place)?;
        sip::same_from(&kept.tail, tail.bytes, tail.at).then_some(SocketAddr::V4(kept.addr))
    }

    /// Keeps where a Via leads that says so by this end alone.
    #[inline(never)]
    pub(super) fn keep(&mut self, tail: Tail<'_>, addr: SocketAddrV4) {
        if let Some(kept) = self.0.get_mut(tail.place) {
            *kept = Home { tail: *tail.bytes, addr };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_found_by_its_whole_end_and_by_nothing_else() {
        let mut homes = Homes::new();
        let value =
            |n: u16| format!("SIP/2.0/UDP h;branch=z9hG4bK-{n:08};rport={};received=192.0.2.{}", n + 1, n % 256);
        for n in 0..500 {
            let addr = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, n as u8), n + 1);
            let text = value(n);
            let tail = Tail::of(text.as_bytes()).unwrap();
            assert_eq!(homes.find(tail), None);
            homes.keep(tail, addr);
            let other = text.replace("bK-", "bK+");
            assert_eq!(homes.find(Tail::of(other.as_bytes()).unwrap()), Some(addr.into()));
        }
        let text = value(499);
        for place in text.find(";rport").unwrap()..text.len() {
            for bit in 0..8 {
                let mut changed = text.clone().into_bytes();
                changed[place] ^= 1 << bit;
                assert_eq!(Tail::of(&changed).and_then(|tail| homes.find(tail)), None, "byte {place}");
            }
        }
        assert!(Tail::of(b";a;b").is_none() && Tail::of(&[b'x'; 60]).is_none());
    }
}
