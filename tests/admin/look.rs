//! Whether it lives, and whether it takes calls.

use std::net::SocketAddr;
use std::time::Duration;

use crate::harness::agent::Policy;
use crate::harness::cluster::Cluster;
use crate::harness::dialog::State;
use crate::harness::{frozen, turn, wait_until};

#[test]
fn an_idle_balancer_lives_and_is_ready() {
    let _turn = turn();
    let cluster = Cluster::new(2, 2, |spec| spec.workers(2));
    let admin = cluster.balancer.admin();
    for _ in 0..20 {
        let health = admin.get("/healthz");
        assert_eq!((health.status, health.body.as_str()), (200, "{\"control\":true,\"stuck_workers\":[]}\n"));
    }
    let ready = admin.get("/readyz");
    assert_eq!((ready.status, ready.body.as_str()), (200, "{\"ready\":true,\"why\":[]}\n"));
    assert!(ready.head.contains("application/json"), "{}", ready.head);
}

#[test]
fn a_stuck_worker_is_named_and_what_waits_for_it_is_seen() {
    let _turn = turn();
    let mut cluster = Cluster::new(1, 1, |spec| spec.workers(2));
    let admin = cluster.balancer.admin();
    let frozen = frozen::thread(cluster.balancer.process().id(), "worker-1");
    let health = admin.get("/healthz");
    assert_eq!((health.status, health.body.as_str()), (503, "{\"control\":true,\"stuck_workers\":[1]}\n"));
    // Datagrams of many sources, so that some are the frozen worker's share.
    let place = cluster.core.place();
    let from = cluster.core.address(4, 1);
    for port in 20_000..20_064 {
        place.socket(SocketAddr::new(from, port)).send_to(b"what is no SIP", cluster.edge).unwrap();
    }
    let waiting = || admin.get("/metrics").metric("sipring_socket_receive_queue_bytes{port=\"edge\"}") > 0.0;
    assert!(wait_until(Duration::from_secs(5), waiting), "nothing waits for the frozen worker");
    drop(frozen);
    assert!(wait_until(Duration::from_secs(5), || admin.get("/healthz").status == 200), "it turns again");
    assert!(wait_until(Duration::from_secs(5), || !waiting()), "and reads what waited");
}

#[test]
fn a_stuck_control_is_not_blamed_on_workers_that_sleep() {
    let _turn = turn();
    let mut cluster = Cluster::new(1, 1, |spec| spec.workers(2));
    let frozen = frozen::thread(cluster.balancer.process().id(), "control");
    let health = cluster.balancer.admin().get("/healthz");
    assert_eq!((health.status, health.body.as_str()), (503, "{\"control\":false,\"stuck_workers\":[]}\n"));
    drop(frozen);
    assert_eq!(cluster.balancer.admin().get("/healthz").status, 200);
}

#[test]
fn where_calls_go_to_dead_nodes_all_the_same_everybody_is_told_so() {
    let _turn = turn();
    let cluster = Cluster::new(1, 1, |spec| spec.probes(&[]).set("panic = \"use_all\""));
    let admin = cluster.balancer.admin();
    let down = || admin.node("cluster", "node0")["refusal"] == "down";
    assert!(wait_until(Duration::from_secs(10), down), "nobody answers the probes");
    assert_eq!(admin.get("/readyz").status, 200);
    let set = admin.get("/sets/cluster").json();
    assert_eq!((&set["takes_calls"], &set["panics"]), (&true.into(), &true.into()));
    let metrics = admin.get("/metrics");
    let of = |name: &str| metrics.metric(&format!("sipring_set_{name}{{set=\"cluster\"}}"));
    assert_eq!((of("takes_calls"), of("panics")), (1.0, 1.0));
    let told = admin.get("/explain?call_id=a").json();
    assert_eq!((&told["node"], &told["panic"]), (&"node0".into(), &true.into()));
    let (_, told, _) = cluster.balancer.command(&["explain", "--call-id", "a"]);
    assert!(told.contains(") chosen (panic), though down\n") && told.contains("node      node0 "), "{told}");
}

#[test]
fn it_is_ready_while_some_set_takes_new_calls() {
    let _turn = turn();
    let mut cluster = Cluster::new(2, 2, |mut spec| {
        spec.drain_max_s = 20;
        spec
    });
    let admin = cluster.balancer.admin();
    assert_eq!(admin.post("/sets/cluster/nodes/node0/drain").status, 200);
    assert_eq!(admin.get("/readyz").status, 200);
    assert_eq!(admin.post("/sets/cluster/nodes/node1/stop").status, 200);
    let ready = admin.get("/readyz");
    assert_eq!(ready.status, 503);
    assert_eq!(ready.json()["why"][0], "no node of set `cluster` takes new calls");
    assert_eq!(admin.post("/sets/cluster/nodes/node1/serve").status, 200);
    assert_eq!(admin.get("/readyz").status, 200);

    cluster.world.policy(&cluster.nodes, Policy::Ring);
    let ringing = cluster.calls(1, State::Ringing);
    let drain = admin.post("/drain");
    assert_eq!((drain.status, drain.body.as_str()), (202, "{\"draining\":true}\n"));
    assert!(wait_until(Duration::from_secs(5), || admin.get("/readyz").status == 503));
    assert_eq!(admin.get("/readyz").body, "{\"ready\":false,\"why\":[\"draining\"]}\n");
    assert_eq!(admin.get("/healthz").status, 200, "it lives while it drains");
    assert_eq!(admin.node("cluster", "node1")["refusal"], "instance_draining");
    let callee = ringing[0].callee.expect("rings");
    cluster.world.agent_mut(callee).answer(&ringing[0].id, 486);
    cluster.world.run(Duration::from_secs(3), |world| world.agent(callee).got(&ringing[0].id, "ACK to 486") == 1);
    cluster.balancer.ended(Duration::from_secs(10));
}

#[test]
fn what_probes_find_is_shown() {
    let _turn = turn();
    let mut cluster = Cluster::new(1, 1, |mut spec| {
        spec.health = vec!["interval_ms = 250".into()];
        spec
    });
    let admin = cluster.balancer.admin();
    // The node answers only while the agents work.
    assert!(wait_until(Duration::from_secs(10), || admin.get("/readyz").status == 503), "nobody answers the probes");
    let node = admin.node("cluster", "node0");
    assert_eq!((&node["refusal"], &node["endpoints"][0]["health"]), (&"down".into(), &"down".into()));
    assert_eq!(node["endpoints"][0]["cause"], "no_answer");
    let metrics = admin.get("/metrics");
    let labels = format!("set=\"cluster\",node=\"node0\",address=\"{}\",role=\"primary\"", cluster.members[0].address);
    assert_eq!(metrics.metric(&format!("sipring_endpoint_health{{{labels},health=\"down\"}}")), 1.0);
    assert_eq!(metrics.metric(&format!("sipring_endpoint_health{{{labels},health=\"up\"}}")), 0.0);
    assert!(metrics.metric(&format!("sipring_endpoint_probes_total{{{labels},result=\"failed\"}}")) >= 3.0);
    assert_eq!(metrics.metric("sipring_set_takes_calls{set=\"cluster\"}"), 0.0);
    let told = admin.get("/explain?call_id=a").json();
    assert_eq!((&told["node"], &told["ranked"][0]["refusal"]), (&serde_json::Value::Null, &"down".into()));
    let back = cluster.world.run(Duration::from_secs(10), |_| admin.get("/readyz").status == 200);
    assert!(back, "it answers again");
    super::metrics::promtool(&admin.get("/metrics"));
}
