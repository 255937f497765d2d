//! Takes down text that is put into messages: numbers, addresses, digits of keys.
//!
//! Driven by whoever changes or writes a message. Fills a buffer given, without `core::fmt`; what
//! does not fit is cut off and told by `fits`. Never grows anything.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::copy;

/// Text being taken down into a buffer.
#[derive(Debug)]
pub struct Text<'a> {
    /// What is left of the buffer.
    room: &'a mut [u8],
    /// The buffer's length.
    whole: usize,
    fits: bool,
}

/// The two digits of each number below 100.
static PAIRS: [[u8; 2]; 100] = pairs();

#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler")]
const fn pairs() -> [[u8; 2]; 100] {
    let mut pairs = [[0; 2]; 100];
    let mut number = 0;
    while number < 100 {
        pairs[number] = [b'0' + (number / 10) as u8, b'0' + (number % 10) as u8];
        number += 1;
    }
    pairs
}

/// The digits of each octet and a dot, the first lowest.
static OCTETS: [u32; 256] = octets();

#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler")]
const fn octets() -> [u32; 256] {
    let mut octets = [0; 256];
    let mut octet = 0;
    while octet < 256 {
        let (hundreds, tens, ones) = (digit(octet / 100), digit(octet / 10), digit(octet));
        octets[octet] = match octet {
            0..10 => u32::from_le_bytes([ones, b'.', 0, 0]),
            10..100 => u32::from_le_bytes([tens, ones, b'.', 0]),
            _ => u32::from_le_bytes([hundreds, tens, ones, b'.']),
        };
        octet += 1;
    }
    octets
}

const fn digit(number: usize) -> u8 {
    b'0' + (number % 10) as u8
}

/// Two octets with a dot behind each, and the length of that.
#[inline(always)]
fn two_octets(first: u8, second: u8) -> (u64, usize) {
    let text = |octet: u8| u64::from(OCTETS.get(octet as usize).copied().unwrap_or(0));
    let len = |octet: u8| 2 + usize::from(octet > 9) + usize::from(octet > 99);
    (text(first) | text(second) << (8 * len(first)), len(first) + len(second))
}

impl<'a> Text<'a> {
    /// Writes into `room`.
    #[inline(always)]
    #[must_use]
    pub fn new(room: &'a mut [u8]) -> Self {
        let whole = room.len();
        Self { room, whole, fits: true }
    }

    /// Bytes taken down so far: an offset from where the text will land.
    #[inline(always)]
    #[must_use]
    pub const fn len(&self) -> usize {
        self.whole - self.room.len()
    }

    #[inline(always)]
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether all of it found room.
    #[inline(always)]
    #[must_use]
    pub const fn fits(&self) -> bool {
        self.fits
    }

    /// The next `count` bytes to be written.
    #[inline(always)]
    fn next(&mut self, count: usize) -> Option<&'a mut [u8]> {
        let room = self.room.split_off_mut(..count);
        self.fits &= room.is_some();
        room
    }

    #[inline(always)]
    pub fn bytes(&mut self, bytes: &[u8]) {
        if let Some(room) = self.next(bytes.len()) {
            copy::short(room, bytes);
        }
    }

    #[inline(always)]
    pub fn str(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    #[inline(always)]
    pub fn byte(&mut self, byte: u8) {
        if let Some([room]) = self.next(1) {
            *room = byte;
        }
    }

    /// `count` times `byte`.
    #[inline]
    pub fn fill(&mut self, byte: u8, count: usize) {
        if let Some(room) = self.next(count) {
            room.fill(byte);
        }
    }

    /// Decimal digits.
    #[inline]
    pub fn number(&mut self, number: u64) {
        let length = match number {
            0..10 => return self.byte(b'0' + number as u8),
            10..100 => 2,
            100..1_000 => 3,
            1_000..10_000 => 4,
            10_000..100_000 => 5,
            _ => number.ilog10() as usize + 1,
        };
        let Some(room) = self.next(length) else { return };
        let mut rest = number;
        let (first, pairs) = room.as_rchunks_mut::<2>();
        for pair in pairs.iter_mut().rev() {
            *pair = PAIRS.get((rest % 100) as usize).copied().unwrap_or_default();
            rest /= 100;
        }
        if let [first] = first {
            *first = b'0' + rest as u8;
        }
    }

    /// Sixteen lower-case hexadecimal digits.
    #[inline]
    pub fn hex(&mut self, number: u64) {
        let mut digits = [0; 16];
        for (index, digit) in digits.iter_mut().enumerate() {
            let nibble = (number >> (60 - 4 * index)) as u8 & 15;
            *digit = if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 };
        }
        self.bytes(&digits);
    }

    /// Lower-case base32 in the alphabet of RFC 4648 6, without padding.
    #[inline]
    pub fn base32(&mut self, bytes: &[u8]) {
        for group in bytes.chunks(5) {
            let bits = group.iter().fold(0u64, |bits, byte| bits << 8 | u64::from(*byte)) << (8 * (5 - group.len()));
            let mut digits = [0; 8];
            for (index, digit) in digits.iter_mut().enumerate() {
                let five = (bits >> (35 - 5 * index)) as u8 & 31;
                *digit = if five < 26 { b'a' + five } else { b'2' + five - 26 };
            }
            self.bytes(digits.get(..(group.len() * 8).div_ceil(5)).unwrap_or_default());
        }
    }

    /// An address as in `received`: IPv6 without brackets (RFC 3261 25.1).
    #[inline(always)]
    pub fn ip(&mut self, ip: IpAddr) {
        match ip {
            IpAddr::V4(ip) => self.ipv4(ip),
            IpAddr::V6(ip) => self.ipv6(ip),
        }
    }

    /// An address as a host: IPv6 in brackets.
    #[inline(always)]
    pub fn host(&mut self, ip: IpAddr) {
        match ip {
            IpAddr::V4(ip) => self.ipv4(ip),
            IpAddr::V6(ip) => {
                self.byte(b'[');
                self.ipv6(ip);
                self.byte(b']');
            }
        }
    }

    /// Host and port: `192.0.2.7:5060`, `[2001:db8::1]:5060`.
    #[inline(always)]
    pub fn addr(&mut self, addr: SocketAddr) {
        self.host(addr.ip());
        self.byte(b':');
        self.number(addr.port().into());
    }

    #[inline]
    fn ipv4(&mut self, ip: Ipv4Addr) {
        let [a, b, c, d] = ip.octets();
        let (front, middle) = two_octets(a, b);
        let (back, len) = two_octets(c, d);
        // Written in words; the last dot and what is behind it belong to whatever follows.
        match self.room.first_chunk_mut::<16>().and_then(|room| room.split_first_chunk_mut()) {
            Some((first, _)) => *first = front.to_le_bytes(),
            None => return self.cramped_ipv4(ip),
        }
        if let Some(room) = self.room.get_mut(middle..).and_then(|room| room.first_chunk_mut()) {
            *room = back.to_le_bytes();
        }
        self.next(middle + len - 1);
    }

    #[cold]
    fn cramped_ipv4(&mut self, ip: Ipv4Addr) {
        for (index, octet) in ip.octets().into_iter().enumerate() {
            if index > 0 {
                self.byte(b'.');
            }
            self.number(octet.into());
        }
    }

    /// As RFC 5952 wants it: lower case, the first longest run of zeros left out.
    fn ipv6(&mut self, ip: Ipv6Addr) {
        let segments = ip.segments();
        if let Some(ip) = ip.to_ipv4_mapped() {
            self.str("::ffff:");
            return self.ipv4(ip);
        }
        let (mut from, mut count) = (0, 1);
        let mut zeros = 0;
        for (index, segment) in segments.iter().enumerate() {
            zeros = if *segment == 0 { zeros + 1 } else { 0 };
            if zeros > count {
                (from, count) = (index + 1 - zeros, zeros);
            }
        }
        let gap = if count > 1 { from..from + count } else { 8..8 };
        for (index, segment) in segments.iter().enumerate() {
            if index == gap.start {
                self.str("::");
            } else if !gap.contains(&index) {
                if index > 0 && index != gap.end {
                    self.byte(b':');
                }
                self.segment(*segment);
            }
        }
    }

    fn segment(&mut self, segment: u16) {
        let digits = (16 - segment.leading_zeros()).div_ceil(4).max(1);
        for index in (0..digits).rev() {
            let nibble = (segment >> (4 * index)) as u8 & 15;
            self.byte(if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(write: impl FnOnce(&mut Text<'_>)) -> String {
        let mut room = [0; 128];
        let mut text = Text::new(&mut room);
        write(&mut text);
        assert!(text.fits());
        let len = text.len();
        String::from_utf8(room[..len].to_vec()).unwrap()
    }

    #[test]
    fn addresses_are_written_as_the_standard_library_writes_them() {
        let addresses = [
            "192.0.2.7",
            "0.0.0.0",
            "255.255.255.255",
            "::",
            "::1",
            "1::",
            "2001:db8::1",
            "2001:db8:0:1:0:0:0:1",
            "1:2:3:4:5:6:7:8",
            "0:0:1::",
            "1:0:2:3:4:5:6:7",
            "::ffff:192.0.2.1",
            "fe80::a:0:0:1",
            "1:0:0:2::",
            "ff02::1:ff00:0",
            "a:b:c:d:e:f::",
            "::b:c:d:e:f:10",
        ];
        for address in addresses {
            let ip: IpAddr = address.parse().unwrap();
            assert_eq!(text(|text| text.ip(ip)), ip.to_string());
            let addr = SocketAddr::new(ip, 5060);
            assert_eq!(text(|text| text.addr(addr)), addr.to_string());
        }
    }

    #[test]
    fn numbers_and_keys_are_written_in_full() {
        for number in [0, 9, 10, 5060, 65_535, u64::from(u32::MAX), u64::MAX] {
            assert_eq!(text(|text| text.number(number)), number.to_string());
            assert_eq!(text(|text| text.hex(number)), format!("{number:016x}"));
        }
        // RFC 4648 10.
        for (bytes, digits) in
            [("", ""), ("f", "my"), ("fo", "mzxq"), ("foo", "mzxw6"), ("foob", "mzxw6yq"), ("fooba", "mzxw6ytb")]
        {
            assert_eq!(text(|text| text.base32(bytes.as_bytes())), digits);
        }
        assert_eq!(text(|text| text.base32(b"foobar")), "mzxw6ytboi");
    }

    #[test]
    fn what_does_not_fit_is_told() {
        let mut room = [0; 4];
        let mut text = Text::new(&mut room);
        text.str("abc");
        assert!(text.fits());
        text.str("de");
        assert!(!text.fits());
        assert_eq!(text.len(), 3);
        let mut text = Text::new(&mut room);
        text.fill(b'x', 5);
        assert!(!text.fits());
    }
}
