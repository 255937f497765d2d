//! Start, reload, stop.
//!
//! Puts the floors together: secret, site, workers on their cpus, control. [`run`] is the process
//! of its own; [`start`] serves inside another, which asks through [`Running`].

mod bypass;
mod crew;
mod told;

use std::path::PathBuf;
use std::sync::Arc;

use core_affinity::CoreId;

use crate::balance::{CookieKeys, Plan, Secrets};
use crate::config::{Backend, ClusterSecret, Config, Workers};
use crate::control::{self, Control, Wish};
use crate::datapath;
use crate::shard::{Port, Site};
use crew::Crew;
pub use told::{Figures, Frames};

/// Descriptors that are not sockets of workers: files, the runtime, lookups.
const DESCRIPTORS_BESIDES: u64 = 256;

/// A balancer that serves, inside this process.
pub struct Running {
    control: Control,
    site: Arc<Site>,
    figures: Arc<[Figures]>,
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
    told::print(&figures);
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

    /// What each worker counts, live.
    #[must_use]
    pub fn counters(&self) -> &[Figures] {
        &self.figures
    }

    /// The local ports.
    #[must_use]
    pub fn ports(&self) -> &[Port] {
        self.site.ports()
    }
}

fn begin(config: Config, signals: bool) -> Result<Running, String> {
    for warning in &config.warnings {
        tracing::warn!(%warning, "config");
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
    let interfaces = match &config.cpus.datapath {
        Backend::Mmsg => Vec::new(),
        Backend::Xdp(xdp) => xdp.interfaces.clone(),
    };
    let options = control::Options { dns: config.dns.clone(), drain_max_s: config.drain_max_s, interfaces, signals };
    let config = Arc::new(config);
    let opened = control::open(options, wish(config.clone(), secrets.clone()))?;
    for port in site.ports() {
        datapath::probe(&[port.local]).map_err(|error| format!("`{}`: {error}", port.name))?;
    }
    let crew = Crew::start(&config, site.clone(), &cpus, &opened.state)?;
    let (figures, told) = (crew.figures.clone(), crew.datapath.clone());
    let again = config.clone();
    let control = opened.serve(crew.hooks(move || reload(&again, &secrets)));
    let listeners: Vec<String> =
        site.ports().iter().filter(|port| port.edge).map(|port| port.advertise.clone()).collect();
    tracing::info!(workers = config.shard.workers, datapath = %told, ?listeners, "ready");
    Ok(Running { control, site, figures })
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
    let names = config.names();
    let build = move |found: &control::Addresses, previous: Option<&Plan>| {
        let spec = config.plan_spec(found).map_err(|faults| faults.to_string())?;
        Plan::build(spec, &secrets, previous).map_err(|error| format!("{}: {error}", config.file.display()))
    };
    Wish { names, build: Arc::new(build) }
}

/// Reads the files of `serving` again.
fn reload(serving: &Config, secrets: &Secrets) -> Result<Wish, String> {
    let next = Config::read(&serving.file, serving.tuning_file.as_deref()).map_err(|faults| faults.to_string())?;
    let fixed = serving.fixed_changes(&next);
    if !fixed.is_empty() {
        return Err(format!("a change of {} needs a restart", fixed.join(", ")));
    }
    for warning in &next.warnings {
        tracing::warn!(%warning, "config");
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
