//! Nodes that die, freeze and return under a steady rate of calls: when sipring says so, and what becomes of which calls.

use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::balancer::{Balancer, sum};
use super::callers::{Call, Callers, Habit};
use super::lab::Core;
use super::node::{NodeProcess, Task};
use super::process::Output;
use super::spec::{Node, Spec};

/// What happens to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// kill -9, and started again later.
    Killed,
    /// SIGSTOP, and SIGCONT later.
    Frozen,
}

/// How much of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effort {
    pub(crate) habit: Habit,
    pub(crate) ring: Duration,
    /// Calls before the fault, while the node is away, and after its return.
    pub(crate) before: Duration,
    pub(crate) away: Duration,
    pub(crate) after: Duration,
    /// How long it may take until the node is Down.
    pub(crate) down_max: Duration,
}

/// Calls of one kind: how many, and how many of them failed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Group {
    pub(crate) calls: usize,
    pub(crate) failed: usize,
    pub(crate) retransmissions: u32,
}

impl Group {
    fn of<'a>(calls: impl Iterator<Item = &'a Call>) -> Self {
        calls.fold(Self::default(), |group, call| Self {
            calls: group.calls + 1,
            failed: group.failed + usize::from(call.failed()),
            retransmissions: group.retransmissions + call.retransmissions,
        })
    }

    /// There are such calls, and all of them went well.
    fn is_whole(&self) -> bool {
        self.calls > 0 && self.failed == 0
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>6} calls, {} failed, {} retransmissions", self.calls, self.failed, self.retransmissions)
    }
}

#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) fault: Fault,
    /// From the fault until sipring said `node_down`, and how long that may take.
    pub(crate) down: Option<Duration>,
    pub(crate) down_max: Duration,
    /// From the return until it said `node_up`.
    pub(crate) up: Option<Duration>,
    /// No response of any kind at the fault, begun before it or between it and Down.
    pub(crate) unheard: Group,
    /// Begun after Down.
    pub(crate) fresh: Group,
    /// Only provisional responses from the lost node at the fault.
    pub(crate) ringing: Group,
    /// Established on the lost node at the fault.
    pub(crate) established: Group,
    /// BYEs of those that anybody answered while their node was away.
    pub(crate) answered_in_its_place: usize,
    /// Established on living nodes at the fault, or ringing there.
    pub(crate) elsewhere: Group,
    /// Established on living nodes when the lost one returned.
    pub(crate) over_return: Group,
    /// Calls of living nodes that another node answered too.
    pub(crate) moved: usize,
    /// New calls at the node after its return.
    pub(crate) regained: usize,
    pub(crate) said: Vec<String>,
}

impl Outcome {
    pub(crate) fn holds(&self) -> bool {
        let in_time = self.down.is_some_and(|took| took <= self.down_max) && self.up.is_some();
        let whole =
            [&self.unheard, &self.fresh, &self.elsewhere, &self.over_return].iter().all(|group| group.is_whole());
        let felt = self.established.calls > 0 && self.regained > 0;
        in_time && whole && felt && self.answered_in_its_place == 0 && self.moved == 0
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |took: Option<Duration>| took.map_or("never".to_owned(), |took| format!("{} ms", took.as_millis()));
        writeln!(f, "  node {:?}: Down after {}, Up {} after its return", self.fault, ms(self.down), ms(self.up))?;
        writeln!(f, "    no response at the fault, or begun before Down {}", self.unheard)?;
        writeln!(f, "    begun after Down                              {}", self.fresh)?;
        writeln!(f, "    established or ringing on living nodes        {}", self.elsewhere)?;
        writeln!(f, "    established elsewhere over the node's return  {}", self.over_return)?;
        writeln!(f, "    apart: only provisional, on the lost node     {}", self.ringing)?;
        writeln!(f, "    apart: established on the lost node           {}", self.established)?;
        write!(
            f,
            "    BYEs answered in its place {}, calls of living nodes that moved {}, new calls at it after its return {}",
            self.answered_in_its_place, self.moved, self.regained
        )
    }
}

/// A core with a balancer and node processes.
pub(crate) struct Ward {
    pub(crate) core: Core,
    pub(crate) balancer: Balancer,
    pub(crate) spec: Spec,
    pub(crate) nodes: Vec<NodeProcess>,
    pub(crate) edge: SocketAddr,
    pub(crate) client: SocketAddr,
}

impl Ward {
    /// `count` nodes at addresses of their own; `adapt` completes the config.
    pub(crate) fn new(count: u8, ring: Duration, adapt: impl FnOnce(Spec) -> Spec) -> Self {
        let core = Core::new();
        let at = |net, host| SocketAddr::new(core.address(net, host), 5060);
        let (edge, node_side, client) = (at(0, 1), at(1, 1), at(3, 1));
        let task = |host: u8| Task {
            name: format!("node{}", host - 1),
            at: at(2, host),
            ring_ms: ring.as_millis() as u64,
            code: 200,
        };
        let nodes: Vec<NodeProcess> = (1..=count).map(|host| NodeProcess::start(&core.place(), task(host))).collect();
        let members = nodes.iter().map(|node| Node::new(node.task.name.clone(), node.task.at));
        let spec = adapt(Spec::new(edge, node_side).nodes(members));
        let balancer = Balancer::start(&core.place(), &spec);
        Self { core, balancer, spec, nodes, edge, client }
    }

    pub(crate) fn callers(&self, habit: Habit) -> Callers {
        Callers::new(&self.core.place(), self.client, self.edge, habit)
    }

    /// Log lines from `mark` on that contain all of `words`.
    pub(crate) fn said(&mut self, mark: usize, words: &[&str]) -> Vec<String> {
        let lines = self.balancer.process().lines(mark).into_iter();
        let told =
            lines.filter(|(output, line)| *output == Output::Err && words.iter().all(|word| line.contains(word)));
        told.map(|(_, line)| line).collect()
    }

    pub(crate) fn mark(&mut self) -> usize {
        self.balancer.process().mark()
    }

    /// Lets the callers call until sipring has said `words`; how long that took.
    pub(crate) fn until_said(
        &mut self,
        callers: &mut Callers,
        limit: Duration,
        mark: usize,
        words: &[&str],
    ) -> Option<Duration> {
        let begun = Instant::now();
        callers.run(limit, |_| !self.said(mark, words).is_empty()).then(|| begun.elapsed())
    }

    /// The sum of the counters whose name and labels contain `words`.
    pub(crate) fn counted(&mut self, words: &[&str]) -> u64 {
        sum(&self.balancer.counters(), words)
    }
}

/// A node goes and comes back under load.
pub(crate) fn run(fault: Fault, effort: Effort) -> Outcome {
    let mut ward = Ward::new(3, effort.ring, |spec| spec.probes(&[]));
    let mut callers = ward.callers(effort.habit);
    callers.run(effort.before, |_| false);
    let lost = ward.nodes[0].task.name.clone();
    let mark = ward.mark();
    let begun = Instant::now();
    match fault {
        Fault::Killed => ward.nodes[0].kill(),
        Fault::Frozen => ward.nodes[0].freeze(),
    }
    let node = format!("node={lost} ");
    let said = ward.until_said(&mut callers, Duration::from_secs(5), mark, &["node_down", &node]);
    let down_at = said.map(|_| Instant::now());
    callers.run(effort.away, |_| false);
    let returned = Instant::now();
    match fault {
        Fault::Killed => ward.nodes[0].start_again(),
        Fault::Frozen => ward.nodes[0].thaw(),
    }
    let back = Instant::now();
    ward.until_said(&mut callers, Duration::from_secs(5), mark, &["node_up", &node, "answered"]);
    let up_at = Instant::now();
    let up = (!ward.said(mark, &["node_up", &node, "answered"]).is_empty()).then(|| up_at - back);
    callers.run(effort.after, |_| false);
    assert!(callers.finish(), "calls that never ended");
    let mut outcome = sort(&callers.calls, &lost, begun, down_at.unwrap_or(begun), returned);
    (outcome.fault, outcome.down, outcome.up) = (fault, down_at.map(|at| at - begun), up);
    outcome.down_max = effort.down_max;
    outcome.regained = callers.calls.iter().filter(|call| call.begun > up_at && call.node == lost).count();
    outcome.said = ward.said(mark, &["node"]);
    outcome
}

/// Sorts calls into groups by what had happened to them when.
fn sort(calls: &[Call], lost: &str, fault: Instant, down: Instant, returned: Instant) -> Outcome {
    let by = |at: Option<Instant>, then: Instant| at.is_some_and(|at| at <= then);
    let over = |call: &&Call| call.ended.is_some_and(|(at, _)| at <= fault);
    let open = || calls.iter().filter(move |call| call.begun <= fault && !over(call));
    let heard = || open().filter(move |call| by(call.heard, fault));
    let on_lost = |call: &&Call| call.node == lost;
    let unheard = || calls.iter().filter(move |call| call.begun < down && !by(call.heard, fault));
    let fresh = || calls.iter().filter(move |call| call.begun >= down);
    let elsewhere = || heard().filter(|call| call.node != lost);
    let established = || heard().filter(on_lost).filter(move |call| by(call.answered, fault));
    let over_return = calls
        .iter()
        .filter(|call| call.node != lost && by(call.answered, returned) && call.hung_up.is_none_or(|at| at > returned));
    let in_place = established().filter(|call| {
        call.ended.is_some_and(|(at, _)| at > fault && at < returned && call.hung_up.is_some_and(|hung| hung > fault))
    });
    let never_lost = calls.iter().filter(|call| call.begun >= down || by(call.heard, fault));
    Outcome {
        fault: Fault::Killed,
        down: None,
        down_max: Duration::ZERO,
        up: None,
        unheard: Group::of(unheard()),
        fresh: Group::of(fresh()),
        ringing: Group::of(heard().filter(on_lost).filter(|call| !by(call.answered, fault))),
        established: Group::of(established()),
        answered_in_its_place: in_place.count(),
        elsewhere: Group::of(elsewhere()),
        over_return: Group::of(over_return),
        moved: never_lost.filter(|call| call.node != lost && call.nodes.len() > 1).count(),
        regained: 0,
        said: Vec::new(),
    }
}

/// What became of a pair.
#[derive(Debug)]
pub(crate) struct PairOutcome {
    /// From the death of the primary until sipring said `pair_switched`.
    pub(crate) switch: Option<Duration>,
    /// What it may take: what Down may, and the configured misses.
    pub(crate) limit: Duration,
    pub(crate) before: Group,
    /// Begun between the fault and the switch.
    pub(crate) meanwhile: Group,
    pub(crate) after: Group,
    /// Of those, how many the backup took.
    pub(crate) at_backup: usize,
    /// How long both halves answered then, and how often the pair was switched meanwhile.
    pub(crate) both: Duration,
    pub(crate) switches: usize,
    /// Calls that the returned primary got.
    pub(crate) at_primary: usize,
    pub(crate) said: Vec<String>,
}

impl PairOutcome {
    pub(crate) fn holds(&self) -> bool {
        let in_time = self.switch.is_some_and(|took| took <= self.limit);
        let whole = [&self.before, &self.meanwhile, &self.after].iter().all(|group| group.is_whole());
        in_time && whole && self.at_backup > 0 && self.switches == 0 && self.at_primary == 0
    }
}

impl fmt::Display for PairOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |took: Duration| took.as_millis();
        let switch = self.switch.map_or("never".to_owned(), |took| format!("after {} ms", ms(took)));
        writeln!(f, "  pair switched {switch}, {} ms allowed", ms(self.limit))?;
        writeln!(f, "    ended before the fault            {}", self.before)?;
        writeln!(f, "    begun between fault and switch    {}", self.meanwhile)?;
        writeln!(f, "    begun after the switch            {}, {} at the backup", self.after, self.at_backup)?;
        write!(
            f,
            "    both halves answered for {} ms: {} switches, {} calls at the old primary",
            ms(self.both),
            self.switches,
            self.at_primary
        )
    }
}

/// The primary of a pair dies, its backup takes over, and the primary returns while the backup serves.
pub(crate) fn pair(effort: Effort) -> PairOutcome {
    const MISSES: u32 = 3;
    const INTERVAL: Duration = Duration::from_millis(250);
    let mut ward = Ward::new(3, effort.ring, |mut spec| {
        let backup = spec.nodes.remove(1);
        spec.nodes[0].pair = Some(backup.address);
        spec.probes(&[&format!("misses = {MISSES}")])
    });
    let mark = ward.mark();
    ward.nodes[1].answers(503);
    let mut callers = ward.callers(effort.habit);
    assert!(ward.until_said(&mut callers, Duration::from_secs(5), mark, &["pair_standby", "standby=true"]).is_some());
    callers.run(effort.before, |_| false);
    let mark = ward.mark();
    let fault = Instant::now();
    ward.nodes[0].kill();
    ward.nodes[1].answers(200);
    let limit = effort.down_max + INTERVAL * MISSES;
    let said = ward.until_said(&mut callers, limit * 3, mark, &["pair_switched"]);
    let switched = Instant::now();
    callers.run(effort.away, |_| false);
    ward.nodes[0].start_again();
    ward.until_said(&mut callers, Duration::from_secs(5), mark, &["node_up", &ward.nodes[0].task.at.to_string()]);
    let (both, again) = (Instant::now(), ward.mark());
    callers.run(effort.after, |_| false);
    let both_for = both.elapsed();
    let switches = ward.said(again, &["pair_switched"]).len();
    assert!(callers.finish(), "calls that never ended");
    let calls = &callers.calls;
    let between = |from: Instant, to: Instant| calls.iter().filter(move |call| call.begun >= from && call.begun < to);
    let late = Instant::now();
    PairOutcome {
        switch: said.map(|_| switched - fault),
        limit,
        before: Group::of(calls.iter().filter(|call| call.ended.is_some_and(|(at, _)| at < fault))),
        meanwhile: Group::of(between(fault, switched)),
        after: Group::of(between(switched, late)),
        at_backup: between(switched, late).filter(|call| call.node == "node1").count(),
        both: both_for,
        switches,
        at_primary: between(fault, late).filter(|call| call.nodes.contains("node0")).count(),
        said: ward.said(mark, &["node"]),
    }
}

/// What became of nodes that packets are lost on the way to and from.
#[derive(Debug)]
pub(crate) struct LossOutcome {
    pub(crate) lasted: Duration,
    pub(crate) probes: u64,
    pub(crate) failed: u64,
    /// How often a node was suspected, and how often one was said to be down.
    pub(crate) probing: usize,
    pub(crate) down: usize,
    pub(crate) calls: Group,
    pub(crate) said: Vec<String>,
}

impl LossOutcome {
    pub(crate) fn holds(&self) -> bool {
        self.down == 0 && self.probes > 0
    }
}

impl fmt::Display for LossOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { lasted, probes, failed, probing, down, calls, .. } = self;
        write!(
            f,
            "  5 % of all packets lost for {} s: {probes} probes, {failed} failed, {probing} times suspected, {down} times \
             Down\n    calls meanwhile {calls}",
            lasted.as_secs()
        )
    }
}

/// Every twentieth datagram of the core is lost, of probes and of calls, either way.
pub(crate) fn loss(lasts: Duration, habit: Habit) -> LossOutcome {
    // Doubts after the first in a minute are told at this level.
    let level = "[log]\nlevel = \"debug\"\n";
    let mut ward = Ward::new(3, Duration::from_millis(100), |spec| spec.probes(&[]).tables(level));
    let mut callers = ward.callers(habit);
    callers.run(Duration::from_secs(1), |_| false);
    let (mark, begun) = (ward.mark(), Instant::now());
    ward.core.lose_one_in_twenty();
    callers.run(lasts, |_| false);
    let lasted = begun.elapsed();
    callers.finish();
    let count = |ward: &mut Ward, event: &str| ward.said(mark, &[event]).len();
    let (probing, down) = (count(&mut ward, "node_probing"), count(&mut ward, "node_down"));
    let (probes, failed) = (ward.counted(&["sipring_probes{"]), ward.counted(&["sipring_probes_failed{"]));
    let said = ward.said(mark, &["node_down"]);
    LossOutcome { lasted, probes, failed, probing, down, calls: Group::of(callers.calls.iter()), said }
}
