//! The datapath over io_uring: multishot receives straight into packets, one submission a turn.
//!
//! Owns the ring, the packets that the kernel may fill, and through `gate` the worker's sockets.
//! Driven by the worker through the trait, on the thread that opened it and no other. Sends never
//! wait in the kernel: a packet is free again when its submission returns.

mod probe;
mod receive;
mod ring;
mod send;
mod stock;

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::mem;
use std::net::SocketAddr;
use std::time::Duration;

use super::address::Name;
use super::gate::Gate;
use super::headers::Headers;
use super::poll;
use super::sockets::{Open, SocketId};
use super::{Batch, Counts, Datapath, Options, STALL, Waker};
use crate::packet::{Endpoints, Outbox, Packet, Pool, PortId};
use receive::Came;
use ring::{Ring, Tag};
use send::{Queued, Refused};
use stock::Stock;

/// Calls of one receive at most: one that ends a socket's receiving is followed by one that begins
/// it anew.
const ROUNDS_MAX: u32 = 32;
/// How long an end waits for what the kernel still holds.
const FAREWELL: Duration = Duration::from_millis(20);

/// A datapath over io_uring.
pub struct Uring {
    // Dropped first: the kernel uses what stands below as long as the ring lives.
    ring: Ring,
    stock: Stock,
    header: Box<libc::msghdr>,
    names: Vec<Name>,
    /// Of queued trains.
    headers: Headers,
    gate: Gate,
    /// Read from the ring and not handed up yet.
    came: VecDeque<Came>,
    /// Sockets to begin receiving by: first those that got nothing the last time.
    starved: VecDeque<SocketId>,
    unarmed: VecDeque<SocketId>,
    /// Sockets to end receiving by.
    leaving: VecDeque<SocketId>,
    /// Sends of the last submission that failed.
    refused: Vec<Refused>,
    queued: Queued,
    waker: Waker,
    waker_armed: bool,
    rung: bool,
    /// What made the ring useless: nothing is submitted from then on.
    fault: Option<String>,
    pool: &'static Pool,
}

impl Uring {
    /// Opens the sockets that `options.worker` holds, and begins to receive. It keeps up to four
    /// batches of packets of `pool` ready to receive into, and is woken by `waker`. To be opened on
    /// the thread that uses it.
    ///
    /// # Errors
    /// Names the address that cannot be bound, and why. What the kernel lacks or refuses of io_uring
    /// is an error of the kind [`io::ErrorKind::Unsupported`].
    pub fn open(options: &Options, pool: &'static Pool, waker: Waker) -> io::Result<Self> {
        let batch = options.batch.clamp(1, 1_024);
        let size = Stock::size(pool, batch, options.workers);
        let requests = (2 * batch).clamp(64, 1_024);
        // A completion for every buffer, one for the end of every receive, of every send and cancel.
        let held = options.ports.iter().filter(|port| port.role.held_by(options.worker, options.workers)).count();
        let sockets = 2 * (held + 2 * options.connected_max);
        let ring = Ring::new(requests, size + sockets + 2 * requests).map_err(probe::told)?;
        let stock = Stock::new(&ring, pool, size).map_err(probe::told)?;
        let gate = Gate::open(options, batch)?;
        let mut this = Self {
            ring,
            stock,
            header: Box::new(stock::header()),
            names: vec![Name::NONE; requests],
            headers: Headers::new(requests),
            gate,
            came: VecDeque::new(),
            starved: VecDeque::new(),
            unarmed: VecDeque::new(),
            leaving: VecDeque::new(),
            refused: Vec::with_capacity(requests),
            queued: Queued::default(),
            waker,
            waker_armed: false,
            rung: false,
            fault: None,
            pool,
        };
        this.unarmed.extend(this.gate.sockets.ids());
        this.make_places();
        this.prepare()?;
        this.ring.enter(Some(Duration::ZERO))?;
        this.gate.counts = Counts::default();
        Ok(this)
    }

    /// Tries whether this process can use io_uring.
    ///
    /// # Errors
    /// Says what the kernel lacks or forbids.
    pub fn probe() -> io::Result<()> {
        // On a thread of its own, with which the ring goes: its end interrupts what the thread does next.
        let tried = std::thread::Builder::new().name("probe".to_owned()).spawn(probe::probe)?;
        tried.join().unwrap_or_else(|_| Err(io::Error::other("the try of io_uring failed")))
    }

    /// The address that a held port is bound to.
    #[must_use]
    pub fn local(&self, port: PortId) -> Option<SocketAddr> {
        self.gate.local(port)
    }

    /// Room for all that can be under way at once, so that no turn has to make it.
    fn make_places(&mut self) {
        let places = self.gate.sockets.places();
        self.came.reserve(self.stock.size_max() + 2 * places);
        for list in [&mut self.starved, &mut self.unarmed, &mut self.leaving] {
            list.reserve(places);
        }
    }

    /// Hands over what is queued, waits at most `wait`, and reads what has completed.
    fn enter(&mut self, wait: Option<Duration>) -> io::Result<()> {
        self.gate.counts.syscalls += 1;
        self.ring.enter(wait)?;
        self.reap();
        Ok(())
    }

    /// Sorts what has completed.
    #[inline]
    fn reap(&mut self) {
        for (tag, result, flags) in self.ring.completions() {
            match tag {
                Tag::Receive { id, port, generation } => {
                    self.came.push_back(Came { id, port, generation, result, flags });
                }
                Tag::Send { id, train } => self.refused.push(Refused { id, train, errno: -result }),
                Tag::Waker => {
                    self.rung = true;
                    self.waker_armed &= io_uring::cqueue::more(flags);
                }
                Tag::Cancel { id, generation } => {
                    let same = |open: &&mut Open| open.generation == generation && open.armed;
                    if self.gate.sockets.at(id).filter(same).is_some() {
                        self.leaving.push_back(id);
                    }
                }
            }
        }
    }

    /// Without a free slot: sleeps until the waker fires, or for as long as a slot may take to come
    /// back from another thread, which nothing tells.
    #[cold]
    fn stall(&mut self, wait: Option<Duration>) {
        self.gate.counts.stalls += 1;
        if wait != Some(Duration::ZERO) {
            poll::wait_for(self.waker.fd(), wait.map_or(STALL, |wait| wait.min(STALL)));
            self.waker.silence();
        }
    }
}

impl Datapath for Uring {
    fn recv(&mut self, batch: &mut Batch, wait: Option<Duration>) -> io::Result<()> {
        let mut wait = wait;
        for _ in 0..ROUNDS_MAX {
            self.deliver(batch);
            self.gate.hand_events(batch);
            if batch.room() == 0 {
                break;
            }
            // Heard already, its completion says nothing.
            if mem::take(&mut self.rung) && self.waker.silence() {
                wait = Some(Duration::ZERO);
            }
            if !self.prepare()? {
                self.stall(if batch.is_empty() { wait } else { Some(Duration::ZERO) });
                break;
            }
            let now = if batch.is_empty() { wait } else { Some(Duration::ZERO) };
            if now == Some(Duration::ZERO) && !self.ring.has_work() {
                break;
            }
            self.enter(now)?;
            // The time has passed, or part of it; without one, the wait goes on until something comes.
            wait = wait.map(|_| Duration::ZERO);
        }
        Ok(())
    }

    fn send(&mut self, out: &mut Outbox) {
        let before = self.gate.gone();
        let sends = out.sends();
        self.gate.sort(sends);
        let mut nth = 0;
        while let Some(id) = self.gate.outward.socket(nth) {
            self.send_run(id, sends);
            nth += 1;
        }
        self.flush(sends);
        debug_assert_eq!(self.gate.gone() - before, sends.len() as u64, "every packet is counted once");
        sends.clear();
    }

    fn take(&mut self) -> Option<Packet> {
        self.pool.take()
    }

    fn apply(&mut self, endpoints: &Endpoints) {
        let changes = self.gate.apply(endpoints);
        self.make_places();
        self.unarmed.extend(changes.opened);
        self.leaving.extend(changes.leaving);
    }

    fn waker(&self) -> Waker {
        self.waker.clone()
    }

    fn counts(&self) -> &Counts {
        &self.gate.counts
    }
}

impl Drop for Uring {
    /// Ends what is under way, so that the sockets close with their datapath and not some time after.
    fn drop(&mut self) {
        if self.fault.is_none() {
            self.end(FAREWELL);
        }
    }
}

impl fmt::Debug for Uring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Uring").field("waker", &self.waker).field("counts", &self.gate.counts).finish_non_exhaustive()
    }
}
