//! One pinned thread; its turn is the whole hot path.
//!
//! Owns a datapath and a shard, the only one to know both. Reads the clock once a turn (in one of 64
//! once more, to time it), bounds what a turn does, and checks its books: what came in has one verdict each, what was decided was sent.

mod pace;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::datapath::{Batch, Datapath, Waker};
use crate::mail::{Bell, Mailbox, Slot};
use crate::packet::{self, Outbox, Packet, Pool, Sent, WorkerId};
use crate::shard::{DropReason, Shard, State, Tally, Verdict};
use pace::SAMPLED;
pub use pace::{BOUNDS_NS, Pace, Paced};

/// Letters read in one turn.
const LETTERS_MAX: usize = 64;
/// Timers served in one turn.
const TIMERS_MAX: usize = 256;
/// Packets that the shard may originate in one turn, beside one for every packet received.
const ORIGINATED_MAX: usize = 1_024;

/// Where a worker gets its mail.
#[derive(Debug)]
pub struct Post {
    packets: Mailbox<Packet>,
    state: Slot<State>,
    bell: Arc<Bell>,
    stop: AtomicBool,
}

impl Post {
    /// The post of a worker that `waker` wakes, with room for `mail_max` packets.
    #[must_use]
    pub fn new(mail_max: usize, waker: Waker) -> Arc<Self> {
        let bell = Bell::new(waker);
        Arc::new(Self {
            packets: Mailbox::new(mail_max, bell.clone()),
            state: Slot::new(bell.clone()),
            bell,
            stop: AtomicBool::new(false),
        })
    }

    /// Leaves the newest state; what the worker did not see yet, and what it has done with, is freed
    /// here.
    pub fn state(&self, state: State) {
        drop(self.state.post(Box::new(state)));
        while let Some(old) = self.state.reclaim() {
            drop(old);
        }
    }

    /// Wakes the worker if it sleeps, so that it turns.
    pub fn nudge(&self) {
        self.bell.ring();
    }

    /// Ends the worker after its turn.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        self.bell.ring();
    }

    fn is_empty(&self) -> bool {
        self.packets.is_empty() && self.state.is_empty() && !self.stop.load(Ordering::Acquire)
    }
}

/// What a worker's datapath and turns have done, for control to read.
#[derive(Debug)]
#[repr(align(128))]
pub struct Ledger {
    cells: [AtomicU64; LEDGER.len()],
    pace: Pace,
}

/// Names of the ledger's figures, in order.
pub const LEDGER: [&str; 33] = [
    "turns",
    "datagrams_received",
    "datagrams_truncated",
    "datagrams_sent",
    "send_error_full",
    "send_error_unreachable",
    "send_error_too_long",
    "send_error_no_port",
    "send_error_other",
    "send_retried",
    "send_rerouted",
    "datagrams_fragmented",
    "trains_sent",
    "train_datagrams",
    "trains_refused",
    "padding_bytes",
    "icmp_errors",
    "events_lost",
    "receive_stalls",
    "receives_starved",
    "receives_rearmed",
    "connects_failed",
    "system_calls",
    "originated",
    "outbox_refused",
    "mail_waiting",
    "slow_received",
    "slow_sent",
    "packets_copied",
    "next_hop_unknown",
    "frames_foreign",
    "frames_dropped",
    "frames_invalid",
];

impl Default for Ledger {
    fn default() -> Self {
        Self { cells: [const { AtomicU64::new(0) }; LEDGER.len()], pace: Pace::default() }
    }
}

impl Ledger {
    /// Name and value of every figure.
    pub fn each(&self, mut tell: impl FnMut(&'static str, u64)) {
        for (name, cell) in LEDGER.iter().zip(&self.cells) {
            tell(name, cell.load(Ordering::Relaxed));
        }
    }

    /// Turns since the start.
    #[must_use]
    pub fn turns(&self) -> u64 {
        self.cells.first().map_or(0, |turns| turns.load(Ordering::Relaxed))
    }

    /// How long turns took.
    #[must_use]
    pub fn pace(&self) -> &Pace {
        &self.pace
    }

    fn write(&self, figures: [u64; LEDGER.len()]) {
        for (cell, figure) in self.cells.iter().zip(figures) {
            cell.store(figure, Ordering::Relaxed);
        }
    }
}

/// What a worker is made of besides its datapath and shard.
#[derive(Debug)]
pub struct Parts {
    /// Which worker it is.
    pub me: WorkerId,
    /// The post of every worker; its own is among them.
    pub posts: Vec<Arc<Post>>,
    /// Where packets come from that the shard originates.
    pub pool: &'static Pool,
    /// Datagrams received in one turn.
    pub batch: usize,
    /// Zero of the clock, the same for all workers: marks carry its seconds.
    pub origin: Instant,
    /// Where its figures are written.
    pub ledger: Arc<Ledger>,
}

/// One worker.
#[derive(Debug)]
pub struct Worker<D: Datapath> {
    datapath: D,
    shard: Shard,
    parts: Parts,
    post: Arc<Post>,
    batch: Batch,
    out: Outbox,
    rung: Vec<bool>,
    turns: u64,
    came: usize,
    now_ms: u64,
}

impl<D: Datapath> Worker<D> {
    /// A worker over `datapath` that decides by `shard`. To be made on the worker's own thread.
    ///
    /// # Errors
    /// When `parts` has no post for the worker.
    pub fn new(datapath: D, shard: Shard, parts: Parts) -> io::Result<Self> {
        let post = parts.posts.get(usize::from(parts.me.0)).cloned();
        let post = post.ok_or_else(|| io::Error::other("a worker without a post"))?;
        let sends_max = parts.batch + LETTERS_MAX + ORIGINATED_MAX;
        let mut worker = Self {
            batch: Batch::new(parts.batch),
            out: Outbox::new(parts.pool, sends_max),
            rung: vec![false; parts.posts.len()],
            turns: 0,
            came: 0,
            now_ms: 0,
            datapath,
            shard,
            parts,
            post,
        };
        worker.datapath.apply(&worker.shard.state().plan.endpoints);
        worker.datapath.apply_hops(&worker.shard.state().hops);
        Ok(worker)
    }

    /// Turns until the post says stop.
    ///
    /// # Errors
    /// When the datapath can no longer receive.
    pub fn run(mut self) -> io::Result<()> {
        while !self.post.stop.load(Ordering::Acquire) {
            self.turn()?;
        }
        Ok(())
    }

    /// One pass: receive, mail, handle, expire, send.
    ///
    /// # Errors
    /// When the datapath can no longer receive.
    pub fn turn(&mut self) -> io::Result<()> {
        self.batch.clear();
        self.receive(self.came >= self.parts.batch)?;
        let began = clock();
        self.now_ms = began.duration_since(self.parts.origin).as_millis() as u64;
        self.newest_state();

        let books = self.shard.counters().books();
        let originated = self.out.originated();
        for event in self.batch.events.drain(..) {
            self.shard.event(self.now_ms, event);
        }
        let mut packets = std::mem::take(&mut self.batch.packets);
        let mut handled = packets.len() as u64;
        packet::asked_ahead(&mut packets).for_each(|packet| self.decide(packet));
        // Its full length is what tells the next turn that there is more.
        self.came = handled as usize;
        self.batch.packets = packets;
        handled += self.letters();
        self.shard.expire(self.now_ms, TIMERS_MAX, &mut self.out);

        let left = self.left();
        self.datapath.send(&mut self.out);
        self.ring();
        self.close_books(books, handled, self.out.originated() - originated, self.left() - left);
        if self.turns.is_multiple_of(SAMPLED) {
            self.parts.ledger.pace.record(clock().duration_since(began).as_nanos() as u64);
        }
        Ok(())
    }

    /// The worker's only wait. It sleeps at once unless more is known to be there: a receive tries
    /// first, and whoever mails meanwhile sees it asleep and wakes it.
    #[inline]
    fn receive(&mut self, full: bool) -> io::Result<()> {
        let post = &self.post;
        if full || !post.bell.sleep(|| post.is_empty()) {
            return self.datapath.recv(&mut self.batch, Some(Duration::ZERO));
        }
        let wait = self.shard.wakes_at_ms().map(|at_ms| Duration::from_millis(at_ms.saturating_sub(self.now_ms)));
        let received = self.datapath.recv(&mut self.batch, wait);
        post.bell.rise();
        received
    }

    fn newest_state(&mut self) {
        if let Some(mut state) = self.post.state.take() {
            if self.shard.apply(&mut state) {
                self.datapath.apply(&self.shard.state().plan.endpoints);
            }
            let hops = &self.shard.state().hops;
            if !Arc::ptr_eq(hops, &state.hops) {
                self.datapath.apply_hops(hops);
            }
            // Control frees the old plan; only if its box for returns is full is it freed here.
            drop(self.post.state.give_back(state));
        }
    }

    /// Packets that other workers handed over.
    fn letters(&mut self) -> u64 {
        let mut letters = 0;
        while letters < LETTERS_MAX as u64
            && let Some(packet) = self.post.packets.pop()
        {
            self.shard.counters().tally(Tally::MailIn);
            letters += 1;
            self.decide(packet);
        }
        letters
    }

    /// Asks the shard, and does as it says.
    #[inline]
    fn decide(&mut self, mut packet: Packet) {
        let verdict = self.shard.handle(self.now_ms, &mut packet, &mut self.out);
        let done = match verdict {
            Verdict::Forward(egress) => {
                self.out.decided(packet, egress, Sent::Forwarded).map_err(|_| DropReason::TurnFull)
            }
            Verdict::Reply(egress) => self.out.decided(packet, egress, Sent::Replied).map_err(|_| DropReason::TurnFull),
            Verdict::Handoff(to) => self.hand_over(packet, to),
            Verdict::Absorb | Verdict::Drop(_) => Ok(()),
        };
        self.shard.counters().judge(done.map_or_else(Verdict::Drop, |()| verdict));
    }

    fn hand_over(&mut self, mut packet: Packet, to: WorkerId) -> Result<(), DropReason> {
        let at = usize::from(to.0);
        let (Some(post), Some(rung)) = (self.parts.posts.get(at), self.rung.get_mut(at)) else {
            return Err(DropReason::MailFull);
        };
        packet.handed = true;
        post.packets.push(packet).map_err(|_| DropReason::MailFull)?;
        *rung = true;
        Ok(())
    }

    /// Wakes the workers that got mail, once a turn, if they sleep.
    fn ring(&mut self) {
        for (rung, post) in self.rung.iter_mut().zip(&self.parts.posts) {
            if std::mem::take(rung) {
                post.bell.ring();
            }
        }
    }

    /// Datagrams that left or failed to, since the start.
    #[inline]
    fn left(&self) -> u64 {
        let counts = self.datapath.counts();
        counts.sent + counts.send_errors.sum()
    }

    /// Checks that everything received got one verdict, and that everything forwarded, replied and
    /// originated was sent or failed; writes the ledger.
    #[inline]
    fn close_books(&mut self, before: [u64; 6], handled: u64, originated: u64, left: u64) {
        let counters = self.shard.counters();
        counters.receive(handled);
        let [received, verdicts @ ..] = counters.books();
        let [received_before, before @ ..] = before;
        let judged = verdicts.iter().sum::<u64>() - before.iter().sum::<u64>();
        let [forwarded, replied, ..] = verdicts;
        let [forwarded_before, replied_before, ..] = before;
        let to_go = forwarded - forwarded_before + replied - replied_before + originated;
        let balanced = received - received_before == judged && to_go == left;
        debug_assert!(balanced, "{handled} handled, {judged} judged; {to_go} to go, {left} gone");
        if !balanced {
            counters.tally(Tally::BooksWrong);
        }
        self.turns += 1;
        let counts = self.datapath.counts();
        let errors = &counts.send_errors;
        self.parts.ledger.write([
            self.turns,
            counts.received,
            counts.truncated + counts.sourceless,
            counts.sent,
            errors.full,
            errors.unreachable,
            errors.too_long,
            errors.no_port,
            errors.other,
            counts.retried,
            counts.rerouted,
            counts.fragmented,
            counts.trains,
            counts.train_datagrams,
            counts.trains_refused,
            counts.padding_bytes,
            counts.icmp,
            counts.events_lost,
            counts.stalls,
            counts.starved,
            counts.rearmed,
            counts.connects_failed,
            counts.syscalls,
            self.out.originated(),
            self.out.refused(),
            self.post.packets.len() as u64,
            counts.slow_received,
            counts.slow_sent,
            counts.copied,
            counts.unresolved,
            counts.foreign,
            counts.frames_dropped,
            counts.frames_invalid,
        ]);
    }
}

#[expect(clippy::disallowed_methods, reason = "the clock is read here, once a turn; twice in a turn that is timed")]
fn clock() -> Instant {
    Instant::now()
}
