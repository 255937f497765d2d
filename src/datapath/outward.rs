//! What leaves in a turn, by socket, and the headers that send it.
//!
//! Sorts a turn's packets by the socket that they leave by, keeping their order within each but for what rides in one
//! train, so that a turn costs a system call a socket and not one a packet. Driven by the datapaths over sockets; owns
//! no socket and no packet.

use super::headers::Headers;
use super::sockets::SocketId;
use super::trains::{END, Load, Stop, Trains, filler};
use crate::packet::Outgoing;

/// The trains of one socket, as a list through [`Outward::next`].
#[derive(Clone, Copy)]
struct Run {
    first: u32,
    last: u32,
}

const EMPTY: Run = Run { first: END, last: END };

/// A turn's packets, sorted.
pub(super) struct Outward {
    pub(super) headers: Headers,
    trains: Trains,
    /// By train: the next one of the same socket.
    next: Vec<u32>,
    /// By socket.
    runs: Vec<Run>,
    /// Sockets that have a run, in order of their first packets.
    sockets: Vec<SocketId>,
    /// By header: the train that it sends.
    loaded: Vec<u32>,
}

impl Outward {
    pub(super) fn new(batch: usize) -> Self {
        Self {
            headers: Headers::new(batch),
            trains: Trains::new(batch),
            next: Vec::with_capacity(batch),
            runs: Vec::new(),
            sockets: Vec::new(),
            loaded: Vec::with_capacity(batch),
        }
    }

    /// Makes room for sockets of all places, when some were opened.
    pub(super) fn sockets_max(&mut self, places: usize) {
        self.runs.resize(places.max(self.runs.len()), EMPTY);
        self.sockets.reserve(places);
    }

    /// Forgets the last turn.
    pub(super) fn clear(&mut self) {
        self.trains.clear();
        self.next.clear();
        self.sockets.clear();
    }

    /// The next packet of the outbox is sent by no socket.
    pub(super) fn skip(&mut self) {
        self.trains.skip();
    }

    /// The next packet of the outbox leaves by `socket`, by itself.
    #[inline]
    pub(super) fn alone(&mut self, socket: SocketId, load: Load) {
        self.trains.alone(socket, load);
    }

    /// The next packet of the outbox leaves for `stop`, in a train if others go there; `limit` tells the longest
    /// datagram of one.
    #[inline]
    pub(super) fn join(&mut self, stop: Stop, load: Load, limit: impl FnOnce() -> usize) {
        self.trains.join(stop, load, limit);
    }

    /// Sorts the trains by socket when all packets are in, and pads what rides in them; bytes of filler.
    #[inline]
    pub(super) fn settle(&mut self, sends: &mut [Outgoing]) -> u64 {
        self.next.resize(self.trains.len(), END);
        let mut joined = false;
        for train in 0..self.trains.len() as u32 {
            if self.trains.settle(train) {
                self.link(train);
            }
            joined |= self.trains.count(train) != 1;
        }
        let all = if joined { self.trains.len() as u32 } else { 0 };
        (0..all).map(|train| self.pad(train, sends)).sum()
    }

    /// Puts a train behind those of its socket.
    #[inline]
    fn link(&mut self, train: u32) {
        let Some(socket) = self.trains.at(train).map(|train| train.socket) else { return };
        let Some(run) = self.runs.get_mut(socket as usize) else { return };
        if run.first == END {
            self.sockets.push(socket);
            run.first = train;
        } else if let Some(next) = self.next.get_mut(run.last as usize) {
            *next = train;
        }
        run.last = train;
    }

    /// Makes all but the last datagram of a train equally long; by how many bytes in all.
    fn pad(&self, train: u32, sends: &mut [Outgoing]) -> u64 {
        let count = self.trains.count(train) as usize;
        if count < 2 {
            return 0;
        }
        let size = self.trains.size(train, |place| sends.get(place as usize).map_or(0, |own| own.packet.len()));
        let mut filled = 0;
        for place in self.trains.places(train).take(count - 1) {
            let Some(packet) = sends.get_mut(place as usize).map(|outgoing| &mut outgoing.packet) else { continue };
            let filler = filler(size.saturating_sub(packet.len()));
            if !filler.is_empty() && packet.put_in(usize::from(packet.pad_at), filler) {
                filled += filler.len() as u64;
            }
        }
        filled
    }

    /// The `nth` socket that has packets to send.
    pub(super) fn socket(&self, nth: usize) -> Option<SocketId> {
        self.sockets.get(nth).copied()
    }

    /// Whether the run of `socket` takes more than one send.
    #[inline]
    pub(super) fn is_run(&self, socket: SocketId) -> bool {
        self.runs.get(socket as usize).is_some_and(|run| run.first != run.last)
    }

    /// Takes the next train off the run of `socket`.
    #[inline]
    pub(super) fn pop(&mut self, socket: SocketId) -> Option<u32> {
        let run = self.runs.get_mut(socket as usize)?;
        let train = run.first;
        if train == END {
            return None;
        }
        run.first = self.next.get(train as usize).copied().unwrap_or(END);
        Some(train)
    }

    /// Puts a train that was taken off the run of `socket` back in front of it.
    #[cold]
    pub(super) fn put_back(&mut self, socket: SocketId, train: u32) {
        let (Some(run), Some(next)) = (self.runs.get_mut(socket as usize), self.next.get_mut(train as usize)) else {
            return;
        };
        *next = run.first;
        if run.first == END {
            run.last = train;
        }
        run.first = train;
    }

    /// How many datagrams leave by a train.
    #[inline]
    pub(super) fn count(&self, train: u32) -> u64 {
        self.trains.count(train)
    }

    /// The first packet of a train.
    #[inline]
    pub(super) fn first<'a>(&self, train: u32, sends: &'a [Outgoing]) -> Option<&'a Outgoing> {
        sends.get(self.trains.at(train)?.first as usize)
    }

    /// The packets of a train.
    #[inline]
    pub(super) fn packets<'a>(&self, train: u32, sends: &'a [Outgoing]) -> impl Iterator<Item = &'a Outgoing> {
        self.trains.places(train).filter_map(|place| sends.get(place as usize))
    }

    /// Takes trains of up to a batch of packets off the run of `socket` and points headers at them; how many.
    /// `connected`: they go where the socket is connected to.
    #[inline]
    pub(super) fn load(&mut self, socket: SocketId, connected: bool, sends: &[Outgoing]) -> usize {
        self.loaded.clear();
        let Some(run) = self.runs.get_mut(socket as usize) else { return 0 };
        let mut room = self.headers.len();
        while let Some(train) = self.trains.at(run.first) {
            let (count, Some(outgoing)) = (train.count as usize, sends.get(train.first as usize)) else { break };
            if count > room {
                break;
            }
            let to = (!connected).then_some(outgoing.egress.to);
            let datagrams = self.trains.places(run.first).filter_map(|place| sends.get(place as usize));
            let datagrams = datagrams.map(|outgoing| outgoing.packet.bytes());
            self.headers.send_from(self.loaded.len(), self.headers.len() - room, datagrams, to);
            room -= count;
            self.loaded.push(run.first);
            run.first = self.next.get(run.first as usize).copied().unwrap_or(END);
        }
        self.loaded.len()
    }

    /// The train that header `at` was pointed at.
    pub(super) fn loaded(&self, at: usize) -> Option<u32> {
        self.loaded.get(at).copied()
    }

    /// Datagrams, and trains of more than one and the datagrams in these, of so many headers from `at` on.
    #[inline]
    pub(super) fn datagrams(&self, at: usize, headers: usize) -> [u64; 3] {
        let loaded = self.loaded.get(at..at + headers).unwrap_or_default();
        let mut sum = [0; 3];
        for train in loaded {
            let count = self.trains.count(*train);
            let rides = u64::from(count > 1);
            sum = [sum[0] + count, sum[1] + rides, sum[2] + rides * count];
        }
        sum
    }

    /// Puts back what was loaded, from header `at` on: the train of that header one datagram at a time.
    #[cold]
    pub(super) fn part(&mut self, socket: SocketId, at: usize) {
        for header in (at + 1..self.loaded.len()).rev() {
            if let Some(train) = self.loaded(header) {
                self.put_back(socket, train);
            }
        }
        let Some(train) = self.loaded(at) else { return };
        let others = self.trains.part(train);
        self.next.resize(self.trains.len(), END);
        others.rev().for_each(|other| self.put_back(socket, other));
        self.put_back(socket, train);
        self.loaded.truncate(at);
    }

    /// Drops what is left of the run of `socket`; how many packets.
    #[cold]
    pub(super) fn give_up(&mut self, socket: SocketId) -> u64 {
        let mut left = 0;
        while let Some(train) = self.pop(socket) {
            left += self.trains.count(train);
        }
        left
    }
}
