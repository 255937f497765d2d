//! The sockets that probes leave from: one an address family, at the node side's address.
//!
//! Ports of their own, so that no answer to a probe ever reaches a worker. Errors that come back by
//! ICMP are not asked for: a probe that nobody answers says it all.

use std::io;
use std::net::{IpAddr, SocketAddr};

use tokio::net::UdpSocket;

use super::monitor::Token;
use super::probe;

/// Longest answer that is read, bytes; of a longer one the head is enough.
const ANSWER_MAX: usize = 4_096;
/// Answers read at a time.
const ANSWERS_MAX: usize = 256;

struct Door {
    socket: UdpSocket,
    local: SocketAddr,
}

/// The open sockets.
#[derive(Default)]
pub(super) struct Doors {
    wanted: Vec<IpAddr>,
    open: Vec<Door>,
}

impl Doors {
    /// Of the addresses that the node side is bound to; none is open yet.
    pub(super) fn new(wanted: Vec<IpAddr>) -> Self {
        Self { wanted, open: Vec::new() }
    }

    /// Opens what is not open. To be called within the runtime; again after a failure.
    pub(super) fn open(&mut self) {
        for ip in self.wanted.clone() {
            if self.open.iter().any(|door| door.local.ip() == ip) {
                continue;
            }
            match open(ip) {
                Ok(door) => self.open.push(door),
                Err(error) => tracing::error!(from = %ip, %error, "probes_impossible"),
            }
        }
    }

    pub(super) fn are_open(&self) -> bool {
        self.open.len() >= self.wanted.len()
    }

    /// Waits until an answer is there.
    pub(super) async fn readable(&self) {
        std::future::poll_fn(|context| {
            let ready = self.open.iter().any(|door| door.socket.poll_recv_ready(context).is_ready());
            if ready { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
        })
        .await;
    }

    /// Reads the answers that are there, some at a time.
    pub(super) fn answers(&self, mut take: impl FnMut(SocketAddr, Token, u16)) {
        let mut buffer = [0; ANSWER_MAX];
        for door in &self.open {
            for _ in 0..ANSWERS_MAX {
                let Ok((length, source)) = door.socket.try_recv_from(&mut buffer) else { break };
                if let Some((token, code)) = probe::response(buffer.get(..length).unwrap_or_default()) {
                    take(SocketAddr::new(source.ip(), source.port()), token, code);
                }
            }
        }
    }

    /// Sends a probe; false if there is no socket of that family. What the kernel refuses counts as
    /// sent: a node that cannot be sent to does not answer.
    pub(super) fn send(&self, to: SocketAddr, token: Token) -> bool {
        let Some(door) = self.open.iter().find(|door| door.local.is_ipv4() == to.is_ipv4()) else { return false };
        let _ = door.socket.try_send_to(&probe::request(token, door.local, to), to);
        true
    }
}

fn open(ip: IpAddr) -> io::Result<Door> {
    let socket = std::net::UdpSocket::bind(SocketAddr::new(ip, 0))?;
    socket.set_nonblocking(true)?;
    let socket = UdpSocket::from_std(socket)?;
    let local = socket.local_addr()?;
    Ok(Door { socket, local })
}
