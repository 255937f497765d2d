//! Source addresses as they are told in a Via, and the last few of them kept ready.
//!
//! Carriers and other proxies send nearly everything from a few addresses; where they are many, a text
//! is made anew, which costs no more than without. Owned by the shard, read by `plain` and `local`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::digits::{self, Quad};

/// Addresses that are kept, a power of two.
const KEPT: usize = 64;
/// `=65535;received=255.255.255.255`, and room for pieces that are stored whole.
const WIDTH: usize = 40;

/// An IPv4 source address.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
pub(super) struct Told {
    /// Address and port in one word.
    of: u64,
    quad: Quad,
    text: [u8; WIDTH],
    port_len: u8,
    len: u8,
}

impl Told {
    fn new(ip: Ipv4Addr, port: u16) -> Self {
        let quad = Quad::of(ip.into());
        let mut told = Self { of: word(ip, port), quad, text: [0; WIDTH], port_len: 0, len: 0 };
        let (digits, len) = digits::port(port);
        told.put((u64::from_le_bytes(digits) << 8 | u64::from(b'=')).to_le_bytes(), len + 1);
        told.port_len = told.len;
        told.put(*b";received=", 10);
        let (address, len) = quad.wide();
        told.put(*address, len);
        told
    }

    /// Appends the first `len` of these bytes.
    #[inline]
    fn put<const N: usize>(&mut self, text: [u8; N], len: usize) {
        if let Some(room) = self.text.get_mut(usize::from(self.len)..).and_then(<[u8]>::first_chunk_mut) {
            *room = text;
            self.len += len as u8;
        }
    }

    /// The address.
    #[inline]
    pub(super) fn quad(&self) -> &Quad {
        &self.quad
    }

    /// Text that holds all of these, and where `=PORT;received=ADDRESS` stands in it.
    #[inline]
    pub(super) fn both_at(&self) -> (&[u8], usize, usize) {
        (&self.text, 0, usize::from(self.len))
    }

    /// The same of `;received=ADDRESS`.
    #[inline]
    pub(super) fn received_at(&self) -> (&[u8], usize, usize) {
        (&self.text, usize::from(self.port_len), usize::from(self.len))
    }

    /// `=PORT`.
    #[inline]
    pub(super) fn port(&self) -> &[u8] {
        self.text.get(..usize::from(self.port_len)).unwrap_or_default()
    }

    /// `;received=ADDRESS`.
    #[inline]
    pub(super) fn received(&self) -> &[u8] {
        self.text.get(usize::from(self.port_len)..usize::from(self.len)).unwrap_or_default()
    }
}

/// The last few.
#[derive(Debug)]
pub(super) struct Sources(Box<[Told; KEPT]>);

impl Sources {
    pub(super) fn new() -> Self {
        Self(Box::new([Told::new(Ipv4Addr::UNSPECIFIED, 0); KEPT]))
    }

    /// The text of an address; without meaning for IPv6.
    #[inline]
    pub(super) fn of(&mut self, source: SocketAddr) -> &Told {
        let ip = match source.ip() {
            IpAddr::V4(ip) => ip,
            IpAddr::V6(_) => Ipv4Addr::UNSPECIFIED,
        };
        let word = word(ip, source.port());
        let place = (word.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 58) as usize % KEPT;
        #[expect(clippy::indexing_slicing, reason = "a remainder is within bounds")]
        let kept = &mut self.0[place];
        if kept.of != word {
            anew(kept, ip, source.port());
        }
        kept
    }
}

#[inline(never)]
fn anew(kept: &mut Told, ip: Ipv4Addr, port: u16) {
    *kept = Told::new(ip, port);
}

#[inline]
fn word(ip: Ipv4Addr, port: u16) -> u64 {
    u64::from(ip.to_bits()) << 16 | u64::from(port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_is_told_as_itself_whatever_was_told_before() {
        let mut sources = Sources::new();
        for round in 0..3_u16 {
            for n in 0..500_u16 {
                let port = [n, 60_000 + n, 5060][usize::from(round)];
                let ip = Ipv4Addr::new(192, n as u8, (n / 7) as u8, 255);
                let told = sources.of(SocketAddr::new(ip.into(), port));
                let of = |(text, from, to): (&[u8], usize, usize)| text[from..to].to_vec();
                assert_eq!(of(told.both_at()), format!("={port};received={ip}").as_bytes());
                assert_eq!(told.quad().text(), ip.to_string().as_bytes());
                assert_eq!(of(told.received_at()), told.received());
                assert_eq!([told.port(), told.received()].concat(), of(told.both_at()));
            }
        }
    }
}
