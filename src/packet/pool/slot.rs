//! One slot of a region in its owner's hands, and the place that stays behind it.
//!
//! Owned by a packet; made by the pool, and given back to it when it is dropped. Never in two hands.

use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
#[cfg(debug_assertions)]
use std::sync::atomic::Ordering;

use super::{LOCAL, Pool, RUN};
use crate::packet::Packet;
use crate::packet::head::Head;
use crate::packet::shape::{FRAME_BYTES, Kind, RESIDENT, SOCKET_BYTES};

/// A slot's own part of the mapping, and what is known of the datagram in it. On cache lines of its own, as
/// its neighbour may be in another thread's hands.
#[derive(Debug)]
#[repr(align(128))]
pub(super) struct Place {
    /// None until the pool is where it stays.
    pub(super) pool: Option<&'static Pool>,
    /// What a packet may use, `len` bytes.
    pub(super) bytes: NonNull<u8>,
    pub(super) len: u32,
    pub(super) index: u32,
    pub(super) head: Head,
}

/// One slot of a region, owned. As small as a pointer: packets are moved several times a turn.
#[derive(Debug)]
pub(in crate::packet) struct Slot {
    pub(super) place: NonNull<Place>,
}

// SAFETY: the place and its part of the mapping are this slot's own, whoever holds it.
unsafe impl Send for Slot {}

impl Deref for Slot {
    type Target = Head;

    #[inline]
    fn deref(&self) -> &Head {
        &self.place().head
    }
}

impl DerefMut for Slot {
    #[inline]
    fn deref_mut(&mut self) -> &mut Head {
        // SAFETY: the place is this slot's own and lives as long as the process; `&mut self` makes it the only view.
        unsafe { &mut self.place.as_mut().head }
    }
}

impl Slot {
    #[inline]
    fn place(&self) -> &Place {
        // SAFETY: the place is this slot's own and lives as long as the process.
        unsafe { self.place.as_ref() }
    }

    /// Bytes that a packet may use.
    #[inline]
    pub(in crate::packet) fn size(&self) -> usize {
        self.place().len as usize
    }

    #[inline]
    pub(in crate::packet) fn bytes(&self) -> &[u8] {
        let place = self.place();
        // SAFETY: this slot owns its part of the mapping, which is zeroed at first and never freed;
        // `bytes` and `len` are within it.
        unsafe { std::slice::from_raw_parts(place.bytes.as_ptr(), place.len as usize) }
    }

    #[inline]
    pub(in crate::packet) fn bytes_mut(&mut self) -> &mut [u8] {
        let place = self.place();
        // SAFETY: as in `bytes`, and `&mut self` makes it the only view.
        unsafe { std::slice::from_raw_parts_mut(place.bytes.as_ptr(), place.len as usize) }
    }

    /// The whole of a frame, front included; none of a socket slot.
    #[inline]
    pub(in crate::packet) fn frame_mut(&mut self) -> Option<&mut [u8]> {
        let place = self.place();
        let pool = place.pool.filter(|pool| pool.kind == Kind::Frame)?;
        // SAFETY: as in `bytes_mut`.
        Some(unsafe { std::slice::from_raw_parts_mut(pool.at(place.index).as_ptr(), FRAME_BYTES) })
    }

    /// Whether it is a frame of `pool`.
    #[inline]
    pub(in crate::packet) fn is_frame_of(&self, pool: &Pool) -> bool {
        self.place().pool.is_some_and(|own| std::ptr::eq(own, pool)) && pool.kind == Kind::Frame
    }

    /// Lends the frame to the kernel: its address in the area. To be forgotten by its owner.
    #[inline]
    pub(in crate::packet) fn lend(&self) -> u64 {
        let place = self.place();
        if let Some(pool) = place.pool {
            pool.mark_lent(place.index, true);
            #[cfg(debug_assertions)]
            pool.live.fetch_sub(1, Ordering::Relaxed);
        }
        u64::from(place.index) * FRAME_BYTES as u64
    }

    /// Gives the pages behind the resident ones back to the kernel.
    #[cold]
    pub(in crate::packet) fn trim(&mut self) {
        let place = self.place();
        let Some(pool) = place.pool.filter(|pool| pool.kind == Kind::Socket) else { return };
        // SAFETY: whole pages of this slot's own part of an anonymous mapping; they read as zero
        // afterwards.
        unsafe {
            let tail = pool.at(place.index).add(RESIDENT);
            libc::madvise(tail.as_ptr().cast(), SOCKET_BYTES - RESIDENT, libc::MADV_DONTNEED);
        }
    }
}

impl Drop for Slot {
    #[inline]
    fn drop(&mut self) {
        let place = self.place();
        let (Some(pool), index) = (place.pool, place.index) else { return };
        #[cfg(debug_assertions)]
        pool.live.fetch_sub(1, Ordering::Relaxed);
        let kept = LOCAL.try_with(|locals| {
            let Ok(mut locals) = locals.try_borrow_mut() else { return false };
            let Some(local) = locals.get_mut(pool.kind as usize) else { return false };
            if !local.pool.is_some_and(|own| std::ptr::eq(own, pool)) {
                return false;
            }
            local.free.push(index);
            if local.free.len() > pool.local_max {
                // The oldest go: what was used last is still in the cache.
                local.free.drain(..RUN.min(pool.local_max)).for_each(|index| pool.restock(index));
            }
            true
        });
        if kept != Ok(true) {
            pool.restock(index);
        }
    }
}

impl Drop for Packet {
    #[inline]
    fn drop(&mut self) {
        // A long datagram made more pages resident than a slot may keep.
        if self.slot.high_water as usize > RESIDENT {
            self.slot.trim();
        }
    }
}
