//! Local ports, peers and the addresses of one send: the words that shard and datapath share.

use std::net::SocketAddr;

/// Index of a local port in the list that datapath and shard are both given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortId(pub u16);

/// Index of a worker, 0 to workers - 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkerId(pub u16);

/// Index into [`Endpoints`]: a peer that the datapath may hold a connected socket to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PeerId(pub u16);

impl PeerId {
    /// A destination that is no endpoint of a node.
    pub const NONE: Self = Self(u16::MAX);
}

/// Socket and address of one send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Egress {
    /// The local port that it leaves from.
    pub port: PortId,
    /// The endpoint behind `to`, [`PeerId::NONE`] for any other address.
    pub peer: PeerId,
    /// Where it goes.
    pub to: SocketAddr,
}

/// Who holds the sockets of a local port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortRole {
    /// Every worker has a socket of its own in one REUSEPORT group, open to any source.
    Listener,
    /// Worker port `index` of the node side: held by worker `index mod workers` alone.
    Worker {
        /// Place in `node_side.ports`.
        index: u16,
    },
}

impl PortRole {
    /// Whether `worker` of `workers` holds a socket of such a port.
    #[must_use]
    pub fn held_by(self, worker: WorkerId, workers: u16) -> bool {
        match self {
            Self::Listener => true,
            Self::Worker { index } => index % workers.max(1) == worker.0,
        }
    }
}

/// One local UDP address that sipring receives on; its index in the list is its [`PortId`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalPort {
    /// Address to bind.
    pub bind: SocketAddr,
    /// Who holds it.
    pub role: PortRole,
}

/// The endpoints of all nodes, in [`PeerId`] order; what a datapath connects sockets to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Endpoints {
    /// Addresses; place is the [`PeerId`].
    pub peers: Vec<SocketAddr>,
}

/// Something that the datapath learned about a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// The local port that it concerns.
    pub port: PortId,
    /// The peer.
    pub to: SocketAddr,
    /// What happened.
    pub trouble: Trouble,
}

/// What can go wrong towards a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// An ICMP error came back: nobody listens there, or no way leads there. A hint, never proof.
    Unreachable,
    /// The datagram is longer than the path allows.
    TooLong,
}
