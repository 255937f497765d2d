//! Userspace cost of a message, from scan to edited packet in the outbox: a call over the shard, no
//! sockets.
//!
//! `call` is the mean over INVITE, 200, ACK, BYE and 200; a sixth row carries SDP. The time of a row is
//! that of the product's own work on packets that have arrived: scan, route, edit, verdict, outbox. What
//! a datapath does is not in it: `replay` copies a batch into packets before, and frees them behind.
//! The rows that end in `-fed` hold both as well.
#![allow(clippy::disallowed_methods, reason = "a bench reads the clock")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::expect_used, reason = "a bench")]

#[path = "../tests/rig/call.rs"]
mod call;
#[path = "../tests/rig/mod.rs"]
mod rig;

use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use sipring::datapath::{Arrival, Batch, Datapath, Replay};
use sipring::packet::Sent;
use sipring::shard::Verdict;

use rig::Rig;

/// Passes the taped packets through the shard once; how many were forwarded, and how long the shard
/// took, in all and without what `replay` does.
fn pass(replay: &mut Replay, batch: &mut Batch, rig: &mut Rig) -> (u64, Duration, Duration) {
    let began = Instant::now();
    let mut own = Duration::ZERO;
    replay.rewind();
    let mut forwarded = 0;
    loop {
        batch.clear();
        replay.recv(batch, None).unwrap();
        if batch.packets.is_empty() {
            return (forwarded, own, began.elapsed());
        }
        let arrived = Instant::now();
        for mut packet in batch.packets.drain(..) {
            if let Verdict::Forward(egress) = rig.shard.handle(rig.now_ms, &mut packet, &mut rig.out) {
                rig.out.decided(packet, egress, Sent::Forwarded).unwrap();
                forwarded += 1;
            }
        }
        own += arrived.elapsed();
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
        assert_eq!(pass(&mut replay, &mut batch, &mut rig).0, u64::from(count), "{name}: everything is forwarded");
        for (what, fed) in [("", false), ("-fed", true)] {
            group.bench_function(format!("{name}{what}"), |bencher| {
                bencher.iter_custom(|rounds| {
                    let mut spent = Duration::ZERO;
                    for _ in 0..rounds {
                        let (_, own, all) = pass(&mut replay, &mut batch, &mut rig);
                        spent += if fed { all } else { own };
                    }
                    spent / count
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, shard);
criterion_main!(benches);
