//! The bytes that a cookie's text stands for: layout of targets, packing, MAC.
//!
//! Used by `cookie` only, which decides what a cookie is worth. Fixed for ever: instances of other
//! versions read these bytes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::base32;
use super::{CookieTarget, Key, NodeId, PortTag};

/// Groups of eight characters of the longest text.
pub(super) const GROUPS_MAX: usize = 10;
/// Version, role and kind in one byte, and the key's id.
pub(super) const HEAD_BYTES: usize = 2;
/// What ends a cookie.
pub(super) const MAC_BYTES: usize = 8;
const WORDS: usize = 2 * base32::BLOCK_WORDS;

/// Kinds 4 to 7 are kept for streams.
#[inline]
pub(super) fn kind(target: &CookieTarget) -> u8 {
    match target {
        CookieTarget::Nothing { .. } => 0,
        CookieTarget::Node(_) => 1,
        CookieTarget::Flow { addr: SocketAddr::V4(_), .. } => 2,
        CookieTarget::Flow { addr: SocketAddr::V6(_), .. } => 3,
        CookieTarget::Contact { flow: (_, SocketAddr::V4(_)), original: None } => 8,
        CookieTarget::Contact { flow: (_, SocketAddr::V6(_)), original: None } => 9,
        CookieTarget::Contact { flow: (_, SocketAddr::V4(_)), original: Some(SocketAddr::V4(_)) } => 10,
        CookieTarget::Contact { flow: (_, SocketAddr::V4(_)), original: Some(SocketAddr::V6(_)) } => 11,
        CookieTarget::Contact { flow: (_, SocketAddr::V6(_)), original: Some(SocketAddr::V4(_)) } => 12,
        CookieTarget::Contact { flow: (_, SocketAddr::V6(_)), original: Some(SocketAddr::V6(_)) } => 13,
    }
}

/// Bytes of a target of this kind: 2 a port tag, 4 a node, 6 and 18 an address with port.
pub(super) fn target_len(kind: u8) -> Option<usize> {
    match kind {
        0 => Some(2),
        1 => Some(4),
        2 | 8 => Some(2 + 6),
        3 | 9 => Some(2 + 18),
        10 => Some(2 + 6 + 6),
        11 | 12 => Some(2 + 6 + 18),
        13 => Some(2 + 18 + 18),
        _ => None,
    }
}

/// The bytes that the text stands for, the first in the highest byte of the first word. Whole words
/// only are stored and loaded: a load that spans several narrower stores would stall.
pub(super) struct Raw {
    pub(super) words: [u64; WORDS],
    /// Bytes in use; those behind are zero.
    pub(super) len: usize,
}

impl Raw {
    #[inline]
    pub(super) fn new() -> Self {
        Self { words: [0; WORDS], len: 0 }
    }

    #[inline]
    pub(super) fn of_text(text: &[u8]) -> Option<Self> {
        let mut groups = [0; 2 * base32::BLOCK_GROUPS];
        let (whole, rest) = text.as_chunks::<8>();
        if whole.len() + usize::from(!rest.is_empty()) > GROUPS_MAX {
            return None;
        }
        for (group, text) in groups.iter_mut().zip(whole) {
            *group = base32::decode(*text)?;
        }
        if !rest.is_empty() {
            let mut text = [b'a'; 8];
            text.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
            *groups.get_mut(whole.len())? = base32::decode(text)?;
        }
        let mut raw = Self::new();
        for (words, groups) in raw.words.as_chunks_mut().0.iter_mut().zip(groups.as_chunks().0) {
            *words = base32::joined(groups);
        }
        Some(raw)
    }

    #[inline]
    fn word(&self, at: usize) -> u64 {
        self.words.get(at).copied().unwrap_or_default()
    }

    /// Appends the lowest `bytes` bytes of `value`, 1 to 8, the rest of which is zero.
    #[inline]
    pub(super) fn put(&mut self, value: u64, bytes: usize) {
        let value = u128::from(value) << (128 - 8 * bytes) >> (self.len % 8 * 8);
        if let Some([high, low, ..]) = self.words.get_mut(self.len / 8..) {
            *high |= (value >> 64) as u64;
            *low |= value as u64;
        }
        self.len += bytes;
    }

    /// The `bytes` bytes from `from` on, 1 to 8.
    #[inline]
    pub(super) fn at(&self, from: usize, bytes: usize) -> u64 {
        let both = u128::from(self.word(from / 8)) << 64 | u128::from(self.word(from / 8 + 1));
        (both << (from % 8 * 8) >> (128 - 8 * bytes)) as u64
    }

    #[inline]
    fn put_addr(&mut self, addr: SocketAddr) {
        let port = u64::from(addr.port());
        match addr.ip() {
            IpAddr::V4(ip) => self.put(u64::from(ip.to_bits()) << 16 | port, 6),
            IpAddr::V6(ip) => {
                self.put((ip.to_bits() >> 64) as u64, 8);
                self.put(ip.to_bits() as u64, 8);
                self.put(port, 2);
            }
        }
    }

    #[inline]
    pub(super) fn put_target(&mut self, target: &CookieTarget) {
        match *target {
            CookieTarget::Nothing { listener } => self.put(u64::from(listener.0), 2),
            CookieTarget::Node(id) => self.put(u64::from(id.0), 4),
            CookieTarget::Flow { listener, addr } => {
                self.put(u64::from(listener.0), 2);
                self.put_addr(addr);
            }
            CookieTarget::Contact { flow: (listener, addr), original } => {
                self.put(u64::from(listener.0), 2);
                self.put_addr(addr);
                if let Some(original) = original {
                    self.put_addr(original);
                }
            }
        }
    }

    /// The MAC over the hash of the call that it is bound to, if it is, and the bytes. What is bound and
    /// what is not are never of one length, so no two cookies are the same to it.
    #[inline]
    pub(super) fn mac(&self, key: &Key, call: Option<u64>) -> u64 {
        key.hash24_words(call, &self.words, self.len)
    }

    /// Takes off the MAC behind the first `len` bytes, and with it what follows.
    #[inline]
    pub(super) fn cut_mac(&mut self, len: usize) -> u64 {
        let mac = self.at(len, MAC_BYTES);
        if let Some(word) = self.words.get_mut(len / 8) {
            *word &= !(u64::MAX >> (len % 8 * 8));
        }
        self.len = len;
        mac
    }

    fn addr_v4(&self, from: usize) -> SocketAddr {
        let ip = Ipv4Addr::from_bits(self.at(from, 4) as u32);
        SocketAddr::from((ip, self.at(from + 4, 2) as u16))
    }

    fn addr_v6(&self, from: usize) -> SocketAddr {
        let ip = Ipv6Addr::from_bits(u128::from(self.at(from, 8)) << 64 | u128::from(self.at(from + 8, 8)));
        SocketAddr::from((ip, self.at(from + 16, 2) as u16))
    }

    #[inline]
    pub(super) fn target(&self, kind: u8) -> Option<CookieTarget> {
        const FLOW: usize = HEAD_BYTES + 2;
        if kind == 1 {
            return Some(CookieTarget::Node(NodeId(self.at(HEAD_BYTES, 4) as u32)));
        }
        let listener = PortTag(self.at(HEAD_BYTES, 2) as u16);
        let contact = |addr, original| CookieTarget::Contact { flow: (listener, addr), original };
        Some(match kind {
            0 => CookieTarget::Nothing { listener },
            2 => CookieTarget::Flow { listener, addr: self.addr_v4(FLOW) },
            3 => CookieTarget::Flow { listener, addr: self.addr_v6(FLOW) },
            8 => contact(self.addr_v4(FLOW), None),
            9 => contact(self.addr_v6(FLOW), None),
            10 => contact(self.addr_v4(FLOW), Some(self.addr_v4(FLOW + 6))),
            11 => contact(self.addr_v4(FLOW), Some(self.addr_v6(FLOW + 6))),
            12 => contact(self.addr_v6(FLOW), Some(self.addr_v4(FLOW + 18))),
            13 => contact(self.addr_v6(FLOW), Some(self.addr_v6(FLOW + 18))),
            _ => return None,
        })
    }
}
