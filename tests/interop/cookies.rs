//! Cookies pick a node only for the call they were made for and from the side they face.

use std::net::SocketAddr;

use crate::harness::agent::Start;
use crate::harness::balancer::Balancer;
use crate::harness::cluster::{Cluster, PATIENCE};
use crate::harness::dialog::State;
use crate::harness::message::Message;
use crate::harness::restart::registered;
use crate::harness::spec::Spec;
use crate::harness::turn;
use crate::harness::world::Call;

/// The two characters that mark a user part as a cookie; without them it is none.
const MARK: usize = 2;

/// Whether a request of the client with the tags of the call `like` that takes `routes` is answered 403, and no node gets
/// anything of it.
fn answered_403(cluster: &mut Cluster, call_id: &str, like: &Call, routes: &[String]) -> bool {
    let (client, edge) = (cluster.client, cluster.edge);
    let dialog = cluster.world.agent(client).dialog(&like.id).clone();
    let mut message = Message::request("INFO", &dialog.target);
    for route in routes {
        message = message.with("Route", route.clone());
    }
    let number = crate::harness::unique();
    message = message
        .with("Max-Forwards", "70")
        .with("From", dialog.local.clone())
        .with("To", dialog.remote.clone())
        .with("Call-ID", call_id)
        .with("CSeq", format!("{number} INFO"));
    let (nodes, before) = (cluster.received_by_nodes(), cluster.world.agent(client).received.len());
    cluster.world.agent_mut(client).inject(message, edge);
    cluster.world.run(PATIENCE, |world| world.agent(client).received.len() > before);
    let answer = cluster.world.agent(client).received.get(before).and_then(Message::status);
    answer == Some(403) && cluster.received_by_nodes() == nodes
}

/// The routes that the client of `call` uses, the one facing the edge first.
fn routes(cluster: &Cluster, call: &Call) -> Vec<String> {
    let routes = cluster.world.agent(call.caller).dialog(&call.id).route_set.clone();
    assert_eq!(routes.len(), 2, "two Record-Routes: {routes:?}");
    routes
}

fn user(route: &str) -> (usize, usize) {
    let start = route.find("sip:").expect("a SIP URI") + 4;
    (start, route.find('@').expect("a user part"))
}

#[test]
fn the_cookie_of_a_call_reaches_its_node() {
    let _turn = turn();
    let mut cluster = Cluster::new(3, 3, |spec| spec.workers(2));
    let calls = cluster.calls(20, State::Confirmed);
    let reached = cluster.world.each(
        &calls,
        PATIENCE,
        |world, call| world.agent_mut(call.caller).within("INFO", &call.id),
        |world, call| world.agent(call.callee.expect("a node")).got(&call.id, "INFO") == 1,
    );
    assert_eq!(reached, calls.len());
    assert_eq!(cluster.world.faults(), Vec::<String>::new());
}

#[test]
fn an_altered_cookie_is_refused_at_every_character() {
    let _turn = turn();
    let mut cluster = Cluster::new(3, 3, |spec| spec);
    let call = cluster.calls(1, State::Confirmed).remove(0);
    let routes = routes(&cluster, &call);
    let (start, end) = user(&routes[0]);
    assert!((MARK + 12..=32).contains(&(end - start)), "a node's cookie is <= 32 characters: {}", routes[0]);
    for at in start + MARK..end {
        let old = routes[0].as_bytes()[at];
        for new in [if old == b'a' { b'b' } else { b'a' }, if old == b'7' { b'2' } else { b'7' }, b'0'] {
            let mut bytes = routes[0].clone().into_bytes();
            bytes[at] = new;
            let altered = String::from_utf8(bytes).expect("ASCII");
            let refused = answered_403(&mut cluster, &call.id, &call, &[altered.clone(), routes[1].clone()]);
            assert!(refused, "{altered} for {}", routes[0]);
        }
    }
    for (text, what) in
        [(routes[0][start..end].to_uppercase(), "upper case"), (format!("{}a", &routes[0][start..end]), "longer")]
    {
        let altered = format!("{}{text}{}", &routes[0][..start], &routes[0][end..]);
        assert!(answered_403(&mut cluster, &call.id, &call, &[altered, routes[1].clone()]), "{what}");
    }
}

#[test]
fn a_cookie_is_refused_in_another_call() {
    let _turn = turn();
    let mut cluster = Cluster::new(3, 3, |spec| spec);
    let calls = cluster.calls(2, State::Confirmed);
    let stolen = routes(&cluster, &calls[0]);
    assert!(answered_403(&mut cluster, &calls[1].id, &calls[1], &stolen), "in an established call");
    assert!(answered_403(&mut cluster, "a-call-of-mine", &calls[0], &stolen), "in a call of the client's own making");
}

#[test]
fn cookies_that_face_the_nodes_are_refused_from_the_edge() {
    let _turn = turn();
    let mut cluster = Cluster::new(3, 3, |spec| spec);
    let call = cluster.calls(1, State::Confirmed).remove(0);
    let both = routes(&cluster, &call);
    assert!(answered_403(&mut cluster, &call.id, &call, &both[1..]), "the value that faces the nodes");
    let (nodes, client, edge) = (cluster.nodes.clone(), cluster.client, cluster.edge);
    let (_, start) = registered(&mut cluster.world, client, &nodes, edge);
    assert!(answered_403(&mut cluster, &call.id, &call, &start.routes), "the Path of a registration");
}

#[test]
fn cookies_of_a_stranger_s_secret_are_refused() {
    let _turn = turn();
    let mut cluster = Cluster::new(3, 3, |spec| spec);
    let at = |host| SocketAddr::new(cluster.core.address(5, host), 5060);
    let (edge, node_side) = (at(1), at(2));
    let stranger = Spec::new(edge, node_side).nodes(cluster.members.clone()).tables("[admin]\nbind = \"off\"\n");
    let _stranger = Balancer::start(&cluster.core.place(), &stranger);
    let own = cluster.calls(1, State::Confirmed).remove(0);
    let start = Start::new(format!("sip:any@{edge}"), edge);
    let strange = cluster.world.call(cluster.client, &[start], State::Confirmed).remove(0);
    let strange_user = routes(&cluster, &strange)[0].clone();
    let ours = routes(&cluster, &own);
    let ((start, end), (from, to)) = (user(&ours[0]), user(&strange_user));
    let forged = format!("{}{}{}", &ours[0][..start], &strange_user[from..to], &ours[0][end..]);
    assert!(answered_403(&mut cluster, &strange.id, &strange, &[forged, ours[1].clone()]));
}

#[test]
fn an_ack_with_an_altered_cookie_is_dropped() {
    let _turn = turn();
    let mut cluster = Cluster::new(3, 3, |spec| spec);
    let call = cluster.calls(1, State::Confirmed).remove(0);
    let routes = routes(&cluster, &call);
    let (start, _) = user(&routes[0]);
    let at = start + MARK + 3;
    let new = if routes[0].as_bytes()[at] == b'a' { "b" } else { "a" };
    let altered = format!("{}{new}{}", &routes[0][..at], &routes[0][at + 1..]);
    let (client, edge) = (cluster.client, cluster.edge);
    let dialog = cluster.world.agent(client).dialog(&call.id).clone();
    let ack = Message::request("ACK", &dialog.target)
        .with("Route", altered)
        .with("Route", routes[1].clone())
        .with("Max-Forwards", "70")
        .with("From", dialog.local.clone())
        .with("To", dialog.remote.clone())
        .with("Call-ID", call.id.clone())
        .with("CSeq", "1 ACK");
    let (nodes, answers) = (cluster.received_by_nodes(), cluster.world.agent(client).received.len());
    cluster.world.agent_mut(client).inject(ack, edge);
    cluster.world.agent_mut(client).within("INFO", &call.id);
    let reached = |world: &crate::harness::world::World| world.agent(client).got(&call.id, "200 INFO") == 1;
    assert!(cluster.world.run(PATIENCE, reached), "the right cookie still works");
    assert_eq!(cluster.received_by_nodes(), nodes + 1, "only the INFO reached a node");
    assert_eq!(cluster.world.agent(client).received.len(), answers + 1, "only the INFO was answered");
}
