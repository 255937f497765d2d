//! Frames behind VLAN tags, between two datapaths in process: not every kernel has VLAN devices to make them with.

use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use sipring::datapath::{Batch, Bypass, Datapath, Options, Waker, Xdp, XdpMode, XdpOptions};
use sipring::packet::{
    Device, Egress, Hops, LocalPort, Mac, Neighbour, Outbox, PeerId, Pool, PoolOptions, PortId, PortRole, Route, Sent,
    Tag,
};

use crate::harness::namespace::Namespace;
use crate::harness::turn;

const US: Mac = [2, 0x25, 0, 0, 0, 1];
const THEM: Mac = [2, 0x25, 0, 0, 0, 2];
const PATIENCE: Duration = Duration::from_secs(10);

/// One end of a link, with an address behind some tags.
struct End {
    path: Xdp,
    out: Outbox,
    batch: Batch,
    at: SocketAddr,
    number: u32,
    macs: (Mac, Mac),
    _bypass: Bypass,
}

impl End {
    fn new(namespace: &Namespace, link: &str, at: SocketAddr, macs: (Mac, Mac)) -> Self {
        let shown = Command::new("ip").args(["-n", namespace.name(), "-o", "link", "show", "dev", link]).output();
        let shown = String::from_utf8(shown.unwrap().stdout).unwrap();
        let number = shown.split(':').next().unwrap().parse().unwrap();
        let frames = Pool::frames(&PoolOptions { slots: 1_024, threads: 2 }).unwrap();
        let pool = Pool::new(&PoolOptions { slots: 128, threads: 2 }).unwrap();
        let xdp = XdpOptions {
            interfaces: vec![link.to_owned()],
            queues: vec![0],
            frames: 1_024,
            busy_poll_us: 0,
            dscp: 0,
            zero_copy: false,
            mode: XdpMode::Native,
        };
        let ports = vec![LocalPort { bind: at, role: PortRole::Worker { index: 0 } }];
        let options = Options { ports, ..Options::default() };
        let (path, bypass) = namespace.place().inside(|| {
            let (bypass, mut lanes) = Bypass::open(&xdp, &[at], &[frames]).unwrap();
            (Xdp::open(&options, &xdp, lanes.remove(0), pool, Waker::new().unwrap()).unwrap(), bypass)
        });
        Self { path, out: Outbox::new(pool, 8), batch: Batch::new(8), at, number, macs, _bypass: bypass }
    }

    /// From now on this end and `peer` are on a VLAN of these tags.
    fn tagged(&mut self, peer: SocketAddr, tags: &[Tag]) {
        let (number, (mac, peer_mac)) = (self.number, self.macs);
        let device = Device { index: number + 10, interface: number, mac, mtu: 1_500, tags: tags.to_vec() };
        let route = Route { to: peer.ip(), prefix: 16, metric: 0, via: None, device: number + 10 };
        let neighbour = Neighbour { device: number + 10, ip: peer.ip(), mac: peer_mac };
        self.path.apply_hops(&Arc::new(Hops::new(vec![device], vec![route], vec![neighbour])));
    }

    fn send(&mut self, text: &[u8], to: SocketAddr) {
        let mut packet = self.path.take().unwrap();
        assert!(packet.replace(text));
        let egress = Egress { port: PortId(0), peer: PeerId::NONE, to };
        self.out.decided(packet, egress, Sent::Forwarded).unwrap();
        self.path.send(&mut self.out);
        assert_eq!(self.path.counts().slow_sent, 0);
    }

    /// The next datagram and its source.
    fn next(&mut self) -> (Vec<u8>, SocketAddr) {
        for _ in 0..20 {
            self.batch.clear();
            self.path.recv(&mut self.batch, Some(PATIENCE / 20)).unwrap();
            if let Some(packet) = self.batch.packets.pop() {
                assert_eq!(self.path.counts().slow_received, 0);
                return (packet.bytes().to_vec(), packet.source);
            }
        }
        panic!("nothing came; {:?}", self.path.counts());
    }
}

fn ends(v6: bool) -> (Namespace, Namespace, End, End) {
    let (left, right) = (Namespace::new("left"), Namespace::new("right"));
    left.link("here", &right, "there");
    let addresses = if v6 { ["fd25::1", "fd25::2"] } else { ["10.25.7.1", "10.25.7.2"] };
    for (namespace, link, mac, address) in
        [(&left, "here", "02:25:00:00:00:01", addresses[0]), (&right, "there", "02:25:00:00:00:02", addresses[1])]
    {
        namespace.ip(&format!("link set {link} address {mac}"));
        namespace.address(link, &format!("{address}/{}", if v6 { 64 } else { 24 }));
    }
    let at = |address: &str| SocketAddr::new(address.parse().unwrap(), 5_060);
    let here = End::new(&left, "here", at(addresses[0]), (US, THEM));
    let there = End::new(&right, "there", at(addresses[1]), (THEM, US));
    (left, right, here, there)
}

#[test]
fn frames_cross_with_no_tag_one_and_two_in_both_families() {
    let _turn = turn();
    let (one, two) = (Tag { protocol: 0x8100, id: 25 }, Tag { protocol: 0x88a8, id: 4_094 });
    for v6 in [false, true] {
        let (_left, _right, mut here, mut there) = ends(v6);
        for tags in [&[][..], &[one], &[two, one]] {
            here.tagged(there.at, tags);
            there.tagged(here.at, tags);
            for length in [0, 5, 1_000, 1_444] {
                let text = vec![b'x'; length];
                here.send(&text, there.at);
                assert_eq!(there.next(), (text.clone(), here.at));
                there.send(&text, here.at);
                assert_eq!(here.next(), (text, there.at));
            }
        }
    }
}

#[test]
fn frames_of_a_vlan_or_a_machine_that_we_are_not_are_dropped_and_counted() {
    let _turn = turn();
    let (_left, _right, mut here, mut there) = ends(false);
    let tag = |id| [Tag { protocol: 0x8100, id }];
    here.tagged(there.at, &tag(25));
    there.tagged(here.at, &tag(26));
    here.send(b"on another VLAN", there.at);
    here.tagged(there.at, &[]);
    here.send(b"on none", there.at);
    here.tagged(there.at, &tag(26));
    here.send(b"on ours", there.at);
    assert_eq!(there.next().0, b"on ours");
    assert_eq!(there.path.counts().foreign, 2);
    there.tagged(here.at, &[]);
    here.tagged(there.at, &tag(0));
    here.send(b"a priority only", there.at);
    assert_eq!(there.next().0, b"a priority only");
    here.macs = (US, [2, 0x25, 0, 0, 0, 99]);
    here.tagged(there.at, &[]);
    here.send(b"for another machine", there.at);
    here.macs = (US, THEM);
    here.tagged(there.at, &[]);
    here.send(b"for us", there.at);
    assert_eq!(there.next().0, b"for us");
    assert_eq!(there.path.counts().foreign, 3);
}
