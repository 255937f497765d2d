//! The rings that an AF_XDP socket shares with the kernel.
//!
//! Two kinds by who writes: [`Giving`] (fill, transmit) and [`Taking`] (receive, completion). Each
//! side publishes its own index with release and reads the other's with acquire; entries belong to
//! the side whose turn they are. Counts what went through, for the balance of frames.

use std::io;
use std::marker::PhantomData;
use std::os::fd::RawFd;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU32, Ordering, fence};

/// The kernel's flag in a ring it reads: it sleeps until it is called.
const NEED_WAKEUP: u32 = 1;

/// A part of a socket's memory, mapped.
struct Mapping {
    base: NonNull<u8>,
    bytes: usize,
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped once by `Shared::map`, and everything that points into it goes with it.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.bytes) };
    }
}

/// What both kinds have: the two indices, the flags and the entries.
struct Shared<T> {
    producer: NonNull<AtomicU32>,
    consumer: NonNull<AtomicU32>,
    flags: NonNull<AtomicU32>,
    entries: NonNull<T>,
    mask: u32,
    _mapping: Mapping,
    _entries: PhantomData<T>,
}

// SAFETY: the pointers lead into the mapping that goes with them; the other side is the kernel.
unsafe impl<T: Send> Send for Shared<T> {}

impl<T: Copy> Shared<T> {
    /// Maps a ring of `size` entries, a power of two, of socket `fd`.
    fn map(fd: RawFd, page: i64, at: &libc::xdp_ring_offset, size: u32) -> io::Result<Self> {
        let bytes = at.desc as usize + size as usize * size_of::<T>();
        let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_POPULATE);
        // SAFETY: a fresh mapping, no address asked for; the kernel checks length and offset.
        let base = unsafe { libc::mmap(ptr::null_mut(), bytes, access, kind, fd, page) };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast::<u8>()).ok_or_else(|| io::Error::other("mmap gave address 0"))?;
        let mapping = Mapping { base, bytes };
        // SAFETY: the kernel's offsets lie within the ring's mapping, aligned for what is there.
        unsafe {
            Ok(Self {
                producer: base.add(at.producer as usize).cast(),
                consumer: base.add(at.consumer as usize).cast(),
                flags: base.add(at.flags as usize).cast(),
                entries: base.add(at.desc as usize).cast(),
                mask: size - 1,
                _mapping: mapping,
                _entries: PhantomData,
            })
        }
    }

    fn producer(&self) -> &AtomicU32 {
        // SAFETY: inside the mapping, which lives as long as `self`.
        unsafe { self.producer.as_ref() }
    }

    fn consumer(&self) -> &AtomicU32 {
        // SAFETY: as above.
        unsafe { self.consumer.as_ref() }
    }

    fn flags(&self) -> &AtomicU32 {
        // SAFETY: as above.
        unsafe { self.flags.as_ref() }
    }

    fn entry(&self, index: u32) -> *mut T {
        // SAFETY: masked, so inside the ring.
        unsafe { self.entries.add((index & self.mask) as usize).as_ptr() }
    }
}

/// Where a ring is in a socket, and how large it is.
pub(super) struct Place<'a> {
    pub(super) fd: RawFd,
    pub(super) page: i64,
    pub(super) at: &'a libc::xdp_ring_offset,
    pub(super) size: u32,
}

/// A ring that we write and the kernel reads.
pub(super) struct Giving<T> {
    shared: Shared<T>,
    next: u32,
    /// The kernel's index when last looked at.
    taken: u32,
    given: u64,
}

impl<T: Copy> Giving<T> {
    pub(super) fn map(place: &Place<'_>) -> io::Result<Self> {
        let shared = Shared::map(place.fd, place.page, place.at, place.size)?;
        Ok(Self { shared, next: 0, taken: 0, given: 0 })
    }

    /// Free places; looks at the kernel's index only if fewer than `wanted` are known to be free.
    #[inline]
    pub(super) fn room(&mut self, wanted: u32) -> u32 {
        let size = self.shared.mask + 1;
        let known = size.saturating_sub(self.next.wrapping_sub(self.taken));
        if known >= wanted {
            return known;
        }
        self.taken = self.shared.consumer().load(Ordering::Acquire);
        size.saturating_sub(self.next.wrapping_sub(self.taken))
    }

    /// Writes an entry, which the kernel sees after [`Giving::submit`]; false if there is no room.
    #[inline]
    pub(super) fn put(&mut self, entry: T) -> bool {
        if self.room(1) == 0 {
            return false;
        }
        // SAFETY: a free place: the kernel does not read it before the index is published.
        unsafe { self.shared.entry(self.next).write(entry) };
        self.next = self.next.wrapping_add(1);
        self.given += 1;
        true
    }

    /// Publishes what was put.
    #[inline]
    pub(super) fn submit(&self) {
        self.shared.producer().store(self.next, Ordering::Release);
    }

    /// Whether the kernel must be called to look. To be asked after [`Giving::submit`].
    #[inline]
    pub(super) fn asks_for_call(&self) -> bool {
        // The kernel sets the flag, then looks at the ring; we publish, then look at the flag. With a
        // fence between the two on both sides, at least one sees what the other did.
        fence(Ordering::SeqCst);
        self.shared.flags().load(Ordering::Relaxed) & NEED_WAKEUP != 0
    }

    /// Entries that the kernel has not taken yet.
    #[inline]
    pub(super) fn pending(&self) -> u32 {
        self.next.wrapping_sub(self.shared.consumer().load(Ordering::Acquire))
    }

    /// Entries given since the start.
    pub(super) fn given(&self) -> u64 {
        self.given
    }
}

/// A ring that the kernel writes and we read.
pub(super) struct Taking<T> {
    shared: Shared<T>,
    next: u32,
    taken: u64,
}

impl<T: Copy> Taking<T> {
    pub(super) fn map(place: &Place<'_>) -> io::Result<Self> {
        Ok(Self { shared: Shared::map(place.fd, place.page, place.at, place.size)?, next: 0, taken: 0 })
    }

    /// Entries that are there; never more than the ring has.
    #[inline]
    pub(super) fn filled(&self) -> u32 {
        let filled = self.shared.producer().load(Ordering::Acquire).wrapping_sub(self.next);
        filled.min(self.shared.mask + 1)
    }

    /// The next entry, one of those that [`Taking::filled`] told of.
    #[inline]
    pub(super) fn take(&mut self) -> T {
        // SAFETY: inside the ring; every bit pattern of the two kinds of entries is a valid one, and
        // the kernel writes none that it has published before it is released.
        let entry = unsafe { self.shared.entry(self.next).read() };
        self.next = self.next.wrapping_add(1);
        self.taken += 1;
        entry
    }

    /// The entry so many places on, to look ahead: it means something only if [`Taking::filled`] told of it.
    #[inline]
    pub(super) fn ahead(&self, by: u32) -> T {
        // SAFETY: as in `take`; what the kernel is writing at the moment is of numbers only, each valid whatever its bits.
        unsafe { self.shared.entry(self.next.wrapping_add(by)).read() }
    }

    /// Gives the places of what was taken back to the kernel.
    #[inline]
    pub(super) fn release(&self) {
        self.shared.consumer().store(self.next, Ordering::Release);
    }

    /// Entries taken since the start.
    pub(super) fn taken(&self) -> u64 {
        self.taken
    }
}
