//! What waits in the kernel for our sockets, and what the process uses, read from /proc.
//!
//! Keeps the drops of every socket seen, so that the sum never falls when a socket closes. Driven by
//! scrapes; opens nothing but files of /proc.

use std::collections::HashMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::packet::PortRole;
use crate::shard::Port;

/// Ticks of a second in /proc, the same on all of Linux' platforms.
const TICKS_A_SECOND: f64 = 100.0;
/// What worker ports are called together.
const WORKER_PORTS: &str = "worker_ports";

/// What waits at the sockets of one port.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::control) struct Queued {
    pub(super) port: String,
    pub(super) sockets: u64,
    pub(super) receive_bytes: u64,
    pub(super) send_bytes: u64,
    /// Since the start.
    pub(super) drops: u64,
}

/// The sockets as they were seen last.
#[derive(Debug, Default)]
pub(in crate::control) struct Kernel {
    /// By inode.
    drops: HashMap<u64, u64>,
    /// By port, also of sockets that are gone.
    sums: HashMap<String, u64>,
}

/// One line of /proc/net/udp.
struct Socket {
    bind: SocketAddr,
    send_bytes: u64,
    receive_bytes: u64,
    inode: u64,
    drops: u64,
}

impl Kernel {
    /// Reads the tables of the kernel, and sums them up by port.
    pub(in crate::control) fn sample(&mut self, ports: &[Port]) -> Vec<Queued> {
        let tables = ["/proc/thread-self/net/udp", "/proc/thread-self/net/udp6"];
        let texts: Vec<String> = tables.iter().filter_map(|table| fs::read_to_string(table).ok()).collect();
        let sockets: Vec<Socket> = texts.iter().flat_map(|text| text.lines().skip(1)).filter_map(socket).collect();
        self.sum(ports, &sockets)
    }

    fn sum(&mut self, ports: &[Port], sockets: &[Socket]) -> Vec<Queued> {
        let mut queued: Vec<Queued> = Vec::new();
        let mut places: HashMap<SocketAddr, usize> = HashMap::new();
        for port in ports {
            let name = match port.local.role {
                PortRole::Listener => port.name.as_str(),
                PortRole::Worker { .. } => WORKER_PORTS,
            };
            let at = queued.iter().position(|queued| queued.port == name).unwrap_or(queued.len());
            if at == queued.len() {
                queued.push(Queued { port: name.to_owned(), ..Queued::default() });
            }
            places.insert(port.local.bind, at);
        }
        let mut alive = HashMap::new();
        for socket in sockets {
            let Some(row) = places.get(&socket.bind).and_then(|at| queued.get_mut(*at)) else { continue };
            row.sockets += 1;
            row.receive_bytes += socket.receive_bytes;
            row.send_bytes += socket.send_bytes;
            let before = self.drops.get(&socket.inode).copied().filter(|before| *before <= socket.drops);
            *self.sums.entry(row.port.clone()).or_default() += socket.drops - before.unwrap_or(0);
            alive.insert(socket.inode, socket.drops);
        }
        self.drops = alive;
        for row in &mut queued {
            row.drops = self.sums.get(&row.port).copied().unwrap_or_default();
        }
        queued
    }
}

/// `sl local remote st tx:rx tr:when retransmits uid timeout inode ref pointer drops`.
fn socket(line: &str) -> Option<Socket> {
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let (send, receive) = fields.get(4)?.split_once(':')?;
    let hex = |text: &str| u64::from_str_radix(text, 16).ok();
    Some(Socket {
        bind: address(fields.get(1)?)?,
        send_bytes: hex(send)?,
        receive_bytes: hex(receive)?,
        inode: fields.get(9)?.parse().ok()?,
        drops: fields.get(12)?.parse().ok()?,
    })
}

/// Words of the address as this machine reads them from memory, and the port.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let word = |at: usize| u32::from_str_radix(ip.get(at * 8..at * 8 + 8)?, 16).ok().map(u32::to_ne_bytes);
    let ip = if ip.len() == 8 {
        IpAddr::V4(Ipv4Addr::from(word(0)?))
    } else {
        let words = [word(0)?, word(1)?, word(2)?, word(3)?];
        IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(words.concat()).ok()?))
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}

/// What the process uses.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Process {
    pub(super) cpu_s: f64,
    pub(super) resident_bytes: f64,
    pub(super) descriptors: f64,
}

impl Process {
    pub(super) fn read() -> Self {
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        // Behind the name, which may hold anything: state is the first, utime the 12th field.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_ascii_whitespace().collect();
        let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok()).unwrap_or_default();
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"));
        Self {
            cpu_s: (ticks(11) + ticks(12)) / TICKS_A_SECOND,
            resident_bytes: resident.and_then(|kb| kb.parse::<f64>().ok()).unwrap_or_default() * 1024.0,
            descriptors: fs::read_dir("/proc/self/fd").map_or(0, Iterator::count) as f64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(bind: &str, inode: u64, drops: u64) -> Socket {
        Socket { bind: bind.parse().unwrap(), send_bytes: 0, receive_bytes: 5, inode, drops }
    }

    #[test]
    fn a_line_of_the_kernel_is_read() {
        let line = "  3063: 0100007F:13C4 00000000:0000 07 00000010:00000A00 00:00000000 00000000     0        0 41234 2 0000000000000000 7";
        let socket = socket(line).unwrap();
        assert_eq!(socket.bind, "127.0.0.1:5060".parse().unwrap());
        assert_eq!((socket.send_bytes, socket.receive_bytes, socket.inode, socket.drops), (16, 2560, 41234, 7));
        let v6 = address("00000000000000000000000001000000:13C4").unwrap();
        assert_eq!(v6, "[::1]:5060".parse().unwrap());
    }

    #[test]
    fn drops_of_a_socket_that_is_gone_are_still_counted() {
        let port = |name: &str, bind: &str, role| Port {
            local: crate::packet::LocalPort { bind: bind.parse().unwrap(), role },
            name: name.to_owned(),
            tag: crate::balance::PortTag(0),
            edge: true,
            node: false,
            advertise: bind.to_owned(),
            aliases: Vec::new(),
            force_rport: crate::shard::ForceRport::Auto,
        };
        let ports = [
            port("edge", "127.0.0.1:5060", PortRole::Listener),
            port("w0", "127.0.0.1:5070", PortRole::Worker { index: 0 }),
            port("w1", "127.0.0.1:5071", PortRole::Worker { index: 1 }),
        ];
        let mut kernel = Kernel::default();
        let both = [at("127.0.0.1:5060", 1, 3), at("127.0.0.1:5060", 2, 4), at("127.0.0.9:5060", 3, 99)];
        let edge = kernel.sum(&ports, &both).remove(0);
        assert_eq!((edge.sockets, edge.receive_bytes, edge.drops), (2, 10, 7));
        let queued = kernel.sum(&ports, &[at("127.0.0.1:5060", 1, 5), at("127.0.0.1:5071", 4, 1)]);
        assert_eq!(queued.iter().map(|row| row.drops).collect::<Vec<_>>(), [9, 1]);
        assert_eq!(queued.last().map(|row| row.port.as_str()), Some("worker_ports"));
    }
}
