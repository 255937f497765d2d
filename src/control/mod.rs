//! The thread that decides what workers are told: plans, names, next hops, draining.
//!
//! Owns a tokio runtime of its own, the table of names, what was changed at run time and the newest
//! state of all workers; is driven by signals, by [`Control`], by the admin side on a thread beside
//! it, and by time. Never touches a packet, never reads a file of the operator's: `serve` gives it
//! closures for that.

mod dns;
mod drain;
mod explain;
pub mod health;
mod http;
mod metrics;
mod netlink;
mod overlay;
mod queue;
mod signals;
mod turn;
mod view;

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use tokio::sync::{mpsc as letters, oneshot};

use crate::balance::Plan;
use crate::shard::{Asks, Names, State};

use dns::NameTable;
pub use dns::{Addresses, DnsOptions};
pub use explain::{Ground, Question, Told};
pub use health::Status;
pub use http::{AdminOptions, Token};
use netlink::Netlink;
pub use netlink::NextHops;
pub use overlay::{Added, Edit, Listed, Overlay, Override, Refusal};
use signals::Signals;
use turn::Turn;
use view::View;
pub use view::{Figures, Frames, Sight};

/// Builds a plan with what names resolved to and what was changed at run time; the plan in force
/// comes along, so that what did not change is taken over.
pub type Build = dyn Fn(&Addresses, &Overlay, Option<&Plan>) -> Result<Plan, String> + Send + Sync;

/// Says what is wrong with a node to be added, or which names it needs an address for.
pub type Admit = dyn Fn(&Added) -> Result<Vec<String>, String> + Send + Sync;

const STOPPED: &str = "sipring has stopped";

/// How control works.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Names.
    pub dns: DnsOptions,
    /// Longest drain, seconds.
    pub drain_max_s: u32,
    /// Interfaces that workers send by themselves, for which they are told next hops.
    pub interfaces: Vec<String>,
    /// Whether SIGHUP, SIGUSR1, SIGTERM and SIGINT are answered.
    pub signals: bool,
    /// Number of workers, each of which testifies.
    pub workers: u16,
    /// Addresses that probes leave from, one an address family.
    pub probe_from: Vec<IpAddr>,
    /// Where the admin side listens, and whom it answers.
    pub admin: AdminOptions,
}

/// What a configuration wants, as far as control is concerned.
#[derive(Clone)]
pub struct Wish {
    /// Names that must resolve before there is a plan.
    pub names: Vec<String>,
    /// Builds the plan.
    pub build: Arc<Build>,
    /// The nodes of the file, sets in order.
    pub listed: Arc<[Listed]>,
    /// Checks nodes to be added.
    pub admit: Arc<Admit>,
    /// Rules that stand in the file; a plan's further ones are the listeners' own sets.
    pub rules_written: usize,
}

/// What control does to the rest of the process.
pub struct Hooks {
    /// Reads the configuration again, and refuses it with the text for the log.
    pub reload: Box<dyn FnMut() -> Result<Wish, String> + Send>,
    /// Tells all workers the newest state.
    pub post: Box<dyn FnMut(&State) + Send>,
    /// Ends all workers, and returns when they have ended.
    pub stop: Box<dyn FnMut() + Send>,
    /// Calls and transactions that a drain waits for.
    pub pending: Box<dyn Fn() -> u64 + Send>,
    /// Pending marks by node: the place in the list is the mark's number.
    pub marks: Box<dyn Fn() -> Vec<u64> + Send>,
    /// The workers' clock, milliseconds.
    pub clock_ms: Box<dyn Fn() -> u64 + Send>,
    /// Prints all counters, those of health among them.
    pub print: Box<dyn Fn(&Status) + Send>,
    /// What workers ask for.
    pub asks: Arc<Asks>,
    /// What the admin side looks at; none where there are no workers to look at.
    pub sight: Option<Sight>,
}

/// Whom a change is reported to once it is in force or refused.
type Reply = oneshot::Sender<Result<(), Refusal>>;

/// What the owner of the process and the admin side can ask for.
enum Letter {
    Reload(Reply),
    Edit(Edit, Reply),
    Status(oneshot::Sender<Status>),
    View(oneshot::Sender<View>),
    Drain,
    Stop,
}

/// Control before there are workers: the names are resolved and the first plan is built.
pub struct Opened {
    /// What workers start with.
    pub state: State,
    hooks: oneshot::Sender<Hooks>,
    sight: Option<oneshot::Sender<Sight>>,
    control: Control,
}

/// The running thread.
pub struct Control {
    letters: letters::UnboundedSender<Letter>,
    thread: JoinHandle<()>,
    admin: Option<JoinHandle<()>>,
    admin_at: Option<SocketAddr>,
}

/// Starts the thread, and waits until it has resolved the names and built the first plan.
///
/// # Errors
/// Names that do not resolve, a plan that cannot be built, a resolver or thread that cannot be made,
/// an admin address that cannot be had.
pub fn open(options: Options, wish: Wish) -> Result<Opened, String> {
    let (letters, read) = letters::unbounded_channel();
    let (first, opened) = mpsc::sync_channel(1);
    let (hooks, hooked) = oneshot::channel();
    let (alive, ended) = oneshot::channel();
    let admin_options = options.admin.clone();
    let admin = http::listen(&admin_options)?;
    let admin_at = admin.as_ref().and_then(|listener| listener.local_addr().ok());
    let thread = std::thread::Builder::new()
        .name("control".to_owned())
        .spawn(move || run(options, wish, &first, hooked, read, alive))
        .map_err(|error| format!("the control thread cannot be started: {error}"))?;
    let state = opened.recv().unwrap_or_else(|_| Err("the control thread ended".to_owned()))?;
    let (sight, admin) = match admin {
        Some(listener) => {
            let (sight, seen) = oneshot::channel();
            let desk = http::Desk { letters: letters.downgrade(), token: admin_options.token };
            (Some(sight), Some(desk.open(listener, seen, ended)?))
        }
        None => (None, None),
    };
    Ok(Opened { state, hooks, sight, control: Control { letters, thread, admin, admin_at } })
}

impl Opened {
    /// Goes on with the workers that were started from [`Opened::state`].
    #[must_use]
    pub fn serve(self, mut hooks: Hooks) -> Control {
        if let (Some(to), Some(sight)) = (self.sight, hooks.sight.take()) {
            let _ = to.send(sight);
        }
        // Fails only if the thread has ended, which `Control::wait` shows at once.
        let _ = self.hooks.send(hooks);
        self.control
    }
}

impl Control {
    /// Reads the configuration again, and waits until it is in force.
    ///
    /// # Errors
    /// Why it was refused; what was in force still is.
    pub fn reload(&self) -> Result<(), String> {
        let (reply, replied) = oneshot::channel();
        self.letters.send(Letter::Reload(reply)).map_err(|_| STOPPED.to_owned())?;
        let answer = replied.blocking_recv().map_err(|_| STOPPED.to_owned())?;
        answer.map_err(|refusal| refusal.text().to_owned())
    }

    /// Where the admin side listens; none if it is off.
    #[must_use]
    pub fn admin_at(&self) -> Option<SocketAddr> {
        self.admin_at
    }

    /// What is known of all sets, nodes and endpoints.
    ///
    /// # Errors
    /// That control has ended.
    pub fn status(&self) -> Result<Status, String> {
        let (reply, replied) = oneshot::channel();
        self.letters.send(Letter::Status(reply)).map_err(|_| STOPPED.to_owned())?;
        replied.blocking_recv().map_err(|_| STOPPED.to_owned())
    }

    /// Takes no new calls, and stops when those under way have settled or time is up.
    pub fn drain(&self) {
        let _ = self.letters.send(Letter::Drain);
    }

    /// Stops at once.
    pub fn stop(&self) {
        let _ = self.letters.send(Letter::Stop);
    }

    /// Waits until the workers have ended; false if control itself failed.
    #[must_use]
    pub fn wait(self) -> bool {
        let sound = self.thread.join().is_ok();
        // It ends when control has, so that its port is free again.
        sound & self.admin.is_none_or(|admin| admin.join().is_ok())
    }
}

/// Looks names up once, for commands that serve nothing.
///
/// # Errors
/// When the resolver cannot be set up.
pub fn resolve(options: &DnsOptions, names: &[String]) -> Result<Addresses, String> {
    if names.is_empty() {
        return Ok(Addresses::new());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("a runtime for lookups cannot be made: {error}"))?;
    runtime.block_on(async {
        let mut table = NameTable::new(options)?;
        table.settle_all(names).await;
        Ok(table.addresses())
    })
}

/// The thread: first the plan, then the loop.
fn run(
    options: Options,
    wish: Wish,
    first: &mpsc::SyncSender<Result<State, String>>,
    hooked: oneshot::Receiver<Hooks>,
    letters: letters::UnboundedReceiver<Letter>,
    alive: oneshot::Sender<()>,
) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = first.send(Err(format!("control's runtime cannot be made: {error}")));
            return;
        }
    };
    runtime.block_on(async move {
        let opened = begin(&options, &wish).await;
        let (names, signals, netlink, state) = match opened {
            Ok(opened) => opened,
            Err(text) => {
                let _ = first.send(Err(text));
                return;
            }
        };
        let _ = first.send(Ok(state.clone()));
        // An error: the workers could not be started, and `serve` says so.
        if let Ok(hooks) = hooked.await {
            Turn::new(options, wish, hooks, (names, netlink), state).run(signals, letters).await;
        }
    });
    drop(alive);
}

async fn begin(options: &Options, wish: &Wish) -> Result<(NameTable, Signals, Option<Netlink>, State), String> {
    let signals = Signals::new(options.signals).map_err(|error| format!("signals cannot be taken: {error}"))?;
    let mut names = NameTable::new(&options.dns)?;
    names.settle_all(&wish.names).await;
    let addresses = names.addresses();
    let plan = Arc::new((wish.build)(&addresses, &Overlay::default(), None)?);
    let names_state = Arc::new(Names::new(addresses));
    let evidence = health::evidence(&plan, options.workers);
    let wanted = (!options.interfaces.is_empty()).then(|| Netlink::open(&options.interfaces)).transpose();
    let netlink = wanted.map_err(|error| format!("next hops cannot be read: {error}"))?;
    let hops = netlink.as_ref().map(Netlink::hops).unwrap_or_default();
    let state = State { plan, vitals: Arc::default(), evidence, names: names_state, hops, draining: false };
    Ok((names, signals, netlink, state))
}
