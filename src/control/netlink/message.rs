//! The kernel's routing messages (rtnetlink), read and written.
//!
//! Pure functions on bytes: links, routes and neighbours out of messages, and the few requests that
//! are made. What is cut short or unknown is passed over.

use std::net::IpAddr;

use crate::packet::{Mac, Tag};

/// Kinds of messages.
pub(super) const ERROR: u16 = 2;
pub(super) const DONE: u16 = 3;
pub(super) const NEW_LINK: u16 = 16;
pub(super) const LINKS: u16 = 18;
pub(super) const NEW_ROUTE: u16 = 24;
pub(super) const ROUTES: u16 = 26;
pub(super) const NEW_NEIGHBOUR: u16 = 28;
pub(super) const DEL_NEIGHBOUR: u16 = 29;
pub(super) const NEIGHBOURS: u16 = 30;
pub(super) const NEW_RULE: u16 = 32;
pub(super) const RULES: u16 = 34;

const REQUEST: u16 = 1;
const DUMP: u16 = 0x300;
/// On a message of a dump: something changed meanwhile.
const INTERRUPTED: u16 = 0x10;
const HEADER: usize = 16;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const ARPHRD_ETHER: u16 = 1;
const IFF_UP: u32 = 1;
const IFF_LOWER_UP: u32 = 0x1_0000;
const TABLE_MAIN: u32 = 254;
const UNICAST: u8 = 1;
const ROUTE_CLONED: u32 = 0x200;
/// Next hops that cannot be used: dead, or their link is down.
const NEXT_HOP_DOWN: u32 = 1 | 16;
/// Neighbours whose Ethernet address holds: reachable, stale, delay, probe, noarp, permanent.
const NEIGHBOUR_USABLE: u16 = 0x02 | 0x04 | 0x08 | 0x10 | 0x40 | 0x80;
const NEIGHBOUR_STALE: u16 = 0x04;
const NEIGHBOUR_USE: u8 = 1;
const NEIGHBOUR_PROXY: u8 = 8;

/// One message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Message<'a> {
    pub(super) kind: u16,
    pub(super) interrupted: bool,
    /// That of the question it answers.
    pub(super) sequence: u32,
    pub(super) body: &'a [u8],
}

/// A device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) index: u32,
    pub(super) name: String,
    pub(super) mac: Option<Mac>,
    pub(super) mtu: u32,
    pub(super) up: bool,
    /// A VLAN: its tag, and the device that it is on.
    pub(super) vlan: Option<(Tag, u32)>,
}

/// A route of the main table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RouteTo {
    pub(super) to: IpAddr,
    pub(super) prefix: u8,
    pub(super) metric: u32,
    pub(super) via: Option<IpAddr>,
    /// 0: no device, or what goes there is refused.
    pub(super) device: u32,
    pub(super) mtu: Option<u32>,
}

/// A neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Near {
    pub(super) device: u32,
    pub(super) ip: IpAddr,
    /// None: it is not known, or does not hold.
    pub(super) mac: Option<Mac>,
    pub(super) stale: bool,
}

/// Whether a family of addresses is IP's.
pub(super) fn is_ip(family: u8) -> bool {
    matches!(family, AF_INET | AF_INET6)
}

/// The messages of one datagram.
pub(super) fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let len = u32_at(bytes, 0)? as usize;
        let body = bytes.get(HEADER..len)?;
        let interrupted = u16_at(bytes, 6)? & INTERRUPTED != 0;
        let message = Message { kind: u16_at(bytes, 4)?, interrupted, sequence: u32_at(bytes, 8)?, body };
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    })
}

/// Asks for all of a kind: links, routes, neighbours or rules.
pub(super) fn dump(kind: u16, sequence: u32) -> Vec<u8> {
    request(kind, DUMP, sequence, &[0; 16])
}

/// Asks the kernel to make sure of a neighbour, as if something were sent to it.
pub(super) fn use_neighbour(device: u32, ip: IpAddr) -> Vec<u8> {
    let family = if ip.is_ipv4() { AF_INET } else { AF_INET6 };
    let mut body = vec![family, 0, 0, 0];
    body.extend(device.to_ne_bytes());
    body.extend([0, 0, NEIGHBOUR_USE, 0]);
    let (v4, v6);
    let address: &[u8] = match ip {
        IpAddr::V4(ip) => {
            v4 = ip.octets();
            &v4
        }
        IpAddr::V6(ip) => {
            v6 = ip.octets();
            &v6
        }
    };
    body.extend((4 + address.len() as u16).to_ne_bytes());
    body.extend(1_u16.to_ne_bytes());
    body.extend(address);
    request(NEW_NEIGHBOUR, 0, 0, &body)
}

fn request(kind: u16, flags: u16, sequence: u32, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER + body.len());
    bytes.extend(((HEADER + body.len()) as u32).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend((REQUEST | flags).to_ne_bytes());
    bytes.extend(sequence.to_ne_bytes());
    bytes.extend([0; 4]);
    bytes.extend(body);
    bytes
}

/// A link, out of a message's body.
pub(super) fn link(body: &[u8]) -> Option<Link> {
    let (kind, index, flags) = (u16_at(body, 2)?, u32_at(body, 4)?, u32_at(body, 8)?);
    let up = flags & IFF_UP != 0 && flags & IFF_LOWER_UP != 0;
    let mut link = Link { index, name: String::new(), mac: None, mtu: 0, up, vlan: None };
    let (mut below, mut tag) = (0, None);
    for (attribute, value) in attributes(body.get(16..)?) {
        match attribute {
            1 if kind == ARPHRD_ETHER => link.mac = value.try_into().ok(),
            3 => link.name = String::from_utf8_lossy(value.strip_suffix(&[0]).unwrap_or(value)).into_owned(),
            4 => link.mtu = u32_at(value, 0)?,
            5 => below = u32_at(value, 0)?,
            18 => tag = vlan(value),
            _ => {}
        }
    }
    link.vlan = tag.map(|tag| (tag, below));
    Some(link)
}

fn vlan(info: &[u8]) -> Option<Tag> {
    let of_kind = |wanted| attributes(info).find(|(kind, _)| *kind == wanted).map(|(_, value)| value);
    if of_kind(1)?.strip_suffix(&[0])? != b"vlan" {
        return None;
    }
    let data = of_kind(2)?;
    let find = |wanted| attributes(data).find(|(kind, _)| *kind == wanted).map(|(_, value)| value);
    let id = u16_at(find(1)?, 0)?;
    let protocol = find(5).and_then(|value| value.first_chunk()).map_or(0x8100, |bytes| u16::from_be_bytes(*bytes));
    Some(Tag { protocol, id })
}

/// A route of the main table, out of a message's body.
pub(super) fn route(body: &[u8]) -> Option<RouteTo> {
    let [family, prefix, _, _, table, _, _, kind] = *body.first_chunk()?;
    let flags = u32_at(body, 8)?;
    let to: IpAddr = match family {
        AF_INET => [0; 4].into(),
        AF_INET6 => [0; 16].into(),
        _ => return None,
    };
    let mut table = u32::from(table);
    let mut route = RouteTo { to, prefix, metric: 0, via: None, device: 0, mtu: None };
    let mut down = flags & NEXT_HOP_DOWN != 0;
    for (attribute, value) in attributes(body.get(12..)?) {
        match attribute {
            1 => route.to = address(value)?,
            4 => route.device = u32_at(value, 0)?,
            5 => route.via = address(value),
            6 => route.metric = u32_at(value, 0)?,
            8 => route.mtu = attributes(value).find(|(kind, _)| *kind == 2).and_then(|(_, mtu)| u32_at(mtu, 0)),
            9 => (route.device, route.via, down) = first_usable(value).map_or((0, None, true), |(d, v)| (d, v, false)),
            15 => table = u32_at(value, 0)?,
            18 => route.via = address(value.get(2..)?),
            _ => {}
        }
    }
    if table != TABLE_MAIN || flags & ROUTE_CLONED != 0 || (down && kind == UNICAST) {
        return None;
    }
    if kind != UNICAST {
        route.device = 0;
    }
    Some(route)
}

/// Device and router of the first next hop of several that can be used.
fn first_usable(mut hops: &[u8]) -> Option<(u32, Option<IpAddr>)> {
    loop {
        let len = usize::from(u16_at(hops, 0)?);
        let (flags, device, more) = (u32::from(*hops.get(2)?), u32_at(hops, 4)?, hops.get(8..len)?);
        if flags & NEXT_HOP_DOWN == 0 {
            let via = attributes(more).find_map(|(kind, value)| match kind {
                5 => address(value),
                18 => address(value.get(2..)?),
                _ => None,
            });
            return Some((device, via));
        }
        hops = hops.get(len.next_multiple_of(4)..)?;
    }
}

/// A neighbour, out of a message's body.
pub(super) fn neighbour(body: &[u8]) -> Option<Near> {
    let (device, state) = (u32_at(body, 4)?, u16_at(body, 8)?);
    if body.get(10)? & NEIGHBOUR_PROXY != 0 || !is_ip(*body.first()?) {
        return None;
    }
    let find = |wanted| attributes(body.get(12..)?).find(|(kind, _)| *kind == wanted).map(|(_, value)| value);
    let ip = address(find(1)?)?;
    let mac = find(2).and_then(|value| value.try_into().ok()).filter(|_| state & NEIGHBOUR_USABLE != 0);
    Some(Near { device, ip, mac, stale: state & NEIGHBOUR_STALE != 0 })
}

/// Kinds and values.
fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let len = usize::from(u16_at(bytes, 0)?);
        let kind = u16_at(bytes, 2)? & 0x3fff;
        let value = bytes.get(4..len)?;
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = || <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    let v6 = || <[u8; 16]>::try_from(bytes).map(IpAddr::from);
    v4().or_else(|_| v6()).ok()
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|bytes| u16::from_ne_bytes(*bytes))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = (4 + value.len() as u16).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn routed(family: u8, kind: u8, flags: u32, parts: &[Vec<u8>]) -> Option<RouteTo> {
        let mut body = vec![family, 24, 0, 0, 254, 3, 0, kind];
        body.extend(flags.to_ne_bytes());
        body.extend(parts.concat());
        route(&body)
    }

    #[test]
    fn messages_and_attributes_cut_short_end_the_reading() {
        let whole = [request(LINKS, DUMP, 1, &[0; 16]), request(ROUTES, 0, 2, &[1, 2, 3])].concat();
        let kinds =
            |bytes: &[u8]| messages(bytes).map(|message| (message.kind, message.body.len())).collect::<Vec<_>>();
        assert_eq!(kinds(&whole), [(LINKS, 16), (ROUTES, 3)]);
        for len in 0..whole.len() {
            assert!(kinds(&whole[..len]).len() < 2);
        }
        assert_eq!(kinds(&[0; 64]), [], "of length zero");
        let near = [&[2_u8, 0, 0, 0, 3, 0, 0, 0, 2, 0, 0, 0][..], &attribute(1, &[10, 0, 0, 1])].concat();
        assert!((0..near.len()).all(|len| neighbour(&near[..len]).is_none()));
    }

    #[test]
    fn neighbours_have_an_address_only_while_it_holds() {
        let near = |state: u16| {
            let mut body = vec![AF_INET, 0, 0, 0, 3, 0, 0, 0];
            body.extend(state.to_ne_bytes());
            body.extend([0, 0]);
            body.extend([attribute(1, &[10, 0, 0, 1]), attribute(2, &[2, 0, 0, 0, 0, 7])].concat());
            neighbour(&body).unwrap()
        };
        assert_eq!(near(2).mac, Some([2, 0, 0, 0, 0, 7]));
        assert!(near(4).stale && near(4).mac.is_some());
        assert_eq!((near(1).mac, near(0x20).mac), (None, None), "incomplete and failed");
    }

    #[test]
    fn routes_are_read_with_their_routers_and_those_that_refuse_lead_nowhere() {
        let to = attribute(1, &[10, 1, 2, 0]);
        let device = attribute(4, &7_u32.to_ne_bytes());
        let plain = routed(AF_INET, UNICAST, 0, &[to.clone(), device.clone(), attribute(5, &[10, 0, 0, 1])]).unwrap();
        assert_eq!((plain.to, plain.prefix, plain.device), ([10, 1, 2, 0].into(), 24, 7));
        assert_eq!(plain.via, Some([10, 0, 0, 1].into()));
        assert_eq!(routed(AF_INET, 7, 0, &[to.clone(), device.clone()]).unwrap().device, 0, "unreachable");
        assert_eq!(routed(AF_INET, UNICAST, 16, &[to.clone(), device.clone()]), None, "its link is down");
        assert_eq!(routed(AF_INET, UNICAST, 0, &[to.clone(), device, attribute(15, &100_u32.to_ne_bytes())]), None);
        let hop = |flags: u8, device: u8| [&[8, 0, flags, 0, device, 0, 0, 0][..]].concat();
        let several = attribute(9, &[hop(16, 3), hop(0, 4)].concat());
        assert_eq!(routed(AF_INET, UNICAST, 0, &[to, several]).unwrap().device, 4);
    }

    #[test]
    fn a_vlan_is_told_by_kind_tag_and_the_device_below() {
        let data = [attribute(1, &100_u16.to_ne_bytes()), attribute(5, &0x88a8_u16.to_be_bytes())].concat();
        let info = [attribute(1, b"vlan\0"), attribute(2, &data)].concat();
        let mut body = vec![0, 0, 1, 0, 9, 0, 0, 0];
        body.extend(0x1_0041_u32.to_ne_bytes());
        body.extend([0; 4]);
        body.extend([attribute(3, b"eth0.100\0"), attribute(1, &[2, 0, 0, 0, 0, 1])].concat());
        body.extend([attribute(5, &3_u32.to_ne_bytes()), attribute(18, &info)].concat());
        let link = link(&body).unwrap();
        assert_eq!((link.name.as_str(), link.up, link.mac), ("eth0.100", true, Some([2, 0, 0, 0, 0, 1])));
        assert_eq!(link.vlan, Some((Tag { protocol: 0x88a8, id: 100 }, 3)));
    }
}
