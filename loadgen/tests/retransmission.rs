//! Under loss, requests and answers are sent again until they arrive, and no call is lost.

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

use rig::relay::{Relay, Way, pass};
use rig::{Balancer, Net, odd};
use sipring_load::crew;
use sipring_load::flow::Flow;
use sipring_load::plan::{Load, Plan};

/// One datagram in seven is lost, either way, in every flow.
#[test]
fn every_flow_survives_loss() {
    let flows = [Flow::Options, Flow::Call, Flow::Busy, Flow::Cancel, Flow::NodeHangup, Flow::Reinvite];
    let runs = flows.map(|flow| {
        std::thread::spawn(move || {
            let net = Net::new();
            let relay = net.at(50, 5060);
            let _balancer = Balancer::start(&net, 3, relay);
            let mut random = 1_u64;
            let _relay = Relay::start(relay, net.edge(), move |_, text| {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                if (random >> 33).is_multiple_of(7) { Vec::new() } else { pass(text) }
            });
            let plan = Plan {
                from: net.sources(1),
                answer_at: net.nodes(3),
                calls: Some(100),
                load: Load::Rate(50.0),
                t1: Duration::from_millis(200),
                t2: Duration::from_millis(800),
                callee: (flow == Flow::Options).then(|| "ping".into()),
                ..net.plan(flow, relay)
            };
            crew::run(&plan).unwrap()
        })
    });
    for thread in runs {
        let report = thread.join().unwrap();
        assert_eq!((report.calls.ok, report.calls.lost, report.calls.failed), (100, 0, 0), "{report}");
        assert!(report.messages.retransmitted > 10, "{report}");
        assert_eq!(report.wrong, 0, "{report}");
        assert_eq!(report.calls.left_over, 0, "{report}");
    }
}

/// A run is not over while an answering side still waits for an ACK that was lost.
#[test]
fn a_run_waits_until_refusals_are_acknowledged() {
    let net = Net::new();
    let relay = net.at(50, 5060);
    let _balancer = Balancer::start(&net, 1, relay);
    // The third copy of the refusal comes 3.5 s after the first.
    let mut lost = 0;
    let _relay = Relay::start(relay, net.edge(), move |way, text| {
        let ack = way == Way::There && text.starts_with("ACK ");
        lost += u32::from(ack);
        if ack && lost <= 3 { Vec::new() } else { pass(text) }
    });
    let plan = Plan {
        from: net.sources(1),
        answer_at: net.nodes(1),
        calls: Some(1),
        t1: Duration::from_millis(500),
        ..net.plan(Flow::Busy, relay)
    };
    let report = crew::run(&plan).unwrap();
    assert_eq!((report.calls.ok, report.calls.left_over, report.calls.abandoned), (1, 0, 0), "{report}");
    assert!(report.messages.retransmitted >= 3 && odd(&report, "late") >= 3, "{report}");
}

/// RFC 3261 17.1.1.2 and 17.1.2.2: at T1, then at doubled intervals; those of other requests stop growing at T2.
#[test]
fn requests_without_an_answer_are_repeated_when_the_rfc_says() {
    for (flow, t1_ms, wanted_ms, give_up_ms) in [
        (Flow::Call, 200, [0, 200, 600, 1_400, 3_000], 4_600),
        (Flow::Options, 400, [0, 400, 1_200, 2_000, 2_800], 3_200),
    ] {
        let net = Net::new();
        let silent = std::net::UdpSocket::bind(net.edge()).unwrap();
        silent.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let plan = Plan {
            calls: Some(1),
            t1: Duration::from_millis(t1_ms),
            t2: Duration::from_millis(2 * t1_ms),
            timeout: Duration::from_millis(give_up_ms),
            ..net.plan(flow, net.edge())
        };
        let began = Instant::now();
        let run = std::thread::spawn(move || crew::run(&plan).unwrap());
        let (mut came, mut room) = (Vec::new(), [0; 2_048]);
        loop {
            // What was sent before the end is there when the end is seen.
            let over = run.is_finished();
            match silent.recv_from(&mut room) {
                Ok((len, _)) => came.push((Instant::now(), room[..len].to_vec())),
                Err(_) if over => break,
                Err(_) => {}
            }
        }
        let report = run.join().unwrap();
        assert_eq!((report.calls.lost, report.calls.ok), (1, 0), "{report}");
        assert_eq!(report.messages.retransmitted as usize, wanted_ms.len() - 1, "{report}");
        assert_eq!(came.len(), wanted_ms.len());
        for ((at, text), wanted_ms) in came.iter().zip(wanted_ms) {
            assert_eq!(text, &came[0].1, "the same bytes each time");
            // Never too early, by a clock of whole milliseconds; how late depends on what else the machine does.
            let since = at.duration_since(began);
            assert!(since + Duration::from_millis(2) >= Duration::from_millis(wanted_ms), "{since:?} for {wanted_ms}");
        }
    }
}

/// RFC 3261 13.3.1.4: a callee repeats its 200 until the ACK is there.
#[test]
fn a_lost_ack_makes_the_200_come_again_and_is_sent_again() {
    let net = Net::new();
    let relay = net.at(50, 5060);
    let _balancer = Balancer::start(&net, 1, relay);
    let mut lost = 0;
    let _relay = Relay::start(relay, net.edge(), move |way, text| {
        lost += u32::from(way == Way::There && text.starts_with("ACK "));
        if way == Way::There && text.starts_with("ACK ") && lost <= 2 { Vec::new() } else { pass(text) }
    });
    let plan = Plan {
        from: net.sources(1),
        answer_at: net.nodes(1),
        calls: Some(1),
        t1: Duration::from_millis(500),
        hold: Duration::from_secs(5),
        ..net.plan(Flow::Call, relay)
    };
    let report = crew::run(&plan).unwrap();
    assert_eq!((report.calls.ok, report.calls.left_over), (1, 0), "{report}");
    assert!(odd(&report, "repeated") >= 2, "{report}");
    assert!(report.messages.retransmitted >= 4, "two of the 200, two of the ACK: {report}");
}
