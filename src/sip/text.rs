//! Takes down text that is put into messages: numbers, addresses, digits of keys.
//!
//! Driven by whoever changes or writes a message. Fills a buffer given, without `core::fmt`; what
//! does not fit is cut off and told by `fits`. Never grows anything.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Text being taken down into a buffer.
#[derive(Debug)]
pub struct Text<'a> {
    room: &'a mut [u8],
    len: usize,
    fits: bool,
}

impl<'a> Text<'a> {
    /// Writes into `room`.
    #[inline]
    #[must_use]
    pub fn new(room: &'a mut [u8]) -> Self {
        Self { room, len: 0, fits: true }
    }

    /// Bytes taken down so far: an offset from where the text will land.
    #[inline]
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    #[inline]
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether all of it found room.
    #[inline]
    #[must_use]
    pub const fn fits(&self) -> bool {
        self.fits
    }

    #[inline]
    pub fn bytes(&mut self, bytes: &[u8]) {
        match self.room.get_mut(self.len..).and_then(|room| room.get_mut(..bytes.len())) {
            Some(room) => {
                room.copy_from_slice(bytes);
                self.len += bytes.len();
            }
            None => self.fits = false,
        }
    }

    #[inline]
    pub fn str(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    #[inline]
    pub fn byte(&mut self, byte: u8) {
        self.bytes(&[byte]);
    }

    /// `count` times `byte`.
    #[inline]
    pub fn fill(&mut self, byte: u8, count: usize) {
        match self.room.get_mut(self.len..).and_then(|room| room.get_mut(..count)) {
            Some(room) => {
                room.fill(byte);
                self.len += count;
            }
            None => self.fits = false,
        }
    }

    /// Decimal digits.
    #[inline]
    pub fn number(&mut self, number: u64) {
        let mut digits = [0; 20];
        let mut rest = number;
        let mut first = digits.len();
        for digit in digits.iter_mut().rev() {
            *digit = b'0' + (rest % 10) as u8;
            rest /= 10;
            first -= 1;
            if rest == 0 {
                break;
            }
        }
        self.bytes(digits.get(first..).unwrap_or_default());
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
    #[inline]
    pub fn ip(&mut self, ip: IpAddr) {
        match ip {
            IpAddr::V4(ip) => self.ipv4(ip),
            IpAddr::V6(ip) => self.ipv6(ip),
        }
    }

    /// An address as a host: IPv6 in brackets.
    #[inline]
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
    #[inline]
    pub fn addr(&mut self, addr: SocketAddr) {
        self.host(addr.ip());
        self.byte(b':');
        self.number(addr.port().into());
    }

    #[inline]
    fn ipv4(&mut self, ip: Ipv4Addr) {
        let [a, b, c, d] = ip.octets();
        self.number(a.into());
        for octet in [b, c, d] {
            self.byte(b'.');
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
