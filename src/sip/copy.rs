//! Copies of up to some dozen bytes without a call.
//!
//! Driven by `text` and `edit`, whose pieces are shorter than what a call to memcpy pays for. Both
//! ends are copied in whole words, which may overlap. Never copies a part.

/// Copies `from` to `to`, which is as long.
#[inline(always)]
pub(super) fn short(to: &mut [u8], from: &[u8]) {
    match from.len() {
        0..8 => tiny(to, from),
        8..=16 => ends::<8>(to, from),
        17..=32 => ends::<16>(to, from),
        33..=64 => ends::<32>(to, from),
        65..=128 => ends::<64>(to, from),
        _ => to.copy_from_slice(from),
    }
}

/// Copies both ends, which meet.
#[inline(always)]
fn ends<const N: usize>(to: &mut [u8], from: &[u8]) {
    let (first, last) = (from.first_chunk::<N>(), from.last_chunk::<N>());
    if let (Some(to), Some(from)) = (to.first_chunk_mut(), first) {
        *to = *from;
    }
    if let (Some(to), Some(from)) = (to.last_chunk_mut(), last) {
        *to = *from;
    }
}

#[inline(always)]
fn tiny(to: &mut [u8], from: &[u8]) {
    match from.len() {
        4..8 => ends::<4>(to, from),
        2..4 => ends::<2>(to, from),
        _ => ends::<1>(to, from),
    }
}

/// Moves `start..end` to `to`, both within `bytes`; what was there may overlap.
#[inline(always)]
pub(super) fn within(bytes: &mut [u8], start: usize, end: usize, to: usize) {
    match end - start {
        16..=32 => both::<16>(bytes, start, end, to),
        33..=64 => both::<32>(bytes, start, end, to),
        _ => bytes.copy_within(start..end, to),
    }
}

/// Both ends are read before either is written.
#[inline(always)]
fn both<const N: usize>(bytes: &mut [u8], start: usize, end: usize, to: usize) {
    let Some(from) = bytes.get(start..end) else { return };
    let (Some(first), Some(last)) = (from.first_chunk::<N>().copied(), from.last_chunk::<N>().copied()) else { return };
    let Some(room) = bytes.get_mut(to..to + (end - start)) else { return };
    if let Some(room) = room.first_chunk_mut() {
        *room = first;
    }
    if let Some(room) = room.last_chunk_mut() {
        *room = last;
    }
}
