//! What carries the packets of a run: plain sockets, io_uring, or AF_XDP past the kernel's stack.
//!
//! Asked by `crew`, which is written once for all of them. What AF_XDP needs besides sockets (programs
//! at interfaces, frames, next hops) is opened once a process and used by one run after the other.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sipring::control::NextHops;
use sipring::datapath::{self, Bypass, Datapath, Lane, Mmsg, Uring, Waker, Xdp, XdpMode, XdpOptions};
use sipring::packet::{Hops, Pool, PoolOptions, PortId};

use crate::plan::{Interfaces, Plan};

/// Frames of a run, 4 kB each, for each interface.
const FRAMES: u32 = 8_192;
/// How soon the thread that waits for new next hops notices that the run is over.
const HOPS_WAIT: Duration = Duration::from_millis(200);

/// A datapath that a run can be opened on.
pub(crate) trait Backend: Datapath + Sized + 'static {
    /// What one worker has of it besides sockets.
    type Own: Send + 'static;

    /// Opens what all workers share; what each of them has of it.
    ///
    /// # Errors
    /// What cannot be had, and what would be right.
    fn prepare(plan: &Plan) -> Result<Vec<Self::Own>, String>;

    /// Opens the sockets that `options.worker` holds.
    ///
    /// # Errors
    /// Names the address that cannot be had.
    fn open(options: &datapath::Options, pool: &'static Pool, waker: Waker, own: Self::Own) -> io::Result<Self>;

    /// The address that a held port is bound to.
    fn local(&self, port: PortId) -> Option<SocketAddr>;

    /// Where packets to be sent are taken from; `pool` is what it was opened with.
    fn outgoing(&self, pool: &'static Pool) -> &'static Pool {
        pool
    }

    /// Ends it; what it had of its own may serve the next run.
    fn close(self) {}
}

fn nothing(plan: &Plan) -> Vec<()> {
    plan.cpus.iter().map(|_| ()).collect()
}

impl Backend for Mmsg {
    type Own = ();

    fn prepare(plan: &Plan) -> Result<Vec<()>, String> {
        Ok(nothing(plan))
    }

    fn open(options: &datapath::Options, pool: &'static Pool, waker: Waker, (): ()) -> io::Result<Self> {
        Self::open(options, pool, waker)
    }

    fn local(&self, port: PortId) -> Option<SocketAddr> {
        Self::local(self, port)
    }
}

impl Backend for Uring {
    type Own = ();

    fn prepare(plan: &Plan) -> Result<Vec<()>, String> {
        let refused = |error| format!("io_uring cannot be had: {error}; `--datapath mmsg` is right");
        Self::probe().map(|()| nothing(plan)).map_err(refused)
    }

    fn open(options: &datapath::Options, pool: &'static Pool, waker: Waker, (): ()) -> io::Result<Self> {
        Self::open(options, pool, waker)
    }

    fn local(&self, port: PortId) -> Option<SocketAddr> {
        Self::local(self, port)
    }
}

impl Backend for Xdp {
    type Own = (Lane, XdpOptions, &'static Pool);

    fn prepare(plan: &Plan) -> Result<Vec<Self::Own>, String> {
        let ports: Vec<SocketAddr> = plan.from.iter().chain(&plan.answer_at).copied().collect();
        let mut ground = GROUND.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Ground { lane, options, frames, .. }) = ground.as_mut().filter(|ground| ground.is_for(plan, &ports))
            && let Some(lane) = lane.take()
        {
            return Ok(vec![(lane, options.clone(), *frames)]);
        }
        // The interfaces take one program at a time.
        *ground = None;
        let options = options(&plan.interfaces);
        let frames = Pool::frames(&PoolOptions { slots: options.frames, threads: 1 });
        let frames = frames.map_err(|error| format!("no memory for {} frames: {error}", options.frames))?;
        let (bypass, lanes) = Bypass::open(&options, &ports, &[frames]).map_err(|error| error.to_string())?;
        let own = lanes.into_iter().map(|lane| (lane, options.clone(), frames)).collect();
        *ground =
            Some(Ground { interfaces: plan.interfaces.clone(), ports, frames, options, lane: None, _bypass: bypass });
        Ok(own)
    }

    fn open(
        options: &datapath::Options,
        pool: &'static Pool,
        waker: Waker,
        (lane, xdp, _): Self::Own,
    ) -> io::Result<Self> {
        Self::open(options, &xdp, lane, pool, waker)
    }

    fn local(&self, port: PortId) -> Option<SocketAddr> {
        Self::local(self, port)
    }

    fn outgoing(&self, _: &'static Pool) -> &'static Pool {
        self.frames()
    }

    fn close(self) {
        if let Some(ground) = GROUND.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            ground.lane = Some(self.into_lane());
        }
    }
}

fn options(interfaces: &Interfaces) -> XdpOptions {
    XdpOptions {
        interfaces: interfaces.names.clone(),
        queues: vec![interfaces.queue],
        frames: FRAMES * interfaces.names.len() as u32,
        busy_poll_us: interfaces.busy_poll_us,
        dscp: 0,
        zero_copy: true,
        mode: XdpMode::Auto,
    }
}

/// What AF_XDP needs, as it was opened, and the lane while no worker has it.
struct Ground {
    interfaces: Interfaces,
    ports: Vec<SocketAddr>,
    frames: &'static Pool,
    options: XdpOptions,
    lane: Option<Lane>,
    _bypass: Bypass,
}

impl Ground {
    fn is_for(&self, plan: &Plan, ports: &[SocketAddr]) -> bool {
        self.interfaces == plan.interfaces && self.ports == ports
    }
}

static GROUND: Mutex<Option<Ground>> = Mutex::new(None);

/// The ports that an earlier run over AF_XDP had for the same wishes: its program serves those.
pub(crate) fn ports_before(plan: &Plan) -> Option<Vec<SocketAddr>> {
    let ground = GROUND.lock().unwrap_or_else(PoisonError::into_inner);
    let ports = &ground.as_ref().filter(|ground| ground.interfaces == plan.interfaces)?.ports;
    let wished = plan.from.iter().chain(&plan.answer_at);
    let fits =
        |(had, wished): (&SocketAddr, &SocketAddr)| had == wished || (wished.port() == 0 && had.ip() == wished.ip());
    let same = ports.len() == wished.clone().count() && ports.iter().zip(wished).all(fits);
    same.then(|| ports.iter().take(plan.from.len()).copied().collect())
}

/// Next hops, newest wins, from the thread that watches them to the workers.
#[derive(Debug, Default)]
pub(crate) struct Signpost {
    version: AtomicU32,
    hops: Mutex<Arc<Hops>>,
}

impl Signpost {
    pub(crate) fn put(&self, hops: Arc<Hops>) {
        *self.hops.lock().unwrap_or_else(PoisonError::into_inner) = hops;
        self.version.fetch_add(1, Ordering::Release);
    }

    /// The newest, if it is newer than `seen`, which then is its version.
    #[inline]
    pub(crate) fn newer(&self, seen: &mut u32) -> Option<Arc<Hops>> {
        let version = self.version.load(Ordering::Acquire);
        if version == *seen {
            return None;
        }
        *seen = version;
        Some(self.hops.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

/// Keeps `signpost` current until nobody else has it.
pub(crate) fn watch(interfaces: &Interfaces, signpost: &Arc<Signpost>) -> Result<(), String> {
    let mut hops = NextHops::open(&interfaces.names).map_err(|error| format!("next hops cannot be read: {error}"))?;
    signpost.put(hops.current());
    let readers = Arc::downgrade(signpost);
    let body = move || {
        // The signpost is not held while waiting, so that the end of the run is seen.
        while readers.strong_count() > 0 {
            if let (Some(newer), Some(signpost)) = (hops.changed(HOPS_WAIT), readers.upgrade()) {
                signpost.put(newer);
            }
        }
    };
    let spawned = std::thread::Builder::new().name("load-hops".to_owned()).spawn(body);
    spawned.map(drop).map_err(|error| format!("no thread: {error}"))
}
