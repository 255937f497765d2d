//! A door over AF_XDP at a veth link: any number of ports of one address, at less cost than a socket.
//!
//! Frames are built and read at fixed offsets; who is at the other end of the link is told, not asked for.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::process::Command;

use super::{Came, Door};
use crate::harness::namespace::Namespace;
use crate::xsk::{Frames, HEADERS, Headers, Xsk};

const FRAMES: u32 = 4_096;
/// Where a datagram that leaves begins in its frame.
const START: usize = 256;
const BATCH: u32 = 64;

/// A link in a namespace.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) mac: [u8; 6],
}

impl Link {
    pub(crate) fn of(namespace: &Namespace, name: &str) -> Self {
        let shown = Command::new("ip").args(["-n", namespace.name(), "-o", "link", "show", "dev", name]).output();
        let shown = String::from_utf8(shown.expect("ip").stdout).expect("text");
        let (index, rest) = shown.split_once(':').expect("a link");
        let mac = rest.split_once("link/ether ").and_then(|(_, rest)| rest.split_whitespace().next());
        let mac: Vec<u8> = mac.expect("an address").split(':').flat_map(|hex| u8::from_str_radix(hex, 16)).collect();
        Self { index: index.parse().expect("a number"), mac: mac.try_into().expect("six bytes") }
    }
}

pub(crate) struct Wire {
    // Closed before its frames go.
    socket: Xsk,
    frames: Frames,
    link: Link,
    peer: [u8; 6],
    at: Vec<SocketAddrV4>,
    /// Places of `at` by port.
    ports: Vec<u16>,
    came: Vec<(u64, usize)>,
    /// Headers of what left before, by place and destination.
    headers: HashMap<(usize, SocketAddr), Headers>,
    posted: bool,
}

impl Wire {
    /// At `link` of the calling thread's network, for ports of one IPv4 address; `peer` is at the other end.
    pub(crate) fn open(link: Link, peer: [u8; 6], at: &[SocketAddr]) -> io::Result<Self> {
        let v4 = |at: &SocketAddr| match at {
            SocketAddr::V4(at) => Ok(*at),
            SocketAddr::V6(_) => Err(io::Error::other("the flow is of IPv4")),
        };
        let at: Vec<SocketAddrV4> = at.iter().map(v4).collect::<io::Result<_>>()?;
        let mut ports = vec![u16::MAX; 1 << 16];
        (0..).zip(&at).for_each(|(place, at)| ports[usize::from(at.port())] = place);
        let mut frames = Frames::new(FRAMES)?;
        let socket = Xsk::open(link.index, &mut frames, None)?;
        let (came, headers) = (Vec::new(), HashMap::new());
        Ok(Self { socket, frames, link, peer, at, ports, came, headers, posted: false })
    }
}

impl Door for Wire {
    fn receive(&mut self) -> usize {
        let Self { socket, frames, ports, .. } = self;
        self.came.drain(..).for_each(|(at, _)| frames.give_back(at));
        let count = socket.receive.filled().min(BATCH);
        for _ in 0..count {
            let frame = socket.receive.take();
            let (at, len) = (frame.addr, frame.len as usize);
            let bytes = frames.bytes(at, len);
            let port = u16::from_be_bytes([bytes[36], bytes[37]]);
            if ports[usize::from(port)] == u16::MAX {
                frames.give_back(at);
            } else {
                self.came.push((at, len));
            }
        }
        if count > 0 {
            socket.receive.release();
        }
        socket.complete(frames);
        socket.refill(count, frames);
        self.came.len()
    }

    fn trains(&self) -> u64 {
        self.came.len() as u64
    }

    fn came(&self, nth: usize) -> Came<'_> {
        let (at, len) = self.came[nth];
        let bytes = self.frames.bytes(at, len);
        let port = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
        let ip = Ipv4Addr::new(bytes[26], bytes[27], bytes[28], bytes[29]);
        // Frames shorter than Ethernet's least are filled up.
        let end = HEADERS - 8 + usize::from(port(38));
        Came {
            at: usize::from(self.ports[usize::from(port(36))]),
            from: SocketAddrV4::new(ip, port(34)).into(),
            bytes: &bytes[HEADERS..end.clamp(HEADERS, len)],
        }
    }

    fn post(&mut self, at: usize, to: SocketAddr, datagram: &[u8]) {
        let SocketAddr::V4(there) = to else { return };
        let (macs, from) = ((self.link.mac, self.peer), self.at[at]);
        let headers = self.headers.entry((at, to)).or_insert_with(|| Headers::new(macs, from, there));
        // Without a frame or a place it is lost, which the far side notices.
        if self.socket.send.room() == 0 {
            return;
        }
        let Some(address) = self.frames.free.pop() else { return };
        let frame = self.frames.around(address).0;
        headers.write(&mut frame[START..], datagram.len());
        frame[START + HEADERS..][..datagram.len()].copy_from_slice(datagram);
        let len = (HEADERS + datagram.len()) as u32;
        self.socket.send.put(libc::xdp_desc { addr: address + START as u64, len, options: 0 });
        self.posted = true;
    }

    fn flush(&mut self) {
        if std::mem::take(&mut self.posted) {
            self.socket.push();
            self.socket.complete(&mut self.frames);
        }
    }
}
