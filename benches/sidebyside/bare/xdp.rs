//! The bare forwarder over AF_XDP: frames of two links in one area, changed where they lie, under headers made beforehand.
//!
//! Sleeps in poll when there is nothing at either link, or has the kernel look for frames on and on.

#![expect(unsafe_code, reason = "poll(2)")]

use std::io;
use std::net::{SocketAddr, SocketAddrV4};
use std::process::Command;

use super::script::Script;
use super::{BATCH, Map};
use crate::xsk::{Frames, HEADERS, Headers, Xsk};

const FRAMES: u32 = 4_096;

/// A link of this network.
struct Link {
    index: u32,
    mac: [u8; 6],
    /// Of the other end, as the kernel was told.
    peer: [u8; 6],
}

fn link(name: &str) -> io::Result<Link> {
    let missing = || io::Error::other(format!("link {name} is not as it should be"));
    let told = |arguments: &[&str]| {
        let output = Command::new("ip").args(arguments).output()?;
        String::from_utf8(output.stdout).map_err(io::Error::other)
    };
    let mac = |text: &str, word: &str| -> Option<[u8; 6]> {
        let text = text.split_once(word)?.1.split_whitespace().next()?;
        let bytes: Vec<u8> = text.split(':').flat_map(|hex| u8::from_str_radix(hex, 16)).collect();
        bytes.try_into().ok()
    };
    let own = told(&["-o", "link", "show", "dev", name])?;
    let neighbours = told(&["-4", "neigh", "show", "dev", name])?;
    let index = own.split(':').next().and_then(|index| index.parse().ok());
    Ok(Link {
        index: index.ok_or_else(missing)?,
        mac: mac(&own, "link/ether ").ok_or_else(missing)?,
        peer: mac(&neighbours, "lladdr ").ok_or_else(missing)?,
    })
}

fn v4(at: SocketAddr) -> io::Result<SocketAddrV4> {
    if let SocketAddr::V4(at) = at { Ok(at) } else { Err(io::Error::other("the flow is of IPv4")) }
}

pub(super) fn forward(script: &Script, map: &Map, busy: bool) -> io::Result<()> {
    let (edge, nodes) = (link("edge")?, link("nodes")?);
    let mut frames = Frames::new(FRAMES)?;
    let mut of_edge = Xsk::open(edge.index, &mut frames, None)?;
    let mut of_nodes = Xsk::open(nodes.index, &mut frames, Some(&of_edge))?;
    let to_client = Headers::new((edge.mac, edge.peer), v4(script.edge)?, v4(script.client)?);
    let to_node = |node: &SocketAddr| Ok(Headers::new((nodes.mac, nodes.peer), v4(script.node_side)?, v4(*node)?));
    let to_nodes: Vec<Headers> = script.nodes.iter().map(to_node).collect::<io::Result<_>>()?;
    let watch = |socket: &Xsk| libc::pollfd { fd: socket.fd(), events: libc::POLLIN, revents: 0 };
    let mut watched = [watch(&of_edge), watch(&of_nodes)];
    if busy {
        of_edge.poll_busily()?;
        of_nodes.poll_busily()?;
    }
    super::ready();
    loop {
        let requests = carry(&mut of_edge, &mut of_nodes, &mut frames, |slot, start, len| {
            let (start, len, node) = map.request(slot, start, len);
            (start, len, &to_nodes[node])
        });
        let responses = carry(&mut of_nodes, &mut of_edge, &mut frames, |slot, start, len| {
            let (start, len) = map.response(slot, start, len);
            (start, len, &to_client)
        });
        match (requests + responses, busy) {
            (0, true) => {
                of_edge.look();
                of_nodes.look();
            }
            (0, false) => {
                // SAFETY: an array and its length.
                unsafe { libc::poll(watched.as_mut_ptr(), watched.len() as libc::nfds_t, -1) };
            }
            _ => {}
        }
    }
}

/// Carries what came by `from` over to `to`, changed; how many frames.
#[inline]
fn carry<'a>(
    from: &mut Xsk,
    to: &mut Xsk,
    frames: &mut Frames,
    change: impl Fn(&mut [u8], usize, usize) -> (usize, usize, &'a Headers),
) -> u32 {
    let count = from.receive.filled().min(BATCH as u32).min(to.send.room());
    for _ in 0..count {
        let frame = from.receive.take();
        let (slot, start) = frames.around(frame.addr);
        let udp = start + HEADERS - 8;
        let len = usize::from(u16::from_be_bytes([slot[udp + 4], slot[udp + 5]])) - 8;
        let (begins, len, headers) = change(slot, start + HEADERS, len);
        headers.write(&mut slot[begins - HEADERS..], len);
        let addr = frame.addr - start as u64 + (begins - HEADERS) as u64;
        to.send.put(libc::xdp_desc { addr, len: (HEADERS + len) as u32, options: 0 });
    }
    if count > 0 {
        from.receive.release();
        to.push();
        to.complete(frames);
        from.refill(count, frames);
    }
    count
}
