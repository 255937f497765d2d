//! One thread and its turn: receive, handle, expire, begin, send.
//!
//! Owns a datapath, an agent and a pace, and is the only one to know all three. Reads the clock once a
//! turn. Ends when no worker has calls under way, or when it is told to.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use sipring::datapath::{Batch, Counts, Datapath};
use sipring::packet::{Outbox, Pool};

use crate::agent::Agent;
use crate::carry::Signpost;
use crate::pace::Pace;
use crate::tally::Tally;

/// Packets that one turn may send besides three for each that came.
const SENDS_MAX: usize = 1_536;
/// The longest sleep: how soon a worker notices that the others are done, and that it is to stop.
const SLEEP_MAX: Duration = Duration::from_millis(20);
const ANSWERING_SLEEP_MAX: Duration = Duration::from_millis(200);
/// How often live figures are written.
const LIVE_EVERY_NS: u64 = 50_000_000;

/// What the threads of a run share.
#[derive(Debug)]
pub(crate) struct Shared {
    /// Workers that still begin calls or have some under way.
    pub(crate) calling: AtomicUsize,
    /// Begin no more.
    pub(crate) stop: AtomicBool,
    /// With `stop`: a worker cannot go on, and the others need not wait for it.
    pub(crate) broken: AtomicBool,
    pub(crate) live: Vec<Live>,
    /// Next hops, for a datapath that finds them itself.
    pub(crate) signpost: Arc<Signpost>,
}

/// Live figures of one worker.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Live {
    cells: [AtomicU64; LIVE.len()],
}

/// Names of the live figures, in order.
pub(crate) const LIVE: [&str; 9] =
    ["started", "ok", "failed", "lost", "sent", "received", "retransmitted", "wrong", "calling"];

impl Live {
    pub(crate) fn read(&self) -> [u64; LIVE.len()] {
        std::array::from_fn(|at| self.cells.get(at).map_or(0, |cell| cell.load(Ordering::Relaxed)))
    }

    fn write(&self, figures: [u64; LIVE.len()]) {
        for (cell, figure) in self.cells.iter().zip(figures) {
            cell.store(figure, Ordering::Relaxed);
        }
    }
}

/// What one worker has done.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) tally: Tally,
    pub(crate) counts: Counts,
    /// Packets that found no free slot or no room in a turn.
    pub(crate) refused: u64,
    pub(crate) cpu: Duration,
    /// From the first call to the end of the last, and to the end of the last begun.
    pub(crate) wall: Duration,
    pub(crate) beginning: Duration,
    /// Legs left when it ended.
    pub(crate) left_over: u64,
}

/// What a worker is made of besides its datapath.
pub(crate) struct Parts {
    pub(crate) me: usize,
    pub(crate) agent: Agent,
    /// None: it only answers, until this time.
    pub(crate) pace: Option<Pace>,
    pub(crate) until_ns: u64,
    pub(crate) pool: &'static Pool,
    pub(crate) batch: usize,
    pub(crate) spin: bool,
    pub(crate) origin: Instant,
    pub(crate) shared: Arc<Shared>,
}

/// One worker.
pub(crate) struct Worker<D: Datapath> {
    datapath: D,
    parts: Parts,
    batch: Batch,
    out: Outbox,
    now_ns: u64,
    /// The last receive filled its batch.
    more: bool,
    live_at_ns: u64,
    /// Version of the next hops applied.
    hops: u32,
    began_ns: u64,
    /// When the last call began, and when the last ended.
    begun_ns: u64,
    ended_ns: Option<u64>,
}

impl<D: Datapath> Worker<D> {
    pub(crate) fn new(datapath: D, parts: Parts) -> Self {
        let mut worker = Self {
            batch: Batch::new(parts.batch),
            out: Outbox::new(parts.pool, SENDS_MAX + 3 * parts.batch),
            now_ns: 0,
            more: false,
            live_at_ns: 0,
            hops: 0,
            began_ns: 0,
            begun_ns: 0,
            ended_ns: None,
            datapath,
            parts,
        };
        worker.now_ns = worker.clock_ns();
        (worker.began_ns, worker.begun_ns) = (worker.now_ns, worker.now_ns);
        worker.parts.agent.at(worker.now_ns);
        worker
    }

    /// Turns until the run is over; what it did, and its datapath.
    ///
    /// # Errors
    /// When the datapath can no longer receive.
    pub(crate) fn run(mut self) -> io::Result<(Done, D)> {
        let cpu = thread_cpu();
        while !self.over() {
            if let Err(error) = self.turn() {
                let shared = &self.parts.shared;
                shared.broken.store(true, Ordering::Relaxed);
                shared.stop.store(true, Ordering::Release);
                return Err(error);
            }
        }
        self.write_live();
        let counts = *self.datapath.counts();
        let ended_ns = self.ended_ns.unwrap_or(self.now_ns);
        let between = |from: u64, to: u64| Duration::from_nanos(to.saturating_sub(from));
        let done = Done {
            counts,
            refused: self.out.refused(),
            cpu: thread_cpu().saturating_sub(cpu),
            wall: between(self.began_ns, ended_ns),
            beginning: between(self.began_ns, self.begun_ns),
            left_over: self.parts.agent.left_over() as u64,
            tally: self.parts.agent.tally,
        };
        Ok((done, self.datapath))
    }

    fn turn(&mut self) -> io::Result<()> {
        let wait = self.wait();
        if let Some(hops) = self.parts.shared.signpost.newer(&mut self.hops) {
            self.datapath.apply_hops(&hops);
        }
        self.batch.clear();
        self.datapath.recv(&mut self.batch, Some(wait))?;
        self.now_ns = self.clock_ns();
        let Self { parts: Parts { agent, pace, .. }, batch, out, now_ns, .. } = self;
        agent.at(*now_ns);
        self.more = batch.room() == 0;
        batch.packets.iter_mut().for_each(|packet| agent.handle(packet, out));
        agent.expire(out);
        if let Some(pace) = pace {
            pace.turn();
            while let Some(intended_ns) = pace.due(*now_ns, agent.calling()) {
                self.begun_ns = *now_ns;
                if !agent.begin(intended_ns, out) {
                    agent.tally.held_back += 1;
                }
            }
        }
        if !self.out.is_empty() {
            self.datapath.send(&mut self.out);
        }
        if self.now_ns >= self.live_at_ns {
            self.live_at_ns = self.now_ns + LIVE_EVERY_NS;
            self.write_live();
        }
        Ok(())
    }

    /// How long a receive may sleep.
    fn wait(&self) -> Duration {
        if self.more || self.parts.spin {
            return Duration::ZERO;
        }
        let timer_ns = self.parts.agent.wakes_at_ms().map(|at_ms| at_ms.saturating_mul(1_000_000));
        let pace = self.parts.pace.as_ref();
        let call_ns = pace.and_then(Pace::next_ns);
        let due_ns = timer_ns.unwrap_or(u64::MAX).min(call_ns.unwrap_or(u64::MAX));
        Duration::from_nanos(due_ns.saturating_sub(self.now_ns)).min(match pace {
            Some(_) => SLEEP_MAX,
            None => ANSWERING_SLEEP_MAX,
        })
    }

    /// Whether this worker and all others are done.
    fn over(&mut self) -> bool {
        let Parts { pace, agent, shared, until_ns, .. } = &mut self.parts;
        let stop = shared.stop.load(Ordering::Acquire);
        if stop && shared.broken.load(Ordering::Relaxed) {
            return true;
        }
        let Some(pace) = pace else { return stop || self.now_ns >= *until_ns };
        if stop {
            pace.stop();
        }
        if self.ended_ns.is_none() && pace.over(self.now_ns) && agent.calling() == 0 {
            self.ended_ns = Some(self.now_ns);
            shared.calling.fetch_sub(1, Ordering::AcqRel);
        }
        let Some(ended_ns) = self.ended_ns else { return false };
        if shared.calling.load(Ordering::Acquire) > 0 {
            return false;
        }
        !agent.unsettled() || self.now_ns > ended_ns.saturating_add(agent.settles_ns())
    }

    fn write_live(&self) {
        let (tally, counts) = (&self.parts.agent.tally, self.datapath.counts());
        if let Some(live) = self.parts.shared.live.get(self.parts.me) {
            live.write([
                tally.started,
                tally.ok,
                tally.failed_in_all(),
                tally.lost,
                counts.sent,
                tally.received,
                tally.retransmitted,
                tally.wrong(),
                self.parts.agent.calling() as u64,
            ]);
        }
    }

    #[inline]
    fn clock_ns(&self) -> u64 {
        clock_ns(self.parts.origin)
    }
}

/// Nanoseconds since `origin`.
#[expect(clippy::disallowed_methods, reason = "the clock is read here, once a turn")]
pub(crate) fn clock_ns(origin: Instant) -> u64 {
    Instant::now().duration_since(origin).as_nanos() as u64
}

/// Processor time of this thread.
fn thread_cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.try_into().unwrap_or(0), time.tv_nsec.try_into().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use sipring::datapath::Waker;
    use sipring::packet::{Endpoints, Packet, PoolOptions};

    use super::*;
    use crate::crew::{origin, rules};
    use crate::plan::{Load, Plan};

    /// Nothing comes; or the descriptor has gone bad.
    struct Fake {
        bad: bool,
        counts: Counts,
    }

    impl Datapath for Fake {
        fn recv(&mut self, _: &mut Batch, _: Option<Duration>) -> io::Result<()> {
            if self.bad { Err(io::Error::other("gone bad")) } else { Ok(()) }
        }

        fn send(&mut self, _: &mut Outbox) {}

        fn take(&mut self) -> Option<Packet> {
            None
        }

        fn apply(&mut self, _: &Endpoints) {}

        fn waker(&self) -> Waker {
            Waker::new().unwrap()
        }

        fn counts(&self) -> &Counts {
            &self.counts
        }
    }

    #[test]
    fn a_worker_that_cannot_go_on_keeps_nobody_waiting() {
        let pool: &'static Pool = Pool::new(&PoolOptions { slots: 64, threads: 2 }).unwrap();
        let shared = Arc::new(Shared {
            calling: AtomicUsize::new(2),
            stop: AtomicBool::new(false),
            broken: AtomicBool::new(false),
            live: vec![Live::default(), Live::default()],
            signpost: Arc::default(),
        });
        let origin = origin();
        let worker = |me: usize| {
            let parts = Parts {
                me,
                agent: Agent::new(me as u8, rules(&Plan::default()).unwrap(), Vec::new()),
                // Both have calls to begin for an hour.
                pace: Some(Pace::new(Load::Rate(1.0), Some(7_200), None, 0, me as u64, 2)),
                until_ns: u64::MAX,
                pool,
                batch: 1,
                spin: true,
                origin,
                shared: shared.clone(),
            };
            Worker::new(Fake { bad: me == 0, counts: Counts::default() }, parts)
        };
        let (good, bad) = (worker(1), worker(0));
        let (ended, end) = mpsc::channel();
        std::thread::spawn(move || ended.send(good.run().map(|(done, _)| done.tally.ok)));
        assert_eq!(bad.run().map(|_| ()).unwrap_err().to_string(), "gone bad");
        assert_eq!(end.recv_timeout(Duration::from_secs(10)).unwrap().unwrap(), 0);
    }
}
