//! The cookies that nearly every call bears, those of a node and of nothing, in registers.
//!
//! Same text as `raw` makes of them, which `cookie` takes for all others. Head, target and MAC of
//! these fit 128 bits, so nothing is packed or unpacked through memory.

use super::base32;
use super::cookie::{COOKIE_MAX, MARK, VERSION};

const GROUP: u64 = (1 << 40) - 1;

/// A cookie's bytes: head and target at the top of a word, and the MAC that it claims.
pub(super) struct Short {
    pub(super) word: u64,
    pub(super) mac: u64,
}

/// Writes a cookie whose head and target are the upper `BYTES` bytes, 4 or 6, of `word`.
/// `mac` is over them.
#[inline(always)]
pub(super) fn write<const BYTES: usize>(word: u64, mac: u64, out: &mut [u8; COOKIE_MAX]) -> usize {
    let target = 8 * BYTES;
    let (high, low) = (word | mac >> target, mac << (64 - target));
    let (mark, room) = out.split_at_mut(MARK.len());
    mark.copy_from_slice(MARK);
    if let Some([first, second, third]) = room.as_chunks_mut::<8>().0.first_chunk_mut::<3>() {
        *first = base32::encode(high >> 24);
        *second = base32::encode((high << 16 | low >> 48) & GROUP);
        *third = base32::encode(low >> 8 & GROUP);
    }
    MARK.len() + base32::text_len(BYTES + 8)
}

/// Reads a text without its mark; none if it is not the text of such a cookie, whatever else it is.
#[inline]
pub(super) fn read(text: &[u8]) -> Option<Short> {
    match text.len() {
        20 => parted::<4, 0>(text),
        23 => parted::<6, 1>(text),
        _ => None,
    }
}

/// The same for a text as long as that of a node's cookie.
#[inline]
pub(super) fn read_node(text: &[u8; 23]) -> Option<Short> {
    parted::<6, 1>(text)
}

/// Reads a cookie of a kind whose head and target are `BYTES` bytes.
#[inline(always)]
fn parted<const BYTES: usize, const KIND: u8>(text: &[u8]) -> Option<Short> {
    let [first, second] = text.as_chunks::<8>().0.first_chunk::<2>()?;
    // The characters that the last two groups share are shifted out, `a`s, which stand for zeros, in.
    let spare = 8 * (24 - base32::text_len(BYTES + 8));
    let third =
        u64::from_be_bytes(*text.last_chunk::<8>()?) << spare | u64::from_be_bytes([b'a'; 8]) & ((1 << spare) - 1);
    let (first, second) = (base32::decode(*first)?, base32::decode(*second)?);
    let third = base32::decode(third.to_be_bytes())?;
    let (high, low) = (first << 24 | second >> 16, second << 48 | third << 8);
    let target = 8 * BYTES;
    let word = high & (u64::MAX << (64 - target));
    let mac = high << target | low >> (64 - target);
    let sound = (word >> 56) as u8 & 0xcf == VERSION << 6 | KIND && low << target == 0;
    sound.then_some(Short { word, mac })
}
