//! Any bytes as a frame: what is found lies within it, and leaves and is found again as it was.
#![no_main]

use std::net::SocketAddr;

use libfuzzer_sys::fuzz_target;
use sipring::datapath::{Leaving, frame_overhead, parse_frame};
use sipring::packet::{FRAME_BYTES, HOP_HEADER_MAX};

/// The Ethernet header of what came in, turned into one to send by.
fn header(tags: [Option<(u16, u16)>; 2], v4: bool) -> Vec<u8> {
    let mut header = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    for (protocol, id) in tags.into_iter().flatten() {
        header.extend(protocol.to_be_bytes());
        header.extend(id.to_be_bytes());
    }
    header.extend(if v4 { [0x08, 0x00] } else { [0x86, 0xdd] });
    header
}

fuzz_target!(|bytes: &[u8]| {
    let Some(arrived) = parse_frame(bytes) else { return };
    assert!(arrived.at + arrived.len <= bytes.len());
    assert!(arrived.at >= 14 + frame_overhead(arrived.to.is_ipv4()));
    assert_eq!(arrived.source.is_ipv4(), arrived.to.is_ipv4());
    assert!(arrived.tags[0].is_some() || arrived.tags[1].is_none());
    assert!(arrived.tags.iter().flatten().all(|tag| tag.id < 4_096));
    let payload = &bytes[arrived.at..arrived.at + arrived.len];
    let ethernet = header(arrived.tags.map(|tag| tag.map(|tag| (tag.protocol, tag.id))), arrived.to.is_ipv4());
    assert!(ethernet.len() <= HOP_HEADER_MAX);
    let leaving = Leaving { ethernet: &ethernet, source: arrived.to, to: arrived.source, id: 1, dscp: bytes[0] & 63 };
    let mut frame = vec![0; leaving.headers()];
    frame.extend_from_slice(payload);
    let fits = leaving.write(&mut frame);
    assert_eq!(fits, frame.len() - ethernet.len() - if arrived.to.is_ipv4() { 0 } else { 40 } <= 65_535);
    if fits {
        let again = parse_frame(&frame).expect("what was written is whole");
        let same = |a: SocketAddr, b: SocketAddr| a.ip() == b.ip() && a.port() == b.port();
        assert!(same(again.source, arrived.to) && same(again.to, arrived.source));
        assert_eq!((again.tags, again.mac), (arrived.tags, [2, 0, 0, 0, 0, 1]));
        assert_eq!(&frame[again.at..again.at + again.len], payload);
        assert!(frame.len() <= FRAME_BYTES || payload.len() > FRAME_BYTES - 150);
    }
});
