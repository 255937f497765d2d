//! Black-box tests of the sipring binary with real peers: SIPp, Kamailio, and phones behind NAT.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a test stops at the first surprise, and is its own clock"
)]
#![allow(dead_code, reason = "the figures use the rest of the harness")]

#[path = "../harness/mod.rs"]
mod harness;

mod cookies;
mod dialogs;
mod health;
mod kamailio;
mod lifecycle;
mod nat;
mod relay;
mod sipp;
mod trains;
