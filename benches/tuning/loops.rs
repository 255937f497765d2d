//! Loops over sipring's own datapath, in one thread.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use sipring::balance::{CookieKey, CookieKeys, PortTag, Secrets};
use sipring::datapath::{Batch, Datapath, Groups, Mmsg, Options, Steered, Waker};
use sipring::packet::{
    Egress, Endpoints, LocalPort, Outbox, PeerId, Pool, PoolOptions, PortId, PortRole, Sent, WorkerId,
};
use sipring::shard::{ForceRport, NodeSide, Port, Site, steering as programs};

use super::Variant;
use super::raw::{advise_huge, cpu_ns};

/// Datagrams in one run.
const DATAGRAMS: usize = 64 * 1_024;

fn any() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

/// A socket that sends to itself: how long a datagram takes, both ways together.
fn to_itself(batch_max: usize, pool: &'static Pool) -> impl FnMut() -> Vec<f64> {
    let ports = [PortRole::Worker { index: 0 }, PortRole::Listener].map(|role| LocalPort { bind: any(), role });
    let options = Options { ports: ports.to_vec(), batch: batch_max, ..Options::default() };
    let mut path = Mmsg::open(&options, pool, Waker::new().unwrap()).unwrap();
    let to = path.local(PortId(1)).unwrap();
    path.apply(&Endpoints { peers: vec![to] });
    let (mut batch, mut out) = (Batch::new(batch_max), Outbox::new(pool, batch_max));
    let egress = Egress { port: PortId(0), peer: PeerId(0), to };
    for _ in 0..batch_max {
        let mut packet = path.take().unwrap();
        assert!(packet.replace(&[b'x'; 400]));
        out.decided(packet, egress, Sent::Originated).unwrap();
    }
    path.send(&mut out);
    move || {
        let (begun, mut carried) = (cpu_ns(), 0);
        while carried < DATAGRAMS {
            path.recv(&mut batch, Some(Duration::from_secs(1))).unwrap();
            carried += batch.packets.len();
            for packet in batch.packets.drain(..) {
                out.decided(packet, egress, Sent::Forwarded).unwrap();
            }
            path.send(&mut out);
        }
        assert_eq!(path.counts().send_errors.sum(), 0);
        vec![(cpu_ns() - begun) as f64 / carried as f64]
    }
}

fn pool(slots: u32) -> &'static Pool {
    Pool::new(&PoolOptions { slots, threads: 1 }).unwrap()
}

pub(crate) fn batches() -> Vec<Variant<'static>> {
    let one =
        |batch: usize| -> Variant<'static> { (format!("batch {batch}"), Box::new(to_itself(batch, pool(2_048)))) };
    [64, 1, 4, 16, 32, 128, 256].map(one).into()
}

pub(crate) fn huge_pages() -> Vec<Variant<'static>> {
    let huge = pool(8_192);
    let packets: Vec<_> = std::iter::from_fn(|| huge.take()).collect();
    let places = || packets.iter().map(|packet| packet.bytes().as_ptr().addr());
    advise_huge(places().min().unwrap(), places().max().unwrap());
    drop(packets);
    vec![
        ("small pages".to_owned(), Box::new(to_itself(64, pool(8_192)))),
        ("MADV_HUGEPAGE".to_owned(), Box::new(to_itself(64, huge))),
    ]
}

/// An instance with as many workers, for the programs that steer to them.
fn site(workers: u16) -> Site {
    let port = Port {
        local: LocalPort { bind: any(), role: PortRole::Listener },
        name: "a".to_owned(),
        tag: PortTag::of_listener("a"),
        edge: true,
        node: true,
        advertise: "127.0.0.1".to_owned(),
        aliases: Vec::new(),
        force_rport: ForceRport::Auto,
    };
    let side = NodeSide { listener: PortId(0), worker_ports: vec![PortId(0); 8], shared: true };
    let keys = CookieKeys::new(&[CookieKey { id: 0, key: [1; 16] }], 0).unwrap();
    let options = sipring::shard::Options { workers, ..sipring::shard::Options::default() };
    Site::new(vec![port], [Some(side), None], &[], Secrets::derive(&[1; 32]), keys, options)
}

fn invite(call: usize) -> Vec<u8> {
    let head = format!(
        "INVITE sip:bob@example.net SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.10:5060;rport;branch=z9hG4bK-28371-{call}-0\r\n\
         Max-Forwards: 70\r\nFrom: \"Alice\" <sip:alice@example.net>;tag=a8f2c1\r\nTo: <sip:bob@example.net>\r\n\
         Call-ID: {call}-28371@192.0.2.10\r\nCSeq: 1 INVITE\r\nContact: <sip:alice@192.0.2.10:5060>\r\n"
    );
    let rest = "Content-Length: 0\r\n\r\n";
    format!("{head}X-Pad: {}\r\n{rest}", "x".repeat(650 - head.len() - rest.len() - 9)).into_bytes()
}

pub(crate) fn steering() -> Vec<Variant<'static>> {
    [Steered::Tuple, Steered::Ebpf, Steered::Cbpf].map(|way| (way.label().to_owned(), steered(way))).into()
}

/// Sends batches of 64 to a group of two workers, and receives with both.
fn steered(way: Steered) -> Box<dyn FnMut() -> Vec<f64>> {
    let bind = std::net::UdpSocket::bind(any()).unwrap().local_addr().unwrap();
    let ports = vec![LocalPort { bind, role: PortRole::Listener }];
    let mut options = Options { ports, workers: 2, ..Options::default() };
    options.groups = Some(Arc::new(Groups::open(&options, &programs(&site(2)).unwrap(), &[way]).unwrap()));
    let pool = pool(1_024);
    let open = |options: &Options| Mmsg::open(options, pool, Waker::new().unwrap()).unwrap();
    let mut workers = [0, 1].map(|worker| open(&Options { worker: WorkerId(worker), ..options.clone() }));
    let own = LocalPort { bind: any(), role: PortRole::Worker { index: 0 } };
    let mut client = open(&Options { ports: vec![own], ..Options::default() });
    client.apply(&Endpoints { peers: vec![bind] });
    let messages: Vec<_> = (0..1_024).map(invite).collect();
    let (mut batch, mut out) = (Batch::new(64), Outbox::new(pool, 64));
    let egress = Egress { port: PortId(0), peer: PeerId(0), to: bind };
    let mut sent = 0;
    Box::new(move || {
        let (begun, mut carried) = (cpu_ns(), 0);
        while carried < DATAGRAMS {
            for _ in 0..64 {
                let mut packet = client.take().unwrap();
                assert!(packet.replace(&messages[sent % messages.len()]));
                sent += 1;
                out.decided(packet, egress, Sent::Originated).unwrap();
            }
            client.send(&mut out);
            let mut got = 0;
            while got < 64 {
                for worker in &mut workers {
                    worker.recv(&mut batch, Some(Duration::ZERO)).unwrap();
                    got += batch.packets.len();
                    batch.clear();
                }
            }
            carried += got;
        }
        vec![(cpu_ns() - begun) as f64 / carried as f64]
    })
}
