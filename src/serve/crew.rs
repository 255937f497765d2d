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

use super::backend::Backend;
use super::bypass::{self, Own};
use super::told::print;
use crate::config::Config;
use crate::control::{Figures, Hooks, Sight, Wish};
use crate::datapath::{self, Bypass, Datapath, Groups, Mmsg, Steered, Uring, Waker, Xdp};
use crate::packet::{Pool, PoolOptions, WorkerId};
use crate::shard::{self, Asks, Marks, Shard, Shared, Site, State};
use crate::worker::{Parts, Post, Worker};

/// Questions of workers that wait for control.
const ASKS_MAX: usize = 1_024;

/// Why the workers could not be started.
pub(super) enum Refusal {
    /// The kernel refuses what the datapath needs, though it has it.
    Lacking(String),
    Other(String),
}

impl From<String> for Refusal {
    fn from(text: String) -> Self {
        Self::Other(text)
    }
}

impl From<Refusal> for String {
    fn from((Refusal::Lacking(text) | Refusal::Other(text)): Refusal) -> Self {
        text
    }
}

/// The workers that run.
pub(super) struct Crew {
    backend: Backend,
    posts: Vec<Arc<Post>>,
    threads: Vec<JoinHandle<()>>,
    pub(super) figures: Arc<[Figures]>,
    /// Programs at the interfaces, which leave them with it.
    bypass: Option<Bypass>,
    shared: Shared,
    pool: &'static Pool,
    groups: Arc<Groups>,
    origin: Instant,
    stopping: Arc<AtomicBool>,
}

/// What one worker is started with.
struct Seat {
    me: WorkerId,
    cpu: Option<CoreId>,
    options: datapath::Options,
    waker: Waker,
    own: Option<Own>,
}

impl Crew {
    /// Starts one worker on each of `cpus`, and waits until all receive.
    pub(super) fn start(
        config: &Config,
        backend: Backend,
        site: Arc<Site>,
        cpus: &[Option<CoreId>],
        state: &State,
    ) -> Result<Self, Refusal> {
        let marks = Arc::new(Marks::new(config.shard.marks_max, config.shard.ringing_max_s));
        let wakers = cpus.iter().map(|_| Waker::new()).collect::<Result<Vec<_>, _>>();
        let wakers = wakers.map_err(|error| format!("a waker cannot be made: {error}"))?;
        let (bypass, own) = bypass::open(config, cpus)?;
        let figures = own.iter().map(|own| own.as_ref().map(|own| own.frames.clone()));
        let figures = figures.map(|frames| Figures { frames, ..Figures::default() }).collect();
        let groups = Arc::new(groups(config, &site)?);
        let mut crew = Self {
            backend,
            posts: wakers.iter().map(|waker| Post::new(config.cpus.mail_max, waker.clone())).collect(),
            threads: Vec::with_capacity(cpus.len()),
            figures,
            bypass,
            shared: Shared { site, marks, asks: Arc::new(Asks::new(ASKS_MAX)) },
            pool: pool(config.cpus.packets, config.shard.workers, cpus.first().copied().flatten())?,
            groups,
            origin: origin(),
            stopping: Arc::default(),
        };
        let started = crew.seat_all(config, cpus, wakers.into_iter().zip(own), state);
        if started.is_err() {
            crew.stop();
        }
        started.map(|()| crew)
    }

    fn seat_all(
        &mut self,
        config: &Config,
        cpus: &[Option<CoreId>],
        means: impl Iterator<Item = (Waker, Option<Own>)>,
        state: &State,
    ) -> Result<(), Refusal> {
        let (ready, started) = mpsc::channel();
        for ((me, cpu), (waker, own)) in (0..).map(WorkerId).zip(cpus).zip(means) {
            let options = datapath::Options { groups: Some(self.groups.clone()), ..datapath_options(config, me) };
            let seat = Seat { me, cpu: *cpu, options, waker, own };
            let thread = self.seat(seat, state.clone(), ready.clone())?;
            self.threads.push(thread);
        }
        drop(ready);
        let ended = |_| Err("a worker ended while it started".to_owned().into());
        cpus.iter().try_for_each(|_| started.recv().unwrap_or_else(ended))
    }

    fn seat(
        &self,
        mut seat: Seat,
        state: State,
        ready: mpsc::Sender<Result<(), Refusal>>,
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
        let (backend, own) = (self.backend, seat.own.take());
        let duty = Duty { seat, shared, state, figures, parts, ready, stopping };
        let body = move || match (backend, own) {
            (_, Some(Own { lane, options: xdp, .. })) => {
                duty.serve(move |options, pool, waker| Xdp::open(options, &xdp, lane, pool, waker));
            }
            (Backend::Uring, None) => duty.serve(Uring::open),
            (Backend::Mmsg, None) => duty.serve(Mmsg::open),
            (Backend::Xdp, None) => duty.serve(|_, _, _| Err::<Xdp, _>(io::Error::other("there is no queue for it"))),
        };
        let named = std::thread::Builder::new().name(format!("worker-{}", me.0));
        named.spawn(body).map_err(|error| format!("a worker cannot be started: {error}"))
    }

    /// How datagrams are shared out among the workers.
    pub(super) fn steered(&self) -> Steered {
        self.groups.steered()
    }

    /// How the kernel is bypassed, if it is.
    pub(super) fn bypassed(&self) -> Option<String> {
        self.bypass.as_ref().map(Bypass::told)
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
        let all = marks.clone();
        let clock_ms = move || origin.elapsed().as_millis() as u64;
        let sight = Sight {
            figures: figures.clone(),
            posts: posts.clone(),
            shared: self.shared.clone(),
            pool: self.pool,
            origin,
            datapath: self.backend.name(),
        };
        Hooks {
            reload: Box::new(reload),
            post: Box::new(move |state| posts.iter().for_each(|post| post.state(state.clone()))),
            stop: Box::new(move || self.stop()),
            pending: Box::new(move || marks.pending(clock_ms())),
            marks: Box::new(move || all.pending_by_node(clock_ms())),
            clock_ms: Box::new(clock_ms),
            print: Box::new(move |status| print(&figures, Some(status))),
            asks,
            sight: Some(sight),
        }
    }
}

/// What a worker's thread is given.
struct Duty {
    seat: Seat,
    shared: Shared,
    state: State,
    figures: Figures,
    parts: Parts,
    ready: mpsc::Sender<Result<(), Refusal>>,
    stopping: Arc<AtomicBool>,
}

impl Duty {
    /// Makes the worker, says whether it could be made, and turns until it is stopped.
    fn serve<D: Datapath>(self, open: impl FnOnce(&datapath::Options, &'static Pool, Waker) -> io::Result<D>) {
        let Self { seat, shared, state, figures, parts, ready, stopping } = self;
        match sit(&seat, shared, state, &figures, parts, open) {
            Ok(worker) => {
                tracing::info!(worker = seat.me.0, cpu = seat.cpu.map(|cpu| cpu.id), "worker_started");
                let _ = ready.send(Ok(()));
                drop(ready);
                let _vital = Vital { me: seat.me, stopping };
                if let Err(error) = worker.run() {
                    tracing::error!(worker = seat.me.0, %error, "worker_failed");
                }
            }
            Err(refusal) => drop(ready.send(Err(refusal))),
        }
    }
}

/// Makes a worker on its own thread: pinned first, so that what it allocates is near its cpu.
fn sit<D: Datapath>(
    seat: &Seat,
    shared: Shared,
    state: State,
    figures: &Figures,
    parts: Parts,
    open: impl FnOnce(&datapath::Options, &'static Pool, Waker) -> io::Result<D>,
) -> Result<Worker<D>, Refusal> {
    pin(seat.cpu)?;
    let datapath = open(&seat.options, parts.pool, seat.waker.clone()).map_err(|error| {
        let (lacking, text) = (error.kind() == io::ErrorKind::Unsupported, error.to_string());
        if lacking { Refusal::Lacking(text) } else { Refusal::Other(named(&text, &shared.site)) }
    })?;
    let shard = Shard::new(seat.me, shared, state, figures.counters.clone());
    Ok(Worker::new(datapath, shard, parts).map_err(|error| error.to_string())?)
}

/// An error of the datapath, with what the file calls the port that it speaks of.
fn named(error: &str, site: &Site) -> String {
    let port = site.ports().iter().find(|port| error.contains(&format!(" {} ", port.local.bind)));
    port.map_or_else(|| error.to_owned(), |port| format!("`{}`: {error}", port.name))
}

/// The sockets that all workers share ports by, steered as the file wishes and the kernel allows.
fn groups(config: &Config, site: &Site) -> Result<Groups, String> {
    let best = [Steered::Ebpf, Steered::Cbpf, Steered::Tuple];
    let wanted = config.cpus.steering.map_or(best.to_vec(), |way| vec![way]);
    let steering = shard::steering(site).ok_or("no program steers by owner")?;
    let groups = Groups::open(&datapath_options(config, WorkerId(0)), &steering, &wanted).map_err(|error| {
        let advice = match config.cpus.steering {
            Some(Steered::Ebpf) => "; the capability CAP_BPF, or `steering = \"auto\"` is right",
            _ => "",
        };
        format!("{}{advice}", named(&error.to_string(), site))
    })?;
    for (way, error) in groups.refused() {
        tracing::info!(steering = way.label(), %error, "steering_refused");
    }
    Ok(groups)
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
        trains: cpus.trains,
        groups: None,
    }
}
