//! A look-up table from address or id to its place in a plan, a few nanoseconds a look-up.
//!
//! Built once a plan and never changed; `Plan` asks it for packets from the node side. Its keys are
//! the operator's, so a stranger can neither fill it nor lengthen a chain.

use std::net::{IpAddr, SocketAddr};

use super::Key;

/// What may be looked up.
pub(super) trait Lookup: Copy + Eq {
    fn mix(self, key: &Key) -> u64;
}

/// An address and port; port 0 stands for the address as such. IPv4 is held as mapped into IPv6, so
/// that a socket of both families finds its nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    ip: u128,
    port: u16,
}

impl Place {
    #[inline]
    pub(super) fn of(addr: SocketAddr) -> Self {
        Self { ip: bits(addr.ip()), port: addr.port() }
    }

    #[inline]
    pub(super) fn of_ip(ip: IpAddr) -> Self {
        Self { ip: bits(ip), port: 0 }
    }
}

#[inline]
fn bits(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(v4) => 0xffff_0000_0000 | u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

#[inline]
fn folded(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

impl Lookup for Place {
    #[inline]
    fn mix(self, key: &Key) -> u64 {
        let half = folded(self.ip as u64 ^ key.0, (self.ip >> 64) as u64 ^ key.1);
        folded(half ^ u64::from(self.port), key.0 | 1)
    }
}

impl Lookup for u32 {
    #[inline]
    fn mix(self, key: &Key) -> u64 {
        folded(u64::from(self) ^ key.1, key.0 | 1)
    }
}

/// Open addressing, at most half full.
#[derive(Clone, Debug)]
pub(super) struct Index<K, V> {
    key: Key,
    slots: Box<[Option<(K, V)>]>,
}

impl<K: Lookup, V: Copy> Index<K, V> {
    /// Of equal keys the first is found.
    pub(super) fn build(key: &Key, entries: &[(K, V)]) -> Self {
        let size = (entries.len() * 2 + 1).next_power_of_two();
        let mut slots: Box<[Option<(K, V)>]> = vec![None; size].into_boxed_slice();
        for entry in entries {
            let mut at = entry.0.mix(key) as usize & (size - 1);
            while let Some(Some(_)) = slots.get(at) {
                at = (at + 1) & (size - 1);
            }
            if let Some(slot) = slots.get_mut(at) {
                *slot = Some(*entry);
            }
        }
        Self { key: *key, slots }
    }

    #[inline]
    pub(super) fn find(&self, wanted: K) -> Option<V> {
        let mask = self.slots.len() - 1;
        let mut at = wanted.mix(&self.key) as usize & mask;
        while let Some(Some((key, value))) = self.slots.get(at) {
            if *key == wanted {
                return Some(*value);
            }
            at = (at + 1) & mask;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_put_in_is_found_and_nothing_else() {
        for count in [0_u32, 1, 2, 3, 1000] {
            let entries: Vec<(u32, u32)> = (0..count).map(|i| (i * 7, i)).collect();
            let index = Index::build(&Key(5, 6), &entries);
            assert!(entries.iter().all(|(key, value)| index.find(*key) == Some(*value)));
            assert!((0..count).all(|i| index.find(i * 7 + 1).is_none()));
        }
    }

    #[test]
    fn of_equal_keys_the_first_is_found() {
        let index = Index::build(&Key(5, 6), &[(9, 'a'), (9, 'b'), (9, 'c')]);
        assert_eq!(index.find(9_u32), Some('a'));
    }

    #[test]
    fn an_ipv4_address_is_found_in_its_mapped_form() {
        let plain: SocketAddr = "192.0.2.1:5060".parse().unwrap();
        let mapped: SocketAddr = "[::ffff:192.0.2.1]:5060".parse().unwrap();
        let index = Index::build(&Key(5, 6), &[(Place::of(plain), 1)]);
        assert_eq!(index.find(Place::of(mapped)), Some(1));
        assert_eq!(index.find(Place::of("192.0.2.1:5061".parse().unwrap())), None);
        assert_eq!(index.find(Place::of_ip(plain.ip())), None);
    }
}
