//! Names to addresses: asked of the system's resolver, kept by TTL, bounded.
//!
//! Owns the table of all names: those of nodes, refreshed for as long as they are pinned, and next
//! hops that workers ask for. Driven by control's loop on its thread; a lookup never blocks it.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_resolver::config::{ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolverConfig};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::{Resolver, TokioResolver};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Names and their addresses, lower case; an empty list for a name that does not resolve.
pub type Addresses = HashMap<String, Vec<IpAddr>>;

/// Lookups under way at once.
const LOOKUPS_MAX: usize = 64;
/// How soon a lookup that failed is tried again, seconds.
const RETRY_S: u32 = 5;
/// Longest that a name without addresses is remembered, seconds.
const NEGATIVE_MAX_S: u32 = 60;
/// How long a name that a worker asked for is refreshed, seconds; used further, it is asked again.
const KEPT_S: u64 = 3_600;

/// How names are resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsOptions {
    /// Name servers; none: the system's.
    pub servers: Vec<SocketAddr>,
    /// Shortest time that an answer is kept, seconds.
    pub ttl_min_s: u32,
    /// Longest time that an answer is kept, seconds.
    pub ttl_max_s: u32,
    /// Names at most, those of nodes aside.
    pub names_max: usize,
}

impl Default for DnsOptions {
    fn default() -> Self {
        Self { servers: Vec::new(), ttl_min_s: 1, ttl_max_s: 3_600, names_max: 4_096 }
    }
}

/// What a lookup brought.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    /// Addresses in order, for so many seconds.
    Found(Vec<IpAddr>, u32),
    /// There are none, for so many seconds.
    None(u32),
    /// No server answered.
    Failed(String),
}

#[derive(Debug)]
struct Entry {
    addresses: Vec<IpAddr>,
    /// At least one lookup has ended.
    settled: bool,
    under_way: bool,
    pinned: bool,
    due: Instant,
    asked: Instant,
}

/// What a lookup changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Learned {
    /// A name of a node has other addresses than before.
    pub(super) node: bool,
    /// Any name has, or is new.
    pub(super) any: bool,
}

/// The table of names, and the lookups under way.
pub(super) struct NameTable {
    options: DnsOptions,
    resolver: TokioResolver,
    entries: HashMap<String, Entry>,
    lookups: JoinSet<(String, Answer)>,
    /// Names were forgotten that workers may still have.
    forgot: bool,
}

impl NameTable {
    pub(super) fn new(options: &DnsOptions) -> Result<Self, String> {
        let resolver = resolver(options).map_err(|error| format!("the resolver cannot be set up: {error}"))?;
        Ok(Self { options: options.clone(), resolver, entries: HashMap::new(), lookups: JoinSet::new(), forgot: false })
    }

    /// Reads the system's settings and hosts file again, pins `names`, and looks them up anew.
    pub(super) fn refresh(&mut self, names: &[String]) {
        match resolver(&self.options) {
            Ok(resolver) => self.resolver = resolver,
            Err(error) => tracing::warn!(%error, "resolver_kept"),
        }
        self.mark(names);
        let now = Instant::now();
        self.entries.values_mut().filter(|entry| entry.pinned).for_each(|entry| {
            entry.due = now;
            entry.settled = false;
        });
        self.start_due();
    }

    /// Makes `names` the names that are kept and refreshed whatever their number; others that were
    /// so are forgotten in time.
    pub(super) fn pin(&mut self, names: &[String]) {
        self.mark(names);
        self.start_due();
    }

    fn mark(&mut self, names: &[String]) {
        let now = Instant::now();
        self.entries.values_mut().for_each(|entry| entry.pinned = false);
        for name in names {
            let entry = self.entries.entry(name.clone()).or_insert_with(|| Entry::new(now));
            entry.pinned = true;
        }
    }

    /// A worker asks for a name.
    pub(super) fn ask(&mut self, name: &str) {
        let now = Instant::now();
        if let Some(entry) = self.entries.get_mut(name) {
            entry.asked = now;
            return;
        }
        let asked = self.entries.values().filter(|entry| !entry.pinned).count();
        if asked >= self.options.names_max {
            self.forget_oldest();
        }
        self.entries.insert(name.to_owned(), Entry::new(now));
    }

    /// Starts the lookups that are due, and forgets names that nobody asked for in a long time.
    pub(super) fn start_due(&mut self) {
        let now = Instant::now();
        let known = self.entries.len();
        self.entries.retain(|_, entry| {
            let kept = !entry.addresses.is_empty() && now.duration_since(entry.asked).as_secs() < KEPT_S;
            entry.pinned || entry.under_way || !entry.settled || entry.due > now || kept
        });
        self.forgot |= self.entries.len() < known;
        let mut room = LOOKUPS_MAX.saturating_sub(self.lookups.len());
        // Those of nodes first: a plan may wait for them.
        let (nodes, others): (Vec<_>, Vec<_>) = self.entries.iter_mut().partition(|(_, entry)| entry.pinned);
        for (name, entry) in nodes.into_iter().chain(others) {
            if room == 0 {
                break;
            }
            if entry.under_way || entry.due > now {
                continue;
            }
            entry.under_way = true;
            room -= 1;
            let (resolver, name) = (self.resolver.clone(), name.clone());
            self.lookups.spawn(async move {
                let answer = look_up(&resolver, &name).await;
                (name, answer)
            });
        }
    }

    /// Waits for the next lookup to end, and learns from it. Pends for ever while none is under way.
    pub(super) async fn learn(&mut self) -> Learned {
        match self.lookups.join_next().await {
            Some(Ok((name, answer))) => self.settle(&name, answer),
            Some(Err(_)) => Learned::default(),
            None => std::future::pending().await,
        }
    }

    /// Pins `names`, and waits until each has been looked up.
    pub(super) async fn settle_all(&mut self, names: &[String]) {
        self.pin(names);
        while !self.settled(names) {
            self.learn().await;
            self.start_due();
        }
    }

    /// Whether each of `names` has been looked up.
    pub(super) fn settled(&self, names: &[String]) -> bool {
        names.iter().all(|name| self.entries.get(name).is_none_or(|entry| entry.settled))
    }

    /// Whether names were forgotten since this was last asked: workers ask for them again only once
    /// their own table is without them.
    pub(super) fn forgot(&mut self) -> bool {
        std::mem::take(&mut self.forgot)
    }

    /// All that is known.
    pub(super) fn addresses(&self) -> Addresses {
        let settled = self.entries.iter().filter(|(_, entry)| entry.settled || !entry.addresses.is_empty());
        settled.map(|(name, entry)| (name.clone(), entry.addresses.clone())).collect()
    }

    fn settle(&mut self, name: &str, answer: Answer) -> Learned {
        let Some(entry) = self.entries.get_mut(name) else { return Learned::default() };
        let known = entry.settled || !entry.addresses.is_empty();
        entry.settled = true;
        entry.under_way = false;
        let DnsOptions { ttl_min_s, ttl_max_s, .. } = self.options;
        let clamp = |ttl: u32, max: u32| ttl.min(max).clamp(ttl_min_s, ttl_max_s);
        let (addresses, ttl_s) = match answer {
            Answer::Found(addresses, ttl) => (addresses, clamp(ttl, u32::MAX)),
            // A node stays where it was: its record may be gone by mistake, its calls are not.
            Answer::None(_) | Answer::Failed(_) if entry.pinned && !entry.addresses.is_empty() => {
                tracing::warn!(name, ?answer, "name_kept");
                (entry.addresses.clone(), clamp(RETRY_S, u32::MAX))
            }
            Answer::None(ttl) => (Vec::new(), clamp(ttl, NEGATIVE_MAX_S)),
            Answer::Failed(why) => {
                tracing::debug!(name, why, "name_failed");
                (entry.addresses.clone(), clamp(RETRY_S, u32::MAX))
            }
        };
        entry.due = Instant::now() + Duration::from_secs(u64::from(ttl_s));
        let changed = std::mem::replace(&mut entry.addresses, addresses) != entry.addresses;
        if changed && known && entry.pinned {
            tracing::info!(name, addresses = ?entry.addresses, "node_address_changed");
        }
        Learned { node: changed && entry.pinned, any: changed || !known }
    }

    /// Makes room: the eighth that was asked for longest ago goes.
    fn forget_oldest(&mut self) {
        let mut asked: Vec<Instant> =
            self.entries.values().filter(|entry| !entry.pinned).map(|entry| entry.asked).collect();
        asked.sort_unstable();
        let Some(limit) = asked.get(asked.len() / 8).copied() else { return };
        self.entries.retain(|_, entry| entry.pinned || entry.asked > limit);
        self.forgot = true;
    }
}

impl Entry {
    fn new(now: Instant) -> Self {
        Self { addresses: Vec::new(), settled: false, under_way: false, pinned: false, due: now, asked: now }
    }
}

fn resolver(options: &DnsOptions) -> Result<TokioResolver, NetError> {
    let mut builder = if options.servers.is_empty() {
        Resolver::builder_tokio()?
    } else {
        let servers = options.servers.iter().map(|server| {
            let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
                connection.port = server.port();
                connection
            });
            NameServerConfig::new(server.ip(), true, connections.into())
        });
        let config = ResolverConfig::from_name_servers(servers.collect());
        Resolver::builder_with_config(config, TokioRuntimeProvider::default())
    };
    let settings = builder.options_mut();
    settings.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    // The table above is the cache; a second one would serve stale answers at its due times.
    settings.cache_size = 0;
    builder.build()
}

async fn look_up(resolver: &TokioResolver, name: &str) -> Answer {
    match resolver.lookup_ip(name).await {
        Ok(found) => {
            let ttl = found.valid_until().saturating_duration_since(Instant::now().into_std());
            let mut addresses: Vec<IpAddr> = found.iter().collect();
            // In one order, so that a server that rotates its answers changes nothing.
            addresses.sort_unstable();
            addresses.dedup();
            Answer::Found(addresses, u32::try_from(ttl.as_secs()).unwrap_or(u32::MAX))
        }
        Err(error) if error.is_no_records_found() || error.is_nx_domain() => Answer::None(negative_ttl_s(&error)),
        Err(error) => Answer::Failed(error.to_string()),
    }
}

fn negative_ttl_s(error: &NetError) -> u32 {
    error.clone().into_soa().map_or(RETRY_S, |soa| soa.ttl.min(soa.data.minimum))
}
