//! Timers.
//!
//! Owns a fixed number of them in a hierarchical wheel of milliseconds: arming, cancelling and firing
//! cost the same at ten timers and at ten million, and allocate nothing. Driven by whoever knows the
//! time, which comes in as a number; reads no clock and calls nobody.

/// Bits of the time that one level sorts by.
const LEVEL_BITS: u32 = 6;
/// Places of one level.
const PLACES: usize = 1 << LEVEL_BITS;
/// As many as cover all 64 bits, so that no time is too far away.
const LEVELS: usize = 11;
/// Timers moved to a lower level at most, for each that a caller wants fired: keeps one call short
/// when very many come due in the same second, and is more than each timer moves on its way.
const MOVES_PER_TIMER: usize = 16;
/// The end of a list.
const NONE: u32 = u32::MAX;
/// The list of a timer that is not armed.
const FREE: u16 = u16::MAX;

/// A timer that was armed; worthless once it fired or was cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Handle {
    index: u32,
    generation: u32,
}

/// All timers of the wheel are armed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

#[derive(Clone, Copy, Debug)]
struct Entry<K> {
    at_ms: u64,
    next: u32,
    previous: u32,
    generation: u32,
    /// Level and place, or [`FREE`].
    list: u16,
    /// None before the first use only.
    key: Option<K>,
}

/// Timers, each carrying a key.
///
/// A timer stands on the level of the highest bits in which its time differs from the wheel's, at the
/// place that those bits number; when the wheel's time reaches that place, it moves to a lower level
/// or fires. So every timer of a level is due before every one of the levels above.
#[derive(Debug)]
pub struct Wheel<K: Copy> {
    /// What is due before this has fired.
    elapsed_ms: u64,
    entries: Vec<Entry<K>>,
    free: u32,
    armed: usize,
    /// First entry of each level and place.
    heads: Vec<u32>,
    /// One bit a place: whether timers stand there.
    occupied: [u64; LEVELS],
    /// One bit a level: whether any place of it is occupied.
    levels: u16,
    /// The list that is being moved to lower levels, when a call ended before it was empty.
    moving: Option<u16>,
}

impl<K: Copy> Wheel<K> {
    /// A wheel of at most `capacity` timers that starts at `now_ms`.
    #[must_use]
    pub fn new(now_ms: u64, capacity: usize) -> Self {
        let capacity = u32::try_from(capacity).unwrap_or(NONE).min(NONE - 1);
        let entry = |index: u32| Entry {
            at_ms: 0,
            next: if index + 1 < capacity { index + 1 } else { NONE },
            previous: NONE,
            generation: 0,
            list: FREE,
            key: None,
        };
        Self {
            elapsed_ms: now_ms,
            entries: (0..capacity).map(entry).collect(),
            free: if capacity == 0 { NONE } else { 0 },
            armed: 0,
            heads: vec![NONE; LEVELS * PLACES],
            occupied: [0; LEVELS],
            levels: 0,
            moving: None,
        }
    }

    /// Arms a timer for `at_ms`; one in the past fires with the next [`Wheel::expire`].
    ///
    /// # Errors
    /// When all are armed.
    pub fn arm(&mut self, at_ms: u64, key: K) -> Result<Handle, Full> {
        let index = self.free;
        if index == NONE {
            return Err(Full);
        }
        let at_ms = at_ms.max(self.elapsed_ms);
        let entry = self.entry(index);
        entry.at_ms = at_ms;
        entry.key = Some(key);
        let (next, generation) = (entry.next, entry.generation);
        self.free = next;
        self.armed += 1;
        self.link(index, at_ms);
        Ok(Handle { index, generation })
    }

    /// Disarms a timer; false if it has fired or was cancelled.
    pub fn cancel(&mut self, timer: Handle) -> bool {
        let armed = self
            .entries
            .get(timer.index as usize)
            .is_some_and(|entry| entry.list != FREE && entry.generation == timer.generation);
        if armed {
            self.unlink(timer.index);
            self.release(timer.index);
        }
        armed
    }

    /// Fires at most `max` timers due at `now_ms`, earliest first, and says how many.
    ///
    /// May fire fewer although more are due, when many had to be moved; [`Wheel::next_at`] is then in
    /// the past.
    pub fn expire(&mut self, now_ms: u64, max: usize, mut fire: impl FnMut(K)) -> usize {
        let mut fired = 0;
        let mut moves = max.saturating_mul(MOVES_PER_TIMER);
        loop {
            if !self.move_down(&mut moves) {
                return fired;
            }
            let Some((list, at_ms)) = self.next_list().filter(|(_, at_ms)| *at_ms <= now_ms) else {
                self.elapsed_ms = self.elapsed_ms.max(now_ms);
                return fired;
            };
            self.elapsed_ms = at_ms;
            if usize::from(list) >= PLACES {
                self.moving = Some(list);
                continue;
            }
            if fired == max {
                return fired;
            }
            let index = self.head(list);
            let key = self.entry(index).key;
            self.unlink(index);
            self.release(index);
            fired += 1;
            if let Some(key) = key {
                fire(key);
            }
        }
    }

    /// When to call [`Wheel::expire`] again: never later than the next timer, at times earlier.
    #[must_use]
    pub fn next_at(&self) -> Option<u64> {
        let moving = self.moving.is_some_and(|list| self.head(list) != NONE);
        if moving { Some(self.elapsed_ms) } else { self.next_list().map(|(_, at_ms)| at_ms) }
    }

    /// Timers armed.
    #[must_use]
    pub fn len(&self) -> usize {
        self.armed
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.armed == 0
    }

    /// Empties the list that is being moved down; false if `moves` ran out before.
    fn move_down(&mut self, moves: &mut usize) -> bool {
        let Some(list) = self.moving else { return true };
        loop {
            let index = self.head(list);
            if index == NONE {
                self.moving = None;
                return true;
            }
            if *moves == 0 {
                return false;
            }
            *moves -= 1;
            self.unlink(index);
            let at_ms = self.entry(index).at_ms;
            self.link(index, at_ms);
        }
    }

    /// The occupied list whose time comes first, and when it does.
    fn next_list(&self) -> Option<(u16, u64)> {
        let level = self.levels.trailing_zeros();
        let places = self.occupied.get(level as usize)?;
        let shift = level * LEVEL_BITS;
        let place = places.trailing_zeros();
        // The wheel's own time above this level's bits, which all timers of the level share.
        let base = self.elapsed_ms.checked_shr(shift + LEVEL_BITS).map_or(0, |time| time << (shift + LEVEL_BITS));
        Some(((level * PLACES as u32 + place) as u16, base | u64::from(place) << shift))
    }

    fn link(&mut self, index: u32, at_ms: u64) {
        let level = (63 - ((at_ms ^ self.elapsed_ms) | (PLACES as u64 - 1)).leading_zeros()) / LEVEL_BITS;
        let place = (at_ms >> (level * LEVEL_BITS)) as usize % PLACES;
        let list = (level as usize * PLACES + place) as u16;
        let head = self.head(list);
        let entry = self.entry(index);
        entry.list = list;
        entry.next = head;
        entry.previous = NONE;
        if head != NONE {
            self.entry(head).previous = index;
        }
        self.set_head(list, index);
    }

    fn unlink(&mut self, index: u32) {
        let Entry { next, previous, list, .. } = *self.entry(index);
        if next != NONE {
            self.entry(next).previous = previous;
        }
        if previous == NONE {
            self.set_head(list, next);
        } else {
            self.entry(previous).next = next;
        }
    }

    /// Puts an unlinked entry among the free ones.
    fn release(&mut self, index: u32) {
        let free = self.free;
        let entry = self.entry(index);
        entry.list = FREE;
        entry.generation = entry.generation.wrapping_add(1);
        entry.next = free;
        self.free = index;
        self.armed -= 1;
    }

    #[expect(clippy::indexing_slicing, reason = "indices come from the wheel's own lists")]
    fn entry(&mut self, index: u32) -> &mut Entry<K> {
        &mut self.entries[index as usize]
    }

    fn head(&self, list: u16) -> u32 {
        self.heads.get(usize::from(list)).copied().unwrap_or(NONE)
    }

    #[expect(clippy::indexing_slicing, reason = "a list is a level below LEVELS and a place below PLACES")]
    fn set_head(&mut self, list: u16, index: u32) {
        let (level, place) = (usize::from(list) / PLACES, usize::from(list) % PLACES);
        self.heads[usize::from(list)] = index;
        let bit = 1u64 << place;
        if index == NONE {
            self.occupied[level] &= !bit;
            self.levels &= !(u16::from(self.occupied[level] == 0) << level);
        } else {
            self.occupied[level] |= bit;
            self.levels |= 1 << level;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Arm { in_ms: i64 },
        Cancel { which: usize },
        Expire { in_ms: u64, max: usize },
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let far = prop_oneof![-50..200i64, 0..5_000i64, 0..40_000_000i64, 0..i64::MAX];
        let ahead = prop_oneof![0..3u64, 0..300u64, 0..100_000u64, 0..1u64 << 40];
        let step = prop_oneof![
            4 => far.prop_map(|in_ms| Step::Arm { in_ms }),
            1 => (0..1_000usize).prop_map(|which| Step::Cancel { which }),
            2 => (ahead, 0..6usize).prop_map(|(in_ms, max)| Step::Expire { in_ms, max }),
        ];
        proptest::collection::vec(step, 1..300)
    }

    /// The reference: timers by time, and which handle each key had.
    #[derive(Default)]
    struct Sorted {
        due: BTreeMap<u64, BTreeSet<u32>>,
        armed: BTreeMap<u32, (u64, Handle)>,
        all: Vec<(u32, Handle)>,
    }

    impl Sorted {
        fn remove(&mut self, key: u32) -> Option<u64> {
            let (at_ms, _) = self.armed.remove(&key)?;
            let keys = self.due.get_mut(&at_ms).unwrap();
            keys.remove(&key);
            if keys.is_empty() {
                self.due.remove(&at_ms);
            }
            Some(at_ms)
        }

        fn first(&self) -> Option<u64> {
            self.due.keys().next().copied()
        }
    }

    fn expire_like_the_reference(wheel: &mut Wheel<u32>, sorted: &mut Sorted, now_ms: u64, max: usize) {
        let mut keys = Vec::new();
        let fired = wheel.expire(now_ms, max, |key| keys.push(key));
        assert_eq!(fired, keys.len());
        assert!(fired <= max);
        for key in &keys {
            let first = sorted.first().unwrap();
            let at_ms = sorted.remove(*key).expect("fired once, and never after a cancel");
            assert_eq!(at_ms, first, "earliest first");
            assert!(at_ms <= now_ms, "never early");
        }
        let more = sorted.first().is_some_and(|at_ms| at_ms <= now_ms);
        let told = wheel.next_at().is_some_and(|at_ms| at_ms <= now_ms);
        assert!(told || !more, "it says that more is due");
        if told && !more {
            // Only a list to move is left, which takes no more than a call a level.
            (0..LEVELS).for_each(|_| assert_eq!(wheel.expire(now_ms, 64, |_| ()), 0));
            assert!(wheel.next_at().is_none_or(|at_ms| at_ms > now_ms));
        }
    }

    proptest! {
        #[test]
        fn timers_fire_as_a_sorted_map_would_have_them(start in 0..1u64 << 62, steps in steps()) {
            let mut wheel = Wheel::new(start, 64);
            let mut sorted = Sorted::default();
            let (mut now_ms, mut key) = (start, 0u32);
            for step in steps {
                match step {
                    Step::Arm { in_ms } => {
                        let at_ms = now_ms.saturating_add_signed(in_ms);
                        match wheel.arm(at_ms, key) {
                            Ok(handle) => {
                                // What is armed for the past is due now, behind nothing.
                                let at_ms = at_ms.max(wheel.elapsed_ms);
                                sorted.due.entry(at_ms).or_default().insert(key);
                                sorted.armed.insert(key, (at_ms, handle));
                                sorted.all.push((key, handle));
                                key += 1;
                            }
                            Err(Full) => prop_assert_eq!(sorted.armed.len(), 64),
                        }
                    }
                    Step::Cancel { which } if !sorted.all.is_empty() => {
                        let (key, handle) = sorted.all[which % sorted.all.len()];
                        prop_assert_eq!(wheel.cancel(handle), sorted.remove(key).is_some());
                    }
                    Step::Cancel { .. } => {}
                    Step::Expire { in_ms, max } => {
                        now_ms += in_ms;
                        expire_like_the_reference(&mut wheel, &mut sorted, now_ms, max);
                        // Called again as often as it says, nothing stays behind.
                        for _ in 0..if max == 0 { 0 } else { 64 * LEVELS } {
                            expire_like_the_reference(&mut wheel, &mut sorted, now_ms, max);
                        }
                        prop_assert!(max == 0 || sorted.first().is_none_or(|at_ms| at_ms > now_ms), "never late");
                    }
                }
                prop_assert_eq!(wheel.len(), sorted.armed.len());
                prop_assert_eq!(wheel.next_at().is_some(), sorted.first().is_some());
                if let (Some(next), Some(first)) = (wheel.next_at(), sorted.first()) {
                    prop_assert!(next <= first, "woken late: {} after {}", next, first);
                }
            }
        }
    }

    #[test]
    fn a_crowd_due_in_one_second_is_moved_over_several_calls_and_fires_in_order() {
        let mut wheel = Wheel::new(0, 100_000);
        for key in 0..100_000u64 {
            wheel.arm(32_768 + key % 4_096, key).unwrap();
        }
        let mut calls = 0;
        let mut fired = Vec::new();
        while !wheel.is_empty() {
            wheel.expire(40_000, 256, |key| fired.push(32_768 + key % 4_096));
            assert!(fired.len() <= 256 * (calls + 1));
            calls += 1;
            assert!(wheel.next_at().is_none_or(|next| next <= 40_000), "it says that more is due");
        }
        assert_eq!(fired.len(), 100_000);
        assert!(fired.is_sorted());
        let first_full = 100_000 / 4_096 / MOVES_PER_TIMER;
        assert!(calls >= 100_000 / 256 + first_full, "no call moved them all: {calls} calls");
    }

    #[test]
    fn waking_when_told_fires_every_timer_on_its_millisecond() {
        let mut wheel = Wheel::new(1_000, 1_000);
        for key in 0..1_000u64 {
            wheel.arm(1_000 + key * 37, 1_000 + key * 37).unwrap();
        }
        let mut wakes = 0;
        while let Some(next) = wheel.next_at() {
            wheel.expire(next, 256, |at_ms| assert_eq!(at_ms, next));
            wakes += 1;
        }
        assert!(wakes <= 3_000, "a wake in vain a level at most: {wakes}");
    }

    #[test]
    fn a_full_wheel_refuses_and_takes_again_after_a_cancel_and_an_old_handle_does_nothing() {
        let mut wheel = Wheel::new(0, 2);
        let first = wheel.arm(5, 'a').unwrap();
        wheel.arm(6, 'b').unwrap();
        assert_eq!(wheel.arm(7, 'c'), Err(Full));
        assert!(wheel.cancel(first));
        assert!(!wheel.cancel(first));
        let again = wheel.arm(7, 'c').unwrap();
        assert!(!wheel.cancel(first), "its entry is another timer's now");
        assert_eq!(wheel.len(), 2);
        let mut fired = Vec::new();
        wheel.expire(100, 8, |key| fired.push(key));
        assert_eq!(fired, ['b', 'c']);
        assert!(!wheel.cancel(again));
        assert_eq!(Wheel::<u8>::new(0, 0).arm(1, 1), Err(Full));
    }

    #[test]
    fn a_clock_that_goes_back_fires_nothing_and_harms_nothing() {
        let mut wheel = Wheel::new(1_000, 4);
        wheel.arm(2_000, 'a').unwrap();
        assert_eq!(wheel.expire(1_500, 8, |_| ()), 0);
        assert_eq!(wheel.expire(10, 8, |_| ()), 0);
        wheel.arm(20, 'b').unwrap();
        let mut fired = Vec::new();
        assert_eq!(wheel.expire(1_500, 8, |key| fired.push(key)), 1);
        assert_eq!(wheel.expire(2_000, 8, |key| fired.push(key)), 1);
        assert_eq!(fired, ['b', 'a']);
    }
}
