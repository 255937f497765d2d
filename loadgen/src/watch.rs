//! Runs that are watched: a line a second, and signals that end them early.
//!
//! Driven by the command line, the search and the demo. The first SIGINT or SIGTERM begins no more
//! calls and ends those under way; the second ends the process.

use std::io::Write as _;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, MissedTickBehavior, interval, interval_at};

use crate::crew::{self, Running};
use crate::plan::Plan;
use crate::report::Report;

/// How often is looked whether the run is over.
const LOOK: Duration = Duration::from_millis(20);

/// Who watches one run, or several one after the other.
#[derive(Debug)]
pub struct Watch {
    runtime: Runtime,
    heard: Heard,
    live: bool,
}

/// Signals, those between two runs too.
#[derive(Debug)]
struct Heard {
    interrupt: Signal,
    terminate: Signal,
    count: u32,
}

impl Heard {
    async fn another(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
        self.count += 1;
        if self.count > 1 {
            std::process::exit(130);
        }
    }
}

/// Starts `plan` and waits for its end.
///
/// # Errors
/// As [`Watch::new`] and [`crew::start`].
pub fn run(plan: &Plan, live: bool) -> Result<Report, String> {
    Watch::new(live)?.run(plan)
}

impl Watch {
    /// Hears signals from now on. `live`: prints a line a second.
    ///
    /// # Errors
    /// When signals cannot be heard.
    pub fn new(live: bool) -> Result<Self, String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| format!("no runtime for signals: {error}"))?;
        let within = runtime.enter();
        let hear = |kind| signal(kind).map_err(|error| format!("no signals: {error}"));
        let heard =
            Heard { interrupt: hear(SignalKind::interrupt())?, terminate: hear(SignalKind::terminate())?, count: 0 };
        drop(within);
        Ok(Self { runtime, heard, live })
    }

    /// Starts `plan` and waits for its end.
    ///
    /// # Errors
    /// As [`crew::start`].
    pub fn run(&mut self, plan: &Plan) -> Result<Report, String> {
        let running = crew::start(plan)?;
        self.runtime.block_on(watch(&running, self.live, &mut self.heard));
        running.wait()
    }

    /// Whether a signal came.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.heard.count > 0
    }

    /// Waits so long, or until a signal comes.
    pub fn rest(&mut self, time: Duration) {
        let heard = &mut self.heard;
        // The first of them ends the wait.
        let _ = self.runtime.block_on(async { tokio::time::timeout(time, heard.another()).await });
    }
}

async fn watch(running: &Running, live: bool, heard: &mut Heard) {
    let second = Duration::from_secs(1);
    let began = Instant::now();
    let mut every_second = interval_at(began + second, second);
    every_second.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut look = interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut before = [0; 9];
    while !running.is_over() {
        tokio::select! {
            _ = every_second.tick() => if live {
                let now = running.live();
                line(began.elapsed().as_secs(), now, before);
                before = now;
            },
            _ = look.tick() => {}
            () = heard.another() => running.stop(),
        }
    }
}

/// One line of what the last second brought.
fn line(second: u64, now: [u64; 9], before: [u64; 9]) {
    let mut changes = now.iter().zip(before).map(|(now, before)| now.saturating_sub(before));
    let [started, ok, failed, lost, sent, received, again, wrong, _] =
        std::array::from_fn(|_| changes.next().unwrap_or(0));
    let [.., calling] = now;
    let _ = writeln!(
        std::io::stderr(),
        "{second:>4} s  calls +{started} ok +{ok} failed +{failed} lost +{lost} under way {calling}  \
         messages {sent}/s out {received}/s in, {again} retransmitted, {wrong} wrong"
    );
}
