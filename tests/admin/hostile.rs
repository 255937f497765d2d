//! Clients that are slow, many, or send too much: the others, control and calls must not notice.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::harness::cluster::Cluster;
use crate::harness::dialog::State;
use crate::harness::http::reply;
use crate::harness::{turn, wait_until};

/// What may pass before an honest client is answered on a busy machine.
const PROMPT: Duration = Duration::from_secs(15);

#[test]
fn slow_and_many_clients_hold_up_nobody() {
    let _turn = turn();
    let mut cluster = Cluster::new(2, 2, |spec| spec);
    let admin = cluster.balancer.admin();
    let mut slow: Vec<TcpStream> = (0..300).map(|_| admin.connect()).collect();
    for (stream, at) in slow.iter_mut().zip(0..) {
        let part: &[u8] = match at % 3 {
            0 => b"",
            1 => b"GET /sets HTTP/1.1\r\nHost: 127",
            _ => {
                b"PUT /sets/cluster/nodes/node0/weight HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 15\r\n\r\n{\"wei"
            }
        };
        // Some have been ended already, to make room for later ones.
        let _ = stream.write_all(part);
    }
    for path in ["/healthz", "/metrics", "/sets"] {
        let asked = Instant::now();
        assert_eq!(admin.get(path).status, 200);
        assert!(asked.elapsed() < PROMPT, "{path} took {:?}", asked.elapsed());
    }
    let asked = Instant::now();
    cluster.balancer.reload(&cluster.spec.clone());
    assert!(asked.elapsed() < PROMPT, "the reload took {:?}", asked.elapsed());
    cluster.calls(50, State::Confirmed);
    // The oldest have been ended to make room, without waiting for them.
    for stream in slow.iter_mut().take(200) {
        let mut rest = Vec::new();
        let ended = stream.read_to_end(&mut rest).map_err(|e| e.kind());
        assert_ne!(ended, Err(std::io::ErrorKind::WouldBlock), "still open");
    }
    assert_eq!(admin.get("/healthz").status, 200);
}

#[test]
fn a_head_that_does_not_come_whole_is_given_up() {
    let _turn = turn();
    let cluster = Cluster::new(1, 1, |spec| spec);
    let mut stream = cluster.balancer.admin().connect();
    stream.write_all(b"GET /sets HTTP/1.1\r\n").unwrap();
    let begun = Instant::now();
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest);
    assert!((Duration::from_secs(3)..Duration::from_secs(15)).contains(&begun.elapsed()), "{:?}", begun.elapsed());
}

#[test]
fn what_is_too_large_or_no_http_is_refused() {
    let _turn = turn();
    let cluster = Cluster::new(1, 1, |spec| spec);
    let admin = cluster.balancer.admin();
    let thrown = |bytes: &[u8]| {
        let mut stream = admin.connect();
        let _ = stream.write_all(bytes);
        reply(&mut stream).map(|reply| reply.status)
    };
    let long = format!("GET /sets HTTP/1.1\r\nHost: 127.0.0.1\r\nX: {}\r\n\r\n", "x".repeat(100_000));
    assert!(matches!(thrown(long.as_bytes()), Some(431) | None), "{:?}", thrown(long.as_bytes()));
    let many = format!("GET /sets HTTP/1.1\r\nHost: 127.0.0.1\r\n{}\r\n", "X: y\r\n".repeat(200));
    assert_eq!(thrown(many.as_bytes()), Some(431));
    assert_eq!(thrown(b"INVITE sip:a@b SIP/2.0\r\n\r\n"), Some(400));
    assert_eq!(thrown(b"GET /sets/%ff/nodes HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"), Some(405));
    assert_eq!(thrown(b"GET /sets/%ff HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"), Some(400));
    let chunked = b"POST /explain HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n";
    let chunk = [&b"4000\r\n"[..], &[b'x'; 0x4000], b"\r\n"].concat();
    let mut stream = admin.connect();
    let _ = stream.write_all(chunked);
    for _ in 0..10 {
        let _ = stream.write_all(&chunk);
    }
    assert_eq!(reply(&mut stream).map(|reply| reply.status), Some(413));
    assert!(wait_until(Duration::from_secs(2), || admin.get("/healthz").status == 200));
}
