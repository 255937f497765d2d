//! What the datapaths over kernel sockets have in common.
//!
//! Owns the worker's sockets, what is known of failed sends until a receive hands it up, and the
//! counts. Sorts a turn by socket and into trains, sends a socket's share by sendmmsg, reads error
//! queues. Driven by `mmsg` and `uring`, which differ in how they wait and receive.

use std::io;
use std::net::{IpAddr, SocketAddr};

use super::limits::{self, Lesson, Limits};
use super::outward::Outward;
use super::sockets::{Changes, SocketId, Sockets};
use super::trains::{FILLER_MAX, Load, Stop};
use super::{Batch, Counts, Options, UNFRAGMENTED_V4, UNFRAGMENTED_V6, errors, open};
use crate::packet::{Endpoints, Event, Outgoing, Packet, PortId, Trouble};

/// Tries of one datagram at most: every failure for somebody else's error leaves it unsent.
const TRIES_MAX: u32 = 5;
/// Entries read from an error queue at once.
const RETURNED_MAX: u32 = 256;
/// Events kept for the next receive.
const EVENTS_MAX: usize = 256;
/// Destinations behind narrow paths that are kept for whoever asks.
const NARROW_MAX: usize = 64;
/// What a train that is refused for no reason that is known weighs, against 1 of one that is sent.
const REFUSAL: u8 = 2;
/// The weight from which on a socket sends no trains any more.
const REFUSALS_MAX: u8 = 16;

/// Sockets, events, counts.
pub(super) struct Gate {
    pub(super) sockets: Sockets,
    pub(super) outward: Outward,
    pub(super) counts: Counts,
    /// Destinations whose path asked for smaller packets.
    pub(super) narrow: Vec<IpAddr>,
    events: Vec<Event>,
    trains: bool,
    limits: Limits,
}

/// How the loaded headers fared.
enum Sent {
    /// All were sent or counted.
    All,
    /// The socket is full: the rest was counted, and the rest of the run would find it full, too.
    Full,
    /// A train was taken apart: what was not sent yet is in the run again.
    Parted,
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
            trains: options.trains && open::probe_trains().is_ok(),
            limits: Limits::default(),
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

    /// Sorts what is to be sent by the sockets that it leaves by, and into trains.
    pub(super) fn sort(&mut self, sends: &mut [Outgoing]) {
        self.outward.clear();
        for Outgoing { packet, egress, .. } in sends.iter() {
            let unfragmented = if egress.to.is_ipv4() { UNFRAGMENTED_V4 } else { UNFRAGMENTED_V6 };
            self.counts.fragmented += u64::from(packet.len() > unfragmented);
            let Some(way) = self.sockets.way(egress) else {
                self.counts.send_errors.no_port += 1;
                self.outward.skip();
                continue;
            };
            self.counts.rerouted += u64::from(way.rerouted);
            if self.trains && self.sockets.sends_trains(way.socket) {
                let stop = Stop { socket: way.socket, to: (!way.connected).then_some(egress.to) };
                self.outward.join(stop, load(packet), || self.limits.of(egress.to.ip()));
            } else {
                self.outward.alone(way.socket, load(packet));
            }
        }
        self.counts.padding_bytes += self.outward.settle(sends);
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
            if let Sent::Full = self.send_loaded(id, loaded, tried, sends) {
                self.counts.send_errors.full += self.outward.give_up(id);
                return;
            }
        }
    }

    /// Sends the loaded headers, each of whose datagrams is counted once.
    fn send_loaded(&mut self, id: SocketId, loaded: usize, tried: u32, sends: &[Outgoing]) -> Sent {
        let Some(fd) = self.sockets.at(id).map(|open| open.fd()) else { return Sent::Full };
        let (mut at, mut tries) = (0, tried);
        while at < loaded {
            self.counts.syscalls += 1;
            // SAFETY: the headers were pointed at packets of the outbox, which `sends` borrows.
            match unsafe { self.outward.headers.send(fd, at, loaded - at) } {
                Ok(sent) => {
                    let [datagrams, trains, rode] = self.outward.datagrams(at, sent);
                    self.count_sent(id, datagrams, (trains, rode));
                    (at, tries) = (at + sent, tried);
                    if at < loaded {
                        // The next one failed; the call took its error and told of those before.
                        self.read_returned(id);
                    }
                }
                Err(libc::EINTR) => {}
                Err(libc::EAGAIN) => {
                    let [datagrams, ..] = self.outward.datagrams(at, loaded - at);
                    self.counts.send_errors.full += datagrams;
                    return Sent::Full;
                }
                Err(errno) => {
                    tries += 1;
                    let [datagrams, trains, _] = self.outward.datagrams(at, 1);
                    // An error that came back for an earlier datagram, of whatever peer, fails the
                    // next one unsent. So it is tried once more; and again as long as such come.
                    let pending = self.read_returned(id) > 0;
                    let again = tries == 1 || (pending && tries < TRIES_MAX);
                    if again && !(trains > 0 && limits::is_about_trains(errno)) {
                        self.counts.retried += 1;
                        continue;
                    }
                    if trains > 0 && !matches!(errno, libc::ENOBUFS | libc::ENOMEM) {
                        self.part(id, at, errno, sends);
                        return Sent::Parted;
                    }
                    self.count_unsent(id, (errno, datagrams), self.outward.loaded(at), sends);
                    (at, tries) = (at + 1, tried);
                }
            }
        }
        Sent::All
    }

    /// Counts what has left by a socket: datagrams, and the trains among these with the datagrams in them.
    #[inline]
    fn count_sent(&mut self, id: SocketId, datagrams: u64, (trains, rode): (u64, u64)) {
        self.counts.sent += datagrams;
        self.counts.trains += trains;
        self.counts.train_datagrams += rode;
        if trains > 0 {
            self.note_trains(id, trains);
        }
    }

    /// Notes that trains left by a socket, as far as is known yet.
    pub(super) fn note_trains(&mut self, id: SocketId, trains: u64) {
        if let Some(open) = self.sockets.at(id) {
            open.refusals = open.refusals.saturating_sub(trains.min(u64::from(u8::MAX)) as u8);
        }
    }

    /// Takes the train of a loaded header apart, which was refused for `errno`, and learns from it.
    #[cold]
    fn part(&mut self, id: SocketId, at: usize, errno: i32, sends: &[Outgoing]) {
        self.counts.trains_refused += 1;
        let first = self.outward.loaded(at).and_then(|train| self.outward.first(train, sends));
        if let Some((to, size)) = first.map(|first| (first.egress.to, first.packet.len())) {
            match limits::lesson(errno, size, open::in_one_piece(to)) {
                Lesson::Narrow(limit) => self.limits.learn(to.ip(), limit),
                Lesson::Never => self.end_trains(id, errno, to),
                Lesson::Unclear => {
                    let refusals = self.sockets.at(id).map_or(0, |open| {
                        open.refusals = open.refusals.saturating_add(REFUSAL);
                        open.refusals
                    });
                    if refusals >= REFUSALS_MAX {
                        self.end_trains(id, errno, to);
                    }
                }
            }
        }
        self.outward.part(id, at);
    }

    /// From the next turn on, no train leaves by this socket.
    #[cold]
    fn end_trains(&mut self, id: SocketId, errno: i32, to: SocketAddr) {
        if let Some(open) = self.sockets.at(id).filter(|open| !open.trainless) {
            open.trainless = true;
            let error = io::Error::from_raw_os_error(errno);
            tracing::warn!(port = open.port.0, %to, %error, "trains_ended");
        }
    }

    #[cold]
    fn count_unsent(&mut self, id: SocketId, (errno, datagrams): (i32, u64), train: Option<u32>, sends: &[Outgoing]) {
        let mut trouble: Option<Trouble> = None;
        for _ in 0..datagrams {
            trouble = errors::count(errno, &mut self.counts.send_errors);
        }
        let port = self.sockets.at(id).map(|open| open.port);
        let to = train.and_then(|train| self.outward.first(train, sends)).map(|first| first.egress.to);
        if let (Some(trouble), Some(port), Some(to)) = (trouble, port, to) {
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

/// What a plan of trains has to know of a packet.
#[inline]
fn load(packet: &Packet) -> Load {
    let at = usize::from(packet.pad_at);
    let pads = at > 0 && at <= packet.len() && packet.head_room() >= FILLER_MAX;
    Load { len: packet.len() as u32, order: packet.order, pads }
}
