//! What Prometheus reads.

use std::io::Write;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::harness::agent::Policy;
use crate::harness::cluster::Cluster;
use crate::harness::dialog::State;
use crate::harness::http::Reply;
use crate::harness::sys::Signal;
use crate::harness::{turn, wait_until};

pub(crate) fn promtool(metrics: &Reply) {
    let mut child = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("promtool: {e}; Debian's package prometheus has it, tests/run installs it"));
    child.stdin.take().unwrap().write_all(metrics.body.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.trim().is_empty(), "promtool: {said}\n{}", metrics.body);
}

#[test]
fn every_node_verdict_and_reason_is_there_from_the_start() {
    let _turn = turn();
    let mut cluster = Cluster::new(2, 2, |spec| spec.workers(2));
    let metrics = cluster.balancer.admin().get("/metrics");
    assert_eq!(metrics.status, 200);
    assert!(metrics.head.contains("text/plain; version=0.0.4"), "{}", metrics.head);
    promtool(&metrics);
    let counters = cluster.balancer.counters();
    let printed = |kind: &str| counters.keys().filter(|name| name.starts_with(kind)).count();
    let told = |kind: &str| metrics.body.lines().filter(|line| line.starts_with(kind)).count();
    assert_eq!(told("sipring_drops_total{"), printed("sipring_drop{"));
    assert_eq!(told("sipring_tallies_total{"), printed("sipring_tally{"));
    assert_eq!(told("sipring_own_replies_total{"), printed("sipring_own_reply{"));
    for worker in ["0", "1"] {
        for verdict in ["forward", "reply", "absorb", "handoff", "drop"] {
            let name = format!("sipring_verdicts_total{{worker=\"{worker}\",verdict=\"{verdict}\"}}");
            assert_eq!(metrics.metric(&name), 0.0);
        }
        assert_eq!(metrics.metric(&format!("sipring_datagrams_received_total{{worker=\"{worker}\"}}")), 0.0);
        assert_eq!(metrics.metric(&format!("sipring_datagrams_sent_total{{worker=\"{worker}\"}}")), 0.0);
    }
    for node in ["node0", "node1"] {
        let of = |name: &str| metrics.metric(&format!("sipring_node_{name}{{set=\"cluster\",node=\"{node}\"}}"));
        assert_eq!((of("takes_calls"), of("weight"), of("marks")), (1.0, 100.0, 0.0));
        let health = ["sipring_endpoint_health{", node, "role=\"primary\",health=\"up\""];
        assert_eq!(metrics.sum(&health), 1.0);
        let end = |name: &str| metrics.sum(&[&format!("sipring_endpoint_{name}{{"), node]);
        assert_eq!((end("active"), end("ejections_total"), end("probes_late_total")), (1.0, 0.0, 0.0));
        assert!(of("dialogs").is_nan() && of("dialogs_counted_seconds").is_nan() && end("probe_rtt_seconds").is_nan());
        for (family, results) in [("probes_total", ["answered", "failed"]), ("calls_total", ["other", "refused_503"])] {
            let of =
                |result| metrics.sum(&[&format!("sipring_endpoint_{family}{{"), node, &format!("result=\"{result}\"")]);
            assert_eq!(results.map(of), [0.0, 0.0], "{family}");
        }
    }
    assert_eq!(metrics.metric("sipring_names_refused_total"), 0.0);
    for name in ["receives_starved", "receives_rearmed"] {
        let help = metrics.body.lines().find(|line| line.starts_with(&format!("# HELP sipring_{name}_total ")));
        assert!(help.is_some_and(|help| !help.contains("A figure of")), "{help:?}");
    }
    assert_eq!(metrics.sum(&["sipring_build_info{", "datapath="]), 1.0);
    assert!(metrics.metric("process_resident_memory_bytes") > 1e6);
    let started = metrics.metric("process_start_time_seconds");
    assert!(started > 1.7e9);
    assert_eq!(cluster.balancer.admin().get("/metrics").metric("process_start_time_seconds"), started);
    assert_eq!(metrics.metric("sipring_pool_packets"), 8192.0);
}

#[test]
fn metrics_grow_with_the_traffic_and_agree_with_the_printed_counters() {
    let _turn = turn();
    let mut cluster = Cluster::new(2, 2, |spec| spec.workers(2));
    let admin = cluster.balancer.admin();
    cluster.calls(40, State::Confirmed);
    let place = cluster.core.place();
    let stranger = place.socket(SocketAddr::new(cluster.core.address(4, 1), 5060));
    stranger.send_to(b"SIP/2.0 200 OK\r\n\r\n", cluster.edge).unwrap();
    let dropped = || admin.get("/metrics").sum(&["sipring_drops_total{"]) == 1.0;
    assert!(wait_until(Duration::from_secs(5), dropped));
    // A worker writes its figures at the end of a turn, after it has sent.
    let agree = || {
        let counters = cluster.balancer.counters();
        let sent = (0..2).map(|worker| counters[&format!("sipring_datagrams_sent{{worker=\"{worker}\"}}")]);
        let printed: u64 = sent.sum();
        printed >= 160 && admin.get("/metrics").sum(&["sipring_datagrams_sent_total{"]) == printed as f64
    };
    assert!(wait_until(Duration::from_secs(5), agree));
    let metrics = admin.get("/metrics");
    promtool(&metrics);
    assert!(metrics.sum(&["sipring_datagrams_received_total{"]) >= 161.0, "{}", metrics.body);
    let answered = || {
        let metrics = admin.get("/metrics");
        metrics.sum(&["sipring_endpoint_calls_total{", "result=\"other\""]) == 40.0
    };
    assert!(wait_until(Duration::from_secs(5), answered), "control reads what workers count ten times a second");
    assert_eq!(metrics.metric("sipring_marks"), 0.0, "all calls were answered");
    cluster.world.policy(&cluster.nodes, Policy::Ring);
    cluster.calls(12, State::Ringing);
    let ringing = admin.get("/metrics");
    assert_eq!((ringing.metric("sipring_marks"), ringing.sum(&["sipring_node_marks{"])), (12.0, 12.0));
    // A worker that is asked whether it lives turns; one turn in 64 is timed.
    let timed = || {
        admin.get("/healthz");
        admin.get("/metrics").sum(&["sipring_turn_duration_seconds_count{"]) > 0.0
    };
    assert!(wait_until(Duration::from_secs(20), timed));
    let metrics = admin.get("/metrics");
    assert!(metrics.sum(&["sipring_turn_duration_seconds_sum{"]) > 0.0);
    let (all, counted) = (
        metrics.sum(&["sipring_turn_duration_seconds_bucket{", "le=\"+Inf\""]),
        metrics.sum(&["sipring_turn_duration_seconds_count{"]),
    );
    assert_eq!(all, counted);
}

#[test]
fn a_scraper_that_asks_for_openmetrics_gets_it() {
    let _turn = turn();
    let cluster = Cluster::new(1, 1, |spec| spec);
    let accept = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5";
    let metrics = cluster.balancer.admin().with("Accept", accept).get("/metrics");
    assert!(metrics.head.contains("application/openmetrics-text; version=1.0.0"), "{}", metrics.head);
    assert!(metrics.body.ends_with("\n# EOF\n") && metrics.body.contains("# TYPE sipring_drops counter\n"));
    assert_eq!(metrics.sum(&["sipring_drops_total{", "not_sip"]), 0.0);
}

#[test]
fn what_the_kernel_dropped_is_counted() {
    let _turn = turn();
    let mut cluster = Cluster::new(1, 1, |spec| spec);
    let admin = cluster.balancer.admin();
    let name = "sipring_socket_drops_total{port=\"edge\"}";
    assert_eq!(admin.get("/metrics").metric(name), 0.0);
    let place = cluster.core.place();
    let flood = place.socket(SocketAddr::new(cluster.core.address(4, 1), 5060));
    let process = cluster.balancer.process();
    process.signal(Signal::Stop);
    // More than the buffer of 8 MB, and what the kernel may double it to, holds.
    let datagram = vec![b'x'; 60_000];
    for _ in 0..600 {
        flood.send_to(&datagram, cluster.edge).unwrap();
    }
    process.signal(Signal::Continue);
    assert!(wait_until(Duration::from_secs(5), || admin.get("/metrics").metric(name) > 0.0));
}

#[test]
fn reloads_are_counted_by_their_result() {
    let _turn = turn();
    let cluster = Cluster::new(2, 1, |spec| spec);
    let admin = cluster.balancer.admin();
    let before = admin.get("/metrics");
    assert_eq!(before.metric("sipring_last_reload_timestamp_seconds"), 0.0);
    assert_eq!(before.metric("sipring_reloads_total{result=\"taken\"}"), 0.0);
    assert_eq!(admin.post("/reload").body, "{\"nodes\":1,\"rules\":2,\"sets\":1}\n");
    let text = cluster.spec.sipring_toml();
    cluster.balancer.write(&text.replace("weight = 100", "weight = 0"));
    let refused = admin.post("/reload");
    assert_eq!(refused.status, 409);
    assert!(refused.error().contains("weight = 0 is out of bounds; 1 to 65535 is right"), "{}", refused.error());
    let after = admin.get("/metrics");
    assert_eq!(after.metric("sipring_reloads_total{result=\"taken\"}"), 1.0);
    assert_eq!(after.metric("sipring_reloads_total{result=\"refused\"}"), 1.0);
    assert_eq!(after.metric("sipring_last_reload_successful"), 0.0);
    assert!(after.metric("sipring_last_reload_timestamp_seconds") > 1.7e9);
}
