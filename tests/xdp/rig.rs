//! A balancer over AF_XDP between a client and a node, and the books it must keep.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

use crate::harness::balancer::{Balancer, Counters, sum};
use crate::harness::lab::Path;
use crate::harness::namespace::Namespace;
use crate::harness::spec::{Node, Spec};
use crate::harness::wait_until;

const LIMIT: Duration = Duration::from_secs(10);

/// `cpus.toml` of a balancer over both interfaces, with further lines of `[xdp]`. What stands before `---` is put in front
/// of that table.
pub(crate) fn tuning(further: &str) -> String {
    let (before, further) = further.split_once("---").unwrap_or(("", further));
    format!("{before}datapath = \"xdp\"\n[xdp]\ninterfaces = [\"edge\", \"nodes\"]\nframes = 16384\n{further}")
}

/// A client, a balancer and a node with sockets of their own.
pub(crate) struct Rig {
    pub(crate) balancer: Balancer,
    pub(crate) path: Path,
    pub(crate) client: UdpSocket,
    pub(crate) node: UdpSocket,
    pub(crate) edge: SocketAddr,
    calls: u32,
}

impl Rig {
    pub(crate) fn new(queues: u16, v6: bool, further: &str) -> Self {
        Self::over(Path::with_queues(queues), queues, |host, port| Path::at(v6, host, port), further)
    }

    /// Over a network of which `at` tells the addresses, by net and host number.
    pub(crate) fn over(path: Path, workers: u16, at: impl Fn(&str, u16) -> SocketAddr, further: &str) -> Self {
        let (edge, node_at) = (at("1.1", 5060), at("2.2", 5060));
        let spec = Spec::new(edge, at("2.1", 5060)).nodes([Node::new("node0", node_at)]).workers(workers);
        let balancer = Balancer::start(&path.middle(), &spec.tuning(&tuning(further)));
        let (client, node) = (path.client().socket(at("1.2", 5090)), path.node().socket(node_at));
        [&client, &node].into_iter().for_each(|socket| socket.set_read_timeout(Some(LIMIT)).unwrap());
        Self { balancer, path, client, node, edge, calls: 0 }
    }

    /// A request of some length through the balancer and its answer back; both must come whole. The answer is as long.
    pub(crate) fn exchange(&mut self, body: usize) {
        assert!(
            self.try_exchange(body, LIMIT),
            "a request or its answer did not come; {}",
            self.balancer.process().said()
        );
    }

    /// The same, if both come within `limit` each.
    pub(crate) fn try_exchange(&mut self, body: usize, limit: Duration) -> bool {
        self.calls += 1;
        let (call, from) = (self.calls, self.client.local_addr().unwrap());
        let body: String = (0..body).map(|at| char::from(b'a' + ((at + call as usize) % 26) as u8)).collect();
        let request = format!(
            "MESSAGE sip:bob@{} SIP/2.0\r\nVia: SIP/2.0/UDP {from};branch=z9hG4bK{call};rport\r\nMax-Forwards: 70\r\n\
             From: <sip:alice@example.com>;tag={call}\r\nTo: <sip:bob@example.com>\r\nCall-ID: {call}@example.com\r\n\
             CSeq: 1 MESSAGE\r\nContent-Length: {}\r\n\r\n{body}",
            self.edge,
            body.len(),
        );
        self.client.send_to(request.as_bytes(), self.edge).unwrap();
        let Some((asked, source)) = receive(&self.node, limit, call) else { return false };
        assert!(asked.starts_with("MESSAGE ") && asked.ends_with(&format!("\r\n\r\n{body}")), "{asked}");
        let (_, headers) = asked.split_once("\r\n").unwrap();
        self.node.send_to(format!("SIP/2.0 200 OK\r\n{headers}").as_bytes(), source).unwrap();
        let Some((answer, by)) = receive(&self.client, limit, call) else { return false };
        assert!(answer.starts_with("SIP/2.0 200 OK\r\n") && answer.ends_with(&format!("\r\n\r\n{body}")), "{answer}");
        assert_eq!(by, self.edge, "answers leave from where requests came in");
        true
    }

    /// Exchanges until none takes the slow path any more: the next hops are known.
    pub(crate) fn warm_up(&mut self) {
        let done = wait_until(LIMIT, || {
            let before = self.counters();
            self.exchange(100);
            sum(&self.counters(), &["slow_sent"]) == sum(&before, &["slow_sent"])
        });
        assert!(done, "next hops did not become known; {:#?}", self.counters());
    }

    /// The counters of all workers, once they stand still: they are written after what they count was sent.
    pub(crate) fn counters(&mut self) -> Counters {
        let mut last = self.balancer.counters();
        let still = wait_until(LIMIT, || {
            let next = self.balancer.counters();
            next == std::mem::replace(&mut last, next.clone())
        });
        assert!(still, "the counters never stand still: {last:#?}");
        last
    }

    /// Counted since `before`.
    pub(crate) fn since(&mut self, before: &Counters, name: &str) -> u64 {
        sum(&self.counters(), &[name]) - sum(before, &[name])
    }

    /// Waits until all frames are accounted for, and checks the rest of the books.
    pub(crate) fn balanced(&mut self) -> Counters {
        balanced(&mut self.balancer)
    }
}

/// Waits until all frames of a balancer are accounted for, and checks the rest of its books.
pub(crate) fn balanced(balancer: &mut Balancer) -> Counters {
    let state = |counters: &Counters, state: &str| sum(counters, &["sipring_frames{", &format!("kind=\"{state}\"")]);
    let mut last = Counters::new();
    let exact = wait_until(LIMIT, || {
        last = balancer.counters();
        let [all, lent, kept, stock] = ["all", "lent", "kept", "stock"].map(|name| state(&last, name));
        all > 0 && all == lent + kept + stock
    });
    assert!(exact, "frames are missing: {last:#?}");
    assert_eq!(sum(&last, &["books_wrong"]), 0);
    assert_eq!(sum(&last, &["frames_invalid"]), 0);
    last
}

fn receive(socket: &UdpSocket, limit: Duration, call: u32) -> Option<(String, SocketAddr)> {
    socket.set_read_timeout(Some(limit)).unwrap();
    let mut bytes = vec![0; 66_000];
    loop {
        let (len, source) = socket.recv_from(&mut bytes).ok()?;
        let text = String::from_utf8(bytes[..len].to_vec()).unwrap();
        // Late answers of calls given up are passed over.
        if text.contains(&format!("Call-ID: {call}@")) {
            return Some((text, source));
        }
    }
}

/// Whether an echo request of `length` bytes from a namespace is answered.
pub(crate) fn ping(from: &Namespace, to: IpAddr, length: usize) -> bool {
    let v6 = to.is_ipv6();
    let (domain, protocol, request, answer) =
        if v6 { (Domain::IPV6, Protocol::ICMPV6, 128, 129) } else { (Domain::IPV4, Protocol::ICMPV4, 8, 0) };
    let socket = from.place().inside(|| Socket::new(domain, Type::RAW, Some(protocol)).unwrap());
    socket.connect(&SocketAddr::new(to, 0).into()).unwrap();
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    let mut bytes = vec![request, 0, 0, 0, 0x25, 0x25, 0, 1];
    bytes.resize(8 + length, 0xa5);
    if !v6 {
        // Of IPv6 the kernel makes the sum.
        let sum: u32 = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
        let sum = !(((sum & 0xffff) + (sum >> 16)) as u16);
        bytes[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    (&socket).write_all(&bytes).unwrap();
    let end = Instant::now() + LIMIT;
    let mut came = vec![0; 9_000];
    while Instant::now() < end {
        let Ok(len) = (&socket).read(&mut came) else { return false };
        // Over IPv4 the header comes along.
        let told = &came[if v6 { 0 } else { 20 }..len];
        if told[0] == answer && told[4..6] == [0x25, 0x25] && told.len() == 8 + length {
            return true;
        }
    }
    false
}
