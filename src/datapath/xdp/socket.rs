//! One AF_XDP socket: a queue of an interface, with four rings over the shared frames.
//!
//! Owns descriptor and rings, and calls the kernel when it asks to be called. Driven by `lane`; what
//! stands in the frames is not its business. Closing it gives the frames back to nobody: the region
//! lives as long as the process.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::thread;
use std::time::Duration;

use super::program::KERNEL_ROOM;
use super::ring::{Giving, Place, Taking};
use crate::datapath::errors;
use crate::packet::{FRAME_BYTES, Pool};

/// Pages at which the rings are mapped.
const PAGE_FILL: i64 = 0x1_0000_0000;
const PAGE_COMPLETION: i64 = 0x1_8000_0000;
const PAGE_SEND: i64 = 0x8000_0000;
const PAGE_RECEIVE: i64 = 0;

/// `SOL_XDP` option of newer kernels: frames sent by one call, in copy mode.
const SEND_BUDGET: i32 = 9;
/// Tries of a bind: a queue stays busy for some milliseconds after its last owner died.
const BINDS_MAX: u32 = 1_000;
const BIND_AGAIN: Duration = Duration::from_millis(3);
/// Calls at most to send what is in the ring.
const CALLS_MAX: u32 = 128;

/// How a socket passes frames to the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Passing {
    /// The driver reads and writes our frames.
    ZeroCopy,
    /// The kernel copies.
    Copy,
}

/// The frames and who registered them: the first socket; all others share.
pub(super) enum Umem {
    Own(Passing),
    SharedWith(RawFd),
}

/// A queue to be opened.
pub(super) struct Queue<'a> {
    /// The kernel's number of the interface.
    pub(super) interface: u32,
    pub(super) queue: u32,
    /// Entries of each ring, a power of two.
    pub(super) ring: u32,
    pub(super) frames: &'a Pool,
}

/// What the kernel dropped on a socket's way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Drops {
    /// Frames received for which there was no free frame, or which were too long for one.
    pub(super) received: u64,
    /// Frames to be sent that the kernel found invalid.
    pub(super) invalid: u64,
}

/// An open socket.
pub(super) struct Socket {
    fd: OwnedFd,
    pub(super) fill: Giving<u64>,
    pub(super) completion: Taking<u64>,
    pub(super) receive: Taking<libc::xdp_desc>,
    pub(super) send: Giving<libc::xdp_desc>,
}

impl Socket {
    pub(super) fn open(queue: &Queue<'_>, umem: &Umem) -> io::Result<Self> {
        // SAFETY: no pointers are passed.
        let fd = unsafe { libc::socket(libc::AF_XDP, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a descriptor just made, owned by nobody else.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let raw = fd.as_raw_fd();
        if let Umem::Own(_) = umem {
            register(raw, queue.frames)?;
        }
        for ring in [libc::XDP_RX_RING, libc::XDP_TX_RING, libc::XDP_UMEM_FILL_RING, libc::XDP_UMEM_COMPLETION_RING] {
            set(raw, libc::SOL_XDP, ring, &queue.ring)?;
        }
        // Only newer kernels have it.
        let _ = set(raw, libc::SOL_XDP, SEND_BUDGET, &queue.ring.min(1_024));
        bind(raw, queue, umem)?;
        let offsets = offsets(raw)?;
        let place = |page, at| Place { fd: raw, page, at, size: queue.ring };
        Ok(Self {
            fill: Giving::map(&place(PAGE_FILL, &offsets.fr))?,
            completion: Taking::map(&place(PAGE_COMPLETION, &offsets.cr))?,
            receive: Taking::map(&place(PAGE_RECEIVE, &offsets.rx))?,
            send: Giving::map(&place(PAGE_SEND, &offsets.tx))?,
            fd,
        })
    }

    pub(super) fn fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    /// Lets the kernel serve the queue inside our calls, at most `budget` frames each, instead of by
    /// interrupts.
    pub(super) fn busy_poll(&self, us: u32, budget: u32) -> io::Result<()> {
        set(self.fd(), libc::SOL_SOCKET, libc::SO_PREFER_BUSY_POLL, &1_u32)?;
        set(self.fd(), libc::SOL_SOCKET, libc::SO_BUSY_POLL, &us)?;
        set(self.fd(), libc::SOL_SOCKET, libc::SO_BUSY_POLL_BUDGET, &budget)
    }

    /// Has the kernel send what was submitted; how many calls that took.
    pub(super) fn push(&mut self) -> u64 {
        let mut calls = 0;
        if !self.send.asks_for_call() {
            return 0;
        }
        for _ in 0..CALLS_MAX {
            calls += 1;
            // SAFETY: no bytes are passed; the call only says that there is something in the ring.
            let sent = unsafe { libc::sendto(self.fd(), ptr::null(), 0, libc::MSG_DONTWAIT, ptr::null(), 0) };
            // EAGAIN: it took a share and left the rest.
            let more = sent >= 0 || matches!(errors::errno(), libc::EAGAIN | libc::EINTR);
            if !more || self.send.pending() == 0 {
                break;
            }
        }
        calls
    }

    /// Has the kernel look for received frames, if it asks for that or `busy` polling is on; how many
    /// calls that took.
    pub(super) fn pull(&mut self, busy: bool) -> u64 {
        if !busy && !self.fill.asks_for_call() {
            return 0;
        }
        // SAFETY: no room is passed; the call only says that there are free frames in the ring.
        unsafe { libc::recvfrom(self.fd(), ptr::null_mut(), 0, libc::MSG_DONTWAIT, ptr::null_mut(), ptr::null_mut()) };
        1
    }

    /// Frames of ours that the kernel has.
    pub(super) fn lent(&self) -> u64 {
        self.fill.given() + self.send.given() - self.receive.taken() - self.completion.taken()
    }

    pub(super) fn drops(&self) -> Drops {
        // SAFETY: numbers only, for which zeros are valid.
        let mut told: libc::xdp_statistics = unsafe { std::mem::zeroed() };
        if read(self.fd(), libc::XDP_STATISTICS, &mut told).is_err() {
            return Drops::default();
        }
        Drops { received: told.rx_dropped + told.rx_ring_full, invalid: told.tx_invalid_descs + told.rx_invalid_descs }
    }
}

fn register(fd: RawFd, frames: &Pool) -> io::Result<()> {
    let (base, bytes) = frames.area().ok_or_else(|| io::Error::other("a region that is not one of frames"))?;
    // SAFETY: numbers only, for which zeros are valid.
    let mut area: libc::xdp_umem_reg = unsafe { std::mem::zeroed() };
    area.addr = base.as_ptr() as u64;
    area.len = bytes as u64;
    area.chunk_size = FRAME_BYTES as u32;
    area.headroom = KERNEL_ROOM as u32;
    set(fd, libc::SOL_XDP, libc::XDP_UMEM_REG, &area)
}

fn bind(fd: RawFd, queue: &Queue<'_>, umem: &Umem) -> io::Result<()> {
    // A socket that shares inherits all other flags, and must not name them.
    let (flags, shared) = match umem {
        Umem::Own(Passing::ZeroCopy) => (libc::XDP_ZEROCOPY | libc::XDP_USE_NEED_WAKEUP, 0),
        Umem::Own(Passing::Copy) => (libc::XDP_COPY | libc::XDP_USE_NEED_WAKEUP, 0),
        Umem::SharedWith(fd) => (libc::XDP_SHARED_UMEM, *fd as u32),
    };
    let address = libc::sockaddr_xdp {
        sxdp_family: libc::AF_XDP as u16,
        sxdp_flags: flags,
        sxdp_ifindex: queue.interface,
        sxdp_queue_id: queue.queue,
        sxdp_shared_umem_fd: shared,
    };
    for _ in 1..BINDS_MAX {
        match bind_once(fd, &address) {
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => thread::sleep(BIND_AGAIN),
            bound => return bound,
        }
    }
    bind_once(fd, &address)
}

fn bind_once(fd: RawFd, address: &libc::sockaddr_xdp) -> io::Result<()> {
    let len = size_of::<libc::sockaddr_xdp>() as libc::socklen_t;
    // SAFETY: an address and its length.
    let bound = unsafe { libc::bind(fd, ptr::from_ref(address).cast(), len) };
    if bound < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn offsets(fd: RawFd) -> io::Result<libc::xdp_mmap_offsets> {
    // SAFETY: numbers only, for which zeros are valid.
    let mut offsets: libc::xdp_mmap_offsets = unsafe { std::mem::zeroed() };
    read(fd, libc::XDP_MMAP_OFFSETS, &mut offsets).map(|()| offsets)
}

fn set<T>(fd: RawFd, level: i32, option: i32, value: &T) -> io::Result<()> {
    let len = size_of::<T>() as libc::socklen_t;
    // SAFETY: a value and its length.
    let set = unsafe { libc::setsockopt(fd, level, option, ptr::from_ref(value).cast(), len) };
    if set < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn read<T>(fd: RawFd, option: i32, value: &mut T) -> io::Result<()> {
    let mut len = size_of::<T>() as libc::socklen_t;
    // SAFETY: room for a value, and its length.
    let read = unsafe { libc::getsockopt(fd, libc::SOL_XDP, option, ptr::from_mut(value).cast(), &raw mut len) };
    if read < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
