//! The sockets of one worker, and which of them a datagram leaves by.
//!
//! Owns one socket a held port and, on the port that the worker sends to nodes from, connected ones
//! to their endpoints. Used by the datapaths over kernel sockets, which do the sending and receiving;
//! what comes in is told apart by its own source, never by the socket it came in by.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, RawFd};

use socket2::Socket;

use super::Options;
use super::open::{self, Buffers};
use crate::packet::{Egress, Endpoints, LocalPort, PeerId, PortId, PortRole};

/// Place of a socket in [`Sockets`]; used again after the socket was closed.
pub(super) type SocketId = u32;

/// No socket.
const NONE: SocketId = SocketId::MAX;

/// One open socket.
pub(super) struct Open {
    socket: Socket,
    /// The port that it is bound to.
    pub(super) port: PortId,
    /// Where it is connected to.
    pub(super) peer: Option<SocketAddr>,
    /// Its endpoint is gone: it is read empty, then closed.
    pub(super) leaving: bool,
    /// Tells it from those that had its place before.
    pub(super) generation: u16,
    /// It stands in the datapath's list of sockets to read.
    pub(super) listed: bool,
    /// A ring receives by it.
    pub(super) armed: bool,
    /// Something came by it since it was armed.
    pub(super) fed: bool,
    /// Its error queue is to be read: an error that a send has taken notice of still waits there.
    pub(super) failed: bool,
    /// Trains do not leave by it.
    pub(super) trainless: bool,
    /// Weight of the trains that were refused for no reason that is known.
    pub(super) refusals: u8,
}

impl Open {
    pub(super) fn fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

/// Which socket a datagram leaves by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Way {
    pub(super) socket: SocketId,
    /// The socket is connected to the destination.
    pub(super) connected: bool,
    /// Not from the port asked for.
    pub(super) rerouted: bool,
}

/// A port that this worker holds.
#[derive(Clone, Copy)]
struct Held {
    local: SocketAddr,
    socket: SocketId,
}

/// What [`Sockets::apply`] did.
#[derive(Debug, Default)]
pub(super) struct Changes {
    pub(super) opened: Vec<SocketId>,
    pub(super) leaving: Vec<SocketId>,
    pub(super) failed: u64,
}

/// All sockets of one worker.
pub(super) struct Sockets {
    open: Vec<Option<Open>>,
    /// By `PortId`: the unconnected socket.
    held: Vec<Option<Held>>,
    /// The worker ports that this worker sends to nodes from.
    primary_v4: Option<PortId>,
    primary_v6: Option<PortId>,
    /// By `PeerId`: address and connected socket.
    peers: Vec<(SocketAddr, SocketId)>,
    connected_max: usize,
    buffers: Buffers,
    /// Sockets opened so far, modulo 2^16.
    generation: u16,
}

impl Sockets {
    /// Opens the unconnected socket of every port that the worker holds.
    pub(super) fn open(options: &Options) -> io::Result<Self> {
        let buffers = Buffers { receive: options.receive_buffer, send: options.send_buffer };
        let mut sockets = Self {
            open: Vec::new(),
            held: vec![None; options.ports.len()],
            primary_v4: lowest(options, true),
            primary_v6: lowest(options, false),
            peers: Vec::new(),
            connected_max: options.connected_max,
            buffers,
            generation: 0,
        };
        for (place, port) in options.ports.iter().enumerate() {
            if !port.role.held_by(options.worker, options.workers) {
                continue;
            }
            let socket = match options.groups.as_ref().and_then(|groups| groups.take(place, options.worker)) {
                Some(socket) => socket,
                None => open::bound(port.bind, buffers).map_err(|error| open::cannot_bind(port, &error))?,
            };
            if sockets.open.is_empty() {
                open::check_buffers(&socket, buffers)?;
            }
            let local = socket.local_addr()?.as_socket().unwrap_or(port.bind);
            let socket = sockets.insert(socket, PortId(place as u16), None);
            if let Some(held) = sockets.held.get_mut(place) {
                *held = Some(Held { local, socket });
            }
        }
        Ok(sockets)
    }

    /// The address of a held port.
    pub(super) fn local(&self, port: PortId) -> Option<SocketAddr> {
        self.held(port).map(|held| held.local)
    }

    /// Marks what the unconnected sockets send with differentiated services, 0 to 63.
    pub(super) fn mark_services(&self, dscp: u8) -> io::Result<()> {
        let mut sockets = self.held.iter().flatten().filter_map(|held| {
            let open = self.open.get(held.socket as usize)?.as_ref()?;
            Some((open.fd(), held.local.is_ipv4()))
        });
        sockets.try_for_each(|(fd, v4)| open::mark_services(fd, v4, dscp))
    }

    /// All open sockets.
    pub(super) fn ids(&self) -> impl Iterator<Item = SocketId> + '_ {
        (0..).zip(&self.open).filter(|(_, open)| open.is_some()).map(|(id, _)| id)
    }

    /// Whether a ring receives by any of them.
    pub(super) fn any_armed(&self) -> bool {
        self.open.iter().flatten().any(|open| open.armed)
    }

    /// Places that a [`SocketId`] can have.
    pub(super) fn places(&self) -> usize {
        self.open.len()
    }

    #[inline]
    pub(super) fn at(&mut self, id: SocketId) -> Option<&mut Open> {
        self.open.get_mut(id as usize)?.as_mut()
    }

    /// Whether trains leave by a socket.
    #[inline]
    pub(super) fn sends_trains(&self, id: SocketId) -> bool {
        matches!(self.open.get(id as usize), Some(Some(open)) if !open.trainless)
    }

    /// Which socket `egress` leaves by; none if no held port has the destination's family.
    #[inline]
    pub(super) fn way(&self, egress: &Egress) -> Option<Way> {
        let primary = self.primary(&egress.to);
        let asked = self.held(egress.port).filter(|held| held.local.is_ipv4() == egress.to.is_ipv4());
        let rerouted = asked.is_none();
        let port = if rerouted { primary? } else { egress.port };
        if egress.peer != PeerId::NONE && Some(port) == primary {
            // An index of an older plan may mean another peer by now: the address decides.
            let connected = self.peers.get(usize::from(egress.peer.0)).filter(|(address, _)| *address == egress.to);
            if let Some((_, socket)) = connected.filter(|(_, socket)| *socket != NONE) {
                return Some(Way { socket: *socket, connected: true, rerouted });
            }
        }
        let held = asked.or_else(|| self.held(port))?;
        Some(Way { socket: held.socket, connected: false, rerouted })
    }

    /// Connects sockets to new endpoints, at most `connected_max` a port, and marks those leaving
    /// whose endpoint is gone. The new ones are still to be watched.
    pub(super) fn apply(&mut self, endpoints: &Endpoints) -> Changes {
        let mut changes = Changes::default();
        let mut wanted: Vec<SocketAddr> = Vec::new();
        for family in [true, false] {
            let mut of_family: Vec<SocketAddr> = Vec::new();
            for peer in endpoints.peers.iter().filter(|peer| peer.is_ipv4() == family) {
                if of_family.len() < self.connected_max && !of_family.contains(peer) {
                    of_family.push(*peer);
                }
            }
            wanted.append(&mut of_family);
        }
        for (id, place) in (0..).zip(&mut self.open) {
            let Some((open, peer)) = place.as_mut().and_then(|open| open.peer.map(|peer| (open, peer))) else {
                continue;
            };
            let leaves = !wanted.contains(&peer);
            if leaves == open.leaving {
                continue;
            }
            // Pointed at its own port it gets nothing more, and can be read empty and closed without
            // a loss: what its peer sends comes to the unconnected socket from now on.
            let own = self.held.get(usize::from(open.port.0)).copied().flatten().map_or(peer, |held| held.local);
            let pointed = open.socket.connect(&if leaves { own } else { peer }.into());
            open.leaving = leaves || pointed.is_err();
            if leaves {
                changes.leaving.push(id);
            }
        }
        for peer in wanted {
            let Some(port) = self.primary(&peer) else { continue };
            if self.connected_to(peer) != NONE {
                continue;
            }
            let Some(local) = self.local(port) else { continue };
            match open::connected(local, peer, self.buffers) {
                Ok(socket) => changes.opened.push(self.insert(socket, port, Some(peer))),
                Err(error) => {
                    changes.failed += 1;
                    tracing::warn!(%peer, %error, "endpoint_unconnected");
                }
            }
        }
        self.peers = endpoints.peers.iter().map(|peer| (*peer, self.connected_to(*peer))).collect();
        changes
    }

    /// Closes a socket; one that is not there is left alone.
    pub(super) fn close(&mut self, id: SocketId) {
        if let Some(place) = self.open.get_mut(id as usize) {
            *place = None;
        }
        for (_, socket) in self.peers.iter_mut().filter(|(_, socket)| *socket == id) {
            *socket = NONE;
        }
    }

    #[inline]
    fn primary(&self, to: &SocketAddr) -> Option<PortId> {
        if to.is_ipv4() { self.primary_v4 } else { self.primary_v6 }
    }

    #[inline]
    fn held(&self, port: PortId) -> Option<&Held> {
        self.held.get(usize::from(port.0))?.as_ref()
    }

    fn connected_to(&self, peer: SocketAddr) -> SocketId {
        let connected = |open: &Open| open.peer == Some(peer) && !open.leaving;
        (0..).zip(&self.open).find(|(_, open)| open.as_ref().is_some_and(connected)).map_or(NONE, |(id, _)| id)
    }

    fn insert(&mut self, socket: Socket, port: PortId, peer: Option<SocketAddr>) -> SocketId {
        self.generation = self.generation.wrapping_add(1);
        let generation = self.generation;
        let open = Open {
            socket,
            port,
            peer,
            leaving: false,
            generation,
            listed: false,
            armed: false,
            fed: false,
            failed: false,
            trainless: false,
            refusals: 0,
        };
        match (0..).zip(&mut self.open).find(|(_, place)| place.is_none()) {
            Some((id, place)) => {
                *place = Some(open);
                id
            }
            None => {
                self.open.push(Some(open));
                (self.open.len() - 1) as SocketId
            }
        }
    }
}

/// The worker port of lowest index and of the family that this worker holds.
fn lowest(options: &Options, v4: bool) -> Option<PortId> {
    let index = |port: &LocalPort| match port.role {
        PortRole::Worker { index } if port.role.held_by(options.worker, options.workers) => Some(index),
        PortRole::Worker { .. } | PortRole::Listener => None,
    };
    (0..)
        .zip(&options.ports)
        .filter(|(_, port)| port.bind.is_ipv4() == v4)
        .filter_map(|(place, port)| Some((index(port)?, PortId(place))))
        .min()
        .map(|(_, port)| port)
}
