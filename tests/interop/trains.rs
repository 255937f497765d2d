//! What a balancer sends in trains is, but for the filler in its own Via, what it sends without them.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use crate::harness::balancer::{Balancer, Counters, sum};
use crate::harness::lab::Core;
use crate::harness::message::Message;
use crate::harness::spec::{Node, Spec};
use crate::harness::sys::{self, Signal};
use crate::harness::{turn, wait_until};

const LIMIT: Duration = Duration::from_secs(20);
const CALLS: usize = 80;
const EACH: usize = 3;

struct Scene {
    balancer: Balancer,
    edge: SocketAddr,
    client: UdpSocket,
    nodes: Vec<UdpSocket>,
}

/// What came of a burst: requests by node and responses, in order of arrival, and the counters.
struct Seen {
    requests: Vec<Vec<(Vec<u8>, SocketAddr)>>,
    responses: Vec<Vec<u8>>,
    counters: Counters,
}

impl Scene {
    /// The balancer stands still while `work` fills its sockets: all of it is there when it goes on.
    fn at_once(&mut self, work: impl FnOnce(&Self)) {
        let id = self.balancer.process().id();
        self.balancer.process().signal(Signal::Stop);
        assert!(wait_until(LIMIT, || sys::has_stopped(id).unwrap()), "it does not stop");
        work(self);
        self.balancer.process().signal(Signal::Continue);
    }

    /// Requests of many calls to the nodes, all at once, and their responses, all at once.
    fn burst(&mut self) -> Seen {
        let from = self.client.local_addr().unwrap();
        self.at_once(|scene| {
            for number in 0..CALLS * EACH {
                scene.client.send_to(&request(number, from, scene.edge), scene.edge).unwrap();
            }
        });
        let requests: Vec<_> = self.nodes.iter().map(|_| Vec::new()).collect();
        let requests = gather(&self.nodes, requests, CALLS * EACH);
        self.at_once(|scene| {
            for (node, got) in scene.nodes.iter().zip(&requests) {
                for (bytes, source) in got {
                    let request = Message::parse(bytes).unwrap();
                    node.send_to(&Message::response(&request, 200, "OK", "n").bytes(), source).unwrap();
                }
            }
        });
        let responses = gather(std::slice::from_ref(&self.client), vec![Vec::new()], CALLS * EACH);
        let responses = responses.into_iter().flatten().map(|(bytes, _)| bytes).collect();
        Seen { requests, responses, counters: self.balancer.counters() }
    }
}

/// Datagrams of all `sockets`, until there are `count`.
fn gather(
    sockets: &[UdpSocket],
    mut got: Vec<Vec<(Vec<u8>, SocketAddr)>>,
    count: usize,
) -> Vec<Vec<(Vec<u8>, SocketAddr)>> {
    let mut room = vec![0; 66_000];
    let complete = wait_until(LIMIT, || {
        for (socket, got) in sockets.iter().zip(&mut got) {
            while let Ok((len, source)) = socket.recv_from(&mut room) {
                got.push((room[..len].to_vec(), source));
            }
        }
        got.iter().map(Vec::len).sum::<usize>() >= count
    });
    assert!(complete, "{:?} of {count} came", got.iter().map(Vec::len).collect::<Vec<_>>());
    got
}

/// One of the requests of a call, of another length each.
fn request(number: usize, from: SocketAddr, edge: SocketAddr) -> Vec<u8> {
    let (call, cseq) = (number % CALLS, number / CALLS + 1);
    let body = "x".repeat([300, 20, 60][cseq % EACH] + number * 7 % 31);
    format!(
        "MESSAGE sip:bob@{edge} SIP/2.0\r\nVia: SIP/2.0/UDP {from};branch=z9hG4bK-{number};rport\r\nMax-Forwards: 70\r\n\
         From: <sip:alice@example.net>;tag=a{call}\r\nTo: <sip:bob@example.net>\r\nCall-ID: {call}@example.net\r\n\
         CSeq: {cseq} MESSAGE\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// A request without the filler in its top Via.
fn stripped(bytes: &[u8]) -> Vec<u8> {
    let at = bytes.windows(7).position(|window| window == b";rport\r" || window == b";rport;").unwrap() + 6;
    let filler = bytes[at..].iter().take_while(|byte| **byte != b'\r').count();
    assert!(filler == 0 || bytes[at..].starts_with(b";x") && filler <= 68);
    [&bytes[..at], &bytes[at + filler..]].concat()
}

fn of_one_node(seen: &[(Vec<u8>, SocketAddr)]) -> Vec<Vec<u8>> {
    let mut last = std::collections::HashMap::new();
    for (bytes, _) in seen {
        let message = Message::parse(bytes).unwrap();
        let (cseq, _) = message.cseq();
        let before = last.insert(message.call_id().to_owned(), cseq).unwrap_or(0);
        assert_eq!(cseq, before + 1, "in order within {}", message.call_id());
    }
    let mut sorted: Vec<_> = seen.iter().map(|(bytes, _)| stripped(bytes)).collect();
    sorted.sort();
    sorted
}

fn trains_change_nothing_but_the_filler(datapath: &str) {
    let _turn = turn();
    let core = Core::new();
    let at = |net, host| SocketAddr::new(core.address(net, host), 5060);
    let (edge, node_side) = (at(0, 1), at(1, 1));
    let nodes: Vec<_> = (1..=3).map(|host| at(2, host)).collect();
    let listed = (0..).zip(&nodes).map(|(number, at)| Node::new(format!("n{number}"), *at));
    let spec = Spec::new(edge, node_side).nodes(listed).datapath(datapath);
    let socket = |at| {
        let socket = core.place().socket(at);
        socket.set_nonblocking(true).unwrap();
        socket
    };
    let balancer = Balancer::start(&core.place(), &spec.clone().tuning("trains = false"));
    let (client, nodes) = (socket(at(3, 1)), nodes.into_iter().map(socket).collect());
    let mut scene = Scene { balancer, edge, client, nodes };
    let plain = scene.burst();
    assert_eq!(sum(&plain.counters, &["trains_sent"]) + sum(&plain.counters, &["padding_bytes"]), 0);
    scene.balancer.kill();
    scene.balancer.start_again(&spec);
    let trains = scene.burst();
    let count = |name: &str| sum(&trains.counters, &[name]);
    assert!(count("train_datagrams") > CALLS as u64 * 3, "{:#?}", trains.counters);
    assert!(count("padding_bytes") > 0 && count("trains_refused") == 0, "{:#?}", trains.counters);
    assert_eq!((count("send_error"), count("books_wrong")), (0, 0));
    for (plain, trains) in plain.requests.iter().zip(&trains.requests) {
        assert!(of_one_node(plain) == of_one_node(trains), "the same requests to each node");
    }
    let [plain, trains] = [plain.responses, trains.responses].map(|mut responses| {
        responses.sort();
        responses
    });
    assert!(plain == trains, "the same responses to the client");
    assert!(trains.iter().all(|response| !response.windows(3).any(|window| window == b";x=")));
}

#[test]
fn trains_over_uring_change_nothing_but_the_filler() {
    trains_change_nothing_but_the_filler("uring");
}

#[test]
fn trains_over_plain_sockets_change_nothing_but_the_filler() {
    trains_change_nothing_but_the_filler("mmsg");
}
