//! The search over sockets: what it confirms is never more than a server can do whose limit is known. How it judges and
//! where it looks is tested in capacity.rs, at servers that are a formula.

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
use sipring_load::capacity::{Capacity, Goal, Limit, search};
use sipring_load::flow::Flow;
use sipring_load::plan::Plan;

/// What a burst leaves unanswered comes again, and is no loss.
const T1: Duration = Duration::from_millis(200);

fn goal() -> Goal {
    Goal {
        loss_max: 0.02,
        // A machine with other things to do is late.
        p99_max: Duration::from_millis(300),
        start_rate: 50.0,
        rate_max: 100_000.0,
        resolution: 0.3,
        step: Duration::from_secs(1),
    }
}

/// No rate is ever confirmed that the limit forbids: all calls but those that may be lost or late are answered in the
/// time of the run, the delay allowed, and a burst of 50 ms. How near to it one comes depends on what else the machine
/// does.
fn assert_within(found: &Capacity, limit: f64) {
    let goal = goal();
    let (time_s, delay_s) = (3.0 * goal.step.as_secs_f64(), goal.p99_max.as_secs_f64() + 0.05);
    let most = limit * (time_s + delay_s) / time_s / (0.99 - goal.loss_max);
    assert!(most < limit * 1.2);
    assert!(found.rate > 0.0 && found.rate <= most, "{found}");
    assert_ne!(found.limited_by, Limit::RateMax, "{found}");
    assert!(found.confirmed.is_some() && found.held >= found.rate, "{found}");
}

/// Nodes of another run answer so many calls a second.
#[test]
fn a_server_with_a_limit_holds_no_more() {
    let net = Net::new();
    let limit = 300.0;
    let nodes = Answering::start(&[net.edge()], Plan { answer_limit: Some(limit), ..Plan::default() });
    let plan = Plan { t1: T1, ..net.plan(Flow::Call, net.edge()) };
    assert_within(&search(&plan, &goal(), |_| {}).unwrap(), limit);
    assert!(nodes.stop().calls.over_limit > 0);
}

/// The same in one process.
#[test]
fn an_answering_side_with_a_limit_holds_no_more() {
    let net = Net::new();
    let own = Plan { answer_at: vec![net.edge()], answer_limit: Some(200.0), ..net.plan(Flow::Options, net.edge()) };
    let found = search(&Plan { t1: T1, ..own }, &goal(), |_| {}).unwrap();
    assert_within(&found, 200.0);
}

/// A server that takes 4 ms for each request loses nothing, and is late beyond 250 a second.
#[test]
fn a_slow_server_holds_no_more_than_it_can_do() {
    let net = Net::new();
    let mut free_at = Instant::now();
    let _server = Server::start(net.edge(), move |request| {
        free_at = free_at.max(Instant::now()) + Duration::from_millis(4);
        std::thread::sleep(free_at.saturating_duration_since(Instant::now()));
        Some(respond(request, "200 OK", ""))
    });
    assert_within(&search(&net.plan(Flow::Options, net.edge()), &goal(), |_| {}).unwrap(), 250.0);
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
