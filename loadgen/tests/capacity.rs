//! The search finds the limit of a server whose limit is known, and says whose it is.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a test stops at the first surprise and is its own clock"
)]

mod rig;

use std::time::{Duration, Instant};

use rig::Net;
use rig::server::{Answering, Server, respond};
use sipring_load::capacity::{Goal, Limit, search};
use sipring_load::flow::Flow;
use sipring_load::plan::Plan;

fn goal() -> Goal {
    Goal {
        loss_max: 0.001,
        // A machine with other things to do is late.
        p99_max: Duration::from_millis(600),
        start_rate: 50.0,
        rate_max: 100_000.0,
        resolution: 0.04,
        step: Duration::from_millis(1_500),
    }
}

/// Nodes of another run answer so many calls a second.
#[test]
fn a_known_limit_is_found_within_a_tenth() {
    let net = Net::new();
    let limit = 300.0;
    let nodes = Answering::start(&[net.edge()], Plan { answer_limit: Some(limit), ..Plan::default() });
    let found = search(&net.plan(Flow::Call, net.edge()), &goal(), |_| {}).unwrap();
    assert!((found.rate - limit).abs() <= limit * 0.1, "{found}");
    assert!(matches!(found.limited_by, Limit::Loss | Limit::P99), "nobody here knows of the limit: {found}");
    assert!(found.confirmed.is_some());
    assert!(nodes.stop().calls.over_limit > 0);
}

/// The same in one process: it knows that its own answering side was the limit.
#[test]
fn the_own_answering_side_is_named_as_the_limit() {
    let net = Net::new();
    let plan = Plan { answer_at: vec![net.edge()], answer_limit: Some(200.0), ..net.plan(Flow::Options, net.edge()) };
    let found = search(&plan, &goal(), |_| {}).unwrap();
    assert!((found.rate - 200.0).abs() <= 20.0, "{found}");
    assert_eq!(found.limited_by, Limit::Answering, "{found}");
    assert!(found.why.contains("answering side"), "{found}");
}

/// A server that takes 4 ms for each request loses nothing, and is late beyond 250 a second.
#[test]
fn a_slow_server_is_limited_by_its_latency() {
    let net = Net::new();
    let mut free_at = Instant::now();
    let _server = Server::start(net.edge(), move |request| {
        free_at = free_at.max(Instant::now()) + Duration::from_millis(4);
        std::thread::sleep(free_at.saturating_duration_since(Instant::now()));
        Some(respond(request, "200 OK", ""))
    });
    let goal = Goal { p99_max: Duration::from_millis(150), step: Duration::from_secs(2), ..goal() };
    let found = search(&net.plan(Flow::Options, net.edge()), &goal, |_| {}).unwrap();
    assert!(found.rate > 150.0 && found.rate < 300.0, "{found}");
    assert_eq!(found.limited_by, Limit::P99, "{found}");
}

#[test]
fn a_rate_that_holds_to_the_end_is_said_to_be_no_limit() {
    let net = Net::new();
    let plan = Plan { answer_at: vec![net.edge()], ..net.plan(Flow::Options, net.edge()) };
    let goal = Goal { rate_max: 100.0, p99_max: Duration::from_secs(2), ..goal() };
    let found = search(&plan, &goal, |_| {}).unwrap();
    assert_eq!((found.rate, found.limited_by), (100.0, Limit::RateMax), "{found}");
}

/// A generator that cannot keep more calls under way is the limit itself, and blames nobody.
#[test]
fn a_generator_without_room_blames_itself() {
    let net = Net::new();
    let _server = Server::start(net.edge(), |request| {
        std::thread::sleep(Duration::from_millis(1));
        Some(respond(request, "200 OK", ""))
    });
    let hold = Duration::from_millis(500);
    let plan = Plan {
        concurrent_max: 20,
        ring: hold,
        answer_at: vec![net.at(3, 5060)],
        ..net.plan(Flow::Call, net.at(3, 5060))
    };
    let found = search(&plan, &Goal { p99_max: Duration::from_secs(2), ..goal() }, |_| {}).unwrap();
    assert_eq!(found.limited_by, Limit::Generator, "{found}");
    assert!(found.why.contains("this generator"), "{found}");
}
