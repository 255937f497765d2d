//! A datapath on free ports, with what a worker drives it by; peers on loopback.
//!
//! The behaviours are generic over [`Backend`]; `over_both!` makes two tests of each.

use std::collections::BTreeSet;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::thread;
use std::time::Duration;

use sipring::datapath::{Batch, Datapath, Mmsg, Options, Uring, Waker};
use sipring::packet::{Egress, Endpoints, Event, LocalPort, Outbox, PeerId, Pool, PoolOptions, PortId, PortRole, Sent};

/// A datapath over kernel sockets.
pub(crate) trait Backend: Datapath + std::fmt::Debug + Sized {
    /// System calls of a turn that sends to three nodes and, more than once, to a stranger.
    const CALLS_TO_FOUR: u64;
    /// System calls that receive 200 datagrams of one socket.
    const CALLS_FOR_200: std::ops::RangeInclusive<u64>;

    fn open(options: &Options, pool: &'static Pool, waker: Waker) -> io::Result<Self>;
    fn local(&self, port: PortId) -> Option<SocketAddr>;
}

impl Backend for Mmsg {
    const CALLS_TO_FOUR: u64 = 4;
    const CALLS_FOR_200: std::ops::RangeInclusive<u64> = 4..=4;

    fn open(options: &Options, pool: &'static Pool, waker: Waker) -> io::Result<Self> {
        Self::open(options, pool, waker)
    }

    fn local(&self, port: PortId) -> Option<SocketAddr> {
        self.local(port)
    }
}

impl Backend for Uring {
    /// One for all that is connected.
    const CALLS_TO_FOUR: u64 = 2;
    /// The kernel looks after the other sockets every 32 datagrams.
    const CALLS_FOR_200: std::ops::RangeInclusive<u64> = 1..=10;

    fn open(options: &Options, pool: &'static Pool, waker: Waker) -> io::Result<Self> {
        Self::open(options, pool, waker)
    }

    fn local(&self, port: PortId) -> Option<SocketAddr> {
        self.local(port)
    }
}

/// Makes a test over each datapath of every behaviour named.
macro_rules! over_both {
    ($($behaviour:ident)*) => {
        mod mmsg {
            $(#[test] fn $behaviour() { super::$behaviour::<sipring::datapath::Mmsg>(); })*
        }
        mod uring {
            $(#[test] fn $behaviour() { super::$behaviour::<sipring::datapath::Uring>(); })*
        }
    };
}
pub(crate) use over_both;

/// Longer than anything here takes, and far shorter than a hang.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
pub(crate) const LISTENER: PortId = PortId(0);
pub(crate) const WORKER: PortId = PortId(1);
pub(crate) const LOOPBACKS: [&str; 2] = ["127.0.0.1", "::1"];

/// A datapath and what a worker drives it with.
pub(crate) struct Rig<B: Backend> {
    pub(crate) path: B,
    pub(crate) out: Outbox,
    pub(crate) batch: Batch,
    pub(crate) pool: &'static Pool,
}

impl<B: Backend> Rig<B> {
    pub(crate) fn new(options: &Options) -> Self {
        Self::with_slots(options, 512)
    }

    pub(crate) fn with_slots(options: &Options, slots: u32) -> Self {
        let pool = Pool::new(&PoolOptions { slots, threads: 1 }).unwrap();
        let path = B::open(options, pool, Waker::new().unwrap()).unwrap();
        Self { path, out: Outbox::new(pool, 256), batch: Batch::new(256), pool }
    }

    /// A listener and a worker port on any free ports of an address.
    pub(crate) fn at(ip: &str) -> Self {
        Self::new(&options(&[ip]))
    }

    pub(crate) fn local(&self, port: PortId) -> SocketAddr {
        self.path.local(port).unwrap()
    }

    /// A connected peer that is there again, after a datagram to it was refused; of that the socket has not told yet.
    pub(crate) fn peer_that_was_away(&mut self, ip: &str) -> (UdpSocket, SocketAddr) {
        let (node, at) = peer(ip);
        self.connect(&[at]);
        drop(node);
        self.send_one(b"into the void", WORKER, PeerId(0), at);
        let node = UdpSocket::bind(at).unwrap();
        node.set_read_timeout(Some(PATIENCE)).unwrap();
        (node, at)
    }

    pub(crate) fn connect(&mut self, peers: &[SocketAddr]) {
        self.path.apply(&Endpoints { peers: peers.to_vec() });
    }

    pub(crate) fn put(&mut self, bytes: &[u8], port: PortId, peer: PeerId, to: SocketAddr) {
        let mut packet = self.path.take().unwrap();
        assert!(packet.replace(bytes));
        self.out.decided(packet, Egress { port, peer, to }, Sent::Forwarded).unwrap();
    }

    pub(crate) fn send(&mut self) {
        let before = self.path.counts().sent + self.path.counts().send_errors.sum();
        let outgoing = self.out.len() as u64;
        self.path.send(&mut self.out);
        let after = self.path.counts().sent + self.path.counts().send_errors.sum();
        assert_eq!(after - before, outgoing, "every packet is counted once");
        assert!(self.out.is_empty());
    }

    pub(crate) fn send_one(&mut self, bytes: &[u8], port: PortId, peer: PeerId, to: SocketAddr) {
        self.put(bytes, port, peer, to);
        self.send();
    }

    /// Receives until the batch satisfies `enough`.
    pub(crate) fn recv_until(&mut self, enough: impl Fn(&Batch) -> bool) {
        for _ in 0..200 {
            if enough(&self.batch) {
                return;
            }
            self.path.recv(&mut self.batch, Some(PATIENCE / 200)).unwrap();
        }
        panic!("waited in vain with {} packets and {:?}", self.batch.packets.len(), self.batch.events);
    }

    /// The next `count` datagrams: port, source, length.
    pub(crate) fn recv(&mut self, count: usize) -> Vec<(PortId, SocketAddr, Vec<u8>)> {
        self.recv_until(|batch| batch.packets.len() >= count);
        self.batch.packets.drain(..).map(|packet| (packet.port, packet.source, packet.bytes().to_vec())).collect()
    }

    pub(crate) fn events(&mut self, count: usize) -> Vec<Event> {
        self.recv_until(|batch| batch.events.len() >= count);
        self.batch.events.drain(..).collect()
    }
}

pub(crate) fn options(ips: &[&str]) -> Options {
    // Free of every other socket: of port 0, the kernel may make one that another rig shares.
    let any = |ip: &&str| dead(ip);
    let ports = ips.iter().flat_map(|ip| {
        let role = PortRole::Worker { index: 0 };
        [LocalPort { bind: any(ip), role: PortRole::Listener }, LocalPort { bind: any(ip), role }]
    });
    Options { ports: ports.collect(), receive_buffer: 1 << 20, send_buffer: 1 << 20, ..Options::default() }
}

pub(crate) fn peer(ip: &str) -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind(SocketAddr::new(ip.parse().unwrap(), 0)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

/// The next datagram of a peer: bytes and source.
pub(crate) fn next(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut bytes = vec![0; 66_000];
    let (len, source) = loop {
        match socket.recv_from(&mut bytes) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            received => break received.unwrap(),
        }
    };
    bytes.truncate(len);
    (bytes, source)
}

/// An address that refuses: a port that was free a moment ago.
pub(crate) fn dead(ip: &str) -> SocketAddr {
    peer(ip).1
}

/// Runs `work` in a network of its own, where root can make one: ICMP is rationed, and ports that
/// were free a moment ago are not, if others use them too.
pub(crate) fn alone(work: impl FnOnce() + Send) {
    let inside = move || {
        // SAFETY: only this thread leaves the network that it was in.
        if unsafe { libc::unshare(libc::CLONE_NEWNET) } == 0 {
            assert!(std::process::Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap().success());
            for (setting, value) in [("icmp_msgs_per_sec", "100000"), ("icmp_msgs_burst", "100000")] {
                let _ = std::fs::write(format!("/proc/sys/net/ipv4/{setting}"), value);
            }
            let _ = std::fs::write("/proc/sys/net/ipv6/icmp/ratelimit", "0");
        }
        work();
    };
    thread::scope(|scope| scope.spawn(inside).join()).unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}

/// How many sockets are connected from `local`, as the kernel lists them.
pub(crate) fn connected_from(local: SocketAddr) -> usize {
    let list = std::fs::read_to_string(if local.is_ipv4() { "/proc/net/udp" } else { "/proc/net/udp6" }).unwrap();
    let port = format!(":{:04X}", local.port());
    let peer = |line: &str| {
        let mut words = line.split_whitespace().skip(1);
        let from_here = words.next().is_some_and(|at| at.ends_with(&port));
        words.next().filter(|to| from_here && !to.ends_with(":0000")).map(str::to_owned)
    };
    // The list may repeat lines while others open and close sockets.
    list.lines().filter_map(peer).collect::<BTreeSet<_>>().len()
}
