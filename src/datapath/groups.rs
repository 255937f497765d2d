//! The sockets that workers share a port by, and what shares out their datagrams.
//!
//! Opened by `serve` before the workers, in the order of the workers: a classic program answers with
//! places in that order. Each worker takes its own. Never connected: a connected socket in a group
//! would take part in a choice that it has no place in.

use std::io;
use std::sync::Mutex;

use socket2::Socket;

use super::open::{self, Buffers};
use super::{Options, program};
use crate::bpf::Steering;
use crate::packet::{PortRole, WorkerId};

/// How datagrams that arrive at a shared port are shared out among the workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Steered {
    /// By the owner of the message, found by a program.
    Ebpf,
    /// By the owner, found by a classic program, which is more easily deceived.
    Cbpf,
    /// By addresses and ports, as the kernel does of itself.
    Tuple,
}

impl Steered {
    /// Its name in the configuration.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Ebpf => "ebpf",
            Self::Cbpf => "cbpf",
            Self::Tuple => "tuple",
        }
    }
}

/// The sockets of all shared ports.
#[derive(Debug)]
pub struct Groups {
    /// By place of the port, then by worker; taken by it.
    sockets: Vec<Mutex<Vec<Option<Socket>>>>,
    steered: Steered,
    /// What was tried before, and why it is not in force.
    refused: Vec<(Steered, io::Error)>,
}

impl Groups {
    /// Opens a socket of every shared port for every worker, and steers them by the first of `wanted`
    /// that the kernel allows; by addresses and ports if there is only one worker.
    ///
    /// # Errors
    /// Names the address that cannot be bound, or why the last that was wanted is refused.
    pub fn open(options: &Options, steering: &Steering, wanted: &[Steered]) -> io::Result<Self> {
        let buffers = Buffers { receive: options.receive_buffer, send: options.send_buffer };
        let mut groups = Vec::with_capacity(options.ports.len());
        for port in &options.ports {
            let workers = if port.role == PortRole::Listener { options.workers } else { 0 };
            let bound = || open::bound(port.bind, buffers).map_err(|error| open::cannot_bind(port, &error));
            groups.push((0..workers).map(|_| bound()).collect::<io::Result<Vec<_>>>()?);
        }
        let wanted = if options.workers > 1 { wanted } else { &[Steered::Tuple] };
        let (steered, refused) = steer(&groups, steering, wanted)?;
        let sockets = groups.into_iter().map(|group| Mutex::new(group.into_iter().map(Some).collect())).collect();
        Ok(Self { sockets, steered, refused })
    }

    /// What is in force.
    #[must_use]
    pub fn steered(&self) -> Steered {
        self.steered
    }

    /// What was wanted before that and refused, and why.
    #[must_use]
    pub fn refused(&self) -> &[(Steered, io::Error)] {
        &self.refused
    }

    /// The socket of a worker at the port of that place; none if it was taken.
    pub(super) fn take(&self, place: usize, worker: WorkerId) -> Option<Socket> {
        let mut group = self.sockets.get(place)?.lock().ok()?;
        group.get_mut(usize::from(worker.0))?.take()
    }
}

/// Steers all groups alike.
fn steer(
    groups: &[Vec<Socket>],
    steering: &Steering,
    wanted: &[Steered],
) -> io::Result<(Steered, Vec<(Steered, io::Error)>)> {
    let mut refused = Vec::new();
    for way in wanted {
        let attach = |group: &Vec<Socket>| match way {
            Steered::Ebpf => program::attach(steering, group),
            Steered::Cbpf => program::attach_classic(&steering.classic, group),
            Steered::Tuple => Ok(()),
        };
        match groups.iter().try_for_each(attach) {
            Ok(()) => return Ok((*way, refused)),
            Err(error) => {
                groups.iter().for_each(|group| program::detach(group));
                refused.push((*way, error));
            }
        }
    }
    match refused.pop() {
        Some((way, error)) => Err(io::Error::new(error.kind(), format!("steering by {}: {error}", way.label()))),
        None => Ok((Steered::Tuple, refused)),
    }
}
