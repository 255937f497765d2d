//! Which sockets calls begin at: the addresses given, spread over as many as were asked for.
//!
//! Driven by the command line. Asks the kernel for a route where no address was given; keeps nothing
//! open.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// One address for each of `count` sockets towards `to`; none: as many as addresses, or workers.
pub(crate) fn spread(
    from: &[SocketAddr],
    count: Option<usize>,
    to: SocketAddr,
    workers: usize,
) -> Result<Vec<SocketAddr>, String> {
    let any: IpAddr = match to {
        _ if to.ip().is_loopback() => to.ip(),
        SocketAddr::V4(_) => route(to).unwrap_or(Ipv4Addr::UNSPECIFIED.into()),
        SocketAddr::V6(_) => route(to).unwrap_or(Ipv6Addr::UNSPECIFIED.into()),
    };
    let own = if any.is_loopback() && any.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { any };
    let own = [SocketAddr::new(own, 0)];
    let from = if from.is_empty() { &own[..] } else { from };
    let count = count.unwrap_or(from.len().max(workers));
    if count < from.len() {
        return Err(format!("{count} sources are fewer than the {} addresses of --from", from.len()));
    }
    let fixed = from.iter().any(|from| from.port() != 0);
    if fixed && count > from.len() {
        // From a port given, ports are counted upwards.
        return (0..count)
            .zip(from.iter().cycle())
            .map(|(index, address)| {
                let port = u16::try_from(index / from.len()).ok().and_then(|up| address.port().checked_add(up));
                port.map(|port| SocketAddr::new(address.ip(), port)).ok_or_else(|| "ports beyond 65535".to_owned())
            })
            .collect();
    }
    Ok(from.iter().copied().cycle().take(count).collect())
}

/// The local address from which the kernel would send to `to`.
fn route(to: SocketAddr) -> Option<IpAddr> {
    let any: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect(to).ok()?;
    Some(socket.local_addr().ok()?.ip())
}
