//! Userspace cost of a message, from scan to edited packet: a call over the shard, no sockets.
//!
//! `call` is the mean over INVITE, 200, ACK, BYE and 200; a sixth row carries SDP.
#![allow(clippy::disallowed_methods, reason = "a bench reads the clock")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::expect_used, reason = "a bench")]

#[path = "../tests/rig/call.rs"]
mod call;
#[path = "../tests/rig/mod.rs"]
mod rig;

use std::hint::black_box;
use std::time::Instant;

use criterion::{Criterion, criterion_group, criterion_main};
use sipring::datapath::{Arrival, Batch, Datapath, Replay};
use sipring::packet::Sent;
use sipring::shard::Verdict;

use rig::Rig;

/// Passes the taped packets through the shard once; how many were forwarded.
fn pass(replay: &mut Replay, batch: &mut Batch, rig: &mut Rig) -> u64 {
    replay.rewind();
    let mut forwarded = 0;
    loop {
        batch.clear();
        replay.recv(batch, None).unwrap();
        if batch.packets.is_empty() {
            return forwarded;
        }
        for mut packet in batch.packets.drain(..) {
            if let Verdict::Forward(egress) = rig.shard.handle(rig.now_ms, &mut packet, &mut rig.out) {
                rig.out.decided(packet, egress, Sent::Forwarded).unwrap();
                forwarded += 1;
            }
        }
        replay.send(&mut rig.out);
    }
}

/// Passes the taped packets through the turn without a shard: what the bench itself costs.
fn idle(replay: &mut Replay, batch: &mut Batch, rig: &mut Rig) -> u64 {
    replay.rewind();
    let egress = rig::some_egress();
    let mut forwarded = 0;
    loop {
        batch.clear();
        replay.recv(batch, None).unwrap();
        if batch.packets.is_empty() {
            return forwarded;
        }
        for packet in batch.packets.drain(..) {
            rig.out.decided(packet, egress, Sent::Forwarded).unwrap();
            forwarded += 1;
        }
        replay.send(&mut rig.out);
    }
}

fn shard(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("shard");
    for (name, messages) in call::rows() {
        let mut rig = Rig::bench();
        let mut replay = Replay::new(rig.pool).unwrap();
        replay.keep(false);
        let copies = 64 / messages.len().max(1);
        let tape = std::iter::repeat_n(&messages, copies).flatten();
        replay.tape(tape.map(|m| Arrival { bytes: &m.bytes, port: m.port, source: m.source }));
        let count = (copies * messages.len()) as u32;
        let mut batch = Batch::new(64);
        assert_eq!(pass(&mut replay, &mut batch, &mut rig), u64::from(count), "{name}: everything is forwarded");
        for (what, run) in [("", pass as fn(&mut Replay, &mut Batch, &mut Rig) -> u64), ("-empty", idle)] {
            group.bench_function(format!("{name}{what}"), |bencher| {
                bencher.iter_custom(|rounds| {
                    let start = Instant::now();
                    for _ in 0..rounds {
                        black_box(run(&mut replay, &mut batch, &mut rig));
                    }
                    start.elapsed() / count
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, shard);
criterion_main!(benches);
