//! A message is decided on and edited without a single allocation.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]
#![expect(unsafe_code, reason = "an allocator that counts")]

#[path = "rig/call.rs"]
mod call;
mod rig;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use sipring::packet::Sent;
use sipring::shard::Verdict;

use rig::Rig;

struct Counting;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: every call goes on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.with(|count| count.set(count.get() + 1));
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

fn counted(run: impl FnOnce()) -> u64 {
    let before = COUNT.get();
    run();
    COUNT.get() - before
}

#[test]
fn the_counter_counts() {
    assert_eq!(counted(|| drop(std::hint::black_box(Box::new(1)))), 1);
}

#[test]
fn a_call_is_carried_without_an_allocation() {
    let mut rig = Rig::bench();
    let messages = call::flow(&mut rig, true);
    let pass = |rig: &mut Rig| {
        for message in &messages {
            let mut packet = rig.pool.take().unwrap();
            assert!(packet.replace(&message.bytes));
            packet.received(message.bytes.len(), message.port, message.source);
            let verdict = rig.shard.handle(rig.now_ms, &mut packet, &mut rig.out);
            let Verdict::Forward(egress) = verdict else { panic!("{verdict:?}") };
            rig.out.decided(packet, egress, Sent::Forwarded).unwrap();
        }
        rig.out.sends().clear();
    };
    pass(&mut rig);
    assert_eq!(counted(|| (0..100).for_each(|_| pass(&mut rig))), 0);
}

#[test]
fn refusals_are_written_without_an_allocation() {
    let mut rig = Rig::bench();
    let texts = [
        rig::request("INVITE", "http://example.com", ""),
        rig::request("INVITE", "sip:bob@example.org", "Proxy-Require: x, y\r\n"),
        rig::request("OPTIONS", "sip:192.0.2.1", ""),
        rig::request("INVITE", "sip:bob@example.org", "Route: <sip:0rzzzzzzzzzzzzzzzzzzzzzzzz@192.0.2.1;lr>\r\n"),
    ];
    let pass = |rig: &mut Rig| {
        for text in &texts {
            let mut packet = rig.pool.take().unwrap();
            packet.received(0, rig::EDGE, std::net::SocketAddr::from(([192, 0, 2, 50], 5060)));
            assert!(packet.replace(text.as_bytes()));
            let verdict = rig.shard.handle(rig.now_ms, &mut packet, &mut rig.out);
            assert!(matches!(verdict, Verdict::Reply(_)), "{verdict:?}");
        }
    };
    pass(&mut rig);
    assert_eq!(counted(|| (0..100).for_each(|_| pass(&mut rig))), 0);
}
