//! Calls through the shard, both directions: Via, Record-Route pairs, cookies, flows, marks.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test")]

mod rig;

use std::net::SocketAddr;

use rig::{CLIENT, EDGE, NODES, Outcome, Rig, WORKERS, node, request, response};
use sipring::balance::{ContactMode, Health, Intent, LostDialog, SourceForm, SourceHeader, Vitals};
use sipring::packet::{Event, PortId, Trouble};
use sipring::shard::{DropReason, ForceRport, Tally, Verdict};

const BOB: &str = "sip:bob@example.com";

/// The route set of whoever sent the request (12.1.2) or got it (12.1.1).
fn routes(of: &Outcome, sender: bool) -> String {
    let mut values = of.all("Record-Route");
    if sender {
        values.reverse();
    }
    values.iter().map(|value| format!("Route: {value}\r\n")).collect()
}

/// A request inside the dialog of `invite`: by the caller to `uri`, or by the callee.
fn inside(method: &str, uri: &str, routes: &str, via: &str, callee: bool) -> String {
    let (from, to) = if callee {
        ("<sip:bob@example.org>;tag=b1", "<sip:alice@example.org>;tag=a1")
    } else {
        ("<sip:alice@example.org>;tag=a1", "<sip:bob@example.org>;tag=b1")
    };
    format!(
        "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {via};branch=z9hG4bK{method}\r\n{routes}Max-Forwards: 70\r\n\
         From: {from}\r\nTo: {to}\r\nCall-ID: c1@192.0.2.50\r\nCSeq: 2 {method}\r\nContent-Length: 0\r\n\r\n"
    )
}

fn invite(rig: &mut Rig) -> (Outcome, SocketAddr) {
    let sent = rig.from_client(&request("INVITE", BOB, ""));
    let to = sent.to().unwrap_or_else(|| panic!("{:?}\n{}", sent.verdict, sent.text()));
    (sent, to)
}

/// However long the start line is and wherever the Route lines stand, the rest of a request is changed alike.
#[test]
fn the_front_of_a_request_is_changed_alike_whatever_its_shape() {
    let mut rig = Rig::new();
    let (sent, _) = invite(&mut rig);
    let routes = routes(&sent, true);
    let vias = [
        ("192.0.2.50:5060;branch=z9hG4bKx", "192.0.2.50:5060;branch=z9hG4bKx"),
        ("192.0.2.50:5060;branch=z9hG4bKx;rport", "192.0.2.50:5060;branch=z9hG4bKx;rport=5060;received=192.0.2.50"),
        ("192.0.2.50:5060;rport;branch=z9hG4bKx", "192.0.2.50:5060;rport=5060;branch=z9hG4bKx;received=192.0.2.50"),
        ("10.9.9.9;branch=z9hG4bKx", "10.9.9.9;branch=z9hG4bKx;received=192.0.2.50;rport=5060"),
    ];
    let far = format!("Subject: {}\r\n", "y".repeat(1_500));
    let fronts = ["VR", "RV", "VFR", "FVR", "V"];
    let lay = |front: &str, via: &str, routes: &str| -> String {
        front
            .chars()
            .map(|part| match part {
                'V' => format!("Via: SIP/2.0/UDP {via}\r\n"),
                'R' => routes.to_owned(),
                _ => far.clone(),
            })
            .collect()
    };
    for ((via, told), front) in vias.iter().flat_map(|via| fronts.map(|front| (via, front))) {
        for length in [1, 40, 200, 300, 2_000] {
            let rest = "From: <sip:alice@example.org>;tag=a1\r\nTo: <sip:bob@example.org>;tag=b1\r\n\
                        Call-ID: c1@192.0.2.50\r\nCSeq: 2 BYE\r\nContent-Length: 0\r\n\r\n";
            let start = format!("BYE sip:{}@10.0.0.11:5060 SIP/2.0\r\n", "x".repeat(length));
            let text = format!("{start}{}Max-Forwards: 70\r\n{rest}", lay(front, via, &routes));
            let passed = rig.from_client(&text).text();
            let behind = passed.strip_prefix(&start).and_then(|passed| passed.split_once(";rport\r\n")).unwrap();
            assert!(behind.0.starts_with("Via: SIP/2.0/UDP 10.0.0.1:507"), "{passed}");
            assert_eq!(behind.1, format!("{}Max-Forwards: 69\r\n{rest}", lay(front, told, "")), "{front} {length}");
        }
    }
}

#[test]
fn a_call_from_the_edge_goes_to_one_node_and_its_responses_come_home() {
    let mut rig = Rig::new();
    let (sent, to) = invite(&mut rig);
    assert!(rig.shard.state().plan.from_addr(to).is_some());
    assert_eq!(sent.from_port(), Some(WORKERS), "from this worker's own port");
    let vias = sent.all("Via");
    assert_eq!(vias.len(), 2);
    assert!(vias[0].starts_with("SIP/2.0/UDP 10.0.0.1:507") && vias[0].ends_with(";rport"));
    assert_eq!(sent.one("Max-Forwards"), "69");
    let recorded = sent.all("Record-Route");
    assert!(recorded[0].ends_with("@10.0.0.1:5060;lr>") && recorded[1].ends_with("@192.0.2.1:5060;lr>"));
    let ringing = rig.from_node(&response(&sent, 180, "b1", ""), to);
    assert_eq!(ringing.to(), Some(CLIENT.parse().unwrap()));
    assert_eq!(ringing.from_port(), Some(EDGE));
    assert_eq!(ringing.all("Via"), ["SIP/2.0/UDP 192.0.2.50:5060;branch=z9hG4bK1"]);
    assert_eq!(ringing.all("Record-Route"), recorded);
}

#[test]
fn both_sides_of_a_dialog_reach_each_other_by_the_cookies() {
    let mut rig = Rig::new();
    let (sent, to) = invite(&mut rig);
    let bye = rig.from_client(&inside("BYE", "sip:bob@10.0.0.99", &routes(&sent, true), "192.0.2.50:5060", false));
    assert_eq!(bye.to(), Some(to), "{}", bye.text());
    assert!(bye.all("Route").is_empty() && bye.all("Record-Route").is_empty());
    let uri = "sip:alice@192.0.2.50:5060";
    let other = rig.from_node(&inside("BYE", uri, &routes(&sent, false), "10.0.0.11", true), to);
    assert_eq!(other.to(), Some(CLIENT.parse().unwrap()), "{}", other.text());
    assert_eq!(other.from_port(), Some(EDGE));
    assert!(other.all("Via")[0].starts_with("SIP/2.0/UDP 192.0.2.1:5060;"));
}

#[test]
fn routes_of_others_behind_ours_stay() {
    let mut rig = Rig::new();
    let (sent, to) = invite(&mut rig);
    let ours = sent.all("Record-Route");
    let line =
        format!("Route: {}, {} , <sip:inner.example.com;lr>\r\nRoute: <sip:next.example.com;lr>\r\n", ours[1], ours[0]);
    let bye = rig.from_client(&inside("BYE", "sip:bob@10.0.0.99", &line, "192.0.2.50:5060", false));
    assert_eq!(bye.to(), Some(to));
    assert_eq!(bye.all("Route"), ["<sip:inner.example.com;lr>", "<sip:next.example.com;lr>"]);
}

#[test]
fn a_natted_client_is_reached_where_it_was_seen() {
    let mut rig = Rig::new();
    let seen = "198.51.100.7:41000";
    let nated = request("INVITE", BOB, "").replace("192.0.2.50:5060", "192.168.1.5:5060");
    let sent = rig.pass(nated.as_bytes(), EDGE, seen);
    let to = sent.to().unwrap();
    assert!(sent.all("Via")[1].ends_with(";received=198.51.100.7;rport=41000"), "{}", sent.text());
    let ringing = rig.from_node(&response(&sent, 180, "b1", ""), to);
    assert_eq!(ringing.to(), Some(seen.parse().unwrap()));
    let bye = inside("BYE", "sip:alice@192.168.1.5:5060", &routes(&sent, false), "10.0.0.11", true);
    let bye = rig.from_node(&bye, to);
    assert_eq!(bye.to(), Some(seen.parse().unwrap()));
    assert_eq!(bye.from_port(), Some(EDGE));
    assert!(bye.text().starts_with("BYE sip:alice@192.168.1.5:5060 SIP/2.0\r\n"));
}

#[test]
fn a_registered_phone_behind_nat_is_called_through_its_path() {
    let mut rig = Rig::new();
    let seen = "198.51.100.7:41000";
    let register = request("REGISTER", "sip:example.org", "").replace("192.0.2.50:5060", "192.168.1.5:5060");
    let sent = rig.pass(register.as_bytes(), EDGE, seen);
    let to = sent.to().unwrap();
    let path = sent.one("Path");
    assert!(path.ends_with("@10.0.0.1:5060;lr>"), "{}", sent.text());
    assert_eq!(sent.one("Supported"), "path");
    assert!(sent.all("Record-Route").is_empty());
    let call = request("INVITE", "sip:alice@192.168.1.5:5060", &format!("Route: {path}\r\n"));
    let called = rig.from_node(&call, to);
    assert_eq!(called.to(), Some(seen.parse().unwrap()), "{}", called.text());
    assert!(called.all("Route").is_empty());
    // The phone's answer and its BYE.
    let ok = response(&called, 200, "p1", "");
    let ok = rig.pass(ok.as_bytes(), EDGE, seen);
    assert!(ok.to().is_some(), "{:?}", ok.verdict);
    let bye = inside("BYE", "sip:x@10.0.0.11", &routes(&called, false), "192.168.1.5:5060", true);
    let bye = rig.pass(bye.as_bytes(), EDGE, seen);
    assert_eq!(bye.to(), Some(to), "{}", bye.text());
    // And what the node sends inside that dialog goes to where the phone was seen.
    let again = inside("INVITE", "sip:alice@192.168.1.5:5060", &routes(&called, true), "10.0.0.11", false);
    let again = rig.from_node(&again, to);
    assert_eq!(again.to(), Some(seen.parse().unwrap()), "{}", again.text());
}

#[test]
fn a_rewritten_contact_is_restored_in_the_200_and_in_request_uris() {
    let mut rig = Rig::with(|parts| parts.policy.contact = ContactMode::Rewrite);
    let seen = "198.51.100.7:41000";
    let register = request("REGISTER", "sip:example.org", "")
        .replace(
            "Contact: <sip:alice@192.0.2.50:5060>",
            "Contact: <sip:alice@192.168.1.5:5062;ob>;expires=60, <sip:h@pbx.example.net>",
        )
        .replace("192.0.2.50:5060", "192.168.1.5:5060");
    let sent = rig.pass(register.as_bytes(), EDGE, seen);
    let to = sent.to().unwrap();
    let contact = sent.one("Contact");
    assert!(contact.contains(".alice@10.0.0.1:5060;ob>;expires=60, <sip:h@pbx.example.net>"), "{contact}");
    assert_eq!(rig.counters.tallied(Tally::ContactByName), 1);
    let ok = rig.from_node(&response(&sent, 200, "r", &format!("Contact: {contact}\r\n")), to);
    assert_eq!(ok.one("Contact"), "<sip:alice@192.168.1.5:5062;ob>;expires=60, <sip:h@pbx.example.net>");
    let uri = contact.split(['<', '>']).nth(1).unwrap().to_owned();
    let called = rig.from_node(&request("INVITE", &uri, ""), to);
    assert_eq!(called.to(), Some(seen.parse().unwrap()), "{:?}\n{}", called.verdict, called.text());
    assert!(called.text().starts_with("INVITE sip:alice@192.168.1.5:5062;ob SIP/2.0\r\n"), "{}", called.text());
}

#[test]
fn invite_retransmission_cancel_and_ack_get_the_same_via_and_node_from_every_worker() {
    let mut rig = Rig::new();
    let (sent, to) = invite(&mut rig);
    let via = sent.all("Via").remove(0);
    let mut other = rig.sibling(1);
    for rig in [&mut rig, &mut other] {
        let again = rig.from_client(&request("INVITE", BOB, ""));
        let cancel = rig.from_client(&request("CANCEL", BOB, ""));
        let ack = request("ACK", BOB, "").replace("To: <sip:bob@example.org>", "To: <sip:bob@example.org>;tag=b1");
        let ack = rig.from_client(&ack);
        for outcome in [again, cancel, ack] {
            assert_eq!(outcome.all("Via")[0], via);
            assert_eq!(outcome.to(), Some(to));
        }
    }
}

#[test]
fn a_mark_holds_the_node_while_the_table_changes_and_moves_once_when_it_is_down() {
    let mut parts = rig::Parts::default();
    let mut rig = Rig::of(&parts);
    let (_, to) = invite(&mut rig);
    parts.nodes = vec![node(9, 60_000), node(3, 100), node(2, 100), node(1, 100)];
    rig.reload(&parts);
    let (_, still) = invite(&mut rig);
    assert_eq!(still, to);
    let down = |addr: SocketAddr, state: &mut sipring::shard::State| {
        let peers = &state.plan.endpoints.peers;
        let health = peers.iter().map(|peer| if *peer == addr { Health::Down } else { Health::Up });
        state.vitals = std::sync::Arc::new(Vitals::of_endpoints(health));
    };
    rig.change_state(|state| down(to, state));
    let (_, moved) = invite(&mut rig);
    assert_ne!(moved, to);
    assert_eq!(rig.counters.tallied(Tally::MarkMoved), 1);
    rig.change_state(|state| down(moved, state));
    let (_, stays) = invite(&mut rig);
    assert_eq!(stays, moved, "a mark moves once");
    let cancel = rig.from_client(&request("CANCEL", BOB, ""));
    assert_eq!(cancel.to(), Some(moved));
}

#[test]
fn a_draining_node_keeps_its_calls_and_gets_no_new_ones() {
    let mut parts = rig::Parts::default();
    let mut rig = Rig::of(&parts);
    let (sent, to) = invite(&mut rig);
    let ix = rig.shard.state().plan.from_addr(to).unwrap();
    let id = rig.shard.state().plan.node(ix).unwrap().id;
    parts.nodes.iter_mut().filter(|node| node.id == Some(id)).for_each(|node| node.intent = Intent::Drain);
    rig.reload(&parts);
    assert_eq!(invite(&mut rig).1, to, "a retransmission");
    let bye = rig.from_client(&inside("BYE", "sip:bob@10.0.0.99", &routes(&sent, true), "192.0.2.50:5060", false));
    assert_eq!(bye.to(), Some(to));
    for call in 0..50 {
        let fresh = request("INVITE", BOB, "").replace("c1@", &format!("d{call}@"));
        assert_ne!(rig.from_client(&fresh).to(), Some(to));
    }
}

#[test]
fn a_dialog_of_a_stopped_or_removed_node_is_told_lost_or_rehashed() {
    for (lost_dialog, stopped) in [(LostDialog::Refuse, true), (LostDialog::Refuse, false), (LostDialog::Rehash, true)]
    {
        let mut parts = rig::Parts::default();
        parts.policy.lost_dialog = lost_dialog;
        let mut rig = Rig::of(&parts);
        let (sent, to) = invite(&mut rig);
        let ix = rig.shard.state().plan.from_addr(to).unwrap();
        let id = rig.shard.state().plan.node(ix).unwrap().id;
        if stopped {
            parts.nodes.iter_mut().filter(|node| node.id == Some(id)).for_each(|node| node.intent = Intent::Stop);
        } else {
            parts.nodes.retain(|node| node.id != Some(id));
        }
        rig.reload(&parts);
        let inside = |method| inside(method, "sip:bob@10.0.0.99", &routes(&sent, true), "192.0.2.50:5060", false);
        let bye = rig.from_client(&inside("BYE"));
        let ack = rig.from_client(&inside("ACK"));
        if lost_dialog == LostDialog::Rehash {
            assert!(bye.to().is_some_and(|node| node != to));
        } else {
            assert_eq!(bye.reply(), Some(481));
            assert!(matches!(ack.verdict, Verdict::Drop(_)));
        }
    }
}

#[test]
fn a_dialog_stays_with_its_node_when_that_is_down() {
    let mut rig = Rig::new();
    let (sent, to) = invite(&mut rig);
    rig.change_state(|state| state.vitals = std::sync::Arc::new(Vitals::of_endpoints([Health::Down; 3])));
    let bye = rig.from_client(&inside("BYE", "sip:bob@10.0.0.99", &routes(&sent, true), "192.0.2.50:5060", false));
    assert_eq!(bye.to(), Some(to));
    let fresh = rig.from_client(&request("INVITE", BOB, "").replace("c1@", "c2@"));
    assert_eq!(fresh.reply(), Some(503));
    assert!(!fresh.one("Retry-After").is_empty());
}

#[test]
fn new_calls_avoid_a_node_that_is_unreachable_for_a_moment_and_ringing_ones_do_not() {
    let mut rig = Rig::new();
    let (_, to) = invite(&mut rig);
    let event = Event { port: WORKERS, to, trouble: Trouble::Unreachable };
    rig.shard.event(rig.now_ms, event);
    assert_eq!(invite(&mut rig).1, to, "one error may be forged");
    for call in 0..50 {
        let fresh = request("INVITE", BOB, "").replace("c1@", &format!("d{call}@"));
        assert_ne!(rig.from_client(&fresh).to(), Some(to));
    }
    assert_eq!(rig.counters.tallied(Tally::EndpointAvoided), 1);
    assert_eq!(rig.shard.wakes_at_ms(), Some(1_250));
    rig.shard.expire(1_250, 256, &mut rig.out);
    assert_eq!(rig.shard.wakes_at_ms(), None);
}

#[test]
fn a_call_begun_by_a_node_goes_where_the_request_uri_says_and_back() {
    let mut rig = Rig::new();
    let node1: SocketAddr = rig::NODE1.parse().unwrap();
    let call = request("INVITE", "sip:bob@203.0.113.9:5080", "").replace("192.0.2.50:5060", "10.0.0.11:5060");
    let sent = rig.from_node(&call, node1);
    assert_eq!(sent.to(), Some("203.0.113.9:5080".parse().unwrap()), "{:?}", sent.verdict);
    assert_eq!(sent.from_port(), Some(EDGE));
    let recorded = sent.all("Record-Route");
    assert!(recorded[0].ends_with("@192.0.2.1:5060;lr>") && recorded[1].ends_with("@10.0.0.1:5060;lr>"));
    let ok = rig.pass(response(&sent, 200, "b1", "").as_bytes(), EDGE, "203.0.113.9:5080");
    assert_eq!(ok.to(), Some(node1));
    assert_eq!(ok.from_port(), Some(NODES), "from the port that the request came in at");
    let bye = inside("BYE", "sip:alice@10.0.0.11", &routes(&sent, false), "203.0.113.9:5080", true);
    let bye = rig.pass(bye.as_bytes(), EDGE, "203.0.113.9:5080");
    assert_eq!(bye.to(), Some(node1));
    let bye = inside("BYE", "sip:bob@203.0.113.9:5080", &routes(&sent, true), "10.0.0.11", false);
    assert_eq!(rig.from_node(&bye, node1).to(), Some("203.0.113.9:5080".parse().unwrap()));
}

#[test]
fn a_response_leaves_from_the_worker_port_that_the_request_came_in_at_or_is_handed_there() {
    let mut rig = Rig::new();
    let call = request("INVITE", "sip:bob@203.0.113.9:5080", "");
    for (port, handed) in [(WORKERS.0, false), (WORKERS.0 + 1, true)] {
        let sent = rig.pass(call.as_bytes(), PortId(port), rig::NODE1);
        let ok = rig.pass(response(&sent, 200, "b1", "").as_bytes(), EDGE, "203.0.113.9:5080");
        if handed {
            assert!(matches!(ok.verdict, Verdict::Handoff(worker) if worker.0 == 1), "{:?}", ok.verdict);
        } else {
            assert_eq!(ok.from_port(), Some(PortId(port)));
        }
    }
}

#[test]
fn nothing_from_the_edge_leaves_the_cluster() {
    let mut rig = Rig::new();
    for (uri, routes) in [
        ("sip:victim@203.0.113.9", ""),
        (BOB, "Route: <sip:203.0.113.9;lr>\r\n"),
        (BOB, "Route: <sip:192.0.2.1;lr>, <sip:203.0.113.9;lr>\r\n"),
        (BOB, "Route: <sip:sip.example.org;lr>\r\nRoute: <sip:203.0.113.9>\r\n"),
        ("sip:x@192.0.2.1:5060", "Route: <sip:203.0.113.9;lr>\r\n"),
    ] {
        for (port, source) in [(EDGE, CLIENT), (NODES, CLIENT), (WORKERS, CLIENT), (EDGE, rig::NODE1)] {
            let outcome = rig.pass(request("INVITE", uri, routes).as_bytes(), port, source);
            if let Some(to) = outcome.to() {
                assert!(rig.shard.state().plan.from_addr(to).is_some(), "{uri} {routes} to {to}");
                assert!(outcome.text().contains("203.0.113.9"), "foreign values stay: {}", outcome.text());
            }
        }
    }
}

#[test]
fn a_response_from_the_edge_with_an_altered_via_below_does_not_leave_the_cluster() {
    let mut rig = Rig::new();
    let sent = rig.from_node(&request("INVITE", "sip:bob@203.0.113.9:5080", ""), rig::NODE1.parse().unwrap());
    let ok = response(&sent, 200, "b1", "").replace("received=10.0.0.11", "received=203.0.113.77");
    let ok = rig.pass(ok.as_bytes(), EDGE, "203.0.113.9:5080");
    assert_eq!(ok.verdict, Verdict::Drop(DropReason::ResponseOutside));
}

#[test]
fn cookies_are_obeyed_only_from_the_side_they_face_and_for_their_call() {
    let mut rig = Rig::new();
    let (sent, to) = invite(&mut rig);
    let ours = sent.all("Record-Route");
    let (node_facing, edge_facing) = (&ours[0], &ours[1]);
    let bye =
        |route: &str| inside("BYE", "sip:bob@10.0.0.99", &format!("Route: {route}\r\n"), "192.0.2.50:5060", false);
    assert_eq!(rig.from_client(&bye(node_facing)).reply(), Some(403));
    assert_eq!(rig.from_node(&bye(edge_facing), to).reply(), Some(403));
    let replayed = bye(edge_facing).replace("c1@", "c2@");
    assert_eq!(rig.from_client(&replayed).reply(), Some(403));
    let altered = edge_facing.replacen("<sip:0r", "<sip:0rz", 1);
    assert_eq!(rig.from_client(&bye(&altered)).reply(), Some(403));
    let ack = bye(&altered).replace("BYE", "ACK");
    assert_eq!(rig.from_client(&ack).verdict, Verdict::Drop(DropReason::AckRefused));
    let mut stranger = Rig::with(|parts| parts.cookie = [1; 16]);
    assert_eq!(stranger.from_client(&bye(edge_facing)).reply(), Some(403));
    let told =
        [Tally::CookieWrongSide, Tally::CookieBadMac, Tally::CookieMalformed].map(|tally| rig.counters.tallied(tally));
    assert_eq!(told, [2, 1, 2]);
}

#[test]
fn a_path_cookie_is_not_obeyed_from_the_edge() {
    let mut rig = Rig::new();
    let path = rig.from_client(&request("REGISTER", "sip:example.org", "")).one("Path");
    let call = rig.from_client(&request("INVITE", BOB, &format!("Route: {path}\r\n")));
    assert_eq!(call.reply(), Some(403));
}

#[test]
fn a_strict_router_before_us_is_repaired() {
    let mut rig = Rig::new();
    let (sent, to) = invite(&mut rig);
    let ours = sent.all("Record-Route");
    let uri = ours[1].trim_matches(['<', '>']).to_owned();
    let line = format!("Route: {}\r\nRoute: <sip:far.example.com;lr>, <sip:bob@10.0.0.99:5070>\r\n", ours[0]);
    let bye = rig.from_client(&inside("BYE", &uri, &line, "192.0.2.50:5060", false));
    assert_eq!(bye.to(), Some(to), "{:?}", bye.verdict);
    assert!(bye.text().starts_with("BYE sip:bob@10.0.0.99:5070 SIP/2.0\r\n"), "{}", bye.text());
    assert_eq!(bye.all("Route"), ["<sip:far.example.com;lr>"]);
    let line = format!("Route: {}, <sip:bob@10.0.0.99:5070>\r\n", ours[0]);
    let bye = rig.from_client(&inside("BYE", &uri, &line, "192.0.2.50:5060", false));
    assert!(bye.text().starts_with("BYE sip:bob@10.0.0.99:5070 SIP/2.0\r\n"), "{}", bye.text());
    assert!(bye.all("Route").is_empty());
    let bare = inside("BYE", &uri, &format!("Route: {}\r\n", ours[0]), "192.0.2.50:5060", false);
    assert_eq!(rig.from_client(&bare).reply(), Some(400), "the target is gone");
}

#[test]
fn a_strict_router_behind_us_gets_what_it_expects() {
    let mut rig = Rig::new();
    let line = "Route: <sip:203.0.113.20:5066>\r\nRoute: <sip:last.example.com;lr>\r\n";
    let sent = rig.from_node(&request("INVITE", "sip:bob@203.0.113.9", line), rig::NODE1.parse().unwrap());
    assert_eq!(sent.to(), Some("203.0.113.20:5066".parse().unwrap()));
    assert!(sent.text().starts_with("INVITE sip:203.0.113.20:5066 SIP/2.0\r\n"), "{}", sent.text());
    assert_eq!(sent.all("Route"), ["<sip:last.example.com;lr>", "<sip:bob@203.0.113.9>"]);
}

#[test]
fn a_loop_is_told_and_a_spiral_is_not() {
    let mut rig = Rig::new();
    let (sent, to) = invite(&mut rig);
    let back = sent.text().replace("sip:bob@example.com SIP", "sip:bob@192.0.2.1:5060 SIP");
    let spiral = rig.from_node(&back, to);
    assert!(spiral.reply() != Some(482), "{}", spiral.text());
    let mut client = sent.text();
    client =
        client.lines().filter(|line| !line.starts_with("Record-Route")).map(|line| format!("{line}\r\n")).collect();
    assert_eq!(rig.from_client(&client).reply(), Some(482));
}

#[test]
fn the_source_header_is_written_and_forged_ones_are_removed() {
    let header = SourceHeader { name: "X-Sipring-Source".to_owned(), form: SourceForm::Full };
    let mut rig = Rig::with(|parts| parts.policy.source_header = Some(header.clone()));
    let forged = "x-sipring-source : 203.0.113.1:1\r\nX-SIPRING-Source: \r\n 203.0.113.2:1\r\n";
    let sent = rig.from_client(&request("INVITE", BOB, forged));
    assert_eq!(sent.all("X-Sipring-Source"), ["192.0.2.50:5060;listener=phones"], "{}", sent.text());
    assert!(!sent.text().contains("203.0.113"));
    let inside = inside("BYE", BOB, forged, "192.0.2.50:5060", false);
    assert!(rig.from_client(&inside).all("X-Sipring-Source").is_empty());
    let mut rig = Rig::with(|parts| {
        parts.policy.source_header = Some(SourceHeader { form: SourceForm::Address, ..header.clone() });
    });
    assert_eq!(rig.from_client(&request("INVITE", BOB, "")).one("X-Sipring-Source"), "192.0.2.50");
    let six = request("INVITE", BOB, "");
    let sent = rig.pass(six.as_bytes(), rig::EDGE6, "[2001:db8::7]:5060");
    assert_eq!(sent.one("X-Sipring-Source"), "2001:db8::7");
}

#[test]
fn sipring_answers_options_to_itself_and_forwards_others() {
    let mut rig = Rig::new();
    assert_eq!(rig.from_client(&request("OPTIONS", "sip:192.0.2.1", "")).reply(), Some(200));
    assert_eq!(rig.from_client(&request("OPTIONS", "sip:sip.example.org:5060", "")).reply(), Some(200));
    assert!(rig.from_client(&request("OPTIONS", BOB, "")).to().is_some());
    assert_eq!(rig.from_client(&request("NEWMETHOD", "sip:192.0.2.1", "")).reply(), Some(501));
    assert!(rig.from_client(&request("NEWMETHOD", BOB, "")).to().is_some());
    rig.change_state(|state| state.draining = true);
    assert_eq!(rig.from_client(&request("OPTIONS", "sip:192.0.2.1", "")).reply(), Some(503));
    assert_eq!(rig.from_client(&request("INVITE", BOB, "").replace("c1@", "c3@")).reply(), Some(503));
}

#[test]
fn local_replies_have_one_to_tag_and_its_ack_is_absorbed() {
    let mut rig = Rig::new();
    let bad = request("INVITE", BOB, "Proxy-Require: x\r\n");
    let reply = rig.from_client(&bad);
    assert_eq!(reply.reply(), Some(420));
    assert_eq!(rig.sibling(1).from_client(&bad).one("To"), reply.one("To"));
    let ack = request("ACK", BOB, "").replace("To: <sip:bob@example.org>", &format!("To: {}", reply.one("To")));
    assert_eq!(rig.from_client(&ack).verdict, Verdict::Absorb);
    let other = ack.replace(";tag=0r", ";tag=0s");
    assert_ne!(rig.from_client(&other).verdict, Verdict::Absorb);
    for quiet in [&b""[..], b"\r\n\r\n", b"\0\0", b"\r\n"] {
        assert_eq!(rig.pass(quiet, EDGE, CLIENT).verdict, Verdict::Absorb);
    }
}

#[test]
fn a_nodes_503_reaches_clients_as_500_without_retry_after() {
    for relay_503 in [false, true] {
        let mut rig = Rig::with(|parts| parts.policy.relay_503 = relay_503);
        let (sent, to) = invite(&mut rig);
        let busy = rig.from_node(&response(&sent, 503, "b1", "Retry-After: 5\r\nServer: x\r\n"), to);
        assert_eq!(busy.text().starts_with("SIP/2.0 503"), relay_503, "{}", busy.text());
        assert_eq!(busy.all("Retry-After").len(), usize::from(relay_503));
        assert_eq!(busy.one("Server"), "x");
    }
    let mut rig = Rig::new();
    let sent = rig.from_node(&request("INVITE", "sip:bob@203.0.113.9:5080", ""), rig::NODE1.parse().unwrap());
    let from_carrier = response(&sent, 503, "b1", "Retry-After: 5\r\n").replace("192.0.2.50:5060", "10.0.0.11:5060");
    let busy = rig.pass(from_carrier.as_bytes(), EDGE, "203.0.113.9:5080");
    assert!(busy.text().starts_with("SIP/2.0 503"), "{:?}", busy.verdict);
}

#[test]
fn a_phone_that_sends_from_one_port_and_listens_on_another_is_reached_on_the_latter() {
    let mut rig = Rig::new();
    let sent = rig.pass(request("INVITE", BOB, "").as_bytes(), EDGE, "192.0.2.50:33000");
    let to = sent.to().unwrap();
    let ringing = rig.from_node(&response(&sent, 180, "b1", ""), to);
    assert_eq!(ringing.to(), Some(CLIENT.parse().unwrap()));
    let bye = rig.from_node(&inside("BYE", "sip:alice@192.0.2.50:5060", &routes(&sent, false), "10.0.0.11", true), to);
    assert_eq!(bye.to(), Some(CLIENT.parse().unwrap()));
    let mut rig = Rig::with(|parts| parts.force_rport = ForceRport::Always);
    let sent = rig.pass(request("INVITE", BOB, "").as_bytes(), EDGE, "192.0.2.50:33000");
    let ringing = rig.from_node(&response(&sent, 180, "b1", ""), to);
    assert_eq!(ringing.to(), Some("192.0.2.50:33000".parse().unwrap()), "{}", sent.text());
}

#[test]
fn a_next_hop_by_name_is_asked_for_and_found_later() {
    let mut rig = Rig::new();
    let call = request("INVITE", "sip:bob@carrier.example.net", "");
    let lost = rig.from_node(&call, rig::NODE1.parse().unwrap());
    assert_eq!(lost.verdict, Verdict::Drop(DropReason::NameUnresolved));
    let asked = rig.shared.asks.next().unwrap();
    assert_eq!(asked.as_str(), "carrier.example.net");
    rig.change_state(|state| {
        let known = [("carrier.example.net".to_owned(), vec!["203.0.113.4".parse().unwrap()])];
        state.names = std::sync::Arc::new(sipring::shard::Names::new(known.into_iter().collect()));
    });
    let sent = rig.from_node(&call, rig::NODE1.parse().unwrap());
    assert_eq!(sent.to(), Some("203.0.113.4:5060".parse().unwrap()));
    let nowhere = [("carrier.example.net".to_owned(), Vec::new())].into_iter().collect();
    rig.change_state(|state| state.names = std::sync::Arc::new(sipring::shard::Names::new(nowhere)));
    assert_eq!(rig.from_node(&call, rig::NODE1.parse().unwrap()).reply(), Some(500));
}

#[test]
fn register_and_replaces_are_spread_by_what_they_name() {
    let mut rig = Rig::new();
    let at = |rig: &mut Rig, text: &str| rig.from_client(text).to().unwrap();
    let first = at(&mut rig, &request("REGISTER", "sip:example.org", ""));
    for call in 0..20 {
        let again = request("REGISTER", "sip:example.org", "").replace("c1@", &format!("r{call}@"));
        assert_eq!(at(&mut rig, &again), first, "by address of record");
    }
    for call in 0..20 {
        let plain = at(&mut rig, &request("INVITE", BOB, "").replace("c1@", &format!("i{call}@")));
        let more = format!("Replaces: i{call}@192.0.2.50;to-tag=x;from-tag=y\r\n");
        let replacing = request("INVITE", BOB, &more).replace("Call-ID: c1@", &format!("Call-ID: j{call}@"));
        assert_eq!(at(&mut rig, &replacing), plain);
    }
}

#[test]
fn the_owner_gets_requests_by_handoff_where_that_is_wished() {
    let mut rig = Rig::with(|parts| parts.options.owner_handoff = true);
    let mut other = rig.sibling(1);
    let mut handed = 0;
    for call in 0..64 {
        let text = request("INVITE", BOB, "").replace("z9hG4bK1", &format!("z9hG4bK{call}"));
        let here = rig.from_client(&text);
        let there = other.from_client(&text);
        let sides = [&here, &there].map(|side| matches!(side.verdict, Verdict::Handoff(_)));
        assert!(sides[0] != sides[1], "one of the two is the owner");
        handed += usize::from(sides[0]);
        let (sent, owner) = if sides[0] { (there, &mut other) } else { (here, &mut rig) };
        let to = sent.to().unwrap();
        let ok = response(&sent, 200, "b1", "");
        assert!(owner.from_node(&ok, to).to().is_some());
    }
    assert!((16..48).contains(&handed), "{handed} of 64");
}

#[test]
fn growth_stays_within_what_is_promised() {
    let header = SourceHeader { name: "X-Sipring-Source".to_owned(), form: SourceForm::Full };
    let mut rig = Rig::with(|parts| parts.policy.source_header = Some(header));
    let four = request("INVITE", BOB, "")
        .replace("192.0.2.50:5060", "192.168.111.111:50600")
        .replace(";branch", ";rport;branch");
    let sent = rig.pass(four.as_bytes(), EDGE, "198.51.100.107:41000");
    let source = sent.all("X-Sipring-Source")[0].len() + "X-Sipring-Source: \r\n".len();
    let grown = sent.bytes.len() - four.len() - source;
    assert!(grown <= 300, "{grown} bytes over IPv4");
    assert!(source <= 80, "{source} bytes of source header");
    let six = "[2001:0db8:1111:2222:3333:4444:5555:6666]:50600";
    let text = request("INVITE", BOB, "")
        .replace("192.0.2.50:5060", "[2001:db8::99]:5060")
        .replace(";branch", ";rport;branch");
    let sent = rig.pass(text.as_bytes(), rig::EDGE6, six);
    let source = sent.all("X-Sipring-Source")[0].len() + "X-Sipring-Source: \r\n".len();
    let grown = sent.bytes.len() - text.len() - source;
    assert!(grown <= 420, "{grown} bytes over IPv6");
}

#[test]
fn the_books_balance() {
    let mut rig = Rig::new();
    invite(&mut rig);
    rig.pass(b"\r\n", EDGE, CLIENT);
    rig.pass(b"garbage", EDGE, CLIENT);
    rig.from_client(&request("OPTIONS", "sip:192.0.2.1", ""));
    let [received, rest @ ..] = rig.counters.books();
    assert_eq!(received, rest.iter().sum::<u64>());
    assert_eq!(rest, [1, 1, 1, 0, 1]);
}

#[test]
fn a_contact_that_leads_elsewhere_than_its_text_seems_to_is_reached_where_it_was_seen() {
    for contact in [
        "<sip:192.0.2.50:5060;x@203.0.113.66>",
        "<sip:alice@192.0.2.50:5060;maddr=203.0.113.66>",
        "<sip:alice@192.0.2.50:5060;transport=tcp>",
        "<sips:alice@192.0.2.50:5060>",
        "sip:alice@203.0.113.66",
    ] {
        let mut rig = Rig::new();
        let text = request("INVITE", BOB, "").replace("<sip:alice@192.0.2.50:5060>", contact);
        let sent = rig.from_client(&text);
        let to = sent.to().unwrap_or_else(|| panic!("{:?}", sent.verdict));
        let bye = inside("BYE", contact.trim_matches(['<', '>']), &routes(&sent, false), "10.0.0.11", true);
        let bye = rig.from_node(&bye, to);
        assert!(bye.to().is_none_or(|to| to == CLIENT.parse().unwrap()), "{contact}: {:?}", bye.verdict);
    }
}

#[test]
fn what_a_node_sends_on_unchanged_is_no_loop() {
    let mut rig = Rig::new();
    let sent = rig.from_client(&request("INVITE", "sip:bob@203.0.113.9", ""));
    let back = rig.from_node(&sent.text(), sent.to().unwrap());
    assert_eq!(back.to(), Some("203.0.113.9:5060".parse().unwrap()), "{:?}", back.verdict);
    let again = rig.from_node(&back.text(), sent.to().unwrap());
    assert_eq!(again.reply(), Some(482));
}

#[test]
fn a_cookie_in_a_route_that_does_not_parse_is_refused_not_passed_over() {
    let mut rig = Rig::new();
    let (sent, _) = invite(&mut rig);
    let ours = sent.all("Record-Route").remove(1).replace("<sip:", "< sip:");
    let bye = inside("BYE", "sip:bob@10.0.0.99", &format!("Route: {ours}\r\n"), "192.0.2.50:5060", false);
    assert_eq!(rig.from_client(&bye).reply(), Some(400));
}

#[test]
fn a_nodes_request_to_us_goes_to_another_node() {
    let mut rig = Rig::new();
    let node1: SocketAddr = rig::NODE1.parse().unwrap();
    for call in 0..100 {
        let text = request("INVITE", "sip:bob@10.0.0.1:5060", "").replace("c1@", &format!("n{call}@"));
        let sent = rig.from_node(&text, node1);
        assert!(sent.to().is_some_and(|to| to != node1), "{:?}", sent.verdict);
    }
    let to_us = inside("INFO", "sip:x@192.0.2.1:5060", "", "10.0.0.11", true);
    let lost = rig.from_node(&to_us, node1);
    assert!(lost.to().is_none_or(|to| to != "192.0.2.1:5060".parse().unwrap()), "{:?}", lost.verdict);
}

#[test]
fn refreshes_leave_a_dead_or_drained_node_once_their_answer_has_passed() {
    let mut parts = rig::Parts::default();
    let mut rig = Rig::of(&parts);
    let register = request("REGISTER", "sip:example.org", "");
    let sent = rig.from_client(&register);
    let first = sent.to().unwrap();
    rig.from_node(&response(&sent, 200, "r", ""), first);
    let ix = rig.shard.state().plan.from_addr(first).unwrap();
    let id = rig.shard.state().plan.node(ix).unwrap().id;
    parts.nodes.iter_mut().filter(|node| node.id == Some(id)).for_each(|node| node.intent = Intent::Drain);
    rig.reload(&parts);
    let answering = register.replace("Contact:", "Authorization: Digest x=1\r\nContact:");
    assert_eq!(rig.from_client(&answering).to(), Some(first), "it answers that node's challenge");
    rig.from_node(&response(&sent, 200, "r", ""), first);
    let second = rig.from_client(&register).to().unwrap();
    assert_ne!(second, first);
}

#[test]
fn line_ends_before_the_start_line_are_passed_over() {
    let mut rig = Rig::new();
    let sent = rig.from_client(&format!("\r\n\r\n{}", request("INVITE", BOB, "")));
    assert!(sent.to().is_some() && sent.text().starts_with("INVITE "), "{:?}", sent.verdict);
}

#[test]
fn a_rewritten_contact_without_a_port_is_restored_without_one() {
    let mut rig = Rig::with(|parts| parts.policy.contact = ContactMode::Rewrite);
    let register =
        request("REGISTER", "sip:example.org", "").replace("<sip:alice@192.0.2.50:5060>", "<sip:alice@192.168.1.5>");
    let sent = rig.from_client(&register);
    let ok = response(&sent, 200, "r", &format!("Contact: {}\r\n", sent.one("Contact")));
    let ok = rig.from_node(&ok, sent.to().unwrap());
    assert_eq!(ok.one("Contact"), "<sip:alice@192.168.1.5>", "{}", sent.text());
}
