//! What choosing a node costs a request, and what building a table costs a reload.

#![allow(clippy::expect_used, clippy::indexing_slicing, reason = "a bench may panic")]

use std::hint::black_box;
use std::net::SocketAddr;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use sipring::balance::{
    COOKIE_MAX, CookieKey, CookieKeys, CookieTarget, Intent, Key, KeyBy, Keys, NodeId, NodeIx, NodeSpec, Plan,
    PlanSpec, PortTag, Role, Secrets, SetPolicy, SetSpec, Table, Vitals, pick,
};

/// A number a step that repeats only after 2^64 of them, so that neither cache nor predictor learns it.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        (self.0 ^ self.0 >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9)
    }
}

fn plan(secrets: &Secrets, nodes: u32) -> Plan {
    let node = |number: u32| NodeSpec {
        name: format!("n{number}"),
        id: None,
        addrs: [Some(SocketAddr::from(((0x0a00_0000 + number).to_be_bytes(), 5060))), None],
        weight: 100,
        labels: Vec::new(),
        intent: Intent::Serve,
    };
    let set = SetSpec {
        name: "pbx".into(),
        slots_log2: 18,
        keys: Keys::new(&KeyBy::CallId, &[]),
        policy: SetPolicy::default(),
        nodes: (0..nodes).map(node).collect(),
    };
    Plan::build(PlanSpec { sets: vec![set], ..PlanSpec::default() }, secrets, None).expect("a sound plan")
}

fn choosing(c: &mut Criterion) {
    let secrets = Secrets::derive(&[7; 32]);
    let vitals = Vitals::default();
    let mut group = c.benchmark_group("pick");
    for nodes in [3_u32, 30, 1000] {
        let plan = plan(&secrets, nodes);
        let mut numbers = Numbers(1);
        let may_take = |node: NodeIx| plan.node(node).is_some_and(|node| node.refusal(&vitals).is_none());
        group.bench_function(BenchmarkId::new("all up", nodes), |b| {
            b.iter(|| pick(&plan.sets[0], black_box(numbers.next()), may_take));
        });
        group.bench_function(BenchmarkId::new("one lost", nodes), |b| {
            b.iter(|| pick(&plan.sets[0], black_box(numbers.next()), |node| node != NodeIx(1) && may_take(node)));
        });
    }
    group.finish();
    let call_id = b"3848276298220188511@192.0.2.17";
    c.bench_function("hash/call-id", |b| b.iter(|| secrets.call.hash13(black_box(call_id))));
    let parts: [&[u8]; 4] = [b"z9hG4bK776asdhds7f1", b"192.0.2.17:5060", call_id, b"314159"];
    c.bench_function("hash/branch parts", |b| b.iter(|| secrets.branch.hash13_parts(black_box(&parts))));
}

fn look_ups(c: &mut Criterion) {
    let secrets = Secrets::derive(&[7; 32]);
    let mut group = c.benchmark_group("look-up");
    for nodes in [3_u32, 30, 1000] {
        let plan = plan(&secrets, nodes);
        let mut numbers = Numbers(1);
        let addrs: Vec<SocketAddr> = plan.endpoints.peers.clone();
        let mut any = || addrs[(numbers.next() >> 32) as usize % addrs.len()];
        group.bench_function(BenchmarkId::new("from_addr", nodes), |b| b.iter(|| plan.from_addr(black_box(any()))));
        group.bench_function(BenchmarkId::new("is_cluster", nodes), |b| {
            b.iter(|| plan.is_cluster(black_box(any().ip())));
        });
        let stranger: SocketAddr = "203.0.113.9:5060".parse().expect("an address");
        group.bench_function(BenchmarkId::new("stranger", nodes), |b| {
            b.iter(|| plan.is_cluster(black_box(stranger).ip()));
        });
        let ids: Vec<NodeId> = plan.nodes.iter().map(|node| node.id).collect();
        let mut numbers = Numbers(1);
        let mut any = || ids[(numbers.next() >> 32) as usize % ids.len()];
        group.bench_function(BenchmarkId::new("by_id", nodes), |b| b.iter(|| plan.by_id(black_box(any()))));
    }
    group.finish();
}

fn cookies(c: &mut Criterion) {
    let keys = CookieKeys::new(&[CookieKey { id: 3, key: [9; 16] }], 3).expect("sound keys");
    let listener = PortTag::of_listener("phones");
    let v4 = SocketAddr::from(([192, 0, 2, 17], 5062));
    let v6 = "[2001:db8::17]:5062".parse().expect("an address");
    let kinds = [
        ("node", CookieTarget::Node(NodeId(0x1234_5678))),
        ("flow4", CookieTarget::Flow { listener, addr: v4 }),
        ("flow6", CookieTarget::Flow { listener, addr: v6 }),
    ];
    let mut group = c.benchmark_group("cookie");
    for (name, target) in kinds {
        let mut text = [0; COOKIE_MAX];
        group.bench_function(BenchmarkId::new("sign", name), |b| {
            b.iter(|| keys.sign(Role::EdgeFacing, black_box(&target), Some(black_box(77)), &mut text));
        });
        let len = keys.sign(Role::EdgeFacing, &target, Some(77), &mut text);
        group.bench_function(BenchmarkId::new("verify", name), |b| {
            b.iter(|| keys.verify(black_box(&text[..len]), || black_box(77)));
        });
    }
    group.finish();
}

fn tables(c: &mut Criterion) {
    let key = Key(1, 2);
    let mut group = c.benchmark_group("table");
    group.sample_size(10);
    for nodes in [3_u32, 30, 1000] {
        let members: Vec<(NodeId, u32)> = (0..nodes).map(|id| (NodeId(id), 100)).collect();
        group.throughput(Throughput::Elements(u64::from(nodes) << 18));
        group.bench_function(BenchmarkId::new("build", nodes), |b| b.iter(|| Table::build(18, &key, &members)));
        let table = Table::build(18, &key, &members);
        group.bench_function(BenchmarkId::new("one lost", nodes), |b| b.iter(|| table.rebuild(&members[1..])));
    }
    group.finish();
}

criterion_group!(balance, choosing, look_ups, cookies, tables);
criterion_main!(balance);
