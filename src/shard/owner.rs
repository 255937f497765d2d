//! The owner of a transaction: a hash of the value of its top Via's branch, counted in slots.
//!
//! Computed by every worker for the Via that it writes, and by the programs of `steer` in the kernel,
//! of which the older kind has 32 bits and no loops. So it is a sum of products of words with fixed
//! odd factors, none of which waits for another, and one step that mixes it. It hides nothing: who
//! wants all of his requests at one worker can repeat one branch.

use crate::sip::Message;

/// Bytes that have factors of their own; in longer texts they come round again.
pub(super) const PERIOD: usize = 128;
/// Multiplies the length.
pub(super) const LENGTH: u32 = 0x9e37_79b1;
/// Mixes the sum.
pub(super) const MIX: u32 = 0x85eb_ca6b;
/// How far the sum is shifted onto itself before it is mixed.
pub(super) const FOLD: u32 = 15;

/// By word of four bytes, the first of them highest.
pub(super) const FACTORS: [u32; PERIOD / 4] = factors();

/// Numbers without a pattern (splitmix64), odd.
const fn factors() -> [u32; PERIOD / 4] {
    let mut factors = [0; PERIOD / 4];
    let mut rest: &mut [u32] = &mut factors;
    let mut state: u64 = 0;
    while let [factor, behind @ ..] = rest {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = state;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        *factor = (word ^ (word >> 31)) as u32 | 1;
        rest = behind;
    }
    factors
}

/// The owner's place among `slots` worker ports, by the value of the top Via's branch; by the Call-ID
/// where there is none.
#[inline]
pub(super) fn owner_slot(bytes: &[u8], message: &Message, slots: u16, seed: u32) -> u16 {
    let branch = message.via.branch.of(bytes);
    slot(if branch.is_empty() { message.call_id.of(bytes) } else { branch }, slots, seed)
}

#[inline]
fn slot(text: &[u8], slots: u16, seed: u32) -> u16 {
    let seed = seed.wrapping_add((text.len() as u32).wrapping_mul(LENGTH));
    let sum = if text.len() > PERIOD { long(seed, text) } else { sum(seed, text) };
    let mixed = (sum ^ (sum >> FOLD)).wrapping_mul(MIX);
    (((mixed >> 16) * u32::from(slots)) >> 16) as u16
}

/// Adds the products of up to [`PERIOD`] bytes, as if zeros followed them.
#[inline(always)]
fn sum(seed: u32, text: &[u8]) -> u32 {
    let (whole, rest) = text.as_chunks::<8>();
    let mut factors = FACTORS.as_chunks::<2>().0.iter();
    let product = |word: u64, [high, low]: &[u32; 2]| {
        ((word >> 32) as u32).wrapping_mul(*high).wrapping_add((word as u32).wrapping_mul(*low))
    };
    let mut sum = seed;
    for (word, pair) in whole.iter().zip(factors.by_ref()) {
        sum = sum.wrapping_add(product(u64::from_be_bytes(*word), pair));
    }
    let Some(pair) = factors.next().filter(|_| !rest.is_empty()) else { return sum };
    let last = match text.last_chunk::<8>() {
        Some(last) => u64::from_be_bytes(*last) << (64 - 8 * rest.len()),
        None => rest.iter().fold(0, |word, byte| word << 8 | u64::from(*byte)) << (64 - 8 * rest.len()),
    };
    sum.wrapping_add(product(last, pair))
}

#[cold]
#[inline(never)]
fn long(seed: u32, text: &[u8]) -> u32 {
    text.chunks(PERIOD).fold(seed, sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_are_those_of_every_other_version() {
        let long = "z9hG4bK".repeat(40);
        let of = |text: &str| slot(text.as_bytes(), 1_024, 0x1234_5678);
        let found = ["z9hG4bK776asdhds", "z9hG4bK-28371-1-0", "x", &long[..128], &long].map(of);
        assert_eq!(found, [643, 658, 987, 881, 184]);
    }

    /// How far the fullest of `slots` slots is above the mean, in percent.
    fn excess(slots: u16, branches: impl Iterator<Item = String>) -> u64 {
        let mut full = vec![0_u64; usize::from(slots)];
        branches.for_each(|branch| full[usize::from(slot(branch.as_bytes(), slots, 0x9abc_def0))] += 1);
        full.iter().max().unwrap() * 100 * u64::from(slots) / full.iter().sum::<u64>() - 100
    }

    #[test]
    fn branches_as_user_agents_make_them_are_spread_evenly() {
        let stir = |n: u64| n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        for slots in [2, 4, 8, 10, 16, 64] {
            let n = 0..100_000_u64;
            let kinds = [
                excess(slots, n.clone().map(|n| format!("z9hG4bK-28371-{n}-0"))),
                excess(slots, n.clone().map(|n| format!("z9hG4bK{:016x}", stir(n)))),
                excess(slots, n.clone().map(|n| format!("z9hG4bK{n:08x}"))),
                excess(slots, n.clone().map(|n| format!("z9hG4bK_0002_{}-{n}", n % 7))),
                excess(slots, n.map(|n| format!("z9hG4bKPj{:032x}", u128::from(stir(n)) << 60))),
            ];
            assert!(kinds.iter().all(|excess| *excess <= if slots > 16 { 12 } else { 6 }), "{slots}: {kinds:?}");
        }
    }

    #[test]
    fn every_byte_and_the_length_count() {
        let text: Vec<u8> = (0..200).map(|n| b'a' + n % 26).collect();
        for length in [1, 3, 4, 7, 8, 9, 31, 127, 128, 129, 200] {
            let text = &text[..length];
            let differs = |place: usize| {
                (1..255).any(|change| {
                    let mut changed = text.to_vec();
                    changed[place] ^= change;
                    slot(&changed, 1_024, 1) != slot(text, 1_024, 1)
                })
            };
            assert!((0..length).all(differs), "{length}");
            assert_ne!(slot(&[text, b"\0"].concat(), 1_024, 1), slot(text, 1_024, 1), "{length}");
        }
    }
}
