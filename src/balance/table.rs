//! The table of a set: from the hash of a key to the members in the order of its preference.
//!
//! Built by `Plan::build` off the hot path, read by `pick`, never changed: health and intent skip
//! ranks and rebuild nothing. Depends on key, node ids and weights only, never on an order.

use std::collections::HashMap;

use super::score::{Claim, Scorer};
use super::{Key, NodeId};

/// Slots of a table by default, and at most.
pub const SLOTS: usize = 1 << SLOTS_LOG2_MAX;
/// Ranks stored a slot; deeper ones are computed when asked for.
pub const RANKS: usize = 4;

const SLOTS_LOG2_MAX: u8 = 18;
const SLOTS_LOG2_MIN: u8 = 10;
const NO_PLACE: u16 = u16::MAX;

/// The best [`RANKS`] claims to a slot, best first, with the members' places.
type Best = [(Claim, u16); RANKS];
const NO_CLAIM: Claim = (u64::MAX, u32::MAX);
const NO_CLAIMS: Best = [(NO_CLAIM, NO_PLACE); RANKS];

/// 2^k slots, each with the members in order of preference by weighted rendezvous.
#[derive(Clone, PartialEq, Eq)]
pub struct Table {
    slots_log2: u8,
    key: Key,
    members: Vec<(NodeId, u32)>,
    scorers: Vec<Scorer>,
    /// First ranks lie apart from the alternates: nearly every look-up ends here, in a quarter of
    /// the cache.
    first: Box<[u16]>,
    alternates: Box<[[u16; RANKS - 1]]>,
}

impl std::fmt::Debug for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Table")
            .field("slots", &self.first.len())
            .field("members", &self.members)
            .finish_non_exhaustive()
    }
}

impl Table {
    /// A table of 2^`slots_log2` slots (10 to 18; others are taken as the nearest of these) over
    /// `members`, ids with weights. Members of weight 0 keep their place and get nothing; weights
    /// beyond 65,535 and members beyond 65,534 are the caller's to refuse.
    #[must_use]
    pub fn build(slots_log2: u8, key: &Key, members: &[(NodeId, u32)]) -> Self {
        let mut table = Self::empty(slots_log2, key, members);
        for slot in 0..table.slots() {
            let best = table.best(slot, &table.scorers);
            table.store(slot, &best);
        }
        table
    }

    /// What [`Table::build`] makes of `members` with this table's key and size, at a fraction of
    /// its cost if most members stay.
    #[must_use]
    pub fn rebuild(&self, members: &[(NodeId, u32)]) -> Self {
        let mut table = Self::empty(self.slots_log2, &self.key, members);
        let old: HashMap<_, _> = self.members.iter().zip(0_usize..).map(|(member, place)| (*member, place)).collect();
        let mut heirs: Vec<Option<&Scorer>> = vec![None; self.members.len()];
        let mut added: Vec<&Scorer> = Vec::new();
        let scorers = std::mem::take(&mut table.scorers);
        for scorer in &scorers {
            match old.get(&scorer.member()).and_then(|place| heirs.get_mut(*place)) {
                Some(heir) => *heir = Some(scorer),
                None => added.push(scorer),
            }
        }
        for slot in 0..self.slots() {
            // A stored rank that is gone makes room for one that was not stored.
            let stored = self.stored(slot).map(|place| heirs.get(usize::from(place)).copied());
            let best = if stored.contains(&Some(None)) {
                table.best(slot, &scorers)
            } else {
                table.best(slot, stored.iter().copied().flatten().flatten().chain(added.iter().copied()))
            };
            table.store(slot, &best);
        }
        table.scorers = scorers;
        table
    }

    /// Whether [`Table::build`] with these would make this table.
    #[must_use]
    pub fn is_of(&self, slots_log2: u8, key: &Key, members: &[(NodeId, u32)]) -> bool {
        self.fits(slots_log2, key) && self.members == members
    }

    /// Whether [`Table::rebuild`] may start from this table.
    #[must_use]
    pub fn fits(&self, slots_log2: u8, key: &Key) -> bool {
        self.slots_log2 == clamped(slots_log2) && self.key == *key
    }

    /// Number of slots.
    #[inline]
    #[must_use]
    pub fn slots(&self) -> u32 {
        1 << self.slots_log2
    }

    /// Slot of a key's hash.
    #[inline]
    #[must_use]
    pub fn slot(&self, hash: u64) -> u32 {
        (hash >> (64 - self.slots_log2)) as u32
    }

    /// Places in `members` of all that have a weight, best first.
    #[inline]
    #[must_use]
    pub fn ranked(&self, slot: u32) -> Ranked<'_> {
        Ranked { table: self, slot, rank: 0, last: None }
    }

    fn empty(slots_log2: u8, key: &Key, members: &[(NodeId, u32)]) -> Self {
        let slots_log2 = clamped(slots_log2);
        let scorers = members
            .iter()
            .zip(0..NO_PLACE)
            .filter(|((_, weight), _)| *weight > 0)
            .map(|((id, weight), place)| Scorer::new(key, *id, *weight, place))
            .collect();
        Self {
            slots_log2,
            key: *key,
            members: members.to_vec(),
            scorers,
            first: vec![NO_PLACE; 1 << slots_log2].into_boxed_slice(),
            alternates: vec![[NO_PLACE; RANKS - 1]; 1 << slots_log2].into_boxed_slice(),
        }
    }

    #[inline]
    fn best<'s>(&self, slot: u32, scorers: impl IntoIterator<Item = &'s Scorer>) -> Best {
        let mut best = NO_CLAIMS;
        let mut worst = NO_CLAIM;
        for scorer in scorers {
            let claim = scorer.claim(slot, u32::from(self.slots_log2));
            if claim >= worst {
                continue;
            }
            let mut entry = (claim, scorer.place());
            for kept in &mut best {
                if entry.0 < kept.0 {
                    std::mem::swap(kept, &mut entry);
                }
            }
            let [.., last] = &best;
            worst = last.0;
        }
        best
    }

    fn store(&mut self, slot: u32, best: &Best) {
        let [first, alternates @ ..] = best.map(|(_, place)| place);
        if let Some(place) = self.first.get_mut(slot as usize) {
            *place = first;
        }
        if let Some(places) = self.alternates.get_mut(slot as usize) {
            *places = alternates;
        }
    }

    /// The stored ranks of a slot, [`NO_PLACE`] where there are fewer members.
    fn stored(&self, slot: u32) -> [u16; RANKS] {
        std::array::from_fn(|rank| self.stored_at(slot, rank).unwrap_or(NO_PLACE))
    }

    #[inline]
    fn stored_at(&self, slot: u32, rank: usize) -> Option<u16> {
        match rank.checked_sub(1) {
            None => self.first.get(slot as usize).copied(),
            Some(alternate) => self.alternates.get(slot as usize)?.get(alternate).copied(),
        }
    }

    /// The best claim to a slot behind `last`, with its place.
    #[cold]
    fn after(&self, slot: u32, last: Claim) -> Option<(Claim, u16)> {
        let bits = u32::from(self.slots_log2);
        self.scorers.iter().map(|s| (s.claim(slot, bits), s.place())).filter(|(claim, _)| *claim > last).min()
    }

    #[cold]
    fn claim_at(&self, slot: u32, place: u16) -> Option<Claim> {
        let scorer = self.scorers.iter().find(|scorer| scorer.place() == place)?;
        Some(scorer.claim(slot, u32::from(self.slots_log2)))
    }
}

fn clamped(slots_log2: u8) -> u8 {
    slots_log2.clamp(SLOTS_LOG2_MIN, SLOTS_LOG2_MAX)
}

/// The members of a slot, best first; see [`Table::ranked`]. Beyond the stored ranks a step costs a
/// pass over the members.
#[derive(Clone, Debug)]
pub struct Ranked<'t> {
    table: &'t Table,
    slot: u32,
    rank: usize,
    last: Option<Claim>,
}

impl Iterator for Ranked<'_> {
    type Item = u16;

    #[inline]
    fn next(&mut self) -> Option<u16> {
        if self.rank < RANKS {
            let place = self.table.stored_at(self.slot, self.rank)?;
            if place == NO_PLACE {
                return None;
            }
            self.rank += 1;
            return Some(place);
        }
        let last = match self.last {
            Some(last) => last,
            None => self.table.claim_at(self.slot, self.table.stored_at(self.slot, RANKS - 1)?)?,
        };
        let (claim, place) = self.table.after(self.slot, last)?;
        self.last = Some(claim);
        Some(place)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEY: Key = Key(0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210);

    fn members(ids: impl IntoIterator<Item = u32>) -> Vec<(NodeId, u32)> {
        ids.into_iter().map(|id| (NodeId(id), 100)).collect()
    }

    /// The ids of a slot in order of preference.
    fn ids(table: &Table, slot: u32) -> Vec<NodeId> {
        table.ranked(slot).map(|place| table.members[usize::from(place)].0).collect()
    }

    fn digest(table: &Table) -> u64 {
        let mut bytes = Vec::new();
        for slot in 0..table.slots() {
            for id in ids(table, slot) {
                bytes.extend_from_slice(&id.0.to_le_bytes());
            }
        }
        Key(0, 0).hash24(&bytes)
    }

    #[test]
    fn tables_are_those_of_every_other_version() {
        assert_eq!(digest(&Table::build(18, &KEY, &members([1, 2, 3]))), 0x7e4118eb5b437ce1);
        let weighted: Vec<(NodeId, u32)> =
            [(7, 1), (0, 65_535), (u32::MAX, 300), (9, 0), (80, 100), (81, 100), (82, 100)]
                .map(|(id, weight)| (NodeId(id), weight))
                .to_vec();
        assert_eq!(digest(&Table::build(12, &KEY, &weighted)), 0xa070535a19ef6e07);
    }

    #[test]
    fn every_member_with_a_weight_is_ranked_once_and_others_never() {
        for count in 1..12 {
            let mut all = members(0..count);
            all.push((NodeId(1000), 0));
            let table = Table::build(10, &KEY, &all);
            for slot in 0..table.slots() {
                let mut ranked = ids(&table, slot);
                ranked.sort_unstable();
                assert!(ranked.iter().map(|id| id.0).eq(0..count), "{count} members, slot {slot}");
            }
        }
    }

    #[test]
    fn a_table_without_members_ranks_nobody() {
        let table = Table::build(10, &KEY, &[(NodeId(1), 0)]);
        assert!((0..table.slots()).all(|slot| table.ranked(slot).next().is_none()));
        assert_eq!(Table::build(10, &KEY, &[]).ranked(0).next(), None);
    }

    #[test]
    fn ranks_follow_the_claims_beyond_the_stored_ones_too() {
        let table = Table::build(10, &KEY, &members(0..20));
        for slot in 0..table.slots() {
            let mut claims: Vec<_> = table.scorers.iter().map(|s| (s.claim(slot, 10), s.place())).collect();
            claims.sort_unstable();
            assert!(table.ranked(slot).eq(claims.iter().map(|(_, place)| *place)), "slot {slot}");
        }
    }

    #[test]
    fn the_order_of_members_has_no_effect() {
        let forth = Table::build(12, &KEY, &members(0..9));
        let back = Table::build(12, &KEY, &members((0..9).rev()));
        assert!((0..forth.slots()).all(|slot| ids(&forth, slot) == ids(&back, slot)));
    }

    #[test]
    fn another_key_makes_another_table() {
        let one = Table::build(12, &KEY, &members(0..10));
        let other = Table::build(12, &Key(KEY.0, KEY.1 ^ 1), &members(0..10));
        let same = (0..one.slots()).filter(|slot| ids(&one, *slot)[0] == ids(&other, *slot)[0]).count();
        assert!((205..615).contains(&same), "{same} of 4096 slots kept their node; one in ten would by chance");
    }

    #[test]
    fn every_hash_has_a_slot_and_sizes_out_of_range_become_the_nearest() {
        for (asked, slots) in [(0, 1 << 10), (10, 1 << 10), (14, 1 << 14), (18, SLOTS), (255, SLOTS)] {
            let table = Table::build(asked, &KEY, &members([1]));
            assert_eq!(table.slots() as usize, slots);
            assert_eq!(table.slot(0), 0);
            assert_eq!(table.slot(u64::MAX) as usize, slots - 1);
        }
    }

    #[test]
    fn equal_nodes_share_the_slots_more_evenly_than_chance() {
        // Shares by chance would spread by sqrt(1/30 * 29/30 * 2^18) = 92 slots.
        let mut squares = 0.0;
        for key in 0..8 {
            let table = Table::build(18, &Key(key, 99), &members(0..30));
            let mut shares = [0_u32; 30];
            table.first.iter().for_each(|place| shares[usize::from(*place)] += 1);
            let mean = f64::from(table.slots()) / 30.0;
            squares += shares.iter().map(|share| (f64::from(*share) - mean).powi(2)).sum::<f64>();
        }
        let deviation = (squares / 240.0).sqrt();
        assert!((50.0..80.0).contains(&deviation), "{deviation}");
    }

    /// What two members prefer is independent: the second ranks behind a node are as even as the first.
    #[test]
    fn a_lost_nodes_slots_spread_evenly_whoever_it_is() {
        let table = Table::build(18, &KEY, &members(0..10));
        for lost in 0..10_u16 {
            let mut heirs = [0_u32; 10];
            for slot in (0..table.slots()).filter(|slot| table.first[*slot as usize] == lost) {
                heirs[usize::from(table.ranked(slot).nth(1).unwrap())] += 1;
            }
            let mean = f64::from(heirs.iter().sum::<u32>()) / 9.0;
            for (heir, share) in heirs.iter().enumerate().filter(|(heir, _)| *heir != usize::from(lost)) {
                let error = f64::from(*share) / mean - 1.0;
                assert!(error.abs() < 0.08, "{heir} gets {error} more than its part of {lost}");
            }
        }
    }

    #[test]
    fn shares_follow_weights() {
        let weights = [1_000, 2_000, 3_000, 500, 6_000, 65_535];
        let all: Vec<(NodeId, u32)> = (0..).map(NodeId).zip(weights).collect();
        let table = Table::build(18, &KEY, &all);
        let mut shares = [0_u32; 6];
        table.first.iter().for_each(|place| shares[usize::from(*place)] += 1);
        let sum: u32 = weights.iter().sum();
        for (share, weight) in shares.iter().zip(weights) {
            let wanted = f64::from(weight) / f64::from(sum) * f64::from(table.slots());
            let error = f64::from(*share) / wanted - 1.0;
            assert!(error.abs() < 5.0 / wanted.sqrt(), "weight {weight}: {error}");
        }
    }

    #[test]
    fn a_greater_weight_only_gains_slots_and_a_lesser_one_only_loses_them() {
        let weights = |changed| {
            let mut all = members(0..8);
            all[3].1 = changed;
            all
        };
        let before = Table::build(14, &KEY, &weights(100));
        for (changed, gains) in [(130, true), (70, false)] {
            let after = Table::build(14, &KEY, &weights(changed));
            let mut moved = 0;
            for (was, is) in before.first.iter().zip(&after.first).filter(|(was, is)| was != is) {
                assert_eq!(if gains { *is } else { *was }, 3);
                moved += 1;
            }
            assert!(moved > 200, "{moved} of 16384 slots moved");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn a_table_derived_from_another_is_the_one_built_anew(
            old in prop::collection::btree_map(0..14_u32, 0..3_u32, 0..14),
            new in prop::collection::btree_map(0..14_u32, 0..3_u32, 0..14),
            backwards: bool,
        ) {
            let list = |map: std::collections::BTreeMap<u32, u32>| -> Vec<(NodeId, u32)> {
                map.into_iter().map(|(id, weight)| (NodeId(id), weight * 50)).collect()
            };
            let (old, mut new) = (list(old), list(new));
            if backwards {
                new.reverse();
            }
            let derived = Table::build(10, &KEY, &old).rebuild(&new);
            prop_assert!(derived == Table::build(10, &KEY, &new));
        }
    }
}
