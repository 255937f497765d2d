//! Frames: from bytes to a datagram's place and addresses, and back.
//!
//! Pure functions on bytes, without a socket: the only place that reads and writes Ethernet, IP and
//! UDP. Every length is checked against the frame; what is not a whole UDP datagram is none of ours.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use super::checksum;
use crate::packet::{Mac, Tag};

const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
const TAGS: [u16; 2] = [0x8100, 0x88a8];
const UDP: u8 = 17;
/// Lengths of headers.
const IPV4_HEADER: usize = 20;
const IPV6_HEADER: usize = 40;
const UDP_HEADER: usize = 8;
/// Hops that a packet may pass.
const TTL: u8 = 64;

/// A datagram in a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrived {
    /// Ethernet address that the frame was sent to.
    pub mac: Mac,
    /// Its VLAN tags, outermost first; the second none unless the first is there.
    pub tags: [Option<Tag>; 2],
    /// Address and port that it comes from.
    pub source: SocketAddr,
    /// Address and port that it goes to.
    pub to: SocketAddr,
    /// Where the payload begins.
    pub at: usize,
    /// Length of the payload.
    pub len: usize,
}

/// Finds the datagram in a frame; none if there is no whole one.
#[inline]
#[must_use]
pub fn parse(frame: &[u8]) -> Option<Arrived> {
    let mac = *frame.first_chunk()?;
    let mut at = 12;
    let mut tags = [None; 2];
    let mut kind = number(frame, at)?;
    for tag in &mut tags {
        if !TAGS.contains(&kind) {
            break;
        }
        *tag = Some(Tag { protocol: kind, id: number(frame, at + 2)? & 0x0fff });
        at += 4;
        kind = number(frame, at)?;
    }
    let ip = at + 2;
    let (from, to, udp, room) = match kind {
        IPV4 => ipv4(frame, ip)?,
        IPV6 => ipv6(frame, ip)?,
        _ => return None,
    };
    let header: &[u8; UDP_HEADER] = frame.get(udp..)?.first_chunk()?;
    let [s0, s1, d0, d1, l0, l1, ..] = *header;
    let [source, target, length] = [[s0, s1], [d0, d1], [l0, l1]].map(u16::from_be_bytes);
    let len = usize::from(length).checked_sub(UDP_HEADER)?;
    if usize::from(length) > room {
        return None;
    }
    Some(Arrived { mac, tags, source: socket(from, source), to: socket(to, target), at: udp + UDP_HEADER, len })
}

fn socket(ip: IpAddr, port: u16) -> SocketAddr {
    match ip {
        IpAddr::V4(ip) => SocketAddrV4::new(ip, port).into(),
        IpAddr::V6(ip) => SocketAddrV6::new(ip, port, 0, 0).into(),
    }
}

/// Source, destination, where UDP begins, and how many bytes there are from there on.
#[inline]
fn ipv4(frame: &[u8], at: usize) -> Option<(IpAddr, IpAddr, usize, usize)> {
    let header: &[u8; IPV4_HEADER] = frame.get(at..)?.first_chunk()?;
    let [0x45, _, l0, l1, _, _, f0, f1, _, UDP, _, _, a, b, c, d, e, f, g, h] = *header else { return None };
    let total = usize::from(u16::from_be_bytes([l0, l1]));
    let fragment = u16::from_be_bytes([f0, f1]) & 0x3fff;
    if fragment != 0 || at + total > frame.len() {
        return None;
    }
    let room = total.checked_sub(IPV4_HEADER)?;
    Some((Ipv4Addr::new(a, b, c, d).into(), Ipv4Addr::new(e, f, g, h).into(), at + IPV4_HEADER, room))
}

#[inline]
fn ipv6(frame: &[u8], at: usize) -> Option<(IpAddr, IpAddr, usize, usize)> {
    let header = frame.get(at..)?;
    let [first, _, _, _, l0, l1, UDP, _] = *header.first_chunk::<8>()? else { return None };
    let room = usize::from(u16::from_be_bytes([l0, l1]));
    if first >> 4 != 6 || at + IPV6_HEADER + room > frame.len() {
        return None;
    }
    let from: [u8; 16] = *header.get(8..)?.first_chunk()?;
    let to: [u8; 16] = *header.get(24..)?.first_chunk()?;
    Some((Ipv6Addr::from(from).into(), Ipv6Addr::from(to).into(), at + IPV6_HEADER, room))
}

#[inline]
fn number(frame: &[u8], at: usize) -> Option<u16> {
    frame.get(at..)?.first_chunk().map(|bytes| u16::from_be_bytes(*bytes))
}

/// What stands in front of a datagram that is to leave.
#[derive(Clone, Copy, Debug)]
pub struct Leaving<'a> {
    /// Everything in front of the IP header.
    pub ethernet: &'a [u8],
    /// Address and port that it comes from.
    pub source: SocketAddr,
    /// Address and port that it goes to, of the same family.
    pub to: SocketAddr,
    /// IPv4's number of the packet.
    pub id: u16,
    /// Differentiated services, 0 to 63.
    pub dscp: u8,
}

impl Leaving<'_> {
    /// Bytes of all headers.
    #[inline]
    #[must_use]
    pub fn headers(&self) -> usize {
        self.ethernet.len() + overhead(self.to.is_ipv4())
    }

    /// Writes the headers of a frame whose payload, behind them, is there already; false, and an
    /// unusable frame, if there is no room for them or the families differ.
    #[inline]
    #[must_use]
    pub fn write(&self, frame: &mut [u8]) -> bool {
        let Some((ethernet, packet)) = frame.split_at_mut_checked(self.ethernet.len()) else { return false };
        ethernet.copy_from_slice(self.ethernet);
        match (self.source, self.to) {
            (SocketAddr::V4(from), SocketAddr::V4(to)) => self.write_ipv4(from, to, packet),
            (SocketAddr::V6(from), SocketAddr::V6(to)) => self.write_ipv6(from, to, packet),
            _ => false,
        }
    }

    #[inline]
    fn write_ipv4(&self, from: SocketAddrV4, to: SocketAddrV4, packet: &mut [u8]) -> bool {
        let Ok(total) = u16::try_from(packet.len()) else { return false };
        let Some((header, datagram)) = packet.split_first_chunk_mut::<IPV4_HEADER>() else { return false };
        let ([l0, l1], [i0, i1]) = (total.to_be_bytes(), self.id.to_be_bytes());
        let ([a, b, c, d], [e, f, g, h]) = (from.ip().octets(), to.ip().octets());
        *header = [0x45, self.dscp << 2, l0, l1, i0, i1, 0, 0, TTL, UDP, 0, 0, a, b, c, d, e, f, g, h];
        let [c0, c1] = checksum::finish(checksum::add(0, header)).to_be_bytes();
        let [.., h0, h1, _, _, _, _, _, _, _, _] = header;
        (*h0, *h1) = (c0, c1);
        let pseudo = [a, b, c, d, e, f, g, h];
        udp(datagram, from.port(), to.port(), checksum::add(0, &pseudo))
    }

    #[inline]
    fn write_ipv6(&self, from: SocketAddrV6, to: SocketAddrV6, packet: &mut [u8]) -> bool {
        let Some((header, datagram)) = packet.split_first_chunk_mut::<IPV6_HEADER>() else { return false };
        let Ok(length) = u16::try_from(datagram.len()) else { return false };
        let [l0, l1] = length.to_be_bytes();
        let (begin, addresses) = header.split_at_mut(8);
        begin.copy_from_slice(&[0x60 | self.dscp >> 2, self.dscp << 6, 0, 0, l0, l1, UDP, TTL]);
        let (source, target) = addresses.split_at_mut(16);
        source.copy_from_slice(&from.ip().octets());
        target.copy_from_slice(&to.ip().octets());
        let sum = checksum::add(0, addresses);
        udp(datagram, from.port(), to.port(), sum)
    }
}

/// Bytes of the IP and UDP headers.
#[inline]
#[must_use]
pub fn overhead(v4: bool) -> usize {
    UDP_HEADER + if v4 { IPV4_HEADER } else { IPV6_HEADER }
}

/// Writes UDP's header in front of its payload; `sum` is that of the two addresses.
#[inline]
fn udp(datagram: &mut [u8], from: u16, to: u16, sum: u64) -> bool {
    let Ok(length) = u16::try_from(datagram.len()) else { return false };
    let Some(header) = datagram.first_chunk_mut::<UDP_HEADER>() else { return false };
    let ([f0, f1], [t0, t1], [l0, l1]) = (from.to_be_bytes(), to.to_be_bytes(), length.to_be_bytes());
    *header = [f0, f1, t0, t1, l0, l1, 0, 0];
    let sum = checksum::finish(checksum::add(sum + u64::from(UDP) + u64::from(length), datagram));
    // A sum of zero means none.
    let [c0, c1] = (if sum == 0 { 0xffff } else { sum }).to_be_bytes();
    if let Some([.., h0, h1]) = datagram.first_chunk_mut::<UDP_HEADER>() {
        (*h0, *h1) = (c0, c1);
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: [u8; 14] = [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0];

    fn frame(ethernet: &[u8], source: &str, to: &str, payload: &[u8]) -> Vec<u8> {
        let (source, to) = (source.parse().unwrap(), to.parse().unwrap());
        let leaving = Leaving { ethernet, source, to, id: 7, dscp: 24 };
        let mut frame = vec![0; leaving.headers()];
        frame.extend_from_slice(payload);
        assert!(leaving.write(&mut frame));
        frame
    }

    #[test]
    fn what_is_written_is_read_and_its_sums_are_right() {
        let frame = frame(&PLAIN, "192.0.2.1:5060", "198.51.100.2:5070", b"hello");
        let arrived = parse(&frame).unwrap();
        assert_eq!(&frame[arrived.at..arrived.at + arrived.len], b"hello");
        assert_eq!(
            (arrived.source.to_string(), arrived.to.to_string()),
            ("192.0.2.1:5060".into(), "198.51.100.2:5070".into())
        );
        assert_eq!((arrived.mac, arrived.tags), ([2, 0, 0, 0, 0, 2], [None; 2]));
        assert_eq!(checksum::finish(checksum::add(0, &frame[14..34])), 0, "the header's");
        let udp = checksum::add(17 + (frame.len() - 34) as u64, &frame[26..34]);
        assert_eq!(checksum::finish(checksum::add(udp, &frame[34..])), 0, "UDP's");
        assert_eq!((frame[15], frame[22]), (24 << 2, 64));
    }

    #[test]
    fn tags_and_ipv6_are_read_as_well() {
        let tagged = [&PLAIN[..12], &[0x88, 0xa8, 0xe0, 7, 0x81, 0, 0, 100, 0x86, 0xdd]].concat();
        let frame = frame(&tagged, "[fd00::1]:5060", "[fd00::2]:5070", &[b'x'; 33]);
        let arrived = parse(&frame).unwrap();
        assert_eq!(arrived.tags, [Some(Tag { protocol: 0x88a8, id: 7 }), Some(Tag { protocol: 0x8100, id: 100 })]);
        assert_eq!((arrived.at, arrived.len), (22 + 48, 33));
        let udp = checksum::add(17 + 41, &frame[30..62]);
        assert_eq!(checksum::finish(checksum::add(udp, &frame[62..])), 0);
        assert_eq!([frame[22] & 0x0f, frame[23] >> 6], [24 >> 2, 0]);
    }

    #[test]
    fn a_frame_longer_than_its_packet_is_padded_and_a_shorter_one_is_cut() {
        let mut padded = frame(&PLAIN, "192.0.2.1:1", "192.0.2.2:2", b"ab");
        padded.resize(60, 0xee);
        let arrived = parse(&padded).unwrap();
        assert_eq!(&padded[arrived.at..arrived.at + arrived.len], b"ab");
        assert_eq!(parse(&padded[..43]), None);
    }

    #[test]
    fn what_is_no_whole_datagram_is_none() {
        let good = frame(&PLAIN, "192.0.2.1:1", "192.0.2.2:2", b"abcd");
        let six = frame(&[&PLAIN[..12], &[0x86, 0xdd]].concat(), "[::1]:1", "[::2]:2", b"abcd");
        let changed = |frame: &[u8], at: usize, value: u8| {
            let mut frame = frame.to_vec();
            frame[at] = value;
            parse(&frame)
        };
        assert!(changed(&good, 0, 1).is_some());
        for (at, value) in [(12, 0), (14, 0x46), (17, 27), (20, 0x20), (21, 1), (23, 6), (38, 1), (39, 7), (39, 13)] {
            assert_eq!(changed(&good, at, value), None, "{at} {value}");
        }
        assert!(changed(&good, 20, 0x40).is_some(), "not to be fragmented is no fragment");
        for (at, value) in [(14, 0x40), (18, 1), (19, 13), (20, 44), (20, 0), (59, 13)] {
            assert_eq!(changed(&six, at, value), None, "{at} {value}");
        }
        assert_eq!(parse(&[]), None);
        assert!((0..good.len()).all(|len| parse(&good[..len]).is_none()));
        assert!((0..six.len()).all(|len| parse(&six[..len]).is_none()));
    }

    #[test]
    fn headers_need_room_and_one_family() {
        let leaving = |source: &str, to: &str| Leaving {
            ethernet: &PLAIN,
            source: source.parse().unwrap(),
            to: to.parse().unwrap(),
            id: 0,
            dscp: 0,
        };
        assert!(!leaving("192.0.2.1:1", "192.0.2.1:2").write(&mut [0; 41]));
        assert!(leaving("192.0.2.1:1", "192.0.2.1:2").write(&mut [0; 42]));
        assert!(!leaving("192.0.2.1:1", "[::1]:2").write(&mut [0; 100]));
        assert!(!leaving("192.0.2.1:1", "192.0.2.1:2").write(&mut vec![0; 70_000]));
    }
}
