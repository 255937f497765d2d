//! Paths of their own: a machine, a router and a node in three network namespaces.
//!
//! `near` (10.11.1.1) -- 1,500 bytes -- router -- 1,280 bytes -- `far` (10.11.2.2), and the same in
//! IPv6. Needs root and `ip` (Debian: iproute2).

use std::fs::File;
use std::os::fd::AsRawFd;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use std::net::{SocketAddr, UdpSocket};
use std::thread;

use sipring::datapath::Options;
use sipring::packet::{Egress, Event, PeerId, PortId, Trouble};

use super::rig::*;
use super::trains::{check, message};

over_both! {
    large_datagrams_cross_paths_of_1500_and_of_1280_bytes_both_ways
    a_full_socket_loses_what_it_cannot_take_and_counts_it
    a_host_that_is_gone_is_told_from_every_kind_of_socket
    a_destination_without_a_route_is_told_and_counted_and_one_forbidden_here_only_counted
    long_messages_travel_in_fragments_beside_trains
    a_narrow_path_is_learned_by_one_refused_train
    a_device_without_segmentation_offload_carries_trains
    where_trains_are_forbidden_and_datagrams_are_not_all_arrive_and_trains_end
    a_full_socket_counts_every_datagram_of_the_trains_that_it_cannot_take
}

static NETS: AtomicU32 = AtomicU32::new(0);

/// The three namespaces; deleted when dropped, whether the test held or not.
struct Net {
    name: String,
}

fn run(command: &str) -> bool {
    let mut words = command.split_whitespace();
    let output = Command::new(words.next().unwrap()).args(words).output();
    output.is_ok_and(|output| output.status.success())
}

impl Net {
    fn new() -> Self {
        let name = format!("sipringdp{}x{}", std::process::id(), NETS.fetch_add(1, Ordering::Relaxed));
        let net = Self { name };
        let made = run(&format!("ip netns add {}near", net.name));
        assert!(made, "network namespaces need root and `ip`: apt-get install iproute2, and run the tests as root");
        for command in [
            "ip netns add @router",
            "ip netns add @far",
            "ip -n @near link set lo up",
            "ip -n @near link add near0 type veth peer name near1 netns @router",
            "ip -n @far link add far0 mtu 1280 type veth peer name far1 netns @router",
            "ip -n @router link set far1 mtu 1280",
            "ip -n @near addr add 10.11.1.1/24 dev near0",
            "ip -n @near addr add fd11:1::1/64 dev near0 nodad",
            "ip -n @router addr add 10.11.1.2/24 dev near1",
            "ip -n @router addr add fd11:1::2/64 dev near1 nodad",
            "ip -n @router addr add 10.11.2.1/24 dev far1",
            "ip -n @router addr add fd11:2::1/64 dev far1 nodad",
            "ip -n @far addr add 10.11.2.2/24 dev far0",
            "ip -n @far addr add fd11:2::2/64 dev far0 nodad",
            "ip -n @near link set near0 up",
            "ip -n @router link set near1 up",
            "ip -n @router link set far1 up",
            "ip -n @far link set far0 up",
            "ip -n @near route add default via 10.11.1.2",
            "ip -n @near -6 route add default via fd11:1::2",
            "ip -n @far route add default via 10.11.2.1",
            "ip -n @far -6 route add default via fd11:2::1",
        ] {
            assert!(run(&command.replace('@', &net.name)), "{command}");
        }
        net.write("router", "net/ipv4/ip_forward", "1");
        net.write("router", "net/ipv6/conf/all/forwarding", "1");
        net
    }

    /// Runs `work` on a thread inside a namespace; sockets made there stay there.
    fn within<T: Send>(&self, place: &str, work: impl FnOnce() -> T + Send) -> T {
        let namespace = File::open(format!("/var/run/netns/{}{place}", self.name)).unwrap();
        let inside = move || {
            // SAFETY: a descriptor of a namespace; only this thread moves into it.
            assert_eq!(unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) }, 0);
            work()
        };
        thread::scope(|scope| scope.spawn(inside).join().unwrap())
    }

    fn offload(&self, place: &str, device: &str, setting: &str) {
        let command = format!("ip netns exec {}{place} ethtool -K {device} {setting}", self.name);
        assert!(run(&command), "{command}: apt-get install ethtool");
    }

    fn write(&self, place: &str, setting: &str, value: &str) {
        self.within(place, || std::fs::write(format!("/proc/sys/{setting}"), value)).unwrap();
    }
}

/// Runs `work` in a new world, on the near machine: a datapath is used by the thread that opened it.
fn near(work: impl FnOnce(&Net) + Send) {
    let net = Net::new();
    net.within("near", || work(&net));
}

impl Drop for Net {
    fn drop(&mut self) {
        for place in ["near", "router", "far"] {
            run(&format!("ip netns del {}{place}", self.name));
        }
    }
}

const NEAR: [&str; 2] = ["10.11.1.1", "fd11:1::1"];
const ROUTER: [&str; 2] = ["10.11.1.2", "fd11:1::2"];
const FAR: [&str; 2] = ["10.11.2.2", "fd11:2::2"];

fn large_datagrams_cross_paths_of_1500_and_of_1280_bytes_both_ways<B: Backend>() {
    near(|net| {
        for family in 0..2 {
            let mut rig = Rig::<B>::at(NEAR[family]);
            for (place, ip) in [("router", ROUTER[family]), ("far", FAR[family])] {
                let (node, at) = net.within(place, || peer(ip));
                rig.connect(&[at]);
                for length in [1_300, 1_472, 5_000, 20_000, 65_507] {
                    let bytes: Vec<_> = (0..length).map(|at| (at % 251) as u8).collect();
                    // A router cuts IPv4 only: the first long one of IPv6 is lost, and teaches the path.
                    let learns = family == 1 && place == "far" && length == 1_300;
                    if learns {
                        let before = rig.path.counts().icmp;
                        rig.send_one(&bytes, WORKER, PeerId(0), at);
                        for _ in 0..200 {
                            rig.path.recv(&mut rig.batch, Some(PATIENCE / 200)).unwrap();
                            if rig.path.counts().icmp > before {
                                break;
                            }
                        }
                        assert!(rig.path.counts().icmp > before);
                        assert!(rig.batch.events.is_empty(), "the next one is cut to fit: no trouble of the peer");
                    }
                    for (port, index) in [(WORKER, PeerId(0)), (LISTENER, PeerId::NONE)] {
                        rig.send_one(&bytes, port, index, at);
                        let (back, from) = next(&node);
                        assert!(back == bytes && from == rig.local(port), "{length} bytes to {at}");
                        node.send_to(&back[..1_200], from).unwrap();
                        assert_eq!(rig.recv(1), [(port, at, bytes[..1_200].to_vec())]);
                    }
                    if place == "router" {
                        node.send_to(&bytes, rig.local(LISTENER)).unwrap();
                        assert_eq!(rig.recv(1), [(LISTENER, at, bytes)]);
                    }
                }
            }
            assert_eq!(rig.path.counts().send_errors.sum(), 0);
        }
    });
}

fn a_full_socket_loses_what_it_cannot_take_and_counts_it<B: Backend>() {
    near(|_| {
        let mut options = options(&NEAR[..1]);
        options.send_buffer = 16 << 10;
        let mut rig = Rig::<B>::new(&options);
        // Nobody answers for this address: datagrams wait for a neighbour and fill the socket.
        let silent: SocketAddr = "10.11.1.99:5060".parse().unwrap();
        for _ in 0..200 {
            rig.put(&[7; 1_000], LISTENER, PeerId::NONE, silent);
        }
        rig.send();
        let counts = *rig.path.counts();
        assert!(counts.send_errors.full > 100, "{counts:?}");
        assert_eq!(counts.sent + counts.send_errors.full, 200);
        assert!(counts.syscalls <= 3, "no try for each: {}", counts.syscalls);
        assert!(rig.batch.events.is_empty());
    });
}

fn a_host_that_is_gone_is_told_from_every_kind_of_socket<B: Backend>() {
    near(|net| {
        net.write("near", "net/ipv4/neigh/near0/retrans_time_ms", "20");
        net.write("near", "net/ipv6/neigh/near0/retrans_time_ms", "20");
        for (family, ip) in ["10.11.1.99", "fd11:1::99"].into_iter().enumerate() {
            let mut rig = Rig::<B>::at(NEAR[family]);
            let gone = SocketAddr::new(ip.parse().unwrap(), 5060);
            rig.connect(&[gone]);
            for (port, index) in [(LISTENER, PeerId::NONE), (WORKER, PeerId(0))] {
                rig.send_one(b"anybody?", port, index, gone);
                assert_eq!(rig.events(1), [Event { port, to: gone, trouble: Trouble::Unreachable }]);
            }
        }
    });
}

fn a_destination_without_a_route_is_told_and_counted_and_one_forbidden_here_only_counted<B: Backend>() {
    near(|net| {
        for command in [
            "ip -n @near route add unreachable 198.51.100.0/24",
            "ip -n @near route add prohibit 203.0.113.0/24",
            "ip -n @near -6 route add unreachable 2001:db8:1::/48",
            "ip -n @near -6 route add prohibit 2001:db8:2::/48",
        ] {
            assert!(run(&command.replace('@', &net.name)), "{command}");
        }
        let nowhere = [("198.51.100.1", "203.0.113.1"), ("2001:db8:1::1", "2001:db8:2::1")];
        for (family, (unreachable, forbidden)) in nowhere.into_iter().enumerate() {
            let mut rig = Rig::<B>::at(NEAR[family]);
            let (node, at) = net.within("router", || peer(ROUTER[family]));
            let [unreachable, forbidden] =
                [unreachable, forbidden].map(|ip| SocketAddr::new(ip.parse().unwrap(), 5060));
            rig.put(b"x", LISTENER, PeerId::NONE, unreachable);
            rig.put(b"x", LISTENER, PeerId::NONE, forbidden);
            rig.put(b"fine", LISTENER, PeerId::NONE, at);
            rig.send();
            assert_eq!(next(&node).0, b"fine");
            let counts = *rig.path.counts();
            assert_eq!(
                (counts.sent, counts.send_errors.unreachable, counts.send_errors.other),
                (1, 1, 1),
                "{counts:?}"
            );
            assert_eq!(rig.events(1), [Event { port: LISTENER, to: unreachable, trouble: Trouble::Unreachable }]);
        }
    });
}

/// Sends messages of these lengths to a node and to a client at `at`, and checks that all arrive.
fn cross<B: Backend>(rig: &mut Rig<B>, node: &UdpSocket, at: SocketAddr, lens: &[usize]) {
    for (port, peer) in [(WORKER, PeerId(0)), (LISTENER, PeerId::NONE)] {
        let sent: Vec<_> =
            lens.iter().enumerate().map(|(number, len)| message(number as u64 + 1, number, *len)).collect();
        sent.iter().for_each(|message| rig.put_message(message, true, Egress { port, peer, to: at }));
        rig.send();
        check(node, &sent);
    }
}

fn long_messages_travel_in_fragments_beside_trains<B: Backend>() {
    near(|net| {
        for family in 0..2 {
            let mut rig = Rig::<B>::trains(NEAR[family]);
            let (node, at) = net.within("router", || peer(ROUTER[family]));
            rig.connect(&[at]);
            let lens: Vec<usize> =
                (0..30).map(|number| [1_380 + number * 5, 1_430 + number, 600 + number, 3_000][number % 4]).collect();
            cross(&mut rig, &node, at, &lens);
            let counts = *rig.path.counts();
            assert_eq!((counts.sent, counts.send_errors.sum(), counts.trains_refused), (60, 0, 0), "{counts:?}");
            let long = lens.iter().filter(|len| **len > [1_472, 1_452][family]).count() as u64;
            assert_eq!(counts.fragmented, 2 * long);
            assert!(counts.trains >= 4 && counts.train_datagrams + counts.fragmented <= 60, "{counts:?}");
        }
    });
}

fn a_narrow_path_is_learned_by_one_refused_train<B: Backend>() {
    near(|net| {
        for family in 0..2 {
            for command in ["ip -n @near link set near0 mtu 1280", "ip -n @router link set near1 mtu 1280"] {
                assert!(run(&command.replace('@', &net.name)), "{command}");
            }
            let mut rig = Rig::<B>::trains(NEAR[family]);
            let (node, at) = net.within("router", || peer(ROUTER[family]));
            rig.connect(&[at]);
            let lens: Vec<usize> = (0..20).map(|number| [1_300, 800][number % 2] + number).collect();
            cross(&mut rig, &node, at, &lens);
            let before = *rig.path.counts();
            assert_eq!((before.sent, before.send_errors.sum(), before.trains_refused), (40, 0, 1), "{before:?}");
            cross(&mut rig, &node, at, &lens);
            let counts = *rig.path.counts();
            assert_eq!((counts.sent, counts.send_errors.sum(), counts.trains_refused), (80, 0, 1), "{counts:?}");
            assert_eq!(counts.train_datagrams - before.train_datagrams, 20, "the short ones");
        }
    });
}

fn a_device_without_segmentation_offload_carries_trains<B: Backend>() {
    near(|net| {
        net.offload("near", "near0", "tx-udp-segmentation off");
        net.offload("near", "near0", "tx-checksum-ip-generic off");
        for family in 0..2 {
            let mut rig = Rig::<B>::trains(NEAR[family]);
            let (node, at) = net.within("router", || peer(ROUTER[family]));
            rig.connect(&[at]);
            for _ in 0..2 {
                cross(&mut rig, &node, at, &(400..430).collect::<Vec<_>>());
            }
            let counts = *rig.path.counts();
            // A kernel that wants a device to make checksums refuses one train a socket.
            assert_eq!((counts.sent, counts.send_errors.sum()), (120, 0), "{counts:?}");
            assert!(counts.trains == 4 || counts.trains_refused == 2, "{counts:?}");
        }
    });
}

fn where_trains_are_forbidden_and_datagrams_are_not_all_arrive_and_trains_end<B: Backend>() {
    near(|net| {
        for command in [
            "ip netns exec @near nft add table inet guard",
            "ip netns exec @near nft add chain inet guard out { type filter hook output priority 0 ; }",
            "ip netns exec @near nft add rule inet guard out meta length > 1500 drop",
        ] {
            assert!(run(&command.replace('@', &net.name)), "{command}: apt-get install nftables");
        }
        let mut rig = Rig::<B>::trains(NEAR[0]);
        let (node, at) = net.within("router", || peer(ROUTER[0]));
        rig.connect(&[at]);
        for _ in 0..40 {
            cross(&mut rig, &node, at, &(400..420).collect::<Vec<_>>());
        }
        let counts = *rig.path.counts();
        assert_eq!((counts.sent, counts.send_errors.sum(), counts.trains), (1_600, 0, 0), "{counts:?}");
        assert!((16..=32).contains(&counts.trains_refused), "two sockets gave up: {counts:?}");
    });
}

fn a_full_socket_counts_every_datagram_of_the_trains_that_it_cannot_take<B: Backend>() {
    near(|_| {
        let mut options = Options { trains: true, ..options(&NEAR[..1]) };
        options.send_buffer = 16 << 10;
        let mut rig = Rig::<B>::new(&options);
        // Nobody answers for this address: datagrams wait for a neighbour and fill the socket.
        let silent: SocketAddr = "10.11.1.99:5060".parse().unwrap();
        rig.connect(&[silent]);
        for (port, peer) in [(PortId(0), PeerId::NONE), (WORKER, PeerId(0))] {
            let before = *rig.path.counts();
            for number in 0..200 {
                rig.put_message(&message(number as u64 + 1, number, 900), true, Egress { port, peer, to: silent });
            }
            rig.send();
            let counts = *rig.path.counts();
            let (sent, full) = (counts.sent - before.sent, counts.send_errors.full - before.send_errors.full);
            assert!(full > 0 && sent + full == 200, "{counts:?}");
            assert_eq!(counts.train_datagrams - before.train_datagrams, sent);
        }
    });
}
