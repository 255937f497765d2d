//! How calls spread over nodes, and what losing a node moves: the property that `balance` exists for.
//!
//! `run` measures a million Call-IDs under twenty secrets and prints a line for every cluster size;
//! the quick test measures the same with fewer. A node is lost both ways: taken out of service, the
//! table as it was, and taken out of the file, the table built anew.

#![allow(clippy::expect_used, clippy::indexing_slicing, reason = "test code outside test functions")]

use std::net::SocketAddr;

use sipring::balance::{Intent, KeyBy, Keys, NodeIx, NodeSpec, Plan, PlanSpec, Secrets, SetPolicy, SetSpec, pick};

/// Most that the busiest node may carry, in shares of the mean.
pub(crate) const MAX_TO_MEAN: f64 = 1.05;
/// Most that a share may differ from what the weights say.
pub(crate) const WEIGHT_ERROR: f64 = 0.05;
const NODES: [usize; 4] = [2, 3, 10, 30];

/// What to measure.
pub(crate) struct Effort {
    /// Cluster secrets.
    pub(crate) secrets: usize,
    /// Where they come from.
    pub(crate) secret: fn(usize) -> [u8; 32],
    /// Call-IDs under each of them.
    pub(crate) calls: usize,
    /// Nodes that are lost in turn, at most.
    pub(crate) losses: usize,
}

/// The worst that was seen of one number of nodes.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    /// Calls of nodes that were not lost and yet moved.
    pub(crate) moved: u64,
    /// Calls of lost nodes, all of which have to move.
    pub(crate) orphans: u64,
    /// Busiest of all nodes to the mean.
    pub(crate) whole: f64,
    /// Busiest of the nodes that are left to their mean.
    pub(crate) left: f64,
    /// Largest error of a share against its weight.
    pub(crate) weight: f64,
}

impl Figures {
    pub(crate) fn hold(&self) -> bool {
        self.moved == 0
            && self.orphans > 0
            && self.whole <= MAX_TO_MEAN
            && self.left <= MAX_TO_MEAN
            && self.weight <= WEIGHT_ERROR
    }
}

/// Measures with full effort, prints one line for every number of nodes, and tells whether all hold.
pub(crate) fn run() -> bool {
    let effort = Effort { secrets: 20, secret: random_secret, calls: 1_000_000, losses: usize::MAX };
    println!(
        "{} Call-IDs, {} random secrets, every node lost in turn, out of service and out of the file",
        effort.calls, effort.secrets
    );
    let mut all = true;
    for nodes in NODES {
        let figures = measure(nodes, &effort);
        all &= figures.hold();
        println!(
            "{nodes:>2} nodes: moved foreign keys {}, max/mean {:.4} (all) {:.4} (one lost), weight error {:.2} %: {}",
            figures.moved,
            figures.whole,
            figures.left,
            figures.weight * 100.0,
            if figures.hold() { "pass" } else { "FAIL" }
        );
    }
    all
}

/// Measures a cluster of `nodes` nodes.
pub(crate) fn measure(nodes: usize, effort: &Effort) -> Figures {
    let mut figures = Figures::default();
    for number in 0..effort.secrets {
        let secrets = Secrets::derive(&(effort.secret)(number));
        let hashes: Vec<u64> = (0..effort.calls).map(|call| secrets.call.hash13(call_id(call).as_bytes())).collect();
        let equal = vec![100; nodes];
        let plan = plan(&secrets, &equal, None, None);
        let before = nodes_of(&plan, &hashes, None);
        let counts = counts(&before, nodes);
        figures.whole = figures.whole.max(max_to_mean(&counts, None));
        for lost in 0..nodes.min(effort.losses) {
            let away = nodes_of(&plan, &hashes, Some(lost));
            figures.lose(lost, nodes, &before, &away);
            let removed = self::plan(&secrets, &equal, Some(lost), Some(&plan));
            figures.lose(lost, nodes, &before, &nodes_of(&removed, &hashes, None));
        }
        figures.weigh(&secrets, nodes, &hashes);
    }
    figures
}

impl Figures {
    fn lose(&mut self, lost: usize, nodes: usize, before: &[usize], after: &[usize]) {
        for (was, is) in before.iter().zip(after) {
            assert_ne!(*is, lost, "a lost node got a call");
            if *was == lost {
                self.orphans += 1;
            } else if was != is {
                self.moved += 1;
            }
        }
        self.left = self.left.max(max_to_mean(&counts(after, nodes), Some(lost)));
    }

    /// Weights of 75, 100 and 125 in turn.
    fn weigh(&mut self, secrets: &Secrets, nodes: usize, hashes: &[u64]) {
        let weights: Vec<u32> = [75, 100, 125].into_iter().cycle().take(nodes).collect();
        let sum: u32 = weights.iter().sum();
        let counts = counts(&nodes_of(&plan(secrets, &weights, None, None), hashes, None), nodes);
        for (count, weight) in counts.iter().zip(&weights) {
            let wanted = hashes.len() as f64 * f64::from(*weight) / f64::from(sum);
            self.weight = self.weight.max((*count as f64 / wanted - 1.0).abs());
        }
    }
}

/// Numbers of the nodes that the calls go to, `away` being out of service.
fn nodes_of(plan: &Plan, hashes: &[u64], away: Option<usize>) -> Vec<usize> {
    let numbers: Vec<usize> = plan.nodes.iter().map(|node| node.name[1..].parse().expect("a number")).collect();
    let away = away.map(|away| NodeIx(away as u16));
    let set = &plan.sets[0];
    hashes
        .iter()
        .map(|hash| numbers[usize::from(pick(set, *hash, |node| Some(node) != away).expect("a node").0)])
        .collect()
}

fn counts(nodes: &[usize], count: usize) -> Vec<u64> {
    let mut counts = vec![0; count];
    nodes.iter().for_each(|node| counts[*node] += 1);
    counts
}

fn max_to_mean(counts: &[u64], lost: Option<usize>) -> f64 {
    let left = counts.len() - usize::from(lost.is_some());
    let max = counts.iter().max().copied().unwrap_or_default();
    max as f64 * left as f64 / counts.iter().sum::<u64>() as f64
}

/// A plan of one set of nodes n0, n1, ... of these weights, without the one that is `lost`.
fn plan(secrets: &Secrets, weights: &[u32], lost: Option<usize>, previous: Option<&Plan>) -> Plan {
    let node = |(number, weight): (usize, &u32)| NodeSpec {
        name: format!("n{number}"),
        id: None,
        addrs: [Some(SocketAddr::from(([10, 0, 0, number as u8], 5060))), None],
        weight: *weight,
        labels: Vec::new(),
        intent: Intent::Serve,
    };
    let set = SetSpec {
        name: "pbx".into(),
        slots_log2: 18,
        keys: Keys::new(&KeyBy::CallId, &[]),
        policy: SetPolicy::default(),
        nodes: weights.iter().enumerate().filter(|(number, _)| Some(*number) != lost).map(node).collect(),
    };
    Plan::build(PlanSpec { sets: vec![set], ..PlanSpec::default() }, secrets, previous).expect("a sound plan")
}

fn random_secret(_number: usize) -> [u8; 32] {
    let mut secret = [0; 32];
    getrandom::fill(&mut secret).expect("random bytes");
    secret
}

/// Call-IDs as a phone makes them, unlike each other in few characters.
fn call_id(call: usize) -> String {
    format!("{call:08x}-a7f1-4c@192.0.2.{}", call % 251)
}
