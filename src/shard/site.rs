//! What this instance is: its local ports, the names that are its own, its secrets and limits.
//!
//! Made once at start by `config`, shared by all workers, never changed while they run; what a
//! reload changes is in `balance::Plan`.

use std::net::{IpAddr, SocketAddr};

use crate::balance::{CookieKeys, PortTag, Secrets};
use crate::packet::{LocalPort, PortId, PortRole};
use crate::sip::uri;

/// How responses to clients choose their port (RFC 3581; `force_rport` of a listener).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ForceRport {
    /// The source port, unless the client has no rport and sends from the very address that its Via
    /// names: then the sent-by port.
    #[default]
    Auto,
    /// Always the source port.
    Always,
    /// The source port only if the client asks for it by rport.
    Never,
}

/// One local port: the socket that datapath binds, and what it means to SIP.
#[derive(Clone, Debug)]
pub struct Port {
    /// What datapath binds; the place in [`Site::ports`] is the [`PortId`].
    pub local: LocalPort,
    /// Name of the listener; worker ports carry the node side's.
    pub name: String,
    /// Number in cookies and branches, the same after a restart.
    pub tag: PortTag,
    /// Clients are received here.
    pub edge: bool,
    /// Nodes are received here.
    pub node: bool,
    /// Host and port that Via, Record-Route and Path name, IPv6 in brackets.
    pub advertise: String,
    /// Further hosts, `host` or `host:port`, that mean this port.
    pub aliases: Vec<String>,
    /// How responses to clients choose their port.
    pub force_rport: ForceRport,
}

/// The ports of one address family on the node side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeSide {
    /// The port that Record-Route and Path name.
    pub listener: PortId,
    /// Worker ports in order; place i is held by worker i mod workers. Never empty.
    pub worker_ports: Vec<PortId>,
    /// Everything leaves from the listener port (`node_source = "shared"`).
    pub shared: bool,
}

impl NodeSide {
    /// The port that the Via of a transaction names, by its owner's slot.
    #[inline]
    #[must_use]
    pub fn via_port(&self, slot: u16) -> PortId {
        let own = self.worker_ports.get(usize::from(slot) % self.worker_ports.len().max(1));
        own.copied().filter(|_| !self.shared).unwrap_or(self.listener)
    }
}

/// Named limits and switches of the shard.
#[derive(Clone, Debug)]
pub struct Options {
    /// Number of workers.
    pub workers: u16,
    /// Requests are handled by their owner only; others hand them over.
    pub owner_handoff: bool,
    /// Record-Route and Path values carry cookies.
    pub cookies: bool,
    /// Longest life of a mark without a final response, seconds.
    pub ringing_max_s: u32,
    /// Entries of the table of marks.
    pub marks_max: usize,
    /// Entries of a worker's list of avoided endpoints.
    pub avoided_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            workers: 1,
            owner_handoff: false,
            cookies: true,
            ringing_max_s: 300,
            marks_max: 1 << 20,
            avoided_max: 1024,
        }
    }
}

/// This instance, as the shards see it.
#[derive(Debug)]
pub struct Site {
    ports: Vec<Port>,
    node_v4: Option<NodeSide>,
    node_v6: Option<NodeSide>,
    own: Own,
    texts: Vec<Texts>,
    recorded: Vec<Box<[u8]>>,
    /// Keys derived from the cluster secret.
    pub secrets: Secrets,
    /// Keys of the cookies.
    pub cookie_keys: CookieKeys,
    /// Limits and switches.
    pub options: Options,
}

impl Site {
    /// Puts together what `config` read. `aliases` are names of the whole instance, `host` or
    /// `host:port`.
    #[must_use]
    pub fn new(
        ports: Vec<Port>,
        node_sides: [Option<NodeSide>; 2],
        aliases: &[String],
        secrets: Secrets,
        cookie_keys: CookieKeys,
        options: Options,
    ) -> Self {
        let mut own = Own::default();
        for port in &ports {
            own.addresses.push(port.local.bind);
            std::iter::once(&port.advertise).chain(&port.aliases).for_each(|text| own.learn(text));
        }
        aliases.iter().for_each(|text| own.learn(text));
        own.addresses.sort_unstable();
        own.addresses.dedup();
        let [node_v4, node_v6] = node_sides;
        let texts = ports.iter().map(Texts::of).collect();
        let listeners = ports.iter().filter(|port| port.local.role == PortRole::Listener);
        let recorded = listeners.map(|port| port.advertise.as_bytes().into()).collect();
        Self { ports, node_v4, node_v6, own, texts, recorded, secrets, cookie_keys, options }
    }

    /// All local ports, in [`PortId`] order.
    #[must_use]
    pub fn ports(&self) -> &[Port] {
        &self.ports
    }

    /// One local port.
    #[inline]
    #[must_use]
    pub fn port(&self, id: PortId) -> Option<&Port> {
        self.ports.get(usize::from(id.0))
    }

    /// A Via of ours up to the branch parameter's value, for a port that it names.
    #[inline]
    #[must_use]
    pub(super) fn via_head(&self, id: PortId) -> &[u8] {
        self.texts.get(usize::from(id.0)).map_or(&[], |texts| &texts.via_head)
    }

    /// What follows the user part in a Record-Route or Path that names a port, line end included.
    #[inline]
    #[must_use]
    pub(super) fn uri_tail(&self, id: PortId) -> &[u8] {
        self.texts.get(usize::from(id.0)).map_or(&[], |texts| &texts.uri_tail)
    }

    /// Host and port of every listener, as Record-Route names them.
    #[inline]
    pub(super) fn recorded_hosts(&self) -> impl Iterator<Item = &[u8]> {
        self.recorded.iter().map(|host| &**host)
    }

    /// The port that a cookie or branch names.
    #[must_use]
    pub fn by_tag(&self, tag: PortTag) -> Option<PortId> {
        self.ports.iter().position(|port| port.tag == tag).map(|at| PortId(at as u16))
    }

    /// The node side towards an address.
    #[inline]
    #[must_use]
    pub fn node_side(&self, to: IpAddr) -> Option<&NodeSide> {
        match to {
            IpAddr::V4(_) => self.node_v4.as_ref(),
            IpAddr::V6(_) => self.node_v6.as_ref(),
        }
    }

    /// Slots that owners are counted in: the number of worker ports, whatever the worker count, so
    /// that a restart with another one changes no branch.
    #[inline]
    #[must_use]
    pub fn slots(&self) -> u16 {
        let side = self.node_v4.as_ref().or(self.node_v6.as_ref());
        side.map_or(1, |side| (side.worker_ports.len() as u16).max(1))
    }

    /// The first edge listener of an address family, or the first of any.
    #[must_use]
    pub fn first_edge(&self, to: IpAddr) -> Option<PortId> {
        self.ports
            .iter()
            .position(|port| port.edge && port.local.bind.is_ipv4() == to.is_ipv4())
            .map(|at| PortId(at as u16))
    }

    /// Whether host and port of a URI are one of our own addresses or names.
    ///
    /// An alias given without a port means every port.
    #[inline]
    #[must_use]
    pub fn is_ours(&self, host: &[u8], port: Option<u16>) -> bool {
        match uri::host_ip(host) {
            Some(ip) => self.holds(SocketAddr::new(ip, port.unwrap_or(5060))),
            None => self.own.names.iter().any(|(name, own)| {
                host.eq_ignore_ascii_case(name.as_bytes()) && own.is_none_or(|own| own == port.unwrap_or(5060))
            }),
        }
    }

    /// Whether an address is one that we receive on or advertise.
    #[inline]
    #[must_use]
    pub fn holds(&self, addr: SocketAddr) -> bool {
        self.own.addresses.contains(&addr) || self.own.hosts.contains(&addr.ip())
    }

    /// Whether `worker` can send from a port.
    #[must_use]
    pub fn held_by(&self, id: PortId, worker: crate::packet::WorkerId) -> bool {
        self.port(id).is_some_and(|port| port.local.role.held_by(worker, self.options.workers))
    }

    /// The worker that alone holds a worker port.
    #[must_use]
    pub fn holder(&self, id: PortId) -> Option<crate::packet::WorkerId> {
        match self.port(id)?.local.role {
            PortRole::Listener => None,
            PortRole::Worker { index } => Some(crate::packet::WorkerId(index % self.options.workers.max(1))),
        }
    }
}

/// Texts of a port that every message needs, put together once.
#[derive(Debug)]
struct Texts {
    via_head: Box<[u8]>,
    uri_tail: Box<[u8]>,
}

impl Texts {
    fn of(port: &Port) -> Self {
        let name = &port.advertise;
        Self {
            via_head: format!("Via: SIP/2.0/UDP {name};branch=").into_bytes().into(),
            uri_tail: format!("{name};lr>\r\n").into_bytes().into(),
        }
    }
}

/// What is ours: the addresses we hold, the bare hosts and the names.
#[derive(Debug, Default)]
struct Own {
    addresses: Vec<SocketAddr>,
    hosts: Vec<IpAddr>,
    names: Vec<(String, Option<u16>)>,
}

impl Own {
    /// Files one `host` or `host:port`.
    fn learn(&mut self, text: &str) {
        let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
        if let Ok(addr) = text.parse() {
            self.addresses.push(addr);
        } else if let Ok(ip) = bare.parse() {
            self.hosts.push(ip);
        } else if let Some((host, Ok(port))) = text.rsplit_once(':').map(|(host, port)| (host, port.parse())) {
            self.names.push((host.to_owned(), Some(port)));
        } else {
            self.names.push((text.to_owned(), None));
        }
    }
}
