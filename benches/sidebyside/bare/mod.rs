//! Bare forwarders: the yardstick of what carrying the flow costs without a balancer.
//!
//! They carry the same messages over the same kinds of sockets by a fixed map, and take away and add as many bytes at the
//! same places. Nothing is read but two bytes, nothing is counted but failures; there is no clock, no timer, no other
//! thread, no slot pool, and none of sipring's own datapath: what they do not need they do not do.

pub(crate) mod mmsg;
pub(crate) mod script;
pub(crate) mod uring;
pub(crate) mod xdp;

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;

use script::{Change, Script};

/// Bytes of a slot, and how many of them lie before a datagram.
pub(crate) const SLOT: usize = 2_048 + 1_024;
pub(crate) const ROOM: usize = 640;
/// Datagrams at once.
pub(crate) const BATCH: usize = 64;
const BUFFER_BYTES: usize = 8 << 20;

/// The word that makes this program a bare forwarder.
pub(crate) const WORD: &str = "bare";
/// What it says when it forwards.
pub(crate) const READY: &str = "forwarding";

/// `bare WAY SCRIPT`, where the way may have words of its own behind it.
pub(crate) fn serve(arguments: &[String]) -> io::Result<()> {
    let [way, script, rest @ ..] = arguments else { return Err(io::Error::other("bare WAY SCRIPT")) };
    let script: Script = serde_json::from_slice(&std::fs::read(Path::new(script))?)?;
    let map = Map::new(&script);
    match way.as_str() {
        "mmsg" => mmsg::forward(&script, &map),
        "uring" => uring::forward(&script, &map, rest.iter().any(|word| word == "trains")),
        "xdp" => xdp::forward(&script, &map, rest.iter().any(|word| word == "busy")),
        _ => Err(io::Error::other(format!("no way `{way}`"))),
    }
}

/// The fixed map.
pub(crate) struct Map {
    invite: Change,
    ack: Change,
    bye: Change,
    response: Change,
    /// The node by the last digit of a call's number.
    nodes: [u8; 256],
}

impl Map {
    fn new(script: &Script) -> Self {
        let mut nodes = [0; 256];
        for (place, digit) in (0..).zip(b"0123456789abcdef") {
            nodes[usize::from(*digit)] = place % script.nodes.len() as u8;
        }
        let Script { invite, ack, bye, response, .. } = script.clone();
        Self { invite, ack, bye, response, nodes }
    }

    #[inline]
    fn of_request(&self, first: u8) -> &Change {
        match first {
            b'I' => &self.invite,
            b'A' => &self.ack,
            _ => &self.bye,
        }
    }

    /// Changes the request at `start` of `slot`, `len` bytes long; where it starts then, how long it is, and its node.
    #[inline]
    pub(crate) fn request(&self, slot: &mut [u8], start: usize, len: usize) -> (usize, usize, usize) {
        let change = self.of_request(slot[start]);
        let node = self.nodes[usize::from(slot[start + change.digit])];
        let (start, len) = change.make(slot, start, len);
        (start, len, usize::from(node))
    }

    /// The same with a response.
    #[inline]
    pub(crate) fn response(&self, slot: &mut [u8], start: usize, len: usize) -> (usize, usize) {
        self.response.make(slot, start, len)
    }
}

impl Change {
    /// Moves what stands before the place, and nothing behind it.
    #[inline]
    fn make(&self, slot: &mut [u8], start: usize, len: usize) -> (usize, usize) {
        let begins = start + self.cut - self.put.len();
        slot.copy_within(start..start + self.at, begins);
        slot[begins + self.at..][..self.put.len()].copy_from_slice(&self.put);
        (begins, len + self.put.len() - self.cut)
    }
}

/// The listener, and one connected socket to each node.
fn sockets(script: &Script) -> io::Result<(UdpSocket, Vec<UdpSocket>)> {
    let open = |at: SocketAddr, shared: bool| {
        let socket = socket2::Socket::new(socket2::Domain::for_address(at), socket2::Type::DGRAM, None)?;
        socket.set_reuse_address(shared)?;
        socket.set_recv_buffer_size(BUFFER_BYTES)?;
        socket.set_send_buffer_size(BUFFER_BYTES)?;
        socket.set_nonblocking(true)?;
        socket.bind(&at.into())?;
        Ok::<UdpSocket, io::Error>(socket.into())
    };
    let connected = |node: &SocketAddr| {
        let socket = open(script.node_side, true)?;
        socket.connect(node)?;
        Ok(socket)
    };
    Ok((open(script.edge, false)?, script.nodes.iter().map(connected).collect::<io::Result<_>>()?))
}

/// An IPv4 address as the kernel takes it.
fn name(at: SocketAddr) -> io::Result<libc::sockaddr_in> {
    let SocketAddr::V4(at) = at else { return Err(io::Error::other("the flow is of IPv4")) };
    Ok(libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: at.port().to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from(*at.ip()).to_be() },
        sin_zero: [0; 8],
    })
}

/// Tells whoever started this that packets are forwarded from now on.
fn ready() {
    println!("{READY}");
}
