//! Marks: which node a request without To tag went to, so that what belongs to it follows
//! (16.11, last paragraphs).
//!
//! One fixed table that all workers share; a mark is one 64-bit word, left by one relaxed store.
//! Never grows, never locks: in a full bucket the mark that would end first gives way.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::balance::MarkIx;

/// How long a mark lives after the final response: 64 * T1, seconds (17.1.1.2, 17.2.1).
pub const SETTLED_S: u32 = 32;
/// Longest `ringing_max_s` that a mark can hold.
pub const RINGING_MAX_S: u32 = 3_600;

const WAYS: usize = 8;
const NODE_BITS: u32 = 16;
/// Of the node's bits, that which tells the backup of a pair.
const BACKUP: u64 = 1 << 15;
const NODE_MASK: u64 = BACKUP - 1;
const TIME_BITS: u32 = 18;
const TIME_MASK: u64 = (1 << TIME_BITS) - 1;
const SETTLED: u64 = 1 << (NODE_BITS + TIME_BITS);
const MOVED: u64 = SETTLED << 1;
const PRINT_SHIFT: u32 = NODE_BITS + TIME_BITS + 2;

/// What a mark says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The node.
    pub node: MarkIx,
    /// The request went to the backup of that pair.
    pub backup: bool,
    /// It was moved once already, so it stays where it is.
    pub moved: bool,
    /// The final response has passed.
    pub settled: bool,
}

/// A mark and where it stands.
pub(super) struct Found<'a> {
    cell: &'a AtomicU64,
    pub(super) mark: Mark,
}

#[derive(Debug)]
#[repr(align(64))]
struct Bucket([AtomicU64; WAYS]);

/// The table. Words: fingerprint, moved, settled, end in seconds modulo 2^18, backup, node.
#[derive(Debug)]
pub struct Marks {
    buckets: Box<[Bucket]>,
    ringing_s: u32,
}

impl Marks {
    /// A table for `marks_max` marks, rounded up to whole buckets and a power of two; a mark without
    /// a final response lives `ringing_s` seconds, at most [`RINGING_MAX_S`].
    #[must_use]
    pub fn new(marks_max: usize, ringing_s: u32) -> Self {
        let count = marks_max.div_ceil(WAYS).next_power_of_two();
        let buckets = (0..count).map(|_| Bucket([const { AtomicU64::new(0) }; WAYS])).collect();
        Self { buckets, ringing_s: ringing_s.clamp(1, RINGING_MAX_S) }
    }

    /// The live mark under a hash.
    #[inline]
    #[must_use]
    pub fn find(&self, hash: u64, now_ms: u64) -> Option<Mark> {
        Some(self.found(hash, now_ms)?.mark)
    }

    /// The live mark under a hash, with its place.
    #[inline]
    pub(super) fn found(&self, hash: u64, now_ms: u64) -> Option<Found<'_>> {
        let (cell, word) = self.locate(hash, now_ms)?;
        let node = MarkIx((word & NODE_MASK) as u16);
        let backup = word & BACKUP != 0;
        Some(Found { cell, mark: Mark { node, backup, moved: word & MOVED != 0, settled: word & SETTLED != 0 } })
    }

    /// Leaves or renews a mark. `rings`: a final response may be long in coming, as for INVITE. True
    /// if a live mark of something else had to go.
    #[inline]
    pub fn leave(&self, hash: u64, now_ms: u64, mark: Mark, rings: bool) -> bool {
        match self.found(hash, now_ms) {
            Some(found) => self.renew(&found, hash, now_ms, mark, rings),
            None => return self.add(hash, now_ms, mark, rings),
        }
        false
    }

    /// Renews a mark where it was found.
    #[inline]
    pub(super) fn renew(&self, found: &Found<'_>, hash: u64, now_ms: u64, mark: Mark, rings: bool) {
        found.cell.store(word(hash, now_ms, self.life_s(mark, rings), mark), Ordering::Relaxed);
    }

    #[inline]
    fn life_s(&self, mark: Mark, rings: bool) -> u32 {
        if mark.settled || !rings { SETTLED_S } else { self.ringing_s }
    }

    /// Leaves a mark that is not there. True if a live one had to go.
    pub(super) fn add(&self, hash: u64, now_ms: u64, mark: Mark, rings: bool) -> bool {
        let word = word(hash, now_ms, self.life_s(mark, rings), mark);
        let Some(bucket) = self.bucket(hash) else { return false };
        let mut victim = None;
        for cell in &bucket.0 {
            let left = self.left_s(cell.load(Ordering::Relaxed), now_ms);
            if victim.is_none_or(|(least, _)| left < least) {
                victim = Some((left, cell));
            }
            if left == 0 {
                break;
            }
        }
        let Some((left, cell)) = victim else { return false };
        cell.store(word, Ordering::Relaxed);
        left > 0
    }

    /// Tells that the final response has passed: the mark ends 32 s from now. False if there is none
    /// that waits for it: the response was seen before, or belongs to nothing that leaves a mark.
    #[inline]
    pub fn settle(&self, hash: u64, now_ms: u64) -> bool {
        let Some((cell, word)) = self.locate(hash, now_ms).filter(|(_, word)| word & SETTLED == 0) else {
            return false;
        };
        let end = ends(now_ms, SETTLED_S) << NODE_BITS;
        cell.store((word & !(TIME_MASK << NODE_BITS)) | end | SETTLED, Ordering::Relaxed);
        true
    }

    /// How many requests still wait for their final response; walks the whole table, for control.
    #[must_use]
    pub fn pending(&self, now_ms: u64) -> u64 {
        let cells = self.buckets.iter().flat_map(|bucket| &bucket.0);
        let waits = |word: u64| word & SETTLED == 0 && self.left_s(word, now_ms) > 0;
        cells.filter(|cell| waits(cell.load(Ordering::Relaxed))).count() as u64
    }

    /// The same by node: the place in the list is the [`MarkIx`].
    #[must_use]
    pub fn pending_by_node(&self, now_ms: u64) -> Vec<u64> {
        let mut counts = Vec::new();
        for cell in self.buckets.iter().flat_map(|bucket| &bucket.0) {
            let word = cell.load(Ordering::Relaxed);
            if word & SETTLED != 0 || self.left_s(word, now_ms) == 0 {
                continue;
            }
            let node = (word & NODE_MASK) as usize;
            if counts.len() <= node {
                counts.resize(node + 1, 0);
            }
            if let Some(count) = counts.get_mut(node) {
                *count += 1;
            }
        }
        counts
    }

    /// How many marks the table holds at most.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.buckets.len() * WAYS
    }

    /// Seconds that a word still lives, 0 for a dead or empty one. Seconds count modulo 2^18 (3
    /// days); what is further ahead than any mark may be is long over.
    #[inline]
    fn left_s(&self, word: u64, now_ms: u64) -> u64 {
        if word == 0 {
            return 0;
        }
        let left = ((word >> NODE_BITS) & TIME_MASK).wrapping_sub(now_ms / 1000) & TIME_MASK;
        if left > u64::from(self.ringing_s.max(SETTLED_S)) + 1 { 0 } else { left }
    }

    #[inline]
    fn bucket(&self, hash: u64) -> Option<&Bucket> {
        self.buckets.get(hash as usize & (self.buckets.len() - 1))
    }

    #[inline]
    fn locate(&self, hash: u64, now_ms: u64) -> Option<(&AtomicU64, u64)> {
        let print = print(hash);
        self.bucket(hash)?.0.iter().find_map(|cell| {
            let word = cell.load(Ordering::Relaxed);
            (word >> PRINT_SHIFT == print && self.left_s(word, now_ms) > 0).then_some((cell, word))
        })
    }
}

/// Upper bits of the hash, never 0, so that no mark looks like an empty word.
#[inline]
fn print(hash: u64) -> u64 {
    (hash >> PRINT_SHIFT).max(1)
}

#[inline]
fn ends(now_ms: u64, life_s: u32) -> u64 {
    (now_ms / 1000 + u64::from(life_s) + 1) & TIME_MASK
}

#[inline]
fn word(hash: u64, now_ms: u64, life_s: u32, mark: Mark) -> u64 {
    let flags = if mark.settled { SETTLED } else { 0 }
        | if mark.moved { MOVED } else { 0 }
        | if mark.backup { BACKUP } else { 0 };
    (print(hash) << PRINT_SHIFT) | flags | (ends(now_ms, life_s) << NODE_BITS) | (u64::from(mark.node.0) & NODE_MASK)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(node: u16) -> Mark {
        Mark { node: MarkIx(node), backup: false, moved: false, settled: false }
    }

    #[test]
    fn a_mark_rings_for_its_time_and_lives_32_s_after_the_final_response() {
        let marks = Marks::new(64, 300);
        assert!(!marks.leave(7 << 40, 0, mark(9), true));
        assert_eq!(marks.find(7 << 40, 299_999), Some(mark(9)));
        assert_eq!(marks.find(7 << 40, 302_000), None);
        assert!(marks.settle(7 << 40, 100_000) && !marks.settle(8 << 40, 100_000));
        assert_eq!(marks.find(7 << 40, 131_999).map(|m| m.settled), Some(true));
        assert!(!marks.settle(7 << 40, 131_999), "it was seen before");
        assert_eq!(marks.find(7 << 40, 134_000), None, "a second final response renews nothing");
    }

    #[test]
    fn the_request_repeated_with_credentials_rings_again() {
        let marks = Marks::new(64, 300);
        marks.leave(7 << 40, 0, mark(9), true);
        marks.settle(7 << 40, 1_000);
        marks.leave(7 << 40, 2_000, mark(9), true);
        assert_eq!(marks.find(7 << 40, 200_000), Some(mark(9)));
        assert_eq!(marks.pending(200_000), 1);
    }

    #[test]
    fn what_waits_is_counted_by_node() {
        let marks = Marks::new(64, 300);
        marks.leave(7 << 40, 0, mark(2), true);
        marks.leave(8 << 40, 0, mark(2), true);
        marks.leave(9 << 40, 0, mark(0), true);
        assert_eq!(marks.pending_by_node(2_000), [1, 0, 2]);
        marks.settle(8 << 40, 1_000);
        assert_eq!(marks.pending_by_node(2_000), [1, 0, 1]);
        assert!(marks.pending_by_node(400_000).is_empty());
    }

    #[test]
    fn a_full_bucket_gives_up_the_mark_that_ends_first() {
        let marks = Marks::new(8, 300);
        for n in 1..=8_u64 {
            assert!(!marks.leave(n << 40, n * 1_000, mark(n as u16), true));
        }
        assert!(marks.leave(9 << 40, 9_000, mark(9), true));
        assert_eq!(marks.find(1 << 40, 9_000), None);
        let rest = (2..=9_u64).filter(|n| marks.find(n << 40, 9_000).is_some()).count();
        assert_eq!(rest, 8);
        assert!(!marks.leave(10 << 40, 400_000, mark(10), true), "dead marks are free places");
    }

    #[test]
    fn what_is_pending_is_told_by_node_whichever_half_of_a_pair_has_it() {
        let marks = Marks::new(64, 300);
        for (call, node) in [(1_u64, 0), (2, 5), (3, 5), (4, 5)] {
            let mark = Mark { backup: call == 3, ..mark(node) };
            marks.leave(call << 40, 0, mark, true);
            assert_eq!(marks.find(call << 40, 0), Some(mark));
        }
        marks.settle(4 << 40, 0);
        assert_eq!(marks.pending_by_node(1_000), [1, 0, 0, 0, 0, 2]);
        assert!(marks.pending_by_node(400_000).is_empty());
    }

    #[test]
    fn time_may_wrap() {
        let marks = Marks::new(8, 300);
        let wrap_ms = (1_u64 << 18) * 1000;
        marks.leave(5 << 40, wrap_ms - 10_000, mark(3), true);
        assert_eq!(marks.find(5 << 40, wrap_ms + 100_000), Some(mark(3)));
        assert_eq!(marks.find(5 << 40, wrap_ms + 400_000), None);
    }
}
