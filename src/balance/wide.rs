//! A keyed hash of texts that takes sixteen bytes a step, none of which waits for another.
//!
//! NH of UMAC (RFC 4418 5.2) with words of 64 bits: for texts of equal lengths, chosen without knowledge
//! of the keys, two sums of 128 bits are equal with a probability of 2^-64. SipHash-1-3 of the sum hides
//! it. The same on every instance and in every version. Used by the shard for what is shown in a Via.

use super::Key;
use super::key::OfPairs;

/// Steps of sixteen bytes that each of two texts may take.
const STEPS: usize = 8;
/// Longest text that is hashed so, bytes; a longer one is left to the caller.
pub(crate) const WIDE_MAX: usize = STEPS * 16;

/// The keys: two words for each step of either text, and for what stands beside them.
#[derive(Clone, PartialEq, Eq)]
pub struct Wide {
    one: [[u64; 2]; STEPS],
    other: [[u64; 2]; STEPS],
    beside: [u64; 2],
    hidden: OfPairs,
}

impl std::fmt::Debug for Wide {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Wide(..)")
    }
}

impl Wide {
    /// All keys, derived from one.
    #[must_use]
    pub(super) fn derive(key: &Key) -> Self {
        let word = |place: u64| key.hash24(&place.to_le_bytes());
        let steps = |first: u64| std::array::from_fn(|step| [0, 1].map(|half| word(first + 2 * step as u64 + half)));
        Self {
            one: steps(0x100),
            other: steps(0x200),
            beside: [word(1), word(2)],
            hidden: Key(word(3), word(4)).of_pairs(),
        }
    }

    /// The hash of two texts, of which none is longer than [`WIDE_MAX`], and two words. The words must
    /// tell the texts' lengths: nothing else keeps texts of unlike lengths apart.
    #[inline(always)]
    #[must_use]
    pub(crate) fn hash(&self, one: &[u8], other: &[u8], beside: [u64; 2]) -> u64 {
        let sum = product(beside, self.beside).wrapping_add(sum(one, &self.one)).wrapping_add(sum(other, &self.other));
        self.hidden.hash(sum as u64, (sum >> 64) as u64)
    }
}

#[inline(always)]
fn product([low, high]: [u64; 2], key: [u64; 2]) -> u128 {
    u128::from(low.wrapping_add(key[0])) * u128::from(high.wrapping_add(key[1]))
}

/// Where less than a step is left, the last sixteen bytes are taken whole: what was taken before is
/// taken once more, which for a given length tells texts apart as well.
#[inline(always)]
fn sum(text: &[u8], keys: &[[u64; 2]; STEPS]) -> u128 {
    let halves = |both: &[u8; 16]| {
        let both = u128::from_le_bytes(*both);
        [both as u64, (both >> 64) as u64]
    };
    let (whole, rest) = text.as_chunks::<16>();
    let mut keys = keys.iter();
    let mut sum = 0u128;
    for (both, key) in whole.iter().zip(&mut keys) {
        sum = sum.wrapping_add(product(halves(both), *key));
    }
    let Some(key) = keys.next().filter(|_| !rest.is_empty()) else { return sum };
    let last = match (text.last_chunk::<16>(), text.first_chunk::<8>(), text.last_chunk::<8>()) {
        (Some(last), ..) => halves(last),
        (None, Some(first), Some(last)) => [u64::from_le_bytes(*first), u64::from_le_bytes(*last)],
        _ => [rest.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte)), 0],
    };
    sum.wrapping_add(product(last, *key))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The same, step by step, on whole numbers of two words.
    fn slowly(wide: &Wide, one: &[u8], other: &[u8], beside: [u64; 2]) -> u64 {
        let mut pairs = vec![(beside, wide.beside)];
        for (text, keys) in [(one, &wide.one), (other, &wide.other)] {
            for (step, key) in (0..text.len().div_ceil(16)).zip(keys) {
                let last = 16 * (step + 1) > text.len();
                let word = |from: usize| {
                    let bytes = text.iter().skip(from).take(8).enumerate();
                    bytes.fold(0, |word, (place, byte)| word | u64::from(*byte) << (8 * place))
                };
                let halves = match text.len() {
                    0..8 => [word(0), 0],
                    length @ 8..16 => [word(0), word(length - 8)],
                    length if last => [word(length - 16), word(length - 8)],
                    _ => [word(16 * step), word(16 * step + 8)],
                };
                pairs.push((halves, *key));
            }
        }
        let sum = pairs.iter().fold(0u128, |sum, ([low, high], key)| {
            sum.wrapping_add(u128::from(low.wrapping_add(key[0])) * u128::from(high.wrapping_add(key[1])))
        });
        wide.hidden.hash(sum as u64, (sum >> 64) as u64)
    }

    fn text() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(any::<u8>(), 0..=WIDE_MAX)
    }

    proptest! {
        #[test]
        fn every_byte_counts_once_where_it_stands(one in text(), other in text(), beside: [u64; 2], a: u64, b: u64) {
            let wide = Wide::derive(&Key(a, b));
            prop_assert_eq!(wide.hash(&one, &other, beside), slowly(&wide, &one, &other, beside));
        }

        #[test]
        fn a_changed_bit_changes_the_hash(one in text(), other in text(), at: prop::sample::Index, bit in 0..8u8) {
            prop_assume!(!one.is_empty());
            let wide = Wide::derive(&Key(1, 2));
            let mut changed = one.clone();
            changed[at.index(one.len())] ^= 1 << bit;
            prop_assert_ne!(wide.hash(&one, &other, [0, 0]), wide.hash(&changed, &other, [0, 0]));
            prop_assert_ne!(wide.hash(&one, &other, [0, 0]), wide.hash(&other, &one, [0, 1 << bit]));
        }
    }

    #[test]
    fn hashes_are_those_of_every_other_version() {
        let wide = Wide::derive(&Key(1, 2));
        assert_eq!(wide.hash(b"z9hG4bK776asdhds-1234567", b"192.0.2.1:5060", [3, 4]), 11974143555005458368);
        assert_eq!(format!("{wide:?}"), "Wide(..)");
    }
}
