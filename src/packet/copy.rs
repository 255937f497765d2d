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

/// Moves the bytes at `from` to `to`, where they have room; the places may overlap.
#[inline(always)]
pub(super) fn within(bytes: &mut [u8], from: Range<usize>, to: usize) {
    match from.len() {
        16..=32 => both::<16>(bytes, from, to),
        33..=64 => both::<32>(bytes, from, to),
        65..=128 => both::<64>(bytes, from, to),
        _ => bytes.copy_within(from, to),
    }
}

/// Both ends are read before either is written.
#[inline(always)]
fn both<const N: usize>(bytes: &mut [u8], from: Range<usize>, to: usize) {
    let len = from.len();
    let Some(there) = bytes.get(from) else { return };
    let (Some(first), Some(last)) = (there.first_chunk::<N>().copied(), there.last_chunk::<N>().copied()) else {
        return;
    };
    let Some(room) = bytes.get_mut(to..to + len) else { return };
    if let Some(room) = room.first_chunk_mut() {
        *room = first;
    }
    if let Some(room) = room.last_chunk_mut() {
        *room = last;
    }
}
