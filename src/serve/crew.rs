//! The workers: each on its cpu, with memory of its own, all started or none.
//!
//! Made once by `serve`, then handed to control as closures. A worker that ends unasked ends the
//! process: its sockets would swallow their share of the traffic.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Instant;

use core_affinity::CoreId;

use super::bypass;
use super::told::{Figures, Frames, print};
use crate::config::{Backend, Config};
use crate::control::{Hooks, Wish};
use crate::datapath::{self, Bypass, Datapath, Lane, Mmsg, Waker, Xdp, XdpOptions};
use crate::packet::{Pool, PoolOptions, WorkerId};
use crate::shard::{Asks, Counters, Marks, Shard, Shared, Site, State};
use crate::worker::{Parts, Post, Worker};

/// Questions of workers that wait for control.
const ASKS_MAX: usize = 1_024;

/// The workers that run.
pub(super) struct Crew {
    posts: Vec<Arc<Post>>,
    threads: Vec<JoinHandle<()>>,
    pub(super) figures: Arc<[Figures]>,
    /// How packets come in and leave, for the log.
    pub(super) datapath: String,
    /// Programs at the interfaces, which leave them with it.
    _bypass: Option<Bypass>,
    shared: Shared,
    pool: &'static Pool,
    origin: Instant,
    stopping: Arc<AtomicBool>,
}

/// What one worker is started with.
struct Seat {
    me: WorkerId,
    cpu: Option<CoreId>,
    options: datapath::Options,
    waker: Waker,
    lane: Option<(Lane, XdpOptions)>,
}

impl Crew {
    /// Starts one worker on each of `cpus`, and waits until all receive.
    pub(super) fn start(
        config: &Config,
        site: Arc<Site>,
        cpus: &[Option<CoreId>],
        state: &State,
    ) -> Result<Self, String> {
        let marks = Arc::new(Marks::new(config.shard.marks_max, config.shard.ringing_max_s));
        let wakers = cpus.iter().map(|_| Waker::new()).collect::<Result<Vec<_>, _>>();
        let wakers = wakers.map_err(|error| format!("a waker cannot be made: {error}"))?;
        let Path { bypass, lanes, frames, told } = Path::open(config, cpus)?;
        let mut crew = Self {
            posts: wakers.iter().map(|waker| Post::new(config.cpus.mail_max, waker.clone())).collect(),
            threads: Vec::with_capacity(cpus.len()),
            figures: frames.into_iter().map(|frames| Figures { frames, ..Figures::default() }).collect(),
            datapath: told,
            _bypass: bypass,
            shared: Shared { site, marks, asks: Arc::new(Asks::new(ASKS_MAX)) },
            pool: pool(config.cpus.packets, config.shard.workers, cpus.first().copied().flatten())?,
            origin: origin(),
            stopping: Arc::default(),
        };
        let started = crew.seat_all(config, cpus, wakers.into_iter().zip(lanes), state);
        if started.is_err() {
            crew.stop();
        }
        started.map(|()| crew)
    }

    fn seat_all(
        &mut self,
        config: &Config,
        cpus: &[Option<CoreId>],
        own: impl Iterator<Item = (Waker, Option<(Lane, XdpOptions)>)>,
        state: &State,
    ) -> Result<(), String> {
        let (ready, started) = mpsc::channel();
        for ((me, cpu), (waker, lane)) in (0..).map(WorkerId).zip(cpus).zip(own) {
            let seat = Seat { me, cpu: *cpu, options: datapath_options(config, me), waker, lane };
            let thread = self.seat(seat, state.clone(), ready.clone())?;
            self.threads.push(thread);
        }
        drop(ready);
        let ended = |_| Err("a worker ended while it started".to_owned());
        cpus.iter().try_for_each(|_| started.recv().unwrap_or_else(ended))
    }

    fn seat(
        &self,
        mut seat: Seat,
        state: State,
        ready: mpsc::Sender<Result<(), String>>,
    ) -> Result<JoinHandle<()>, String> {
        let me = seat.me;
        let figures = self.figures.get(usize::from(me.0)).cloned().unwrap_or_default();
        let parts = Parts {
            me,
            posts: self.posts.clone(),
            pool: self.pool,
            batch: seat.options.batch,
            origin: self.origin,
            ledger: figures.ledger.clone(),
        };
        let (shared, stopping) = (self.shared.clone(), self.stopping.clone());
        let lane = seat.lane.take();
        let made = Made { seat, shared, state, counters: figures.counters, parts, ready, stopping };
        let body = move || match lane {
            None => made.run(|seat, pool| Mmsg::open(&seat.options, pool, seat.waker.clone())),
            Some((lane, xdp)) => {
                made.run(move |seat, pool| Xdp::open(&seat.options, &xdp, lane, pool, seat.waker.clone()));
            }
        };
        let named = std::thread::Builder::new().name(format!("worker-{}", me.0));
        named.spawn(body).map_err(|error| format!("a worker cannot be started: {error}"))
    }

    fn stop(&mut self) {
        self.stopping.store(true, Ordering::Release);
        self.posts.iter().for_each(|post| post.stop());
        self.threads.drain(..).for_each(|thread| drop(thread.join()));
    }

    /// What control does with the workers.
    pub(super) fn hooks(mut self, reload: impl FnMut() -> Result<Wish, String> + Send + 'static) -> Hooks {
        let posts = self.posts.clone();
        let (marks, asks, origin) = (self.shared.marks.clone(), self.shared.asks.clone(), self.origin);
        let figures = self.figures.clone();
        Hooks {
            reload: Box::new(reload),
            post: Box::new(move |state| posts.iter().for_each(|post| post.state(state.clone()))),
            stop: Box::new(move || self.stop()),
            pending: Box::new(move || marks.pending(origin.elapsed().as_millis() as u64)),
            print: Box::new(move || print(&figures)),
            asks,
        }
    }
}

/// What a worker's thread is given.
struct Made {
    seat: Seat,
    shared: Shared,
    state: State,
    counters: Arc<Counters>,
    parts: Parts,
    ready: mpsc::Sender<Result<(), String>>,
    stopping: Arc<AtomicBool>,
}

impl Made {
    /// The thread: makes a worker over what `open` opens, says whether that went well, and runs it.
    fn run<D: Datapath>(self, open: impl FnOnce(&Seat, &'static Pool) -> io::Result<D>) {
        let Self { seat, shared, state, counters, parts, ready, stopping } = self;
        let me = seat.me;
        match sit(&seat, open, shared, state, counters, parts) {
            Ok(worker) => {
                tracing::info!(worker = me.0, cpu = seat.cpu.map(|cpu| cpu.id), "worker_started");
                let _ = ready.send(Ok(()));
                drop(ready);
                let _vital = Vital { me, stopping };
                if let Err(error) = worker.run() {
                    tracing::error!(worker = me.0, %error, "worker_failed");
                }
            }
            Err(text) => drop(ready.send(Err(text))),
        }
    }
}

/// Makes a worker on its own thread: pinned first, so that what it allocates is near its cpu.
fn sit<D: Datapath>(
    seat: &Seat,
    open: impl FnOnce(&Seat, &'static Pool) -> io::Result<D>,
    shared: Shared,
    state: State,
    counters: Arc<Counters>,
    parts: Parts,
) -> Result<Worker<D>, String> {
    pin(seat.cpu)?;
    let told = |error: io::Error| error.to_string();
    let datapath = open(seat, parts.pool).map_err(|error| named(&told(error), &shared.site))?;
    let shard = Shard::new(seat.me, shared, state, counters);
    Worker::new(datapath, shard, parts).map_err(told)
}

/// The datapath chosen, as far as it is opened before the workers.
struct Path {
    bypass: Option<Bypass>,
    lanes: Vec<Option<(Lane, XdpOptions)>>,
    frames: Vec<Option<Frames>>,
    told: String,
}

impl Path {
    fn open(config: &Config, cpus: &[Option<CoreId>]) -> Result<Self, String> {
        match &config.cpus.datapath {
            Backend::Mmsg => {
                let (lanes, frames) = cpus.iter().map(|_| (None, None)).unzip();
                Ok(Self { bypass: None, lanes, frames, told: "mmsg".to_owned() })
            }
            Backend::Xdp(options) => {
                let (bypass, lanes) = bypass::open(config, options, cpus)?;
                let told = format!("xdp ({})", bypass.told());
                let (lanes, frames) = lanes.into_iter().map(|(l, f)| (Some((l, options.clone())), Some(f))).unzip();
                Ok(Self { bypass: Some(bypass), lanes, frames, told })
            }
        }
    }
}

/// An error of the datapath, with what the file calls the port that it speaks of.
fn named(error: &str, site: &Site) -> String {
    let port = site.ports().iter().find(|port| error.contains(&format!(" {} ", port.local.bind)));
    port.map_or_else(|| error.to_owned(), |port| format!("`{}`: {error}", port.name))
}

/// Ends the process with a worker that ends unasked.
struct Vital {
    me: WorkerId,
    stopping: Arc<AtomicBool>,
}

impl Drop for Vital {
    fn drop(&mut self) {
        if std::thread::panicking() || !self.stopping.load(Ordering::Acquire) {
            tracing::error!(worker = self.me.0, "worker_lost");
            std::process::abort();
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the origin that workers and control count their time from")]
fn origin() -> Instant {
    Instant::now()
}

/// The pool, touched first by a thread on `cpu`, so that its memory is that cpu's.
fn pool(packets: u32, workers: u16, cpu: Option<CoreId>) -> Result<&'static Pool, String> {
    let make = move || {
        pin(cpu)?;
        Pool::new(&PoolOptions { slots: packets, threads: workers })
            .map_err(|error| format!("no memory for {packets} packets: {error}"))
    };
    std::thread::spawn(make).join().unwrap_or_else(|_| Err("the thread that makes the pool failed".to_owned()))
}

pub(super) fn pin(cpu: Option<CoreId>) -> Result<(), String> {
    match cpu {
        Some(cpu) if !core_affinity::set_for_current(cpu) => {
            Err(format!("a worker cannot be pinned to cpu {}", cpu.id))
        }
        _ => Ok(()),
    }
}

fn datapath_options(config: &Config, worker: WorkerId) -> datapath::Options {
    let cpus = &config.cpus;
    datapath::Options {
        ports: config.ports.iter().map(|port| port.local).collect(),
        worker,
        workers: config.shard.workers,
        batch: cpus.batch,
        receive_buffer: cpus.receive_buffer,
        send_buffer: cpus.send_buffer,
        connected_max: cpus.connected_max,
    }
}
