//! The bare forwarder over io_uring: multishot receives into one ring of buffers, sends from those, one call a turn.
//!
//! The call that submits the sends of a turn waits for the next packets too. Sends never wait, and tell of failures only,
//! so a buffer is free when that call returns.

#![expect(unsafe_code, reason = "a ring, its buffers, and requests that point into them")]

use std::io;
use std::mem;
use std::os::fd::AsRawFd;
use std::ptr;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::{BufRingEntry, Fd, RecvMsgOut};
use io_uring::{IoUring, cqueue, opcode, squeue};

use super::script::Script;
use super::{BATCH, Map, ROOM, SLOT};

/// Buffers that the kernel may fill.
const BUFFERS: usize = 4 * BATCH;
const REQUESTS: u32 = 256;
const GROUP: u16 = 0;
/// What the kernel writes before a datagram whose source is asked for: four numbers and an IPv4 address.
const NAMED: usize = 16 + size_of::<libc::sockaddr_in>();
/// The listener among the receives; a node's is its place.
const EDGE: u64 = 1 << 32;
const SEND: u64 = 1 << 33;

struct Buffers {
    entries: *mut BufRingEntry,
    room: Vec<u8>,
    tail: u16,
}

impl Buffers {
    fn new(ring: &IoUring) -> io::Result<Self> {
        let (bytes, access) = (BUFFERS * size_of::<BufRingEntry>(), libc::PROT_READ | libc::PROT_WRITE);
        let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_POPULATE;
        // SAFETY: a fresh mapping, no address asked for.
        let map = unsafe { libc::mmap(ptr::null_mut(), bytes, access, kind, -1, 0) };
        if map == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let mut this = Self { entries: map.cast(), room: vec![1; BUFFERS * SLOT], tail: 0 };
        (0..BUFFERS as u16).for_each(|number| this.offer(number));
        this.publish();
        // SAFETY: the entries are mapped as long as the process lives.
        unsafe { ring.submitter().register_buf_ring_with_flags(map as u64, BUFFERS as u16, GROUP, 0)? };
        Ok(this)
    }

    #[inline]
    fn offer(&mut self, number: u16) {
        let room = &mut self.room[usize::from(number) * SLOT..][ROOM..SLOT];
        // SAFETY: inside the mapping, and what is not published is not read.
        let entry = unsafe { &mut *self.entries.add(usize::from(self.tail) & (BUFFERS - 1)) };
        entry.set_addr(room.as_mut_ptr() as u64);
        entry.set_len(room.len() as u32);
        entry.set_bid(number);
        self.tail = self.tail.wrapping_add(1);
    }

    #[inline]
    fn publish(&self) {
        // SAFETY: the field that the kernel reads as the tail.
        let tail = unsafe { &*BufRingEntry::tail(self.entries).cast::<AtomicU16>() };
        tail.store(self.tail, Ordering::Release);
    }
}

/// What leaves to one peer as one; points into buffers, and is pointed to until it has been submitted.
struct Train {
    bytes: [libc::iovec; BATCH],
    count: usize,
    size: usize,
    /// The last may be shorter, and then is the last.
    ended: bool,
    control: [u64; 4],
    header: libc::msghdr,
}

struct Forwarder<'a> {
    ring: IoUring,
    buffers: Buffers,
    map: &'a Map,
    header: Box<libc::msghdr>,
    client: Box<libc::sockaddr_in>,
    edge: Fd,
    nodes: Vec<Fd>,
    used: Vec<u16>,
    /// Trains of this turn by node, the client's behind; none if everything leaves by itself.
    trains: Option<Vec<Vec<Train>>>,
}

pub(super) fn forward(script: &Script, map: &Map, trains: bool) -> io::Result<()> {
    let (edge, nodes) = super::sockets(script)?;
    let mut builder = IoUring::builder();
    builder.setup_single_issuer().setup_defer_taskrun().setup_submit_all().setup_cqsize(4 * REQUESTS);
    let ring = builder.build(REQUESTS)?;
    let buffers = Buffers::new(&ring)?;
    // SAFETY: a header of zeros is a valid empty one.
    let mut header: Box<libc::msghdr> = Box::new(unsafe { mem::zeroed() });
    header.msg_namelen = size_of::<libc::sockaddr_in>() as libc::socklen_t;
    let fds: Vec<Fd> = nodes.iter().map(|node| Fd(node.as_raw_fd())).collect();
    let mut forwarder = Forwarder {
        ring,
        buffers,
        map,
        header,
        client: Box::new(super::name(script.client)?),
        edge: Fd(edge.as_raw_fd()),
        trains: trains.then(|| (0..=fds.len()).map(|_| Vec::new()).collect()),
        nodes: fds,
        used: Vec::with_capacity(BUFFERS),
    };
    forwarder.arm(EDGE);
    (0..nodes.len() as u64).for_each(|node| forwarder.arm(node));
    super::ready();
    loop {
        forwarder.turn()?;
    }
}

impl Forwarder<'_> {
    fn arm(&mut self, from: u64) {
        let request = if from == EDGE {
            opcode::RecvMsgMulti::new(self.edge, &raw const *self.header, GROUP).build()
        } else {
            // A connected socket's peer is known.
            opcode::RecvMulti::new(self.nodes[from as usize], GROUP).build()
        };
        self.push(request.user_data(from));
    }

    #[inline]
    fn push(&mut self, request: squeue::Entry) {
        // SAFETY: what it points to stays where it is until it has been submitted, buffers as long as they are not
        // offered again.
        while unsafe { self.ring.submission().push(&request) }.is_err() {
            let _ = self.ring.submit();
        }
    }

    fn turn(&mut self) -> io::Result<()> {
        match self.ring.submit_and_wait(1) {
            Err(error) if error.raw_os_error() != Some(libc::EINTR) => return Err(error),
            _ => {}
        }
        if !self.used.is_empty() {
            let mut used = mem::take(&mut self.used);
            used.drain(..).for_each(|number| self.buffers.offer(number));
            self.used = used;
            self.buffers.publish();
        }
        if let Some(trains) = &mut self.trains {
            trains.iter_mut().for_each(Vec::clear);
        }
        while let Some(done) = { self.ring.completion().next() } {
            self.done(&done);
        }
        if self.trains.is_some() {
            self.send_trains();
        }
        Ok(())
    }

    #[inline]
    fn done(&mut self, done: &cqueue::Entry) {
        let from = done.user_data();
        if from == SEND {
            return;
        }
        if let (Some(number), Ok(len)) = (cqueue::buffer_select(done.flags()), usize::try_from(done.result())) {
            self.used.push(number);
            if from == EDGE { self.request(number, len) } else { self.response(number, len) }
        }
        if !cqueue::more(done.flags()) {
            self.arm(from);
        }
    }

    #[inline]
    fn request(&mut self, number: u16, written: usize) {
        let slot = &mut self.buffers.room[usize::from(number) * SLOT..][..SLOT];
        let Ok(out) = RecvMsgOut::parse(&slot[ROOM..ROOM + written], &self.header) else { return };
        let len = out.payload_data().len();
        if len == 0 {
            return;
        }
        let (start, len, node) = self.map.request(slot, ROOM + NAMED, len);
        let bytes = slot[start..].as_ptr();
        if self.trains.is_some() {
            self.join(node, bytes, len);
            return;
        }
        let send = opcode::Send::new(self.nodes[node], bytes, len as u32).flags(libc::MSG_DONTWAIT).build();
        self.push(send.flags(squeue::Flags::SKIP_SUCCESS).user_data(SEND));
    }

    #[inline]
    fn response(&mut self, number: u16, len: usize) {
        if len == 0 {
            return;
        }
        let slot = &mut self.buffers.room[usize::from(number) * SLOT..][..SLOT];
        let (start, len) = self.map.response(slot, ROOM, len);
        if self.trains.is_some() {
            let bytes = slot[start..].as_ptr();
            self.join(self.nodes.len(), bytes, len);
            return;
        }
        let send = opcode::Send::new(self.edge, slot[start..].as_ptr(), len as u32).flags(libc::MSG_DONTWAIT);
        let send = send.dest_addr((&raw const *self.client).cast());
        let send = send.dest_addr_len(size_of::<libc::sockaddr_in>() as libc::socklen_t).build();
        self.push(send.flags(squeue::Flags::SKIP_SUCCESS).user_data(SEND));
    }

    /// Adds a datagram to a train of its size to its peer.
    #[inline]
    fn join(&mut self, peer: usize, bytes: *const u8, size: usize) {
        let Some(trains) = self.trains.as_mut().and_then(|trains| trains.get_mut(peer)) else { return };
        let open = trains.iter_mut().rev().find(|train| train.size == size && train.count < BATCH);
        let piece = libc::iovec { iov_base: bytes.cast_mut().cast(), iov_len: size };
        if let Some(train) = open {
            train.bytes[train.count] = piece;
            train.count += 1;
            return;
        }
        // SAFETY: headers and pointers of zeros are valid empty ones.
        let mut train: Train = unsafe { mem::zeroed() };
        train.bytes[0] = piece;
        (train.size, train.count) = (size, 1);
        trains.push(train);
    }

    fn send_trains(&mut self) {
        let Some(mut trains) = self.trains.take() else { return };
        for (peer, trains) in trains.iter_mut().enumerate() {
            end(trains);
            let client = (peer == self.nodes.len()).then_some(&raw const *self.client);
            let fd = self.nodes.get(peer).copied().unwrap_or(self.edge);
            for train in trains.iter_mut().filter(|train| train.count > 0) {
                train.couple(client);
                let send = opcode::SendMsg::new(fd, &raw const train.header).flags(libc::MSG_DONTWAIT as u32).build();
                self.push(send.flags(squeue::Flags::SKIP_SUCCESS).user_data(SEND));
            }
        }
        self.trains = Some(trains);
    }
}

/// Makes what is still alone the end of the train before it, if it is shorter than that.
fn end(trains: &mut [Train]) {
    for at in 1..trains.len() {
        let (before, rest) = trains.split_at_mut(at);
        let (Some(train), Some(alone)) = (before.last_mut(), rest.first_mut()) else { continue };
        if alone.count == 1 && train.count > 0 && train.count < BATCH && !train.ended && alone.size <= train.size {
            train.bytes[train.count] = alone.bytes[0];
            train.count += 1;
            train.ended = true;
            alone.count = 0;
        }
    }
}

impl Train {
    /// Writes the header that makes it leave as one.
    fn couple(&mut self, to: Option<*const libc::sockaddr_in>) {
        if let Some(to) = to {
            self.header.msg_name = to.cast_mut().cast();
            self.header.msg_namelen = size_of::<libc::sockaddr_in>() as libc::socklen_t;
        }
        self.header.msg_iov = self.bytes.as_mut_ptr();
        self.header.msg_iovlen = self.count;
        if self.count == 1 {
            return;
        }
        self.header.msg_control = self.control.as_mut_ptr().cast();
        // SAFETY: there is room for one piece of control data with a number of two bytes.
        unsafe {
            self.header.msg_controllen = libc::CMSG_SPACE(size_of::<u16>() as u32) as usize;
            if let Some(first) = libc::CMSG_FIRSTHDR(&raw const self.header).as_mut() {
                first.cmsg_level = libc::SOL_UDP;
                first.cmsg_type = libc::UDP_SEGMENT;
                first.cmsg_len = libc::CMSG_LEN(size_of::<u16>() as u32) as usize;
                libc::CMSG_DATA(first).cast::<u16>().write_unaligned(self.size as u16);
            }
        }
    }
}
