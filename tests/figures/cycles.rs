//! Calls at a steady rate while the file is reloaded and nodes are drained and brought back, over and over.

use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::harness::balancer::Balancer;
use crate::harness::flows::{self, Flow, Row};
use crate::harness::http::Admin;
use crate::harness::lab::Core;
use crate::harness::namespace::Place;
use crate::harness::sipp::{Outcome, Run, Sipp};
use crate::harness::spec::{Node, Spec};

const NODES: usize = 3;
/// From one cycle to the next.
const PERIOD: Duration = Duration::from_millis(600);
/// How long a node stays drained.
const DRAINED: Duration = Duration::from_millis(350);
/// What was sent before the node was drained may be read by SIPp so much later.
const UNDER_WAY_S: f64 = 0.15;

/// When a node was drained, seconds since 1970.
struct Spell {
    node: usize,
    from_s: f64,
    to_s: f64,
}

pub(crate) fn run(rate: u32, cycles: u32) -> bool {
    println!(
        "{rate} calls/s by SIPp through sipring (2 workers) to {NODES} SIPp nodes; meanwhile {cycles} times: a node is"
    );
    println!(
        "drained by the API, the file is reloaded with another weight (by SIGHUP and by the API in turn), and the"
    );
    println!("node serves again");
    let core = Core::new();
    let at = |net, host| SocketAddr::new(core.address(net, host), 5060);
    let (client, edge) = (at(3, 1), at(0, 1));
    let nodes: Vec<Node> = (0_u8..).map(|host| Node::new(format!("node{host}"), at(2, host + 1))).take(NODES).collect();
    let spec = Spec { set: Vec::new(), ..Spec::new(edge, at(1, 1)) }.nodes(nodes.clone()).workers(2);
    let mut balancer = Balancer::start(&core.place(), &spec);

    let seconds = PERIOD.as_secs() as u32 + (PERIOD * (cycles + 8)).as_secs() as u32;
    let row = Row {
        flow: Flow::Call,
        from_nodes: false,
        v6: false,
        workers: 2,
        datapath: None,
        rate,
        seconds,
        pause_ms: 500,
    };
    let place = core.place();
    let answering: Vec<Sipp> = nodes
        .iter()
        .map(|node| Sipp::start(&node.name, &sipp(&row, &place, "uas-call.xml", node.address, None)))
        .collect();
    let calling = Sipp::start("client", &sipp(&row, &place, "uac-call.xml", client, Some(edge)));
    let (spells, reloads) = churn(&mut balancer, spec, cycles);
    let caller = calling.finish();
    let callees: Vec<Outcome> = answering.into_iter().map(Sipp::stop).collect();

    let report = flows::report(row, &caller, &callees, balancer.counters());
    println!("  {report}");
    let (astray, beside) = during(&spells, &callees);
    println!(
        "  {reloads} reloads in force, {} spells of {} ms; new calls meanwhile: {astray} at the drained node, {beside} at the others",
        spells.len(),
        DRAINED.as_millis()
    );
    if !report.holds() {
        println!("{}", report.errors);
    }
    report.holds() && astray == 0 && beside > 0 && reloads == cycles && spells.len() == cycles as usize
}

fn sipp<'a>(row: &Row, place: &'a Place, scenario: &'a str, local: SocketAddr, remote: Option<SocketAddr>) -> Run<'a> {
    let target = remote.unwrap_or(local);
    Run {
        scenario,
        place,
        local,
        remote,
        target,
        rate: row.rate,
        calls: row.rate * row.seconds,
        pause_ms: row.pause_ms,
    }
}

/// The cycles; when nodes were drained, and how many reloads were taken.
fn churn(balancer: &mut Balancer, mut spec: Spec, cycles: u32) -> (Vec<Spell>, u32) {
    let admin = balancer.admin();
    let mut spells = Vec::new();
    let begun = Instant::now() + PERIOD;
    for cycle in 0..cycles {
        pause(begun + PERIOD * cycle);
        let node = cycle as usize % NODES;
        told(&admin, node, "drain");
        let (answered, from_s) = (Instant::now(), now_s());
        let heavy = &mut spec.nodes[(node + 1) % NODES];
        heavy.weight = 250 - heavy.weight;
        if cycle % 2 == 0 {
            balancer.reload(&spec);
        } else {
            balancer.write(&spec.sipring_toml());
            let reply = admin.post("/reload");
            assert_eq!(reply.status, 200, "{reply:?}");
        }
        pause(answered + DRAINED);
        let to_s = now_s();
        told(&admin, node, "serve");
        spells.push(Spell { node, from_s, to_s });
    }
    let metrics = admin.get("/metrics");
    (spells, metrics.metric("sipring_reloads_total{result=\"taken\"}") as u32)
}

fn told(admin: &Admin, node: usize, word: &str) {
    let reply = admin.post(&format!("/sets/cluster/nodes/node{node}/{word}"));
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(reply.json()["intent"], word);
}

/// New calls that came while a node was drained: to it, and to the others.
fn during(spells: &[Spell], callees: &[Outcome]) -> (usize, usize) {
    let (mut astray, mut beside) = (0, 0);
    for Spell { node, from_s, to_s } in spells {
        for (at, callee) in callees.iter().enumerate() {
            let came = callee.invited_s.iter().filter(|s| (from_s + UNDER_WAY_S..*to_s).contains(*s)).count();
            *(if at == *node { &mut astray } else { &mut beside }) += came;
        }
    }
    (astray, beside)
}

fn pause(until: Instant) {
    std::thread::sleep(until.saturating_duration_since(Instant::now()));
}

fn now_s() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}
