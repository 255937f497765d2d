//! The cookies that nearly every call bears, those of a node and of nothing, in registers.
//!
//! Same text as `raw` makes of them, which `cookie` takes for all others. Head, target and MAC of
//! these fit 128 bits, so nothing is packed or unpacked through memory.

use super::base32;
use super::cookie::{COOKIE_MAX, MARK, VERSION};

/// A cookie's bytes: head and target at the top of a word, and the MAC that it claims.
pub(super) struct Short {
    pub(super) word: u64,
    pub(super) mac: u64,
}

/// Writes a cookie whose head and target are the upper `bytes` bytes, 4 or 6, of `word`.
/// `mac` is over them.
#[inline(always)]
pub(super) fn write(word: u64, bytes: u64, mac: u64, out: &mut [u8; COOKIE_MAX]) -> usize {
    let (high, low) = (word | mac >> ((8 * bytes) & 63), mac << ((64 - 8 * bytes) & 63));
    if let Some((mark, room)) = out.split_first_chunk_mut()
        && let Some(room) = room.first_chunk_mut()
    {
        (*mark, *room) = (*MARK, base32::encode_row(high, low));
    }
    MARK.len() + base32::text_len(bytes as usize + 8)
}

/// Reads a text without its mark; none if it is not the text of such a cookie, whatever else it is.
#[inline]
pub(super) fn read(text: &[u8]) -> Option<Short> {
    match text.len() {
        20 => parted::<20, 4, 0>(text.try_into().ok()?),
        23 => parted::<23, 6, 1>(text.try_into().ok()?),
        _ => None,
    }
}

/// The same for a text as long as that of a node's cookie.
#[inline]
pub(super) fn read_node(text: &[u8; 23]) -> Option<Short> {
    parted::<23, 6, 1>(text)
}

/// Reads a cookie of a kind whose head and target are `BYTES` bytes.
#[inline(always)]
fn parted<const LEN: usize, const BYTES: usize, const KIND: u8>(text: &[u8; LEN]) -> Option<Short> {
    let (high, low) = base32::decode_row(text)?;
    let target = 8 * BYTES;
    let word = high & (u64::MAX << (64 - target));
    let mac = high << target | low >> (64 - target);
    let sound = (word >> 56) as u8 & 0xcf == VERSION << 6 | KIND && low << target == 0;
    sound.then_some(Short { word, mac })
}
