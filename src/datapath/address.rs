//! Socket addresses as the kernel writes and reads them.
//!
//! Owns the buffer for one address, used by every header of every system call here; converts, and
//! never resolves a name.

use std::mem;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use libc::{AF_INET, AF_INET6, in_addr, in6_addr, sa_family_t, sockaddr_in, sockaddr_in6, socklen_t};

/// Room for an address of either family.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) union Name {
    v4: sockaddr_in,
    v6: sockaddr_in6,
}

impl Name {
    /// Bytes that the kernel may write.
    pub(super) const ROOM: socklen_t = mem::size_of::<Self>() as socklen_t;

    /// No address.
    pub(super) const NONE: Self = Self {
        v6: sockaddr_in6 {
            sin6_family: 0,
            sin6_port: 0,
            sin6_flowinfo: 0,
            sin6_addr: in6_addr { s6_addr: [0; 16] },
            sin6_scope_id: 0,
        },
    };

    /// Writes `address` for the kernel to read; the length that it takes.
    pub(super) fn write(&mut self, address: SocketAddr) -> socklen_t {
        match address {
            SocketAddr::V4(v4) => {
                self.v4 = sockaddr_in {
                    sin_family: AF_INET as sa_family_t,
                    sin_port: v4.port().to_be(),
                    sin_addr: in_addr { s_addr: u32::from_ne_bytes(v4.ip().octets()) },
                    sin_zero: [0; 8],
                };
                mem::size_of::<sockaddr_in>() as socklen_t
            }
            SocketAddr::V6(v6) => {
                self.v6 = sockaddr_in6 {
                    sin6_family: AF_INET6 as sa_family_t,
                    sin6_port: v6.port().to_be(),
                    sin6_flowinfo: 0,
                    sin6_addr: in6_addr { s6_addr: v6.ip().octets() },
                    sin6_scope_id: v6.scope_id(),
                };
                mem::size_of::<sockaddr_in6>() as socklen_t
            }
        }
    }

    /// Reads the `len` bytes that the kernel wrote; none if they are no address of IP.
    pub(super) fn read(&self, len: socklen_t) -> Option<SocketAddr> {
        // SAFETY: all bytes of the larger member are initialised from the start, any bits are a
        // valid value of either member, and both begin with the family.
        let (v4, v6) = unsafe { (&self.v4, &self.v6) };
        match i32::from(v4.sin_family) {
            AF_INET if len as usize >= mem::size_of::<sockaddr_in>() => {
                let ip = Ipv4Addr::from(v4.sin_addr.s_addr.to_ne_bytes());
                Some(SocketAddrV4::new(ip, u16::from_be(v4.sin_port)).into())
            }
            AF_INET6 if len as usize >= mem::size_of::<sockaddr_in6>() => {
                let ip = Ipv6Addr::from(v6.sin6_addr.s6_addr);
                // The flow label is the packet's, not the peer's: two packets of one peer are equal.
                Some(SocketAddrV6::new(ip, u16::from_be(v6.sin6_port), 0, v6.sin6_scope_id).into())
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_reads_as_it_was_written_and_half_of_one_not_at_all() {
        for text in ["192.0.2.7:5060", "[2001:db8::7]:5060", "[fe80::1%3]:65535"] {
            let address: SocketAddr = text.parse().unwrap();
            let mut name = Name::NONE;
            let len = name.write(address);
            assert_eq!(name.read(len), Some(address));
            assert_eq!(name.read(len - 1), None);
        }
        assert_eq!(Name::NONE.read(Name::ROOM), None);
    }
}
