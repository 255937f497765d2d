//! The memory under the packets: one mapped region of slots, leased and given back without a lock.
//!
//! A region belongs to a NUMA node, not to a worker: it is touched first by the thread that makes
//! it. Each thread keeps a short last-in first-out list of free slots of one region; the surplus
//! goes back to the region's stock in runs, where other threads find it. Regions live as long as
//! the process.

#![expect(unsafe_code, reason = "slots are parts of one mapped region, each owned by one packet")]

use std::cell::RefCell;
use std::io;
use std::ptr::NonNull;

use crossbeam::queue::ArrayQueue;

use super::{HEAD_ROOM, Packet};

/// Address space of a slot, bytes: head room, the longest datagram, rounded up to pages.
pub(super) const SLOT_BYTES: usize = 17 * PAGE;
const PAGE: usize = 4096;
/// Bytes of a slot that stay resident.
const RESIDENT: usize = 2 * PAGE;
/// Free slots that a thread keeps to itself, at most; fewer in a small pool, so that all threads
/// together keep no more than a quarter of it.
const LOCAL_MAX: usize = 256;
/// Slots that go to and from the stock at once, at most.
const RUN: usize = 64;

/// How large a pool is.
#[derive(Clone, Copy, Debug)]
pub struct PoolOptions {
    /// Packets that can be alive at once; each takes 68 kB of address space and 8 kB of memory.
    pub slots: u32,
    /// Threads that take and free packets.
    pub threads: u16,
}

/// What a pool holds at the moment, for gauges and tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolUse {
    /// Slots in all.
    pub slots: u32,
    /// Free ones, as this thread sees them: its own and the stock's.
    pub free: u32,
}

/// A region of slots. `'static`: made once at start, never unmapped.
#[derive(Debug)]
pub struct Pool {
    base: NonNull<u8>,
    slots: u32,
    local_max: usize,
    stock: ArrayQueue<u32>,
}

// SAFETY: `base` is only turned into slices through a `Slot`, and a slot's number is in exactly one
// place at a time: a live packet, one thread's list or the stock.
unsafe impl Send for Pool {}
// SAFETY: as above; the stock is a concurrent queue.
unsafe impl Sync for Pool {}

struct Local {
    pool: Option<&'static Pool>,
    free: Vec<u32>,
}

impl Drop for Local {
    fn drop(&mut self) {
        if let Some(pool) = self.pool {
            for index in self.free.drain(..) {
                pool.restock(index);
            }
        }
    }
}

thread_local! {
    static LOCAL: RefCell<Local> = const { RefCell::new(Local { pool: None, free: Vec::new() }) };
}

impl Pool {
    /// Maps and touches a region of `slots` slots.
    ///
    /// # Errors
    /// What mmap answers, when the address space or memory is refused.
    pub fn new(options: &PoolOptions) -> io::Result<&'static Self> {
        let slots = options.slots.max(1);
        let bytes = slots as usize * SLOT_BYTES;
        // SAFETY: a fresh anonymous mapping, no address asked for.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast::<u8>()).ok_or_else(|| io::Error::other("mmap gave address 0"))?;
        let local_max = (slots as usize / (4 * usize::from(options.threads.max(1)))).clamp(1, LOCAL_MAX);
        let stock = ArrayQueue::new(slots as usize);
        for index in (0..slots).rev() {
            for page in 0..RESIDENT / PAGE {
                // SAFETY: inside the mapping made above; a write of zero to a zero page.
                unsafe { base.add(index as usize * SLOT_BYTES + page * PAGE).write_volatile(0) };
            }
            let _ = stock.push(index);
        }
        Ok(Box::leak(Box::new(Self { base, slots, local_max, stock })))
    }

    /// An empty packet, or none when all slots are in use.
    #[inline]
    pub fn take(&'static self) -> Option<Packet> {
        let index = LOCAL.with_borrow_mut(|local| {
            if !local.pool.is_some_and(|pool| std::ptr::eq(pool, self)) {
                local.adopt(self);
            }
            if local.free.is_empty() {
                local.free.extend(std::iter::from_fn(|| self.stock.pop()).take(RUN.min(self.local_max)));
            }
            local.free.pop()
        })?;
        Some(Packet::new(Slot { pool: self, index }))
    }

    /// Slots in all and free, seen from this thread.
    #[must_use]
    pub fn usage(&'static self) -> PoolUse {
        let local = LOCAL.with_borrow(|local| match local.pool {
            Some(pool) if std::ptr::eq(pool, self) => local.free.len(),
            _ => 0,
        });
        PoolUse { slots: self.slots, free: (self.stock.len() + local) as u32 }
    }

    fn restock(&self, index: u32) {
        // The stock has a place for every slot of the region, so a push cannot fail.
        let _ = self.stock.push(index);
    }

    fn at(&self, index: u32) -> *mut u8 {
        // SAFETY: `index < slots` for every slot handed out, so this stays inside the mapping.
        unsafe { self.base.add(index as usize * SLOT_BYTES).as_ptr() }
    }
}

impl Local {
    /// Makes `pool` the region that this thread keeps slots of.
    #[cold]
    fn adopt(&mut self, pool: &'static Pool) {
        if let Some(old) = self.pool {
            for index in self.free.drain(..) {
                old.restock(index);
            }
        }
        self.free.reserve(LOCAL_MAX + 1);
        self.pool = Some(pool);
    }
}

/// One slot of a region, owned.
#[derive(Debug)]
pub(super) struct Slot {
    pool: &'static Pool,
    index: u32,
}

impl Slot {
    #[inline]
    pub(super) fn bytes(&self) -> &[u8] {
        // SAFETY: this slot owns its part of the mapping, which is zeroed at first and never freed.
        unsafe { std::slice::from_raw_parts(self.pool.at(self.index), SLOT_BYTES) }
    }

    #[inline]
    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`, and `&mut self` makes it the only view.
        unsafe { std::slice::from_raw_parts_mut(self.pool.at(self.index), SLOT_BYTES) }
    }

    /// Gives the pages behind the resident ones back to the kernel.
    #[cold]
    pub(super) fn trim(&mut self) {
        // SAFETY: whole pages of this slot's own part of an anonymous mapping; they read as zero
        // afterwards.
        unsafe {
            let tail = self.pool.at(self.index).add(RESIDENT);
            libc::madvise(tail.cast(), SLOT_BYTES - RESIDENT, libc::MADV_DONTNEED);
        }
    }
}

impl Drop for Slot {
    #[inline]
    fn drop(&mut self) {
        let kept = LOCAL.try_with(|local| {
            let Ok(mut local) = local.try_borrow_mut() else { return false };
            if !local.pool.is_some_and(|pool| std::ptr::eq(pool, self.pool)) {
                return false;
            }
            local.free.push(self.index);
            if local.free.len() > self.pool.local_max {
                // The oldest go: what was used last is still in the cache.
                local.free.drain(..RUN.min(self.pool.local_max)).for_each(|index| self.pool.restock(index));
            }
            true
        });
        if kept != Ok(true) {
            self.pool.restock(self.index);
        }
    }
}

impl Drop for Packet {
    #[inline]
    fn drop(&mut self) {
        // A long datagram made more pages resident than a slot may keep.
        if self.high_water as usize > RESIDENT {
            self.slot.trim();
        }
    }
}

const _: () = assert!(SLOT_BYTES >= HEAD_ROOM + super::DATAGRAM_MAX);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_freed_on_another_thread_comes_back_and_none_is_lost() {
        let pool = Pool::new(&PoolOptions { slots: 300, threads: 1 }).unwrap();
        let mut taken: Vec<_> = std::iter::from_fn(|| pool.take()).collect();
        assert_eq!(taken.len(), 300);
        let half = taken.split_off(150);
        std::thread::spawn(move || drop(half)).join().unwrap();
        let again: Vec<_> = std::iter::from_fn(|| pool.take()).collect();
        assert_eq!(again.len(), 150);
        drop((taken, again));
        assert_eq!(pool.usage(), PoolUse { slots: 300, free: 300 });
    }

    #[test]
    fn no_thread_keeps_so_many_slots_that_another_gets_none() {
        let pool = Pool::new(&PoolOptions { slots: 64, threads: 8 }).unwrap();
        let (busy, ready) = (std::sync::Barrier::new(8), std::sync::Barrier::new(8));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let held: Vec<_> = (0..4).map_while(|_| pool.take()).collect();
                    drop(held);
                    busy.wait();
                    let one = pool.take();
                    ready.wait();
                    assert!(one.is_some(), "the others keep what they do not use");
                });
            }
        });
    }

    #[test]
    fn slots_are_reused_last_in_first_out() {
        let pool = Pool::new(&PoolOptions { slots: 16, threads: 1 }).unwrap();
        let mut first = pool.take().unwrap();
        let second = pool.take().unwrap();
        assert!(first.replace(b"warm"));
        let at = first.bytes().as_ptr();
        drop(second);
        drop(first);
        let mut next = pool.take().unwrap();
        assert!(next.replace(b"next"));
        assert_eq!(next.bytes().as_ptr(), at);
    }

    #[test]
    fn the_pages_of_a_long_datagram_are_given_back() {
        let pool = Pool::new(&PoolOptions { slots: 1, threads: 1 }).unwrap();
        let mut packet = pool.take().unwrap();
        assert!(packet.replace(&[7; 60_000]));
        packet.truncate(10);
        drop(packet);
        let mut packet = pool.take().unwrap();
        assert_eq!(packet.room().get(50_000), Some(&0));
    }
}
