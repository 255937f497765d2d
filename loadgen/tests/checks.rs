//! What a proxy does wrong is counted by its kind, and the first of it shown; what loss brings along is not called wrong.

mod rig;

use std::net::SocketAddr;
use std::time::Duration;

use rig::relay::{Datagram, Relay, Way, pass};
use rig::{Balancer, Net, assert_clean, odd};
use sipring_load::crew;
use sipring_load::flow::Flow;
use sipring_load::plan::Plan;
use sipring_load::report::Report;

const CALLS: u64 = 30;

/// Calls through a relay in front of a balancer that takes the relay for itself.
fn run(flow: Flow, deed: impl FnMut(Way, &str) -> Vec<Datagram> + Send + 'static) -> Report {
    run_as(|plan| Plan { flow: Some(flow), ..plan }, deed)
}

fn run_as(adapt: impl FnOnce(Plan) -> Plan, deed: impl FnMut(Way, &str) -> Vec<Datagram> + Send + 'static) -> Report {
    let net = Net::new();
    let relay = net.at(50, 5060);
    let _balancer = Balancer::start(&net, 3, relay);
    let _relay = Relay::start(relay, net.edge(), deed);
    let plan = Plan {
        from: net.sources(1),
        answer_at: net.nodes(3),
        calls: Some(CALLS),
        timeout: Duration::from_secs(3),
        answer_wait: Duration::from_secs(3),
        ..net.plan(Flow::Call, relay)
    };
    crew::run(&adapt(plan)).unwrap_or_else(|error| panic!("{error}"))
}

/// A relay that changes responses of one kind, which begin with `start` and have this CSeq.
fn changing(
    start: &'static str,
    cseq: &'static str,
    change: impl Fn(&str) -> String + Send + 'static,
) -> impl FnMut(Way, &str) -> Vec<Datagram> + Send + 'static {
    move |way, text| {
        let hit = way == Way::Back && text.starts_with(start) && text.contains(cseq);
        if hit { vec![(None, change(text).into_bytes())] } else { pass(text) }
    }
}

const OK: &str = "SIP/2.0 200";

#[test]
fn a_faithful_relay_is_not_blamed() {
    for flow in [Flow::Call, Flow::Busy, Flow::Cancel, Flow::NodeHangup, Flow::Reinvite, Flow::Options] {
        let report = run_as(
            |plan| Plan { flow: Some(flow), callee: (flow == Flow::Options).then(|| "ping".into()), ..plan },
            |_, text| pass(text),
        );
        assert_clean(&report, CALLS);
    }
}

/// Each of these breaks all calls, by one kind of wrong message and no other.
#[test]
fn every_change_of_a_response_is_counted_as_what_it_is() {
    type Change = Box<dyn Fn(&str) -> String + Send>;
    let changes: Vec<(&str, Change)> = vec![
        ("via_not_popped", Box::new(|t| t.replacen("Via: ", "Via: SIP/2.0/UDP 192.0.2.9;branch=z9hG4bKx\r\nVia: ", 1))),
        ("via_not_popped", Box::new(|t| t.replacen("Via: ", "Via: SIP/2.0/UDP 192.0.2.9;branch=z9hG4bKx, ", 1))),
        ("wrong_via", Box::new(|t| t.replacen("branch=z9hG4bK", "branch=z9hG4bKa", 1))),
        ("wrong_via", Box::new(|t| t.replacen("UDP 127.24.", "UDP 127.25.", 1))),
        ("wrong_call_id", Box::new(|t| first_line_with(t, "Call-ID: ", |line| format!("{line}x")))),
        ("wrong_tag", Box::new(|t| first_line_with(t, "To: ", |line| format!("{line}x")))),
        ("wrong_tag", Box::new(|t| first_line_with(t, "To: ", |line| line.split(";tag").next().unwrap().into()))),
        ("stray", Box::new(|t| first_line_with(t, "From: ", |line| format!("{line}x")))),
        ("wrong_cseq", Box::new(|t| t.replace("CSeq: 1 INVITE", "CSeq: 2 INVITE"))),
        ("wrong_cseq", Box::new(|t| t.replace("CSeq: 1 INVITE", "CSeq: 1 OPTIONS"))),
        ("record_route_changed", Box::new(|t| first_line_with(t, "Record-Route: ", |line| line.replace("lr", "lr;x")))),
        ("malformed", Box::new(|t| t.replacen("Call-ID: ", "X: ", 1))),
        ("malformed", Box::new(|t| t[..t.len() - 1].to_owned())),
    ];
    let runs = changes.into_iter().map(|(kind, change)| {
        std::thread::spawn(move || (kind, run(Flow::Call, changing(OK, "CSeq: 1 INVITE", change))))
    });
    for thread in runs.collect::<Vec<_>>() {
        let (kind, report) = thread.join().unwrap();
        assert!(odd(&report, kind) >= CALLS, "{kind}: {report}");
        assert_eq!(report.wrong, odd(&report, kind), "{kind}: {report}");
        assert_eq!((report.calls.ok, report.calls.lost), (0, CALLS), "{kind}: {report}");
        assert!(!report.is_clean());
        assert!(report.examples.iter().all(|example| example.starts_with(kind)), "{report}");
        assert_eq!(report.examples.len(), 5, "{report}");
    }
}

/// The line that begins with `start`, changed.
fn first_line_with(text: &str, start: &str, change: impl Fn(&str) -> String) -> String {
    let first = text.split("\r\n").position(|line| line.starts_with(start));
    let lines = text.split("\r\n").enumerate();
    let lines = lines.map(|(at, line)| if Some(at) == first { change(line) } else { line.to_owned() });
    lines.collect::<Vec<_>>().join("\r\n")
}

#[test]
fn a_request_of_a_dialog_at_another_node_is_counted_and_refused() {
    let net = Net::new();
    let relay = net.at(50, 5060);
    let nodes = net.nodes(2);
    let _balancer = Balancer::start(&net, 2, relay);
    let other: Vec<SocketAddr> = nodes.iter().rev().copied().collect();
    // BYE names its node in the request-URI; it is brought to the other one.
    let _relay = Relay::start(relay, net.edge(), move |way, text| {
        let to = nodes.iter().position(|node| way == Way::There && text.starts_with(&format!("BYE sip:load@{node}")));
        match to {
            Some(place) => {
                let lines = text.split("\r\n").filter(|line| !line.starts_with("Route: "));
                vec![(Some(other[place]), lines.collect::<Vec<_>>().join("\r\n").into_bytes())]
            }
            None => pass(text),
        }
    });
    let plan =
        Plan { from: net.sources(1), answer_at: net.nodes(2), calls: Some(CALLS), ..net.plan(Flow::Call, relay) };
    let report = crew::run(&plan).unwrap();
    assert_eq!(odd(&report, "wrong_node"), CALLS, "{report}");
    assert_eq!(report.calls.failed_by_code.get("481"), Some(&CALLS), "{report}");
}

/// Requests that arrive changed.
#[test]
fn a_route_left_over_and_a_changed_request_uri_are_counted() {
    for (kind, change) in [
        ("route_left", (|text: &str| text.replacen("Route: ", "Route: <sip:192.0.2.9;lr>,", 1)) as fn(&str) -> String),
        ("wrong_uri", |text: &str| text.replacen("BYE sip:load@", "BYE sip:lord@", 1)),
        ("wrong_cseq", |text: &str| text.replacen("CSeq: 2 BYE", "CSeq: 0 BYE", 1)),
        ("wrong_tag", |text: &str| first_line_with(text, "From: ", |line| format!("{line}x"))),
    ] {
        // A Route that is not the balancer's goes behind those that are.
        let report = run(Flow::Call, move |way, text| {
            let hit = way == Way::There && text.starts_with("BYE ");
            let changed = match kind {
                "route_left" => first_line_with(text, "Route: ", |line| format!("{line}, <sip:192.0.2.9;lr>")),
                _ => change(text),
            };
            if hit { vec![(None, changed.into_bytes())] } else { pass(text) }
        });
        assert!(odd(&report, kind) >= CALLS, "{kind}: {report}");
        assert_eq!(report.calls.ok, 0, "{kind}: {report}");
    }
}

#[test]
fn a_stranger_s_messages_are_counted_as_stray() {
    let report = run(Flow::Call, |way, text| {
        let strange = way == Way::Back && text.starts_with(OK);
        let stranger = strange.then(|| (None, text.replace("tag=", "tag=z").into_bytes()));
        stranger.into_iter().chain(pass(text)).collect()
    });
    assert_eq!(odd(&report, "stray"), 2 * CALLS, "{report}");
    assert_eq!(report.calls.ok, CALLS, "strangers break no call: {report}");
    assert!(!report.is_clean());
}

#[test]
fn copies_of_everything_are_told_and_break_nothing() {
    let report = run(Flow::Reinvite, |_, text| [pass(text), pass(text)].concat());
    assert_clean(&report, CALLS);
    assert!(odd(&report, "repeated") > CALLS, "{report}");
    assert_eq!(report.wrong, 0, "{report}");
}

#[test]
fn a_wrong_code_is_told_by_its_number() {
    let report = run(Flow::Call, changing(OK, "CSeq: 2 BYE", |text| text.replacen("200 OK", "500 Oh", 1)));
    assert_eq!(report.calls.failed_by_code.get("500"), Some(&CALLS), "{report}");
    assert_eq!((report.calls.ok, report.wrong), (0, 0), "{report}");
}

#[test]
fn without_checks_only_what_cannot_be_used_is_refused() {
    let change = |text: &str| first_line_with(text, "Call-ID: ", |line| format!("{line}x"));
    let report = run_as(|plan| Plan { checks: false, ..plan }, changing(OK, "CSeq: 2 BYE", change));
    assert_clean(&report, CALLS);
}
