//! Cookies: no text panics, and none verifies but the very one that signing its content gives.

#![no_main]

use std::net::SocketAddr;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use sipring::balance::{COOKIE_MAX, CookieKey, CookieKeys, CookieTarget, NodeId, PortTag, Role};

static KEYS: LazyLock<CookieKeys> =
    LazyLock::new(|| CookieKeys::new(&[CookieKey { id: 255, key: [2; 16] }], 255).expect("sound keys"));

/// Takes values off the front of the input; zeros behind its end.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        std::array::from_fn(|_| match self.0.split_first() {
            Some((byte, rest)) => {
                self.0 = rest;
                *byte
            }
            None => 0,
        })
    }

    fn byte(&mut self) -> u8 {
        let [byte] = self.take();
        byte
    }

    fn port(&mut self) -> u16 {
        u16::from_be_bytes(self.take())
    }

    fn addr(&mut self) -> SocketAddr {
        if self.byte() & 1 == 0 {
            SocketAddr::from((self.take::<4>(), self.port()))
        } else {
            SocketAddr::from((self.take::<16>(), self.port()))
        }
    }

    fn target(&mut self) -> CookieTarget {
        match self.byte() & 3 {
            0 => CookieTarget::Nothing { listener: PortTag(self.port()) },
            1 => CookieTarget::Node(NodeId(u32::from_be_bytes(self.take()))),
            2 => CookieTarget::Flow { listener: PortTag(self.port()), addr: self.addr() },
            _ => CookieTarget::Contact {
                flow: (PortTag(self.port()), self.addr()),
                original: if self.byte() & 1 == 0 { None } else { Some(self.addr()) },
            },
        }
    }
}

fn sign(role: Role, target: &CookieTarget, call: u64) -> Vec<u8> {
    let mut out = [0; COOKIE_MAX];
    let len = KEYS.sign(role, target, role.bound_to_call().then_some(call), &mut out);
    out[..len].to_vec()
}

/// The fuzzer reads MACs out of comparisons, so it does find texts that verify; but each of them
/// has to be the only one of its content.
fn check(text: &[u8], call: u64) {
    if let Ok(cookie) = KEYS.verify(text, || call) {
        assert_eq!(sign(cookie.role, &cookie.target, call), text);
    }
}

fuzz_target!(|data: &[u8]| {
    check(data, 0);
    let mut input = Input(data);
    let role = match input.byte() & 3 {
        0 => Role::EdgeFacing,
        1 => Role::NodeFacing,
        2 => Role::Path,
        _ => Role::Contact,
    };
    let target = input.target();
    let call = u64::from_be_bytes(input.take());
    let signed = sign(role, &target, call);
    let cookie = KEYS.verify(&signed, || call).expect("what was signed verifies");
    assert_eq!((cookie.role, cookie.target), (role, target));
    assert_eq!(KEYS.verify(&signed, || !call).is_ok(), !role.bound_to_call());

    let mut altered = signed;
    while !input.0.is_empty() {
        let (at, byte) = (usize::from(input.byte()), input.byte());
        match byte {
            0 => altered.truncate(at),
            1 => altered.push(at as u8),
            _ => {
                let len = altered.len().max(1);
                if let Some(place) = altered.get_mut(at % len) {
                    *place = byte;
                }
            }
        }
    }
    check(&altered, call);
});
