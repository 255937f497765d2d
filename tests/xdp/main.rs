//! Black-box tests of the kernel bypass: the sipring binary over AF_XDP at veth links between network namespaces.

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

mod calls;
mod changes;
mod rig;
mod slow;
mod start;
mod tags;
