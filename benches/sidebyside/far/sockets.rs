//! A door over plain sockets: what the kernel joined comes in joined, what is of one size and to one peer leaves so.
//!
//! UDP GRO and GSO make it cost the far side less than what is measured, which is offered and takes one datagram at a time
//! unless it forms trains itself.

#![expect(unsafe_code, reason = "arrays of message headers for recvmmsg and sendmmsg")]

use std::io;
use std::mem;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd;
use std::ptr;

use super::{Came, Door};

/// Headers of one receive.
const BATCH: usize = 64;
/// Room for what was joined; not a power of two, so that the beginnings do not share the cache's sets.
const ROOM: usize = 65_536 + 1_088;
const CONTROL: usize = 64;
/// Datagrams that leave joined at most, and their bytes.
const JOINED_MAX: usize = 64;
const JOINED_BYTES_MAX: usize = 65_000;
/// Tries to send before what is full counts as lost.
const TRIES_MAX: u32 = 1_000;

/// Control data, aligned for its header.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct Control([u8; CONTROL]);

/// Datagrams of one size to one peer.
struct Joined {
    socket: usize,
    to: SocketAddr,
    size: usize,
    count: usize,
    bytes: Vec<u8>,
}

/// Where a datagram that came lies.
struct Lies {
    socket: usize,
    from: SocketAddr,
    at: usize,
    size: usize,
}

pub(crate) struct Sockets {
    sockets: Vec<UdpSocket>,
    /// They point into the four vectors behind.
    headers: Vec<libc::mmsghdr>,
    room: Vec<u8>,
    _controls: Vec<Control>,
    names: Vec<libc::sockaddr_in>,
    _bytes: Vec<libc::iovec>,
    came: Vec<Lies>,
    /// Those that wait to be sent stand first.
    joined: Vec<Joined>,
    waiting: usize,
    joins: bool,
    /// Receives of the last turn.
    received: u64,
}

impl Sockets {
    /// At these IPv4 addresses. `joins`: what is of one size and to one peer leaves joined.
    pub(crate) fn open(at: &[SocketAddr], joins: bool) -> io::Result<Self> {
        let open = |at: &SocketAddr| {
            let socket = UdpSocket::bind(at)?;
            socket.set_nonblocking(true)?;
            let options = socket2::SockRef::from(&socket);
            options.set_recv_buffer_size(8 << 20)?;
            options.set_send_buffer_size(8 << 20)?;
            let on: libc::c_int = 1;
            // SAFETY: an integer and its length.
            let set = unsafe {
                let len = size_of_val(&on) as libc::socklen_t;
                libc::setsockopt(socket.as_raw_fd(), libc::SOL_UDP, libc::UDP_GRO, (&raw const on).cast(), len)
            };
            if set == 0 { Ok(socket) } else { Err(io::Error::last_os_error()) }
        };
        // SAFETY: an address of zeros is a valid empty one.
        let none: libc::sockaddr_in = unsafe { mem::zeroed() };
        // SAFETY: as above.
        let piece: libc::iovec = unsafe { mem::zeroed() };
        let (mut room, mut controls) = (vec![0; BATCH * ROOM], vec![Control([0; CONTROL]); BATCH]);
        let (mut names, mut bytes) = (vec![none; BATCH], vec![piece; BATCH]);
        Ok(Self {
            headers: headers(&mut room, &mut controls, &mut names, &mut bytes),
            sockets: at.iter().map(open).collect::<io::Result<_>>()?,
            room,
            _controls: controls,
            names,
            _bytes: bytes,
            came: Vec::new(),
            joined: Vec::new(),
            waiting: 0,
            joins,
            received: 0,
        })
    }

    /// Receives by one socket into what is left of the headers, from `first` on; how many were used.
    fn receive_by(&mut self, socket: usize, first: usize) -> usize {
        let fd = self.sockets[socket].as_raw_fd();
        let (headers, count) = (&raw mut self.headers[first], (BATCH - first) as u32);
        // SAFETY: `count` headers, whose pointers lead into vectors of this door.
        let taken = unsafe { libc::recvmmsg(fd, headers, count, libc::MSG_DONTWAIT, ptr::null_mut()) };
        let taken = usize::try_from(taken).unwrap_or(0);
        for at in first..first + taken {
            let (header, name) = (&mut self.headers[at], self.names[at]);
            let length = header.msg_len as usize;
            let ip = Ipv4Addr::from(u32::from_be(name.sin_addr.s_addr));
            let from = SocketAddrV4::new(ip, u16::from_be(name.sin_port)).into();
            // SAFETY: the kernel has written header and control data.
            let size = unsafe { segment(&header.msg_hdr) }.unwrap_or(length).max(1);
            header.msg_hdr.msg_controllen = CONTROL;
            let piece = |part: usize| Lies { socket, from, at: at * ROOM + part, size: size.min(length - part) };
            self.came.extend((0..length).step_by(size).map(piece));
        }
        taken
    }
}

/// Headers that receive into such rooms for good; all names are IPv4 addresses.
fn headers(
    room: &mut [u8],
    controls: &mut [Control],
    names: &mut [libc::sockaddr_in],
    bytes: &mut [libc::iovec],
) -> Vec<libc::mmsghdr> {
    let parts = room.chunks_exact_mut(ROOM).zip(controls).zip(names).zip(bytes);
    let header =
        |(((room, control), name), bytes): (((&mut [u8], &mut Control), &mut libc::sockaddr_in), &mut libc::iovec)| {
            *bytes = libc::iovec { iov_base: room.as_mut_ptr().cast(), iov_len: room.len() };
            // SAFETY: a header of zeros is a valid empty one.
            let mut header: libc::mmsghdr = unsafe { mem::zeroed() };
            header.msg_hdr.msg_name = ptr::from_mut(name).cast();
            header.msg_hdr.msg_namelen = size_of::<libc::sockaddr_in>() as libc::socklen_t;
            header.msg_hdr.msg_iov = bytes;
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_control = control.0.as_mut_ptr().cast();
            header.msg_hdr.msg_controllen = CONTROL;
            header
        };
    parts.map(header).collect()
}

/// The size of the datagrams that were joined.
///
/// # Safety
/// The header is one that recvmmsg has filled.
unsafe fn segment(header: &libc::msghdr) -> Option<usize> {
    // SAFETY: as the caller says; GRO's size is an int.
    unsafe {
        let control = libc::CMSG_FIRSTHDR(header).as_ref()?;
        if control.cmsg_level != libc::SOL_UDP || control.cmsg_type != libc::UDP_GRO {
            return None;
        }
        let size = libc::CMSG_DATA(control).cast::<libc::c_int>().read_unaligned();
        usize::try_from(size).ok()
    }
}

impl Door for Sockets {
    fn receive(&mut self) -> usize {
        self.came.clear();
        let mut used = 0;
        for socket in 0..self.sockets.len() {
            if used < BATCH {
                used += self.receive_by(socket, used);
            }
        }
        self.received = used as u64;
        self.came.len()
    }

    fn trains(&self) -> u64 {
        self.received
    }

    fn came(&self, nth: usize) -> Came<'_> {
        let Lies { socket, from, at, size } = self.came[nth];
        Came { at: socket, from, bytes: &self.room[at..at + size] }
    }

    fn post(&mut self, at: usize, to: SocketAddr, datagram: &[u8]) {
        let size = datagram.len();
        let fits = |joined: &&mut Joined| {
            joined.size == size
                && (joined.to, joined.socket) == (to, at)
                && joined.count < JOINED_MAX
                && joined.bytes.len() + size <= JOINED_BYTES_MAX
        };
        let candidates = if self.joins { self.waiting } else { 0 };
        let open = self.joined[..candidates].iter_mut().rev().find(fits);
        if let Some(joined) = open {
            joined.bytes.extend_from_slice(datagram);
            joined.count += 1;
            return;
        }
        if self.joined.len() == self.waiting {
            self.joined.push(Joined { socket: at, to, size, count: 0, bytes: Vec::with_capacity(ROOM) });
        }
        let joined = &mut self.joined[self.waiting];
        self.waiting += 1;
        (joined.socket, joined.to, joined.size, joined.count) = (at, to, size, 1);
        joined.bytes.clear();
        joined.bytes.extend_from_slice(datagram);
    }

    fn flush(&mut self) {
        for joined in &self.joined[..self.waiting] {
            send(&self.sockets[joined.socket], joined);
        }
        self.waiting = 0;
    }
}

fn send(socket: &UdpSocket, joined: &Joined) {
    let SocketAddr::V4(to) = joined.to else { panic!("{} is not IPv4", joined.to) };
    let name = libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: to.port().to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from(*to.ip()).to_be() },
        sin_zero: [0; 8],
    };
    let mut bytes = libc::iovec { iov_base: joined.bytes.as_ptr().cast_mut().cast(), iov_len: joined.bytes.len() };
    let mut control = Control([0; CONTROL]);
    // SAFETY: a header of zeros is a valid empty one.
    let mut header: libc::msghdr = unsafe { mem::zeroed() };
    header.msg_name = (&raw const name).cast_mut().cast();
    header.msg_namelen = size_of_val(&name) as libc::socklen_t;
    header.msg_iov = &raw mut bytes;
    header.msg_iovlen = 1;
    if joined.count > 1 {
        header.msg_control = control.0.as_mut_ptr().cast();
        // SAFETY: there is room for one piece of control data with a number of two bytes.
        unsafe {
            header.msg_controllen = libc::CMSG_SPACE(size_of::<u16>() as u32) as usize;
            if let Some(first) = libc::CMSG_FIRSTHDR(&raw const header).as_mut() {
                first.cmsg_level = libc::SOL_UDP;
                first.cmsg_type = libc::UDP_SEGMENT;
                first.cmsg_len = libc::CMSG_LEN(size_of::<u16>() as u32) as usize;
                libc::CMSG_DATA(first).cast::<u16>().write_unaligned(joined.size as u16);
            }
        }
    }
    for _ in 0..TRIES_MAX {
        // SAFETY: name, bytes and control data are on this frame and in `joined`.
        let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const header, libc::MSG_DONTWAIT) };
        // An error of an earlier datagram is told once, and this one was not sent.
        if sent >= 0 {
            return;
        }
    }
}
