//! A run that is watched: a line a second, and signals that end it early.
//!
//! The first SIGINT or SIGTERM begins no more calls and ends those under way; the second ends the
//! process.

use std::io::Write as _;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, MissedTickBehavior, interval, interval_at};

use crate::crew::{self, Running};
use crate::plan::Plan;
use crate::report::Report;

/// How often is looked whether the run is over.
const LOOK: Duration = Duration::from_millis(20);

/// Starts `plan` and waits for its end.
///
/// # Errors
/// As [`crew::start`].
pub fn run(plan: &Plan, live: bool) -> Result<Report, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("no runtime for signals: {error}"))?;
    let running = runtime.block_on(async {
        let heard = |kind| signal(kind).map_err(|error| format!("no signals: {error}"));
        let (interrupt, terminate) = (heard(SignalKind::interrupt())?, heard(SignalKind::terminate())?);
        let running = crew::start(plan)?;
        watch(&running, live, interrupt, terminate).await;
        Ok::<_, String>(running)
    })?;
    running.wait()
}

async fn watch(running: &Running, live: bool, mut interrupt: Signal, mut terminate: Signal) {
    let second = Duration::from_secs(1);
    let began = Instant::now();
    let mut every_second = interval_at(began + second, second);
    every_second.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut look = interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let (mut before, mut signals) = ([0; 9], 0);
    while !running.is_over() {
        tokio::select! {
            _ = every_second.tick() => if live {
                let now = running.live();
                line(began.elapsed().as_secs(), now, before);
                before = now;
            },
            _ = look.tick() => {}
            _ = interrupt.recv() => signals += 1,
            _ = terminate.recv() => signals += 1,
        }
        match signals {
            0 => {}
            1 => running.stop(),
            _ => std::process::exit(130),
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
