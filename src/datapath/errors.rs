//! What the kernel tells of sends that failed.
//!
//! Reads the error queues on which ICMP errors come back, and sorts error numbers into counts and
//! troubles. Called by the datapaths over sockets, off the hot path; decides nothing about a peer.

use std::io;
use std::mem;
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::ptr;

use super::SendErrors;
use super::address::Name;
use crate::packet::Trouble;

/// One entry of a socket's error queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Returned {
    /// Where the datagram was going that the error is about.
    pub(super) to: Option<SocketAddr>,
    /// It came from the network, not from a send that found it out here.
    pub(super) from_network: bool,
    /// What it says about the peer; none if it says nothing.
    pub(super) trouble: Option<Trouble>,
    /// The path asks for smaller packets: the kernel makes fragments from now on.
    pub(super) narrow: bool,
}

/// The number of the last failed system call.
pub(super) fn errno() -> i32 {
    io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

/// Takes the oldest entry from the error queue of `fd`; none when it is empty.
pub(super) fn take_returned(fd: RawFd) -> Option<Returned> {
    let mut name = Name::NONE;
    // Aligned for control messages; the kernel's longest here is an error and an IPv6 address.
    let mut control = [0u64; 32];
    // SAFETY: a header of zeros is a valid empty one.
    let mut header: libc::msghdr = unsafe { mem::zeroed() };
    header.msg_name = (&raw mut name).cast();
    header.msg_namelen = Name::ROOM;
    header.msg_control = control.as_mut_ptr().cast();
    header.msg_controllen = mem::size_of_val(&control);
    // SAFETY: the header points to buffers on this frame, with their lengths.
    let read = unsafe { libc::recvmsg(fd, &raw mut header, libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT) };
    if read < 0 {
        return None;
    }
    let error = extended_error(&header);
    // What was found out here, without the peer, is reported by the send itself.
    let from_network = error.is_some_and(|e| matches!(e.ee_origin, libc::SO_EE_ORIGIN_ICMP | libc::SO_EE_ORIGIN_ICMP6));
    let too_big = error.is_some_and(|e| e.ee_errno == libc::EMSGSIZE as u32);
    let trouble = (from_network && !too_big).then_some(Trouble::Unreachable);
    let narrow = from_network && too_big;
    Some(Returned { to: name.read(header.msg_namelen), from_network, trouble, narrow })
}

fn extended_error(header: &libc::msghdr) -> Option<libc::sock_extended_err> {
    // SAFETY: the kernel filled in `msg_control` and `msg_controllen`, which these walk.
    let mut at = unsafe { libc::CMSG_FIRSTHDR(header) };
    while !at.is_null() {
        // SAFETY: not null, so a whole control header inside the control buffer.
        let control = unsafe { ptr::read_unaligned(at) };
        let kind = (control.cmsg_level, control.cmsg_type);
        if kind == (libc::SOL_IP, libc::IP_RECVERR) || kind == (libc::SOL_IPV6, libc::IPV6_RECVERR) {
            // SAFETY: control messages of these two kinds begin with an extended error.
            return Some(unsafe { ptr::read_unaligned(libc::CMSG_DATA(at).cast()) });
        }
        // SAFETY: as for the first.
        at = unsafe { libc::CMSG_NXTHDR(header, at) };
    }
    None
}

/// Counts a datagram that was not sent for `errno`, and tells the peer's trouble, if it is about it.
pub(super) fn count(errno: i32, errors: &mut SendErrors) -> Option<Trouble> {
    match errno {
        libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM => {
            errors.full += 1;
            None
        }
        libc::ECONNREFUSED | libc::EHOSTUNREACH | libc::ENETUNREACH | libc::EHOSTDOWN | libc::ENONET => {
            errors.unreachable += 1;
            Some(Trouble::Unreachable)
        }
        libc::EMSGSIZE => {
            errors.too_long += 1;
            Some(Trouble::TooLong)
        }
        _ => {
            errors.other += 1;
            None
        }
    }
}
