//! Servers and callers of another make: addresses without number, callers who vanish.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a test stops at the first surprise and is its own clock"
)]

mod rig;

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use rig::server::{Answering, Server, respond};
use rig::{Net, assert_clean};
use sipring_load::crew;
use sipring_load::flow::Flow;
use sipring_load::plan::Plan;

/// A farm of nodes, or one that names another port each time: they are told apart up to a bound.
#[test]
fn contacts_without_number_take_no_room_without_bound() {
    let net = Net::new();
    let mut next = 10_000;
    let _server = Server::start(net.edge(), move |request| {
        next += 1;
        Some(respond(request, "200 OK", &format!("Contact: <sip:x@127.0.0.1:{next}>\r\n")))
    });
    let plan = Plan { calls: Some(400), ..net.plan(Flow::Options, net.edge()) };
    let report = crew::run(&plan).unwrap();
    assert_clean(&report, 400);
    assert_eq!(report.nodes.len(), 257, "{report}");
    let other = report.nodes.iter().find(|node| node.name == "other").unwrap();
    assert_eq!(other.calls, 400 - 256, "{report}");
    assert!(report.nodes.iter().all(|node| node.calls == 1 || node.name == "other"), "{report}");
}

/// Our own nodes are all told, however many.
#[test]
fn nodes_of_this_process_are_all_told() {
    let net = Net::new();
    let answer_at = (0..300).map(|port| net.at(20, 20_000 + port)).collect();
    let plan = Plan { answer_at, calls: Some(5), ..net.plan(Flow::Options, net.at(20, 20_299)) };
    let report = crew::run(&plan).unwrap();
    assert_clean(&report, 5);
    assert_eq!(report.nodes.len(), 300, "{report}");
    assert_eq!(
        report.nodes.iter().find(|node| node.name.ends_with(":20299")).map(|node| node.requests),
        Some(5),
        "{report}"
    );
}

/// Whoever answers, and is never acknowledged, has nothing to be content with.
#[test]
fn callers_who_vanish_leave_an_answering_side_that_is_not_clean() {
    let net = Net::new();
    let timeout = Duration::from_millis(300);
    let nodes = Answering::start(&[net.edge()], Plan { timeout, t1: Duration::from_millis(100), ..Plan::default() });
    let caller = UdpSocket::bind(net.at(100, 0)).unwrap();
    caller.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let at = caller.local_addr().unwrap();
    let invite = format!(
        "INVITE sip:call@{to} SIP/2.0\r\nVia: SIP/2.0/UDP {at};rport;branch=z9hG4bKgone\r\nMax-Forwards: 70\r\n\
         From: <sip:x@{at}>;tag=gone\r\nTo: <sip:call@{to}>\r\nCall-ID: gone\r\nCSeq: 1 INVITE\r\n\
         Contact: <sip:x@{at}>\r\nContent-Length: 0\r\n\r\n",
        to = net.edge()
    );
    caller.send_to(invite.as_bytes(), net.edge()).unwrap();
    // 180, and the 200 until it is given up.
    let (mut room, begun) = ([0; 2_048], Instant::now());
    let answered = |text: &[u8]| text.starts_with(b"SIP/2.0 200 ");
    while !caller.recv(&mut room).is_ok_and(|len| answered(&room[..len])) {
        assert!(begun.elapsed() < Duration::from_secs(10));
    }
    caller.set_read_timeout(Some(2 * timeout)).unwrap();
    while caller.recv(&mut room).is_ok() {
        assert!(begun.elapsed() < Duration::from_secs(20));
    }
    let report = nodes.stop();
    assert_eq!((report.calls.answered, report.calls.abandoned), (1, 1), "{report}");
    assert!(!report.is_clean());
}
