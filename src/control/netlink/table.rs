//! The kernel's devices, routes and neighbours as they were last told.
//!
//! Filled message by message, and cut down to what packets on some interfaces need. Pure; who asks the
//! kernel, and when, is for the module above.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::message::{self, Link, Near, RouteTo};
use crate::packet::{Device, Hops, Neighbour, Route};

/// Most routes that snapshots are made of; a table of the whole Internet is the kernel's business.
const ROUTES_MAX: usize = 65_536;
/// Most neighbours.
const NEIGHBOURS_MAX: usize = 65_536;
/// Tags that a frame can bear.
const TAGS_MAX: usize = 2;

/// What the kernel told.
#[derive(Default)]
pub(super) struct Table {
    links: BTreeMap<u32, Link>,
    routes: Vec<RouteTo>,
    neighbours: BTreeMap<(u32, IpAddr), Near>,
    /// What the last snapshot was made of.
    last: Option<Parts>,
}

#[derive(PartialEq, Eq)]
struct Parts {
    devices: Vec<Device>,
    routes: Vec<Route>,
    neighbours: Vec<Neighbour>,
}

impl Table {
    /// A message of a dump.
    pub(super) fn take(&mut self, kind: u16, body: &[u8]) {
        match kind {
            message::NEW_LINK => {
                if let Some(link) = message::link(body) {
                    self.links.insert(link.index, link);
                }
            }
            // One more than allowed tells that there are too many.
            message::NEW_ROUTE if self.routes.len() <= ROUTES_MAX => self.routes.extend(message::route(body)),
            message::NEW_NEIGHBOUR => {
                self.neighbour(kind, body);
            }
            _ => {}
        }
    }

    /// A neighbour that is new, changed or gone; false if nothing that matters changed.
    pub(super) fn neighbour(&mut self, kind: u16, body: &[u8]) -> bool {
        let Some(near) = message::neighbour(body) else { return false };
        let key = (near.device, near.ip);
        let before = self.neighbours.get(&key).and_then(|near| near.mac);
        if kind == message::DEL_NEIGHBOUR {
            self.neighbours.remove(&key);
            return before.is_some();
        }
        if self.neighbours.len() < NEIGHBOURS_MAX || before.is_some() {
            self.neighbours.insert(key, near);
        }
        before != near.mac
    }

    /// To be asked for again.
    pub(super) fn forget_links(&mut self) {
        self.links.clear();
        self.routes.clear();
    }

    /// As above.
    pub(super) fn forget_neighbours(&mut self) {
        self.neighbours.clear();
    }

    /// Whether the kernel is no longer sure of a neighbour.
    pub(super) fn is_stale(&self, of: &Neighbour) -> bool {
        self.neighbours.get(&(of.device, of.ip)).is_some_and(|near| near.stale)
    }

    /// Next hops by the interfaces of these names; none if they are as they were.
    pub(super) fn snapshot(&mut self, interfaces: &[String]) -> Option<Hops> {
        let parts = self.parts(interfaces);
        if self.last.as_ref() == Some(&parts) {
            return None;
        }
        let hops = Hops::new(parts.devices.clone(), parts.routes.clone(), parts.neighbours.clone());
        self.last = Some(parts);
        Some(hops)
    }

    fn parts(&self, interfaces: &[String]) -> Parts {
        let devices: Vec<Device> = self.links.values().filter_map(|link| self.device(link, interfaces)).collect();
        let ours = |device: u32| devices.iter().find(|ours| ours.index == device);
        let mut routes: Vec<Route> = Vec::new();
        if self.routes.len() > ROUTES_MAX {
            let advice = "the slow path carries all";
            tracing::warn!(routes = self.routes.len(), most = ROUTES_MAX, advice, "routes_too_many");
        } else {
            let of = |route: &RouteTo| {
                // What a route itself limits is the kernel's to cut.
                let narrow = |device: &Device| route.mtu.is_some_and(|mtu| mtu < device.mtu);
                let device = ours(route.device).filter(|device| !narrow(device)).map_or(0, |device| device.index);
                Route { to: route.to, prefix: route.prefix, metric: route.metric, via: route.via, device }
            };
            routes = self.routes.iter().map(of).collect();
        }
        let near = |near: &Near| {
            ours(near.device)?;
            near.mac.map(|mac| Neighbour { device: near.device, ip: near.ip, mac })
        };
        let neighbours = self.neighbours.values().filter_map(near).collect();
        Parts { devices, routes, neighbours }
    }

    /// A device whose frames pass one of the interfaces: it itself, or a VLAN on it.
    fn device(&self, link: &Link, interfaces: &[String]) -> Option<Device> {
        let (mut below, mut tags) = (link, Vec::new());
        while !interfaces.contains(&below.name) {
            let (tag, next) = below.vlan?;
            tags.insert(0, tag);
            below = self.links.get(&next)?;
            if tags.len() > TAGS_MAX {
                return None;
            }
        }
        let usable = link.up && below.up;
        let device = Device { index: link.index, interface: below.index, mac: link.mac?, mtu: link.mtu, tags };
        usable.then_some(device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::{Mac, Tag};

    const US: Mac = [2, 0, 0, 0, 0, 1];

    fn link(index: u32, name: &str, vlan: Option<(u16, u32)>) -> Link {
        let vlan = vlan.map(|(id, below)| (Tag { protocol: 0x8100, id }, below));
        Link { index, name: name.to_owned(), mac: Some(US), mtu: 1_500, up: true, vlan }
    }

    fn table(links: impl IntoIterator<Item = Link>) -> Table {
        Table { links: links.into_iter().map(|link| (link.index, link)).collect(), ..Table::default() }
    }

    #[test]
    fn devices_are_the_interfaces_and_vlans_on_them_as_long_as_they_are_up() {
        let inner = link(5, "eth0.7.100", Some((100, 4)));
        let links = [link(2, "eth0", None), link(3, "eth1", None), link(4, "eth0.7", Some((7, 2))), inner];
        let mut table = table(links);
        let indices = |table: &Table| {
            let parts = table.parts(&["eth0".to_owned()]);
            parts.devices.iter().map(|device| (device.index, device.tags.len())).collect::<Vec<_>>()
        };
        assert_eq!(indices(&table), [(2, 0), (4, 1), (5, 2)]);
        let tags = table.parts(&["eth0".to_owned()]).devices[2].tags.iter().map(|tag| tag.id).collect::<Vec<_>>();
        assert_eq!(tags, [7, 100], "outermost first");
        table.links.get_mut(&2).unwrap().up = false;
        assert_eq!(indices(&table), []);
    }

    #[test]
    fn a_snapshot_is_made_only_of_what_is_new() {
        let mut table = table([link(2, "eth0", None)]);
        let names = ["eth0".to_owned()];
        let near = |mac, stale| Near { device: 2, ip: [10, 0, 0, 1].into(), mac, stale };
        table.neighbours.insert((2, [10, 0, 0, 1].into()), near(Some(US), false));
        assert!(table.snapshot(&names).is_some());
        table.neighbours.insert((2, [10, 0, 0, 1].into()), near(Some(US), true));
        assert!(table.snapshot(&names).is_none(), "still the same address");
        table.neighbours.insert((2, [10, 0, 0, 1].into()), near(None, false));
        assert!(table.snapshot(&names).is_some());
    }

    #[test]
    fn routes_by_other_devices_and_narrow_ones_are_the_kernels() {
        let mut table = table([link(2, "eth0", None), link(3, "eth1", None)]);
        let route = |device, mtu| RouteTo { to: [10, 0, 0, 0].into(), prefix: 8, metric: 0, via: None, device, mtu };
        table.routes = vec![route(2, None), route(3, None), route(2, Some(1_400)), route(2, Some(1_500))];
        let devices: Vec<u32> = table.parts(&["eth0".to_owned()]).routes.iter().map(|route| route.device).collect();
        assert_eq!(devices, [2, 0, 0, 2]);
    }
}
