//! Several workers in one process: each request is handled by its owner, whoever receives it, and
//! the books of all balance.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::disallowed_methods, reason = "a test")]

use std::collections::HashSet;
use std::net::{SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use sipring::config::Config;
use sipring::serve::{self, Running};
use sipring::shard::Tally;

const CALLS: usize = 128;
const LIMIT: Duration = Duration::from_secs(20);

/// An address of the loopback network that nobody else uses: one a test process.
fn host() -> String {
    let pid = std::process::id();
    format!("127.{}.{}.{}", 64 + (pid >> 14 & 0x3f), pid >> 7 & 0x7f, 1 + (pid & 0x7f))
}

/// Both datapaths, each with ports of its own.
const DATAPATHS: [(&str, u16); 2] = [("uring", 0), ("mmsg", 500)];

fn files(nodes: &[SocketAddr], handoff: bool, (datapath, ports): (&str, u16)) -> (PathBuf, PathBuf) {
    let dir = std::env::temp_dir().join(format!("sipring-workers-{}-{handoff}-{datapath}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let host = host();
    let port = if handoff { 21_000 } else { 22_000 } + ports;
    let listed: String = nodes
        .iter()
        .map(|node| format!("[[set.node]]\nname = \"n{0}\"\naddress = \"{node}\"\n", node.port()))
        .collect();
    let text = format!(
        "[[listener]]\nname = \"edge\"\nbind = \"{host}:{port}\"\n[[node_side]]\nbind = \"{host}:{}\"\n\
         ports = \"{}-{}\"\n[[set]]\nname = \"pbx\"\nslots = 1024\n{listed}[admin]\nbind = \"off\"\n[health]\nprobe = false\n",
        port + 1,
        port + 10,
        port + 13
    );
    let (main, tuning) = (dir.join("sipring.toml"), dir.join("cpus.toml"));
    std::fs::write(&main, text).unwrap();
    // Not steered, so that messages come to workers that do not own them.
    let tuned = format!(
        "datapath = \"{datapath}\"\nworkers = 2\npackets = 1024\nreceive_buffer = 262144\nsteering = \"tuple\"\nowner_handoff = {handoff}\n"
    );
    std::fs::write(&tuning, tuned).unwrap();
    (main, tuning)
}

fn invite(call: usize, method: &str, at: SocketAddr) -> String {
    format!(
        "{method} sip:bob@example.com SIP/2.0\r\nVia: SIP/2.0/UDP {at};branch=z9hG4bK-{call}\r\nMax-Forwards: 70\r\n\
         From: <sip:a@example.com>;tag={call}\r\nTo: <sip:bob@example.com>\r\nCall-ID: {call}@example.com\r\n\
         CSeq: 1 {method}\r\nContent-Length: 0\r\n\r\n"
    )
}

fn start(nodes: &[UdpSocket], handoff: bool, datapath: (&str, u16)) -> (Running, SocketAddr) {
    let addrs: Vec<_> = nodes.iter().map(|node| node.local_addr().unwrap()).collect();
    let (main, tuning) = files(&addrs, handoff, datapath);
    let running = serve::start(Config::read(&main, Some(&tuning)).unwrap()).unwrap();
    assert_eq!(running.datapath(), datapath.0);
    let edge = running.ports().iter().find(|port| port.edge).unwrap().local.bind;
    (running, edge)
}

/// Sends INVITE and CANCEL of every call from two sockets, so that the kernel gives both workers
/// some; the Vias that the nodes got, by call.
fn call_all(edge: SocketAddr, nodes: &[UdpSocket]) -> Vec<HashSet<String>> {
    let clients: Vec<_> = (0..8).map(|_| UdpSocket::bind((host(), 0)).unwrap()).collect();
    let mut seen = vec![HashSet::new(); CALLS];
    let mut buffer = [0; 2048];
    for call in 0..CALLS {
        // CANCEL from another socket than the INVITE: another worker receives it, maybe.
        for (turn, method) in ["INVITE", "CANCEL"].into_iter().enumerate() {
            let text = invite(call, method, clients[0].local_addr().unwrap());
            clients[(call + turn) % clients.len()].send_to(text.as_bytes(), edge).unwrap();
        }
        let begun = Instant::now();
        let mut got = 0;
        while got < 2 {
            assert!(begun.elapsed() < LIMIT, "call {call} did not come through");
            for node in nodes {
                while let Ok((length, _)) = node.recv_from(&mut buffer) {
                    let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
                    let via = text.lines().find_map(|line| line.strip_prefix("Via: ")).unwrap().to_owned();
                    seen[call].insert(via);
                    got += 1;
                }
            }
        }
    }
    seen
}

fn run(handoff: bool, datapath: (&str, u16)) -> (Running, Vec<HashSet<String>>) {
    let nodes: Vec<_> = (0..3).map(|_| UdpSocket::bind((host(), 0)).unwrap()).collect();
    nodes.iter().for_each(|node| node.set_nonblocking(true).unwrap());
    let (running, edge) = start(&nodes, handoff, datapath);
    let seen = call_all(edge, &nodes);
    (running, seen)
}

/// Verdicts of both workers: received, forwarded, replied, absorbed, handed off, dropped.
fn books(running: &Running) -> Vec<[u64; 6]> {
    let begun = Instant::now();
    loop {
        let books: Vec<_> = running.counters().iter().map(|figures| figures.counters.books()).collect();
        let forwarded: u64 = books.iter().map(|book| book[1]).sum();
        let balanced = books.iter().all(|[received, rest @ ..]| *received == rest.iter().sum::<u64>());
        // The nodes may have a message before its turn has closed its books.
        if forwarded == 2 * CALLS as u64 && balanced {
            return books;
        }
        assert!(begun.elapsed() < LIMIT, "{books:?}");
        std::thread::yield_now();
    }
}

#[test]
fn requests_that_reach_another_worker_are_mailed_to_their_owner() {
    DATAPATHS.into_iter().for_each(mailed);
}

fn mailed(datapath: (&str, u16)) {
    let (running, seen) = run(true, datapath);
    assert!(seen.iter().all(|vias| vias.len() == 1), "INVITE and CANCEL have one Via: {seen:?}");
    let books = books(&running);
    let handed: u64 = books.iter().map(|book| book[4]).sum();
    let mailed: u64 = running.counters().iter().map(|figures| figures.counters.tallied(Tally::MailIn)).sum();
    assert!(handed > 0 && handed == mailed, "{handed} handed over, {mailed} got");
    assert!(running.counters().iter().all(|figures| figures.counters.tallied(Tally::BooksWrong) == 0));
    running.stop();
    assert!(running.wait());
}

#[test]
fn any_worker_forwards_any_request_and_names_the_owner() {
    DATAPATHS.into_iter().for_each(forwarded);
}

fn forwarded(datapath: (&str, u16)) {
    let (running, seen) = run(false, datapath);
    assert!(seen.iter().all(|vias| vias.len() == 1), "INVITE and CANCEL have one Via: {seen:?}");
    let ports: HashSet<_> = seen.iter().flatten().map(|via| via.split([':', ';']).nth(1).unwrap().to_owned()).collect();
    assert_eq!(ports.len(), 4, "all worker ports are named: {ports:?}");
    let books = books(&running);
    assert_eq!(books.iter().map(|book| book[4]).sum::<u64>(), 0);
    running.stop();
    assert!(running.wait());
}
