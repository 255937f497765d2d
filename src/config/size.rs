//! How much a message can grow on its way through, for the names that a configuration advertises.
//!
//! The limits keep what leaves within the head room and predictable to the peers; only the names
//! vary, so they are checked once, here, instead of on every packet.

use std::net::SocketAddr;

/// Bytes that Via, Record-Routes, Path, received and rport may add, IPv4 only.
const GROWTH_V4: usize = 300;
/// The same when either side is IPv6.
const GROWTH_V6: usize = 420;
/// Bytes that the source header may add, IPv4.
const SOURCE_V4: usize = 80;
/// The same for IPv6, whose addresses are that much longer.
const SOURCE_V6: usize = SOURCE_V4 + V6 + 2 - V4;

/// Longest address as text.
const V4: usize = 15;
const V6: usize = 39;
/// User part of a cookie that names a node, an IPv4 flow and an IPv6 flow.
const COOKIE_NODE: usize = 25;
const COOKIE_V4: usize = 31;
const COOKIE_V6: usize = 50;
/// `Via: SIP/2.0/UDP ` + `;branch=` + branch + `;rport` + CRLF.
const VIA: usize = 17 + 8 + 49 + 6 + 2;
/// `Record-Route: <sip:` + `@` + `;lr>` + CRLF.
const RECORD_ROUTE: usize = 19 + 1 + 4 + 2;
/// `;received=` and `;rport=65535`.
const RECEIVED: usize = 10 + 12;

/// One side of sipring as messages name it.
#[derive(Clone, Copy)]
pub(super) struct Face<'a> {
    pub(super) bind: SocketAddr,
    pub(super) advertise: &'a str,
    /// Longest sent-by of the Vias that leave on this side.
    pub(super) sent_by: usize,
}

impl Face<'_> {
    fn address(&self) -> usize {
        if self.bind.is_ipv6() { V6 } else { V4 }
    }

    fn cookie(&self) -> usize {
        if self.bind.is_ipv6() { COOKIE_V6 } else { COOKIE_V4 }
    }
}

/// Why messages between these two faces can grow too much; none if they cannot.
pub(super) fn excess(edge: Face<'_>, node: Face<'_>) -> Option<String> {
    let limit = if edge.bind.is_ipv4() && node.bind.is_ipv4() { GROWTH_V4 } else { GROWTH_V6 };
    // The node-facing value names the client's flow, the edge-facing one the node.
    let record_routes = 2 * RECORD_ROUTE + edge.advertise.len() + node.advertise.len() + COOKIE_NODE + edge.cookie();
    let to_node = VIA + node.sent_by + record_routes + RECEIVED + edge.address();
    let to_client = VIA + edge.sent_by + record_routes + RECEIVED + node.address();
    let growth = to_node.max(to_client);
    (growth > limit).then(|| {
        format!(
            "messages could grow by {growth} bytes with `{}` and `{}` in Via and Record-Route, {limit} is the limit; \
             names {} bytes shorter are right",
            edge.advertise,
            node.advertise,
            growth - limit
        )
    })
}

/// Why the source header for requests from a listener can be too long; none if it cannot.
pub(super) fn source_excess(header: &str, full: bool, listener: &str, bind: SocketAddr) -> Option<String> {
    let (address, limit) = if bind.is_ipv6() { (V6 + 2, SOURCE_V6) } else { (V4, SOURCE_V4) };
    // `NAME: 192.0.2.7:5060;listener=NAME` CRLF.
    let value = if full { address + 6 + 10 + listener.len() } else { address };
    let length = header.len() + 2 + value + 2;
    (length > limit).then(|| {
        format!(
            "the header could be {length} bytes long on requests from listener `{listener}`, {limit} is the limit; a \
             shorter header or listener name, or `form = \"address\"`, is right"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn face<'a>(bind: &str, advertise: &'a str) -> Face<'a> {
        Face { bind: bind.parse().unwrap(), advertise, sent_by: advertise.len() }
    }

    #[test]
    fn addresses_always_fit_and_long_names_do_not() {
        let edge = face("192.0.2.1:5060", "255.255.255.255:65535");
        let node = face("10.0.0.1:5060", "255.255.255.255:65535");
        assert_eq!(excess(edge, node), None);
        let long = "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535";
        assert_eq!(excess(face("[::1]:5060", long), face("[::2]:5060", long)), None);
        let name = "a".repeat(60);
        let text = excess(face("192.0.2.1:5060", &name), node).unwrap();
        assert!(text.contains("300 is the limit"), "{text}");
    }

    #[test]
    fn cookies_are_as_long_as_counted() {
        use crate::balance::{COOKIE_MAX, CookieKey, CookieKeys, CookieTarget, NodeId, PortTag, Role};
        let keys = CookieKeys::new(&[CookieKey { id: 255, key: [1; 16] }], 255).unwrap();
        let flow = |addr: &str| CookieTarget::Flow { listener: PortTag(u16::MAX), addr: addr.parse().unwrap() };
        let targets = [
            (CookieTarget::Node(NodeId(u32::MAX)), COOKIE_NODE),
            (flow("255.255.255.255:65535"), COOKIE_V4),
            (flow("[2001:db8::1]:65535"), COOKIE_V6),
        ];
        for (target, length) in targets {
            assert_eq!(keys.sign(Role::NodeFacing, &target, Some(1), &mut [0; COOKIE_MAX]), length, "{target:?}");
        }
    }

    #[test]
    fn the_source_header_is_bounded_by_its_own_and_the_listeners_name() {
        let v4 = "192.0.2.1:5060".parse().unwrap();
        let v6 = "[2001:db8::1]:5060".parse().unwrap();
        assert_eq!(source_excess("X-Sipring-Source", true, "phones", v4), None);
        assert_eq!(source_excess("X-Sipring-Source", true, "phones", v6), None);
        assert!(source_excess("X-Sipring-Source", true, &"p".repeat(30), v4).is_some());
        assert_eq!(source_excess("X-Sipring-Source", false, &"p".repeat(30), v4), None);
    }
}
