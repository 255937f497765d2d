//! The program at the interface: which frames come to us, and which are the kernel's.
//!
//! Ours are UDP datagrams in one piece to an address and port of the map, over IPv4 without options or
//! IPv6 without extension headers, behind up to two VLAN tags. Everything else passes to the kernel:
//! TCP, ARP, neighbour discovery, ICMP, fragments, other ports, frames longer than ours.

use std::io;
use std::net::{IpAddr, SocketAddr};

use super::assemble::{Assembly, Label, Reg, When, Width};
use super::bpf::Map;
use crate::packet::FRAME_BYTES;

/// Bytes that the kernel keeps free in front of every frame, besides [`KERNEL_ROOM`].
const ROOM_BEFORE: usize = 256;
/// Bytes in front of a received frame that the kernel is asked for, beyond its own: with the shortest
/// headers behind them, a packet has its whole head room.
pub(super) const KERNEL_ROOM: usize = 448;
/// Bytes that some kernels want behind a frame.
const ROOM_BEHIND: usize = 320;
/// Longest frame that is taken.
pub(super) const LENGTH_MAX: usize = FRAME_BYTES - ROOM_BEFORE - KERNEL_ROOM - ROOM_BEHIND;

/// Bytes of a key of the ports' map: port, family, address.
pub(super) const KEY_BYTES: usize = 20;

const LOOKUP: i32 = 1;
const REDIRECT: i32 = 51;
/// Verdict of the program, and of a redirect to a queue without a socket.
const PASS: i32 = 2;

/// Where the received queue stands in the program's context.
const QUEUE: i16 = 16;
/// Lengths of headers.
const ETHERNET: i32 = 14;
const IPV4: i32 = 20;
const IPV6: i32 = 40;
const UDP: i32 = 8;
const PROTOCOL_UDP: i32 = 17;

const R0: Reg = Reg(0);
const R1: Reg = Reg(1);
const R2: Reg = Reg(2);
const R3: Reg = Reg(3);
const R4: Reg = Reg(4);
const R5: Reg = Reg(5);
const CONTEXT: Reg = Reg(6);
/// The frame, moved on behind every tag.
const FRAME: Reg = Reg(7);
const END: Reg = Reg(8);
const STACK: Reg = Reg(10);

/// Where the key stands on the stack.
const KEY: i16 = -24;

/// The key of a local port.
pub(super) fn key(port: SocketAddr) -> [u8; KEY_BYTES] {
    let mut key = [0; KEY_BYTES];
    let [p0, p1] = port.port().to_be_bytes();
    let (family, address): (u16, [u8; 16]) = match port.ip() {
        IpAddr::V4(ip) => {
            let [a, b, c, d] = ip.octets();
            (4, [a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
        }
        IpAddr::V6(ip) => (6, ip.octets()),
    };
    let [f0, f1] = family.to_ne_bytes();
    for (to, from) in key.iter_mut().zip([p0, p1, f0, f1].into_iter().chain(address)) {
        *to = from;
    }
    key
}

/// The program for one interface: `ports` holds our addresses and ports, `sockets` the interface's
/// sockets by queue.
pub(super) fn program(ports: &Map, sockets: &Map) -> io::Result<Vec<u64>> {
    let mut code = Assembly::default();
    let (pass, v4, v6, find) = (code.label(), code.label(), code.label(), code.label());
    code.copy(CONTEXT, R1);
    code.load(Width::Four, FRAME, CONTEXT, 0);
    code.load(Width::Four, END, CONTEXT, 4);
    // Longer than a slot has room for: lost, if it came to the socket.
    let short = code.label();
    code.copy(R4, FRAME);
    code.add(R4, LENGTH_MAX as i32);
    code.jump_if_reg(R4, When::AtLeast, END, short);
    code.jump(pass);
    code.here(short);
    tags(&mut code, pass);
    for at in [KEY, KEY + 8] {
        code.store_value(Width::Eight, STACK, at, 0);
    }
    code.store_value(Width::Four, STACK, KEY + 16, 0);
    code.jump_if(R5, When::Equal, network_order(0x0800), v4);
    code.jump_if(R5, When::Equal, network_order(0x86dd), v6);
    code.jump(pass);
    code.here(v4);
    of_ipv4(&mut code, pass);
    code.jump(find);
    code.here(v6);
    of_ipv6(&mut code, pass);
    code.here(find);
    code.map(R1, ports.number());
    code.copy(R2, STACK);
    code.add(R2, i32::from(KEY));
    code.call(LOOKUP);
    code.jump_if(R0, When::Equal, 0, pass);
    code.map(R1, sockets.number());
    code.load(Width::Four, R2, CONTEXT, QUEUE);
    code.set(R3, PASS);
    code.call(REDIRECT);
    code.exit();
    code.here(pass);
    code.set(R0, PASS);
    code.exit();
    code.finish()
}

/// Leaves the type of what is behind the tags in register 5.
fn tags(code: &mut Assembly, pass: Label) {
    let plain = code.label();
    reach(code, ETHERNET, pass);
    code.load(Width::Two, R5, FRAME, 12);
    for _ in 0..2 {
        let tag = code.label();
        code.jump_if(R5, When::Equal, network_order(0x8100), tag);
        code.jump_if(R5, When::NotEqual, network_order(0x88a8), plain);
        code.here(tag);
        code.add(FRAME, 4);
        reach(code, ETHERNET, pass);
        code.load(Width::Two, R5, FRAME, 12);
    }
    code.here(plain);
}

fn of_ipv4(code: &mut Assembly, pass: Label) {
    let ip = ETHERNET as i16;
    reach(code, ETHERNET + IPV4 + UDP, pass);
    code.load(Width::One, R0, FRAME, ip);
    code.jump_if(R0, When::NotEqual, 0x45, pass);
    code.load(Width::One, R0, FRAME, ip + 9);
    code.jump_if(R0, When::NotEqual, PROTOCOL_UDP, pass);
    // More fragments, or an offset: not in one piece.
    code.load(Width::Two, R0, FRAME, ip + 6);
    code.and(R0, network_order(0x3fff));
    code.jump_if(R0, When::NotEqual, 0, pass);
    code.load(Width::Four, R0, FRAME, ip + 16);
    code.store(Width::Four, STACK, KEY + 4, R0);
    code.load(Width::Two, R0, FRAME, ip + IPV4 as i16 + 2);
    code.store(Width::Two, STACK, KEY, R0);
    code.store_value(Width::Two, STACK, KEY + 2, 4);
}

fn of_ipv6(code: &mut Assembly, pass: Label) {
    let ip = ETHERNET as i16;
    reach(code, ETHERNET + IPV6 + UDP, pass);
    code.load(Width::One, R0, FRAME, ip);
    code.and(R0, 0xf0);
    code.jump_if(R0, When::NotEqual, 0x60, pass);
    // An extension header stands here, a fragment's too.
    code.load(Width::One, R0, FRAME, ip + 6);
    code.jump_if(R0, When::NotEqual, PROTOCOL_UDP, pass);
    for part in (0..16).step_by(4) {
        code.load(Width::Four, R0, FRAME, ip + 24 + part);
        code.store(Width::Four, STACK, KEY + 4 + part, R0);
    }
    code.load(Width::Two, R0, FRAME, ip + IPV6 as i16 + 2);
    code.store(Width::Two, STACK, KEY, R0);
    code.store_value(Width::Two, STACK, KEY + 2, 6);
}

/// Goes on only if the frame has `bytes` bytes.
fn reach(code: &mut Assembly, bytes: i32, pass: Label) {
    code.copy(R4, FRAME);
    code.add(R4, bytes);
    code.jump_if_reg(R4, When::Above, END, pass);
}

/// A number of two bytes as it is loaded from a frame.
fn network_order(number: u16) -> i32 {
    i32::from(number.to_be())
}
