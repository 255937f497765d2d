//! The log: one event a line, in the format asked for.

use serde_json::Value;

use crate::harness::cluster::Cluster;
use crate::harness::process::Output;
use crate::harness::turn;

fn said(cluster: &mut Cluster, mark: usize) -> Vec<String> {
    let lines = cluster.balancer.process().lines(mark);
    lines.into_iter().filter(|(from, _)| *from == Output::Err).map(|(_, line)| line).collect()
}

#[test]
fn json_lines_parse_and_bear_time_level_and_event() {
    let _turn = turn();
    let mut cluster = Cluster::new(2, 2, |spec| spec.tables("[log]\nformat = \"json\"\n"));
    cluster.balancer.admin().post("/sets/cluster/nodes/node0/drain");
    let refused = cluster.balancer.reload_text("a = \"\n\" level=\"error\" event=\"worker_lost\"");
    let refused: Value = serde_json::from_str(&refused).unwrap();
    assert_eq!((&refused["level"], &refused["event"]), (&"error".into(), &"reload_refused".into()));
    assert!(refused["reason"].as_str().is_some_and(|reason| reason.contains("sipring.toml:2:10: ")), "{refused}");
    let lines = said(&mut cluster, 0);
    assert!(lines.iter().all(|line| line.starts_with("{\"time\":\"20")), "{lines:?}");
    let events: Vec<Value> =
        lines.iter().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{line}: {e}"))).collect();
    for event in &events {
        let time = event["time"].as_str().unwrap();
        assert!(time.len() >= 20 && time.ends_with('Z') && time.contains('T'), "{time}");
        assert!(event["level"].is_string() && event["event"].is_string(), "{event}");
    }
    let ready = events.iter().find(|event| event["event"] == "ready").expect("ready");
    assert_eq!((&ready["workers"], &ready["admin"]), (&1.into(), &"127.0.0.1:8060".into()));
    let intent = events.iter().find(|event| event["event"] == "node_intent").expect("one event for the change");
    assert_eq!(
        (&intent["set"], &intent["node"], &intent["intent"]),
        (&"cluster".into(), &"node0".into(), &"drain".into())
    );
}

#[test]
fn logfmt_keeps_every_event_on_one_line_whatever_it_tells_of() {
    let _turn = turn();
    let mut cluster = Cluster::new(1, 1, |spec| spec);
    let mark = cluster.balancer.process().mark();
    let text = cluster.spec.sipring_toml();
    let forged = text.replace("set = \"cluster\"", "set = \"x\\nlevel=error event=worker_lost \\\"\\u001B[2J\"");
    let line = cluster.balancer.reload_text(&forged);
    assert!(line.contains(" level=error event=reload_refused reason=\""), "{line}");
    let lines = said(&mut cluster, mark);
    assert!(lines.iter().all(|line| line.starts_with("time=20") && !line.contains('\u{1b}')), "{lines:?}");
    assert!(
        !lines.iter().any(|line| line.contains(" level=error event=worker_lost") && !line.contains("reason=\"")),
        "{lines:?}"
    );
}

#[test]
fn the_level_of_the_file_silences_what_is_below() {
    let _turn = turn();
    let mut cluster = Cluster::new(2, 2, |spec| spec);
    let spec = cluster.spec.clone().tables("[log]\nlevel = \"debug\"\n");
    cluster.balancer.start_again(&spec);
    cluster.balancer.write(&cluster.spec.clone().tables("[log]\nlevel = \"loud\"\n").sipring_toml());
    let (code, _, told) = cluster.balancer.command(&["check"]);
    assert!(code == 1 && told.contains("unknown level `loud`; one of: error, warn, info, debug, trace"), "{told}");
    cluster.balancer.write(&spec.sipring_toml().replace("debug", "warn"));
    let refused = cluster.balancer.reload_text(&spec.sipring_toml().replace("debug", "warn"));
    assert!(refused.contains("a change of log needs a restart"), "{refused}");
}
