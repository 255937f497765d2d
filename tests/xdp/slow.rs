//! What does not fit a frame, and what is not ours.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use crate::harness::balancer::sum;
use crate::harness::lab::Path;
use crate::harness::namespace::Namespace;
use crate::harness::{size, turn, wait_until};
use crate::rig::{Rig, ping, tuning};

#[test]
fn what_is_longer_than_a_frame_arrives_in_fragments_and_leaves_in_fragments() {
    let _turn = turn();
    let path = Path::new();
    for v6 in [false, true] {
        let (rows, counters) = size::family(&path, v6, &tuning(""));
        rows.iter().for_each(|row| assert!(row.there && row.back, "{row}"));
        let of = |name: &str| sum(&counters, &[name]);
        assert!(of("slow_received") > 0 && of("slow_sent") > 0, "{counters:#?}");
        assert!(of("sipring_datagrams_received{") > of("slow_received"), "short ones still come in frames");
    }
}

#[test]
fn a_message_that_grows_over_the_mtu_takes_the_slow_path_and_one_that_came_by_it_may_leave_in_a_frame() {
    let _turn = turn();
    for v6 in [false, true] {
        let mut rig = Rig::new(1, v6, "");
        rig.warm_up();
        let before = rig.counters();
        // Some come in one piece and leave in two, some come in two and leave in two; answers the other way round.
        for body in (1_000..1_500).step_by(10) {
            rig.exchange(body);
        }
        assert!(rig.since(&before, "slow_sent") > 0);
        assert!(rig.since(&before, "slow_received") > 0);
        assert!(rig.since(&before, "packets_copied") > 0, "answers that came in two pieces and left in one");
        assert_eq!(rig.since(&before, "next_hop_unknown"), 0);
        rig.balanced();
    }
}

#[test]
fn other_ports_and_protocols_are_the_kernels() {
    let _turn = turn();
    for v6 in [false, true] {
        let mut rig = Rig::new(1, v6, "");
        rig.warm_up();
        let before = rig.counters();
        let [client, middle, _] = rig.path.namespaces();
        let at = |host: &str, port: u16| Path::at(v6, host, port);

        let address = at("1.1", 0).ip();
        assert!(ping(client, address, 56) && ping(client, address, 4_000));

        let (here, there) = (middle.place().socket(at("1.1", 5999)), client.place().socket(at("1.2", 5999)));
        here.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        there.send_to(b"another port", at("1.1", 5999)).unwrap();
        let mut bytes = [0; 100];
        assert_eq!(here.recv_from(&mut bytes).unwrap(), (12, at("1.2", 5999)));

        let listener = middle.place().inside(|| TcpListener::bind(at("1.1", 5060)).unwrap());
        let mut stream = client.place().inside(|| TcpStream::connect(at("1.1", 5060)).unwrap());
        stream.write_all(b"the same port over TCP").unwrap();
        let (mut accepted, _) = listener.accept().unwrap();
        assert_eq!(accepted.read(&mut bytes).unwrap(), 22);

        rig.exchange(100);
        assert_eq!(rig.since(&before, "sipring_datagrams_received{"), 2, "nothing but the exchange");
        assert_eq!(rig.since(&before, "frames_foreign"), 0);
        rig.balanced();
    }
}

#[test]
fn a_nodes_icmp_errors_come_back_by_the_slow_path() {
    let _turn = turn();
    let mut rig = Rig::new(1, false, "");
    rig.warm_up();
    let before = rig.counters();
    // Nobody listens there any more.
    rig.node = rig.path.node().socket(Path::at(false, "2.2", 5999));
    assert!(!rig.try_exchange(100, Duration::from_millis(300)));
    let told = wait_until(Duration::from_secs(5), || rig.since(&before, "icmp_errors") > 0);
    assert!(told, "{:#?}", rig.counters());
    assert_eq!(rig.since(&before, "slow_sent"), 0, "what was refused had left in a frame");
    rig.balanced();
}

#[test]
fn a_path_that_asks_for_smaller_packets_gets_fragments_over_ipv6() {
    let _turn = turn();
    let path = Path::new();
    // The client moves behind a router with a narrow link; balancer and router speak over the old one.
    let [router, middle, _] = path.namespaces();
    let phone = Namespace::new("phone");
    phone.link("wan", router, "narrow");
    for (namespace, link) in [(&phone, "wan"), (router, "narrow")] {
        namespace.ip(&format!("link set {link} mtu 1300"));
    }
    phone.address("wan", "fd79:3::2/64");
    router.address("narrow", "fd79:3::1/64");
    phone.ip("route add default via fd79:3::1");
    router.run("sh", &["-c", "echo 1 > /proc/sys/net/ipv6/conf/all/forwarding"]);
    middle.ip("route add fd79:3::/64 via fd79:1::2");
    let mut rig = Rig::over(path, 1, |host, port| Path::at(true, host, port), "");
    rig.client = phone.place().socket("[fd79:3::2]:5090".parse().unwrap());
    rig.warm_up();
    // Comes in fragments, and its answer leaves in one piece, which does not fit.
    let came = wait_until(Duration::from_secs(10), || rig.try_exchange(1_060, Duration::from_millis(300)));
    assert!(came, "{:#?}", rig.counters());
    let before = rig.counters();
    (0..5).for_each(|_| rig.exchange(1_060));
    assert_eq!(rig.since(&before, "icmp_errors"), 0, "once is enough");
    assert!(rig.since(&before, "slow_sent") >= 5, "{:#?}", rig.counters());
    rig.balanced();
}
