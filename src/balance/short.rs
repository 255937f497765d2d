//! The cookies that nearly every call bears, those of a node and of nothing, in registers.
//!
//! Same text as `raw` makes of them, which `cookie` takes for all others. Head, target and MAC of
//! these fit 128 bits, so nothing is packed or unpacked through memory.

use super::Key;
use super::base32;
use super::cookie::{COOKIE_MAX, MARK, VERSION};

const GROUP: u128 = (1 << 40) - 1;

/// A cookie's bytes: head and target at the top of a word, and the MAC that it claims.
pub(super) struct Short {
    pub(super) word: u64,
    pub(super) mac: u64,
}

/// Writes a cookie whose head and target are the upper `bytes` bytes, 4 or 6, of `word`.
#[inline]
pub(super) fn sign(key: &Key, word: u64, bytes: usize, call: Option<u64>, out: &mut [u8; COOKIE_MAX]) -> usize {
    let mac = key.hash24_short(word, call);
    let bits = u128::from(word) << 64 | u128::from(mac) << (64 - 8 * bytes);
    let (mark, room) = out.split_at_mut(MARK.len());
    mark.copy_from_slice(MARK);
    if let Some([first, second, third]) = room.as_chunks_mut::<8>().0.first_chunk_mut::<3>() {
        *first = base32::encode((bits >> 88) as u64);
        *second = base32::encode((bits >> 48 & GROUP) as u64);
        *third = base32::encode((bits >> 8 & GROUP) as u64);
    }
    MARK.len() + base32::text_len(bytes + 8)
}

/// Reads a text without its mark; none if it is not the text of such a cookie, whatever else it is.
#[inline]
pub(super) fn read(text: &[u8]) -> Option<Short> {
    let bytes = match text.len() {
        20 => 4,
        23 => 6,
        _ => return None,
    };
    let [first, second] = text.as_chunks::<8>().0.first_chunk::<2>()?;
    // The characters that the last two groups share are shifted out, `a`s, which stand for zeros, in.
    let spare = 8 * (24 - text.len());
    let third =
        u64::from_be_bytes(*text.last_chunk::<8>()?) << spare | u64::from_be_bytes([b'a'; 8]) & ((1 << spare) - 1);
    let (first, second) = (base32::decode(*first)?, base32::decode(*second)?);
    let third = base32::decode(third.to_be_bytes())?;
    let bits = u128::from(first) << 88 | u128::from(second) << 48 | u128::from(third) << 8;
    let word = (bits >> 64) as u64 & (u64::MAX << (64 - 8 * bytes));
    let mac = (bits >> (64 - 8 * bytes)) as u64;
    let kind = if bytes == 4 { 0 } else { 1 };
    let spare = (bits as u64) & ((1 << (64 - 8 * bytes)) - 1);
    ((word >> 56) as u8 & 0xcf == VERSION << 6 | kind && spare == 0).then_some(Short { word, mac })
}
