//! sipring is no open relay: whatever a client writes, only nodes get its requests.

use std::net::SocketAddr;

use crate::harness::agent::Start;
use crate::harness::cluster::Cluster;
use crate::harness::dialog::State;
use crate::harness::message::Message;
use crate::harness::turn;
use crate::harness::world::Who;

const METHODS: [&str; 15] = [
    "INVITE",
    "OPTIONS",
    "MESSAGE",
    "BYE",
    "ACK",
    "CANCEL",
    "REGISTER",
    "SUBSCRIBE",
    "NOTIFY",
    "PRACK",
    "UPDATE",
    "REFER",
    "INFO",
    "PUBLISH",
    "MADEUP",
];

/// A cluster and somebody outside of it whom clients would like to reach through it.
fn with_victim() -> (Cluster, Who, SocketAddr) {
    let mut cluster = Cluster::new(3, 3, |spec| spec.workers(2));
    let at = SocketAddr::new(cluster.core.address(9, 9), 5060);
    let victim = cluster.world.add("victim", &cluster.core.place(), at);
    (cluster, victim, at)
}

/// Request-URI and Routes that name the victim in some way.
fn shapes(cluster: &Cluster, at: SocketAddr) -> Vec<(String, Vec<String>)> {
    let (edge, node_side) = (cluster.edge, cluster.spec.node_side());
    let worker = SocketAddr::new(node_side.ip(), cluster.spec.node_sides[0].1);
    let route = |to: SocketAddr| format!("<sip:{to};lr>");
    vec![
        (format!("sip:x@{at}"), vec![]),
        (format!("sip:x@{edge};maddr={}", at.ip()), vec![]),
        (format!("sip:x@{edge}"), vec![route(at)]),
        (format!("sip:x@{edge}"), vec![format!("<sip:{at}>")]),
        (format!("sip:x@{edge}"), vec![route(edge), route(at)]),
        (format!("sip:x@{at}"), vec![route(edge)]),
        (format!("sip:x@{at}"), vec![route(node_side), route(edge), route(at)]),
        (format!("sip:x@{at}"), vec![route(worker)]),
        (format!("sip:x@{at}"), vec![format!("<sip:{edge};lr>, <sip:{at};lr>")]),
        (format!("sip:{edge}"), vec![format!("<sip:x@{at}>")]),
    ]
}

fn request(method: &str, uri: &str, routes: &[String], tag: &str) -> Message {
    let number = crate::harness::unique();
    let mut message = Message::request(method, uri);
    for route in routes {
        message = message.with("Route", route.clone());
    }
    message
        .with("Max-Forwards", "70")
        .with("From", format!("<sip:mallory@example.com>;tag=m{number}"))
        .with("To", format!("<{uri}>{tag}"))
        .with("Call-ID", format!("relay-{number}"))
        .with("CSeq", format!("{number} {method}"))
        .with("Contact", "<sip:mallory@10.77.3.1>")
}

/// A call that must get through shows that everything sent before it has been dealt with.
fn settle(cluster: &mut Cluster) {
    let calls = cluster.calls(8, State::Confirmed);
    assert_eq!(calls.len(), 8);
}

#[test]
fn requests_of_clients_go_to_nodes_whatever_they_name() {
    let _turn = turn();
    let (mut cluster, victim, at) = with_victim();
    let (client, edge) = (cluster.client, cluster.edge);
    let mut sent = 0;
    for (uri, routes) in shapes(&cluster, at) {
        for method in METHODS {
            for tag in ["", ";tag=made-up"] {
                cluster.world.agent_mut(client).inject(request(method, &uri, &routes, tag), edge);
                sent += 1;
            }
        }
        settle(&mut cluster);
    }
    assert_eq!(cluster.world.agent(victim).received, Vec::<Message>::new(), "relayed outside the cluster");
    let reached: usize = cluster.nodes.iter().map(|node| cluster.world.agent(*node).received.len()).sum();
    assert!(reached > sent / 3, "of {sent} requests {reached} reached a node: the others would prove nothing");
}

#[test]
fn responses_of_clients_are_relayed_nowhere() {
    let _turn = turn();
    let (mut cluster, victim, at) = with_victim();
    let (client, edge) = (cluster.client, cluster.edge);
    let node_side = cluster.spec.node_side();
    let calls = cluster.calls(1, State::Confirmed);
    let ours = cluster.world.agent(calls[0].callee.expect("a node")).received[0].via();
    for top in [format!("SIP/2.0/UDP {edge};branch=z9hG4bKx"), format!("SIP/2.0/UDP {node_side};branch=z9hG4bKy"), ours]
    {
        for below in
            [format!("SIP/2.0/UDP {at};branch=z9hG4bKz"), format!("SIP/2.0/UDP x;received={};rport=5060", at.ip())]
        {
            let response = Message { start: "SIP/2.0 200 OK".into(), headers: Vec::new(), body: Vec::new() }
                .with("Via", top.clone())
                .with("Via", below)
                .with("From", "<sip:a@b>;tag=1")
                .with("To", "<sip:c@d>;tag=2")
                .with("Call-ID", "relayed-response")
                .with("CSeq", "1 INVITE");
            cluster.world.agent(client).throw(&response.bytes(), edge);
            let mut direct = response.clone();
            direct.headers.remove(0);
            cluster.world.agent(client).throw(&direct.bytes(), edge);
        }
    }
    settle(&mut cluster);
    assert_eq!(cluster.world.agent(victim).received, Vec::<Message>::new(), "relayed outside the cluster");
}

#[test]
fn answers_go_to_where_a_request_came_from_and_not_where_its_via_says() {
    let _turn = turn();
    let (mut cluster, victim, at) = with_victim();
    let (client, edge) = (cluster.client, cluster.edge);
    for rport in ["", ";rport"] {
        let options = request("OPTIONS", &format!("sip:x@{edge}"), &[], "")
            .with("Via", format!("SIP/2.0/UDP {at};branch=z9hG4bK{}{rport}", crate::harness::unique()));
        cluster.world.agent(client).throw(&options.bytes(), edge);
    }
    settle(&mut cluster);
    assert_eq!(cluster.world.agent(victim).received, Vec::<Message>::new(), "an answer sent outside");
}

#[test]
fn nodes_may_call_anybody() {
    let _turn = turn();
    let (mut cluster, victim, at) = with_victim();
    let start = Start::new(format!("sip:x@{at}"), cluster.spec.node_side());
    let calls = cluster.world.call(cluster.nodes[0], &[start], State::Confirmed);
    assert_eq!(calls[0].callee, Some(victim), "the victim of the other tests can be reached, by those who may");
}
