//! The monitors of all endpoints of the plan in force, and what follows from them for its nodes.
//!
//! Performs no I/O and reads no clock. Driven by `Checks`; tests drive it in virtual time. Owns the
//! vitals that workers are told.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;

use crate::balance::{HealthPolicy, Intent, Node, NodeId, NodeIx, Plan, SetIx, Vitals};
use crate::packet::PeerId;
use crate::shard::Account;

use super::cause::Cause;
use super::dice::Dice;
use super::monitor::{FIRST_US, Monitor, NEVER, Outward, Token};
use super::pair::{Halves, Pair, decide};
use super::tell;
use super::traffic::Suspicion;

/// One endpoint of the plan.
struct End {
    addr: SocketAddr,
    monitor: Monitor,
    /// Whose it is: of one node in each set that names it.
    nodes: Vec<NodeIx>,
}

/// All monitors of a plan; an endpoint's place is its [`PeerId`].
pub(super) struct Monitors {
    plan: Arc<Plan>,
    ends: Vec<End>,
    pairs: HashMap<NodeId, Pair>,
    due: BTreeSet<(u64, u16)>,
    flights: HashMap<Token, u16>,
    /// Endpoints of which anything was heard since the nodes were last looked at.
    touched: Vec<u16>,
    vitals: Arc<Vitals>,
    /// By set: whether one of its nodes takes new calls.
    filled: Vec<bool>,
    fresh: bool,
    dice: Dice,
}

impl Monitors {
    pub(super) fn new(plan: Arc<Plan>, now_us: u64, key: [u8; 16]) -> Self {
        let mut monitors = Self {
            plan: plan.clone(),
            ends: Vec::new(),
            pairs: HashMap::new(),
            due: BTreeSet::new(),
            flights: HashMap::new(),
            touched: Vec::new(),
            vitals: Arc::default(),
            filled: Vec::new(),
            fresh: false,
            dice: Dice::new(key),
        };
        monitors.adopt(plan, now_us);
        monitors
    }

    /// Goes over to another plan: what is known of an address stays known.
    pub(super) fn adopt(&mut self, plan: Arc<Plan>, now_us: u64) {
        let mut known: HashMap<SocketAddr, Monitor> = self.ends.drain(..).map(|end| (end.addr, end.monitor)).collect();
        let mut users: Vec<Vec<NodeIx>> = vec![Vec::new(); plan.endpoints.peers.len()];
        for (node, ix) in plan.nodes.iter().zip(0..) {
            for end in node.endpoints.iter().flatten() {
                if let Some(users) = users.get_mut(usize::from(end.peer.0)) {
                    users.push(NodeIx(ix));
                }
            }
        }
        let fresh = plan.endpoints.peers.iter().filter(|addr| !known.contains_key(addr)).count();
        // One that was added is asked at once; of many, not all are in one instant.
        let within_us = if fresh > 1 { FIRST_US } else { 0 };
        for (addr, nodes) in plan.endpoints.peers.iter().zip(users) {
            let (policy, paired) = wanted(&plan, &nodes);
            let monitor = match known.remove(addr) {
                Some(mut monitor) => {
                    monitor.adopt(policy, paired, now_us, &mut self.dice);
                    monitor
                }
                None => Monitor::new(policy, paired, now_us, within_us, &mut self.dice),
            };
            self.ends.push(End { addr: *addr, monitor, nodes });
        }
        let monitors = || self.ends.iter().zip(0..).map(|(end, at)| (&end.monitor, at));
        self.due = monitors().map(|(monitor, at)| (monitor.due_us(), at)).collect();
        self.flights = monitors().filter_map(|(monitor, at)| Some((monitor.flies()?, at))).collect();
        self.touched = monitors().map(|(_, at)| at).collect();
        let mut before = std::mem::take(&mut self.pairs);
        for node in &plan.nodes {
            if let [Some(primary), Some(backup)] = node.endpoints {
                let fresh = Pair { active: primary.addr, cause: Cause::Started, since_us: now_us, switches: 0 };
                let kept = before.remove(&node.id).filter(|pair| [primary.addr, backup.addr].contains(&pair.active));
                self.pairs.insert(node.id, kept.unwrap_or(fresh));
            }
        }
        // By name: a set's place may be another one now.
        let filled = |name: &str| self.plan.sets.iter().zip(&self.filled).find(|(set, _)| set.name == name);
        self.filled = plan.sets.iter().map(|set| filled(&set.name).is_none_or(|(_, filled)| *filled)).collect();
        self.plan = plan;
        self.fresh = true;
        self.settle(now_us);
    }

    /// The vitals, if they have changed since they were last asked for.
    pub(super) fn news(&mut self) -> Option<Arc<Vitals>> {
        std::mem::take(&mut self.fresh).then(|| self.vitals.clone())
    }

    /// When [`Monitors::expire`] wants to be called.
    pub(super) fn next_us(&self) -> u64 {
        self.due.first().map_or(NEVER, |(due_us, _)| *due_us)
    }

    /// Does what is due; `send` sends a probe, false if that is not possible at all.
    pub(super) fn expire(&mut self, now_us: u64, mut send: impl FnMut(SocketAddr, Token) -> bool) {
        while let Some((_, at)) = self.due.first().copied().filter(|(due_us, _)| *due_us <= now_us) {
            self.touch(at, now_us, |monitor, addr, dice| {
                if let Some(token) = monitor.step(now_us, dice)
                    && !send(addr, token)
                {
                    monitor.withdraw(now_us, dice);
                }
            });
        }
        self.settle(now_us);
    }

    /// A final response to a probe came from `source`; false if it answers none of ours.
    pub(super) fn answered(&mut self, now_us: u64, source: SocketAddr, token: Token, code: u16) -> bool {
        let flying = self.flights.get(&token).copied();
        let late = || self.plan.endpoints.peers.iter().position(|addr| *addr == source).map(|at| at as u16);
        let Some(at) = flying.or_else(late) else { return false };
        if self.ends.get(usize::from(at)).is_none_or(|end| end.addr != source) {
            return false;
        }
        self.touch(at, now_us, |monitor, _, dice| monitor.answered(now_us, token, code, dice));
        self.settle(now_us);
        true
    }

    /// All endpoints.
    pub(super) fn all(&self) -> impl Iterator<Item = PeerId> + use<> {
        (0..self.ends.len() as u16).map(PeerId)
    }

    /// Looks at what workers testify of some endpoints: `account` tells it, and until when that one wants
    /// to be left alone.
    pub(super) fn look(
        &mut self,
        now_us: u64,
        peers: impl Iterator<Item = PeerId>,
        account: impl Fn(PeerId) -> (Account, u64),
    ) {
        for PeerId(at) in peers {
            let (told, left_alone_us) = account(PeerId(at));
            let mut suspicion = None;
            self.touch(at, now_us, |monitor, _, _| suspicion = monitor.observe(now_us, &told, left_alone_us));
            if let Some(suspicion) = suspicion {
                self.judge(at, now_us, suspicion);
            }
        }
        self.settle(now_us);
    }

    /// Traffic takes a node out only while enough others are left: what it shows may be the fault of
    /// the network or of the callers.
    fn judge(&mut self, at: u16, now_us: u64, suspicion: Suspicion) {
        self.settle(now_us);
        let Some(end) = self.ends.get(usize::from(at)) else { return };
        let mut nodes = end.nodes.iter().filter_map(|ix| self.plan.node(*ix));
        let held = nodes.find(|node| !self.may_go(node, end.addr, suspicion.cause));
        if let Some(node) = held.cloned() {
            let (addr, mut news) = (end.addr, false);
            self.touch(at, now_us, |monitor, _, _| news = monitor.pardon(now_us));
            if news {
                tell::held(&self.plan, &node, addr, suspicion.cause);
            }
        } else {
            self.touch(at, now_us, |monitor, _, _| monitor.eject(suspicion));
        }
        self.settle(now_us);
    }

    /// Whether a node may do without the endpoint at `addr`, by its set's cap.
    fn may_go(&self, node: &Node, addr: SocketAddr, cause: Cause) -> bool {
        let vitals = &self.vitals;
        if self.other_takes_over(node, addr, cause) || node.refusal(vitals).is_some() {
            return true;
        }
        let Some(set) = self.plan.set(node.set) else { return true };
        let serving = set.members.iter().filter_map(|ix| self.plan.node(*ix));
        let serving = serving.filter(|node| node.intent == Intent::Serve && node.weight > 0);
        let (mut all, mut out) = (0, 0);
        for node in serving {
            all += 1;
            out += u64::from(node.refusal(vitals).is_some());
        }
        (out + 1) * 100 <= all * u64::from(set.policy.health.ejected_max_percent)
    }

    /// Whether calls of a pair go to its other half as soon as the one at `addr` is out.
    fn other_takes_over(&self, node: &Node, addr: SocketAddr, cause: Cause) -> bool {
        let Some(end) = node.endpoints.iter().flatten().find(|end| end.addr != addr) else { return false };
        let Some(other) = self.monitor(end.peer).filter(|other| other.outward().takes_calls()) else { return false };
        let answers = self.plan.set(node.set).map_or(0, |set| set.policy.health.answers);
        // A silent half is passed over by whoever sends; for a closed one, the pair must be switched.
        cause == Cause::Unanswered || node.ready(&self.vitals) == Some(*end) || other.has_proved(answers)
    }

    /// Lets `change` happen to one monitor, and keeps what hangs on it right.
    fn touch(&mut self, at: u16, now_us: u64, change: impl FnOnce(&mut Monitor, SocketAddr, &mut Dice)) {
        let Some(end) = self.ends.get_mut(usize::from(at)) else { return };
        let monitor = &mut end.monitor;
        let (due_us, flew, before) = (monitor.due_us(), monitor.flies(), monitor.outward());
        change(monitor, end.addr, &mut self.dice);
        let (due_now_us, flies, after) = (monitor.due_us(), monitor.flies(), monitor.outward());
        if due_us != due_now_us {
            self.due.remove(&(due_us, at));
            self.due.insert((due_now_us, at));
        }
        if flew != flies {
            flew.map(|token| self.flights.remove(&token));
            flies.map(|token| self.flights.insert(token, at));
        }
        if before != after {
            monitor.since_us = now_us;
            self.fresh = true;
            let news = monitor.news.health(now_us, before.health, after.health);
            for node in end.nodes.iter().filter_map(|ix| self.plan.node(*ix)) {
                tell::changed(&self.plan, node, end.addr, (before, after), monitor.cause, news);
            }
        }
        if before != after || flew != flies {
            self.touched.push(at);
        }
    }

    /// Draws the conclusions for the nodes.
    fn settle(&mut self, now_us: u64) {
        let touched = std::mem::take(&mut self.touched);
        let plan = self.plan.clone();
        for at in touched {
            let users = self.ends.get(usize::from(at)).map(|end| end.nodes.clone()).unwrap_or_default();
            users.into_iter().filter_map(|ix| plan.node(ix)).for_each(|node| self.settle_pair(&plan, node, now_us));
        }
        if !self.fresh {
            return;
        }
        let mut vitals = Vitals::default();
        for (end, peer) in self.ends.iter().zip(0..) {
            let Outward { health, standby, .. } = end.monitor.outward();
            vitals.observe(PeerId(peer), health, standby);
        }
        for node in &plan.nodes {
            if let [Some(primary), Some(_)] = node.endpoints
                && self.at_backup(node)
            {
                vitals.prefer_backup(node.mark, primary.peer);
            }
            let taker = node.ready(&vitals).and_then(|end| self.monitor(end.peer));
            if taker.is_some_and(|monitor| monitor.outward().closed) {
                vitals.close(node.mark);
            }
        }
        self.vitals = Arc::new(vitals);
        self.fill(&plan);
    }

    fn settle_pair(&mut self, plan: &Plan, node: &Node, now_us: u64) {
        let [Some(primary), Some(backup)] = node.endpoints else { return };
        let at_backup = self.at_backup(node);
        let (Some(one), Some(other)) = (self.monitor(primary.peer), self.monitor(backup.peer)) else { return };
        let policy = plan.set(node.set).map(|set| set.policy.health).unwrap_or_default();
        let Some(why) = decide(&Halves { primary: one, backup: other }, at_backup, &policy) else { return };
        let left = if at_backup { other } else { one };
        let cause = if why == Cause::Homing { why } else { left.cause };
        let active = if at_backup { primary.addr } else { backup.addr };
        let switches = self.pair(node).map_or(0, |pair| pair.switches) + 1;
        self.pairs.insert(node.id, Pair { active, cause, since_us: now_us, switches });
        self.fresh = true;
        tell::switched(plan, node, active, cause);
    }

    /// Tells of sets of which no node takes new calls any more, or one does again.
    fn fill(&mut self, plan: &Plan) {
        for (set, filled) in plan.sets.iter().zip(&mut self.filled) {
            let now = set.has_taker(plan, &self.vitals);
            if std::mem::replace(filled, now) != now {
                tell::filled(&set.name, now, set.panics(plan, &self.vitals));
            }
        }
    }

    pub(super) fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    pub(super) fn vitals(&self) -> &Vitals {
        &self.vitals
    }

    pub(super) fn takes_calls(&self, set: SetIx) -> bool {
        self.plan.set(set).is_some_and(|set| set.takes_calls(&self.plan, &self.vitals))
    }

    pub(super) fn monitor(&self, peer: PeerId) -> Option<&Monitor> {
        self.ends.get(usize::from(peer.0)).map(|end| &end.monitor)
    }

    pub(super) fn pair(&self, node: &Node) -> Option<&Pair> {
        self.pairs.get(&node.id)
    }

    fn at_backup(&self, node: &Node) -> bool {
        let backup = node.endpoints.get(1).copied().flatten();
        backup.is_some_and(|backup| self.pair(node).is_some_and(|pair| pair.active == backup.addr))
    }
}

/// How an endpoint of these nodes is to be watched: as the first of their sets that probes says; and
/// whether it is half of a pair. A stopped node is sent nothing at all.
fn wanted(plan: &Plan, nodes: &[NodeIx]) -> (HealthPolicy, bool) {
    let nodes = || nodes.iter().filter_map(|ix| plan.node(*ix));
    let policy = |node: &Node| plan.set(node.set).map(|set| set.policy.health);
    let active: Vec<HealthPolicy> = nodes().filter(|node| node.intent != Intent::Stop).filter_map(policy).collect();
    let first = active.iter().find(|policy| policy.probe).or(active.first()).copied();
    let silent = HealthPolicy { probe: false, ..HealthPolicy::default() };
    (first.unwrap_or(silent), nodes().any(|node| node.endpoints.iter().all(Option::is_some)))
}
