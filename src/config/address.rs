//! Addresses and names as files write them: `host`, `host:port`, IPv6 with or without brackets.
//!
//! Pure text to values; the words of refusal are given back, the place is the caller's.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// An address, or a name to resolve.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Host {
    Ip(IpAddr),
    /// Lower case, no dot at the end.
    Name(String),
}

impl fmt::Display for Host {
    /// As in a URI: IPv6 in brackets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]"),
            Self::Ip(ip) => ip.fmt(f),
            Self::Name(name) => f.write_str(name),
        }
    }
}

/// Splits `host` or `host:port`.
pub(super) fn host_port(text: &str) -> Result<(Host, Option<u16>), String> {
    let right = "an address or a name, with or without `:port`, is right";
    if let Ok(addr) = text.parse::<SocketAddr>() {
        return port_of(addr.port()).map(|port| (Host::Ip(addr.ip()), Some(port)));
    }
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    if let Ok(ip) = bare.parse::<IpAddr>() {
        return Ok((Host::Ip(ip), None));
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) => {
            let port = port.parse().map_err(|_| format!("`{port}` is no port; 1 to 65535 is right"))?;
            (host, Some(port_of(port)?))
        }
        None => (text, None),
    };
    let name = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    if name.len() > 253 || !name.split('.').all(is_label) {
        return Err(format!("`{text}` is no address and no host name; {right}"));
    }
    // All digits in the last label: an address mistyped (RFC 1123 2.1).
    if name.rsplit('.').next().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit())) {
        return Err(format!("`{host}` is no IPv4 address; {right}"));
    }
    Ok((Host::Name(name), port))
}

/// An address to bind: concrete, with a port.
pub(super) fn bind(text: &str) -> Result<SocketAddr, String> {
    let addr: SocketAddr = text.parse().map_err(|_| {
        format!("`{text}` is no address with a port; `192.0.2.1:5060` or `[2001:db8::1]:5060` is right")
    })?;
    port_of(addr.port())?;
    if addr.ip().is_unspecified() {
        return Err(format!(
            "`{text}` binds every address, but Via and Record-Route must name the one that a packet leaves from, and \
             `advertise` does not replace it; bind one concrete address, in one table each"
        ));
    }
    if addr.ip().is_multicast() {
        return Err(format!("`{text}` is a multicast address; an address of this machine is right"));
    }
    if let SocketAddr::V6(addr) = addr
        && (addr.scope_id() != 0 || addr.ip().is_unicast_link_local() || addr.ip().to_ipv4_mapped().is_some())
    {
        return Err(format!(
            "`{text}` is a link-local or mapped address, which Via cannot name; a global or unique local one is right"
        ));
    }
    Ok(addr)
}

/// A range of ports: `5070-5077`, or one port.
pub(super) fn ports(text: &str) -> Result<std::ops::RangeInclusive<u16>, String> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    match (first.trim().parse::<u16>(), last.trim().parse::<u16>()) {
        (Ok(first), Ok(last)) if first > 0 && first <= last => Ok(first..=last),
        _ => Err(format!("`{text}` is no range of ports; `5070-5077` is right")),
    }
}

/// A network: `192.0.2.0/24`, or one address.
pub(super) fn net(text: &str) -> Result<ipnet::IpNet, String> {
    text.parse::<IpAddr>()
        .map(ipnet::IpNet::from)
        .or_else(|_| text.parse::<ipnet::IpNet>().map(|net| net.trunc()))
        .map_err(|_| format!("`{text}` is no network; `192.0.2.0/24` or one address is right"))
}

fn port_of(port: u16) -> Result<u16, String> {
    if port == 0 { Err("port 0 is no port; 1 to 65535 is right".to_owned()) } else { Ok(port) }
}

fn is_label(label: &str) -> bool {
    let sound = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    (1..=63).contains(&label.len()) && label.bytes().all(sound)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_write_a_host_is_told_apart() {
        let name = |text: &str| Host::Name(text.into());
        let ip = |text: &str| Host::Ip(text.parse().unwrap());
        for (text, host, port) in [
            ("10.0.0.1", ip("10.0.0.1"), None),
            ("10.0.0.1:5070", ip("10.0.0.1"), Some(5070)),
            ("2001:db8::1", ip("2001:db8::1"), None),
            ("[2001:db8::1]", ip("2001:db8::1"), None),
            ("[2001:db8::1]:5070", ip("2001:db8::1"), Some(5070)),
            ("PBX1.example.com.", name("pbx1.example.com"), None),
            ("pbx-1:5070", name("pbx-1"), Some(5070)),
        ] {
            assert_eq!(host_port(text).unwrap(), (host, port), "{text}");
        }
        for bad in ["", "10.0.0.256", "10.0.0.1:0", "10.0.0.1:99999", "a b", "a..b", "pbx:", "sip:pbx", "[::1", "1.2.3"]
        {
            assert!(host_port(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn only_a_concrete_address_can_be_bound() {
        assert!(bind("192.0.2.1:5060").is_ok() && bind("[2001:db8::1]:5060").is_ok());
        for bad in ["0.0.0.0:5060", "[::]:5060", "192.0.2.1", "192.0.2.1:0", "224.0.1.75:5060", "host:5060"] {
            assert!(bind(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn ranges_and_networks_are_read_strictly() {
        assert_eq!(ports("5070-5077").unwrap(), 5070..=5077);
        assert_eq!(ports("5070").unwrap(), 5070..=5070);
        assert!(["5077-5070", "0-5", "a-b", "", "5070-", "1-70000"].iter().all(|bad| ports(bad).is_err()));
        assert_eq!(net("192.0.2.9/24").unwrap().to_string(), "192.0.2.0/24");
        assert_eq!(net("2001:db8::1").unwrap().to_string(), "2001:db8::1/128");
        assert!(net("192.0.2.0/33").is_err());
    }
}
