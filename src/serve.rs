//! Start, reload, stop.
//!
//! Puts the floors together: secret, site, workers on their cpus, control. [`run`] is the process
//! of its own; [`start`] serves inside another, which asks through [`Running`].

mod backend;
mod bypass;
mod crew;
mod told;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use core_affinity::CoreId;

use crate::balance::{CookieKeys, Plan, Secrets};
use crate::config::{ClusterSecret, Config, Workers};
use crate::control::{self, Control, Overlay, Wish};
pub use crate::control::{Figures, Frames};
use crate::datapath::{self, Steered};
use crate::shard::{Port, Site};
use backend::Backend;
use crew::{Crew, Refusal};

/// Descriptors that are not sockets of workers: files, the runtime, lookups.
const DESCRIPTORS_BESIDES: u64 = 256;

/// How often, and how far apart, a port that another process holds is tried again: a second in all.
const PORT_TRIES: u32 = 50;
const PORT_PAUSE: Duration = Duration::from_millis(20);

/// A balancer that serves, inside this process.
pub struct Running {
    control: Control,
    site: Arc<Site>,
    figures: Arc<[Figures]>,
    backend: Backend,
    steered: Steered,
}

/// Starts everything, and returns when all workers receive. Signals are left alone.
///
/// # Errors
/// What cannot be had: a secret, an address of a node, a cpu, a port, memory.
pub fn start(config: Config) -> Result<Running, String> {
    begin(config, false)
}

/// Serves until a signal ends it, and prints the counters.
///
/// # Errors
/// As [`start`]; also when control failed.
pub fn run(config: Config) -> Result<(), String> {
    std::panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        let what = panic.payload_as_str().unwrap_or("no message");
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(thread = thread.name().unwrap_or("?"), place, what, "panic");
    }));
    let running = begin(config, true)?;
    let figures = running.figures.clone();
    let ended = running.wait();
    told::print(&figures, None);
    if ended { Ok(()) } else { Err("control ended by a fault of its own".to_owned()) }
}

impl Running {
    /// Reads the files again, and waits until they are in force.
    ///
    /// # Errors
    /// Why they were refused; what was in force still is.
    pub fn reload(&self) -> Result<(), String> {
        self.control.reload()
    }

    /// Takes no new calls, and stops when those under way have settled or time is up.
    pub fn drain(&self) {
        self.control.drain();
    }

    /// Stops at once; [`Running::wait`] tells when it is done.
    pub fn stop(&self) {
        self.control.stop();
    }

    /// Waits until all workers have ended; false if control itself failed.
    #[must_use]
    pub fn wait(self) -> bool {
        self.control.wait()
    }

    /// What is known of all sets, nodes and endpoints.
    ///
    /// # Errors
    /// That sipring has stopped.
    pub fn status(&self) -> Result<control::Status, String> {
        self.control.status()
    }

    /// What each worker counts, live.
    #[must_use]
    pub fn counters(&self) -> &[Figures] {
        &self.figures
    }

    /// The datapath that was chosen: `uring`, `mmsg` or `xdp`.
    #[must_use]
    pub fn datapath(&self) -> &'static str {
        self.backend.name()
    }

    /// How datagrams are shared out among the workers.
    #[must_use]
    pub fn steered(&self) -> Steered {
        self.steered
    }

    /// Where the admin side listens; none if it is off.
    #[must_use]
    pub fn admin_at(&self) -> Option<SocketAddr> {
        self.control.admin_at()
    }

    /// The local ports.
    #[must_use]
    pub fn ports(&self) -> &[Port] {
        self.site.ports()
    }
}

fn begin(config: Config, signals: bool) -> Result<Running, String> {
    for warning in &config.warnings {
        tracing::warn!(%warning, "config_warning");
    }
    let (config, secret) = with_secret(config)?;
    let secrets = Secrets::derive(&secret.hash);
    let cookie_keys =
        CookieKeys::new(&secret.cookie_keys(), secret.signer).map_err(|error| format!("cookie keys: {error}"))?;
    let site = Arc::new(Site::new(
        config.ports.clone(),
        config.node_sides.clone(),
        &config.aliases,
        secrets.clone(),
        cookie_keys,
        config.shard.clone(),
    ));
    let cpus = cpus(&config)?;
    descriptors(&config)?;
    let backend = Backend::choose(&config.cpus.datapath)?;
    let homes = config.node_sides.iter().flatten().filter_map(|side| site.port(side.listener));
    let options = control::Options {
        dns: config.dns.clone(),
        drain_max_s: config.drain_max_s,
        interfaces: config.cpus.datapath.interfaces().to_vec(),
        signals,
        admin: config.admin.clone(),
        workers: config.shard.workers,
        probe_from: homes.map(|port| port.local.bind.ip()).collect(),
    };
    let config = Arc::new(config);
    let opened = control::open(options, wish(config.clone(), secrets.clone()))?;
    for port in site.ports() {
        free(port).map_err(|error| format!("`{}`: {error}", port.name))?;
    }
    let start = |backend| Crew::start(&config, backend, site.clone(), &cpus, &opened.state);
    let (backend, crew) = match start(backend) {
        Ok(crew) => (backend, crew),
        Err(Refusal::Lacking(why)) => {
            let backend = Backend::instead(&config.cpus.datapath, &why)?;
            (backend, start(backend)?)
        }
        Err(Refusal::Other(why)) => return Err(why),
    };
    let bypass = crew.bypassed();
    let (figures, steered) = (crew.figures.clone(), crew.steered());
    let again = config.clone();
    let control = opened.serve(crew.hooks(move || reload(&again, &secrets)));
    let listeners: Vec<String> =
        site.ports().iter().filter(|port| port.edge).map(|port| port.advertise.clone()).collect();
    let admin = control.admin_at().map_or_else(|| "off".to_owned(), |at| at.to_string());
    let (workers, datapath, steering) = (config.shard.workers, backend.name(), steered.label());
    let trains = backend.sends_trains(config.cpus.trains);
    tracing::info!(workers, datapath, trains, bypass, steering, ?listeners, admin, "ready");
    Ok(Running { control, site, figures, backend, steered })
}

/// Waits until no other process holds the port. The kernel takes rings apart some time after their
/// process has ended, and their sockets with them: whoever restarts sipring at once must not meet these.
fn free(port: &Port) -> io::Result<()> {
    for _ in 0..PORT_TRIES {
        match datapath::probe(&[port.local]) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => std::thread::sleep(PORT_PAUSE),
            settled => return settled,
        }
    }
    datapath::probe(&[port.local])
}

/// The secret of the file; made if there is none.
fn with_secret(mut config: Config) -> Result<(Config, ClusterSecret), String> {
    if let Some(secret) = config.secret.clone() {
        return Ok((config, secret));
    }
    let secret = ClusterSecret::create(&config.secret_file).map_err(|faults| faults.to_string())?;
    tracing::warn!(file = %config.secret_file.display(), "secret_created");
    config.secret = Some(secret.clone());
    Ok((config, secret))
}

/// What control needs of a configuration.
fn wish(config: Arc<Config>, secrets: Secrets) -> Wish {
    let (building, admitting) = (config.clone(), config.clone());
    let build = move |found: &control::Addresses, overlay: &Overlay, previous: Option<&Plan>| {
        let spec = building.plan_spec_over(found, overlay).map_err(|faults| faults.to_string())?;
        Plan::build(spec, &secrets, previous).map_err(|error| format!("{}: {error}", building.file.display()))
    };
    Wish {
        names: config.names(),
        build: Arc::new(build),
        listed: config.listed().into(),
        admit: Arc::new(move |added| admitting.admit(added)),
        rules_written: config.rules_written(),
    }
}

/// Reads the files of `serving` again.
fn reload(serving: &Config, secrets: &Secrets) -> Result<Wish, String> {
    let next = Config::read(&serving.file, serving.tuning_file.as_deref()).map_err(|faults| faults.to_string())?;
    let fixed = serving.fixed_changes(&next);
    if !fixed.is_empty() {
        return Err(format!("a change of {} needs a restart", fixed.join(", ")));
    }
    for warning in &next.warnings {
        tracing::warn!(%warning, "config_warning");
    }
    Ok(wish(Arc::new(next), secrets.clone()))
}

/// The cpu of each worker; none: wherever the kernel puts it.
fn cpus(config: &Config) -> Result<Vec<Option<CoreId>>, String> {
    let wanted = match &config.cpus.workers {
        Workers::Free(count) => return Ok(vec![None; usize::from(*count)]),
        Workers::Pinned(cpus) => cpus,
    };
    let allowed = core_affinity::get_core_ids().unwrap_or_default();
    let file = config.tuning_file.clone().unwrap_or_else(|| PathBuf::from("cpus.toml"));
    let find = |cpu: &usize| {
        allowed.iter().copied().find(|core| core.id == *cpu).map(Some).ok_or_else(|| {
            let list: Vec<String> = allowed.iter().map(|core| core.id.to_string()).collect();
            let list = list.join(", ");
            format!("{}: cpu {cpu} is not there or not allowed to this process; one of: {list}", file.display())
        })
    };
    wanted.iter().map(find).collect()
}

/// Raises the limit of open descriptors to what the sockets need.
fn descriptors(config: &Config) -> Result<(), String> {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let workers = u64::from(config.shard.workers);
    let sides = config.node_sides.iter().flatten().count() as u64;
    let each = config.ports.len() as u64 + sides * config.cpus.connected_max as u64 + 8;
    let need = workers * each + DESCRIPTORS_BESIDES;
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|soft| soft >= need) {
        return Ok(());
    }
    if let Some(hard) = limit.maximum.filter(|hard| *hard < need) {
        return Err(format!(
            "{need} open files are needed for {workers} workers, and the hard limit is {hard}; `ulimit -Hn {need}` (LimitNOFILE \
             of a systemd unit), fewer workers or a smaller `connected_max` is right"
        ));
    }
    limit.current = Some(limit.maximum.unwrap_or(need));
    setrlimit(Resource::Nofile, limit)
        .map_err(|error| format!("the limit of open files cannot be raised to {need}: {error}"))
}
