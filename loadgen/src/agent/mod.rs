//! The agent: what one worker knows of its calls, and what it sends for them.
//!
//! Owns legs, timers, local addresses and counts. Time and packets come in, packets go out; driven by
//! the worker, a call at a time by the pace. Reads no clock, touches no socket.

mod callee;
mod caller;
mod challenged;
mod check;
mod leg;
pub(crate) mod number;
mod outside;
mod timers;

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::net::SocketAddr;

use sipring::packet::{Egress, Outbox, Packet, PeerId, PortId};
use sipring::sip::{Message, Method, Start, Text, Watch, scan, scan_in};
use sipring::wheel::Wheel;

use crate::flow::Flow;
use crate::tally::{Odd, Tally};
use crate::wire;
use crate::wire::spot::Spot;
use leg::{Leg, Legs, Side, Step};
use number::{LegId, RUN_DIGITS};

/// What all agents of a run are told.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    pub(crate) run: [u8; RUN_DIGITS],
    /// What calls begun here consist of.
    pub(crate) flow: Option<Flow>,
    /// Where they go.
    pub(crate) to: SocketAddr,
    /// Request-URIs of first requests, taken in turn.
    pub(crate) targets: Vec<String>,
    pub(crate) user: String,
    pub(crate) users: u32,
    pub(crate) password: Option<String>,
    /// Pauses: from 180 to the answer, from ACK to what follows.
    pub(crate) ring_ms: u64,
    pub(crate) hold_ms: u64,
    /// Timers of RFC 3261 17: T1, T2, and B, F and H in one.
    pub(crate) t1_ms: u64,
    pub(crate) t2_ms: u64,
    pub(crate) timeout_ms: u64,
    /// From a provisional response to the final one.
    pub(crate) answer_wait_ms: u64,
    /// Until an answering side gives up a call in which nothing happens.
    pub(crate) idle_ms: u64,
    pub(crate) checks: bool,
    /// An answering side says 100 first; and 180.
    pub(crate) trying: bool,
    pub(crate) ringing: bool,
    /// What it does, whatever the request-URI asks for.
    pub(crate) answer_as: Option<Flow>,
    /// Calls a second that it takes; the others it leaves unanswered.
    pub(crate) answer_limit: Option<f64>,
    /// What it asks of who registers.
    pub(crate) registrar: Option<String>,
    pub(crate) legs_max: usize,
}

/// Keys are hashes already.
#[derive(Debug, Default)]
struct Same(u64);

impl Hasher for Same {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = wire::hash(bytes);
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }
}

/// The calls of one worker.
#[derive(Debug)]
pub(crate) struct Agent {
    rules: Rules,
    legs: Legs,
    timers: Wheel<u64>,
    fired: Vec<u64>,
    /// By `PortId`.
    spots: Vec<Option<Spot>>,
    sources: Vec<PortId>,
    begun: u64,
    /// Answering legs by the hash of Call-ID and From tag.
    taken: HashMap<u64, u32, BuildHasherDefault<Same>>,
    /// Calls that the answering side may still take, and when that was last topped up.
    allowance: f64,
    topped_up_ns: u64,
    callers: usize,
    /// Where what is kept is written first.
    scratch: Box<[u8]>,
    now_ns: u64,
    now_ms: u64,
    pub(crate) tally: Tally,
}

/// Room for what a response to INVITE copies.
const SCRATCH_BYTES: usize = 16_384;
/// The longest burst that an answering side's limit lets through, seconds.
const BURST_S: f64 = 0.05;
/// Retransmissions at T2 that a run's end waits for.
const SETTLE_IN_T2: u64 = 8;

impl Agent {
    pub(crate) fn new(worker: u8, rules: Rules, spots: Vec<Option<Spot>>) -> Self {
        let sources = spots.iter().flatten().filter(|spot| !spot.answers).map(|spot| spot.port).collect();
        let mut tally = Tally::default();
        for spot in spots.iter().flatten().filter(|spot| spot.answers) {
            tally.own_node(node_key(&spot.key), &spot.address);
        }
        Self {
            legs: Legs::new(worker, rules.legs_max),
            timers: Wheel::new(0, rules.legs_max),
            fired: Vec::new(),
            sources,
            begun: 0,
            taken: HashMap::default(),
            allowance: 1.0,
            topped_up_ns: 0,
            callers: 0,
            scratch: vec![0; SCRATCH_BYTES].into(),
            now_ns: 0,
            now_ms: 0,
            tally,
            rules,
            spots,
        }
    }

    /// What time it is from now on.
    pub(crate) fn at(&mut self, now_ns: u64) {
        self.now_ns = now_ns;
        self.now_ms = now_ns / 1_000_000;
    }

    /// Calls under way that began here.
    pub(crate) fn calling(&self) -> usize {
        self.callers
    }

    /// Whether an answering leg still has to send or receive something of its own accord.
    pub(crate) fn unsettled(&self) -> bool {
        self.legs.iter().any(|leg| leg.side == Side::Callee && leg.resend_ms != 0)
    }

    /// How long answering legs may retransmit when all callers are done: eight times at T2, or until
    /// they are given up.
    pub(crate) fn settles_ns(&self) -> u64 {
        let Rules { t1_ms, t2_ms, timeout_ms, .. } = self.rules;
        t2_ms.saturating_mul(SETTLE_IN_T2).saturating_add(t1_ms).min(timeout_ms).saturating_mul(1_000_000)
    }

    /// Legs of both sides that have not come to their end.
    pub(crate) fn left_over(&self) -> usize {
        self.legs.iter().filter(|leg| leg.step != Step::Confirmed).count()
    }

    /// Handles one packet that came.
    #[inline]
    pub(crate) fn handle(&mut self, packet: &mut Packet, out: &mut Outbox) {
        self.tally.received += 1;
        let (len, mut message) = (packet.len(), Message::empty());
        match packet.window() {
            Some(window) => scan_in(window, len, &Watch::NONE, &mut message),
            None => message = scan(packet.bytes(), &Watch::NONE),
        }
        let bytes = packet.bytes();
        if message.fault.is_some() {
            return self.tally.odd(Odd::Malformed, bytes);
        }
        match message.start {
            Start::Response { code } => self.response(packet, &message, code, out),
            Start::Request { method, .. } => self.request(packet, &message, method, out),
        }
    }

    /// Ends a leg and its timer.
    fn end(&mut self, slot: u32) {
        let Some(leg) = self.legs.at(slot) else { return };
        if let Some((timer, _)) = leg.timer.take() {
            self.timers.cancel(timer);
        }
        match leg.side {
            Side::Caller => self.callers -= 1,
            Side::Callee => {
                self.taken.remove(&leg.key);
            }
        }
        self.legs.end(slot);
    }

    /// Ends a caller's leg that went as it should, or with a code that it should not have.
    fn finish(&mut self, slot: u32, failing: Option<u16>) {
        let Some(leg) = self.legs.at(slot) else { return };
        if leg.side == Side::Caller {
            let failing = failing.or((leg.failing != 0).then_some(leg.failing));
            match failing {
                Some(code) => self.tally.fail(code),
                None => self.tally.ok += 1,
            }
        }
        self.end(slot);
    }

    /// Ends a caller's leg that cannot go on.
    fn break_off(&mut self, slot: u32) {
        if self.legs.at(slot).is_some_and(|leg| leg.side == Side::Caller) {
            self.tally.broken += 1;
        }
        self.end(slot);
    }

    fn arm(&mut self, slot: u32) {
        let id = self.legs.id(slot);
        if let Some(leg) = self.legs.at(slot) {
            arm(&mut self.timers, leg, id);
        }
    }

    fn spot(&self, port: PortId) -> Option<&Spot> {
        self.spots.get(usize::from(port.0))?.as_ref()
    }
}

/// Sees to it that the timer of `leg` fires when it must, or earlier.
fn arm(timers: &mut Wheel<u64>, leg: &mut Leg, id: LegId) {
    let due_ms = leg.due_ms();
    if let Some((timer, at_ms)) = leg.timer {
        if at_ms <= due_ms {
            return;
        }
        timers.cancel(timer);
    }
    // There are as many timers as legs.
    leg.timer = timers.arm(due_ms, id.bits()).ok().map(|timer| (timer, due_ms));
}

/// Sends what `write` writes.
#[inline]
fn send(out: &mut Outbox, port: PortId, to: SocketAddr, proxy: SocketAddr, write: impl FnOnce(&mut Text<'_>)) {
    let Some(mut packet) = out.take() else { return };
    if wire::fill(&mut packet, write) {
        let peer = if to == proxy { PeerId(0) } else { PeerId::NONE };
        out.post(packet, Egress { port, peer, to });
    }
}

/// A node's key as a number.
fn node_key(digits: &[u8; number::NODE_DIGITS]) -> u64 {
    u64::from_le_bytes(*digits)
}

fn method_of(message: &Message, bytes: &[u8]) -> Method {
    Method::parse(message.cseq.method.of(bytes))
}
