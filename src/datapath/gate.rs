//! What the datapaths over kernel sockets have in common.
//!
//! Owns the worker's sockets, what is known of failed sends until a receive hands it up, and the
//! counts. Sorts a turn by socket, sends a socket's share by sendmmsg, reads error queues. Driven by
//! `mmsg` and `uring`, which differ in how they wait and receive.

use std::io;
use std::net::{IpAddr, SocketAddr};

use super::outward::Outward;
use super::sockets::{Changes, SocketId, Sockets};
use super::{Batch, Counts, Options, UNFRAGMENTED_V4, UNFRAGMENTED_V6, errors};
use crate::packet::{Endpoints, Event, Outgoing, PortId, Trouble};

/// Tries of one datagram at most: every failure for somebody else's error leaves it unsent.
const TRIES_MAX: u32 = 5;
/// Entries read from an error queue at once.
const RETURNED_MAX: u32 = 256;
/// Events kept for the next receive.
const EVENTS_MAX: usize = 256;
/// Destinations behind narrow paths that are kept for whoever asks.
const NARROW_MAX: usize = 64;

/// Sockets, events, counts.
pub(super) struct Gate {
    pub(super) sockets: Sockets,
    pub(super) outward: Outward,
    pub(super) counts: Counts,
    /// Destinations whose path asked for smaller packets.
    pub(super) narrow: Vec<IpAddr>,
    events: Vec<Event>,
}

impl Gate {
    /// Opens the sockets that `options.worker` holds.
    pub(super) fn open(options: &Options, batch: usize) -> io::Result<Self> {
        let mut this = Self {
            sockets: Sockets::open(options)?,
            outward: Outward::new(batch),
            counts: Counts::default(),
            narrow: Vec::new(),
            events: Vec::with_capacity(EVENTS_MAX),
        };
        this.make_places();
        Ok(this)
    }

    pub(super) fn local(&self, port: PortId) -> Option<SocketAddr> {
        self.sockets.local(port)
    }

    /// Connects to new endpoints; the datapath begins or ends receiving by what changed.
    pub(super) fn apply(&mut self, endpoints: &Endpoints) -> Changes {
        let changes = self.sockets.apply(endpoints);
        self.counts.connects_failed += changes.failed;
        self.make_places();
        changes
    }

    fn make_places(&mut self) {
        self.outward.sockets_max(self.sockets.places());
    }

    /// Datagrams sent and failed, since the start.
    pub(super) fn gone(&self) -> u64 {
        self.counts.sent + self.counts.send_errors.sum()
    }

    /// Sorts what is to be sent by the sockets that it leaves by.
    pub(super) fn sort(&mut self, sends: &[Outgoing]) {
        self.outward.clear();
        for Outgoing { packet, egress, .. } in sends {
            let way = self.sockets.way(egress);
            self.outward.add(way.map(|way| way.socket));
            let unfragmented = if egress.to.is_ipv4() { UNFRAGMENTED_V4 } else { UNFRAGMENTED_V6 };
            self.counts.fragmented += u64::from(packet.len() > unfragmented);
            self.counts.rerouted += u64::from(way.is_some_and(|way| way.rerouted));
            self.counts.send_errors.no_port += u64::from(way.is_none());
        }
    }

    /// Sends the run of one socket by sendmmsg, a batch at a time. Each of its datagrams has been
    /// tried `tried` times already.
    pub(super) fn send_run(&mut self, id: SocketId, tried: u32, sends: &[Outgoing]) {
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
            if !self.send_loaded(id, loaded, tried, sends) {
                self.counts.send_errors.full += self.outward.give_up(id);
                return;
            }
        }
    }

    /// Sends the loaded headers, each of which is counted once. False if the socket is full: the
    /// rest of them was given up, and so should be the rest of the run.
    fn send_loaded(&mut self, id: SocketId, loaded: usize, tried: u32, sends: &[Outgoing]) -> bool {
        let Some(fd) = self.sockets.at(id).map(|open| open.fd()) else { return false };
        let (mut at, mut tries) = (0, tried);
        while at < loaded {
            self.counts.syscalls += 1;
            // SAFETY: the headers were pointed at packets of the outbox, which `sends` borrows.
            match unsafe { self.outward.headers.send(fd, at, loaded - at) } {
                Ok(sent) => {
                    self.counts.sent += sent as u64;
                    (at, tries) = (at + sent, tried);
                    if at < loaded {
                        // The next one failed; the call took its error and told of those before.
                        self.read_returned(id);
                    }
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
                    if let Some(outgoing) = self.outward.loaded(at, sends) {
                        self.count_unsent(id, errno, outgoing.egress.to);
                    }
                    (at, tries) = (at + 1, tried);
                }
            }
        }
        true
    }

    #[cold]
    fn count_unsent(&mut self, id: SocketId, errno: i32, to: SocketAddr) {
        let trouble: Option<Trouble> = errors::count(errno, &mut self.counts.send_errors);
        let port = self.sockets.at(id).map(|open| open.port);
        if let (Some(trouble), Some(port)) = (trouble, port) {
            self.tell(Event { port, to, trouble });
        }
    }

    /// Empties the error queue of a socket; how many of its entries were errors of peers.
    #[cold]
    pub(super) fn read_returned(&mut self, id: SocketId) -> u32 {
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

    /// Hands up what is known, as far as there is room.
    #[inline]
    pub(super) fn hand_events(&mut self, batch: &mut Batch) {
        let count = self.events.len().min(batch.events_room());
        for event in self.events.drain(..count) {
            if !batch.events.contains(&event) {
                batch.events.push(event);
            }
        }
    }
}
