//! No allocation per packet: counted by this binary's allocator, a thread apart.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use sipring::packet::PeerId;

use super::rig::*;

over_both! {
    after_the_first_turns_nothing_is_allocated
}

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
}

// SAFETY: hands every call to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(at, layout) };
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller's promise is passed on.
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

pub(crate) fn allocations() -> u64 {
    ALLOCATIONS.with(Cell::get)
}

fn after_the_first_turns_nothing_is_allocated<B: Backend>() {
    alone(turns::<B>);
}

fn turns<B: Backend>() {
    let mut rig = Rig::<B>::at("127.0.0.1");
    let nodes: Vec<_> = (0..3).map(|_| peer("127.0.0.1")).collect();
    let addresses: Vec<_> = nodes.iter().map(|node| node.1).collect();
    rig.connect(&addresses);
    let gone = dead("127.0.0.1");
    let turn = |rig: &mut Rig<B>| {
        for number in 0..60usize {
            let to = number % 3;
            rig.put(&[7; 400], WORKER, PeerId(to as u16), addresses[to]);
        }
        rig.put(b"refused", LISTENER, PeerId::NONE, gone);
        rig.put(b"to ourselves", LISTENER, PeerId::NONE, rig.local(WORKER));
        rig.send();
        let mut room = [0; 500];
        for number in 0..60usize {
            let (len, source) = nodes[number % 3].0.recv_from(&mut room).unwrap();
            nodes[number % 3].0.send_to(&room[..len], source).unwrap();
        }
        rig.recv_until(|batch| batch.packets.len() >= 61 && !batch.events.is_empty());
        rig.batch.clear();
    };
    turn(&mut rig);
    turn(&mut rig);
    let before = allocations();
    (0..20).for_each(|_| turn(&mut rig));
    assert_eq!(allocations() - before, 0);
    drop(vec![1]);
    assert!(allocations() > before, "the count counts");
}
