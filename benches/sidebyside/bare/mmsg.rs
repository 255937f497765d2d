//! The bare forwarder over plain sockets: recvmmsg, sendmmsg, and poll when there is nothing at any of them.

#![expect(unsafe_code, reason = "arrays of message headers")]

use std::io;
use std::mem;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::ptr;

use super::script::Script;
use super::{BATCH, Map, ROOM, SLOT};

const NAME: libc::socklen_t = size_of::<libc::sockaddr_in>() as libc::socklen_t;

/// Headers with their bytes, names and nothing else.
struct Headers {
    headers: Vec<libc::mmsghdr>,
    bytes: Vec<libc::iovec>,
    count: usize,
}

impl Headers {
    fn new() -> Self {
        // SAFETY: headers and pointers of zeros are valid empty ones.
        let (header, piece): (libc::mmsghdr, libc::iovec) = unsafe { (mem::zeroed(), mem::zeroed()) };
        let mut bytes = vec![piece; BATCH];
        let mut headers = vec![header; BATCH];
        for (header, bytes) in headers.iter_mut().zip(&mut bytes) {
            header.msg_hdr.msg_iov = bytes;
            header.msg_hdr.msg_iovlen = 1;
        }
        Self { headers, bytes, count: 0 }
    }

    /// To receive into the slots, and the source to `name` if that is somewhere.
    fn into(slots: &mut [u8], name: *mut libc::sockaddr_in) -> Self {
        let mut this = Self::new();
        for (at, slot) in slots.chunks_exact_mut(SLOT).enumerate() {
            let room = &mut slot[ROOM..];
            this.bytes[at] = libc::iovec { iov_base: room.as_mut_ptr().cast(), iov_len: room.len() };
            this.headers[at].msg_hdr.msg_name = name.cast();
            this.headers[at].msg_hdr.msg_namelen = if name.is_null() { 0 } else { NAME };
        }
        this
    }

    /// How many datagrams came.
    fn receive(&mut self, socket: &UdpSocket) -> usize {
        let (first, count) = (self.headers.as_mut_ptr(), self.headers.len() as u32);
        // SAFETY: headers whose bytes are slots that nobody else uses meanwhile.
        let came = unsafe { libc::recvmmsg(socket.as_raw_fd(), first, count, libc::MSG_DONTWAIT, ptr::null_mut()) };
        usize::try_from(came).unwrap_or(0)
    }

    #[inline]
    fn add(&mut self, datagram: &[u8]) {
        self.bytes[self.count] = libc::iovec { iov_base: datagram.as_ptr().cast_mut().cast(), iov_len: datagram.len() };
        self.count += 1;
    }

    fn send(&mut self, socket: &UdpSocket) {
        let mut first = 0;
        while first < self.count {
            let rest = &mut self.headers[first..self.count];
            // SAFETY: headers whose bytes are in slots that nobody else uses meanwhile.
            let sent =
                unsafe { libc::sendmmsg(socket.as_raw_fd(), rest.as_mut_ptr(), rest.len() as u32, libc::MSG_DONTWAIT) };
            // What the first of them failed by is left behind with it.
            first += usize::try_from(sent).unwrap_or(1);
        }
        self.count = 0;
    }
}

pub(super) fn forward(script: &Script, map: &Map) -> io::Result<()> {
    let (edge, nodes) = super::sockets(script)?;
    let mut slots = vec![1_u8; BATCH * SLOT];
    let mut source = super::name(script.client)?;
    let mut client = super::name(script.client)?;
    // The map tells where to, but a forwarder has to ask where from; a connected socket's peer is known.
    let mut of_edge = Headers::into(&mut slots, &raw mut source);
    let mut of_nodes = Headers::into(&mut slots, ptr::null_mut());
    let mut to_client = Headers::new();
    let mut to_nodes: Vec<Headers> = nodes.iter().map(|_| Headers::new()).collect();
    for header in &mut to_client.headers {
        header.msg_hdr.msg_name = (&raw mut client).cast();
        header.msg_hdr.msg_namelen = NAME;
    }
    let watch = |socket: &UdpSocket| libc::pollfd { fd: socket.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    let mut watched: Vec<libc::pollfd> = std::iter::once(&edge).chain(&nodes).map(watch).collect();
    super::ready();
    loop {
        let mut came = of_edge.receive(&edge);
        for (header, slot) in of_edge.headers.iter_mut().zip(slots.chunks_exact_mut(SLOT)).take(came) {
            header.msg_hdr.msg_namelen = NAME;
            let (start, len, node) = map.request(slot, ROOM, header.msg_len as usize);
            to_nodes[node].add(&slot[start..start + len]);
        }
        to_nodes.iter_mut().zip(&nodes).for_each(|(headers, node)| headers.send(node));
        for node in &nodes {
            let count = of_nodes.receive(node);
            for (header, slot) in of_nodes.headers.iter().zip(slots.chunks_exact_mut(SLOT)).take(count) {
                let (start, len) = map.response(slot, ROOM, header.msg_len as usize);
                to_client.add(&slot[start..start + len]);
            }
            to_client.send(&edge);
            came += count;
        }
        if came == 0 {
            // SAFETY: an array and its length.
            unsafe { libc::poll(watched.as_mut_ptr(), watched.len() as libc::nfds_t, -1) };
        }
    }
}
