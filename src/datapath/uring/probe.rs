//! Whether this process may use io_uring, and the kernel has all of it that is needed.
//!
//! Tries it, on a pair of sockets of its own, once before the workers start: a list of versions
//! would know nothing of seccomp, of containers or of patches that distributions carry back.

use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use io_uring::{cqueue, opcode, squeue, types};

use super::ring::{Ring, Tag};
use super::stock::{GROUP, Stock, header};
use crate::packet::{Pool, PoolOptions, PortId};

/// Longer than a datagram takes from one socket to the other here.
const PATIENCE: Duration = Duration::from_secs(1);
const SENT: &[u8] = b"probe";
const RECEIVE: Tag = Tag::Receive { id: 0, port: PortId(0), generation: 0 };
const SEND: Tag = Tag::Send { id: 0, train: 0 };

/// Receives a datagram as the datapath does, and ends receiving.
pub(super) fn probe() -> io::Result<()> {
    let mut ring = Ring::new(8, 32).map_err(told)?;
    let params = ring.io().params();
    if !(params.is_feature_ext_arg() && params.is_feature_nodrop() && params.is_feature_skip_cqe_on_success()) {
        return Err(lacking("waiting with a timeout, or completions of failures only"));
    }
    let pool = Pool::new(&PoolOptions { slots: 2, threads: 1 })?;
    let mut stock = Stock::new(&ring, pool, 2).map_err(told)?;
    stock.fill();
    let header = header();
    let (here, there) = UnixDatagram::pair()?;
    let receive = opcode::RecvMsgMulti::new(types::Fd(here.as_raw_fd()), &raw const header, GROUP);
    // SAFETY: the header, the buffers in stock and the bytes sent outlive the ring's use of them.
    unsafe { ring.push(receive.build(), RECEIVE) };
    let send = opcode::Send::new(types::Fd(there.as_raw_fd()), SENT.as_ptr(), SENT.len() as u32);
    let send = send.flags(libc::MSG_DONTWAIT).build().flags(squeue::Flags::SKIP_SUCCESS);
    // SAFETY: as above.
    unsafe { ring.push(send, SEND) };
    let (result, flags) = completion(&mut ring)?;
    let packet = cqueue::buffer_select(flags).and_then(|number| stock.filled(number));
    let told = packet.and_then(|mut packet| Stock::told(&mut packet, result, &header));
    if !cqueue::more(flags) || told.is_none_or(|told| told.len != SENT.len()) {
        return Err(lacking("multishot recvmsg"));
    }
    let cancel = opcode::AsyncCancel::new(RECEIVE.pack()).build().flags(squeue::Flags::SKIP_SUCCESS);
    // SAFETY: it points to nothing.
    unsafe { ring.push(cancel, Tag::Waker) };
    match completion(&mut ring)? {
        (result, flags) if result == -libc::ECANCELED && !cqueue::more(flags) => Ok(()),
        _ => Err(lacking("cancelling a receive")),
    }
}

/// The next completion, which is to be one of the receive.
fn completion(ring: &mut Ring) -> io::Result<(i32, u32)> {
    ring.enter(Some(PATIENCE)).map_err(told)?;
    let first = ring.completions().next();
    match first {
        Some((RECEIVE, result, flags)) => Ok((result, flags)),
        Some((SEND, ..)) => Err(lacking("sends that tell of failures only")),
        _ => Err(lacking("receives and cancels that complete")),
    }
}

fn lacking(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, format!("io_uring of this kernel lacks {what}; Linux 6.1 has all of it"))
}

/// Says of an error of a system call of io_uring what it means here.
pub(super) fn told(error: io::Error) -> io::Error {
    let text = match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => {
            "io_uring is forbidden to this process, by seccomp (as in Docker) or by kernel.io_uring_disabled"
        }
        Some(libc::ENOSYS) => "this kernel has no io_uring, or it is forbidden by seccomp",
        Some(libc::EINVAL) => "io_uring of this kernel lacks SINGLE_ISSUER or DEFER_TASKRUN; Linux 6.1 has both",
        Some(libc::ENOMEM) => "no memory for the rings; more of LimitMEMLOCK may be right",
        _ => return io::Error::new(io::ErrorKind::Unsupported, format!("io_uring fails: {error}")),
    };
    io::Error::new(io::ErrorKind::Unsupported, text)
}
