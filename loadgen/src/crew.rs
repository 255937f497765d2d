//! The workers of a run: each on its cpu, all started or none; the live line; what they found.
//!
//! Driven by the command line, the demo, the search and tests with a plan. The calling thread is no
//! worker: it prints, and hears signals.

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use std::{io, iter};

use core_affinity::CoreId;
use rustix::process::{Resource, getrlimit, setrlimit};
use sipring::datapath::{self, Mmsg, Uring, Waker, Xdp};
use sipring::packet::{Endpoints, LocalPort, Pool, PoolOptions, PortId, PortRole, WorkerId};
use sipring::sip::Text;

use crate::agent::number::RUN_DIGITS;
use crate::agent::{Agent, Rules};
use crate::carry::{self, Backend, Signpost};
use crate::pace::Pace;
use crate::plan::{Carrier, Plan};
use crate::report::Report;
use crate::wire::spot::{Spot, Wording};
use crate::worker::{Done, Live, Parts, Shared, Worker, clock_ns};

/// Packets of one worker alive at once, besides some for each of a batch.
const PACKETS: usize = 2_048;
const PACKETS_A_BATCH: usize = 5;
/// Descriptors that are not sockets.
const DESCRIPTORS_BESIDES: u64 = 64;

/// A run under way.
pub struct Running {
    plan: Plan,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<io::Result<Done>>>,
}

/// Starts a run, and returns when all sockets are open.
///
/// # Errors
/// What is wrong with the plan, or cannot be had: an address, a cpu, memory.
pub fn start(plan: &Plan) -> Result<Running, String> {
    match plan.carrier {
        Carrier::Mmsg => start_on::<Mmsg>(plan),
        Carrier::Uring => start_on::<Uring>(plan),
        Carrier::Xdp => start_on::<Xdp>(plan),
    }
}

/// Starts a run and waits for its end.
///
/// # Errors
/// As [`start`].
pub fn run(plan: &Plan) -> Result<Report, String> {
    start(plan)?.wait()
}

impl Running {
    /// Begins no more calls; those under way are ended.
    pub fn stop(&self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }

    /// Whether all workers are done.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.threads.iter().all(JoinHandle::is_finished)
    }

    /// The addresses that calls begin at, ports filled in.
    #[must_use]
    pub fn sources(&self) -> &[SocketAddr] {
        &self.plan.from
    }

    /// Live figures of all workers together, by the names of [`Live`].
    pub(crate) fn live(&self) -> [u64; 9] {
        let read = self.shared.live.iter().map(Live::read);
        read.fold([0; 9], |sums, figures| {
            let mut both = sums.iter().zip(figures).map(|(sum, figure)| sum + figure);
            std::array::from_fn(|_| both.next().unwrap_or(0))
        })
    }

    /// Waits until all calls have ended.
    ///
    /// # Errors
    /// When a worker could not go on.
    pub fn wait(self) -> Result<Report, String> {
        let join = |thread: JoinHandle<io::Result<Done>>| {
            let ended = thread.join().map_err(|_| "a worker panicked".to_owned())?;
            ended.map_err(|error| format!("a worker cannot go on: {error}"))
        };
        let done = self.threads.into_iter().map(join).collect::<Result<Vec<_>, _>>()?;
        Ok(Report::new(&self.plan, &done))
    }
}

/// What the thread of one worker is started with.
struct Seat {
    me: usize,
    plan: Plan,
    rules: Rules,
    options: datapath::Options,
    pool: &'static Pool,
    shared: Arc<Shared>,
    /// Says so when all workers are open; closed if one cannot be.
    gate: mpsc::Receiver<()>,
    origin: Instant,
    ready: mpsc::Sender<Result<(), String>>,
}

fn start_on<D: Backend>(plan: &Plan) -> Result<Running, String> {
    plan.check()?;
    // Twice for a moment, while ports are looked for.
    descriptors(2 * (plan.from.len() + plan.answer_at.len()) as u64)?;
    let from = carry::ports_before(plan).map_or_else(|| with_ports(&plan.from), Ok)?;
    let plan = Plan { from, ..plan.clone() };
    let plan = &plan;
    let workers = plan.cpus.len();
    let live = iter::repeat_with(Live::default).take(workers).collect();
    let calling = AtomicUsize::new(workers);
    let signpost = Arc::new(Signpost::default());
    if plan.carrier == Carrier::Xdp {
        carry::watch(&plan.interfaces, &signpost)?;
    }
    let (stop, broken) = (AtomicBool::new(false), AtomicBool::new(false));
    let shared = Arc::new(Shared { calling, stop, broken, live, signpost });
    let pool = pool(workers, PACKETS + PACKETS_A_BATCH * plan.batch.min(1_024))?;
    let rules = rules(plan)?;
    let ports: Vec<LocalPort> = (0..)
        .zip(plan.from.iter().chain(&plan.answer_at))
        .map(|(index, bind)| LocalPort { bind: *bind, role: PortRole::Worker { index } })
        .collect();
    let (ready, started) = mpsc::channel();
    let origin = origin();
    let (mut threads, mut gates, mut fault) = (Vec::with_capacity(workers), Vec::with_capacity(workers), None);
    for (me, own) in D::prepare(plan)?.into_iter().enumerate() {
        let options = datapath::Options {
            ports: ports.clone(),
            worker: WorkerId(me as u16),
            workers: workers as u16,
            batch: plan.batch,
            receive_buffer: plan.buffers,
            send_buffer: plan.buffers,
            connected_max: 1,
            // Each message by a send of its own, as of as many peers.
            trains: false,
            groups: None,
        };
        let (shared, ready, (go, gate)) = (shared.clone(), ready.clone(), mpsc::channel());
        let (plan, rules) = (plan.clone(), rules.clone());
        let seat = Seat { me, plan, rules, options, pool, shared, gate, origin, ready };
        let named = std::thread::Builder::new().name(format!("load-{me}"));
        match named.spawn(move || sit::<D>(seat, own)) {
            Ok(thread) => threads.push(thread),
            Err(error) => {
                fault = Some(format!("no thread for worker {me}: {error}"));
                break;
            }
        }
        gates.push(go);
    }
    drop(ready);
    if let Some(text) = fault.or_else(|| started.into_iter().find_map(Result::err)) {
        // Whoever waits at a closed gate leaves, and what it had open is free again.
        drop(gates);
        threads.into_iter().for_each(|thread| drop(thread.join()));
        return Err(text);
    }
    for gate in gates {
        let _ = gate.send(());
    }
    Ok(Running { plan: plan.clone(), shared, threads })
}

/// The body of a worker's thread: pinned first, so that what it allocates is near its cpu.
fn sit<D: Backend>(seat: Seat, own: D::Own) -> io::Result<Done> {
    let opened = open::<D>(&seat, own);
    let _ = seat.ready.send(opened.as_ref().map(|_| ()).map_err(Clone::clone));
    drop(seat.ready);
    let (datapath, agent) = opened.map_err(io::Error::other)?;
    seat.gate.recv().map_err(|_| io::Error::other("another worker cannot be opened"))?;
    let start_ns = clock_ns(seat.origin);
    let time_ns = seat.plan.time.map(|time| time.as_nanos() as u64);
    let (place, workers) = (seat.me as u64, seat.plan.cpus.len() as u64);
    let pace = seat.plan.flow.map(|_| Pace::new(seat.plan.load, seat.plan.calls, time_ns, start_ns, place, workers));
    let parts = Parts {
        me: seat.me,
        agent,
        pace,
        until_ns: time_ns.map_or(u64::MAX, |time_ns| start_ns + time_ns),
        pool: datapath.outgoing(seat.pool),
        batch: seat.plan.batch.clamp(1, 1_024),
        spin: seat.plan.spin,
        origin: seat.origin,
        shared: seat.shared,
    };
    let (done, datapath) = Worker::new(datapath, parts).run()?;
    datapath.close();
    Ok(done)
}

fn open<D: Backend>(seat: &Seat, own: D::Own) -> Result<(D, Agent), String> {
    if let Some(Some(cpu)) = seat.plan.cpus.get(seat.me) {
        pin(*cpu)?;
    }
    // Sleeps end when they should; where this is refused, some 50 us later.
    let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
    let text = |error: io::Error| error.to_string();
    let waker = Waker::new().map_err(text)?;
    let mut datapath = D::open(&seat.options, seat.pool, waker, own).map_err(text)?;
    datapath.apply(&Endpoints { peers: if seat.plan.flow.is_some() { vec![seat.plan.to] } else { Vec::new() } });
    let plan = &seat.plan;
    let wording = Wording {
        run: &seat.rules.run,
        flow: plan.flow,
        user: &plan.user,
        users: plan.users,
        domain: plan.targets.first().unwrap_or(&plan.to).to_string(),
        callee: plan.callee_user(),
    };
    let spot = |place: usize| {
        let port = PortId(place as u16);
        let mut address = datapath.local(port)?;
        plan.transport_ip.into_iter().for_each(|ip| address.set_ip(ip));
        Some(Spot::new(port, address, place >= plan.from.len(), &wording))
    };
    let spots = (0..plan.from.len() + plan.answer_at.len()).map(spot).collect();
    let agent = Agent::new(seat.me as u8, seat.rules.clone(), spots);
    Ok((datapath, agent))
}

/// The addresses, each with a port of its own. Sockets that share ports would be given the same one
/// twice; these are kept until all have theirs.
fn with_ports(from: &[SocketAddr]) -> Result<Vec<SocketAddr>, String> {
    let mut kept = Vec::new();
    let mut port = |from: &SocketAddr| {
        if from.port() != 0 {
            return Ok(*from);
        }
        let socket = UdpSocket::bind(from)?;
        let local = socket.local_addr();
        kept.push(socket);
        local
    };
    let named = |from: &SocketAddr| port(from).map_err(|error| format!("no port at {}: {error}", from.ip()));
    from.iter().map(named).collect()
}

fn pin(cpu: usize) -> Result<(), String> {
    let allowed = core_affinity::get_core_ids().unwrap_or_default();
    if allowed.iter().any(|core| core.id == cpu) && core_affinity::set_for_current(CoreId { id: cpu }) {
        return Ok(());
    }
    let list: Vec<String> = allowed.iter().map(|core| core.id.to_string()).collect();
    Err(format!("a worker cannot be pinned to cpu {cpu}; one of: {}", list.join(", ")))
}

pub(crate) fn rules(plan: &Plan) -> Result<Rules, String> {
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(|error| format!("no random numbers: {error}"))?;
    let mut digits = [0; 16];
    Text::new(&mut digits).hex(u64::from_le_bytes(random));
    let run: [u8; RUN_DIGITS] = digits.first_chunk().copied().unwrap_or_default();
    let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    Ok(Rules {
        run,
        flow: plan.flow,
        to: plan.to,
        targets: plan.request_lines(),
        user: plan.user.clone(),
        users: plan.users,
        password: plan.password.clone(),
        ring_ms: ms(plan.ring),
        hold_ms: ms(plan.hold),
        t1_ms: ms(plan.t1).max(1),
        t2_ms: ms(plan.t2).max(1),
        timeout_ms: ms(plan.timeout).max(1),
        answer_wait_ms: ms(plan.answer_wait),
        idle_ms: ms(plan.idle).max(ms(plan.hold) + ms(plan.timeout)),
        checks: plan.checks,
        trying: plan.trying,
        ringing: plan.ringing,
        answer_as: plan.answer_as,
        answer_limit: plan.answer_limit,
        registrar: plan.registrar.clone(),
        legs_max: plan.concurrent_max,
    })
}

/// The pool of the process: regions live as long as it does, so that runs one after the other share
/// one.
fn pool(workers: usize, each: usize) -> Result<&'static Pool, String> {
    static POOL: Mutex<Option<(usize, &'static Pool)>> = Mutex::new(None);
    let mut pool = POOL.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, pool)) = pool.filter(|(served, _)| *served >= workers * each) {
        return Ok(pool);
    }
    let slots = (each * workers) as u32;
    let made = Pool::new(&PoolOptions { slots, threads: workers as u16 });
    let made = made.map_err(|error| format!("no memory for {slots} packets: {error}"))?;
    *pool = Some((workers * each, made));
    Ok(made)
}

/// Raises the limit of open files as far as it goes: others in this process may need some too.
fn descriptors(sockets: u64) -> Result<(), String> {
    let need = sockets + DESCRIPTORS_BESIDES;
    let mut limit = getrlimit(Resource::Nofile);
    if let Some(hard) = limit.maximum.filter(|hard| *hard < need) {
        return Err(format!("{need} open files are needed and the hard limit is {hard}; `ulimit -Hn {need}` is right"));
    }
    let wanted = limit.maximum.unwrap_or(need);
    if limit.current.is_none_or(|soft| soft >= wanted) {
        return Ok(());
    }
    limit.current = Some(wanted);
    setrlimit(Resource::Nofile, limit).map_err(|error| format!("the limit of open files cannot be raised: {error}"))
}

#[expect(clippy::disallowed_methods, reason = "the origin that all workers count their time from")]
pub(crate) fn origin() -> Instant {
    Instant::now()
}
