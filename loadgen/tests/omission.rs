//! Latencies count from when a request should have been sent: a server that stalls is seen in them, whoever waits.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a test stops at the first surprise and is its own clock"
)]

mod rig;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rig::server::{Server, respond};
use rig::{Net, assert_clean};
use sipring_load::crew;
use sipring_load::flow::Flow;
use sipring_load::plan::{Load, Plan};

/// For one of four seconds the server does nothing; then it answers all that has gathered, quickly.
#[test]
fn a_stall_is_seen_by_all_calls_that_fell_into_it() {
    let net = Net::new();
    let mut stalled: Option<Instant> = None;
    let began = Instant::now();
    let answered: Arc<Mutex<Vec<Duration>>> = Arc::default();
    let inside = answered.clone();
    let _server = Server::start(net.edge(), move |request| {
        if began.elapsed() > Duration::from_secs(1) && stalled.is_none() {
            stalled = Some(Instant::now());
            std::thread::sleep(Duration::from_secs(1));
        }
        inside.lock().unwrap().push(began.elapsed());
        Some(respond(request, "200 OK", ""))
    });
    let plan = Plan {
        load: Load::Rate(100.0),
        calls: None,
        time: Some(Duration::from_secs(4)),
        ..net.plan(Flow::Options, net.edge())
    };
    let at = began.elapsed();
    let report = crew::run(&plan).unwrap();
    assert_clean(&report, 400);
    let latency = report.latency_us["OPTIONS"];
    // A quarter of the calls waited up to a second: 12 in 100 more than half of it.
    assert!(latency.p90 > 400_000.0 && latency.p99 > 800_000.0, "{report}");
    // And nobody is told to have waited longer than from when its turn came until the server answered, but for what the
    // generator itself was late.
    let due = (0..).map(|turn| at + Duration::from_millis(10 * turn));
    let mut waited: Vec<f64> = answered.lock().unwrap().iter().zip(due).map(|(at, due)| us(*at) - us(due)).collect();
    waited.sort_by(f64::total_cmp);
    let late = report.lag_us.max + 50_000.0;
    assert!(latency.p50 <= waited[200] + late, "{} and {late}: {report}", waited[200]);
}

fn us(span: Duration) -> f64 {
    span.as_secs_f64() * 1e6
}

/// A generator that itself is late counts its own lateness in.
#[test]
fn a_late_generator_counts_its_lateness() {
    let net = Net::new();
    let _server = Server::start(net.edge(), |request| Some(respond(request, "200 OK", "")));
    // All calls of a second at once, in a loop that may begin 64 a turn: those are late by its doing.
    // What the server's small buffer drops comes again.
    let t1 = Duration::from_millis(200);
    let plan = Plan { load: Load::Rate(1e9), calls: Some(2_000), t1, ..net.plan(Flow::Options, net.edge()) };
    let report = crew::run(&plan).unwrap();
    assert_clean(&report, 2_000);
    assert!(report.lag_us.max > 0.0 && report.lag_us.p99 <= report.latency_us["OPTIONS"].p99 * 1.02, "{report}");
    assert!(report.lag_us.p50 > 100.0, "{report}");
}
