//! Nodes drained, stopped, reweighted, added and removed over HTTP, with calls on them.

use std::time::Duration;

use serde_json::{Value, json};

use crate::commands::steady;
use crate::harness::agent::{Policy, Start};
use crate::harness::cluster::{Cluster, PATIENCE};
use crate::harness::dialog::State;
use crate::harness::http::{Admin, Reply};
use crate::harness::turn;
use crate::harness::world::{Call, World};

fn put_weight(admin: &Admin, node: &str, weight: &str) -> Reply {
    let body = format!("{{\"weight\": {weight}}}");
    admin.ask("PUT", &format!("/sets/cluster/nodes/{node}/weight"), body.as_bytes())
}

fn add(admin: &Admin, node: &Value) -> Reply {
    admin.ask("POST", "/sets/cluster/nodes", node.to_string().as_bytes())
}

#[test]
fn sets_are_shown_as_they_are_in_force() {
    let _turn = turn();
    let cluster = Cluster::new(2, 2, |spec| spec);
    let admin = cluster.balancer.admin();
    let all = admin.get("/sets");
    assert_eq!(all.status, 200);
    let told = all.json();
    assert_eq!(told["draining"], false);
    let set = &told["sets"][0];
    assert_eq!((&set["name"], &set["takes_calls"]), (&json!("cluster"), &json!(true)));
    assert_eq!(set["removed"], json!([]));
    let node = admin.node("cluster", "node0");
    let end = &node["endpoints"][0];
    assert_eq!((&end["address"], &end["role"]), (&json!(cluster.members[0].address.to_string()), &json!("primary")));
    assert_eq!((&end["health"], &end["cause"], &end["probes"]), (&json!("up"), &json!("started"), &json!(0)));
    for (key, value) in [("weight", json!(100)), ("intent", json!("serve")), ("refusal", Value::Null)] {
        assert_eq!(node[key], value, "{key}");
    }
    assert_eq!(steady(admin.get("/sets/cluster").json()), steady(set.clone()));
}

#[test]
fn what_is_not_there_or_makes_no_sense_is_refused_with_what_would_be_right() {
    let _turn = turn();
    let cluster = Cluster::new(3, 2, |spec| spec);
    let admin = cluster.balancer.admin();
    let ask = |method: &str, path: &str, body: &str| {
        let reply = admin.ask(method, path, body.as_bytes());
        (reply.status, reply.error())
    };
    let (status, error) = ask("GET", "/set", "");
    assert!(status == 404 && error.contains("there is no /set; there are: /healthz, /readyz, "), "{error}");
    let (status, error) = ask("GET", "/sets/pbx", "");
    assert_eq!((status, error.as_str()), (404, "there is no set `pbx`; there are: cluster"));
    let (status, error) = ask("POST", "/sets/pbx/nodes/node0/drain", "");
    assert_eq!((status, error.as_str()), (404, "there is no set `pbx`; there are: cluster"));
    let (status, error) = ask("POST", "/sets/cluster/nodes/node2/drain", "");
    assert_eq!((status, error.as_str()), (404, "there is no node `node2` in set `cluster`; there are: node0, node1"));
    let (status, error) = ask("POST", "/sets/cluster/nodes/node0/disable", "");
    assert_eq!(
        (status, error.as_str()),
        (404, "there is no `disable` for a node; there are: serve, drain, stop, weight")
    );
    for (method, path, right) in [
        ("POST", "/sets", "GET"),
        ("GET", "/reload", "POST"),
        ("PUT", "/sets/cluster/nodes/node0/drain", "POST"),
        ("POST", "/sets/cluster/nodes/node0/weight", "PUT"),
        ("GET", "/sets/cluster/nodes/node0", "DELETE"),
        ("DELETE", "/metrics", "GET"),
    ] {
        assert_eq!(ask(method, path, ""), (405, format!("{method} is not for {path}; {right} is right")));
    }
    for weight in ["0", "65536"] {
        let reply = put_weight(&admin, "node0", weight);
        assert_eq!(reply.status, 400);
        assert_eq!(reply.error(), format!("weight {weight} is out of bounds; 1 to 65535 is right"));
    }
    for body in ["", "{", "[]", "{\"weight\": -1}", "{\"weight\": 5, \"also\": 1}", "{\"weight\": \"5\"}"] {
        let (status, error) = ask("PUT", "/sets/cluster/nodes/node0/weight", body);
        assert!(status == 400 && error.ends_with("{\"weight\": 100} is right"), "{body}: {error}");
    }
    let (status, error) = ask("PUT", "/sets/cluster/nodes/node0/weight", &" ".repeat(70_000));
    assert!(status == 413 && error.contains("65536 bytes at most are right"), "{error}");
    for (node, wanted) in [
        (json!({ "name": "a b", "address": "10.77.2.9" }), "no name for a node"),
        (json!({ "name": "c", "address": "10.77.2.999" }), "is no IPv4 address"),
        (json!({ "name": "c", "address": "224.0.0.1" }), "is no address of one node"),
        (json!({ "name": "c", "address": "[2001:db8::1]" }), "no `[[node_side]]` is IPv6"),
        (json!({ "name": "c", "address": cluster.edge.to_string() }), "is sipring itself"),
        (json!({ "name": "c", "address": "10.77.2.9", "intent": "off" }), "unknown intent `off`"),
        (json!({ "name": "c", "address": "10.77.2.9", "weight": 0 }), "1 to 65535 is right"),
        (json!({ "name": "c" }), "missing field `address`"),
    ] {
        let reply = add(&admin, &node);
        assert!(reply.status == 400 && reply.error().contains(wanted), "{node}: {reply:?}");
    }
    assert_eq!(admin.get("/sets/cluster").json()["nodes"].as_array().map(Vec::len), Some(2));
    assert!(admin.get("/sets").json()["sets"][0]["nodes"][0]["changed"].is_null(), "nothing has changed");
}

#[test]
fn a_drained_node_keeps_its_calls_and_gets_no_new_call_and_no_new_registration() {
    let _turn = turn();
    let mut cluster = Cluster::new(2, 2, |spec| spec.workers(2));
    let admin = cluster.balancer.admin();
    let of = |calls: &[Call], who| calls.iter().filter(|call| call.callee == Some(who)).cloned().collect::<Vec<_>>();
    let first = cluster.nodes[0];
    let talking = of(&cluster.calls(24, State::Confirmed), first);
    cluster.world.policy(&cluster.nodes, Policy::Ring);
    let ringing = of(&cluster.calls(24, State::Ringing), first);
    assert!(!talking.is_empty() && !ringing.is_empty());
    assert_eq!(admin.node("cluster", "node0")["marks"], json!(ringing.len()));

    let drained = admin.post("/sets/cluster/nodes/node0/drain");
    assert_eq!(drained.status, 200);
    let node = drained.json();
    assert_eq!((&node["intent"], &node["refusal"]), (&json!("drain"), &json!("draining")));
    assert_eq!(node["changed"], json!({ "intent": { "file": "serve", "run_time": "drain" }, "wins": "run time" }));
    assert_eq!(node["marks"], json!(ringing.len()), "calls that ring there are told");

    let new = cluster.calls(30, State::Ringing);
    assert_eq!(cluster.spread(&new), [0, 30], "at the first call after the answer");
    assert!(admin.node("cluster", "node1")["dialogs"].is_null(), "dialogs are told of nodes that drain");
    let registered = |cluster: &Cluster| cluster.world.agent(first).bindings.len();
    let start = cluster.start();
    for _ in 0..20 {
        assert_eq!(
            cluster.status("REGISTER", &Start { uri: format!("sip:{}", cluster.edge), ..start.clone() }),
            Some(200)
        );
    }
    assert_eq!(registered(&cluster), 0);
    answer_and_hang_up(&mut cluster.world, &ringing, &talking);
    let dialogs = admin.node("cluster", "node0")["dialogs"].as_u64().unwrap_or_default();
    assert!(dialogs > 0 && dialogs <= (ringing.len() + talking.len()) as u64, "{dialogs} had traffic");
    assert_eq!(admin.node("cluster", "node0")["marks"], 0, "nothing rings there any more");
    cluster.balancer.reload(&cluster.spec);
    let node = admin.node("cluster", "node0");
    assert!(node["dialogs"].as_u64() >= Some(dialogs), "a new plan forgets none: {node}");
    assert!(node["dialogs_counted_s"].is_u64());

    assert_eq!(admin.post("/sets/cluster/nodes/node0/serve").json()["changed"], Value::Null);
    let back = cluster.calls(30, State::Ringing);
    assert!(cluster.spread(&back)[0] > 0);
    assert_eq!(cluster.world.faults(), Vec::<String>::new());
}

/// Calls that ring are answered, and calls that talk are ended, by their callers, at the node that they are on.
fn answer_and_hang_up(world: &mut World, ringing: &[Call], talking: &[Call]) {
    let answered = world.each(
        ringing,
        PATIENCE,
        |world, call| world.agent_mut(call.callee.expect("rings")).answer(&call.id, 200),
        |world, call| world.agent(call.callee.expect("rings")).got(&call.id, "ACK") == 1,
    );
    assert_eq!(answered, ringing.len(), "calls that rang when the node was drained");
    let both: Vec<Call> = ringing.iter().chain(talking).cloned().collect();
    let ended = world.each(
        &both,
        PATIENCE,
        |world, call| world.agent_mut(call.caller).within("BYE", &call.id),
        |world, call| {
            let bye = world.agent(call.callee.expect("talks")).got(&call.id, "BYE") == 1;
            bye && world.agent(call.caller).got(&call.id, "200 BYE") == 1
        },
    );
    assert_eq!(ended, both.len(), "calls of the drained node");
}

#[test]
fn a_registration_is_renewed_away_from_a_drained_node() {
    let _turn = turn();
    let mut cluster = Cluster::new(2, 2, |spec| spec);
    let admin = cluster.balancer.admin();
    let start = cluster.start();
    assert_eq!(cluster.status("REGISTER", &start), Some(200));
    let home =
        cluster.nodes.iter().position(|node| !cluster.world.agent(*node).bindings.is_empty()).expect("registered");
    let name = cluster.members[home].name.clone();
    assert_eq!(admin.post(&format!("/sets/cluster/nodes/{name}/drain")).status, 200);
    assert_eq!(cluster.status("REGISTER", &start), Some(200));
    let other = cluster.nodes[1 - home];
    assert_eq!(cluster.world.agent(other).bindings.len(), 1, "renewed at the node that serves");
    assert_eq!(cluster.world.agent(cluster.nodes[home]).received.len(), 1);
}

#[test]
fn a_stopped_node_gets_nothing_at_all() {
    let _turn = turn();
    let mut cluster = Cluster::new(2, 2, |spec| spec);
    let admin = cluster.balancer.admin();
    let talking = cluster.calls(20, State::Confirmed);
    assert_eq!(admin.post("/sets/cluster/nodes/node0/stop").json()["refusal"], "stopped");
    let first = cluster.nodes[0];
    let theirs: Vec<Call> = talking.into_iter().filter(|call| call.callee == Some(first)).collect();
    assert!(!theirs.is_empty());
    let before = cluster.world.agent(first).received.len();
    let refused = cluster.world.each(
        &theirs,
        PATIENCE,
        |world, call| world.agent_mut(call.caller).within("BYE", &call.id),
        |world, call| world.agent(call.caller).got(&call.id, "481 BYE") == 1,
    );
    assert_eq!(refused, theirs.len());
    let calls = cluster.calls(20, State::Confirmed);
    assert_eq!(cluster.spread(&calls), [0, 20]);
    assert_eq!(cluster.world.agent(first).received.len(), before);
}

#[test]
fn a_weight_changes_the_shares_of_new_calls() {
    let _turn = turn();
    let mut cluster = Cluster::new(2, 2, |spec| spec);
    let admin = cluster.balancer.admin();
    assert_eq!(put_weight(&admin, "node0", "1000").json()["weight"], 1000);
    let calls = cluster.calls(200, State::Confirmed);
    let spread = cluster.spread(&calls);
    assert!(spread[0] > 160, "10 of 11 belong to the first: {spread:?}");
    let changed = json!({ "weight": { "file": 100, "run_time": 1000 }, "wins": "run time" });
    assert_eq!(admin.node("cluster", "node0")["changed"], changed);
    assert_eq!(put_weight(&admin, "node0", "100").json()["changed"], Value::Null);
}

#[test]
fn nodes_come_and_go_at_run_time() {
    let _turn = turn();
    let mut cluster = Cluster::new(3, 1, |spec| spec);
    let admin = cluster.balancer.admin();
    let address = |at: usize| cluster.members[at].address.to_string();
    let reply = add(
        &admin,
        &json!({
            "name": "node1", "address": address(1), "id": 77, "weight": 300, "labels": { "site": "east" }
        }),
    );
    assert_eq!(reply.status, 201);
    let node = reply.json();
    assert_eq!((&node["id"], &node["weight"], &node["labels"]["site"]), (&json!(77), &json!(300), &json!("east")));
    assert_eq!(node["changed"], json!({ "added": true, "wins": "run time" }));
    for (node, wanted) in [
        (json!({ "name": "node1", "address": address(2) }), "there is a node `node1` already, in set `cluster`"),
        (json!({ "name": "node2", "address": address(2), "id": 77 }), "node `node1` has the id 77 already"),
        (json!({ "name": "node2", "address": address(1) }), "have the same address"),
        (json!({ "name": "node2", "address": "no-such-node.invalid" }), "does not resolve to an address"),
    ] {
        let reply = add(&admin, &node);
        assert!(reply.status == 409 && reply.error().contains(wanted), "{node}: {reply:?}");
    }
    let pair = add(&admin, &json!({ "name": "node2", "address": address(2), "pair": "10.77.2.250:5062" }));
    let backup = &pair.json()["endpoints"][1];
    assert_eq!((&backup["address"], &backup["role"]), (&json!("10.77.2.250:5062"), &json!("backup")));
    let calls = cluster.calls(60, State::Confirmed);
    assert!(cluster.spread(&calls).iter().all(|count| *count > 0), "{:?}", cluster.spread(&calls));

    for name in ["node0", "node2"] {
        let left = admin.ask("DELETE", &format!("/sets/cluster/nodes/{name}"), b"");
        assert_eq!(left.status, 200);
    }
    let last = admin.ask("DELETE", "/sets/cluster/nodes/node1", b"");
    assert_eq!(
        (last.status, last.error().as_str()),
        (409, "`node1` is the last node of set `cluster`; a set needs one")
    );
    assert_eq!(admin.get("/sets/cluster").json()["removed"], json!(["node0"]), "the file still has it");
    let after = cluster.calls(20, State::Confirmed);
    assert_eq!(cluster.spread(&after), [0, 20, 0]);
    let again = add(&admin, &json!({ "name": "node0", "address": "10.77.2.200" }));
    assert!(again.status == 409 && again.error().contains("`serve` brings it back"), "{again:?}");
    assert_eq!(admin.post("/sets/cluster/nodes/node0/serve").json()["changed"], Value::Null);
    let back = cluster.calls(40, State::Confirmed);
    assert!(cluster.spread(&back)[0] > 0);
    assert_eq!(cluster.world.faults(), Vec::<String>::new());
}

#[test]
fn changes_asked_for_at_once_are_all_made() {
    let _turn = turn();
    let cluster = Cluster::new(1, 1, |spec| spec);
    let admin = cluster.balancer.admin();
    let adding: Vec<_> = (1..=20)
        .map(|n| {
            let admin = admin.clone();
            std::thread::spawn(move || {
                add(&admin, &json!({ "name": format!("n{n}"), "address": format!("10.77.9.{n}") }))
            })
        })
        .collect();
    for adding in adding {
        let reply = adding.join().unwrap();
        assert_eq!(reply.status, 201, "{reply:?}");
    }
    assert_eq!(admin.get("/sets/cluster").json()["nodes"].as_array().map(Vec::len), Some(21));
}

#[test]
fn explain_tells_the_choice_with_what_was_changed_at_run_time() {
    let _turn = turn();
    let mut cluster = Cluster::new(2, 2, |spec| spec);
    let admin = cluster.balancer.admin();
    let told = admin.get("/explain?call_id=a84b%40pc33&source=192.0.2.7");
    assert_eq!(told.status, 200);
    let told = told.json();
    assert_eq!(
        (&told["set"], &told["key"], &told["key_by"]),
        (&json!("cluster"), &json!("a84b@pc33"), &json!("call-id"))
    );
    let node = told["node"].as_str().unwrap().to_owned();
    admin.post(&format!("/sets/cluster/nodes/{node}/drain"));
    let told = admin.get("/explain?call_id=a84b%40pc33&set=cluster").json();
    assert_ne!(told["node"], json!(node));
    assert_eq!((&told["ranked"][0]["node"], &told["ranked"][0]["refusal"]), (&json!(node), &json!("draining")));
    for (query, wanted) in [
        ("", "`call_id` is missing"),
        ("?call_id=", "this is no Call-ID"),
        ("?call_id=a%0d%0ab", "this is no Call-ID"),
        ("?call_id=a&set=pbx", "unknown set `pbx`; one of: cluster"),
        ("?call_id=a&listener=pbx", "unknown listener `pbx`; one of: edge"),
        ("?call_id=a&source=here", "`here` is no source"),
        ("?call_id=a&sett=pbx", "there are: call_id, method, listener, set, source"),
    ] {
        let reply = admin.get(&format!("/explain{query}"));
        assert!(reply.status == 400 && reply.error().contains(wanted), "{query}: {reply:?}");
    }
    let start = cluster.start();
    let client = cluster.client;
    let id = cluster.world.agent_mut(client).start("INVITE", &start);
    assert!(
        cluster.world.run(Duration::from_secs(3), |world| world.agent(client).state(&id) == Some(State::Confirmed))
    );
    let invite = cluster.world.agent(client).dialog(&id).invite.clone().unwrap().message.bytes();
    let told = admin.ask("POST", "/explain", &invite).json();
    let callee = cluster.nodes.iter().position(|node| cluster.world.agent(*node).dialogs.contains_key(&id)).unwrap();
    assert_eq!(told["node"], json!(cluster.members[callee].name));
    assert_eq!(admin.ask("POST", "/explain", b"INVITE").status, 400);
}
