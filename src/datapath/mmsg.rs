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

use super::inbox::Inbox;
use super::outward::Outward;
use super::poll::{self, Poll};
use super::sockets::{SocketId, Sockets};
use super::{Batch, Counts, Datapath, Options, UNFRAGMENTED_V4, UNFRAGMENTED_V6, Waker, errors};
use crate::packet::{Endpoints, Event, Outbox, Outgoing, Packet, Pool, PortId, Trouble};

/// The number under which epoll knows the waker.
const WAKER: u32 = u32::MAX;
/// The number of what is waited for on another's behalf, who reads it.
const GUEST: u32 = u32::MAX - 1;
/// Turns after which epoll is asked although sockets are known to be full: the others get their turn.
const POLL_EVERY: u32 = 8;
/// How long a receive without a free slot sleeps: nothing tells when another thread frees one.
const STALL: Duration = Duration::from_millis(1);
/// Tries of one datagram at most: every failure for somebody else's error leaves it unsent.
const TRIES_MAX: u32 = 5;
/// Failed receives of one socket in one turn.
const FAILURES_MAX: u32 = 4;
/// Entries read from an error queue at once.
const RETURNED_MAX: u32 = 256;
/// Events kept for the next receive.
const EVENTS_MAX: usize = 256;
/// Destinations behind narrow paths that are kept for whoever asks.
const NARROW_MAX: usize = 64;

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
    outward: Outward,
    sockets: Sockets,
    poll: Poll,
    /// Sockets to be read, each once.
    listed: VecDeque<SocketId>,
    turns_unpolled: u32,
    events: Vec<Event>,
    pool: &'static Pool,
    waker: Waker,
    woken: bool,
    narrow: Vec<IpAddr>,
    counts: Counts,
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
            outward: Outward::new(batch),
            sockets: Sockets::open(options)?,
            poll: Poll::new()?,
            listed: VecDeque::new(),
            turns_unpolled: 0,
            events: Vec::with_capacity(EVENTS_MAX),
            pool,
            waker,
            woken: false,
            narrow: Vec::new(),
            counts: Counts::default(),
        };
        this.poll.watch(this.waker.fd(), WAKER)?;
        let ids: Vec<_> = this.sockets.ids().collect();
        for id in ids {
            if let Some(open) = this.sockets.at(id) {
                this.poll.watch(open.fd(), id)?;
            }
        }
        this.make_places();
        Ok(this)
    }

    /// The address that a held port is bound to.
    #[must_use]
    pub fn local(&self, port: PortId) -> Option<SocketAddr> {
        self.sockets.local(port)
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
        self.narrow.drain(..)
    }

    /// Marks what unconnected sockets send with differentiated services, 0 to 63.
    pub(super) fn mark_services(&self, dscp: u8) -> io::Result<()> {
        self.sockets.mark_services(dscp)
    }

    fn make_places(&mut self) {
        let places = self.sockets.places();
        self.outward.sockets_max(places);
        self.listed.reserve(places);
    }

    fn list(&mut self, id: SocketId) {
        if let Some(open) = self.sockets.at(id).filter(|open| !open.listed) {
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
                    self.counts.stalls += 1;
                    return Ok(false);
                }
                Read::Empty => {
                    let leaves = self.sockets.at(id).is_some_and(|open| {
                        open.listed = false;
                        open.leaving
                    });
                    if leaves {
                        self.sockets.close(id);
                    }
                }
            }
        }
        Ok(true)
    }

    fn read(&mut self, id: SocketId, batch: &mut Batch) -> io::Result<Read> {
        if self.sockets.at(id).is_some_and(|open| open.failed) {
            self.read_returned(id);
        }
        for _ in 0..FAILURES_MAX {
            let Some(open) = self.sockets.at(id) else { return Ok(Read::Empty) };
            let (fd, port) = (open.fd(), open.port);
            let asked = self.inbox.stock_up().min(batch.room());
            if asked == 0 {
                return Ok(Read::Stalled);
            }
            match self.inbox.receive(fd, port, asked, batch, &mut self.counts) {
                Ok(came) if came < asked => return Ok(Read::Empty),
                Ok(_) => return Ok(Read::More),
                Err(libc::EAGAIN) => return Ok(Read::Empty),
                Err(libc::EINTR) => {}
                Err(errno @ (libc::EBADF | libc::ENOTSOCK | libc::EFAULT | libc::EINVAL)) => {
                    return Err(io::Error::from_raw_os_error(errno));
                }
                // Somebody's ICMP error, which the queue tells more of; datagrams wait behind it.
                Err(_) => {
                    self.read_returned(id);
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
            } else if let Some(open) = self.sockets.at(id) {
                open.failed = failed;
                if !open.listed {
                    open.listed = true;
                    self.listed.push_back(id);
                }
            }
        }
        Ok(())
    }

    /// Empties the error queue of a socket; how many of its entries were errors of peers.
    #[cold]
    fn read_returned(&mut self, id: SocketId) -> u32 {
        let Some(open) = self.sockets.at(id) else { return 0 };
        open.failed = false;
        let (fd, port) = (open.fd(), open.port);
        let mut of_peers = 0;
        for _ in 0..RETURNED_MAX {
            let Some(returned) = errors::take_returned(fd) else { break };
            self.counts.icmp += u64::from(returned.from_network);
            of_peers += u32::from(returned.from_network);
            if let Some(to) = returned.to.filter(|_| returned.narrow && self.narrow.len() < NARROW_MAX) {
                self.narrow.push(to.ip());
            }
            if let (Some(to), Some(trouble)) = (returned.to, returned.trouble) {
                self.tell(Event { port, to, trouble });
            }
        }
        of_peers
    }

    /// Keeps an event for the next receive; the same one is told once.
    fn tell(&mut self, event: Event) {
        if self.events.contains(&event) {
            return;
        }
        if self.events.len() < EVENTS_MAX {
            self.events.push(event);
        } else {
            self.counts.events_lost += 1;
        }
    }

    fn hand_events(&mut self, batch: &mut Batch) {
        let count = self.events.len().min(batch.events_room());
        for event in self.events.drain(..count) {
            if !batch.events.contains(&event) {
                batch.events.push(event);
            }
        }
    }

    /// Sends the run of one socket, a batch at a time.
    fn send_run(&mut self, id: SocketId, sends: &[Outgoing]) {
        let Some(open) = self.sockets.at(id) else {
            self.counts.send_errors.other += self.outward.give_up(id);
            return;
        };
        let connected = open.peer.is_some();
        loop {
            let loaded = self.outward.load(id, connected, sends);
            if loaded == 0 {
                return;
            }
            if !self.send_loaded(id, loaded, sends) {
                self.counts.send_errors.full += self.outward.give_up(id);
                return;
            }
        }
    }

    /// Sends the loaded headers, each of which is counted once. False if the socket is full: the
    /// rest of them was given up, and so should be the rest of the run.
    fn send_loaded(&mut self, id: SocketId, loaded: usize, sends: &[Outgoing]) -> bool {
        let Some(fd) = self.sockets.at(id).map(|open| open.fd()) else { return false };
        let (mut at, mut tries) = (0, 0);
        while at < loaded {
            self.counts.syscalls += 1;
            // SAFETY: the headers were pointed at packets of the outbox, which `sends` borrows.
            match unsafe { self.outward.headers.send(fd, at, loaded - at) } {
                Ok(sent) => {
                    self.counts.sent += sent as u64;
                    (at, tries) = (at + sent, 0);
                }
                Err(libc::EINTR) => {}
                Err(libc::EAGAIN) => {
                    self.counts.send_errors.full += (loaded - at) as u64;
                    return false;
                }
                Err(errno) => {
                    tries += 1;
                    // An error that came back for an earlier datagram, of whatever peer, fails the
                    // next one unsent. So it is tried once more; and again as long as such come.
                    let pending = self.read_returned(id) > 0;
                    if tries == 1 || (pending && tries < TRIES_MAX) {
                        self.counts.retried += 1;
                        continue;
                    }
                    self.count_unsent(id, errno, at, sends);
                    (at, tries) = (at + 1, 0);
                }
            }
        }
        true
    }

    #[cold]
    fn count_unsent(&mut self, id: SocketId, errno: i32, at: usize, sends: &[Outgoing]) {
        let trouble: Option<Trouble> = errors::count(errno, &mut self.counts.send_errors);
        let port = self.sockets.at(id).map(|open| open.port);
        let to = self.outward.loaded(at, sends).map(|outgoing| outgoing.egress.to);
        if let (Some(trouble), Some(port), Some(to)) = (trouble, port, to) {
            self.tell(Event { port, to, trouble });
        }
    }
}

impl Datapath for Mmsg {
    fn recv(&mut self, batch: &mut Batch, wait: Option<Duration>) -> io::Result<()> {
        self.hand_events(batch);
        self.turns_unpolled += 1;
        if self.turns_unpolled >= POLL_EVERY {
            self.poll(Some(Duration::ZERO))?;
        }
        let mut slots = self.read_listed(batch)?;
        if slots && batch.is_empty() && batch.room() > 0 {
            self.hand_events(batch);
            let wait = if batch.is_empty() { wait } else { Some(Duration::ZERO) };
            self.poll(wait)?;
            slots = self.read_listed(batch)?;
        }
        self.hand_events(batch);
        if !slots && batch.is_empty() && wait != Some(Duration::ZERO) {
            poll::wait_for(self.waker.fd(), wait.map_or(STALL, |wait| wait.min(STALL)));
            self.waker.silence();
        }
        Ok(())
    }

    fn send(&mut self, out: &mut Outbox) {
        let before = self.counts.sent + self.counts.send_errors.sum();
        let sends = out.sends();
        self.outward.clear();
        for Outgoing { packet, egress, .. } in sends.iter() {
            let way = self.sockets.way(egress);
            self.outward.add(way.map(|way| way.socket));
            let unfragmented = if egress.to.is_ipv4() { UNFRAGMENTED_V4 } else { UNFRAGMENTED_V6 };
            self.counts.fragmented += u64::from(packet.len() > unfragmented);
            self.counts.rerouted += u64::from(way.is_some_and(|way| way.rerouted));
            self.counts.send_errors.no_port += u64::from(way.is_none());
        }
        let mut nth = 0;
        while let Some(id) = self.outward.socket(nth) {
            self.send_run(id, sends);
            nth += 1;
        }
        let after = self.counts.sent + self.counts.send_errors.sum();
        debug_assert_eq!(after - before, sends.len() as u64, "every packet is counted once");
        sends.clear();
    }

    fn take(&mut self) -> Option<Packet> {
        self.pool.take()
    }

    fn apply(&mut self, endpoints: &Endpoints) {
        let changes = self.sockets.apply(endpoints);
        self.counts.connects_failed += changes.failed;
        self.make_places();
        for id in changes.opened {
            let watched = self.sockets.at(id).map(|open| open.fd()).map(|fd| self.poll.watch(fd, id));
            if let Some(Err(_)) = watched {
                // Unwatched, it would swallow what it receives.
                self.sockets.close(id);
                self.counts.connects_failed += 1;
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
        &self.counts
    }
}

impl fmt::Debug for Mmsg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mmsg").field("waker", &self.waker).field("counts", &self.counts).finish_non_exhaustive()
    }
}
