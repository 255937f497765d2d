//! From files to what the floors below are given, checked once.
//!
//! Reads `sipring.toml`, the cluster's secret and `tuning/cpus.toml`, and reports everything wrong
//! with them as `file:line:column: what is wrong; what would be right`. Resolves no name, opens no
//! socket and creates nothing: that is for `serve`.

mod address;
mod admin;
mod cluster;
mod cpus;
mod fault;
mod file;
mod health;
mod log;
mod machine;
mod policy;
mod ports;
mod secret;
mod size;
mod tune;
mod xdp;

pub use cpus::{Cpus, DatapathChoice, WORKERS_MAX, Workers};
pub use fault::{Fault, Faults};
pub use log::{Log, LogFormat};
pub use machine::{Interface, Machine};
pub use secret::ClusterSecret;
pub use tune::tuned;

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use crate::balance::PlanSpec;
use crate::control::{Added, Addresses, AdminOptions, DnsOptions, Listed, Overlay};
use crate::shard::{self, NodeSide, Port, RINGING_MAX_S};
use cluster::Cluster;
use fault::Source;
use file::File;
use ports::Local;

/// Where the cluster's secret is if the file does not say.
const SECRET_FILE: &str = "cluster-secret.toml";

/// A configuration without a fault.
#[derive(Clone, Debug)]
pub struct Config {
    /// `sipring.toml`.
    pub file: PathBuf,
    /// `tuning/cpus.toml`, if there is one.
    pub tuning_file: Option<PathBuf>,
    /// All local ports, in `PortId` order.
    pub ports: Vec<Port>,
    /// The node side, IPv4 and IPv6.
    pub node_sides: [Option<NodeSide>; 2],
    /// Names of the whole instance.
    pub aliases: Vec<String>,
    /// Limits and switches of the shard.
    pub shard: shard::Options,
    /// Longest drain, seconds.
    pub drain_max_s: u32,
    /// How names are resolved.
    pub dns: DnsOptions,
    /// Where the admin side listens, and whom it answers.
    pub admin: AdminOptions,
    /// How the log is written.
    pub log: Log,
    /// Where workers run, with which buffers.
    pub cpus: Cpus,
    /// The file of the cluster's secret.
    pub secret_file: PathBuf,
    /// The cluster's secret; none while there is no such file.
    pub secret: Option<ClusterSecret>,
    /// What is allowed and probably not meant.
    pub warnings: Vec<Fault>,
    cluster: Cluster,
}

impl Config {
    /// Reads and checks `sipring.toml`, the secret that it names and, if given, `tuning/cpus.toml`.
    ///
    /// # Errors
    /// All faults of the first file that has any.
    pub fn read(file: &Path, tuning: Option<&Path>) -> Result<Self, Faults> {
        let (cpus, mut warnings) = tuning.map_or_else(|| Ok(Default::default()), Cpus::read)?;
        let source = Source::read(file)?;
        let mut config = Self::check(file, source, cpus)?;
        config.tuning_file = tuning.map(Path::to_owned);
        config.warnings.append(&mut warnings);
        let (secret, mut warnings) = ClusterSecret::read(&config.secret_file)?;
        config.secret = secret;
        config.warnings.append(&mut warnings);
        Ok(config)
    }

    fn check(path: &Path, mut source: Source, cpus: Cpus) -> Result<Self, Faults> {
        let file: File = source.parse()?;
        let workers = cpus.workers.count();
        let local = Local::read(&file, &mut source, workers);
        let cluster = Cluster::read(&file, &local, &mut source);
        let options = options(&file, &mut source, &cpus);
        let drain_max_s = whole(&file.drain_max_s, "drain_max_s", 0..86_401, 32, &mut source);
        let dns = dns(&file.dns, &mut source);
        let aliases = ports::aliases(&file.aliases, &mut source);
        let admin = admin::read(&file.admin, path, &mut source);
        let log = log::read(&file.log, &mut source);
        let secret_file = file.cluster_secret_file.as_deref().unwrap_or(SECRET_FILE);
        let secret_file = path.parent().unwrap_or(Path::new("")).join(secret_file);
        let warnings = source.verdict()?;
        Ok(Self {
            file: path.to_owned(),
            tuning_file: None,
            ports: local.ports,
            node_sides: local.node_sides,
            aliases,
            shard: options,
            drain_max_s,
            dns,
            admin,
            log,
            cpus,
            secret_file,
            secret: None,
            warnings,
            cluster,
        })
    }

    /// Reads where the admin side listens and whom it answers, and nothing else of the file.
    ///
    /// # Errors
    /// A file that cannot be read or parsed, and what is wrong with that part of it.
    pub fn read_admin(file: &Path) -> Result<AdminOptions, Faults> {
        let mut source = Source::read(file)?;
        let parsed: File = source.parse()?;
        let admin = admin::read(&parsed.admin, file, &mut source);
        source.verdict().map(|_| admin)
    }

    /// The nodes of the file, sets in order.
    #[must_use]
    pub fn listed(&self) -> Vec<Listed> {
        self.cluster.listed()
    }

    /// Which names a node to be added at run time needs an address for.
    ///
    /// # Errors
    /// What is wrong with its name or addresses, and what would be right.
    pub fn admit(&self, added: &Added) -> Result<Vec<String>, String> {
        self.cluster.admit(added)
    }

    /// Names of nodes that must have an address before there is a plan.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.cluster.names()
    }

    /// Rules that stand in the file; a plan's further ones are the listeners' own sets.
    #[must_use]
    pub fn rules_written(&self) -> usize {
        self.cluster.rules_written()
    }

    /// What a plan is built of, with what the names of nodes resolved to.
    ///
    /// # Errors
    /// The nodes whose names have no address that the node side can reach.
    pub fn plan_spec(&self, found: &Addresses) -> Result<PlanSpec, Faults> {
        self.plan_spec_over(found, &Overlay::default())
    }

    /// The same with what was changed at run time.
    ///
    /// # Errors
    /// As [`Config::plan_spec`], of added nodes as well.
    pub fn plan_spec_over(&self, found: &Addresses, overlay: &Overlay) -> Result<PlanSpec, Faults> {
        self.cluster.spec(found, overlay)
    }

    /// What differs between this configuration and `next` beyond sets, nodes, rules and trusted
    /// networks, as keys of the file: changes that a running instance cannot take over.
    #[must_use]
    pub fn fixed_changes(&self, next: &Self) -> Vec<&'static str> {
        let (ours, theirs) = (&self.shard, &next.shard);
        [
            ("listener", !same(&self.ports, &next.ports, true)),
            ("node_side", !same(&self.ports, &next.ports, false) || self.node_sides != next.node_sides),
            ("aliases", self.aliases != next.aliases),
            ("cookies", ours.cookies != theirs.cookies),
            ("ringing_max_s", ours.ringing_max_s != theirs.ringing_max_s),
            ("marks_max", ours.marks_max != theirs.marks_max),
            ("drain_max_s", self.drain_max_s != next.drain_max_s),
            ("dns", self.dns != next.dns),
            ("admin", self.admin != next.admin),
            ("log", self.log != next.log),
            ("cluster secret", next.secret.is_some() && self.secret != next.secret),
            ("tuning", self.cpus != next.cpus),
        ]
        .into_iter()
        .filter_map(|(what, changed)| changed.then_some(what))
        .collect()
    }
}

/// Whether two lists have the same ports facing the edge, or not facing it.
fn same(ours: &[Port], theirs: &[Port], edge: bool) -> bool {
    let facts = |port: &Port| {
        let Port { local, name, tag, edge: _, node: _, advertise, aliases, force_rport } = port.clone();
        (local, name, tag.0, advertise, aliases, force_rport)
    };
    ours.iter()
        .filter(|port| port.edge == edge)
        .map(facts)
        .eq(theirs.iter().filter(|port| port.edge == edge).map(facts))
}

fn whole(
    number: &Option<file::Number>,
    what: &str,
    bounds: std::ops::Range<i64>,
    default: u32,
    source: &mut Source,
) -> u32 {
    let value = number.as_ref().and_then(|number| source.within(what, number, bounds));
    value.and_then(|value| u32::try_from(value).ok()).unwrap_or(default)
}

fn options(file: &File, source: &mut Source, cpus: &Cpus) -> shard::Options {
    let default = shard::Options::default();
    let ringing = 1..i64::from(RINGING_MAX_S) + 1;
    shard::Options {
        workers: cpus.workers.count(),
        owner_handoff: cpus.owner_handoff,
        cookies: file.cookies.unwrap_or(true),
        ringing_max_s: whole(&file.ringing_max_s, "ringing_max_s", ringing, default.ringing_max_s, source),
        marks_max: whole(&file.marks_max, "marks_max", 1_024..(1 << 28) + 1, default.marks_max as u32, source) as usize,
        ..default
    }
}

fn dns(file: &file::Dns, source: &mut Source) -> DnsOptions {
    let mut servers = Vec::with_capacity(file.servers.len());
    for text in &file.servers {
        let word = text.get_ref();
        match word.parse::<SocketAddr>().or_else(|_| word.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, 53))) {
            Ok(server) => servers.push(server),
            Err(_) => {
                let fault = format!("`{word}` is no address of a name server; `127.0.0.1:53` or `192.0.2.53` is right");
                source.fault(text.span(), fault);
            }
        }
    }
    let default = DnsOptions::default();
    let day = 86_401;
    let ttl_min_s = whole(&file.ttl_min_s, "ttl_min_s", 1..day, default.ttl_min_s, source);
    let ttl_max_s = whole(&file.ttl_max_s, "ttl_max_s", 1..day, default.ttl_max_s.max(ttl_min_s), source);
    if ttl_max_s < ttl_min_s {
        let at = file.ttl_max_s.as_ref().map_or(0..0, toml::Spanned::span);
        source
            .fault(at, format!("ttl_max_s = {ttl_max_s} is less than ttl_min_s = {ttl_min_s}; at least that is right"));
    }
    let names_max = whole(&file.names_max, "names_max", 16..(1 << 20) + 1, default.names_max as u32, source);
    DnsOptions { servers, ttl_min_s, ttl_max_s, names_max: names_max as usize }
}
