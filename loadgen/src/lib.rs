//! sipring-load: callers and answering nodes that load a SIP server or balancer, and measure it. On
//! sipring's own packets, language and datapaths; the map, one line a module.

#![forbid(unsafe_code)]

/// What one worker knows of its calls: legs, timers, checks.
mod agent;
/// The highest rate that holds a stated loss and latency.
pub mod capacity;
/// What carries packets, and what that needs besides sockets.
mod carry;
/// The command line.
pub mod cli;
/// The workers: each on its cpu, all started or none; what they counted together.
pub mod crew;
/// A balancer, three nodes and calls in one process, to look at.
pub mod demo;
/// Digest authentication.
mod digest;
/// What calls consist of.
pub mod flow;
/// When calls begin.
mod pace;
/// What a run is to do.
pub mod plan;
/// What a run has found, as text and as JSON.
pub mod report;
/// Which sockets calls begin at.
mod sources;
/// What one worker counts.
pub mod tally;
/// Runs with their live line and signals.
pub mod watch;
/// The messages.
mod wire;
/// One thread and its turn.
mod worker;
