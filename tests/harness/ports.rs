//! Ports that nobody holds, below the range the kernel hands out by itself.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicU32, Ordering};

const FIRST: u32 = 12_000;
const COUNT: u32 = 20_000;

/// The first of `count` ports in a row, free on all addresses of both families and not given out before in this
/// process.
pub(crate) fn free(count: u16) -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    for _ in 0..COUNT {
        let at = NEXT.fetch_add(u32::from(count), Ordering::Relaxed) + std::process::id() % 200 * 100;
        let port = u16::try_from(FIRST + at % (COUNT - u32::from(count))).unwrap_or(u16::MAX);
        if (port..port + count).all(is_free) {
            return port;
        }
    }
    panic!("no {count} UDP ports in a row are free between {FIRST} and {}", FIRST + COUNT);
}

fn is_free(port: u16) -> bool {
    let binds = |ip: IpAddr| UdpSocket::bind((ip, port)).is_ok();
    binds(Ipv4Addr::UNSPECIFIED.into()) && binds(Ipv6Addr::UNSPECIFIED.into())
}

/// Whether the process `pid` sees a UDP socket bound to the port of `local` in its own network.
pub(crate) fn bound(pid: u32, local: SocketAddr) -> bool {
    let table = std::fs::read_to_string(format!("/proc/{pid}/net/{}", if local.is_ipv6() { "udp6" } else { "udp" }));
    let port = format!(":{:04X}", local.port());
    table.is_ok_and(|table| {
        let mut rows = table.lines().filter_map(|row| row.split_whitespace().nth(1));
        rows.any(|address| address.ends_with(&port))
    })
}
