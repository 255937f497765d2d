//! Networks for the tests: a core where the balancer and its nodes live, phones behind NATs of their own, and a path
//! with an MTU of 1,500 between client, balancer and node.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::namespace::{Namespace, Place};

/// A namespace with addresses of its own, so that every port in it is free.
pub(crate) struct Core {
    namespace: Namespace,
}

impl Core {
    pub(crate) fn new() -> Self {
        Self { namespace: Namespace::new("core") }
    }

    pub(crate) fn place(&self) -> Place {
        self.namespace.place()
    }

    /// `10.77.NET.HOST`, added.
    pub(crate) fn address(&self, net: u8, host: u8) -> IpAddr {
        let ip = Ipv4Addr::new(10, 77, net, host);
        self.namespace.address("lo", &format!("{ip}/32"));
        ip.into()
    }

    /// From now on, of all datagrams that arrive, one in twenty does not.
    pub(crate) fn lose_one_in_twenty(&self) {
        self.namespace.run("nft", &["add table ip loss"]);
        self.namespace.run("nft", &["add chain ip loss in { type filter hook input priority 0; }"]);
        self.namespace.run("nft", &["add rule ip loss in meta l4proto udp numgen random mod 1000 < 50 drop"]);
    }

    /// An ICMP error, forged: as if a datagram from `from` had found nobody at `to`.
    pub(crate) fn forge_unreachable(&self, from: SocketAddr, to: SocketAddr) {
        let (IpAddr::V4(from_ip), IpAddr::V4(to_ip)) = (from.ip(), to.ip()) else { panic!("IPv4 only") };
        let mut inner = vec![0x45, 0, 0, 36, 0, 0, 0, 0, 64, 17, 0, 0];
        inner.extend(from_ip.octets());
        inner.extend(to_ip.octets());
        inner.extend(from.port().to_be_bytes());
        inner.extend(to.port().to_be_bytes());
        inner.extend([0, 16, 0, 0]);
        inner.extend([0; 8]);
        let mut icmp = vec![3, 3, 0, 0, 0, 0, 0, 0];
        icmp.extend(inner);
        let sum = icmp.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum::<u32>();
        let folded = (sum & 0xffff) + (sum >> 16);
        icmp[2..4].copy_from_slice(&(!(folded as u16 + (folded >> 16) as u16)).to_be_bytes());
        let place = self.place();
        place.inside(move || {
            let raw = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::RAW, Some(socket2::Protocol::ICMPV4));
            let raw = raw.unwrap_or_else(|e| panic!("a raw socket, which needs root: {e}"));
            let sent = raw.send_to(&icmp, &SocketAddr::new(from.ip(), 0).into());
            assert!(sent.is_ok(), "{sent:?}");
        });
    }
}

/// A phone's network behind a router that rewrites address and port. Every one of them has the same inside address.
pub(crate) struct Nat {
    phone: Namespace,
    _router: Namespace,
}

impl Nat {
    pub(crate) const PHONE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 168, 1, 10));

    /// The `index`th NAT beside `core`, reachable through it.
    pub(crate) fn new(core: &Core, index: u8) -> Self {
        let (phone, router) = (Namespace::new("phone"), Namespace::new("nat"));
        phone.link("wan", &router, "inside");
        phone.address("wan", &format!("{}/24", Self::PHONE));
        router.address("inside", "192.168.1.1/24");
        phone.ip("route add default via 192.168.1.1");
        router.link("outside", &core.namespace, &format!("nat{index}"));
        router.address("outside", &format!("10.78.{index}.2/24"));
        core.namespace.address(&format!("nat{index}"), &format!("10.78.{index}.1/24"));
        router.ip(&format!("route add default via 10.78.{index}.1"));
        router.forward();
        router.run("nft", &["add table ip nat"]);
        router.run("nft", &["add chain ip nat out { type nat hook postrouting priority srcnat; }"]);
        router.run("nft", &["add rule ip nat out oifname outside meta l4proto udp masquerade to :20000-29999"]);
        Self { phone, _router: router }
    }

    pub(crate) fn place(&self) -> Place {
        self.phone.place()
    }
}

/// Client, balancer and node in three namespaces, each hop a veth with an MTU of 1,500.
pub(crate) struct Path {
    client: Namespace,
    middle: Namespace,
    node: Namespace,
}

impl Path {
    pub(crate) fn new() -> Self {
        Self::with_queues(1)
    }

    /// With so many queues at every link.
    pub(crate) fn with_queues(queues: u16) -> Self {
        let path =
            Self { client: Namespace::new("client"), middle: Namespace::new("middle"), node: Namespace::new("node") };
        path.client.link_queues("wan", &path.middle, "edge", queues);
        path.node.link_queues("wan", &path.middle, "nodes", queues);
        let ends = [(&path.client, "wan", "1.2"), (&path.middle, "edge", "1.1"), (&path.middle, "nodes", "2.1")];
        for (namespace, link, host) in ends.into_iter().chain([(&path.node, "wan", "2.2")]) {
            namespace.address(link, &format!("10.79.{host}/24"));
            namespace.address(link, &format!("fd79:{}/64", host.replace('.', "::")));
        }
        path
    }

    /// Client, balancer, node.
    pub(crate) fn namespaces(&self) -> [&Namespace; 3] {
        [&self.client, &self.middle, &self.node]
    }

    pub(crate) fn client(&self) -> Place {
        self.client.place()
    }

    pub(crate) fn middle(&self) -> Place {
        self.middle.place()
    }

    pub(crate) fn node(&self) -> Place {
        self.node.place()
    }

    /// `host` as in "1.2": net and host number, in the family asked for.
    pub(crate) fn at(v6: bool, host: &str, port: u16) -> SocketAddr {
        let ip = if v6 { format!("fd79:{}", host.replace('.', "::")) } else { format!("10.79.{host}") };
        SocketAddr::new(ip.parse().unwrap_or_else(|e| panic!("{ip}: {e}")), port)
    }
}
