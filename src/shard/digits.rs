//! Addresses as digits: an IPv4 address as it is written in a Via, compared and read back.
//!
//! What most messages bear, without a loop over characters where that can be. What is written
//! otherwise is left to `sip`.

use std::net::{IpAddr, Ipv4Addr};

use crate::sip::Span;

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
                differ << (128 - 8 * u32::from(self.len)) == 0
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

/// The IPv4 address whose text ends `text`, as it must be written, and the length of that text.
#[inline]
pub(super) fn quad_before(text: &[u8]) -> Option<(Ipv4Addr, usize)> {
    let (mut octets, mut dots, mut len) = (0_u32, 0, 0);
    let (mut number, mut unit) = (0_u32, 1_u32);
    // No leading zero, no more than an octet holds, and a digit at least.
    let sound = |number: u32, unit: u32| number < 256 && (unit == 10 || (unit > 10 && number * 10 >= unit));
    for byte in text.iter().rev() {
        let digit = u32::from(byte.wrapping_sub(b'0'));
        if digit <= 9 {
            if unit > 100 {
                return None;
            }
            number += digit * unit;
            unit *= 10;
        } else if *byte == b'.' && dots < 3 {
            if !sound(number, unit) {
                return None;
            }
            octets = octets >> 8 | number << 24;
            (number, unit, dots) = (0, 1, dots + 1);
        } else {
            break;
        }
        len += 1;
    }
    let ip = Ipv4Addr::from_bits(octets >> 8 | number << 24);
    (dots == 3 && sound(number, unit)).then_some((ip, len))
}

/// Whether `text` holds one of two bytes.
#[inline]
pub(super) fn holds(text: &[u8], one: u8, other: u8) -> bool {
    let Some(last) = text.last_chunk::<16>() else { return text.iter().any(|byte| *byte == one || *byte == other) };
    let mut seen = [0; 16];
    for chunk in text.as_chunks::<16>().0.iter().chain([last]) {
        for (seen, byte) in seen.iter_mut().zip(chunk) {
            *seen |= u8::from(*byte == one) | u8::from(*byte == other);
        }
    }
    u128::from_ne_bytes(seen) != 0
}

/// The number of up to `most` digits that ends at `rest`, their count, and the byte before it, which
/// is taken off as well. None if that is no number without leading zeros.
#[inline]
pub(super) fn number_before<'a>(rest: &mut impl Iterator<Item = &'a u8>, most: usize) -> Option<(u32, usize, u8)> {
    let (mut number, mut unit, mut digits) = (0, 1, 0);
    let (mut first, mut before) = (0, 0);
    for byte in rest {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            before = *byte;
            break;
        }
        if digits == most {
            return None;
        }
        number += u32::from(digit) * unit;
        (unit, first, digits) = (unit * 10, digit, digits + 1);
    }
    (digits > 0 && (first > 0 || digits == 1)).then_some((number, digits, before))
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
            assert_eq!(quad_before(format!("received={text}").as_bytes()), Some((ip, text.len())));
            let padded = format!("{text};branch=z9hG4bK-123456789");
            for of in [text, &padded] {
                assert!(quad.stands_at(of.as_bytes(), Span::new(0, text.len())));
                assert!(!quad.stands_at(of.as_bytes(), Span::new(0, text.len() - 1)));
                assert!(!quad.stands_at(format!("9{of}").as_bytes(), Span::new(0, text.len())));
            }
        }
        assert!(!Quad::of("::1".parse().unwrap()).stands_at(b"abc", Span::NONE));
        for wrong in ["", "1.2.3", "=1.2.3.256", "=1.2.3.04", "=1.2.3.1000", "=1..3.4", "=1.2.3.", "1=2.3.4"] {
            assert_eq!(quad_before(wrong.as_bytes()), None, "{wrong}");
        }
    }

    #[test]
    fn ports_are_those_of_the_standard_library() {
        for number in 0..=u16::MAX {
            let (digits, len) = port(number);
            assert_eq!(&digits[..len], number.to_string().as_bytes());
        }
    }

    #[test]
    fn either_byte_is_seen_at_every_place() {
        for length in 0..70 {
            let mut text = vec![b'x'; length];
            assert!(!holds(&text, b',', b'"'));
            for place in 0..length {
                text[place] = if place % 2 == 0 { b',' } else { b'"' };
                assert!(holds(&text, b',', b'"'));
                text[place] = b'x';
            }
        }
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
