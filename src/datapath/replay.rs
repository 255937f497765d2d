//! A datapath in memory, for tests, benches and fuzzing.
//!
//! Owns a tape of datagrams to come in and the packets that left. Driven like any other datapath, and
//! fed by the test that owns it; deterministic: what is fed comes in, in that order. Opens no socket
//! and never waits: an empty tape ends a receive at once.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use super::{Batch, Counts, Datapath, UNFRAGMENTED_V4, UNFRAGMENTED_V6, Waker};
use crate::packet::{Endpoints, Event, Outbox, Outgoing, Packet, Pool, PortId, Trouble};

/// A datagram about to arrive.
#[derive(Clone, Copy, Debug)]
pub struct Arrival<'a> {
    /// Its bytes.
    pub bytes: &'a [u8],
    /// The local port that it arrives at.
    pub port: PortId,
    /// Where it comes from.
    pub source: SocketAddr,
}

/// A prepared datagram: a range of the tape's bytes.
#[derive(Clone, Copy, Debug)]
struct Taped {
    start: u32,
    end: u32,
    port: PortId,
    source: SocketAddr,
}

/// The datapath in memory.
///
/// Three ways in: [`Replay::feed`] copies one datagram into a packet at once; [`Replay::feed_packet`]
/// takes one ready made; [`Replay::tape`] prepares many, which every [`Replay::rewind`] feeds again
/// for the cost of one copy each.
#[derive(Debug)]
pub struct Replay {
    pool: &'static Pool,
    fed: VecDeque<Packet>,
    bytes: Vec<u8>,
    tape: Vec<Taped>,
    next: usize,
    events: VecDeque<Event>,
    refused: Vec<SocketAddr>,
    sent: Vec<Outgoing>,
    keep: bool,
    endpoints: Endpoints,
    waker: Waker,
    counts: Counts,
}

impl Replay {
    /// A datapath with nothing to receive, which takes its packets from `pool`.
    ///
    /// # Errors
    /// When the process has no descriptor left for the waker.
    pub fn new(pool: &'static Pool) -> io::Result<Self> {
        Ok(Self {
            pool,
            fed: VecDeque::new(),
            bytes: Vec::new(),
            tape: Vec::new(),
            next: 0,
            events: VecDeque::new(),
            refused: Vec::new(),
            sent: Vec::new(),
            keep: true,
            endpoints: Endpoints::default(),
            waker: Waker::new()?,
            counts: Counts::default(),
        })
    }

    /// Lets a datagram arrive, before what is left on the tape. False if no slot is free or it is
    /// longer than one.
    #[must_use]
    pub fn feed(&mut self, arrival: Arrival<'_>) -> bool {
        let Some(mut packet) = self.pool.take() else { return false };
        let fits = fill(&mut packet, arrival);
        if fits {
            self.fed.push_back(packet);
        }
        fits
    }

    /// Lets a packet arrive as it is.
    pub fn feed_packet(&mut self, packet: Packet) {
        self.fed.push_back(packet);
    }

    /// Lets an event arrive.
    pub fn feed_event(&mut self, event: Event) {
        self.events.push_back(event);
    }

    /// Replaces the tape, and rewinds it.
    pub fn tape<'a>(&mut self, arrivals: impl IntoIterator<Item = Arrival<'a>>) {
        self.bytes.clear();
        self.tape.clear();
        self.next = 0;
        for Arrival { bytes, port, source } in arrivals {
            let start = self.bytes.len() as u32;
            self.bytes.extend_from_slice(bytes);
            self.tape.push(Taped { start, end: self.bytes.len() as u32, port, source });
        }
    }

    /// Lets the whole tape arrive again.
    pub fn rewind(&mut self) {
        self.next = 0;
    }

    /// How many datagrams are still to arrive.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.fed.len() + self.tape.len() - self.next
    }

    /// From now on sends to `to` fail, each with an event.
    pub fn refuse(&mut self, to: SocketAddr) {
        self.refused.push(to);
    }

    /// Ends [`Replay::refuse`].
    pub fn accept(&mut self, to: SocketAddr) {
        self.refused.retain(|refused| *refused != to);
    }

    /// Whether packets sent are kept for [`Replay::sent`] (the default) or only counted.
    pub fn keep(&mut self, keep: bool) {
        self.keep = keep;
    }

    /// What left, in order; drain it to free the slots.
    pub fn sent(&mut self) -> &mut Vec<Outgoing> {
        &mut self.sent
    }

    /// What was last applied.
    #[must_use]
    pub fn endpoints(&self) -> &Endpoints {
        &self.endpoints
    }

    fn recv_tape(&mut self, batch: &mut Batch) {
        let room = batch.room();
        for taped in self.tape.iter().skip(self.next).take(room) {
            let Some(packet) = self.pool.take() else {
                self.counts.stalls += 1;
                return;
            };
            self.next += 1;
            let bytes = self.bytes.get(taped.start as usize..taped.end as usize).unwrap_or_default();
            // Filled where it stays: a packet just written is slow to move.
            batch.packets.push(packet);
            let Some(packet) = batch.packets.last_mut() else { return };
            if fill(packet, Arrival { bytes, port: taped.port, source: taped.source }) {
                self.counts.received += 1;
            } else {
                self.counts.truncated += 1;
                batch.packets.pop();
            }
        }
    }

    fn refuses(&mut self, outgoing: &Outgoing) -> bool {
        let refused = self.refused.contains(&outgoing.egress.to);
        if refused {
            self.counts.send_errors.unreachable += 1;
            self.events.push_back(Event {
                port: outgoing.egress.port,
                to: outgoing.egress.to,
                trouble: Trouble::Unreachable,
            });
        }
        refused
    }
}

impl Datapath for Replay {
    fn recv(&mut self, batch: &mut Batch, _wait: Option<Duration>) -> io::Result<()> {
        for _ in 0..self.events.len().min(batch.events_room()) {
            batch.events.extend(self.events.pop_front());
        }
        let fed = self.fed.len().min(batch.room());
        batch.packets.extend(self.fed.drain(..fed));
        self.counts.received += fed as u64;
        self.recv_tape(batch);
        Ok(())
    }

    fn send(&mut self, out: &mut Outbox) {
        if self.refused.is_empty() && !self.keep {
            for outgoing in out.sends().iter() {
                self.counts.fragmented += u64::from(fragmented(outgoing));
            }
            self.counts.sent += out.len() as u64;
            out.sends().clear();
            return;
        }
        let mut sends = std::mem::take(out.sends());
        for outgoing in sends.drain(..) {
            if self.refuses(&outgoing) {
                continue;
            }
            self.counts.sent += 1;
            self.counts.fragmented += u64::from(fragmented(&outgoing));
            if self.keep {
                self.sent.push(outgoing);
            }
        }
        *out.sends() = sends;
    }

    fn take(&mut self) -> Option<Packet> {
        self.pool.take()
    }

    fn apply(&mut self, endpoints: &Endpoints) {
        self.endpoints.clone_from(endpoints);
    }

    fn waker(&self) -> Waker {
        self.waker.clone()
    }

    fn counts(&self) -> &Counts {
        &self.counts
    }
}

#[inline]
fn fill(packet: &mut Packet, arrival: Arrival<'_>) -> bool {
    let Some(room) = packet.room().get_mut(..arrival.bytes.len()) else { return false };
    room.copy_from_slice(arrival.bytes);
    packet.received(arrival.bytes.len(), arrival.port, arrival.source);
    true
}

fn fragmented(outgoing: &Outgoing) -> bool {
    let unfragmented = if outgoing.egress.to.is_ipv4() { UNFRAGMENTED_V4 } else { UNFRAGMENTED_V6 };
    outgoing.packet.len() > unfragmented
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::{Egress, PeerId, PoolOptions, Sent};

    fn addr(port: u16) -> SocketAddr {
        ([192, 0, 2, 1], port).into()
    }

    fn replay(slots: u32) -> (Replay, Outbox, Batch) {
        let pool = Pool::new(&PoolOptions { slots, threads: 1 }).unwrap();
        (Replay::new(pool).unwrap(), Outbox::new(pool, 8), Batch::new(2))
    }

    fn arrival(bytes: &[u8], port: u16) -> Arrival<'_> {
        Arrival { bytes, port: PortId(3), source: addr(port) }
    }

    fn texts(batch: &mut Batch) -> Vec<String> {
        batch.packets.drain(..).map(|packet| String::from_utf8(packet.bytes().to_vec()).unwrap()).collect()
    }

    #[test]
    fn what_is_fed_arrives_in_order_before_the_tape_and_a_rewound_tape_again() {
        let (mut replay, _, mut batch) = replay(8);
        replay.tape([arrival(b"three", 3), arrival(b"four", 4)]);
        assert!(replay.feed(arrival(b"one", 1)));
        assert!(replay.feed(arrival(b"two", 2)));
        assert_eq!(replay.waiting(), 4);
        replay.recv(&mut batch, None).unwrap();
        assert_eq!((batch.packets[1].port, batch.packets[1].source), (PortId(3), addr(2)));
        assert_eq!(texts(&mut batch), ["one", "two"], "no more than the batch has room for");
        for _ in 0..2 {
            replay.recv(&mut batch, None).unwrap();
            assert_eq!(texts(&mut batch), ["three", "four"]);
            replay.recv(&mut batch, None).unwrap();
            assert!(batch.is_empty());
            replay.rewind();
        }
        assert_eq!(replay.counts().received, 6);
    }

    #[test]
    fn an_empty_pool_stalls_the_tape_and_loses_nothing() {
        let (mut replay, _, mut batch) = replay(1);
        replay.tape([arrival(b"one", 1), arrival(b"two", 2)]);
        replay.recv(&mut batch, None).unwrap();
        assert_eq!(replay.counts().stalls, 1);
        assert_eq!(texts(&mut batch), ["one"]);
        replay.recv(&mut batch, None).unwrap();
        assert_eq!(texts(&mut batch), ["two"]);
    }

    #[test]
    fn what_is_sent_is_kept_in_order_and_a_refused_peer_gives_an_error_and_an_event() {
        let (mut replay, mut out, mut batch) = replay(8);
        replay.refuse(addr(2));
        for port in 1..=3 {
            let mut packet = replay.take().unwrap();
            assert!(packet.replace(&vec![b'x'; usize::from(port) * 700]));
            let egress = Egress { port: PortId(0), peer: PeerId::NONE, to: addr(port) };
            out.decided(packet, egress, Sent::Forwarded).unwrap();
        }
        replay.send(&mut out);
        assert!(out.is_empty());
        let ports: Vec<_> = replay.sent().drain(..).map(|sent| sent.egress.to.port()).collect();
        assert_eq!(ports, [1, 3]);
        let counts = replay.counts();
        assert_eq!((counts.sent, counts.send_errors.unreachable, counts.fragmented), (2, 1, 1));
        replay.recv(&mut batch, None).unwrap();
        assert_eq!(batch.events, [Event { port: PortId(0), to: addr(2), trouble: Trouble::Unreachable }]);
    }
}
