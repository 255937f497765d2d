//! Packets in and out.
//!
//! Owns the sockets of one worker and what is done with them: receive a batch, send a turn, learn
//! which peers cannot be reached. Driven by `worker` and by the load generator through [`Datapath`]
//! alone. Reads no SIP, decides nothing about calls, reads no clock.

mod address;
mod errors;
mod gate;
mod groups;
mod headers;
mod inbox;
mod limits;
mod mmsg;
mod open;
mod outward;
mod poll;
mod program;
mod replay;
mod sockets;
mod trains;
mod uring;
mod waker;
mod xdp;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::packet::{Endpoints, Event, Hops, LocalPort, Outbox, Packet, WorkerId};

pub use groups::{Groups, Steered};
pub use mmsg::Mmsg;
pub use open::{probe, probe_trains};
pub use replay::{Arrival, Replay};
pub use uring::Uring;
pub use waker::Waker;
pub use xdp::{
    Arrived, Bypass, Lane, Leaving, Whereabouts, Xdp, XdpMode, XdpOptions, frames_min, overhead as frame_overhead,
    parse as parse_frame,
};

/// Largest UDP payload that leaves unfragmented on an Ethernet path, IPv4, bytes.
pub const UNFRAGMENTED_V4: usize = 1_472;
/// Largest UDP payload that leaves unfragmented on an Ethernet path, IPv6, bytes.
pub const UNFRAGMENTED_V6: usize = 1_452;

/// How long a receive without a free slot sleeps: nothing tells when another thread frees one.
const STALL: Duration = Duration::from_millis(1);

/// How a worker's packets come in and leave. One implementation a backend; used from one thread.
pub trait Datapath {
    /// Adds what is there to `batch`, which the caller has emptied: at most its room, and events.
    ///
    /// Waits at most `wait` if there is nothing at all (`None`: without end; zero: not at all), or
    /// until the waker fires; may return early and empty. This is the worker's only wait.
    ///
    /// # Errors
    /// Only what makes the datapath useless, such as a descriptor gone bad; trouble with a peer is
    /// an event, and a lost datagram a count.
    fn recv(&mut self, batch: &mut Batch, wait: Option<Duration>) -> io::Result<()>;

    /// Sends all of `out` and empties it: in order per local port and destination, but that trains may have packets
    /// of different [`Packet::order`] change places.
    ///
    /// A packet leaves from the port that its egress names; if this worker does not hold that port,
    /// or it is of another family, from the worker's own lowest worker port of the destination's
    /// family, which is counted ([`Counts::rerouted`]). Every packet is counted exactly once, as
    /// sent or as one kind of [`SendErrors`].
    fn send(&mut self, out: &mut Outbox);

    /// An empty packet; none if the pool has none.
    fn take(&mut self) -> Option<Packet>;

    /// New next hops: connects sockets to the endpoints that are new and closes those to endpoints
    /// gone; the others are untouched, whatever their new index.
    fn apply(&mut self, endpoints: &Endpoints);

    /// A newer snapshot of next hops. Over sockets it is the kernel that finds them.
    fn apply_hops(&mut self, _hops: &Arc<Hops>) {}

    /// What ends a wait in [`Datapath::recv`] from another thread.
    fn waker(&self) -> Waker;

    /// What was counted since the start.
    fn counts(&self) -> &Counts;
}

/// What one receive brought. Made once, emptied every turn.
#[derive(Debug)]
pub struct Batch {
    /// Datagrams in order of arrival per socket.
    pub packets: Vec<Packet>,
    /// What was learned about peers.
    pub events: Vec<Event>,
    max: usize,
}

impl Batch {
    /// A batch of at most `max` packets and as many events.
    #[must_use]
    pub fn new(max: usize) -> Self {
        Self { packets: Vec::with_capacity(max), events: Vec::with_capacity(max), max }
    }

    /// How many more packets fit.
    #[inline]
    #[must_use]
    pub fn room(&self) -> usize {
        self.max.saturating_sub(self.packets.len())
    }

    /// How many more events fit.
    #[inline]
    #[must_use]
    pub fn events_room(&self) -> usize {
        self.max.saturating_sub(self.events.len())
    }

    /// Whether it holds neither a packet nor an event.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.packets.is_empty() && self.events.is_empty()
    }

    /// Empties it; packets left in it are freed.
    #[inline]
    pub fn clear(&mut self) {
        self.packets.clear();
        self.events.clear();
    }
}

/// What a datapath is opened with.
#[derive(Clone, Debug)]
pub struct Options {
    /// All local ports of the process; place is the `PortId`. A worker opens those that it holds.
    pub ports: Vec<LocalPort>,
    /// Which worker this is.
    pub worker: WorkerId,
    /// How many there are.
    pub workers: u16,
    /// Packets received or sent by one system call, 1 to 1,024.
    pub batch: usize,
    /// Kernel receive buffer of a socket, bytes.
    pub receive_buffer: usize,
    /// Kernel send buffer of a socket, bytes.
    pub send_buffer: usize,
    /// Connected sockets at most on one worker port: a stranger's datagram walks past all of them.
    pub connected_max: usize,
    /// Datagrams to one peer leave as trains, by UDP GSO, where the kernel has it; those that can be padded are
    /// padded to one size.
    pub trains: bool,
    /// Sockets of shared ports that were opened for all workers before; none: it opens its own.
    pub groups: Option<Arc<Groups>>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            ports: Vec::new(),
            worker: WorkerId(0),
            workers: 1,
            batch: 64,
            receive_buffer: 8 << 20,
            send_buffer: 8 << 20,
            connected_max: 64,
            trains: false,
            groups: None,
        }
    }
}

/// Numbers since the start, written by the worker alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Datagrams handed up.
    pub received: u64,
    /// Datagrams longer than a slot, dropped.
    pub truncated: u64,
    /// Datagrams without a source that can be answered, dropped.
    pub sourceless: u64,
    /// Datagrams that the kernel took.
    pub sent: u64,
    /// Those that it did not.
    pub send_errors: SendErrors,
    /// Sends that failed for an earlier error and were tried again.
    pub retried: u64,
    /// Datagrams sent from another port than the one asked for, which this worker does not hold.
    pub rerouted: u64,
    /// Datagrams to be sent that are longer than an Ethernet path carries in one piece.
    pub fragmented: u64,
    /// Sends of more than one datagram.
    pub trains: u64,
    /// Of the datagrams sent, those that left in such.
    pub train_datagrams: u64,
    /// Trains that the kernel refused; what was in them was sent one by one.
    pub trains_refused: u64,
    /// Bytes of filler put into datagrams for trains.
    pub padding_bytes: u64,
    /// ICMP errors that came back.
    pub icmp: u64,
    /// Events that found no room.
    pub events_lost: u64,
    /// Receives that had to leave datagrams in the kernel, for want of a free slot.
    pub stalls: u64,
    /// Receives that a ring had ended, and that were begun again: for want of buffers.
    pub starved: u64,
    /// For other reasons: an ICMP error, an empty datagram.
    pub rearmed: u64,
    /// Connected sockets that could not be opened; what they were for is sent to unconnected.
    pub connects_failed: u64,
    /// System calls that sent or received.
    pub syscalls: u64,
    /// Of the received and the sent, those that took the slow path of a kernel bypass.
    pub slow_received: u64,
    /// As above.
    pub slow_sent: u64,
    /// Packets to be sent that were copied into a frame.
    pub copied: u64,
    /// Packets sent by the slow path for want of a known next hop.
    pub unresolved: u64,
    /// Frames received that were not for us: another Ethernet address, VLAN, or no whole datagram.
    pub foreign: u64,
    /// Frames that the kernel dropped, for want of a free one or of room in a ring.
    pub frames_dropped: u64,
    /// Frames of ours that the kernel found invalid.
    pub frames_invalid: u64,
}

impl Counts {
    /// These and others together.
    #[must_use]
    fn plus(&self, other: &Self) -> Self {
        let (ours, theirs) = (&self.send_errors, &other.send_errors);
        Self {
            received: self.received + other.received,
            truncated: self.truncated + other.truncated,
            sourceless: self.sourceless + other.sourceless,
            sent: self.sent + other.sent,
            send_errors: SendErrors {
                full: ours.full + theirs.full,
                unreachable: ours.unreachable + theirs.unreachable,
                too_long: ours.too_long + theirs.too_long,
                no_port: ours.no_port + theirs.no_port,
                other: ours.other + theirs.other,
            },
            retried: self.retried + other.retried,
            rerouted: self.rerouted + other.rerouted,
            fragmented: self.fragmented + other.fragmented,
            trains: self.trains + other.trains,
            train_datagrams: self.train_datagrams + other.train_datagrams,
            trains_refused: self.trains_refused + other.trains_refused,
            padding_bytes: self.padding_bytes + other.padding_bytes,
            icmp: self.icmp + other.icmp,
            events_lost: self.events_lost + other.events_lost,
            stalls: self.stalls + other.stalls,
            starved: self.starved + other.starved,
            rearmed: self.rearmed + other.rearmed,
            connects_failed: self.connects_failed + other.connects_failed,
            syscalls: self.syscalls + other.syscalls,
            slow_received: self.slow_received + other.slow_received,
            slow_sent: self.slow_sent + other.slow_sent,
            copied: self.copied + other.copied,
            unresolved: self.unresolved + other.unresolved,
            foreign: self.foreign + other.foreign,
            frames_dropped: self.frames_dropped + other.frames_dropped,
            frames_invalid: self.frames_invalid + other.frames_invalid,
        }
    }
}

/// Why datagrams were not sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SendErrors {
    /// The socket's or the device's queue was full.
    pub full: u64,
    /// No way to the peer, or it refused.
    pub unreachable: u64,
    /// Longer than IP carries.
    pub too_long: u64,
    /// No local port of the destination's family.
    pub no_port: u64,
    /// Anything else, such as a local firewall.
    pub other: u64,
}

impl SendErrors {
    /// All of them.
    #[must_use]
    pub fn sum(&self) -> u64 {
        self.full + self.unreachable + self.too_long + self.no_port + self.other
    }
}
