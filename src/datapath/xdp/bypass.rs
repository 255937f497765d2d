//! What all workers of a process share: programs at the interfaces, maps, and the sockets' opening.
//!
//! Opened once at start, before the workers, and kept as long as they run: when it is dropped, or the
//! process dies, the programs leave the interfaces. Decides between native and generic, zero-copy and
//! copy, and says which.

use std::ffi::CString;
use std::io;
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::thread;

use super::bpf::{Attach, Link, Map, MapKind, Program};
use super::device;
use super::lane::Lane;
use super::program::{KEY_BYTES, key, program};
use super::rules;
use super::socket::{Passing, Queue, Socket, Umem};
use crate::packet::Pool;

/// Entries of a ring: at most, and at least.
const RING_MAX: u32 = 2_048;
const RING_MIN: u32 = 64;
/// Frames that a socket needs for each entry of its rings: received, being sent, sent, and alive.
const FRAMES_AN_ENTRY: u32 = 4;
/// Queues of an interface at most.
const QUEUES_MAX: u32 = 1_024;

/// Where the program runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum XdpMode {
    /// In the driver where it can, else in the kernel's stack.
    #[default]
    Auto,
    /// In the driver.
    Native,
    /// In the kernel's stack.
    Generic,
}

/// How the kernel is bypassed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct XdpOptions {
    /// Network interfaces, by name.
    pub interfaces: Vec<String>,
    /// The queue of each worker, the same on all interfaces.
    pub queues: Vec<u32>,
    /// Frames, over all workers and interfaces; 4 kB each.
    pub frames: u32,
    /// How long a worker looks for frames before it sleeps, microseconds; 0: not at all.
    pub busy_poll_us: u32,
    /// Differentiated services of what is sent, 0 to 63.
    pub dscp: u8,
    /// Let drivers that can read and write the frames themselves.
    pub zero_copy: bool,
    /// Where the program runs.
    pub mode: XdpMode,
}

/// The interface of a name, its program and its sockets.
struct Interface {
    name: String,
    number: u32,
    sockets: Map,
    attached: Attach,
    _link: Link,
}

/// The programs at the interfaces.
pub struct Bypass {
    interfaces: Vec<Interface>,
    passing: Passing,
    ring: u32,
}

impl Bypass {
    /// Attaches the programs, which bring datagrams to `ports` to a queue's socket, and opens the
    /// sockets: a [`Lane`] for each place of `homes`, whose frames lie in that region. Lanes of one
    /// region share it.
    ///
    /// # Errors
    /// What is missing, at which interface, and what would be right.
    pub fn open(options: &XdpOptions, ports: &[SocketAddr], homes: &[&'static Pool]) -> io::Result<(Self, Vec<Lane>)> {
        let map = Map::new(MapKind::Hash, KEY_BYTES, 4, (ports.len() as u32).max(1));
        let map = map.map_err(|error| advised("a map of the kernel's cannot be made", &error))?;
        for (id, port) in (0_u32..).zip(ports) {
            map.put(&key(*port), &id.to_ne_bytes())?;
        }
        let interfaces = options.interfaces.iter().map(|name| Interface::open(name, &map, options.mode));
        let interfaces = interfaces.collect::<io::Result<Vec<_>>>()?;
        options.interfaces.iter().for_each(|name| warn_of_others(name, &options.queues));
        let ring = ring_size(options.frames, options.interfaces.len() * homes.len());
        let mut this = Self { interfaces, passing: Passing::ZeroCopy, ring };
        let native = this.interfaces.iter().all(|interface| interface.attached == Attach::Native);
        if options.zero_copy && native {
            match this.lanes_apart(options, homes) {
                Ok(lanes) => return Ok((this, lanes)),
                Err(error) => {
                    let why = error.to_string();
                    tracing::info!(error = why.split(';').next(), "zero_copy_refused");
                }
            }
        }
        this.passing = Passing::Copy;
        let lanes = this.lanes_apart(options, homes)?;
        Ok((this, lanes))
    }

    /// Of `ports`, each beside the queue of the worker that holds it, those that at none of the
    /// interfaces a rule of the NIC brings there.
    #[must_use]
    pub fn without_rule(&self, ports: &[(SocketAddr, u32)]) -> Vec<SocketAddr> {
        let mut interfaces = self.interfaces.iter();
        let Some(first) = interfaces.next() else { return Vec::new() };
        let missing = rules::missing(&first.name, ports);
        interfaces.fold(missing, |left, interface| {
            let here = rules::missing(&interface.name, ports);
            left.into_iter().filter(|port| here.contains(port)).collect()
        })
    }

    /// What was chosen, for the log.
    #[must_use]
    pub fn told(&self) -> String {
        let how = |interface: &Interface| match interface.attached {
            Attach::Native => format!("{} native", interface.name),
            Attach::Generic => format!("{} generic", interface.name),
        };
        let interfaces: Vec<String> = self.interfaces.iter().map(how).collect();
        let passing = match self.passing {
            Passing::ZeroCopy => "zero-copy",
            Passing::Copy => "copy",
        };
        format!("{}, {passing}, rings of {}", interfaces.join(", "), self.ring)
    }

    /// On a thread that ends, so that no free frames stay with it.
    fn lanes_apart(&self, options: &XdpOptions, homes: &[&'static Pool]) -> io::Result<Vec<Lane>> {
        let failed = |_| Err(io::Error::other("the thread that opens queues failed"));
        thread::scope(|scope| scope.spawn(|| self.lanes(options, homes)).join().unwrap_or_else(failed))
    }

    fn lanes(&self, options: &XdpOptions, homes: &[&'static Pool]) -> io::Result<Vec<Lane>> {
        // By region: who registered it.
        let mut registered: Vec<(&'static Pool, RawFd)> = Vec::new();
        let mut lanes: Vec<Lane> = Vec::with_capacity(homes.len());
        for (home, queue) in homes.iter().zip(&options.queues) {
            let mut lane = Lane::new(home);
            for interface in &self.interfaces {
                let owner = registered.iter().find(|(pool, _)| std::ptr::eq(*pool, *home)).map(|(_, fd)| *fd);
                let umem = owner.map_or(Umem::Own(self.passing), Umem::SharedWith);
                let wanted = Queue { interface: interface.number, queue: *queue, ring: self.ring, frames: home };
                let socket = Socket::open(&wanted, &umem).map_err(|error| interface.refused(*queue, &error))?;
                if owner.is_none() {
                    registered.push((home, socket.fd()));
                }
                lane.add(interface.number, socket, self.ring)?;
            }
            if let Err(error) = lane.busy_poll(options.busy_poll_us) {
                tracing::warn!(%error, "busy_poll_refused");
            }
            lanes.push(lane);
        }
        for (lane, queue) in lanes.iter().zip(&options.queues) {
            for (interface, fd) in self.interfaces.iter().zip(lane.fds()) {
                interface.sockets.put(&queue.to_ne_bytes(), &fd.to_ne_bytes())?;
            }
        }
        Ok(lanes)
    }
}

impl Interface {
    fn open(name: &str, ports: &Map, mode: XdpMode) -> io::Result<Self> {
        let number = number(name)?;
        let failed = |error: io::Error| advised(&format!("`{name}`: no XDP program"), &error);
        let sockets = Map::new(MapKind::Sockets, 4, 4, QUEUES_MAX).map_err(failed)?;
        let program = Program::load(&program(ports, &sockets)?).map_err(failed)?;
        let (link, attached) = match mode {
            XdpMode::Native => (program.attach(number, Attach::Native).map_err(failed)?, Attach::Native),
            XdpMode::Generic => (program.attach(number, Attach::Generic).map_err(failed)?, Attach::Generic),
            XdpMode::Auto => match program.attach(number, Attach::Native) {
                Ok(link) => (link, Attach::Native),
                Err(error) => {
                    tracing::info!(interface = name, %error, "native_xdp_refused");
                    (program.attach(number, Attach::Generic).map_err(failed)?, Attach::Generic)
                }
            },
        };
        Ok(Self { name: name.to_owned(), number, sockets, attached, _link: link })
    }

    fn refused(&self, queue: u32, error: &io::Error) -> io::Error {
        let what = match error.raw_os_error() {
            Some(libc::EINVAL) => format!("`{}`: no AF_XDP socket on queue {queue}: has it that queue?", self.name),
            _ => format!("`{}`: no AF_XDP socket on queue {queue}", self.name),
        };
        advised(&what, error)
    }
}

/// Warns of queues that no worker serves.
fn warn_of_others(name: &str, ours: &[u32]) {
    let all = device::queues(name).unwrap_or(0);
    let others: Vec<u32> = (0..all).filter(|queue| !ours.contains(queue)).collect();
    if !others.is_empty() {
        let advice = "what comes by them takes the slow path; as many queues as workers are right";
        tracing::warn!(interface = name, queues = ?others, advice, "queues_unserved");
    }
}

/// The number of an interface.
fn number(name: &str) -> io::Result<u32> {
    let text = CString::new(name).map_err(|_| io::Error::other("a name with a NUL"))?;
    // SAFETY: a string that ends with NUL.
    match unsafe { libc::if_nametoindex(text.as_ptr()) } {
        0 => Err(io::Error::other(format!("`{name}`: there is no such interface"))),
        number => Ok(number),
    }
}

/// Entries of each ring: as many as the frames allow, a power of two.
fn ring_size(frames: u32, sockets: usize) -> u32 {
    let share = frames / (sockets.max(1) as u32 * FRAMES_AN_ENTRY);
    let size = 1 << share.max(1).ilog2();
    size.clamp(RING_MIN, RING_MAX)
}

/// The least number of frames that sockets need.
#[must_use]
pub fn frames_min(sockets: u32) -> u32 {
    sockets * RING_MIN * FRAMES_AN_ENTRY
}

fn advised(what: &str, error: &io::Error) -> io::Error {
    let advice = match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => "; root, or CAP_NET_ADMIN, CAP_NET_RAW and CAP_BPF, is right",
        Some(libc::EEXIST) => "; another XDP program is attached: take it off with `ip link set dev NAME xdp off`",
        Some(libc::EBUSY) => "; another process holds the queue, or another XDP program the interface",
        Some(libc::ENOBUFS) => "; raise the limit of locked memory (`ulimit -l`, LimitMEMLOCK), or give CAP_IPC_LOCK",
        Some(libc::EOPNOTSUPP) => "; the interface's driver cannot: `mode = \"generic\"` may",
        Some(libc::EAFNOSUPPORT) => "; the kernel is built without AF_XDP",
        _ => "",
    };
    io::Error::new(error.kind(), format!("{what}: {error}{advice}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rings_are_as_large_as_the_frames_allow() {
        for (frames, sockets, ring) in
            [(8_192, 2, 1_024), (1 << 20, 2, 2_048), (4_096, 8, 128), (100, 8, 64), (9_000, 2, 1_024)]
        {
            assert_eq!(ring_size(frames, sockets), ring, "{frames} {sockets}");
        }
        assert_eq!(ring_size(frames_min(8), 8), RING_MIN);
    }
}
