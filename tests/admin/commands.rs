//! The commands that ask and tell a running balancer.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::cluster::Cluster;
use crate::harness::dialog::State;
use crate::harness::{turn, wait_until};

/// What two answers, one after the other, have in common: all but times.
pub(crate) fn steady(mut value: Value) -> Value {
    let passes = |name: &str| ["_s", "_ms_ago", "_us"].iter().any(|end| name.ends_with(end));
    match &mut value {
        Value::Object(fields) => {
            fields.retain(|name, _| !passes(name));
            fields.values_mut().for_each(|field| *field = steady(field.take()));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| *item = steady(item.take())),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
    value
}

#[test]
fn status_shows_sets_and_nodes_as_a_table_and_as_json() {
    let _turn = turn();
    let cluster = Cluster::new(2, 2, |spec| spec);
    let run = |arguments: &[&str]| {
        let (code, out, said) = cluster.balancer.command(arguments);
        assert_eq!((code, said.as_str()), (0, ""), "{arguments:?}: {out}");
        out
    };
    let table = run(&["status"]);
    let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0][..5], ["NODE", "ADDRESS", "HEALTH", "INTENT", "WEIGHT"]);
    let address = cluster.members[0].address.to_string();
    let row = rows.iter().find(|row| row[0] == "cluster/node0").expect("a row for node0");
    assert_eq!(row[1..], [&address, "up", "serve", "100", "yes", "0"]);
    assert_eq!(rows.len(), 3);
    let told: Value = serde_json::from_str(&run(&["status", "--json"])).unwrap();
    assert_eq!(steady(told), steady(cluster.balancer.admin().get("/sets").json()));

    assert!(run(&["drain", "cluster/node0"]).contains("cluster/node0  "));
    let drained = run(&["status"]);
    let row = drained.lines().find(|line| line.starts_with("cluster/node0 ")).expect("a row for node0");
    for told in ["  drain   100     no: draining  0, 0 dialogs in ", " s so far  intent drain instead of serve"] {
        assert!(row.contains(told), "{told} in {row}");
    }
    run(&["stop", "cluster/node0"]);
    assert_eq!(cluster.balancer.admin().node("cluster", "node0")["intent"], "stop");
    run(&["serve", "cluster/node0"]);
    assert_eq!(cluster.balancer.admin().node("cluster", "node0")["changed"], Value::Null);
    run(&["weight", "cluster/node0", "250"]);
    assert!(run(&["status"]).contains("weight 250 instead of 100"));
}

#[test]
fn nodes_are_added_and_removed_and_files_reloaded_by_commands() {
    let _turn = turn();
    let mut cluster = Cluster::new(2, 1, |spec| spec);
    let address = cluster.members[1].address.to_string();
    let (code, out, said) = cluster.balancer.command(&[
        "add",
        "cluster/node1",
        &address,
        "--weight",
        "300",
        "--id",
        "9",
        "--label",
        "site=east",
        "--pair",
        "10.77.2.99:5060",
    ]);
    assert!(code == 0 && out.contains("added"), "{out}{said}");
    let node = cluster.balancer.admin().node("cluster", "node1");
    assert_eq!((&node["id"], &node["weight"], &node["labels"]), (&json!(9), &json!(300), &json!({ "site": "east" })));
    assert_eq!(node["endpoints"][1]["address"], "10.77.2.99:5060");
    let (code, out, _) = cluster.balancer.command(&["remove", "cluster/node0"]);
    assert!(code == 0 && out.contains("cluster/node0 is removed"), "{out}");
    let calls = cluster.calls(10, State::Confirmed);
    assert_eq!(cluster.spread(&calls), [0, 10]);
    let (_, out, _) = cluster.balancer.command(&["status"]);
    assert!(out.lines().any(|line| line.starts_with("cluster/node0") && line.ends_with("removed")), "{out}");
    let (code, out, said) = cluster.balancer.command(&["reload"]);
    assert_eq!((code, out.as_str()), (0, "in force: 1 sets, 1 nodes, 2 rules\n"), "{said}");
    cluster.balancer.write("nonsense");
    let (code, _, said) = cluster.balancer.command(&["reload", "--admin", "127.0.0.1:8060"]);
    assert!(code == 1 && said.contains("sipring.toml:1:"), "{said}");
}

#[test]
fn refusals_and_silence_are_told_and_the_command_line_is_strict() {
    let _turn = turn();
    let mut cluster = Cluster::new(1, 1, |spec| spec);
    let (code, _, said) = cluster.balancer.command(&["drain", "cluster/node7"]);
    assert_eq!(code, 1);
    assert_eq!(said, "http://127.0.0.1:8060: there is no node `node7` in set `cluster`; there are: node0\n");
    for wrong in [
        &["drain"][..],
        &["drain", "node0"],
        &["drain", "cluster/node0", "--instance"],
        &["serve", "cluster/"],
        &["weight", "cluster/node0"],
        &["weight", "cluster/node0", "much"],
        &["remove", "../x"],
    ] {
        assert_eq!(cluster.balancer.command(wrong).0, 2, "{wrong:?}");
    }
    let (code, _, said) = cluster.balancer.command(&["status", "--admin", "http://127.0.0.1:8061"]);
    assert!(
        code == 1 && said.starts_with("http://127.0.0.1:8061: ") && said.contains("is sipring running there?"),
        "{said}"
    );
    let (code, _, said) = cluster.balancer.command(&["status", "--admin", "https://127.0.0.1/x"]);
    assert!(code == 1 && said.contains("`http://127.0.0.1:8060` is right"), "{said}");
    let (code, out, _) = cluster.balancer.command(&["drain", "--instance"]);
    assert!(code == 0 && out.contains("takes no new calls"), "{out}");
    cluster.balancer.ended(std::time::Duration::from_secs(10));
    let (code, _, said) = cluster.balancer.command(&["status"]);
    assert!(code == 1 && said.starts_with("http://127.0.0.1:8060: "), "{said}");
}

#[test]
fn explain_speaks_for_the_files_or_for_the_running_balancer() {
    let _turn = turn();
    let mut cluster = Cluster::new(2, 2, |spec| spec);
    let ask =
        |cluster: &Cluster, more: &[&str]| cluster.balancer.command(&[&["explain", "--call-id", "a@b"], more].concat());
    let explain = |cluster: &Cluster, more: &[&str]| {
        let (code, out, said) = ask(cluster, more);
        assert_eq!(code, 0, "{said}");
        out
    };
    let by_files = explain(&cluster, &["--files"]);
    assert_eq!(by_files, explain(&cluster, &["--live"]), "nothing has changed at run time");
    let chosen = by_files.lines().find(|line| line.ends_with(" chosen")).unwrap().to_owned();
    let name = chosen.split_whitespace().nth(2).unwrap();
    assert_eq!(cluster.balancer.command(&["drain", &format!("cluster/{name}")]).0, 0);
    assert!(explain(&cluster, &["--files"]).contains(&chosen), "the files know nothing of it");
    for live in [&[][..], &["--live"], &["--admin", "http://127.0.0.1:8060"]] {
        let told = explain(&cluster, live);
        assert!(told.contains(&chosen.replace("chosen", "not: draining")), "{told}");
    }
    let invite = "INVITE sip:x@y SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\nf: <sip:z@y>;tag=1\r\nt: <sip:x@y>\r\n\
                  i: a@b\r\nCSeq: 1 INVITE\r\nMax-Forwards: 70\r\n\r\n";
    let file = cluster.balancer.config().with_file_name("invite");
    std::fs::write(&file, invite).unwrap();
    let (code, told, said) =
        cluster.balancer.command(&["explain", "--live", "--message", "invite", "--set", "cluster"]);
    assert!(code == 0 && told.contains("rule      not asked; the set was given"), "{told}{said}");
    assert_eq!(ask(&cluster, &["--files", "--live"]).0, 2, "one or the other");
    let (code, _, said) = ask(&cluster, &["--token-file", "nowhere"]);
    assert!(code == 1 && said.starts_with("nowhere: cannot be read"), "a token is for somebody who runs: {said}");
    cluster.balancer.kill();
    let told = explain(&cluster, &[]);
    assert!(told.contains(&chosen), "{told}");
    let note = "note      by the files alone, without health and run-time changes: nobody listens on 127.0.0.1:8060: ";
    assert!(told.contains(note), "{told}");
    assert_eq!(ask(&cluster, &["--live"]).0, 1);
}

#[test]
fn status_shows_which_half_of_a_pair_calls_go_to_and_what_is_wrong_with_the_other() {
    let _turn = turn();
    let cluster = Cluster::new(2, 1, |mut spec| {
        spec = spec.probes(&[]);
        spec.nodes[0].pair = Some(SocketAddr::new(spec.nodes[0].address.ip(), 5999));
        spec
    });
    // Nobody answers: the agents of this test do not work.
    let rows = || -> Vec<String> {
        let (code, out, said) = cluster.balancer.command(&["status"]);
        assert_eq!(code, 0, "{said}");
        out.lines().skip(1).map(str::to_owned).collect()
    };
    let both_down = || rows().iter().all(|row| row.contains("  down"));
    assert!(wait_until(Duration::from_secs(10), both_down), "{:?}", rows());
    let rows = rows();
    assert!(rows.len() == 2 && rows[0].contains("  down, active (no_answer)  "), "{rows:?}");
    assert!(rows[1].contains("  down (no_answer)"), "{rows:?}");
}
