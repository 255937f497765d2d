//! Where packets leave: the hop to an address, and the port that they leave from.
//!
//! Keeps the newest snapshot of next hops, and of the hops last used those that are likely to be used
//! again, so that a packet costs one look. Owned by the worker's datapath; control makes snapshots.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::packet::{Device, Hop, Hops, Mac, PortId, Tag};

/// Hops kept ready, a power of two.
const KEPT: usize = 1_024;
/// Destinations behind narrow paths that are remembered; more are begun anew.
const NARROW_MAX: usize = 4_096;
/// Longest packet that every path carries (RFC 8200, section 5), bytes.
const ANY_PATH: usize = 1_280;

/// A hop and the place of its interface.
#[derive(Clone, Copy)]
struct Kept {
    to: IpAddr,
    hop: Hop,
    place: u16,
}

/// Next hops of one worker.
pub(super) struct Ways {
    hops: Arc<Hops>,
    /// The kernel's numbers of the worker's interfaces, in order of their places.
    interfaces: Vec<u32>,
    kept: Box<[Option<Kept>]>,
    /// By place: the devices whose frames are ours.
    devices: Vec<Vec<Device>>,
    /// Destinations whose path is narrower than the first link.
    narrow: HashSet<IpAddr>,
}

impl Ways {
    pub(super) fn new(interfaces: impl Iterator<Item = u32>) -> Self {
        let interfaces: Vec<u32> = interfaces.collect();
        let devices = interfaces.iter().map(|_| Vec::new()).collect();
        Self { hops: Arc::default(), interfaces, kept: vec![None; KEPT].into(), devices, narrow: HashSet::new() }
    }

    /// Takes a newer snapshot.
    pub(super) fn renew(&mut self, hops: &Arc<Hops>) {
        self.hops = hops.clone();
        self.kept.fill(None);
        self.devices = self.interfaces.iter().map(|number| hops.devices_on(*number).cloned().collect()).collect();
    }

    /// The hop to an address and the place of its interface; none if the kernel is to find it.
    #[inline]
    pub(super) fn to(&mut self, to: IpAddr) -> Option<(Hop, usize)> {
        let kept = self.kept.get_mut(slot(to))?;
        if let Some(kept) = kept.as_ref().filter(|kept| kept.to == to) {
            self.hops.sent(&kept.hop);
            return Some((kept.hop, usize::from(kept.place)));
        }
        if matches!(to, IpAddr::V6(ip) if ip.is_unicast_link_local()) {
            // The same network is on every device.
            return None;
        }
        let hop = self.hops.resolve(to)?;
        let place = self.interfaces.iter().position(|number| *number == hop.interface)?;
        self.hops.sent(&hop);
        *kept = Some(Kept { to, hop, place: place as u16 });
        Some((hop, place))
    }

    /// Remembers that the path to an address asked for smaller packets.
    pub(super) fn narrowed(&mut self, to: IpAddr) {
        if self.narrow.len() >= NARROW_MAX {
            self.narrow.clear();
        }
        self.narrow.insert(to);
    }

    /// Whether an IP packet of `len` bytes may be too long for the path behind the first link.
    #[inline]
    pub(super) fn is_narrow(&self, to: IpAddr, len: usize) -> bool {
        len > ANY_PATH && !self.narrow.is_empty() && self.narrow.contains(&to)
    }

    /// The device that a frame of an interface is for, by Ethernet address and tags; none if it is not
    /// for us.
    #[inline]
    pub(super) fn device(&self, interface: u32, mac: Mac, tags: &[Option<Tag>; 2]) -> Option<u32> {
        let place = self.interfaces.iter().position(|number| *number == interface)?;
        // A tag of VLAN 0 bears a priority only.
        let bears = |device: &Device| tags.iter().flatten().filter(|tag| tag.id != 0).eq(&device.tags);
        self.devices.get(place)?.iter().find(|device| device.mac == mac && bears(device)).map(|device| device.index)
    }
}

#[inline]
fn slot(to: IpAddr) -> usize {
    let number = match to {
        IpAddr::V4(ip) => u64::from(ip.to_bits()),
        IpAddr::V6(ip) => {
            let bits = ip.to_bits();
            bits as u64 ^ (bits >> 64) as u64
        }
    };
    (number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 54) as usize % KEPT
}

/// Local ports by address.
pub(super) struct Ports {
    /// By `PortId`.
    addresses: Vec<SocketAddr>,
    /// Open addressing, at most half full.
    places: Box<[Option<(SocketAddr, PortId)>]>,
}

impl Ports {
    pub(super) fn new(addresses: Vec<SocketAddr>) -> Self {
        let size = (addresses.len() * 4).next_power_of_two().max(16);
        let mut places: Box<[_]> = vec![None; size].into();
        for (id, address) in (0..).map(PortId).zip(&addresses) {
            let first = place(*address, size);
            let free = (first..size).chain(0..first).find(|at| places.get(*at).is_some_and(Option::is_none));
            if let Some(free) = free.and_then(|at| places.get_mut(at)) {
                *free = Some((*address, id));
            }
        }
        Self { addresses, places }
    }

    /// The port of an address.
    #[inline]
    pub(super) fn find(&self, address: SocketAddr) -> Option<PortId> {
        let mut at = place(address, self.places.len());
        loop {
            let (found, id) = self.places.get(at)?.as_ref()?;
            if *found == address {
                return Some(*id);
            }
            at = (at + 1) % self.places.len();
        }
    }

    /// The address of a port.
    #[inline]
    pub(super) fn address(&self, port: PortId) -> Option<SocketAddr> {
        self.addresses.get(usize::from(port.0)).copied()
    }
}

#[inline]
fn place(address: SocketAddr, size: usize) -> usize {
    let low = match address.ip() {
        IpAddr::V4(ip) => ip.to_bits(),
        IpAddr::V6(ip) => ip.to_bits() as u32,
    };
    (u64::from(low) << 16 | u64::from(address.port())).wrapping_mul(0x9e37_79b9_7f4a_7c15) as usize >> 20 & (size - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::{Neighbour, Route};

    const US: Mac = [2, 0, 0, 0, 0, 1];

    #[test]
    fn ports_are_found_by_address_and_others_are_not() {
        let at = |net: u8, port: u16| SocketAddr::from(([10, 0, net, 1], port));
        let mut addresses: Vec<_> = (0..1_000).map(|port| at((port % 3) as u8, 5_060 + port)).collect();
        addresses.push("[fd00::1]:5060".parse().unwrap());
        let ports = Ports::new(addresses.clone());
        for (id, address) in (0..).map(PortId).zip(addresses) {
            assert_eq!((ports.find(address), ports.address(id)), (Some(id), Some(address)));
        }
        assert_eq!(ports.find(at(1, 5_060)), None);
        assert_eq!(ports.find("[fd00::2]:5060".parse().unwrap()), None);
        assert_eq!(ports.address(PortId(2_000)), None);
    }

    fn snapshot(mac: Mac) -> Arc<Hops> {
        let tags = vec![Tag { protocol: 0x8100, id: 100 }];
        let devices = vec![
            Device { index: 4, interface: 4, mac: US, mtu: 1_500, tags: Vec::new() },
            Device { index: 8, interface: 5, mac: US, mtu: 1_500, tags },
        ];
        let route = |net: [u8; 4], device| Route { to: net.into(), prefix: 24, metric: 0, via: None, device };
        let neighbour = |ip: [u8; 4], device| Neighbour { device, ip: ip.into(), mac };
        let routes = vec![route([10, 0, 0, 0], 4), route([10, 0, 1, 0], 8), route([10, 0, 2, 0], 99)];
        let neighbours = vec![neighbour([10, 0, 0, 2], 4), neighbour([10, 0, 1, 2], 8), neighbour([10, 0, 2, 2], 99)];
        Arc::new(Hops::new(devices, routes, neighbours))
    }

    #[test]
    fn a_newer_snapshot_replaces_what_was_kept() {
        let mut ways = Ways::new([5, 4].into_iter());
        let to = IpAddr::from([10, 0, 0, 2]);
        assert!(ways.to(to).is_none());
        for mac in [[2, 0, 0, 0, 0, 7], [2, 0, 0, 0, 0, 8]] {
            ways.renew(&snapshot(mac));
            for _ in 0..2 {
                let (hop, place) = ways.to(to).unwrap();
                assert_eq!((&hop.header()[..6], place), (&mac[..], 1));
            }
        }
        assert_eq!(ways.to([10, 0, 1, 2].into()).map(|(_, place)| place), Some(0));
        assert!(ways.to([10, 0, 2, 2].into()).is_none(), "by an interface that is not ours");
        assert!(ways.to("fe80::1".parse().unwrap()).is_none());
    }

    #[test]
    fn a_narrow_path_is_narrow_for_long_packets_only() {
        let mut ways = Ways::new([4].into_iter());
        let to: IpAddr = "fd00::1".parse().unwrap();
        assert!(!ways.is_narrow(to, 1_500));
        ways.narrowed(to);
        assert!(ways.is_narrow(to, 1_281) && !ways.is_narrow(to, 1_280));
        assert!(!ways.is_narrow("fd00::2".parse().unwrap(), 1_500));
        (0..NARROW_MAX as u128).for_each(|n| ways.narrowed(std::net::Ipv6Addr::from_bits(n).into()));
        assert!(ways.narrow.len() <= NARROW_MAX);
    }

    #[test]
    fn frames_are_ours_by_interface_address_and_tags() {
        let mut ways = Ways::new([4, 5].into_iter());
        ways.renew(&snapshot([2, 0, 0, 0, 0, 7]));
        let tag = |id| Some(Tag { protocol: 0x8100, id });
        assert_eq!(ways.device(4, US, &[None, None]), Some(4));
        assert_eq!(ways.device(4, US, &[tag(0), None]), Some(4), "a priority is no VLAN");
        assert_eq!(ways.device(5, US, &[tag(100), None]), Some(8));
        assert_eq!(ways.device(5, US, &[tag(101), None]), None);
        assert_eq!(ways.device(5, US, &[None, None]), None);
        assert_eq!(ways.device(4, [2, 0, 0, 0, 0, 9], &[None, None]), None);
        assert_eq!(ways.device(6, US, &[None, None]), None);
    }
}
