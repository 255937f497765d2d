//! Every rule of health in virtual time: nodes that answer, keep silent, lose packets, refuse.

mod pairs;
mod plans;
mod probes;
mod traffic;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use super::dice::Dice;
use super::monitor::{NEVER, Token};
use super::monitors::Monitors;
use super::status::{self, NodeStatus, Status};
use crate::balance::{
    Health, HealthPolicy, Intent, KeyBy, Keys, NodeSpec, Plan, PlanSpec, Refusal, Secrets, SetPolicy, SetSpec,
};
use crate::packet::PeerId;
use crate::shard::{Account, Evidence};

const MS: u64 = 1_000;
const S: u64 = 1_000_000;

/// What a node does with a probe.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Does {
    Answer(u16),
    Nothing,
    /// Request and response are lost with this probability each.
    Lose(f64),
}

fn fast() -> HealthPolicy {
    HealthPolicy { interval_ms: 250, ..HealthPolicy::default() }
}

fn spec(nodes: &[(&str, &[&str])], health: HealthPolicy) -> PlanSpec {
    let node = |(name, addrs): &(&str, &[&str])| NodeSpec {
        name: (*name).into(),
        id: None,
        addrs: [addrs[0].parse().ok(), addrs.get(1).and_then(|addr| addr.parse().ok())],
        weight: 100,
        labels: Vec::new(),
        intent: Intent::Serve,
    };
    let set = SetSpec {
        name: "pbx".into(),
        slots_log2: 10,
        keys: Keys::new(&KeyBy::CallId, &[]),
        policy: SetPolicy { health, ..SetPolicy::default() },
        nodes: nodes.iter().map(node).collect(),
    };
    PlanSpec { sets: vec![set], ..PlanSpec::default() }
}

fn plan(spec: PlanSpec) -> Arc<Plan> {
    Arc::new(Plan::build(spec, &Secrets::derive(&[3; 32]), None).unwrap())
}

const A: &str = "10.0.0.1:5060";
const B: &str = "10.0.0.2:5060";
const C: &str = "10.0.0.3:5060";
const THREE: &[(&str, &[&str])] = &[("a", &[A]), ("b", &[B]), ("c", &[C])];
const PAIR: &[(&str, &[&str])] = &[("p", &[A, B]), ("c", &[C])];

/// The monitors with a network of nodes around them.
struct Scene {
    monitors: Monitors,
    now_us: u64,
    does: HashMap<SocketAddr, Does>,
    coming: Vec<(u64, SocketAddr, Token, u16)>,
    sent: Vec<(u64, SocketAddr, Token)>,
    accounts: HashMap<SocketAddr, (Account, u64)>,
    chance: Dice,
    next_look_us: u64,
}

impl Scene {
    fn new(nodes: &[(&str, &[&str])], health: HealthPolicy) -> Self {
        Self {
            monitors: Monitors::new(plan(spec(nodes, health)), 0, [7; 16]),
            now_us: 0,
            does: HashMap::new(),
            coming: Vec::new(),
            sent: Vec::new(),
            accounts: HashMap::new(),
            chance: Dice::new([9; 16]),
            next_look_us: 0,
        }
    }

    fn does(&mut self, addr: &str, does: Does) {
        self.does.insert(addr.parse().unwrap(), does);
    }

    fn chance(&mut self, of: f64) -> bool {
        (self.chance.roll() >> 11) as f64 / (1_u64 << 53) as f64 <= of
    }

    fn account(&mut self, addr: &str) -> &mut Account {
        &mut self.accounts.entry(addr.parse().unwrap()).or_default().0
    }

    /// Lets `us` pass: answers take a millisecond, evidence is read every 100.
    fn pass(&mut self, us: u64) {
        let end_us = self.now_us + us;
        loop {
            let answer_us = self.coming.iter().map(|(at_us, ..)| *at_us).min().unwrap_or(NEVER);
            let next_us = self.monitors.next_us().min(answer_us).min(self.next_look_us).max(self.now_us);
            if next_us > end_us {
                self.now_us = end_us;
                return;
            }
            self.now_us = next_us;
            self.turn();
        }
    }

    fn turn(&mut self) {
        let now_us = self.now_us;
        let (here, later) = std::mem::take(&mut self.coming).into_iter().partition(|(at_us, ..)| *at_us <= now_us);
        self.coming = later;
        let here: Vec<(u64, SocketAddr, Token, u16)> = here;
        for (_, source, token, code) in here {
            self.monitors.answered(now_us, source, token, code);
        }
        let mut sent = Vec::new();
        self.monitors.expire(now_us, |to, token| {
            sent.push((now_us, to, token));
            true
        });
        for (at_us, to, token) in &sent {
            let code = match self.does.get(to).copied().unwrap_or(Does::Answer(200)) {
                Does::Answer(code) => code,
                Does::Nothing => continue,
                Does::Lose(part) if self.chance(part) || self.chance(part) => continue,
                Does::Lose(_) => 200,
            };
            self.coming.push((at_us + MS, *to, *token, code));
        }
        self.sent.extend(sent);
        if now_us >= self.next_look_us {
            self.next_look_us = now_us + 100 * MS;
            self.look();
        }
    }

    fn look(&mut self) {
        let (plan, accounts) = (self.monitors.plan().clone(), &self.accounts);
        let of = |peer: PeerId| plan.endpoints.peers.get(usize::from(peer.0)).and_then(|addr| accounts.get(addr));
        self.monitors.look(self.now_us, self.monitors.all(), |peer| of(peer).copied().unwrap_or_default());
    }

    /// How long until `holds` does, at most `limit_us`.
    fn until(&mut self, limit_us: u64, holds: impl Fn(&Self) -> bool) -> Option<u64> {
        let start_us = self.now_us;
        while self.now_us - start_us <= limit_us {
            if holds(self) {
                return Some(self.now_us - start_us);
            }
            self.pass(MS);
        }
        None
    }

    fn peer(&self, addr: &str) -> PeerId {
        self.monitors.plan().peer(addr.parse().unwrap())
    }

    fn health(&self, addr: &str) -> Health {
        self.monitors.vitals().of(self.peer(addr))
    }

    fn refusal(&self, node: &str) -> Option<Refusal> {
        let node = self.monitors.plan().nodes.iter().find(|own| own.name == node).unwrap();
        node.refusal(self.monitors.vitals())
    }

    fn active(&self, node: &str) -> String {
        let node = self.monitors.plan().nodes.iter().find(|own| own.name == node).unwrap();
        node.living(self.monitors.vitals()).unwrap().addr.to_string()
    }

    fn status(&self) -> Status {
        status::of(&self.monitors, &Evidence::default(), &[], 0, self.now_us)
    }

    fn node(&self, name: &str) -> NodeStatus {
        self.status().sets[0].nodes.iter().find(|node| node.name == name).unwrap().clone()
    }

    fn sent_to(&self, addr: &str) -> Vec<(u64, Token)> {
        let addr: SocketAddr = addr.parse().unwrap();
        self.sent.iter().filter(|(_, to, _)| *to == addr).map(|(at_us, _, token)| (*at_us, *token)).collect()
    }
}
