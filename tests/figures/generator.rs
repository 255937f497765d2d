//! A client and a node in one busy thread, over AF_XDP in the client's and the node's network: what loads a balancer
//! between them at little cost of its own. Closed loop: a window of requests is under way, each is answered.

use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sipring::datapath::{Batch, Bypass, Datapath, Options, Waker, Xdp, XdpMode, XdpOptions};
use sipring::packet::{
    Device, Egress, Hops, LocalPort, Mac, Neighbour, Outbox, Packet, PeerId, Pool, PoolOptions, PortId, PortRole,
    Route, Sent,
};

use crate::harness::lab::Path;
use crate::harness::namespace::Namespace;

const BATCH: usize = 64;
/// Frames of both ends.
const FRAMES: u32 = 16_384;
const PORT: PortId = PortId(0);
/// Without an answer for so long, what is under way is lost.
const SILENCE: Duration = Duration::from_secs(2);
const OK: &[u8] = b"SIP/2.0 200 OK\r\n";

/// What came of a load.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) requests: u64,
    /// Requests that reached the node.
    pub(crate) arrived: u64,
    /// Answers that reached the client.
    pub(crate) answers: u64,
    pub(crate) seconds: f64,
}

/// Number and Ethernet address of a link.
fn link(namespace: &Namespace, name: &str) -> (u32, Mac) {
    let shown = Command::new("ip").args(["-n", namespace.name(), "-o", "link", "show", "dev", name]).output();
    let shown = String::from_utf8(shown.unwrap().stdout).unwrap();
    let (number, rest) = shown.split_once(':').unwrap();
    let mac = rest.split_once("link/ether ").unwrap().1.split_whitespace().next().unwrap();
    let mac: Vec<u8> = mac.split(':').map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect();
    (number.parse().unwrap(), mac.try_into().unwrap())
}

/// One end: a port at a link, next to the balancer's end of it.
struct End {
    path: Xdp,
    batch: Batch,
    out: Outbox,
    _bypass: Bypass,
}

impl End {
    fn open(
        own: &Namespace,
        other: (&Namespace, &str),
        at: SocketAddr,
        peer: IpAddr,
        (frames, pool): (&'static Pool, &'static Pool),
    ) -> Self {
        let (number, mac) = link(own, "wan");
        let peer_mac = link(other.0, other.1).1;
        let xdp = XdpOptions {
            interfaces: vec!["wan".to_owned()],
            queues: vec![0],
            frames: FRAMES / 2,
            busy_poll_us: 0,
            dscp: 0,
            zero_copy: false,
            mode: XdpMode::Native,
        };
        let ports = vec![LocalPort { bind: at, role: PortRole::Worker { index: 0 } }];
        let options = Options { ports, ..Options::default() };
        let (mut path, bypass) = own.place().inside(|| {
            let (bypass, lanes) = Bypass::open(&xdp, &[at], &[frames]).unwrap();
            let lane = lanes.into_iter().next().unwrap();
            (Xdp::open(&options, &xdp, lane, pool, Waker::new().unwrap()).unwrap(), bypass)
        });
        let route = Route { to: peer, prefix: 0, metric: 0, via: None, device: number };
        let device = Device { index: number, interface: number, mac, mtu: 1_500, tags: Vec::new() };
        let neighbour = Neighbour { device: number, ip: peer, mac: peer_mac };
        path.apply_hops(&Arc::new(Hops::new(vec![device], vec![route], vec![neighbour])));
        Self { path, batch: Batch::new(BATCH), out: Outbox::new(pool, BATCH), _bypass: bypass }
    }

    /// What came in, without waiting.
    fn receive(&mut self) -> usize {
        self.batch.clear();
        self.path.recv(&mut self.batch, Some(Duration::ZERO)).unwrap();
        self.batch.packets.len()
    }

    fn put(&mut self, packet: Packet, to: SocketAddr) {
        let egress = Egress { port: PORT, peer: PeerId::NONE, to };
        assert!(self.out.decided(packet, egress, Sent::Forwarded).is_ok(), "a batch has room");
    }

    fn send(&mut self) {
        self.path.send(&mut self.out);
        assert_eq!(self.path.counts().send_errors.sum(), 0);
    }
}

/// Client and node.
pub(crate) struct Generator {
    client: End,
    node: End,
    edge: SocketAddr,
    request: Vec<u8>,
    /// Where the number of a request stands in it.
    numbers: Vec<usize>,
    next: u64,
}

impl Generator {
    /// At both sides of a balancer whose listener is at `edge`; requests of about `length` bytes.
    pub(crate) fn new(path: &Path, length: usize) -> Self {
        let [client, middle, node] = path.namespaces();
        let at = |host: &str, port: u16| Path::at(false, host, port);
        let edge = at("1.1", 5060);
        let text = format!(
            "MESSAGE sip:bob@example.com SIP/2.0\r\nVia: SIP/2.0/UDP {};branch=z9hG4bK@@@@@@@@@@@@@@@@;rport\r\n\
             Max-Forwards: 70\r\nFrom: \"Alice\" <sip:alice@example.com>;tag=@@@@@@@@@@@@@@@@\r\n\
             To: <sip:bob@example.com>\r\nCall-ID: @@@@@@@@@@@@@@@@-load@example.com\r\nCSeq: 1 MESSAGE\r\n\
             User-Agent: load\r\nContent-Type: text/plain\r\n",
            at("1.2", 5090)
        );
        let body = length.saturating_sub(text.len() + 24);
        let request = format!("{text}Content-Length: {body}\r\n\r\n{}", "x".repeat(body)).into_bytes();
        let numbers = request.windows(16).enumerate().filter(|(_, part)| *part == [b'@'; 16]).map(|(at, _)| at);
        // One thread keeps free slots of one region only, so both ends share theirs.
        let frames = Pool::frames(&PoolOptions { slots: FRAMES, threads: 2 }).unwrap();
        let pools = (frames, Pool::new(&PoolOptions { slots: 512, threads: 2 }).unwrap());
        Self {
            client: End::open(client, (middle, "edge"), at("1.2", 5090), edge.ip(), pools),
            node: End::open(node, (middle, "nodes"), at("2.2", 5060), at("2.1", 0).ip(), pools),
            edge,
            numbers: numbers.collect(),
            request,
            next: 0,
        }
    }

    /// Sends `requests`, `window` of them under way at a time, until all are answered or no answer comes any more.
    pub(crate) fn run(&mut self, requests: u64, window: u64) -> Outcome {
        let begin = Instant::now();
        let mut outcome = Outcome::default();
        let mut last = begin;
        while outcome.answers < requests {
            let under_way = outcome.requests - outcome.answers;
            let burst = (window.saturating_sub(under_way)).min(requests - outcome.requests).min(BATCH as u64);
            for _ in 0..burst {
                self.ask();
            }
            if burst > 0 {
                self.client.send();
                outcome.requests += burst;
            }
            outcome.arrived += self.answer();
            let came = self.client.receive();
            let right = self.client.batch.packets.iter().filter(|packet| packet.bytes().starts_with(OK)).count();
            assert_eq!(came, right, "answers of another kind");
            outcome.answers += right as u64;
            if right > 0 {
                last = Instant::now();
            } else if last.elapsed() > SILENCE {
                break;
            }
        }
        outcome.seconds = begin.elapsed().as_secs_f64();
        outcome
    }

    fn ask(&mut self) {
        let mut packet = self.client.path.take().expect("a free frame");
        assert!(packet.replace(&self.request));
        let number = format!("{:016x}", self.next.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        for at in &self.numbers {
            packet.bytes_mut()[*at..at + 16].copy_from_slice(number.as_bytes());
        }
        self.next += 1;
        self.client.put(packet, self.edge);
    }

    fn answer(&mut self) -> u64 {
        let came = self.node.receive();
        for mut packet in std::mem::take(&mut self.node.batch.packets) {
            let line = packet.bytes().iter().position(|byte| *byte == b'\n').expect("a line") + 1;
            let to = packet.source;
            assert!(packet.cut_out(0, line) && packet.put_in(0, OK));
            self.node.put(packet, to);
        }
        if came > 0 {
            self.node.send();
        }
        came as u64
    }
}
