//! The thread that decides what workers are told: plans, names, next hops, draining.
//!
//! Owns a tokio runtime of its own, the table of names and the newest state of all workers; is
//! driven by signals, by [`Control::ask`] and by time. Never touches a packet, never reads a file:
//! `serve` gives it closures for that.

mod dns;
mod drain;
mod netlink;
mod signals;
mod turn;

use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use tokio::sync::{mpsc as letters, oneshot};

use crate::balance::{Plan, Vitals};
use crate::shard::{Asks, Names, State};

use dns::NameTable;
pub use dns::{Addresses, DnsOptions};
use netlink::Netlink;
use signals::Signals;
use turn::Turn;

/// Builds a plan with what names resolved to; the plan in force comes along, so that what did not
/// change is taken over.
pub type Build = dyn Fn(&Addresses, Option<&Plan>) -> Result<Plan, String> + Send + Sync;

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
}

/// What a configuration wants, as far as control is concerned.
#[derive(Clone)]
pub struct Wish {
    /// Names that must resolve before there is a plan.
    pub names: Vec<String>,
    /// Builds the plan.
    pub build: Arc<Build>,
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
    /// Prints all counters.
    pub print: Box<dyn Fn() + Send>,
    /// What workers ask for.
    pub asks: Arc<Asks>,
}

/// What the owner of the process can ask for.
enum Letter {
    Reload(oneshot::Sender<Result<(), String>>),
    Drain,
    Stop,
}

/// Control before there are workers: the names are resolved and the first plan is built.
pub struct Opened {
    /// What workers start with.
    pub state: State,
    hooks: oneshot::Sender<Hooks>,
    control: Control,
}

/// The running thread.
pub struct Control {
    letters: letters::UnboundedSender<Letter>,
    thread: JoinHandle<()>,
}

/// Starts the thread, and waits until it has resolved the names and built the first plan.
///
/// # Errors
/// Names that do not resolve, a plan that cannot be built, a resolver or thread that cannot be made.
pub fn open(options: Options, wish: Wish) -> Result<Opened, String> {
    let (letters, read) = letters::unbounded_channel();
    let (first, opened) = mpsc::sync_channel(1);
    let (hooks, hooked) = oneshot::channel();
    let thread = std::thread::Builder::new()
        .name("control".to_owned())
        .spawn(move || run(options, wish, &first, hooked, read))
        .map_err(|error| format!("the control thread cannot be started: {error}"))?;
    let state = opened.recv().unwrap_or_else(|_| Err("the control thread ended".to_owned()))?;
    Ok(Opened { state, hooks, control: Control { letters, thread } })
}

impl Opened {
    /// Goes on with the workers that were started from [`Opened::state`].
    #[must_use]
    pub fn serve(self, hooks: Hooks) -> Control {
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
        let ended = |_| "sipring has stopped".to_owned();
        self.letters.send(Letter::Reload(reply)).map_err(|_| "sipring has stopped".to_owned())?;
        replied.blocking_recv().map_err(ended)?
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
        self.thread.join().is_ok()
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
}

async fn begin(options: &Options, wish: &Wish) -> Result<(NameTable, Signals, Option<Netlink>, State), String> {
    let signals = Signals::new(options.signals).map_err(|error| format!("signals cannot be taken: {error}"))?;
    let mut names = NameTable::new(&options.dns)?;
    names.settle_all(&wish.names).await;
    let addresses = names.addresses();
    let plan = Arc::new((wish.build)(&addresses, None)?);
    let names_state = Arc::new(Names::new(addresses));
    let wanted = (!options.interfaces.is_empty()).then(|| Netlink::open(&options.interfaces)).transpose();
    let netlink = wanted.map_err(|error| format!("next hops cannot be read: {error}"))?;
    let hops = netlink.as_ref().map(Netlink::hops).unwrap_or_default();
    let state = State { plan, vitals: Arc::new(Vitals::default()), names: names_state, hops, draining: false };
    Ok((names, signals, netlink, state))
}
