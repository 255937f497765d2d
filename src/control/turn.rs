//! Control's loop: one event after another, and what follows from it.
//!
//! A change of plan (a reload, or a node's name with a new address) waits until its names are
//! looked up, is built beside the loop, and is posted whole; what is refused leaves all as it was.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc as letters;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};

use super::dns::NameTable;
use super::drain::Drain;
use super::health::{self, Checks};
use super::netlink::Netlink;
use super::queue::{self, Change, Over, Queue, What};
use super::signals::{Asked, Signals};
use super::view::{self, Reloads, View};
use super::{Edit, Hooks, Letter, Options, Overlay, Refusal, Reply, Wish};
use crate::balance::Plan;
use crate::shard::{Names, State};

/// How often workers' questions are read.
const TICK: Duration = Duration::from_millis(20);
/// Questions read in one tick.
const ASKS_MAX: usize = 256;
/// Ticks between two looks at how a drain goes on; each reads the whole table of marks.
const DRAIN_TICKS: u32 = 5;

/// Ticks between two looks at which neighbours are to be kept fresh.
const FRESH_TICKS: u32 = 50;

/// A plan that was built: for which change, through which overlay, what the overlay lost by it.
struct Built {
    change: Change,
    over: Over,
    plan: Result<Plan, String>,
}

/// Everything that control knows.
pub(super) struct Turn {
    options: Options,
    hooks: Hooks,
    names: NameTable,
    netlink: Option<Netlink>,
    state: State,
    wish: Wish,
    overlay: Arc<Overlay>,
    queue: Queue,
    building: JoinSet<Built>,
    reloads: Reloads,
    names_changed: bool,
    drain: Option<Drain>,
    checks: Checks,
    ticks: u32,
}

/// What came in.
enum Event {
    Letter(Option<Letter>),
    Signal(Asked),
    Looked(super::dns::Learned),
    /// None: the build panicked.
    Built(Option<Box<Built>>),
    Health,
    /// Next hops; they are told at the next tick, together with what follows.
    Hops,
    Tick,
}

impl Turn {
    pub(super) fn new(
        options: Options,
        wish: Wish,
        hooks: Hooks,
        (names, netlink): (NameTable, Option<Netlink>),
        state: State,
    ) -> Self {
        let checks = Checks::new(state.plan.clone(), state.evidence.clone(), options.probe_from.clone());
        Self {
            options,
            hooks,
            names,
            netlink,
            state,
            wish,
            overlay: Arc::default(),
            queue: Queue::default(),
            building: JoinSet::new(),
            reloads: Reloads::default(),
            names_changed: false,
            drain: None,
            checks,
            ticks: 0,
        }
    }

    /// Runs until the workers have been stopped.
    pub(super) async fn run(mut self, mut signals: Signals, mut letters: letters::UnboundedReceiver<Letter>) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let event = tokio::select! {
                letter = letters.recv() => Event::Letter(letter),
                asked = signals.next() => Event::Signal(asked),
                learned = self.names.learn() => Event::Looked(learned),
                () = changed(&mut self.netlink) => Event::Hops,
                built = self.building.join_next(), if !self.building.is_empty() => {
                    Event::Built(built.and_then(Result::ok).map(Box::new))
                }
                () = self.checks.ready() => Event::Health,
                _ = tick.tick() => Event::Tick,
            };
            if self.handle(event) {
                break;
            }
            self.advance();
            if let Some(vitals) = self.checks.news() {
                self.state.vitals = vitals;
                (self.hooks.post)(&self.state);
            }
        }
        (self.hooks.stop)();
        tracing::info!("stopped");
    }

    /// Handles one event; true: it is time to stop.
    fn handle(&mut self, event: Event) -> bool {
        match event {
            Event::Letter(Some(Letter::Reload(reply))) => self.reload(Some(reply)),
            Event::Signal(Asked::Reload) => self.reload(None),
            Event::Letter(Some(Letter::Edit(edit, reply))) => self.edit(edit, reply),
            Event::Letter(Some(Letter::View(reply))) => drop(reply.send(self.view())),
            Event::Letter(Some(Letter::Drain)) => self.start_drain(),
            Event::Signal(Asked::End) if self.drain.is_none() => self.start_drain(),
            // Nobody is left who could ask for anything.
            Event::Letter(Some(Letter::Stop) | None) | Event::Signal(Asked::End) => return true,
            Event::Letter(Some(Letter::Status(reply))) => drop(reply.send(self.status())),
            Event::Signal(Asked::Print) => (self.hooks.print)(&self.status()),
            Event::Health => self.checks.work(),
            Event::Looked(learned) => self.looked(learned),
            Event::Built(Some(built)) => self.adopt(*built),
            Event::Built(None) => tracing::error!(reason = "the build of the plan failed", "reload_refused"),
            Event::Hops => {}
            Event::Tick => return self.tick(),
        }
        false
    }

    fn reload(&mut self, reply: Option<Reply>) {
        match (self.hooks.reload)() {
            Ok(wish) => {
                self.queue.reload(wish, reply);
                self.names.refresh(&self.wanted());
            }
            Err(text) => {
                self.refused_reload(&text);
                let outcome = Err(Refusal::Conflict(text));
                reply.into_iter().for_each(|reply| drop(reply.send(outcome.clone())));
            }
        }
    }

    fn edit(&mut self, mut edit: Edit, reply: Reply) {
        if let Edit::Add(added) = &mut edit {
            match (self.wish.admit)(added) {
                Ok(names) => added.names = names,
                Err(text) => return drop(reply.send(Err(Refusal::Invalid(text)))),
            }
        }
        self.queue.edit(edit, reply);
        self.names.pin(&self.wanted());
    }

    /// Names of nodes that are in force or on their way.
    fn wanted(&self) -> Vec<String> {
        let mut names = self.overlay.names();
        names.extend(self.wish.names.iter().chain(self.queue.wanted()).cloned());
        names
    }

    fn looked(&mut self, learned: super::dns::Learned) {
        self.names_changed |= learned.any;
        if learned.node {
            self.queue.names();
        }
    }

    /// Starts what can be started: lookups, and the build of a plan whose names are there.
    fn advance(&mut self) {
        self.names.start_due();
        while self.building.is_empty() {
            let ready = match self.queue.first() {
                None => false,
                Some(What::Reload(wish)) => {
                    self.names.settled(&wish.names) && self.names.settled(&self.overlay.names())
                }
                Some(What::Edit(Edit::Add(added))) => self.names.settled(&added.names),
                Some(What::Edit(_) | What::Names) => true,
            };
            let Some(change) = ready.then(|| self.queue.pop()).flatten() else { return };
            self.build(change);
        }
    }

    fn build(&mut self, change: Change) {
        let (build, over) = match &change.what {
            What::Names => (&self.wish.build, Ok((Overlay::clone(&self.overlay), Vec::new()))),
            What::Reload(wish) => (&wish.build, Ok(self.overlay.rebased(&wish.listed))),
            What::Edit(edit) => {
                (&self.wish.build, self.overlay.edited(edit, &self.wish.listed).map(|over| (over, Vec::new())))
            }
        };
        let over = match over {
            Ok(over) => over,
            Err(refusal) => {
                self.queue.refused(&change);
                change.answer(&Err(refusal));
                return self.names.pin(&self.wanted());
            }
        };
        let build = build.clone();
        let (addresses, previous) = (self.names.addresses(), self.state.plan.clone());
        // A large table takes seconds; names and signals do not wait for it.
        self.building.spawn_blocking(move || {
            let plan = build(&addresses, &over.0, Some(&previous));
            Built { change, over, plan }
        });
    }

    fn adopt(&mut self, built: Built) {
        let Built { change, over: (overlay, lost), plan } = built;
        let plan = match plan {
            Ok(plan) => plan,
            Err(text) => return self.refused(change, text),
        };
        let (sets, nodes, rules) = (plan.sets.len(), plan.nodes.len(), plan.rules.len());
        let clock_ms = (self.hooks.clock_ms)();
        self.state.evidence = health::next_evidence(&plan, (&self.state.plan, &self.state.evidence), clock_ms);
        self.state.plan = Arc::new(plan);
        self.checks.adopt(self.state.plan.clone(), self.state.evidence.clone(), clock_ms);
        self.state.vitals = self.checks.news().unwrap_or_default();
        self.overlay = Arc::new(overlay);
        let reloaded = matches!(change.what, What::Reload(_));
        match &change.what {
            What::Reload(wish) => self.wish = wish.clone(),
            What::Edit(edit) => queue::tell(edit),
            What::Names => {}
        }
        self.names.pin(&self.wanted());
        self.post_names();
        if reloaded {
            queue::told_lost(&lost);
            self.reloads.taken(view::unix_s());
            tracing::info!(sets, nodes, rules, "reload");
        }
        change.answer(&Ok(()));
    }

    fn refused(&mut self, change: Change, text: String) {
        match &change.what {
            What::Edit(_) => {}
            What::Reload(_) => self.refused_reload(&text),
            What::Names => {
                self.reloads.names_refused += 1;
                tracing::error!(reason = %one_line(&text), "names_refused");
            }
        }
        self.queue.refused(&change);
        self.names.pin(&self.wanted());
        change.answer(&Err(Refusal::Conflict(text)));
    }

    fn refused_reload(&mut self, text: &str) {
        self.reloads.refused(view::unix_s());
        tracing::error!(reason = %one_line(text), "reload_refused");
    }

    fn view(&self) -> View {
        View {
            state: self.state.clone(),
            // Marks are counted by who asks: a walk of the whole table is not for this loop.
            status: self.checks.status(&[], (self.hooks.clock_ms)()),
            listed: self.wish.listed.clone(),
            rules_written: self.wish.rules_written,
            overlay: self.overlay.clone(),
            reloads: self.reloads,
        }
    }

    fn start_drain(&mut self) {
        if self.drain.is_none() {
            tracing::info!(drain_max_s = self.options.drain_max_s, "drain");
            self.drain = Some(Drain::new(Instant::now(), self.options.drain_max_s));
            self.state.draining = true;
            (self.hooks.post)(&self.state);
        }
    }

    fn tick(&mut self) -> bool {
        for _ in 0..ASKS_MAX {
            let Some(name) = self.hooks.asks.next() else { break };
            self.names.ask(name.as_str());
        }
        self.names_changed |= self.names.forgot();
        if self.names_changed {
            self.post_names();
        }
        self.checks.tick((self.hooks.clock_ms)());
        self.ticks = self.ticks.wrapping_add(1);
        self.next_hops();
        match &mut self.drain {
            Some(drain) if self.ticks.is_multiple_of(DRAIN_TICKS) => {
                drain.is_over(Instant::now(), (self.hooks.pending)())
            }
            _ => false,
        }
    }

    fn status(&self) -> health::Status {
        self.checks.status(&(self.hooks.marks)(), (self.hooks.clock_ms)())
    }

    fn next_hops(&mut self) {
        let Some(netlink) = &mut self.netlink else { return };
        if self.ticks.is_multiple_of(FRESH_TICKS) {
            netlink.keep_fresh();
        }
        if let Some(hops) = netlink.renewed() {
            self.state.hops = hops;
            (self.hooks.post)(&self.state);
        }
    }

    fn post_names(&mut self) {
        self.names_changed = false;
        self.state.names = Arc::new(Names::new(self.names.addresses()));
        (self.hooks.post)(&self.state);
    }
}

fn one_line(text: &str) -> String {
    text.replace('\n', " | ")
}

/// Waits until next hops changed; without end if nobody is to be told.
async fn changed(netlink: &mut Option<Netlink>) {
    match netlink {
        Some(netlink) => netlink.change().await,
        None => std::future::pending().await,
    }
}
