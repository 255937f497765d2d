//! The admin side of the sipring binary: over HTTP, by its own commands, and in its log.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a test stops at the first surprise, and is its own clock"
)]
#![allow(dead_code, reason = "other tests use the rest of the harness")]

#[path = "../harness/mod.rs"]
mod harness;

mod commands;
mod guard;
mod hostile;
mod log;
mod look;
mod metrics;
mod overlay;
mod sets;
