//! Next hops: from an address to the frame header that leads there.
//!
//! An immutable snapshot of the kernel's devices, routes and neighbours, built by control and read by
//! workers that leave the kernel's stack out. Knows no queue; decides nothing about an address that
//! it has no neighbour for: that one is the kernel's to resolve.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};

/// An Ethernet address.
pub type Mac = [u8; 6];

/// Longest header of a frame below IP: addresses, two VLAN tags, type.
pub const HOP_HEADER_MAX: usize = 22;

const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;

/// A VLAN tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag {
    /// 0x8100 or 0x88a8.
    pub protocol: u16,
    /// VLAN, 0 to 4095.
    pub id: u16,
}

/// A device that has addresses: a network interface, or a VLAN on one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// The kernel's number of it.
    pub index: u32,
    /// The kernel's number of the interface that its frames pass.
    pub interface: u32,
    /// Its Ethernet address.
    pub mac: Mac,
    /// Longest IP packet, bytes.
    pub mtu: u32,
    /// Tags that its frames bear, outermost first; at most two.
    pub tags: Vec<Tag>,
}

/// A route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// Network address.
    pub to: IpAddr,
    /// Bits of the prefix.
    pub prefix: u8,
    /// Of routes to the same network, the lowest counts.
    pub metric: u32,
    /// The router; none: the destination is a neighbour itself.
    pub via: Option<IpAddr>,
    /// Number of the device; 0: what goes there is not sent by this table.
    pub device: u32,
}

/// A neighbour whose Ethernet address is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// Number of the device behind which it is.
    pub device: u32,
    /// Its address.
    pub ip: IpAddr,
    /// Its Ethernet address.
    pub mac: Mac,
}

/// How a packet leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hop {
    /// The kernel's number of the interface.
    pub interface: u32,
    /// Longest IP packet, bytes.
    pub mtu: u32,
    header: [u8; HOP_HEADER_MAX],
    header_len: u8,
    neighbour: u32,
}

impl Hop {
    /// What stands in front of the IP header.
    #[inline]
    #[must_use]
    pub fn header(&self) -> &[u8] {
        self.header.get(..usize::from(self.header_len)).unwrap_or_default()
    }
}

/// Routes of one prefix length, sorted by network.
#[derive(Debug)]
struct Level {
    prefix: u8,
    routes: Vec<(u128, Route)>,
}

/// Devices, routes and neighbours of one moment.
#[derive(Debug, Default)]
pub struct Hops {
    devices: Vec<Device>,
    /// IPv4 and IPv6, longest prefix first.
    levels: [Vec<Level>; 2],
    neighbours: Vec<Neighbour>,
    places: HashMap<(u32, IpAddr), u32>,
    /// By neighbour: a packet was sent to it.
    used: Vec<AtomicBool>,
}

impl Hops {
    /// A snapshot.
    #[must_use]
    pub fn new(devices: Vec<Device>, mut routes: Vec<Route>, neighbours: Vec<Neighbour>) -> Self {
        routes.sort_by_key(|route| (std::cmp::Reverse(route.prefix), key(route.to, route.prefix), route.metric));
        let mut levels: [Vec<Level>; 2] = Default::default();
        for route in routes {
            let [v4, v6] = &mut levels;
            let levels = if route.to.is_ipv4() { v4 } else { v6 };
            if levels.last().is_none_or(|level| level.prefix != route.prefix) {
                levels.push(Level { prefix: route.prefix, routes: Vec::new() });
            }
            let Some(level) = levels.last_mut() else { continue };
            let key = key(route.to, route.prefix);
            if level.routes.last().is_none_or(|(last, _)| *last != key) {
                level.routes.push((key, route));
            }
        }
        let places = (0..).zip(&neighbours).map(|(place, n)| ((n.device, n.ip), place)).collect();
        let used = neighbours.iter().map(|_| AtomicBool::new(false)).collect();
        Self { devices, levels, neighbours, places, used }
    }

    /// How a packet to `to` leaves; none if that is not known here.
    #[must_use]
    pub fn resolve(&self, to: IpAddr) -> Option<Hop> {
        let [v4, v6] = &self.levels;
        let route = (if to.is_ipv4() { v4 } else { v6 }).iter().find_map(|level| {
            let wanted = key(to, level.prefix);
            let at = level.routes.binary_search_by_key(&wanted, |(key, _)| *key).ok()?;
            level.routes.get(at).map(|(_, route)| route)
        })?;
        let device = self.devices.iter().find(|device| device.index == route.device)?;
        let place = *self.places.get(&(device.index, route.via.unwrap_or(to)))?;
        let neighbour = self.neighbours.get(place as usize)?;
        let (header, header_len) = header(device, neighbour.mac, to.is_ipv4());
        Some(Hop { interface: device.interface, mtu: device.mtu, header, header_len, neighbour: place })
    }

    /// Notes that a packet was sent by a hop that this snapshot resolved.
    #[inline]
    pub fn sent(&self, hop: &Hop) {
        // Written once a snapshot and look, so that the line stays shared by all workers.
        if let Some(used) = self.used.get(hop.neighbour as usize).filter(|used| !used.load(Ordering::Relaxed)) {
            used.store(true, Ordering::Relaxed);
        }
    }

    /// The neighbours that packets were sent to since the last look.
    pub fn take_used(&self) -> impl Iterator<Item = &Neighbour> {
        self.neighbours.iter().zip(&self.used).filter_map(|(n, used)| used.swap(false, Ordering::Relaxed).then_some(n))
    }

    /// The devices whose frames pass `interface`.
    pub fn devices_on(&self, interface: u32) -> impl Iterator<Item = &Device> {
        self.devices.iter().filter(move |device| device.interface == interface)
    }

    /// How many devices, routes and neighbours it has.
    #[must_use]
    pub fn sizes(&self) -> [usize; 3] {
        let routes = self.levels.iter().flatten().map(|level| level.routes.len()).sum();
        [self.devices.len(), routes, self.neighbours.len()]
    }
}

/// The network of an address, as a number.
fn key(ip: IpAddr, prefix: u8) -> u128 {
    let (number, bits) = match ip {
        IpAddr::V4(ip) => (u128::from(ip.to_bits()), 32),
        IpAddr::V6(ip) => (ip.to_bits(), 128),
    };
    let host = bits - u32::from(prefix).min(bits);
    number.checked_shr(host).map_or(0, |network| network << host)
}

fn header(device: &Device, to: Mac, v4: bool) -> ([u8; HOP_HEADER_MAX], u8) {
    let mut header = [0; HOP_HEADER_MAX];
    let mut len = 0;
    let mut put = |bytes: &[u8]| {
        if let Some(room) = header.get_mut(len..len + bytes.len()) {
            room.copy_from_slice(bytes);
            len += bytes.len();
        }
    };
    put(&to);
    put(&device.mac);
    for tag in device.tags.iter().take(2) {
        put(&tag.protocol.to_be_bytes());
        put(&tag.id.to_be_bytes());
    }
    put(&(if v4 { IPV4 } else { IPV6 }).to_be_bytes());
    (header, len as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    const US: Mac = [2, 0, 0, 0, 0, 1];
    const ROUTER: Mac = [2, 0, 0, 0, 0, 2];
    const PHONE: Mac = [2, 0, 0, 0, 0, 3];

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn route(to: &str, prefix: u8, metric: u32, via: Option<&str>, device: u32) -> Route {
        Route { to: ip(to), prefix, metric, via: via.map(ip), device }
    }

    fn hops() -> Hops {
        let tags = vec![Tag { protocol: 0x88a8, id: 7 }, Tag { protocol: 0x8100, id: 100 }];
        let devices = vec![
            Device { index: 3, interface: 3, mac: US, mtu: 1_500, tags: Vec::new() },
            Device { index: 9, interface: 3, mac: US, mtu: 1_400, tags },
        ];
        let routes = vec![
            route("0.0.0.0", 0, 100, Some("10.0.0.2"), 3),
            route("0.0.0.0", 0, 50, Some("10.0.0.1"), 3),
            route("10.0.0.0", 24, 0, None, 3),
            route("10.1.0.0", 16, 0, Some("10.0.0.3"), 3),
            route("10.2.0.0", 16, 0, None, 0),
            route("fd00::", 64, 0, None, 9),
            route("::", 0, 0, Some("fd00::1"), 9),
        ];
        let neighbour = |device, at, mac| Neighbour { device, ip: ip(at), mac };
        let neighbours = vec![
            neighbour(3, "10.0.0.1", ROUTER),
            neighbour(3, "10.0.0.7", PHONE),
            neighbour(9, "fd00::7", PHONE),
            neighbour(9, "fd00::1", ROUTER),
        ];
        Hops::new(devices, routes, neighbours)
    }

    #[test]
    fn the_longest_prefix_and_then_the_lowest_metric_say_which_neighbour_is_next() {
        let hops = hops();
        let mac = |to| hops.resolve(ip(to)).map(|hop| hop.header()[..6].to_vec());
        assert_eq!(mac("10.0.0.7"), Some(PHONE.to_vec()), "a neighbour itself");
        assert_eq!(mac("192.0.2.1"), Some(ROUTER.to_vec()), "by the default route of lowest metric");
        assert_eq!(mac("10.0.0.8"), None, "a neighbour that is not known");
        assert_eq!(mac("10.1.0.1"), None, "a router that is not known");
        assert_eq!(mac("10.2.0.1"), None, "a route that leads elsewhere");
        assert_eq!(mac("fd00::7"), Some(PHONE.to_vec()));
        assert_eq!(mac("2001:db8::1"), Some(ROUTER.to_vec()));
        assert_eq!(Hops::default().resolve(ip("10.0.0.7")), None);
        assert_eq!(hops.sizes(), [2, 6, 4], "of two default routes one is left");
    }

    #[test]
    fn the_header_bears_addresses_tags_and_type() {
        let hops = hops();
        let plain = hops.resolve(ip("10.0.0.7")).unwrap();
        assert_eq!(plain.header(), [&PHONE[..], &US, &[8, 0]].concat());
        let tagged = hops.resolve(ip("fd00::7")).unwrap();
        assert_eq!(tagged.header(), [&PHONE[..], &US, &[0x88, 0xa8, 0, 7, 0x81, 0, 0, 100, 0x86, 0xdd]].concat());
        assert_eq!((tagged.interface, tagged.mtu), (3, 1_400));
    }

    #[test]
    fn neighbours_in_use_are_told_once_a_look() {
        let hops = hops();
        let phone = hops.resolve(ip("10.0.0.7")).unwrap();
        hops.sent(&phone);
        hops.sent(&phone);
        assert_eq!(hops.take_used().map(|n| n.ip).collect::<Vec<_>>(), [ip("10.0.0.7")]);
        assert_eq!(hops.take_used().count(), 0);
    }

    #[test]
    fn a_prefix_of_no_bits_and_of_all_bits_cuts_right() {
        assert_eq!(key(ip("10.1.2.3"), 0), 0);
        assert_eq!(key(ip("10.1.2.3"), 32), 0x0a01_0203);
        assert_eq!(key(ip("10.1.2.3"), 8), 0x0a00_0000);
        assert_eq!(key(ip("ffff::1"), 0), 0);
        assert_eq!(key(ip("ffff::1"), 16), 0xffff << 112);
        assert_eq!(key(ip("::1"), 200), 1);
    }
}
