//! What carrying packets costs apart from the kernel, and with it on loopback.
//!
//! `replay` is the floor under every bench of the layers above; `mmsg` and `uring` send a batch
//! to themselves and receive it; `wheel` arms, cancels and fires at a thousand and at a million timers.

#![expect(clippy::unwrap_used, reason = "a failed step fails the bench")]

use std::hint::black_box;
use std::net::SocketAddr;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use sipring::datapath::{Arrival, Batch, Datapath, Mmsg, Options, Replay, Uring, Waker};
use sipring::packet::{Egress, Endpoints, LocalPort, Outbox, PeerId, Pool, PoolOptions, PortId, PortRole, Sent};
use sipring::wheel::Wheel;

const BATCH: usize = 64;

/// One turn: what came in goes out to `egress`.
fn turn(path: &mut impl Datapath, batch: &mut Batch, out: &mut Outbox, egress: Egress) {
    path.recv(batch, Some(Duration::from_secs(1))).unwrap();
    for packet in batch.packets.drain(..) {
        out.decided(packet, egress, Sent::Forwarded).unwrap();
    }
    path.send(out);
}

fn replay(c: &mut Criterion) {
    let mut group = c.benchmark_group("replay");
    group.throughput(Throughput::Elements(BATCH as u64));
    let source: SocketAddr = "192.0.2.1:5060".parse().unwrap();
    for length in [0, 400, 1_400] {
        let pool = Pool::new(&PoolOptions { slots: 256, threads: 1 }).unwrap();
        let mut path = Replay::new(pool).unwrap();
        path.keep(false);
        let bytes = vec![b'x'; length];
        path.tape((0..BATCH).map(|_| Arrival { bytes: &bytes, port: PortId(0), source }));
        let (mut batch, mut out) = (Batch::new(BATCH), Outbox::new(pool, BATCH));
        let egress = Egress { port: PortId(0), peer: PeerId::NONE, to: source };
        group.bench_function(format!("turn of {length} bytes"), |b| {
            b.iter(|| {
                path.rewind();
                turn(&mut path, &mut batch, &mut out, egress);
            });
        });
    }
    group.finish();
}

/// Sends a batch to itself and receives it, over a datapath on kernel sockets.
fn sockets<D: Datapath>(c: &mut Criterion, name: &str, open: Open<D>, local: fn(&D, PortId) -> Option<SocketAddr>) {
    let mut group = c.benchmark_group(name);
    group.throughput(Throughput::Elements(BATCH as u64));
    let bind: SocketAddr = "127.0.0.1:0".parse().unwrap();
    for (name, peer) in [("unconnected", PeerId::NONE), ("connected", PeerId(0))] {
        let pool = Pool::new(&PoolOptions { slots: 1_024, threads: 1 }).unwrap();
        let ports = [PortRole::Worker { index: 0 }, PortRole::Listener].map(|role| LocalPort { bind, role });
        let options = Options { ports: ports.to_vec(), ..Options::default() };
        let mut path = open(&options, pool, Waker::new().unwrap()).unwrap();
        let to = local(&path, PortId(1)).unwrap();
        path.apply(&Endpoints { peers: vec![to] });
        let (mut batch, mut out) = (Batch::new(BATCH), Outbox::new(pool, BATCH));
        let egress = Egress { port: PortId(0), peer, to };
        for _ in 0..BATCH {
            let mut packet = path.take().unwrap();
            assert!(packet.replace(&[b'x'; 400]));
            out.decided(packet, egress, Sent::Originated).unwrap();
        }
        path.send(&mut out);
        group.bench_function(format!("turn of 400 bytes, {name}"), |b| {
            b.iter(|| turn(&mut path, &mut batch, &mut out, egress));
        });
        assert_eq!(path.counts().send_errors.sum(), 0);
    }
    group.finish();
}

type Open<D> = fn(&Options, &'static Pool, Waker) -> std::io::Result<D>;

fn mmsg(c: &mut Criterion) {
    sockets(c, "mmsg", Mmsg::open, Mmsg::local);
}

fn uring(c: &mut Criterion) {
    sockets(c, "uring", Uring::open, Uring::local);
}

fn wheel(c: &mut Criterion) {
    let mut group = c.benchmark_group("wheel");
    for timers in [1_000u64, 1_000_000] {
        let mut wheel = Wheel::new(0, timers as usize + 1);
        let mut now = 0;
        // Spread like timers of 32 s: what fires is armed again.
        for key in 0..timers {
            wheel.arm(key * 32_000 / timers, key as u32).unwrap();
        }
        group.bench_function(format!("arm and fire among {timers}"), |b| {
            b.iter(|| {
                let mut key = None;
                while wheel.expire(now, 1, |fired| key = Some(fired)) == 0 {
                    now = now.max(wheel.next_at().unwrap());
                }
                wheel.arm(now + 32_000, key.unwrap()).unwrap()
            });
        });
        group.bench_function(format!("arm and cancel among {timers}"), |b| {
            b.iter(|| {
                let handle = wheel.arm(black_box(now + 32_000), 0).unwrap();
                wheel.cancel(handle)
            });
        });
    }
    group.finish();
}

criterion_group!(benches, replay, mmsg, uring, wheel);
criterion_main!(benches);
