//! The datapath that leaves the kernel's stack out: AF_XDP.
//!
//! Owns a worker's queues and, as its slow path, a socket datapath that holds the ports, carries
//! fragments, what is too long for a frame and what has no known next hop, reads ICMP errors, and is
//! what it waits through. Driven by the worker through the trait. A packet is edited in its frame and
//! leaves by any interface.

mod assemble;
mod bpf;
mod bypass;
mod checksum;
mod depth;
mod device;
mod frame;
mod lane;
mod program;
mod ring;
mod rules;
mod socket;
mod ways;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Batch, Counts, Datapath, Mmsg, Options, Waker};
use crate::packet::{Egress, Endpoints, Hops, Outbox, Outgoing, Packet, Pool, PortId};

pub use bypass::{Bypass, XdpMode, XdpOptions, frames_min};
pub use frame::{Arrived, Leaving, overhead, parse};
pub use lane::{Lane, Whereabouts};

use ways::{Ports, Ways};

/// Turns after which the slow path is read although frames keep coming.
const SLOW_EVERY: u32 = 8;
/// Turns after which the kernel is asked what it dropped.
const DROPS_EVERY: u32 = 64;
/// Looks at the rings between two at the slow path and the clock, when busy.
const LOOKS: u32 = 64;
/// How long a wait lasts at most while an interface has not taken what it was to send.
const PUSH_AGAIN: Duration = Duration::from_millis(10);
/// Packets that the slow path has room for at first.
const SLOW_MAX: usize = 1_024;

/// A datapath over AF_XDP sockets.
pub struct Xdp {
    lane: Lane,
    slow: Mmsg,
    /// What the slow path is to send.
    slow_out: Outbox,
    /// Destinations of this turn's `slow_out`: what follows them must not overtake.
    slow_to: Vec<SocketAddr>,
    ways: Ways,
    ports: Ports,
    busy: Duration,
    dscp: u8,
    id: u16,
    turns: u32,
    /// What this datapath counts besides the slow path.
    own: Counts,
    counts: Counts,
}

/// Why a packet takes the slow path.
enum Slow {
    /// Its next hop is not known, or not by an interface of ours.
    NoHop(Packet),
    /// It is longer than the hop carries, or than a frame.
    Long(Packet),
    /// It was put in the ring's place, and that is full.
    Full,
}

impl Xdp {
    /// Opens the slow path's sockets that `options.worker` holds, and goes on with the lane that was
    /// opened for this worker. `pool` is for the slow path's datagrams.
    ///
    /// # Errors
    /// Names the address that cannot be bound, and why.
    pub fn open(
        options: &Options,
        xdp: &XdpOptions,
        lane: Lane,
        pool: &'static Pool,
        waker: Waker,
    ) -> io::Result<Self> {
        // What goes to nodes bypasses its sockets: connected ones would gain nothing, nor would trains.
        let slow = Mmsg::open(&Options { connected_max: 0, trains: false, ..options.clone() }, pool, waker)?;
        lane.fds().try_for_each(|fd| slow.watch_too(fd))?;
        let dscp = xdp.dscp.min(63);
        let this = Self {
            ways: Ways::new(lane.interfaces()),
            ports: Ports::new(options.ports.iter().map(|port| port.bind).collect()),
            slow_out: Outbox::new(pool, SLOW_MAX),
            slow_to: Vec::with_capacity(SLOW_MAX),
            busy: Duration::from_micros(u64::from(xdp.busy_poll_us)),
            dscp,
            id: 0,
            turns: 0,
            own: Counts::default(),
            counts: Counts::default(),
            lane,
            slow,
        };
        this.slow.mark_services(dscp)?;
        this.lane.note();
        Ok(this)
    }

    /// The region of frames that packets leave from without being copied.
    #[must_use]
    pub fn frames(&self) -> &'static Pool {
        self.lane.frames()
    }

    /// Closes the slow path's sockets; the queues go on, for another one of the same worker.
    #[must_use]
    pub fn into_lane(self) -> Lane {
        self.lane.recounted()
    }

    /// The address of a local port.
    #[must_use]
    pub fn local(&self, port: PortId) -> Option<SocketAddr> {
        self.ports.address(port)
    }

    /// Reads received frames into the batch.
    #[inline]
    fn read(&mut self, batch: &mut Batch) {
        let (ways, ports, own) = (&self.ways, &self.ports, &mut self.own);
        self.lane.receive(batch.room(), |interface, packet| {
            match packet.and_then(|packet| accept(packet, interface, ways, ports)) {
                Some(packet) if packet.source.port() == 0 => own.sourceless += 1,
                Some(packet) => {
                    own.received += 1;
                    batch.packets.push(packet);
                }
                None => own.foreign += 1,
            }
        });
    }

    /// Waits for frames or for the slow path.
    fn wait(&mut self, batch: &mut Batch, wait: Option<Duration>) -> io::Result<()> {
        self.lane.note();
        if !self.busy.is_zero() && self.look(batch, wait)? {
            return Ok(());
        }
        let wait = if self.lane.unsent() { Some(wait.map_or(PUSH_AGAIN, |wait| wait.min(PUSH_AGAIN))) } else { wait };
        self.slow.recv(batch, wait)?;
        self.lane.reap();
        self.read(batch);
        Ok(())
    }

    /// Looks for frames again and again, as long as busy polling lasts; true if there is something.
    #[expect(clippy::disallowed_methods, reason = "how long to look before sleeping is the datapath's own affair")]
    fn look(&mut self, batch: &mut Batch, wait: Option<Duration>) -> io::Result<bool> {
        let end = Instant::now() + wait.map_or(self.busy, |wait| wait.min(self.busy));
        loop {
            for _ in 0..LOOKS {
                if self.lane.poll() {
                    self.lane.reap();
                    self.read(batch);
                    return Ok(true);
                }
                std::hint::spin_loop();
            }
            self.slow.recv(batch, Some(Duration::ZERO))?;
            if self.slow.was_woken() || !batch.is_empty() {
                return Ok(true);
            }
            if Instant::now() >= end {
                return Ok(false);
            }
        }
    }

    /// Puts a packet into the ring of its next hop.
    #[inline]
    fn put(&mut self, packet: Packet, egress: &Egress) -> Result<(), Slow> {
        let source = self.ports.address(egress.port).filter(|from| from.is_ipv4() == egress.to.is_ipv4());
        let (Some(source), Some((hop, place))) = (source, self.ways.to(egress.to.ip())) else {
            return Err(Slow::NoHop(packet));
        };
        let v4 = egress.to.is_ipv4();
        let len = packet.len() + overhead(v4);
        if len > hop.mtu as usize || self.ways.is_narrow(egress.to.ip(), len) {
            return Err(Slow::Long(packet));
        }
        self.id = self.id.wrapping_add(1);
        let leaving = Leaving { ethernet: hop.header(), source, to: egress.to, id: self.id, dscp: self.dscp };
        let headers = leaving.headers();
        let mut packet = self.in_frame(packet, headers).map_err(Slow::Long)?;
        let written = packet.framed(headers).is_some_and(|frame| leaving.write(frame));
        debug_assert!(written, "a frame has room for all headers");
        match self.lane.send(place, packet, headers) {
            Ok(()) => Ok(()),
            Err(packet) => {
                // The kernel may have done with some by now.
                self.lane.push();
                self.lane.reap();
                self.lane.send(place, packet, headers).map_err(|_| Slow::Full)
            }
        }
    }

    /// The packet in a frame of this lane's with room for the headers: itself, or a copy.
    #[inline]
    fn in_frame(&mut self, mut packet: Packet, headers: usize) -> Result<Packet, Packet> {
        if packet.lies_in(self.lane.frames()) && packet.framed(headers).is_some() {
            return Ok(packet);
        }
        let Some(mut copy) = self.lane.frames().take() else { return Err(packet) };
        if !copy.replace(packet.bytes()) {
            return Err(packet);
        }
        self.own.copied += 1;
        Ok(copy)
    }

    fn put_slow(&mut self, packet: Packet, outgoing: (Egress, crate::packet::Sent)) {
        let (egress, sent) = outgoing;
        if !self.slow_to.contains(&egress.to) {
            self.slow_to.push(egress.to);
        }
        self.slow_out.sends().push(Outgoing { packet, egress, sent });
    }

    /// Adds up what both ways count.
    #[inline]
    fn sum_up(&mut self) {
        let slow = self.slow.counts();
        self.own.syscalls = self.lane.calls();
        self.counts = self.own.plus(slow);
        self.counts.slow_received = slow.received;
        self.counts.slow_sent = slow.sent;
    }
}

impl Datapath for Xdp {
    fn recv(&mut self, batch: &mut Batch, wait: Option<Duration>) -> io::Result<()> {
        self.turns = self.turns.wrapping_add(1);
        self.lane.reap();
        if self.lane.unsent() {
            self.lane.push();
        }
        self.read(batch);
        if !batch.packets.is_empty() {
            if self.turns.is_multiple_of(SLOW_EVERY) {
                self.slow.recv(batch, Some(Duration::ZERO))?;
            }
        } else if wait == Some(Duration::ZERO) {
            self.slow.recv(batch, wait)?;
        } else {
            self.wait(batch, wait)?;
        }
        for to in self.slow.narrow() {
            self.ways.narrowed(to);
        }
        self.own.stalls += u64::from(!self.lane.refill());
        if self.turns.is_multiple_of(DROPS_EVERY) {
            let drops = self.lane.drops();
            (self.own.frames_dropped, self.own.frames_invalid) = (drops.received, drops.invalid);
        }
        self.lane.check();
        self.sum_up();
        Ok(())
    }

    fn send(&mut self, out: &mut Outbox) {
        self.slow_to.clear();
        for Outgoing { packet, egress, sent } in out.sends().drain(..) {
            if !self.slow_to.is_empty() && self.slow_to.contains(&egress.to) {
                self.put_slow(packet, (egress, sent));
                continue;
            }
            match self.put(packet, &egress) {
                Ok(()) => self.own.sent += 1,
                Err(Slow::Full) => self.own.send_errors.full += 1,
                Err(Slow::Long(packet)) => self.put_slow(packet, (egress, sent)),
                Err(Slow::NoHop(packet)) => {
                    self.own.unresolved += 1;
                    self.put_slow(packet, (egress, sent));
                }
            }
        }
        self.lane.push();
        if !self.slow_out.is_empty() {
            self.slow.send(&mut self.slow_out);
        }
        self.lane.poll_due();
        self.lane.check();
        self.sum_up();
    }

    /// From the frames; a datagram longer than one is for the slow path's pool.
    fn take(&mut self) -> Option<Packet> {
        self.lane.frames().take()
    }

    fn apply(&mut self, endpoints: &Endpoints) {
        self.slow.apply(endpoints);
    }

    fn apply_hops(&mut self, hops: &Arc<Hops>) {
        self.ways.renew(hops);
    }

    fn waker(&self) -> Waker {
        self.slow.waker()
    }

    fn counts(&self) -> &Counts {
        &self.counts
    }
}

impl fmt::Debug for Xdp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Xdp").field("slow", &self.slow).field("counts", &self.counts).finish_non_exhaustive()
    }
}

/// Cuts a frame down to its datagram; none if it is not for us.
#[inline]
fn accept(mut packet: Packet, interface: u32, ways: &Ways, ports: &Ports) -> Option<Packet> {
    let arrived = parse(packet.bytes())?;
    let port = ports.find(arrived.to)?;
    let device = ways.device(interface, arrived.mac, &arrived.tags)?;
    let source = match arrived.source {
        SocketAddr::V6(mut v6) if v6.ip().is_unicast_link_local() => {
            v6.set_scope_id(device);
            v6.into()
        }
        SocketAddr::V4(_) | SocketAddr::V6(_) => arrived.source,
    };
    packet.arrived(arrived.at, arrived.len, port, source);
    Some(packet)
}
