//! Control's loop: one event after another, and what follows from it.
//!
//! A change of plan (a reload, or a node's name with a new address) waits until its names are
//! looked up, is built beside the loop, and is posted whole; what is refused leaves all as it was.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc as letters, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};

use super::dns::NameTable;
use super::drain::Drain;
use super::netlink::Netlink;
use super::signals::{Asked, Signals};
use super::{Hooks, Letter, Options, Wish};
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

/// A plan to come.
struct Change {
    /// None: what is in force, built anew because a name has other addresses.
    wish: Option<Wish>,
    /// Whom to tell; several reloads may have become one.
    replies: Vec<oneshot::Sender<Result<(), String>>>,
}

type Built = (Change, Result<Plan, String>);

/// Everything that control knows.
pub(super) struct Turn {
    options: Options,
    hooks: Hooks,
    names: NameTable,
    netlink: Option<Netlink>,
    state: State,
    wish: Wish,
    next: Option<Change>,
    building: JoinSet<Built>,
    names_changed: bool,
    drain: Option<Drain>,
    ticks: u32,
}

/// What came in.
enum Event {
    Letter(Option<Letter>),
    Signal(Asked),
    Looked(super::dns::Learned),
    /// None: the build panicked.
    Built(Option<Box<Built>>),
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
        Self {
            options,
            hooks,
            names,
            netlink,
            state,
            wish,
            next: None,
            building: JoinSet::new(),
            names_changed: false,
            drain: None,
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
                _ = tick.tick() => Event::Tick,
            };
            if self.handle(event) {
                break;
            }
            self.advance();
        }
        (self.hooks.stop)();
        tracing::info!("stopped");
    }

    /// Handles one event; true: it is time to stop.
    fn handle(&mut self, event: Event) -> bool {
        match event {
            Event::Letter(Some(Letter::Reload(reply))) => self.reload(Some(reply)),
            Event::Signal(Asked::Reload) => self.reload(None),
            Event::Letter(Some(Letter::Drain)) => self.start_drain(),
            Event::Signal(Asked::End) if self.drain.is_none() => self.start_drain(),
            // Nobody is left who could ask for anything.
            Event::Letter(Some(Letter::Stop) | None) | Event::Signal(Asked::End) => return true,
            Event::Signal(Asked::Print) => (self.hooks.print)(),
            Event::Looked(learned) => self.looked(learned),
            Event::Built(Some(built)) => self.adopt(built.0, built.1),
            Event::Built(None) => refuse("the build of the plan failed", None),
            Event::Hops => {}
            Event::Tick => return self.tick(),
        }
        false
    }

    fn reload(&mut self, reply: Option<oneshot::Sender<Result<(), String>>>) {
        match (self.hooks.reload)() {
            Ok(wish) => {
                let mut replies = self.next.take().map(|change| change.replies).unwrap_or_default();
                replies.extend(reply);
                let both: Vec<String> = self.wish.names.iter().chain(&wish.names).cloned().collect();
                self.names.refresh(&both);
                self.next = Some(Change { wish: Some(wish), replies });
            }
            Err(text) => refuse(&text, reply),
        }
    }

    fn looked(&mut self, learned: super::dns::Learned) {
        self.names_changed |= learned.any;
        if learned.node && self.next.is_none() {
            self.next = Some(Change { wish: None, replies: Vec::new() });
        }
    }

    /// Starts what can be started: lookups, and the build of a plan whose names are there.
    fn advance(&mut self) {
        self.names.start_due();
        if !self.building.is_empty() {
            return;
        }
        let wish = |change: &Change| change.wish.clone().unwrap_or_else(|| self.wish.clone());
        let Some(change) = self.next.take_if(|change| self.names.settled(&wish(change).names)) else { return };
        let build = wish(&change).build;
        let (addresses, previous) = (self.names.addresses(), self.state.plan.clone());
        // A large table takes seconds; names and signals do not wait for it.
        self.building.spawn_blocking(move || {
            let plan = build(&addresses, Some(&previous));
            (change, plan)
        });
    }

    fn adopt(&mut self, change: Change, plan: Result<Plan, String>) {
        let plan = match plan {
            Ok(plan) => plan,
            Err(text) => {
                if self.next.is_none() {
                    self.names.pin(&self.wish.names);
                    // What was looked up for the refused change may be news for the plan in force.
                    self.next = change.wish.is_some().then(|| Change { wish: None, replies: Vec::new() });
                }
                let mut replies = change.replies.into_iter().peekable();
                if replies.peek().is_none() {
                    refuse(&text, None);
                }
                replies.for_each(|reply| refuse(&text, Some(reply)));
                return;
            }
        };
        let (sets, nodes, rules) = (plan.sets.len(), plan.nodes.len(), plan.rules.len());
        self.state.plan = Arc::new(plan);
        let reloaded = change.wish.is_some();
        self.wish = change.wish.unwrap_or_else(|| self.wish.clone());
        if self.next.is_none() {
            self.names.pin(&self.wish.names);
        }
        self.post_names();
        if reloaded {
            tracing::info!(sets, nodes, rules, "reload");
        }
        change.replies.into_iter().for_each(|reply| drop(reply.send(Ok(()))));
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
        self.ticks = self.ticks.wrapping_add(1);
        self.next_hops();
        match &mut self.drain {
            Some(drain) if self.ticks.is_multiple_of(DRAIN_TICKS) => {
                drain.is_over(Instant::now(), (self.hooks.pending)())
            }
            _ => false,
        }
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

/// Waits until next hops changed; without end if nobody is to be told.
async fn changed(netlink: &mut Option<Netlink>) {
    match netlink {
        Some(netlink) => netlink.change().await,
        None => std::future::pending().await,
    }
}

fn refuse(text: &str, reply: Option<oneshot::Sender<Result<(), String>>>) {
    tracing::error!(reason = %text.replace('\n', " | "), "reload_refused");
    if let Some(reply) = reply {
        let _ = reply.send(Err(text.to_owned()));
    }
}
