//! What this instance is: its local ports, the names that are its own, its secrets and limits.
//!
//! Made once at start by `config`, shared by all workers, never changed while they run; what a
//! reload changes is in `balance::Plan`.

use std::net::{IpAddr, SocketAddr};

use crate::balance::{CookieKeys, PortTag, Secrets};
use crate::packet::{LocalPort, PortId, PortRole, WorkerId};
use crate::sip::{Message, uri};

use super::block::Piece;
use super::owner::owner_slot;
use super::via;

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
        if self.shared {
            return self.listener;
        }
        let slot = usize::from(slot);
        let own = self.worker_ports.get(slot).or_else(|| self.worker_ports.get(slot % self.worker_ports.len().max(1)));
        own.copied().unwrap_or(self.listener)
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
    /// The listeners: whom Record-Route names.
    recorded: Vec<PortId>,
    slots: u16,
    /// Workers by slot.
    owners: Box<[WorkerId]>,
    /// Ports by the lowest bits of their tags, a power of two of places, each filled by the next free.
    by_tag: Box<[Option<(PortTag, PortId)>]>,
    first_edges: [Option<PortId>; 2],
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
        let texts = ports.iter().map(|port| {
            let side = if port.local.bind.is_ipv4() { &node_v4 } else { &node_v6 };
            Texts::of(port, side.as_ref().map(|side| side.listener))
        });
        let texts = texts.collect();
        let numbered = || (0..).map(PortId).zip(&ports);
        let recorded = numbered().filter(|(_, port)| port.local.role == PortRole::Listener).map(|(id, _)| id).collect();
        let first_edge =
            |v4: bool| numbered().find(|(_, port)| port.edge && port.local.bind.is_ipv4() == v4).map(|(id, _)| id);
        let first_edges = [first_edge(true), first_edge(false)];
        let side = node_v4.as_ref().or(node_v6.as_ref());
        let slots = side.map_or(1, |side| (side.worker_ports.len() as u16).max(1));
        let owners = (0..slots).map(|slot| WorkerId(slot % options.workers.max(1))).collect();
        let by_tag = tags(&ports);
        Self {
            ports,
            node_v4,
            node_v6,
            own,
            texts,
            recorded,
            slots,
            owners,
            by_tag,
            first_edges,
            secrets,
            cookie_keys,
            options,
        }
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

    /// Ready texts of a port.
    #[inline]
    pub(super) fn texts(&self, id: PortId) -> Option<&Texts> {
        self.texts.get(usize::from(id.0))
    }

    /// Listeners that Record-Route may name.
    pub(super) fn recorded(&self) -> impl Iterator<Item = &Texts> {
        self.recorded.iter().filter_map(|id| self.texts(*id))
    }

    /// The port that a cookie or branch names.
    #[inline]
    #[must_use]
    pub fn by_tag(&self, tag: PortTag) -> Option<PortId> {
        let mask = self.by_tag.len() - 1;
        let mut at = usize::from(tag.0) & mask;
        while let Some(Some((own, port))) = self.by_tag.get(at) {
            if *own == tag {
                return Some(*port);
            }
            at = (at + 1) & mask;
        }
        None
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
        self.slots
    }

    /// The slot of a message's owner.
    #[inline]
    #[must_use]
    pub fn slot_of(&self, bytes: &[u8], message: &Message) -> u16 {
        owner_slot(bytes, message, self.slots, self.owner_seed())
    }

    /// The worker of an owner's slot.
    #[inline]
    #[must_use]
    pub fn owner(&self, slot: u16) -> WorkerId {
        self.owners.get(usize::from(slot)).copied().unwrap_or_else(|| WorkerId(slot % self.options.workers.max(1)))
    }

    /// What owners are hashed with.
    #[inline]
    #[must_use]
    pub fn owner_seed(&self) -> u32 {
        self.secrets.owner.0 as u32
    }

    /// The first edge listener of an address family, or the first of any.
    #[inline]
    #[must_use]
    pub fn first_edge(&self, to: IpAddr) -> Option<PortId> {
        let [v4, v6] = self.first_edges;
        if to.is_ipv4() { v4 } else { v6 }
    }

    /// Whether host and port of a URI are one of our own addresses or names.
    ///
    /// An alias given without a port means every port.
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
    #[inline]
    #[must_use]
    pub fn held_by(&self, id: PortId, worker: WorkerId) -> bool {
        self.port(id).is_some_and(|port| port.local.role.held_by(worker, self.options.workers))
    }

    /// The worker that alone holds a worker port.
    #[must_use]
    pub fn holder(&self, id: PortId) -> Option<WorkerId> {
        match self.port(id)?.local.role {
            PortRole::Listener => None,
            PortRole::Worker { index } => Some(WorkerId(index % self.options.workers.max(1))),
        }
    }
}

/// Ports by tag; of equal tags the first is found.
fn tags(ports: &[Port]) -> Box<[Option<(PortTag, PortId)>]> {
    let size = (ports.len() * 2 + 1).next_power_of_two();
    let mut places = vec![None; size].into_boxed_slice();
    for (port, id) in ports.iter().zip((0..).map(PortId)) {
        let mut at = usize::from(port.tag.0) & (size - 1);
        while let Some(Some(_)) = places.get(at) {
            at = (at + 1) & (size - 1);
        }
        if let Some(place) = places.get_mut(at) {
            *place = Some((port.tag, id));
        }
    }
    places
}

/// Texts of a port that every message needs, put together once.
#[derive(Debug)]
pub(super) struct Texts {
    /// A Via up to the part of the branch that differs.
    pub(super) via_head: Piece,
    /// What follows `<sip:` in a Record-Route without a cookie, line end included.
    pub(super) bare_tail: Piece,
    /// What follows the cookie in a Record-Route.
    pub(super) tail: Piece,
    /// What follows the cookie within the value.
    pub(super) behind_cookie: Box<[u8]>,
    /// Host and port.
    pub(super) advertise: Box<[u8]>,
    /// The listener of the node side of the port's address family.
    pub(super) node_listener: Option<PortId>,
}

impl Texts {
    fn of(port: &Port, node_listener: Option<PortId>) -> Self {
        let name = &port.advertise;
        let mark = String::from_utf8_lossy(via::PREFIX);
        Self {
            via_head: Piece::new(&format!("Via: SIP/2.0/UDP {name};branch={mark}")),
            bare_tail: Piece::new(&format!("{name};lr>\r\n")),
            tail: Piece::new(&format!("@{name};lr>\r\n")),
            behind_cookie: format!("@{name};lr>").into_bytes().into(),
            advertise: name.as_bytes().into(),
            node_listener,
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
