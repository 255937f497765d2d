//! Copies of up to some dozen bytes without a call.
//!
//! Used by `Packet`, whose pieces are mostly shorter than what a call to memcpy pays for. Both ends are
//! copied whole, which may overlap. Never copies a part.

use std::ops::Range;

/// Copies `from` to `to`, which is as long.
#[inline(always)]
pub(super) fn short(to: &mut [u8], from: &[u8]) {
    if !(16..=32).contains(&from.len()) {
        return to.copy_from_slice(from);
    }
    if let (Some(to), Some(from)) = (to.first_chunk_mut::<16>(), from.first_chunk()) {
        *to = *from;
    }
    if let (Some(to), Some(from)) = (to.last_chunk_mut::<16>(), from.last_chunk()) {
        *to = *from;
    }
}

/// Moves the bytes at `from` by `by` bytes towards the end, where they have room; the places may overlap.
/// What then stands in front of them may be anything.
#[inline(always)]
pub(super) fn forward(bytes: &mut [u8], from: Range<usize>, by: usize) {
    let moved = match from.len() {
        0..=32 => ending::<32>(bytes, from.end, by),
        33..=64 => ending::<64>(bytes, from.end, by),
        65..=128 => ending::<128>(bytes, from.end, by),
        _ => false,
    };
    if !moved && from.end + by <= bytes.len() {
        let to = from.start + by;
        bytes.copy_within(from, to);
    }
}

/// Moves the `N` bytes in front of `end`, if there are as many.
#[inline(always)]
fn ending<const N: usize>(bytes: &mut [u8], end: usize, by: usize) -> bool {
    let Some(from) = end.checked_sub(N) else { return false };
    let Some(moved) = bytes.get(from..).and_then(<[u8]>::first_chunk::<N>).copied() else { return false };
    let Some(room) = bytes.get_mut(from + by..).and_then(<[u8]>::first_chunk_mut::<N>) else { return false };
    *room = moved;
    true
}
