//! One worker's queues: a socket on each interface, and the frames that are theirs at the moment.
//!
//! Keeps free frames in front of the kernel, takes back what it has sent, and knows at every turn how
//! many it has. Made by `bypass`, driven by the worker's datapath; what frames hold is read and
//! written there.

use std::io;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::depth::Depth;
use super::socket::{Drops, Socket};
use crate::packet::{Packet, Pool};

/// Frames that the kernel may handle inside one of our calls, when it polls.
const BUSY_BUDGET: u32 = 64;

/// Received frames whose headers the cache is asked for before they are read.
const AHEAD: u32 = 6;

/// One interface's queue.
pub(super) struct Port {
    /// The kernel's number of the interface.
    pub(super) interface: u32,
    socket: Socket,
    depth: Depth,
    /// It is to be polled: it got frames since it was.
    due: bool,
    /// Frames were submitted and not sent: the interface is down or has no room.
    unsent: bool,
}

/// What a lane's frames are at, as its worker last wrote it before it slept.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Whereabouts {
    lent: AtomicU64,
    kept: AtomicU64,
}

impl Whereabouts {
    /// Frames that the kernel has.
    #[must_use]
    pub fn lent(&self) -> u64 {
        self.lent.load(Ordering::Relaxed)
    }

    /// Free frames that the worker keeps to itself.
    #[must_use]
    pub fn kept(&self) -> u64 {
        self.kept.load(Ordering::Relaxed)
    }
}

/// The queues of one worker.
pub struct Lane {
    ports: Vec<Port>,
    frames: &'static Pool,
    /// Where reading begins, so that no interface starves another.
    first: usize,
    busy: bool,
    /// Frames lent and not taken back, counted apart from the rings.
    lent: u64,
    whereabouts: Arc<Whereabouts>,
    calls: u64,
}

impl Lane {
    pub(super) fn new(frames: &'static Pool) -> Self {
        Self { ports: Vec::new(), frames, first: 0, busy: false, lent: 0, whereabouts: Arc::default(), calls: 0 }
    }

    /// Adds an interface's socket, with rings of `ring` entries, and gives the kernel frames for it.
    pub(super) fn add(&mut self, interface: u32, socket: Socket, ring: u32) -> io::Result<()> {
        self.ports.push(Port { interface, socket, depth: Depth::new(ring), due: false, unsent: false });
        if self.refill() { Ok(()) } else { Err(io::Error::other("too few frames for the rings")) }
    }

    /// Lets the kernel poll its queues inside our calls.
    pub(super) fn busy_poll(&mut self, us: u32) -> io::Result<()> {
        self.busy = us > 0;
        self.ports.iter().filter(|_| us > 0).try_for_each(|port| port.socket.busy_poll(us, BUSY_BUDGET))
    }

    /// Where its frames are, for whoever prints counters.
    #[must_use]
    pub fn whereabouts(&self) -> Arc<Whereabouts> {
        self.whereabouts.clone()
    }

    pub(super) fn frames(&self) -> &'static Pool {
        self.frames
    }

    /// The sockets, for waiting.
    pub(super) fn fds(&self) -> impl Iterator<Item = RawFd> + '_ {
        self.ports.iter().map(|port| port.socket.fd())
    }

    /// The kernel's numbers of its interfaces; place is what [`Lane::send`] takes.
    pub(super) fn interfaces(&self) -> impl Iterator<Item = u32> + '_ {
        self.ports.iter().map(|port| port.interface)
    }

    /// Takes back the frames that were sent.
    #[inline]
    pub(super) fn reap(&mut self) {
        for port in &mut self.ports {
            let count = port.socket.completion.filled();
            for _ in 0..count {
                let address = port.socket.completion.take();
                // SAFETY: the kernel gives back what `send` lent it, once.
                unsafe { self.frames.restore(address) };
            }
            if count > 0 {
                port.socket.completion.release();
                self.lent -= u64::from(count);
            }
        }
    }

    /// Hands at most `room` received frames to `handle`, with the number of their interface; how many
    /// there were.
    #[inline]
    pub(super) fn receive(&mut self, room: usize, mut handle: impl FnMut(u32, Option<Packet>)) -> usize {
        let mut left = u32::try_from(room).unwrap_or(u32::MAX);
        let count = self.ports.len();
        self.first = if self.first + 1 < count { self.first + 1 } else { 0 };
        for at in (self.first..count).chain(0..self.first) {
            let Some(port) = self.ports.get_mut(at) else { continue };
            let here = port.socket.receive.filled().min(left);
            for ahead in 0..AHEAD.min(here) {
                self.frames.ask_ahead(port.socket.receive.ahead(ahead).addr);
            }
            for left in (0..here).rev() {
                let told = port.socket.receive.take();
                if left >= AHEAD {
                    self.frames.ask_ahead(port.socket.receive.ahead(AHEAD - 1).addr);
                }
                // SAFETY: the kernel gives back what `refill` lent it, once.
                handle(port.interface, unsafe { self.frames.regain(told.addr, told.len) });
            }
            if here > 0 {
                port.socket.receive.release();
                self.lent -= u64::from(here);
                left -= here;
            }
        }
        room - left as usize
    }

    /// Gives the kernel free frames in place of those received; false if there were too few.
    #[inline]
    pub(super) fn refill(&mut self) -> bool {
        let mut enough = true;
        for port in &mut self.ports {
            let held = port.socket.fill.given() - port.socket.receive.taken();
            let wanted = port.depth.wanted(held, port.socket.receive.filled().into());
            let mut given = 0;
            while given < wanted {
                let Some(address) = self.frames.lend() else { break };
                if !port.socket.fill.put(address) {
                    // SAFETY: lent just now, and the kernel has not seen it.
                    unsafe { self.frames.restore(address) };
                    break;
                }
                given += 1;
            }
            enough &= given == wanted;
            self.lent += given;
            if given > 0 {
                port.socket.fill.submit();
                // Polling can wait until what came has been handled.
                port.due = self.busy;
                self.calls += port.socket.pull(false);
            }
        }
        enough
    }

    /// Lets the kernel look for frames, if it polls, until some wait; whether they do.
    #[inline]
    pub(super) fn poll(&mut self) -> bool {
        let (before, from) = self.ports.split_at_mut(self.first);
        for port in from.iter_mut().chain(before) {
            if self.busy && port.socket.receive.filled() == 0 {
                self.calls += port.socket.pull(true);
            }
            if port.socket.receive.filled() > 0 {
                return true;
            }
        }
        false
    }

    /// Lets the kernel look for frames at the interfaces that got some to fill and sent none, if it polls.
    #[inline]
    pub(super) fn poll_due(&mut self) {
        for port in self.ports.iter_mut().filter(|port| port.due) {
            port.due = false;
            self.calls += port.socket.pull(true);
        }
    }

    /// Puts a packet with `headers` bytes in front of it into the ring of the interface at place `to`.
    ///
    /// # Errors
    /// The packet, if the ring is full or it lies in no frame of this lane's region.
    #[inline]
    pub(super) fn send(&mut self, to: usize, packet: Packet, headers: usize) -> Result<(), Packet> {
        let Some(port) = self.ports.get_mut(to) else { return Err(packet) };
        if port.socket.send.room(1) == 0 {
            return Err(packet);
        }
        let (addr, len) = packet.lend(self.frames, headers)?;
        let put = port.socket.send.put(libc::xdp_desc { addr, len, options: 0 });
        debug_assert!(put, "there was room");
        self.lent += 1;
        port.unsent = true;
        Ok(())
    }

    /// Has the kernel send what was put, and what it left the last time.
    #[inline]
    pub(super) fn push(&mut self) {
        for port in self.ports.iter_mut().filter(|port| port.unsent) {
            port.socket.send.submit();
            self.calls += port.socket.push();
            // The call that sends polls, too.
            port.due = false;
            port.unsent = port.socket.send.pending() > 0;
        }
    }

    /// Whether frames wait for an interface that did not take them.
    pub(super) fn unsent(&self) -> bool {
        self.ports.iter().any(|port| port.unsent)
    }

    /// The same, for another worker that counts from zero.
    pub(super) fn recounted(self) -> Self {
        Self { calls: 0, ..self }
    }

    /// System calls so far.
    pub(super) fn calls(&self) -> u64 {
        self.calls
    }

    /// What the kernel dropped since the start.
    #[cold]
    pub(super) fn drops(&self) -> Drops {
        self.ports.iter().map(|port| port.socket.drops()).fold(Drops::default(), |sum, more| Drops {
            received: sum.received + more.received,
            invalid: sum.invalid + more.invalid,
        })
    }

    /// Writes down where the frames are.
    pub(super) fn note(&self) {
        self.whereabouts.lent.store(self.lent, Ordering::Relaxed);
        self.whereabouts.kept.store(u64::from(self.frames.kept()), Ordering::Relaxed);
    }

    /// Checks that no frame was lost: what went into the rings and did not come out is what was lent,
    /// and with the free ones and the live packets that is all of them.
    #[inline]
    pub(super) fn check(&self) {
        debug_assert_eq!(
            self.ports.iter().map(|port| port.socket.lent()).sum::<u64>(),
            self.lent,
            "frames in the rings, frames lent"
        );
        #[cfg(debug_assertions)]
        self.frames.check(self.lent);
    }
}
