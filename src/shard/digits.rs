//! Addresses as digits: an IPv4 address as it is written in a Via, compared and read back.
//!
//! What most messages bear, without a loop over characters where that can be. What is written
//! otherwise is left to `sip`.

use std::net::{IpAddr, Ipv4Addr};

use crate::sip::{self, Span};

/// The text of an IPv4 address; empty for one of IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Quad {
    text: [u8; 16],
    len: u8,
}

/// Every octet with a dot behind it, and how long that is.
static OCTETS: [(u32, u8); 256] = octets();

#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler")]
const fn octets() -> [(u32, u8); 256] {
    let mut all = [(0, 0); 256];
    let mut octet = 0;
    while octet < 256 {
        let (a, b, c) = (b'0' + (octet / 100) as u8, b'0' + (octet / 10 % 10) as u8, b'0' + (octet % 10) as u8);
        all[octet] = match octet {
            0..10 => (u32::from_le_bytes([c, b'.', 0, 0]), 2),
            10..100 => (u32::from_le_bytes([b, c, b'.', 0]), 3),
            _ => (u32::from_le_bytes([a, b, c, b'.']), 4),
        };
        octet += 1;
    }
    all
}

impl Quad {
    #[inline]
    pub(super) fn of(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(ip) => Self::of_v4(ip),
            IpAddr::V6(_) => Self { text: [0; 16], len: 0 },
        }
    }

    #[inline]
    fn of_v4(ip: Ipv4Addr) -> Self {
        let [a, b, c, d] = ip.octets();
        let (first, first_len) = pair(a, b);
        let (second, second_len) = pair(c, d);
        let bits = u128::from(first) | u128::from(second) << (8 * first_len);
        Self { text: bits.to_le_bytes(), len: first_len + second_len - 1 }
    }

    /// The text, something behind it, and its length.
    #[inline]
    pub(super) fn wide(&self) -> (&[u8; 16], usize) {
        (&self.text, usize::from(self.len))
    }

    /// The text.
    #[inline]
    pub(super) fn text(&self) -> &[u8] {
        self.text.get(..usize::from(self.len)).unwrap_or_default()
    }

    /// Whether it stands at `span`. An IPv4 address is written in one way only.
    #[inline]
    pub(super) fn stands_at(&self, bytes: &[u8], span: Span) -> bool {
        if span.len() != usize::from(self.len) || self.len == 0 {
            return false;
        }
        match bytes.get(usize::from(span.start)..).and_then(<[u8]>::first_chunk) {
            Some(there) => {
                let differ = u128::from_le_bytes(*there) ^ u128::from_le_bytes(self.text);
                differ.trailing_zeros() >= 8 * u32::from(self.len)
            }
            None => span.of(bytes) == self.text(),
        }
    }
}

/// Two octets, each with a dot behind it, and their length.
#[inline]
fn pair(one: u8, other: u8) -> (u64, u8) {
    let of = |octet: u8| OCTETS.get(usize::from(octet)).copied().unwrap_or_default();
    let ((one, one_len), (other, other_len)) = (of(one), of(other));
    (u64::from(one) | u64::from(other) << (8 * one_len), one_len + other_len)
}

/// Bytes in front of an address that [`quad_of`] reads with it.
pub(super) const AHEAD: usize = 4;

/// The IPv4 address of `len` bytes behind the first [`AHEAD`], as it must be written.
#[inline(always)]
pub(super) fn quad_of(text: &[u8; AHEAD + 16], len: usize) -> Option<Ipv4Addr> {
    let mut dots = sip::places(text.last_chunk()?, b'.');
    let (mut octets, mut from) = (0, 0);
    for place in 0..4 {
        let end = if place < 3 { dots.trailing_zeros() as usize } else { len };
        dots &= dots.wrapping_sub(1);
        let word = u32::from_le_bytes(*text.get(end..)?.first_chunk()?) ^ 0x3030_3030;
        // The last digit is the highest byte; above it goes the sum of what all are worth.
        let count = end.wrapping_sub(from);
        let digits = word & u32::MAX << (32_usize.wrapping_sub(count.wrapping_mul(8)) & 31);
        octets = octets << 8 | digits.wrapping_mul(1 | 10 << 8 | 100 << 16) >> 24;
        from = end + 1;
    }
    // Whatever was no address is written otherwise.
    let ip = Ipv4Addr::from_bits(octets);
    let quad = Quad::of_v4(ip);
    let differ = u128::from_le_bytes(*text.last_chunk()?) ^ u128::from_le_bytes(quad.text);
    (usize::from(quad.len) == len && differ << (128 - 8 * len) == 0).then_some(ip)
}

/// Place of the last `wanted` among eight bytes. A byte behind it that differs from it by its lowest
/// bit may be taken for it.
#[inline]
pub(super) fn last_of(word: [u8; 8], wanted: u8) -> Option<usize> {
    let x = u64::from_le_bytes(word) ^ (u64::from(wanted) * ONES);
    let found = x.wrapping_sub(ONES) & !x & (ONES << 7);
    (found != 0).then(|| 7 - found.leading_zeros() as usize / 8)
}

/// The number whose `count` digits, 1 to 7, end these bytes, if it has no leading zero.
#[inline(always)]
pub(super) fn number_at_end(word: [u8; 8], count: usize) -> Option<u64> {
    let digits = (u64::from_le_bytes(word) ^ (0x30 * ONES)) >> (64 - 8 * count);
    let odd = (digits | (digits + 0x76 * ONES)) & (ONES << 7);
    if odd != 0 || digits & 0xff == 0 {
        return None;
    }
    let x = digits << (64 - 8 * count);
    let x = (x * 10 + (x >> 8)) & 0x00ff_00ff_00ff_00ff;
    let x = (x * 100 + (x >> 16)) & 0x0000_ffff_0000_ffff;
    Some((x * 10_000 + (x >> 32)) & 0xffff_ffff)
}

/// What follows `start` at the front of `text`. Of texts of 16 to 32 bytes both halves are compared at
/// once, which may overlap: that is what most names of ours are as long as.
#[inline]
pub(super) fn behind<'a>(text: &'a [u8], start: &[u8]) -> Option<&'a [u8]> {
    let (there, rest) = text.split_at_checked(start.len())?;
    same(there, start).then_some(rest)
}

/// Whether two texts are equal.
#[inline]
pub(super) fn same(one: &[u8], other: &[u8]) -> bool {
    let first = |text: &[u8]| text.first_chunk::<8>().map_or(0, |word| u64::from_le_bytes(*word));
    let last = |text: &[u8]| text.last_chunk::<8>().map_or(0, |word| u64::from_le_bytes(*word));
    let wide_first = |text: &[u8]| text.first_chunk::<16>().map_or(0, |word| u128::from_le_bytes(*word));
    let wide_last = |text: &[u8]| text.last_chunk::<16>().map_or(0, |word| u128::from_le_bytes(*word));
    one.len() == other.len()
        && match one.len() {
            8..=16 => (first(one) ^ first(other)) | (last(one) ^ last(other)) == 0,
            17..=32 => (wide_first(one) ^ wide_first(other)) | (wide_last(one) ^ wide_last(other)) == 0,
            _ => one == other,
        }
}

/// Where `wanted` first stands in `text`.
#[inline]
pub(super) fn find(text: &[u8], wanted: u8) -> Option<usize> {
    let pattern = u64::from_ne_bytes([wanted; 8]);
    let (words, rest) = text.as_chunks::<8>();
    for (place, word) in words.iter().enumerate() {
        let x = u64::from_le_bytes(*word) ^ pattern;
        // The lowest mark is exact, those above it may not be.
        let found = x.wrapping_sub(ONES) & !x & (ONES << 7);
        if found != 0 {
            return Some(place * 8 + found.trailing_zeros() as usize / 8);
        }
    }
    rest.iter().position(|byte| *byte == wanted).map(|at| words.len() * 8 + at)
}

const ONES: u64 = 0x0101_0101_0101_0101;

/// The decimal digits of a port, and their count.
#[inline]
pub(super) fn port(port: u16) -> ([u8; 8], usize) {
    let number = u64::from(port);
    let (high, low) = (number / 10_000, number % 10_000);
    let hundreds = (low / 100) | ((low % 100) << 32);
    let tens = ((hundreds * 103) >> 10) & 0x0000_000f_0000_000f;
    let pairs = tens | ((hundreds - tens * 10) << 16);
    // Four digits, the first in the lowest byte, and the fifth in front.
    let four = (pairs & 0xff) | ((pairs >> 8) & 0xff00) | ((pairs >> 16) & 0xff_0000) | ((pairs >> 24) & 0xff00_0000);
    let digits = high | (four << 8);
    let zeros = ((digits | (1 << 32)).trailing_zeros() / 8) as usize;
    (((digits | (0x30 * ONES)) >> (8 * zeros)).to_le_bytes(), 5 - zeros)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_written_compared_and_read_back() {
        for text in ["0.0.0.0", "192.0.2.50", "10.9.99.100", "255.255.255.255", "1.2.3.4"] {
            let ip: Ipv4Addr = text.parse().unwrap();
            let quad = Quad::of(ip.into());
            assert_eq!(quad.text(), text.as_bytes());
            assert_eq!(read(text), Some(ip));
            let padded = format!("{text};branch=z9hG4bK-123456789");
            for of in [text, &padded] {
                assert!(quad.stands_at(of.as_bytes(), Span::new(0, text.len())));
                assert!(!quad.stands_at(of.as_bytes(), Span::new(0, text.len() - 1)));
                assert!(!quad.stands_at(format!("9{of}").as_bytes(), Span::new(0, text.len())));
            }
        }
        assert!(!Quad::of("::1".parse().unwrap()).stands_at(b"abc", Span::NONE));
        for wrong in ["", "1.2.3", "1.2.3.256", "1.2.3.04", "1.2.3.300", "1..3.4", "1.2.3.", "1=2.3.4", "1.2.3.4.5"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    /// Reads an address with dots and digits around it.
    fn read(text: &str) -> Option<Ipv4Addr> {
        let around = format!("9.1={text}\r\n1.2.3.4.5.6.7.8");
        let found = quad_of(around.as_bytes().first_chunk().unwrap(), text.len());
        assert_eq!(found, text.parse().ok());
        found
    }

    #[test]
    fn no_changed_byte_makes_another_address_of_the_same_text() {
        for text in ["1.2.3.4", "10.20.30.40", "192.0.2.50", "255.249.199.100"] {
            for place in 0..text.len() {
                for byte in (b' '..=b'~').filter(|byte| *byte != text.as_bytes()[place]) {
                    let mut changed = text.as_bytes().to_vec();
                    changed[place] = byte;
                    read(std::str::from_utf8(&changed).unwrap());
                }
            }
        }
    }

    #[test]
    fn texts_are_the_same_if_every_byte_is() {
        let text = b"192.0.2.1:5060;branch=z9hG4bK-0123456789abcdef";
        for length in 0..text.len() {
            let one = &text[..length];
            assert!(same(one, one) && behind(text, one) == Some(&text[length..]));
            assert!(!same(one, &text[..length + 1]));
            for place in 0..length {
                let mut other = one.to_vec();
                other[place] ^= 0x20;
                assert!(!same(one, &other) && behind(text, &other).is_none());
            }
        }
        assert_eq!(behind(b"short", b"shorter"), None);
    }

    #[test]
    fn ports_are_those_of_the_standard_library() {
        for number in 0..=u16::MAX {
            let (digits, len) = port(number);
            assert_eq!(&digits[..len], number.to_string().as_bytes());
        }
    }

    #[test]
    fn numbers_are_read_from_the_end() {
        for number in 1..70_000_u64 {
            let text = format!(";rport={number}");
            let last = *text.as_bytes().last_chunk().unwrap();
            let equals = last_of(last, b'=').unwrap();
            assert_eq!(number_at_end(last, 7 - equals), Some(number));
        }
        for wrong in ["rport=05", "rport=5x", "port=5/6", "port=1:2"] {
            assert_eq!(number_at_end(*wrong.as_bytes().last_chunk().unwrap(), 2), None, "{wrong}");
        }
        assert_eq!(last_of(*b"rport5060"[..8].first_chunk().unwrap(), b'='), None);
    }

    #[test]
    fn a_byte_is_found_where_it_first_stands() {
        let text = b"alice-and-bob@example.org@x";
        for length in 0..text.len() {
            for wanted in [b'@', b'a', b'x', b'?'] {
                let text = &text[..length];
                assert_eq!(find(text, wanted), text.iter().position(|byte| *byte == wanted));
            }
        }
    }
}
