//! What the kernel knows of next hops, kept current: devices, routes, neighbours.
//!
//! Owns two netlink sockets: one is told of changes, the other asks. Driven by control's loop, which
//! posts the snapshots made here to workers that bypass the kernel's stack. Also keeps neighbours
//! fresh that only those workers send to, since the kernel sees none of it.

mod apart;
mod message;
mod table;

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::sockopt::{Timeout, set_socket_recv_buffer_size, set_socket_timeout};
use rustix::net::{self, AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use tokio::io::unix::AsyncFd;

use crate::packet::Hops;
use table::Table;

pub use apart::NextHops;

/// Changes of links, neighbours, and routes of both families.
const GROUPS: u32 = 1 | 4 | 0x40 | 0x400;
/// Longest wait for an answer of the kernel.
const PATIENCE: Duration = Duration::from_secs(2);
/// Room for one datagram of the kernel's.
const ROOM: usize = 1 << 16;
/// Room for changes that were not read yet.
const CHANGES_ROOM: usize = 1 << 20;
/// Times that a dump is asked for when changes keep interrupting it.
const DUMPS_MAX: u32 = 8;
/// Datagrams read at once.
const READ_MAX: usize = 256;
/// Routing rules that every kernel has, IPv4 and IPv6 together.
const RULES_ALWAYS: usize = 5;

/// The sockets and what they told.
pub(super) struct Netlink {
    changes: AsyncFd<OwnedFd>,
    questions: OwnedFd,
    sequence: u32,
    interfaces: Vec<String>,
    table: Table,
    /// To be asked for again: links and routes, neighbours.
    stale: [bool; 2],
    changed: bool,
    hops: Arc<Hops>,
    bytes: Vec<u8>,
}

impl Netlink {
    /// Opens the sockets and reads everything once.
    pub(super) fn open(interfaces: &[String]) -> io::Result<Self> {
        let changes = socket(SocketFlags::NONBLOCK, GROUPS)?;
        // More than the system's limit is cut to it.
        let _ = set_socket_recv_buffer_size(&changes, CHANGES_ROOM);
        let questions = socket(SocketFlags::empty(), 0)?;
        set_socket_timeout(&questions, Timeout::Recv, Some(PATIENCE))?;
        let mut this = Self {
            changes: watched(changes)?,
            questions,
            sequence: 0,
            interfaces: interfaces.to_vec(),
            table: Table::default(),
            stale: [true; 2],
            changed: true,
            hops: Arc::default(),
            bytes: vec![0; ROOM],
        };
        this.refresh()?;
        let of_ip = |(kind, family): &&(u16, u8)| *kind == message::NEW_RULE && message::is_ip(*family);
        let rules = this.dump(message::RULES)?.iter().filter(of_ip).count();
        if rules > RULES_ALWAYS {
            let advice = "next hops are taken from the main table only";
            tracing::warn!(rules, advice, "routing_rules_ignored");
        }
        Ok(this)
    }

    /// The newest snapshot.
    pub(super) fn hops(&self) -> Arc<Hops> {
        self.hops.clone()
    }

    /// Waits until something changed.
    pub(super) async fn change(&mut self) {
        let Ok(mut ready) = self.changes.readable().await else { return std::future::pending().await };
        for _ in 0..READ_MAX {
            match net::recv(ready.get_inner(), &mut self.bytes[..], RecvFlags::DONTWAIT) {
                Ok((len, _)) => {
                    let bytes = self.bytes.get(..len).unwrap_or_default();
                    for message in message::messages(bytes) {
                        match message.kind {
                            message::NEW_NEIGHBOUR | message::DEL_NEIGHBOUR => {
                                self.changed |= self.table.neighbour(message.kind, message.body);
                            }
                            _ => self.stale[0] = true,
                        }
                    }
                }
                Err(rustix::io::Errno::AGAIN) => return ready.clear_ready(),
                Err(rustix::io::Errno::INTR) => {}
                // Changes were lost for want of room.
                Err(_) => self.stale = [true; 2],
            }
        }
    }

    /// A new snapshot, if what changed makes one necessary.
    pub(super) fn renewed(&mut self) -> Option<Arc<Hops>> {
        let before = self.hops.clone();
        if let Err(error) = self.refresh() {
            tracing::warn!(%error, "next_hops_kept");
        }
        (!Arc::ptr_eq(&before, &self.hops)).then(|| self.hops.clone())
    }

    /// Has the kernel make sure of stale neighbours that packets were sent to.
    pub(super) fn keep_fresh(&mut self) {
        for used in self.hops.take_used().filter(|used| self.table.is_stale(used)) {
            let asked = message::use_neighbour(used.device, used.ip);
            // A neighbour that is not asked about now is asked about a second later.
            let _ = net::send(&self.questions, &asked, SendFlags::empty());
        }
    }

    fn refresh(&mut self) -> io::Result<()> {
        let [links, neighbours] = std::mem::take(&mut self.stale);
        if links {
            self.table.forget_links();
            self.dump(message::LINKS).and_then(|_| self.dump(message::ROUTES)).inspect_err(|_| self.stale[0] = true)?;
        }
        if neighbours {
            self.table.forget_neighbours();
            self.dump(message::NEIGHBOURS).inspect_err(|_| self.stale[1] = true)?;
        }
        if (std::mem::take(&mut self.changed) || links || neighbours)
            && let Some(hops) = self.table.snapshot(&self.interfaces)
        {
            self.hops = Arc::new(hops);
            let [devices, routes, neighbours] = self.hops.sizes();
            tracing::debug!(devices, routes, neighbours, "next_hops");
        }
        Ok(())
    }

    /// Asks for all of a kind and puts it into the table; kind and family of the messages that came.
    fn dump(&mut self, kind: u16) -> io::Result<Vec<(u16, u8)>> {
        for _ in 0..DUMPS_MAX {
            let (kinds, interrupted) = self.dump_once(kind)?;
            if !interrupted {
                return Ok(kinds);
            }
        }
        Err(io::Error::other("routes change faster than they are read"))
    }

    fn dump_once(&mut self, kind: u16) -> io::Result<(Vec<(u16, u8)>, bool)> {
        self.sequence += 1;
        net::send(&self.questions, &message::dump(kind, self.sequence), SendFlags::empty())?;
        let (mut kinds, mut interrupted) = (Vec::new(), false);
        loop {
            let (len, _) = net::recv(&self.questions, &mut self.bytes[..], RecvFlags::empty())?;
            let came = message::messages(self.bytes.get(..len).unwrap_or_default());
            for message in came.filter(|message| message.sequence == self.sequence) {
                interrupted |= message.interrupted;
                match message.kind {
                    message::DONE => return Ok((kinds, interrupted)),
                    message::ERROR if kinds.is_empty() => return Err(io::Error::other("a question was refused")),
                    _ => self.table.take(message.kind, message.body),
                }
                kinds.push((message.kind, message.body.first().copied().unwrap_or(0)));
            }
        }
    }
}

#[expect(deprecated, reason = "its unsoundness is of types whose descriptor changes; an `OwnedFd` keeps its own")]
fn watched(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::new(fd)
}

fn socket(flags: SocketFlags, groups: u32) -> io::Result<OwnedFd> {
    let kind = SocketType::RAW;
    let socket = net::socket_with(AddressFamily::NETLINK, kind, flags | SocketFlags::CLOEXEC, None)?;
    net::bind(&socket, &SocketAddrNetlink::new(0, groups))?;
    Ok(socket)
}
