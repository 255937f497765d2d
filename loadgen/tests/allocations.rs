//! Calls cost no allocation: ten times as many of them allocate no more than the first ones did.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]
#![allow(clippy::disallowed_methods, reason = "the rig is its own clock")]
#![expect(unsafe_code, reason = "an allocator that counts")]

mod rig;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering};

use rig::{Net, assert_clean};
use sipring_load::crew;
use sipring_load::flow::Flow;
use sipring_load::plan::{Load, Plan};

struct Counting;

static COUNT: AtomicU64 = AtomicU64::new(0);

// SAFETY: every call goes on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Both sides of `calls` calls in one process, straight to each other.
fn counted(flow: Flow, calls: u64) -> u64 {
    let net = Net::new();
    let plan =
        Plan { answer_at: net.nodes(2), load: Load::Window(20), calls: Some(calls), ..net.plan(flow, net.nodes(1)[0]) };
    let before = COUNT.load(Ordering::Relaxed);
    assert_clean(&crew::run(&plan).unwrap(), calls);
    COUNT.load(Ordering::Relaxed) - before
}

#[test]
fn no_flow_allocates_for_a_call() {
    for flow in [Flow::Call, Flow::NodeHangup, Flow::Reinvite, Flow::Options] {
        // The counter counts: a run of its own makes workers, sockets and texts.
        let first = counted(flow, 500);
        assert!(first > 100, "{flow:?}: {first}");
        let tenfold = counted(flow, 5_000);
        assert!(tenfold < first + 100, "{flow:?}: {first} for 500 calls, {tenfold} for 5,000");
    }
}
