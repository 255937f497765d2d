//! The datapath over plain sockets: recvmmsg, sendmmsg, epoll.
//!
//! Owns the worker's sockets and the list of those to be read; needs nothing that containers forbid.
//! Driven by the worker through the trait. A socket that filled its share of a batch is read again
//! without asking epoll; nothing is copied, and after the first turns nothing is allocated.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::RawFd;
use std::time::Duration;

use super::gate::Gate;
use super::inbox::Inbox;
use super::poll::{self, Poll};
use super::sockets::SocketId;
use super::{Batch, Counts, Datapath, Options, STALL, Waker};
use crate::packet::{Endpoints, Outbox, Packet, Pool, PortId};

/// The number under which epoll knows the waker.
const WAKER: u32 = u32::MAX;
/// The number of what is waited for on another's behalf, who reads it.
const GUEST: u32 = u32::MAX - 1;
/// Turns after which epoll is asked although sockets are known to be full: the others get their turn.
const POLL_EVERY: u32 = 8;
/// Failed receives of one socket in one turn.
const FAILURES_MAX: u32 = 4;

/// How the reading of one socket ended.
enum Read {
    /// With nothing left to read.
    Empty,
    /// For want of room in the batch, or it failed too often.
    More,
    /// For want of a free slot.
    Stalled,
}

/// A datapath over plain sockets.
pub struct Mmsg {
    inbox: Inbox,
    gate: Gate,
    poll: Poll,
    /// Sockets to be read, each once.
    listed: VecDeque<SocketId>,
    turns_unpolled: u32,
    pool: &'static Pool,
    waker: Waker,
    woken: bool,
}

impl Mmsg {
    /// Opens the sockets that `options.worker` holds. It keeps up to `options.batch` packets of
    /// `pool` ready to receive into, and is woken by `waker`.
    ///
    /// # Errors
    /// Names the address that cannot be bound, and why.
    pub fn open(options: &Options, pool: &'static Pool, waker: Waker) -> io::Result<Self> {
        let batch = options.batch.clamp(1, 1_024);
        let mut this = Self {
            inbox: Inbox::new(pool, batch),
            gate: Gate::open(options, batch)?,
            poll: Poll::new()?,
            listed: VecDeque::new(),
            turns_unpolled: 0,
            pool,
            waker,
            woken: false,
        };
        this.poll.watch(this.waker.fd(), WAKER)?;
        let ids: Vec<_> = this.gate.sockets.ids().collect();
        for id in ids {
            if let Some(open) = this.gate.sockets.at(id) {
                this.poll.watch(open.fd(), id)?;
            }
        }
        this.make_places();
        Ok(this)
    }

    /// The address that a held port is bound to.
    #[must_use]
    pub fn local(&self, port: PortId) -> Option<SocketAddr> {
        self.gate.local(port)
    }

    /// Ends waits when `fd` can be read, too, which is for the caller to do.
    pub(super) fn watch_too(&self, fd: RawFd) -> io::Result<()> {
        self.poll.watch(fd, GUEST)
    }

    /// Whether the waker fired since the last time this was asked.
    pub(super) fn was_woken(&mut self) -> bool {
        std::mem::take(&mut self.woken)
    }

    /// Destinations whose path asked for smaller packets since the last time this was asked. The kernel
    /// sends them fragments; others must ask the kernel to.
    pub(super) fn narrow(&mut self) -> impl Iterator<Item = IpAddr> + '_ {
        self.gate.narrow.drain(..)
    }

    /// Marks what unconnected sockets send with differentiated services, 0 to 63.
    pub(super) fn mark_services(&self, dscp: u8) -> io::Result<()> {
        self.gate.sockets.mark_services(dscp)
    }

    fn make_places(&mut self) {
        self.listed.reserve(self.gate.sockets.places());
    }

    fn list(&mut self, id: SocketId) {
        if let Some(open) = self.gate.sockets.at(id).filter(|open| !open.listed) {
            open.listed = true;
            self.listed.push_back(id);
        }
    }

    /// Reads the listed sockets until the batch is full. False if slots ran out.
    fn read_listed(&mut self, batch: &mut Batch) -> io::Result<bool> {
        for _ in 0..self.listed.len() {
            if batch.room() == 0 {
                break;
            }
            let Some(id) = self.listed.pop_front() else { break };
            match self.read(id, batch)? {
                Read::More => self.listed.push_back(id),
                Read::Stalled => {
                    self.listed.push_front(id);
                    self.gate.counts.stalls += 1;
                    return Ok(false);
                }
                Read::Empty => {
                    let leaves = self.gate.sockets.at(id).is_some_and(|open| {
                        open.listed = false;
                        open.leaving
                    });
                    if leaves {
                        self.gate.sockets.close(id);
                    }
                }
            }
        }
        Ok(true)
    }

    fn read(&mut self, id: SocketId, batch: &mut Batch) -> io::Result<Read> {
        if self.gate.sockets.at(id).is_some_and(|open| open.failed) {
            self.gate.read_returned(id);
        }
        for _ in 0..FAILURES_MAX {
            let Some(open) = self.gate.sockets.at(id) else { return Ok(Read::Empty) };
            let (fd, port) = (open.fd(), open.port);
            let asked = self.inbox.stock_up().min(batch.room());
            if asked == 0 {
                return Ok(Read::Stalled);
            }
            match self.inbox.receive(fd, port, asked, batch, &mut self.gate.counts) {
                Ok(came) if came < asked => return Ok(Read::Empty),
                Ok(_) => return Ok(Read::More),
                Err(libc::EAGAIN) => return Ok(Read::Empty),
                Err(libc::EINTR) => {}
                Err(errno @ (libc::EBADF | libc::ENOTSOCK | libc::EFAULT | libc::EINVAL)) => {
                    return Err(io::Error::from_raw_os_error(errno));
                }
                // Somebody's ICMP error, which the queue tells more of; datagrams wait behind it.
                Err(_) => {
                    self.gate.read_returned(id);
                }
            }
        }
        Ok(Read::More)
    }

    /// Asks epoll which sockets are ready, and lists them.
    fn poll(&mut self, wait: Option<Duration>) -> io::Result<()> {
        self.turns_unpolled = 0;
        for (id, failed) in self.poll.wait(wait)? {
            if id == WAKER {
                self.woken |= self.waker.silence();
            } else if let Some(open) = self.gate.sockets.at(id) {
                open.failed = failed;
                if !open.listed {
                    open.listed = true;
                    self.listed.push_back(id);
                }
            }
        }
        Ok(())
    }
}

impl Datapath for Mmsg {
    fn recv(&mut self, batch: &mut Batch, wait: Option<Duration>) -> io::Result<()> {
        self.gate.hand_events(batch);
        self.turns_unpolled += 1;
        if self.turns_unpolled >= POLL_EVERY {
            self.poll(Some(Duration::ZERO))?;
        }
        let mut slots = self.read_listed(batch)?;
        if slots && batch.is_empty() && batch.room() > 0 {
            self.gate.hand_events(batch);
            let wait = if batch.is_empty() { wait } else { Some(Duration::ZERO) };
            self.poll(wait)?;
            slots = self.read_listed(batch)?;
        }
        self.gate.hand_events(batch);
        if !slots && batch.is_empty() && wait != Some(Duration::ZERO) {
            poll::wait_for(self.waker.fd(), wait.map_or(STALL, |wait| wait.min(STALL)));
            self.waker.silence();
        }
        Ok(())
    }

    fn send(&mut self, out: &mut Outbox) {
        let before = self.gate.gone();
        let sends = out.sends();
        self.gate.sort(sends);
        let mut nth = 0;
        while let Some(id) = self.gate.outward.socket(nth) {
            self.gate.send_run(id, 0, sends);
            nth += 1;
        }
        debug_assert_eq!(self.gate.gone() - before, sends.len() as u64, "every packet is counted once");
        sends.clear();
    }

    fn take(&mut self) -> Option<Packet> {
        self.pool.take()
    }

    fn apply(&mut self, endpoints: &Endpoints) {
        let changes = self.gate.apply(endpoints);
        self.make_places();
        for id in changes.opened {
            let watched = self.gate.sockets.at(id).map(|open| open.fd()).map(|fd| self.poll.watch(fd, id));
            if let Some(Err(_)) = watched {
                // Unwatched, it would swallow what it receives.
                self.gate.sockets.close(id);
                self.gate.counts.connects_failed += 1;
            }
            // What came for others before it was connected is read at once.
            self.list(id);
        }
        for id in changes.leaving {
            self.list(id);
        }
    }

    fn waker(&self) -> Waker {
        self.waker.clone()
    }

    fn counts(&self) -> &Counts {
        &self.gate.counts
    }
}

impl fmt::Debug for Mmsg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mmsg").field("waker", &self.waker).field("counts", &self.gate.counts).finish_non_exhaustive()
    }
}
