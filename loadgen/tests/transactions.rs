//! ACK and CANCEL belong to their INVITE: by request-URI, From, branch and tag (RFC 3261 9, 17).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a test stops at the first surprise and is its own clock"
)]

mod rig;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rig::relay::{Relay, Way, pass};
use rig::server::{Server, respond};
use rig::{Balancer, Net, assert_clean, odd};
use sipring_load::crew;
use sipring_load::flow::Flow;
use sipring_load::plan::{Load, Plan};

const CALLS: u64 = 30;

fn line<'a>(text: &'a str, start: &str) -> &'a str {
    text.split("\r\n").find(|line| line.starts_with(start)).unwrap_or_else(|| panic!("no {start} in {text}"))
}

/// The request-URI, and what says whose transaction it is.
fn identity(request: &str) -> [&str; 4] {
    [request.split(' ').nth(1).unwrap(), line(request, "From: "), line(request, "Via: "), line(request, "Call-ID: ")]
}

/// Each refusal comes once more when its place is another call's already.
#[test]
fn a_refusal_that_comes_late_is_acknowledged_as_its_invite_was() {
    let net = Net::new();
    let mut invites: HashMap<String, (String, u32)> = HashMap::new();
    let late: Arc<AtomicU64> = Arc::default();
    let inside = late.clone();
    let _server = Server::start(net.edge(), move |request| {
        let call = line(request, "Call-ID: ").to_owned();
        if request.starts_with("INVITE ") {
            invites.insert(call, (request.to_owned(), 0));
            return Some(respond(request, "486 Busy Here", ""));
        }
        let (invite, acks) = invites.get_mut(&call).unwrap();
        *acks += 1;
        assert!(request.starts_with("ACK "), "{request}");
        assert_eq!(identity(request), identity(invite));
        inside.fetch_add(u64::from(*acks == 2), Ordering::Relaxed);
        (*acks == 1).then(|| respond(invite, "486 Busy Here", ""))
    });
    let plan = Plan {
        from: net.sources(1),
        targets: net.nodes(3),
        users: 7,
        load: Load::Window(1),
        calls: Some(CALLS),
        ..net.plan(Flow::Busy, net.edge())
    };
    let report = crew::run(&plan).unwrap();
    assert_clean(&report, CALLS);
    // All but the last come while the run is under way.
    assert!(odd(&report, "late") >= CALLS - 1, "{report}");
    let begun = Instant::now();
    while late.load(Ordering::Relaxed) < CALLS - 1 {
        assert!(begun.elapsed() < Duration::from_secs(10), "{late:?} late refusals were acknowledged");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// RFC 3261 9.2: it is the same callee that answers INVITE and CANCEL.
#[test]
fn the_answers_to_cancel_and_invite_have_one_to_tag() {
    let net = Net::new();
    let relay = net.at(50, 5060);
    let _balancer = Balancer::start(&net, 3, relay);
    let tags: Arc<Mutex<HashMap<String, Vec<String>>>> = Arc::default();
    let inside = tags.clone();
    let _relay = Relay::start(relay, net.edge(), move |way, text| {
        if way == Way::Back && !text.starts_with("SIP/2.0 100 ") {
            let tag = line(text, "To: ").split_once(";tag=").unwrap().1.to_owned();
            inside.lock().unwrap().entry(line(text, "Call-ID: ").to_owned()).or_default().push(tag);
        }
        pass(text)
    });
    let plan =
        Plan { from: net.sources(1), answer_at: net.nodes(3), calls: Some(CALLS), ..net.plan(Flow::Cancel, relay) };
    assert_clean(&crew::run(&plan).unwrap(), CALLS);
    let tags = tags.lock().unwrap();
    assert_eq!(tags.len() as u64, CALLS);
    for (call, tags) in tags.iter() {
        // 180, 200 to CANCEL, 487.
        assert!(tags.len() >= 3 && tags.iter().all(|tag| *tag == tags[0]), "{call}: {tags:?}");
    }
}
