//! Hosts that are addresses.
//!
//! Driven by the shard through `uri`. Takes only what every reader takes for the same address; never
//! asks for a name.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{copy, lane};

/// The address that `host` is literally: IPv4, or IPv6 in brackets.
#[must_use]
pub fn host_ip(host: &[u8]) -> Option<IpAddr> {
    match host {
        [b'[', inside @ .., b']'] => std::str::from_utf8(inside).ok()?.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        _ => ipv4(host).map(IpAddr::V4),
    }
}

/// Four numbers up to 255, in at most three digits each, without a leading zero.
#[inline]
fn ipv4(host: &[u8]) -> Option<Ipv4Addr> {
    let mut text = [0; 20];
    copy::short(text.get_mut(..host.len()).filter(|_| host.len() < 16)?, host);
    let mut at = 0;
    let mut octets = [0; 4];
    for octet in &mut octets {
        let (number, count) = lane::few_digits(*lane::chunk(&text, at)?);
        // Only a number as long as it must be has no leading zero.
        let shortest = 1 + usize::from(number > 9) + usize::from(number > 99);
        if number > 255 || count != shortest {
            return None;
        }
        *octet = number as u8;
        at += count + 1;
        if at <= host.len() && text.get(at - 1) != Some(&b'.') {
            return None;
        }
    }
    (at == host.len() + 1).then(|| Ipv4Addr::from_octets(octets))
}
