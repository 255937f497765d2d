//! What was changed at run time, over reloads and a restart.

use serde_json::{Value, json};

use crate::harness::cluster::Cluster;
use crate::harness::dialog::State;
use crate::harness::process::Output;
use crate::harness::turn;

#[test]
fn changes_outlive_a_reload_until_the_file_catches_up_and_end_with_the_process() {
    let _turn = turn();
    let mut cluster = Cluster::new(4, 3, |spec| spec);
    let admin = cluster.balancer.admin();
    admin.post("/sets/cluster/nodes/node0/drain");
    admin.ask("PUT", "/sets/cluster/nodes/node1/weight", b"{\"weight\": 7}");
    admin.ask("DELETE", "/sets/cluster/nodes/node2", b"");
    let fourth = json!({ "name": "node3", "address": cluster.members[3].address.to_string() });
    assert_eq!(admin.ask("POST", "/sets/cluster/nodes", fourth.to_string().as_bytes()).status, 201);

    cluster.spec.nodes[1].weight = 50;
    cluster.balancer.reload(&cluster.spec);
    assert_eq!(admin.node("cluster", "node0")["intent"], "drain");
    let weighed = admin.node("cluster", "node1");
    assert_eq!(weighed["weight"], 7, "run time wins over the new file");
    assert_eq!(weighed["changed"]["weight"], json!({ "file": 50, "run_time": 7 }));
    assert_eq!(admin.get("/sets/cluster").json()["removed"], json!(["node2"]));
    let calls = cluster.calls(40, State::Confirmed);
    let spread = cluster.spread(&calls);
    assert!(spread[0] == 0 && spread[2] == 0 && spread[3] > spread[1], "{spread:?}");

    cluster.spec.nodes[0].intent = "drain";
    cluster.balancer.reload(&cluster.spec);
    assert_eq!(admin.node("cluster", "node0")["changed"], Value::Null, "the file says the same now");
    cluster.spec.nodes[0].intent = "serve";
    cluster.balancer.reload(&cluster.spec);
    assert_eq!(admin.node("cluster", "node0")["intent"], "serve", "nothing is left that would differ");

    cluster.balancer.kill();
    let spec = cluster.spec.clone();
    cluster.balancer.start_again(&spec);
    assert_eq!(admin.node("cluster", "node1")["weight"], 50);
    let names = admin.get("/sets/cluster").json()["nodes"].as_array().map(|nodes| {
        let mut names: Vec<String> = nodes.iter().map(|node| node["name"].as_str().unwrap().to_owned()).collect();
        names.sort();
        names
    });
    assert_eq!(names.unwrap(), ["node0", "node1", "node2"]);
}

#[test]
fn a_change_of_a_node_that_the_file_drops_is_dropped_with_a_line_in_the_log() {
    let _turn = turn();
    let mut cluster = Cluster::new(4, 3, |spec| spec);
    let admin = cluster.balancer.admin();
    admin.post("/sets/cluster/nodes/node1/drain");
    let fourth = json!({ "name": "node3", "address": cluster.members[3].address.to_string() });
    assert_eq!(admin.ask("POST", "/sets/cluster/nodes", fourth.to_string().as_bytes()).status, 201);
    assert_eq!(admin.post("/sets/cluster/nodes/node3/drain").status, 200);
    let mark = cluster.balancer.process().mark();
    let mut spec = cluster.spec.clone();
    spec.nodes.remove(1);
    spec.nodes.push(cluster.members[3].clone());
    cluster.balancer.reload(&spec);
    let wished = json!({ "intent": { "file": "serve", "run_time": "drain" }, "wins": "run time" });
    assert_eq!(admin.node("cluster", "node3")["changed"], wished, "the file has it now, and it stays drained");
    let said = cluster.balancer.process().lines(mark);
    let dropped: Vec<&String> = said
        .iter()
        .filter(|(from, line)| *from == Output::Err && line.contains("event=run_time_change_dropped"))
        .map(|(_, line)| line)
        .collect();
    assert_eq!(dropped.len(), 2, "{said:?}");
    assert!(dropped[0].contains("node=node1 why=\"the file no longer has the node\""), "{dropped:?}");
    assert!(dropped[1].contains("node=node3 why=\"the file has the node now\""), "{dropped:?}");
    cluster.balancer.reload(&cluster.spec.clone());
    assert_eq!(admin.node("cluster", "node1")["intent"], "serve", "what was dropped does not come back");
}

#[test]
fn a_refused_reload_keeps_the_changes() {
    let _turn = turn();
    let mut cluster = Cluster::new(2, 2, |spec| spec);
    let admin = cluster.balancer.admin();
    admin.post("/sets/cluster/nodes/node1/drain");
    let text = cluster.spec.sipring_toml().replace("weight = 100", "weight = 0");
    assert!(cluster.balancer.reload_text(&text).contains("reload_refused"));
    assert_eq!(admin.node("cluster", "node1")["intent"], "drain");
    let calls = cluster.calls(20, State::Confirmed);
    assert_eq!(cluster.spread(&calls), [20, 0]);
}

#[test]
fn a_file_that_gives_an_added_nodes_address_to_another_is_refused() {
    let _turn = turn();
    let mut cluster = Cluster::new(3, 2, |spec| spec);
    let admin = cluster.balancer.admin();
    let address = cluster.members[2].address;
    let added = json!({ "name": "added", "address": address.to_string() });
    assert_eq!(admin.ask("POST", "/sets/cluster/nodes", added.to_string().as_bytes()).status, 201);
    let spec = cluster.spec.clone().nodes([cluster.members[2].clone()]);
    let line = cluster.balancer.reload_text(&spec.sipring_toml());
    assert!(line.contains("reload_refused") && line.contains("have the same address"), "{line}");
    assert_eq!(admin.node("cluster", "added")["endpoints"][0]["address"], address.to_string());
    assert_eq!(admin.ask("DELETE", "/sets/cluster/nodes/added", b"").status, 200);
    cluster.balancer.reload(&spec);
    assert_eq!(admin.node("cluster", "node2")["changed"], Value::Null);
}
