//! A shard on the bench: packets in, verdicts and edited bytes out, nothing else.
//!
//! One edge listener and one node side for each address family, three nodes; what differs from that
//! is said with [`Rig::with`].

#![allow(unreachable_pub, reason = "shared by several test binaries")]
#![allow(dead_code, reason = "every test binary uses another part of it")]
#![allow(clippy::wrong_self_convention, clippy::wildcard_enum_match_arm, reason = "reads as a sentence in tests")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::expect_used, clippy::panic, reason = "a test rig")]

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use sipring::balance::{
    CookieKey, CookieKeys, Intent, KeyBy, Keys, NodeId, NodeSpec, Plan, PlanSpec, PortTag, Rule, Secrets, SetIx,
    SetPolicy, SetSpec, SourceForm, SourceHeader, Vitals,
};
use sipring::packet::{LocalPort, Outbox, Packet, Pool, PoolOptions, PortId, PortRole, WorkerId};
use sipring::shard::{
    Asks, Counters, Evidence, ForceRport, Marks, Names, NodeSide, Options, Port, Shard, Shared, Site, State, Verdict,
};

pub const EDGE: PortId = PortId(0);
pub const EDGE6: PortId = PortId(1);
pub const NODES: PortId = PortId(2);
pub const NODES6: PortId = PortId(3);
pub const WORKERS: PortId = PortId(4);
pub const CLIENT: &str = "192.0.2.50:5060";
pub const NODE1: &str = "10.0.0.11:5060";

pub const WORKER_PORTS: u16 = 4;

/// What a rig is made of; change it before [`Rig::of`].
pub struct Parts {
    pub secret: [u8; 32],
    pub cookie: [u8; 16],
    pub options: Options,
    pub policy: SetPolicy,
    pub keys: Keys,
    pub nodes: Vec<NodeSpec>,
    pub trusted: Vec<String>,
    pub force_rport: ForceRport,
    pub me: u16,
    pub names: HashMap<String, Vec<IpAddr>>,
    pub aliases: Vec<String>,
}

impl Default for Parts {
    fn default() -> Self {
        let source_header = Some(SourceHeader { name: "X-Sipring-Source".to_owned(), form: SourceForm::Full });
        let mut policy = SetPolicy { source_header, ..SetPolicy::default() };
        policy.source_header = None;
        Self {
            secret: [7; 32],
            cookie: [9; 16],
            options: Options { marks_max: 1 << 12, workers: 2, ..Options::default() },
            policy,
            keys: Keys::new(&KeyBy::CallId, &[(sipring::sip::Method::Register as u8, KeyBy::Aor)]),
            nodes: (1..=3).map(|n| node(n, 100)).collect(),
            trusted: Vec::new(),
            force_rport: ForceRport::Auto,
            me: 0,
            names: HashMap::new(),
            aliases: vec!["sip.example.org".to_owned()],
        }
    }
}

pub fn node(n: u8, weight: u32) -> NodeSpec {
    NodeSpec {
        name: format!("node{n}"),
        id: Some(NodeId(u32::from(n))),
        addrs: [Some(SocketAddr::from(([10, 0, 0, 10 + n], 5060))), None],
        weight,
        labels: Vec::new(),
        intent: Intent::Serve,
    }
}

pub struct Rig {
    pub shard: Shard,
    pub out: Outbox,
    pub pool: &'static Pool,
    pub now_ms: u64,
    pub counters: Arc<Counters>,
    pub shared: Shared,
}

/// What came out for one packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub verdict: Verdict,
    pub bytes: Vec<u8>,
}

impl Outcome {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    /// Where it goes, if it is forwarded.
    pub fn to(&self) -> Option<SocketAddr> {
        match self.verdict {
            Verdict::Forward(egress) => Some(egress.to),
            _ => None,
        }
    }

    pub fn from_port(&self) -> Option<PortId> {
        match self.verdict {
            Verdict::Forward(egress) | Verdict::Reply(egress) => Some(egress.port),
            _ => None,
        }
    }

    /// Status code of a local reply.
    pub fn reply(&self) -> Option<u16> {
        match self.verdict {
            Verdict::Reply(_) => self.text().get(8..11).and_then(|code| code.parse().ok()),
            _ => None,
        }
    }

    /// All values of a header, one a line, in order.
    pub fn all(&self, name: &str) -> Vec<String> {
        let text = self.text();
        let head = text.split("\r\n\r\n").next().unwrap_or_default().to_owned();
        head.split("\r\n")
            .filter_map(|line| line.split_once(':'))
            .filter(|(own, _)| own.trim().eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim().to_owned())
            .collect()
    }

    pub fn one(&self, name: &str) -> String {
        self.all(name).into_iter().next().unwrap_or_default()
    }
}

pub fn site(parts: &Parts) -> Arc<Site> {
    let listener = |bind: &str, name: &str, edge: bool| Port {
        local: LocalPort { bind: bind.parse().unwrap(), role: PortRole::Listener },
        name: name.to_owned(),
        tag: PortTag::of_listener(name),
        edge,
        node: !edge,
        advertise: bind.to_owned(),
        aliases: Vec::new(),
        force_rport: parts.force_rport,
    };
    let mut ports = vec![
        listener("192.0.2.1:5060", "phones", true),
        listener("[2001:db8::1]:5060", "phones6", true),
        listener("10.0.0.1:5060", "nodes", false),
        listener("[2001:db8:1::1]:5060", "nodes6", false),
    ];
    let mut sides = Vec::new();
    for (family, host) in [(0_u16, "10.0.0.1"), (1, "[2001:db8:1::1]")] {
        let first = ports.len() as u16;
        for index in 0..WORKER_PORTS {
            let bind = format!("{host}:{}", 5070 + index);
            let mut port = listener(&bind, "nodes", false);
            port.local.role = PortRole::Worker { index };
            port.tag = PortTag::of_worker_port(family == 1, index);
            ports.push(port);
        }
        let worker_ports = (first..first + WORKER_PORTS).map(PortId).collect();
        sides.push(NodeSide { listener: PortId(2 + family), worker_ports, shared: false });
    }
    let keys = vec![CookieKey { id: 1, key: parts.cookie }];
    let [v4, v6] = <[NodeSide; 2]>::try_from(sides).unwrap();
    Arc::new(Site::new(
        ports,
        [Some(v4), Some(v6)],
        &parts.aliases,
        Secrets::derive(&parts.secret),
        CookieKeys::new(&keys, 1).unwrap(),
        parts.options.clone(),
    ))
}

pub fn plan(parts: &Parts, secrets: &Secrets, previous: Option<&Plan>) -> Plan {
    let set = SetSpec {
        name: "pbx".to_owned(),
        slots_log2: 14,
        keys: parts.keys.clone(),
        policy: parts.policy.clone(),
        nodes: parts.nodes.clone(),
    };
    let rule = |port: PortId| Rule { listener: Some(port), method: None, host: None, source: None, set: SetIx(0) };
    let spec = PlanSpec {
        sets: vec![set],
        rules: [EDGE, EDGE6, NODES, NODES6].into_iter().map(rule).collect(),
        trusted: parts.trusted.iter().map(|net| net.parse().unwrap()).collect(),
    };
    Plan::build(spec, secrets, previous).unwrap()
}

impl Rig {
    pub fn new() -> Self {
        Self::of(&Parts::default())
    }

    pub fn with(change: impl FnOnce(&mut Parts)) -> Self {
        let mut parts = Parts::default();
        change(&mut parts);
        Self::of(&parts)
    }

    pub fn of(parts: &Parts) -> Self {
        let site = site(parts);
        let state = State {
            plan: Arc::new(plan(parts, &site.secrets, None)),
            vitals: Arc::new(Vitals::default()),
            evidence: Arc::new(Evidence::new(parts.options.workers, 16, Vec::new())),
            names: Arc::new(Names::new(parts.names.clone())),
            hops: Arc::default(),
            draining: false,
        };
        let marks = Arc::new(Marks::new(site.options.marks_max, site.options.ringing_max_s));
        let shared = Shared { site, marks, asks: Arc::new(Asks::new(16)) };
        let counters = Arc::new(Counters::default());
        let pool = Pool::new(&PoolOptions { slots: 16, threads: 1 }).unwrap();
        Self {
            shard: Shard::new(WorkerId(parts.me), shared.clone(), state, counters.clone()),
            out: Outbox::new(pool, 8),
            pool,
            now_ms: 1_000,
            counters,
            shared,
        }
    }

    /// A rig with room for whole batches, for benches.
    pub fn bench() -> Self {
        let mut rig = Self::new();
        rig.pool = Pool::new(&PoolOptions { slots: 256, threads: 1 }).unwrap();
        rig.out = Outbox::new(rig.pool, 128);
        rig
    }

    /// Another worker of the same process.
    pub fn sibling(&self, me: u16) -> Self {
        let counters = Arc::new(Counters::default());
        let state = self.shard.state().clone();
        Self {
            shard: Shard::new(WorkerId(me), self.shared.clone(), state, counters.clone()),
            out: Outbox::new(self.pool, 8),
            pool: self.pool,
            now_ms: self.now_ms,
            counters,
            shared: self.shared.clone(),
        }
    }

    /// A new plan, as a reload makes it.
    pub fn reload(&mut self, parts: &Parts) {
        let mut state = self.shard.state().clone();
        state.plan = Arc::new(plan(parts, &self.shared.site.secrets, Some(&state.plan)));
        self.shard.apply(&mut state);
    }

    pub fn change_state(&mut self, change: impl FnOnce(&mut State)) {
        let mut state = self.shard.state().clone();
        change(&mut state);
        self.shard.apply(&mut state);
    }

    pub fn pass(&mut self, bytes: &[u8], port: PortId, source: &str) -> Outcome {
        let mut packet = self.pool.take().unwrap();
        assert!(packet.replace(bytes));
        packet.received(bytes.len(), port, source.parse().unwrap());
        self.pass_packet(packet)
    }

    pub fn pass_packet(&mut self, mut packet: Packet) -> Outcome {
        let verdict = self.shard.handle(self.now_ms, &mut packet, &mut self.out);
        self.counters.receive(1);
        self.counters.judge(verdict);
        Outcome { verdict, bytes: packet.bytes().to_vec() }
    }

    pub fn from_client(&mut self, text: &str) -> Outcome {
        self.pass(text.as_bytes(), EDGE, CLIENT)
    }

    pub fn from_node(&mut self, text: &str, node: SocketAddr) -> Outcome {
        self.pass(text.as_bytes(), NODES, &node.to_string())
    }
}

/// A request with the headers that every one has.
pub fn request(method: &str, uri: &str, more: &str) -> String {
    format!(
        "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.50:5060;branch=z9hG4bK1\r\n{more}Max-Forwards: 70\r\n\
         From: <sip:alice@example.org>;tag=a1\r\nTo: <sip:bob@example.org>\r\nCall-ID: c1@192.0.2.50\r\n\
         CSeq: 1 {method}\r\nContact: <sip:alice@192.0.2.50:5060>\r\nContent-Length: 0\r\n\r\n"
    )
}

/// The response of whoever got `request`, with its Vias, From, To, Call-ID, CSeq and Record-Routes.
pub fn response(request: &Outcome, code: u16, to_tag: &str, more: &str) -> String {
    let mut text = format!("SIP/2.0 {code} X\r\n");
    for name in ["Via", "Record-Route"] {
        for value in request.all(name) {
            text += &format!("{name}: {value}\r\n");
        }
    }
    for name in ["From", "Call-ID", "CSeq"] {
        text += &format!("{name}: {}\r\n", request.one(name));
    }
    let to = request.one("To");
    let to = if to.contains("tag=") || to_tag.is_empty() { to } else { format!("{to};tag={to_tag}") };
    text + &format!("To: {to}\r\n{more}Content-Length: 0\r\n\r\n")
}
