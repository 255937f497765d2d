//! Arrays of message headers for recvmmsg and sendmmsg.
//!
//! Owns the headers, the address of each and the pointers to their bytes, which lie in packets that the
//! caller keeps. Filled and passed to the kernel by the socket datapaths; allocates once.

use std::mem;
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::ptr;

use libc::{cmsghdr, iovec, mmsghdr, msghdr};

use super::address::Name;
use super::{Batch, Counts, errors};
use crate::packet::PortId;

/// What tells the kernel to cut a send into datagrams of one size.
#[derive(Clone, Copy)]
#[repr(C)]
struct Segment {
    header: cmsghdr,
    size: u16,
}

/// Its length without what aligns the next one.
const SEGMENT_LEN: usize = mem::size_of::<cmsghdr>() + mem::size_of::<u16>();

const _: () = assert!(mem::offset_of!(Segment, size) == mem::size_of::<cmsghdr>());

/// Headers, each tied for good to one address and one control message, and as many pointers to bytes.
pub(super) struct Headers {
    headers: Vec<mmsghdr>,
    bytes: Vec<iovec>,
    names: Vec<Name>,
    segments: Vec<Segment>,
}

// SAFETY: the headers point into the other vectors, whose memory does not move with them, and
// into packets, which are `Send` and stay with the same owner.
unsafe impl Send for Headers {}

/// What the kernel said of one received datagram.
pub(super) struct Told {
    pub(super) len: usize,
    pub(super) truncated: bool,
    pub(super) source: Option<SocketAddr>,
}

impl Told {
    /// Tells it to the last packet of `batch`, which the datagram is in and which came by `port`. One
    /// of no use is dropped and counted.
    #[inline]
    pub(super) fn settle(self, port: PortId, batch: &mut Batch, counts: &mut Counts) {
        let Some(packet) = batch.packets.last_mut() else { return };
        // Port 0 means that the sender expects no answer; nothing can be sent there.
        match self.source.filter(|source| source.port() != 0) {
            Some(source) if !self.truncated => {
                packet.received(self.len, port, source);
                counts.received += 1;
            }
            _ => {
                // The slot learns how much of it was written before it goes back.
                packet.received(self.len, port, packet.source);
                counts.truncated += u64::from(self.truncated);
                counts.sourceless += u64::from(!self.truncated);
                batch.packets.pop();
            }
        }
    }
}

impl Headers {
    pub(super) fn new(count: usize) -> Self {
        let mut bytes = vec![iovec { iov_base: ptr::null_mut(), iov_len: 0 }; count];
        let mut names = vec![Name::NONE; count];
        let header = cmsghdr { cmsg_len: SEGMENT_LEN as _, cmsg_level: libc::SOL_UDP, cmsg_type: libc::UDP_SEGMENT };
        let mut segments = vec![Segment { header, size: 0 }; count];
        let headers = bytes
            .iter_mut()
            .zip(names.iter_mut())
            .zip(segments.iter_mut())
            .map(|((bytes, name), segment)| mmsghdr {
                msg_hdr: msghdr {
                    msg_name: ptr::from_mut(name).cast(),
                    msg_namelen: 0,
                    msg_iov: bytes,
                    msg_iovlen: 1,
                    msg_control: ptr::from_mut(segment).cast(),
                    msg_controllen: 0,
                    msg_flags: 0,
                },
                msg_len: 0,
            })
            .collect();
        Self { headers, bytes, names, segments }
    }

    pub(super) fn len(&self) -> usize {
        self.headers.len()
    }

    /// Lets header `at` receive into `room`.
    #[inline]
    pub(super) fn receive_into(&mut self, at: usize, room: &mut [u8]) {
        let (Some(header), Some(bytes)) = (self.headers.get_mut(at), self.bytes.get_mut(at)) else { return };
        *bytes = iovec { iov_base: room.as_mut_ptr().cast(), iov_len: room.len() };
        header.msg_hdr.msg_namelen = Name::ROOM;
        header.msg_hdr.msg_flags = 0;
    }

    /// Lets header `at` send `datagrams`, to `to`, or to where its socket is connected to: with the pointers from `from`
    /// on, and as one train if there are several, whose size is that of the first.
    #[inline]
    pub(super) fn send_from<'a>(
        &mut self,
        at: usize,
        from: usize,
        mut datagrams: impl Iterator<Item = &'a [u8]>,
        to: Option<SocketAddr>,
    ) {
        let Some(header) = self.headers.get_mut(at).map(|header| &mut header.msg_hdr) else { return };
        let Some(bytes) = self.bytes.get_mut(from..) else { return };
        header.msg_namelen = match (to, self.names.get_mut(at)) {
            (Some(to), Some(name)) => name.write(to),
            // Of length 0 an address is not read.
            _ => 0,
        };
        header.msg_iov = bytes.as_mut_ptr();
        header.msg_controllen = 0;
        let mut count = 0;
        let mut size = 0;
        for (place, datagram) in bytes.iter_mut().zip(&mut datagrams) {
            *place = iovec { iov_base: datagram.as_ptr().cast_mut().cast(), iov_len: datagram.len() };
            debug_assert!(count == 0 || datagram.len() <= size, "the first is the longest of a train");
            size = if count == 0 { datagram.len() } else { size };
            count += 1;
        }
        header.msg_iovlen = count as _;
        if count > 1
            && let Some(segment) = self.segments.get_mut(at)
        {
            segment.size = size as u16;
            header.msg_controllen = mem::size_of::<Segment>() as _;
        }
    }

    /// The header `at` as one call takes it, or one request of a ring.
    #[inline]
    pub(super) fn one(&self, at: usize) -> Option<&msghdr> {
        self.headers.get(at).map(|header| &header.msg_hdr)
    }

    /// What came in by header `at`.
    #[inline]
    pub(super) fn told(&self, at: usize) -> Option<Told> {
        let header = self.headers.get(at)?;
        Some(Told {
            len: header.msg_len as usize,
            truncated: header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0,
            source: self.names.get(at)?.read(header.msg_hdr.msg_namelen),
        })
    }

    /// Receives by the `count` headers from `at` on, without waiting; how many were used, or the
    /// error number.
    ///
    /// # Safety
    /// Each of them was given room, to which nothing else refers, since it last received.
    pub(super) unsafe fn recv(&mut self, fd: RawFd, at: usize, count: usize) -> Result<usize, i32> {
        let headers = self.headers.get_mut(at..at + count).unwrap_or_default();
        // SAFETY: `count` headers, whose pointers the caller vouches for.
        let received = unsafe {
            libc::recvmmsg(fd, headers.as_mut_ptr(), headers.len() as u32, libc::MSG_DONTWAIT, ptr::null_mut())
        };
        usize::try_from(received).map_err(|_| errors::errno())
    }

    /// Sends by the `count` headers from `at` on, without waiting; how many the kernel took, or the
    /// error number of the first.
    ///
    /// # Safety
    /// Each of them was given a datagram that still exists.
    pub(super) unsafe fn send(&mut self, fd: RawFd, at: usize, count: usize) -> Result<usize, i32> {
        let headers = self.headers.get_mut(at..at + count).unwrap_or_default();
        // SAFETY: as above; the kernel has copied the bytes when the call returns.
        let sent = unsafe { libc::sendmmsg(fd, headers.as_mut_ptr(), headers.len() as u32, libc::MSG_DONTWAIT) };
        usize::try_from(sent).map_err(|_| errors::errno())
    }
}
