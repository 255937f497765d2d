//! Opening one UDP socket the way sipring wants it.
//!
//! Called when a datapath opens its ports and when it gets new next hops. Owns no socket; says which
//! address could not be had, and what to do about it.

use std::io;
use std::mem;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, RawFd};

use socket2::{Domain, Protocol, Socket, Type};

use crate::packet::{LocalPort, PortRole};

/// Kernel buffers of a socket, bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Buffers {
    pub(super) receive: usize,
    pub(super) send: usize,
}

/// Binds every local port alone and lets it go: finds ports that another process holds, even one
/// that would share them. For whoever starts the workers, once, before the first of them opens.
///
/// # Errors
/// Names the address that cannot be bound, and why.
pub fn probe(ports: &[LocalPort]) -> io::Result<()> {
    let mut bound = Vec::with_capacity(ports.len());
    for port in ports {
        let socket = bare(port.bind).and_then(|socket| socket.bind(&port.bind.into()).map(|()| socket));
        bound.push(socket.map_err(|error| cannot_bind(port, &error))?);
    }
    Ok(())
}

/// Tries whether the kernel cuts a send into datagrams of one size.
///
/// # Errors
/// What it answers if it does not: it would send a train as one long datagram.
pub fn probe_trains() -> io::Result<()> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP));
    let socket = socket.or_else(|_| Socket::new(Domain::IPV6, Type::DGRAM, Some(Protocol::UDP)))?;
    set(&socket, libc::SOL_UDP, libc::UDP_SEGMENT, 0)
}

/// The longest datagram that leaves for `to` in one piece, as far as the kernel knows the path.
pub(super) fn in_one_piece(to: SocketAddr) -> Option<usize> {
    let socket = Socket::new(Domain::for_address(to), Type::DGRAM, Some(Protocol::UDP)).ok()?;
    socket.connect(&to.into()).ok()?;
    let (level, name, headers) =
        if to.is_ipv4() { (libc::IPPROTO_IP, libc::IP_MTU, 28) } else { (libc::IPPROTO_IPV6, libc::IPV6_MTU, 48) };
    let (mut mtu, mut len) = (0_i32, mem::size_of::<i32>() as libc::socklen_t);
    // SAFETY: pointers to an integer and to its length.
    let read = unsafe { libc::getsockopt(socket.as_raw_fd(), level, name, (&raw mut mtu).cast(), &raw mut len) };
    usize::try_from(mtu).ok().filter(|_| read == 0)?.checked_sub(headers)
}

/// A socket bound to `local`, one of a group that shares it.
///
/// SO_REUSEPORT alone: with SO_REUSEADDR, any user's process could take the port over. Blocking: a
/// receive that a ring holds would fail at once otherwise; every call of ours says itself not to wait.
pub(super) fn bound(local: SocketAddr, buffers: Buffers) -> io::Result<Socket> {
    let socket = bare(local)?;
    socket.set_reuse_port(true)?;
    if local.is_ipv4() {
        // No DF bit: what is longer than the path leaves or travels in fragments.
        set(&socket, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_DONT)?;
        set(&socket, libc::IPPROTO_IP, libc::IP_RECVERR, 1)?;
    } else {
        set(&socket, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_DONT)?;
        set(&socket, libc::IPPROTO_IPV6, libc::IPV6_RECVERR, 1)?;
    }
    buffer(&socket, libc::SO_RCVBUFFORCE, libc::SO_RCVBUF, buffers.receive)?;
    buffer(&socket, libc::SO_SNDBUFFORCE, libc::SO_SNDBUF, buffers.send)?;
    socket.bind(&local.into())?;
    Ok(socket)
}

/// A socket bound to `local` that receives from and sends to `peer` only.
pub(super) fn connected(local: SocketAddr, peer: SocketAddr, buffers: Buffers) -> io::Result<Socket> {
    let socket = bound(local, buffers)?;
    socket.connect(&peer.into())?;
    Ok(socket)
}

/// Marks what a socket sends with differentiated services, 0 to 63.
pub(super) fn mark_services(fd: RawFd, v4: bool, dscp: u8) -> io::Result<()> {
    let services = i32::from(dscp) << 2;
    if v4 {
        set_fd(fd, libc::IPPROTO_IP, libc::IP_TOS, services)
    } else {
        set_fd(fd, libc::IPPROTO_IPV6, libc::IPV6_TCLASS, services)
    }
}

/// Warns if the kernel keeps the buffers smaller than asked.
pub(super) fn check_buffers(socket: &Socket, asked: Buffers) -> io::Result<()> {
    // The kernel counts its own overhead too, and says twice what it was asked.
    let (receive, send) = (socket.recv_buffer_size()? / 2, socket.send_buffer_size()? / 2);
    if receive < asked.receive {
        tracing::warn!(bytes = receive, asked = asked.receive, raise = "net.core.rmem_max", "receive_buffers_small");
    }
    if send < asked.send {
        tracing::warn!(bytes = send, asked = asked.send, raise = "net.core.wmem_max", "send_buffers_small");
    }
    Ok(())
}

/// What to tell when a local port cannot be bound.
pub(super) fn cannot_bind(port: &LocalPort, error: &io::Error) -> io::Error {
    let role = match port.role {
        PortRole::Listener => "listener".to_owned(),
        PortRole::Worker { index } => format!("worker port {index}"),
    };
    let advice = match error.raw_os_error() {
        Some(libc::EADDRINUSE) => "; another process holds it: stop that one, or choose another port",
        Some(libc::EADDRNOTAVAIL) => "; no interface of this machine has that address",
        Some(libc::EACCES) => "; ports below 1024 need root or CAP_NET_BIND_SERVICE",
        Some(libc::EMFILE) => "; raise the limit of open files",
        _ => "",
    };
    io::Error::new(error.kind(), format!("cannot bind udp {} ({role}): {error}{advice}", port.bind))
}

fn bare(local: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(local), Type::DGRAM, Some(Protocol::UDP))?;
    if local.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}

fn buffer(socket: &Socket, force: i32, plain: i32, bytes: usize) -> io::Result<()> {
    let bytes = i32::try_from(bytes).unwrap_or(i32::MAX);
    // Without CAP_NET_ADMIN the limit of the system holds.
    set(socket, libc::SOL_SOCKET, force, bytes).or_else(|_| set(socket, libc::SOL_SOCKET, plain, bytes))
}

fn set(socket: &Socket, level: i32, name: i32, value: i32) -> io::Result<()> {
    set_fd(socket.as_raw_fd(), level, name, value)
}

fn set_fd(fd: RawFd, level: i32, name: i32, value: i32) -> io::Result<()> {
    let len = mem::size_of_val(&value) as libc::socklen_t;
    // SAFETY: a pointer to an integer and its length.
    let set = unsafe { libc::setsockopt(fd, level, name, (&raw const value).cast(), len) };
    if set < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
