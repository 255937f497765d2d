//! What a node is worth to a slot: weighted rendezvous in integers, the same on every machine.
//!
//! Owns the score; the table asks it for every pair of slot and node. A node draws over the slots
//! not at random but in a permutation of its own, so that its draws are spread evenly; that halves
//! the variance of the shares and keeps rendezvous as it is, since no draw knows the other nodes.

use super::{Key, NodeId};

/// Fraction bits of the fixed-point logarithm.
const FRACTION: u32 = 44;
/// Bits that pick a row of [`LOG2`].
const ROW: u32 = 10;
/// Bits within a row, as many as the interpolation has room for.
const WITHIN: u32 = 28;
/// Bits of a draw below the slot's permuted place.
const JITTER: u32 = 32;

/// log2(1 + i / 1024), fixed point; squaring brings out one bit at a time.
#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler, which refuses a place out of bounds")]
const LOG2: [u64; (1 << ROW) + 1] = {
    let mut rows = [0; (1 << ROW) + 1];
    let mut row = 0;
    while row < 1 << ROW {
        let mut x = ((1 << ROW) + row as u64) << (62 - ROW);
        let mut bit = 0;
        while bit < FRACTION {
            x = ((x as u128 * x as u128) >> 62) as u64;
            rows[row] <<= 1;
            if x >> 63 == 1 {
                rows[row] |= 1;
                x >>= 1;
            }
            bit += 1;
        }
        row += 1;
    }
    rows[1 << ROW] = 1 << FRACTION;
    rows
};

/// Draws of one node: everything its scores depend on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Scorer {
    id: NodeId,
    place: u16,
    weight: u32,
    factors: [u32; 3],
    terms: [u32; 3],
    jitter: u64,
    inverse: u64,
}

/// A node's claim to a slot; the least is the best. No two nodes of a table have equal claims.
pub(super) type Claim = (u64, u32);

impl Scorer {
    /// The draws of node `id` of `weight`, which must not be 0, at `place` among the members.
    pub(super) fn new(key: &Key, id: NodeId, weight: u32, place: u16) -> Self {
        let word = |counter: u8| {
            let [a, b, c, d] = id.0.to_le_bytes();
            key.hash24(&[a, b, c, d, counter])
        };
        let [first, second, third] = [word(0), word(1), word(2)];
        Self {
            id,
            place,
            weight,
            factors: [first as u32 | 1, second as u32 | 1, third as u32 | 1],
            terms: [(first >> 32) as u32, (second >> 32) as u32, (third >> 32) as u32],
            jitter: word(3) | 1,
            inverse: u64::MAX / u64::from(weight.max(1)),
        }
    }

    pub(super) fn place(&self) -> u16 {
        self.place
    }

    pub(super) fn member(&self) -> (NodeId, u32) {
        (self.id, self.weight)
    }

    /// The node's claim to a slot of a table of 2^`slots_log2` slots: -log2(draw) / weight, the
    /// lesser id winning a tie.
    #[inline]
    pub(super) fn claim(&self, slot: u32, slots_log2: u32) -> Claim {
        let low = u64::from(slot + 1).wrapping_mul(self.jitter) >> (64 - JITTER);
        let draw = (u64::from(self.permuted(slot, slots_log2)) << JITTER | low) + 1;
        let cost = negative_log2(draw, slots_log2 + JITTER) << (64 - FRACTION - 6);
        (((u128::from(cost) * u128::from(self.inverse)) >> 64) as u64, self.id.0)
    }

    /// Place of `slot` in the node's own order of all slots. Every step can be undone, so no two
    /// slots meet.
    #[inline]
    fn permuted(&self, slot: u32, slots_log2: u32) -> u32 {
        let mask = (1 << slots_log2) - 1;
        let fold = slots_log2.div_ceil(2);
        let mut x = slot;
        for (factor, term) in self.factors.iter().zip(&self.terms) {
            x = x.wrapping_mul(*factor).wrapping_add(*term) & mask;
            x ^= x >> fold;
        }
        x
    }
}

/// -log2(`draw` / 2^`bits`), fixed point, for a draw of 1 to 2^`bits`; `bits` is at most 58.
#[inline]
fn negative_log2(draw: u64, bits: u32) -> u64 {
    let zeros = draw.leading_zeros();
    let mantissa = draw << zeros << 1;
    let row = (mantissa >> (64 - ROW)) as usize;
    let within = mantissa << ROW >> (64 - WITHIN);
    let (Some(&low), Some(&high)) = (LOG2.get(row), LOG2.get(row + 1)) else { return u64::MAX };
    let fraction = low + (((high - low) * within) >> WITHIN);
    (u64::from(bits + zeros - 63) << FRACTION) - fraction
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logarithms_are_right_to_seven_digits_and_fall_as_draws_rise() {
        let exact = |draw: u64| 50.0 - (draw as f64).log2();
        let mut draws: Vec<u64> = (0..50).flat_map(|bit| [1 << bit, (1 << bit) + (1 << bit >> 1)]).collect();
        draws.extend((0..100_000_u64).map(|i| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 14) + 1));
        draws.push(1 << 50);
        draws.sort_unstable();
        let mut last = u64::MAX;
        for draw in draws {
            let got = negative_log2(draw, 50);
            assert!(got <= last, "{draw}");
            last = got;
            let error = got as f64 / (1_u64 << FRACTION) as f64 - exact(draw);
            assert!(error.abs() < 3e-7, "{draw}: {error}");
        }
        assert_eq!(negative_log2(1 << 50, 50), 0);
    }

    #[test]
    fn a_node_draws_every_place_once() {
        for slots_log2 in [10, 13, 18] {
            let scorer = Scorer::new(&Key(3, 4), NodeId(77), 100, 0);
            let mut places: Vec<u32> = (0..1 << slots_log2).map(|slot| scorer.permuted(slot, slots_log2)).collect();
            places.sort_unstable();
            assert!(places.iter().copied().eq(0..1 << slots_log2));
        }
    }

    #[test]
    fn a_heavier_node_claims_no_slot_less_than_before() {
        let light = Scorer::new(&Key(3, 4), NodeId(77), 100, 0);
        let heavy = Scorer::new(&Key(3, 4), NodeId(77), 101, 0);
        assert!((0..1 << 14).all(|slot| heavy.claim(slot, 18) <= light.claim(slot, 18)));
    }
}
