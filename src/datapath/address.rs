//! Socket addresses as the kernel writes and reads them.
//!
//! Owns the buffer for one address, used by every header of every system call here; converts, and
//! never resolves a name.

use std::mem;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use libc::{AF_INET, AF_INET6, sa_family_t, sockaddr_in, sockaddr_in6, socklen_t};

const V4_LEN: usize = mem::size_of::<sockaddr_in>();
const V6_LEN: usize = mem::size_of::<sockaddr_in6>();

/// Room for an address of either family.
#[derive(Clone, Copy)]
#[repr(C, align(4))]
pub(super) struct Name([u8; V6_LEN]);

impl Name {
    /// Bytes that the kernel may write.
    pub(super) const ROOM: socklen_t = V6_LEN as socklen_t;

    /// No address.
    pub(super) const NONE: Self = Self([0; V6_LEN]);

    /// Writes `address` for the kernel to read; the length that it takes.
    pub(super) fn write(&mut self, address: SocketAddr) -> socklen_t {
        let family = if address.is_ipv4() { AF_INET } else { AF_INET6 } as sa_family_t;
        let [f0, f1, p0, p1, middle @ .., s0, s1, s2, s3] = &mut self.0;
        [*f0, *f1] = family.to_ne_bytes();
        [*p0, *p1] = address.port().to_be_bytes();
        let Some((first, rest)) = middle.split_first_chunk_mut() else { return 0 };
        match address {
            SocketAddr::V4(v4) => {
                *first = v4.ip().octets();
                rest.fill(0);
                V4_LEN as socklen_t
            }
            SocketAddr::V6(v6) => {
                *first = [0; 4];
                rest.copy_from_slice(&v6.ip().octets());
                [*s0, *s1, *s2, *s3] = v6.scope_id().to_ne_bytes();
                V6_LEN as socklen_t
            }
        }
    }

    /// Reads the `len` bytes that the kernel wrote; none if they are no address of IP.
    pub(super) fn read(&self, len: socklen_t) -> Option<SocketAddr> {
        read(self.0.get(..len as usize)?)
    }
}

/// Reads an address as the kernel writes it; none if it is none of IP, or a part of one.
#[inline]
pub(super) fn read(name: &[u8]) -> Option<SocketAddr> {
    let (&[f0, f1, p0, p1], rest) = name.split_first_chunk()?;
    let port = u16::from_be_bytes([p0, p1]);
    match i32::from(sa_family_t::from_ne_bytes([f0, f1])) {
        AF_INET if name.len() >= V4_LEN => {
            let (ip, _) = rest.split_first_chunk::<4>()?;
            Some(SocketAddrV4::new(Ipv4Addr::from(*ip), port).into())
        }
        AF_INET6 if name.len() >= V6_LEN => {
            // The flow label is the packet's, not the peer's: two packets of one peer are equal.
            let (_flow, rest) = rest.split_first_chunk::<4>()?;
            let (ip, rest) = rest.split_first_chunk::<16>()?;
            let (scope, _) = rest.split_first_chunk()?;
            Some(SocketAddrV6::new(Ipv6Addr::from(*ip), port, 0, u32::from_ne_bytes(*scope)).into())
        }
        _ => None,
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

    #[test]
    fn an_address_is_laid_out_as_the_kernel_has_it() {
        let mut name = Name::NONE;
        name.write("192.0.2.7:5060".parse().unwrap());
        // SAFETY: as long as a sockaddr_in6, aligned as one, and any bits are a valid value of both.
        let v4: sockaddr_in = unsafe { std::ptr::read((&raw const name).cast()) };
        assert_eq!((i32::from(v4.sin_family), v4.sin_port), (AF_INET, 5060_u16.to_be()));
        assert_eq!(v4.sin_addr.s_addr.to_ne_bytes(), [192, 0, 2, 7]);
        name.write("[fe80::7%3]:5060".parse().unwrap());
        // SAFETY: as above.
        let v6: sockaddr_in6 = unsafe { std::ptr::read((&raw const name).cast()) };
        assert_eq!((i32::from(v6.sin6_family), v6.sin6_port), (AF_INET6, 5060_u16.to_be()));
        assert_eq!((v6.sin6_addr.s6_addr[0], v6.sin6_addr.s6_addr[15], v6.sin6_scope_id), (0xfe, 7, 3));
    }
}
