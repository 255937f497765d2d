//! The memory under the packets: one mapped region of slots, leased and given back without a lock.
//!
//! A region belongs to a NUMA node, not to a worker: it is touched first by the thread that makes
//! it. Each thread keeps a short last-in first-out list of free slots of one region a kind; the
//! surplus goes back to the region's stock in runs, where other threads find it. Slots of a region of
//! frames can be lent to the kernel and regained. Regions live as long as the process.

#![expect(unsafe_code, reason = "slots are parts of one mapped region, each owned by one packet")]

mod slot;

use std::cell::{RefCell, UnsafeCell};
use std::io;
use std::ptr::NonNull;
#[cfg(debug_assertions)]
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use crossbeam::queue::ArrayQueue;

use super::Packet;
use super::head::Head;
use super::shape::{FRAME_BYTES, Kind, PAGE, PoolOptions, PoolUse};
use slot::Place;

pub(super) use slot::Slot;

/// Free slots that a thread keeps to itself, at most; fewer in a small pool, so that all threads
/// together keep no more than a quarter of it.
const LOCAL_MAX: usize = 256;
/// Bytes of a frame that are asked for before it is known what is in it: headers.
const ASKED: usize = 64;
/// Slots that go to and from the stock at once, at most.
const RUN: usize = 64;

/// A region of slots. `'static`: made once at start, never unmapped.
#[derive(Debug)]
pub struct Pool {
    base: NonNull<u8>,
    kind: Kind,
    /// By slot.
    places: Box<[UnsafeCell<Place>]>,
    slots: u32,
    local_max: usize,
    stock: ArrayQueue<u32>,
    /// By slot: it is lent to the kernel.
    #[cfg(debug_assertions)]
    lent: Box<[AtomicBool]>,
    #[cfg(debug_assertions)]
    live: AtomicU32,
    #[cfg(debug_assertions)]
    threads: u16,
}

// SAFETY: `base` is only turned into slices, and a place into references, through a `Slot`, and a slot's
// number is in exactly one place at a time: a live packet, one thread's list, the stock or the kernel's hands.
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
    /// One a [`Kind`].
    static LOCAL: RefCell<[Local; 2]> =
        const { RefCell::new([Local { pool: None, free: Vec::new() }, Local { pool: None, free: Vec::new() }]) };
}

impl Pool {
    /// Maps and touches a region of `slots` slots.
    ///
    /// # Errors
    /// What mmap answers, when the address space or memory is refused.
    pub fn new(options: &PoolOptions) -> io::Result<&'static Self> {
        Self::of(Kind::Socket, options)
    }

    /// Maps and touches a region of `slots` frames, which a kernel bypass can share with the kernel.
    ///
    /// # Errors
    /// What mmap answers, when the address space or memory is refused.
    pub fn frames(options: &PoolOptions) -> io::Result<&'static Self> {
        Self::of(Kind::Frame, options)
    }

    fn of(kind: Kind, options: &PoolOptions) -> io::Result<&'static Self> {
        let slots = options.slots.max(1);
        let bytes = slots as usize * kind.stride();
        let (access, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a fresh anonymous mapping, no address asked for.
        let base = unsafe { libc::mmap(std::ptr::null_mut(), bytes, access, flags | libc::MAP_NORESERVE, -1, 0) };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        if kind == Kind::Frame {
            // Frames lie close: large pages are quicker to touch, where the kernel has any to give.
            // SAFETY: the mapping made above; what it holds stays as it is.
            unsafe { libc::madvise(base, bytes, libc::MADV_HUGEPAGE) };
        }
        let base = NonNull::new(base.cast::<u8>()).ok_or_else(|| io::Error::other("mmap gave address 0"))?;
        let local_max = (slots as usize / (4 * usize::from(options.threads.max(1)))).clamp(1, LOCAL_MAX);
        let stock = ArrayQueue::new(slots as usize);
        for index in (0..slots).rev() {
            for page in 0..kind.resident() / PAGE {
                // SAFETY: inside the mapping made above; a write of zero to a zero page.
                unsafe { base.add(index as usize * kind.stride() + page * PAGE).write_volatile(0) };
            }
            let _ = stock.push(index);
        }
        let place = |index: u32| {
            // SAFETY: the front is shorter than a slot, which lies within the mapping.
            let bytes = unsafe { base.add(index as usize * kind.stride() + kind.front()) };
            let len = (kind.stride() - kind.front()) as u32;
            UnsafeCell::new(Place { pool: None, bytes, len, index, head: Head::new() })
        };
        let pool = Self {
            base,
            kind,
            places: (0..slots).map(place).collect(),
            slots,
            local_max,
            stock,
            #[cfg(debug_assertions)]
            lent: (0..slots).map(|_| AtomicBool::new(false)).collect(),
            #[cfg(debug_assertions)]
            live: AtomicU32::new(0),
            #[cfg(debug_assertions)]
            threads: options.threads,
        };
        let pool: &'static Self = Box::leak(Box::new(pool));
        for place in &pool.places {
            // SAFETY: nobody else knows of the pool yet.
            unsafe { (*place.get()).pool = Some(pool) };
        }
        Ok(pool)
    }

    /// An empty packet, or none when all slots are in use.
    #[inline]
    pub fn take(&'static self) -> Option<Packet> {
        let mut packet = Packet::new(self.slot(self.free_slot()?)?);
        packet.clear();
        Some(packet)
    }

    /// Slots in all and free, seen from this thread.
    #[must_use]
    pub fn usage(&'static self) -> PoolUse {
        PoolUse { slots: self.slots, free: self.stock.len() as u32 + self.kept() }
    }

    /// Slots in all.
    #[must_use]
    pub fn slots(&self) -> u32 {
        self.slots
    }

    /// Free slots that no thread keeps to itself.
    #[must_use]
    pub fn stock(&self) -> u32 {
        self.stock.len() as u32
    }

    /// Free slots that this thread keeps to itself.
    #[must_use]
    pub fn kept(&'static self) -> u32 {
        LOCAL.with_borrow(|locals| self.local(locals).map_or(0, |local| local.free.len() as u32))
    }

    /// Where a region of frames lies, and how long it is, for the kernel; none for other regions.
    pub(crate) fn area(&self) -> Option<(NonNull<u8>, usize)> {
        (self.kind == Kind::Frame).then_some((self.base, self.slots as usize * FRAME_BYTES))
    }

    /// Lends a free frame to the kernel: its address in the area. None if no frame is free, or this is
    /// no region of frames.
    #[inline]
    pub(crate) fn lend(&'static self) -> Option<u64> {
        if self.kind != Kind::Frame {
            return None;
        }
        let index = self.free_slot()?;
        self.mark_lent(index, true);
        Some(u64::from(index) * FRAME_BYTES as u64)
    }

    /// Asks the cache for the first bytes at `address` of the area, which are to be read soon.
    #[inline]
    pub(crate) fn ask_ahead(&'static self, address: u64) {
        if address + ASKED as u64 <= u64::from(self.slots) * self.kind.stride() as u64 {
            // SAFETY: inside the mapping, which is never unmapped. `address` is of a frame that the kernel has given back and nobody
            // has taken yet, so nobody writes to it.
            super::ahead::ask(unsafe { std::slice::from_raw_parts(self.base.as_ptr().add(address as usize), ASKED) });
        }
    }

    /// Takes a lent frame back, with the `len` bytes at `address` as its datagram; none if they do not
    /// lie within one frame and behind its front.
    ///
    /// # Safety
    /// The frame was lent, and the kernel has done with it.
    #[inline]
    pub(crate) unsafe fn regain(&'static self, address: u64, len: u32) -> Option<Packet> {
        let index = self.frame_of(address)?;
        self.mark_lent(index, false);
        let mut packet = Packet::new(self.slot(index)?);
        packet.clear();
        packet.frame_filled(address as usize % FRAME_BYTES, len as usize).then_some(packet)
    }

    /// Takes a lent frame back as a free one.
    ///
    /// # Safety
    /// As [`Pool::regain`].
    #[inline]
    pub(crate) unsafe fn restore(&'static self, address: u64) {
        if let Some(index) = self.frame_of(address) {
            self.mark_lent(index, false);
            drop(self.slot(index));
        }
    }

    /// Checks that no slot was lost: the free ones, those of live packets and the `lent` ones are all.
    /// Exact only where one thread uses the region.
    #[cfg(debug_assertions)]
    pub(crate) fn check(&'static self, lent: u64) {
        let live = self.live.load(Ordering::Relaxed);
        let known = u64::from(self.usage().free) + u64::from(live) + lent;
        debug_assert!(self.threads != 1 || known == u64::from(self.slots), "{lent} lent, {live} alive: {known} in all");
    }

    /// The owner of a slot that was nobody's.
    #[inline]
    fn slot(&'static self, index: u32) -> Option<Slot> {
        let place = NonNull::new(self.places.get(index as usize)?.get())?;
        #[cfg(debug_assertions)]
        self.live.fetch_add(1, Ordering::Relaxed);
        Some(Slot { place })
    }

    #[inline]
    fn frame_of(&self, address: u64) -> Option<u32> {
        let index = address / FRAME_BYTES as u64;
        (index < u64::from(self.slots) && self.kind == Kind::Frame).then_some(index as u32)
    }

    #[inline]
    fn mark_lent(&self, index: u32, lent: bool) {
        #[cfg(debug_assertions)]
        if let Some(mark) = self.lent.get(index as usize) {
            let was = mark.swap(lent, Ordering::AcqRel);
            debug_assert_ne!(was, lent, "frame {index} is lent or regained twice");
        }
        #[cfg(not(debug_assertions))]
        let _ = (index, lent);
    }

    #[inline]
    fn free_slot(&'static self) -> Option<u32> {
        LOCAL.with_borrow_mut(|locals| {
            let local = locals.get_mut(self.kind as usize)?;
            if !local.pool.is_some_and(|pool| std::ptr::eq(pool, self)) {
                local.adopt(self);
            }
            if local.free.is_empty() {
                local.free.extend(std::iter::from_fn(|| self.stock.pop()).take(RUN.min(self.local_max)));
            }
            local.free.pop()
        })
    }

    /// This thread's list, if it is of this region.
    fn local<'a>(&'static self, locals: &'a [Local; 2]) -> Option<&'a Local> {
        let local = locals.get(self.kind as usize)?;
        local.pool.is_some_and(|pool| std::ptr::eq(pool, self)).then_some(local)
    }

    fn restock(&self, index: u32) {
        // The stock has a place for every slot of the region, so a push cannot fail.
        let _ = self.stock.push(index);
    }

    fn at(&self, index: u32) -> NonNull<u8> {
        // SAFETY: `index < slots` for every slot handed out, so this stays inside the mapping.
        unsafe { self.base.add(index as usize * self.kind.stride()) }
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

#[cfg(test)]
mod tests {
    use super::super::HEAD_ROOM;
    use super::super::shape::FRAME_FRONT;
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

    #[test]
    fn a_lent_frame_is_neither_free_nor_a_packet_until_it_is_regained() {
        let pool = Pool::frames(&PoolOptions { slots: 8, threads: 1 }).unwrap();
        let address = pool.lend().unwrap();
        assert_eq!(pool.usage().free, 7);
        // SAFETY: lent above, and no kernel has it.
        let mut packet = unsafe { pool.regain(address + 700, 100) }.unwrap();
        packet.bytes_mut().copy_from_slice(&[b'a'; 100]);
        packet.arrived(42, 50, super::super::PortId(1), ([192, 0, 2, 1], 5060).into());
        assert_eq!((packet.len(), packet.head_room()), (50, 742 - FRAME_FRONT));
        assert!(packet.grow_front(HEAD_ROOM as isize));
        assert_eq!(packet.framed(62).unwrap().len(), 62 + 50 + HEAD_ROOM);
        assert!(packet.framed(200).is_none(), "beyond the frame");
        let (lent, len) = packet.lend(pool, 62).unwrap();
        assert_eq!((lent, len), (address + 742 - 640 - 62, 62 + 50 + 640));
        assert_eq!(pool.usage().free, 7);
        // SAFETY: as above.
        unsafe { pool.restore(lent) };
        assert_eq!(pool.usage().free, 8);
    }

    #[test]
    fn addresses_outside_of_frames_are_refused_and_their_frames_not_lost() {
        let pool = Pool::frames(&PoolOptions { slots: 2, threads: 1 }).unwrap();
        for (at, len) in [(0, 10), (FRAME_FRONT as u64 - 1, 10), (4_000, 97), (4_095, 2)] {
            let address = pool.lend().unwrap();
            // SAFETY: lent above, and no kernel has it.
            assert!(unsafe { pool.regain(address + at, len) }.is_none(), "{at} {len}");
        }
        // SAFETY: not an address of the area, which changes nothing.
        assert!(unsafe { pool.regain(2 * 4_096, 10) }.is_none());
        assert_eq!(pool.usage().free, 2);
    }

    #[test]
    fn a_thread_keeps_slots_of_both_kinds_and_socket_slots_are_not_lent() {
        let sockets = Pool::new(&PoolOptions { slots: 32, threads: 1 }).unwrap();
        let frames = Pool::frames(&PoolOptions { slots: 32, threads: 1 }).unwrap();
        let (socket, frame) = (sockets.take().unwrap(), frames.take().unwrap());
        assert!(sockets.lend().is_none() && sockets.area().is_none());
        assert!(!socket.lies_in(sockets) && socket.lend(frames, 14).is_err());
        drop(frame);
        assert_eq!((sockets.kept(), frames.kept()), (8, 8));
        assert_eq!((sockets.usage().free, frames.usage().free), (32, 32));
    }
}
