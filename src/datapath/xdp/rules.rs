//! Rules of a NIC that bring datagrams to a queue by their port.
//!
//! Read once at start, to tell which worker ports no rule brings to the queue of the worker that holds
//! them: their responses are handed over, at a cost. Writes none; `tuning/apply.sh` does.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::device;

/// `ETHTOOL_GRXCLSRLCNT`, `ETHTOOL_GRXCLSRULE`, `ETHTOOL_GRXCLSRLALL`.
const COUNT: u32 = 0x2e;
const RULE: u32 = 0x2f;
const ALL: u32 = 0x30;
/// `UDP_V4_FLOW`, `UDP_V6_FLOW`.
const UDP_V4: u32 = 2;
const UDP_V6: u32 = 6;
/// Rules that are looked at, at most.
const RULES_MAX: u32 = 4_096;

/// The kernel's `struct ethtool_rxnfc` up to the list of places.
#[derive(Clone, Copy)]
#[repr(C)]
struct Question {
    call: u32,
    flow: u32,
    data: u64,
    rule: Flow,
    count: u32,
    pad: u32,
}

/// The kernel's `struct ethtool_rx_flow_spec`.
#[derive(Clone, Copy)]
#[repr(C)]
struct Flow {
    kind: u32,
    wanted: [u8; 52],
    wanted_more: [u8; 20],
    mask: [u8; 52],
    mask_more: [u8; 20],
    queue: u64,
    place: u32,
}

const NO_FLOW: Flow =
    Flow { kind: 0, wanted: [0; 52], wanted_more: [0; 20], mask: [0; 52], mask_more: [0; 20], queue: 0, place: 0 };

/// A rule that looks at the local port, and perhaps at the local address, and at nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rule {
    to: SocketAddr,
    /// Whether any address is meant.
    any: bool,
    queue: u32,
}

impl Rule {
    fn brings(&self, port: SocketAddr, queue: u32) -> bool {
        let same = self.to.is_ipv4() == port.is_ipv4() && (self.any || self.to.ip() == port.ip());
        same && self.to.port() == port.port() && self.queue == queue
    }
}

/// Which of `ports` no rule of the interface brings to the queue beside them.
pub(super) fn missing(interface: &str, ports: &[(SocketAddr, u32)]) -> Vec<SocketAddr> {
    let rules = read(interface);
    let none = |(port, queue): &&(SocketAddr, u32)| !rules.iter().any(|rule| rule.brings(*port, *queue));
    ports.iter().filter(none).map(|(port, _)| *port).collect()
}

/// The rules that a driver tells of.
fn read(interface: &str) -> Vec<Rule> {
    let question = |call| Question { call, flow: 0, data: 0, rule: NO_FLOW, count: 0, pad: 0 };
    let mut count = question(COUNT);
    // SAFETY: this call writes the structure, and no list behind it.
    if !unsafe { device::ask(interface, &mut count) } {
        return Vec::new();
    }
    let told = count.count.min(RULES_MAX);
    places(interface, told, question(ALL))
        .into_iter()
        .filter_map(|place| {
            let mut one = question(RULE);
            one.rule.place = place;
            // SAFETY: as above.
            unsafe { device::ask(interface, &mut one) }.then_some(one.rule)
        })
        .filter_map(|flow| rule(&flow))
        .collect()
}

/// Where rules stand, at most `count`.
fn places(interface: &str, count: u32, mut head: Question) -> Vec<u32> {
    head.count = count;
    // The list begins in the head's last four bytes.
    let mut words = vec![0_u64; size_of::<Question>() / 8 + count as usize / 2 + 1];
    // SAFETY: words enough for a head, which is numbers and bytes only and no more aligned than they are.
    unsafe { words.as_mut_ptr().cast::<Question>().write(head) };
    // SAFETY: room for `count` places behind the head, which the kernel writes no more than.
    if !unsafe { device::ask(interface, words.as_mut_slice()) } {
        return Vec::new();
    }
    let bytes = words.iter().flat_map(|word| word.to_ne_bytes());
    let list: Vec<u8> = bytes.skip(size_of::<Question>() - 4).take(count as usize * 4).collect();
    list.chunks_exact(4).filter_map(|place| Some(u32::from_ne_bytes(place.try_into().ok()?))).collect()
}

/// What a flow says, if it looks at the local port and address alone and leads to a queue.
fn rule(flow: &Flow) -> Option<Rule> {
    let queue = u32::try_from(flow.queue).ok()?;
    let (ip, at, own_mask): (IpAddr, usize, &[u8]) = match flow.kind {
        UDP_V4 => (Ipv4Addr::from(*flow.wanted.get(4..)?.first_chunk()?).into(), 10, flow.mask.get(4..8)?),
        UDP_V6 => (Ipv6Addr::from(*flow.wanted.get(16..)?.first_chunk()?).into(), 34, flow.mask.get(16..32)?),
        _ => return None,
    };
    let port = u16::from_be_bytes(*flow.wanted.get(at..)?.first_chunk()?);
    let port_mask = flow.mask.get(at..at + 2)?;
    let (any, whole) = (own_mask.iter().all(|byte| *byte == 0), own_mask.iter().all(|byte| *byte == 0xff));
    let others: u32 = flow.mask.iter().chain(&flow.mask_more).map(|byte| u32::from(*byte)).sum();
    let ours: u32 = own_mask.iter().chain(port_mask).map(|byte| u32::from(*byte)).sum();
    let alone = others == ours && port_mask == [0xff; 2] && (any || whole);
    alone.then_some(Rule { to: SocketAddr::new(ip, port), any, queue })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(kind: u32, wanted: &[(usize, &[u8])], queue: u64) -> Flow {
        let mut flow = Flow { kind, queue, ..NO_FLOW };
        for (at, bytes) in wanted {
            flow.wanted[*at..at + bytes.len()].copy_from_slice(bytes);
            flow.mask[*at..at + bytes.len()].fill(0xff);
        }
        flow
    }

    #[test]
    fn the_structures_are_as_long_as_the_kernels() {
        assert_eq!((size_of::<Flow>(), size_of::<Question>()), (168, 192));
        assert_eq!(std::mem::offset_of!(Flow, queue), 152);
        assert_eq!((std::mem::offset_of!(Question, rule), std::mem::offset_of!(Question, count)), (16, 184));
    }

    #[test]
    fn a_rule_for_a_port_brings_that_port_of_its_family_to_its_queue() {
        let any = rule(&flow(UDP_V4, &[(10, &5071_u16.to_be_bytes())], 1)).unwrap();
        assert!(any.brings("10.0.0.1:5071".parse().unwrap(), 1));
        assert!(!any.brings("10.0.0.1:5071".parse().unwrap(), 0));
        assert!(!any.brings("10.0.0.1:5072".parse().unwrap(), 1));
        assert!(!any.brings("[fd00::1]:5071".parse().unwrap(), 1));
        let v6: Ipv6Addr = "fd00::1".parse().unwrap();
        let one = rule(&flow(UDP_V6, &[(16, &v6.octets()), (34, &5071_u16.to_be_bytes())], 3)).unwrap();
        assert!(one.brings("[fd00::1]:5071".parse().unwrap(), 3));
        assert!(!one.brings("[fd00::2]:5071".parse().unwrap(), 3));
    }

    #[test]
    fn a_rule_that_looks_at_more_or_leads_elsewhere_is_none_of_ours() {
        let port: (usize, &[u8]) = (10, &5071_u16.to_be_bytes());
        assert!(rule(&flow(UDP_V4, &[port, (0, &[10, 0, 0, 2])], 1)).is_none(), "a remote address");
        assert!(rule(&flow(UDP_V4, &[port], u64::MAX)).is_none(), "dropped");
        assert!(rule(&flow(1, &[port], 1)).is_none(), "TCP");
        let mut half = flow(UDP_V4, &[port], 1);
        half.mask[10] = 0xf0;
        assert!(rule(&half).is_none(), "a range of ports");
        let mut tagged = flow(UDP_V4, &[port], 1);
        tagged.mask_more[10] = 0xff;
        assert!(rule(&tagged).is_none(), "a VLAN");
    }

    #[test]
    fn an_interface_without_rules_brings_no_port_anywhere() {
        let port = "127.0.0.1:5071".parse().unwrap();
        assert_eq!(missing("lo", &[(port, 0)]), [port]);
        assert_eq!(missing("lo", &[]), []);
    }
}
