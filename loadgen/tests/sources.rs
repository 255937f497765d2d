//! A thousand sockets of one process, and all from one.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a test stops at the first surprise and is its own clock"
)]

mod rig;

use rig::{Net, assert_clean};
use sipring_load::crew;
use sipring_load::flow::Flow;
use sipring_load::plan::{Load, Plan};
use std::collections::HashSet;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

/// Requests arrive from as many addresses as asked for, each in its turn, with Via and Contact that name it.
#[test]
fn a_thousand_sockets_take_turns() {
    let net = Net::new();
    let seen: Arc<Mutex<HashSet<String>>> = Arc::default();
    let inside = seen.clone();
    let _server = rig::server::Server::start(net.edge(), move |request| {
        let via = request.split("UDP ").nth(1).unwrap().split(';').next().unwrap().to_owned();
        assert!(request.contains(&format!("@{via}>")), "{request}");
        inside.lock().unwrap().insert(via);
        Some(rig::server::respond(request, "200 OK", ""))
    });
    let plan = Plan {
        from: net.sources(1_000),
        load: Load::Window(20),
        calls: Some(2_000),
        ..net.plan(Flow::Options, net.edge())
    };
    let running = crew::start(&plan).unwrap();
    let sources: HashSet<String> = running.sources().iter().map(ToString::to_string).collect();
    assert_clean(&running.wait().unwrap(), 2_000);
    assert_eq!(sources.len(), 1_000);
    assert_eq!(*seen.lock().unwrap(), sources);
}

/// With answering nodes in the same process, over two workers.
#[test]
fn calls_from_many_sockets_stay_whole() {
    let net = Net::new();
    let _balancer = rig::Balancer::start(&net, 3, net.edge());
    let plan = Plan {
        from: net.sources(500),
        answer_at: net.nodes(3),
        cpus: vec![None; 2],
        load: Load::Window(50),
        calls: Some(2_000),
        ..net.plan(Flow::Call, net.edge())
    };
    assert_clean(&crew::run(&plan).unwrap(), 2_000);
}

#[test]
fn an_address_that_is_taken_is_named_and_nothing_is_left_running() {
    let net = Net::new();
    let plan = Plan { answer_at: vec![net.at(1, 5060)], ..net.plan(Flow::Call, net.edge()) };
    let taken = std::net::UdpSocket::bind(net.at(1, 5060)).unwrap();
    // One of two workers has it, and the other has all it wants.
    for workers in [1, 2] {
        let from = net.sources(workers);
        let plan = Plan { from, cpus: vec![None; workers], ..plan.clone() };
        let (told, error) = mpsc::channel();
        std::thread::spawn(move || told.send(crew::run(&plan).map(|_| ()).unwrap_err()));
        let error = error.recv_timeout(Duration::from_secs(10)).expect("nobody waits for a worker that is not there");
        assert!(error.contains(&net.at(1, 5060).to_string()), "{error}");
    }
    drop(taken);
    assert_clean(&crew::run(&Plan { calls: Some(3), ..plan }).unwrap(), 3);
}
