//! Which packets of a turn leave together, and the headers that send them.
//!
//! Sorts a turn's packets by the socket that they leave by, keeping their order within each, so that
//! a turn costs a system call a socket and not one a packet. Driven by the socket datapath; owns no
//! socket and no packet.

use super::headers::Headers;
use super::sockets::SocketId;
use crate::packet::Outgoing;

/// The end of a list.
const END: u32 = u32::MAX;

/// The packets of one socket, as a list through [`Outward::next`].
#[derive(Clone, Copy)]
struct Run {
    first: u32,
    last: u32,
}

const EMPTY: Run = Run { first: END, last: END };

/// A turn's packets, sorted.
pub(super) struct Outward {
    pub(super) headers: Headers,
    /// By place in the outbox: the next packet of the same socket.
    next: Vec<u32>,
    /// By socket.
    runs: Vec<Run>,
    /// Sockets that have a run, in order of their first packets.
    sockets: Vec<SocketId>,
    /// By header: the place in the outbox of the packet that it sends.
    places: Vec<u32>,
}

impl Outward {
    pub(super) fn new(batch: usize) -> Self {
        Self {
            headers: Headers::new(batch),
            next: Vec::with_capacity(batch),
            runs: Vec::new(),
            sockets: Vec::new(),
            places: Vec::with_capacity(batch),
        }
    }

    /// Makes room for sockets of all places, when some were opened.
    pub(super) fn sockets_max(&mut self, places: usize) {
        self.runs.resize(places.max(self.runs.len()), EMPTY);
        self.sockets.reserve(places);
    }

    /// Forgets the last turn.
    pub(super) fn clear(&mut self) {
        self.next.clear();
        self.sockets.clear();
    }

    /// Puts the next packet of the outbox behind those of `socket`; none is sent by none.
    #[inline]
    pub(super) fn add(&mut self, socket: Option<SocketId>) {
        let place = self.next.len() as u32;
        self.next.push(END);
        let Some(socket) = socket else { return };
        let Some(run) = self.runs.get_mut(socket as usize) else { return };
        if run.first == END {
            self.sockets.push(socket);
            run.first = place;
        } else if let Some(next) = self.next.get_mut(run.last as usize) {
            *next = place;
        }
        run.last = place;
    }

    /// The `nth` socket that has packets to send.
    pub(super) fn socket(&self, nth: usize) -> Option<SocketId> {
        self.sockets.get(nth).copied()
    }

    /// Whether the run of `socket` has more than one packet.
    #[inline]
    pub(super) fn is_run(&self, socket: SocketId) -> bool {
        self.runs.get(socket as usize).is_some_and(|run| run.first != run.last)
    }

    /// Takes the next packet off the run of `socket`: its place in the outbox.
    #[inline]
    pub(super) fn pop(&mut self, socket: SocketId) -> Option<u32> {
        let run = self.runs.get_mut(socket as usize)?;
        let place = run.first;
        if place == END {
            return None;
        }
        run.first = self.next.get(place as usize).copied().unwrap_or(END);
        Some(place)
    }

    /// Puts a packet that was taken off the run of `socket` back in front of it.
    #[cold]
    pub(super) fn put_back(&mut self, socket: SocketId, place: u32) {
        let (Some(run), Some(next)) = (self.runs.get_mut(socket as usize), self.next.get_mut(place as usize)) else {
            return;
        };
        *next = run.first;
        if run.first == END {
            run.last = place;
        }
        run.first = place;
    }

    /// Takes up to a batch of packets off the run of `socket` and points headers at them; how many.
    /// `connected`: they go where the socket is connected to.
    #[inline]
    pub(super) fn load(&mut self, socket: SocketId, connected: bool, sends: &[Outgoing]) -> usize {
        self.places.clear();
        let Some(run) = self.runs.get_mut(socket as usize) else { return 0 };
        while run.first != END && self.places.len() < self.headers.len() {
            let place = run.first as usize;
            let Some(outgoing) = sends.get(place) else { break };
            let to = (!connected).then_some(outgoing.egress.to);
            self.headers.send_from(self.places.len(), outgoing.packet.bytes(), to);
            self.places.push(run.first);
            run.first = self.next.get(place).copied().unwrap_or(END);
        }
        self.places.len()
    }

    /// The packet that header `at` was pointed at.
    pub(super) fn loaded<'a>(&self, at: usize, sends: &'a [Outgoing]) -> Option<&'a Outgoing> {
        sends.get(*self.places.get(at)? as usize)
    }

    /// Drops what is left of the run of `socket`; how many packets.
    #[cold]
    pub(super) fn give_up(&mut self, socket: SocketId) -> u64 {
        let mut left = 0;
        let Some(run) = self.runs.get_mut(socket as usize) else { return 0 };
        while run.first != END {
            left += 1;
            run.first = self.next.get(run.first as usize).copied().unwrap_or(END);
        }
        left
    }
}
