//! About how many different calls there were of late: linear counting in two windows of a minute.
//!
//! Written by one worker by plain stores, read by control. A window is a bitmap with the minute that it
//! is of; the worker clears it when it finds an older one.

use std::sync::atomic::{AtomicU64, Ordering};

/// Length of a window, milliseconds.
const WINDOW_MS: u64 = 60_000;
/// Words of a bitmap; counts to some ten thousand with an error of a few percent.
const WORDS: usize = 128;
const BITS: u64 = WORDS as u64 * 64;

#[derive(Debug)]
struct Window {
    /// Minutes since the start, plus one; 0: never used.
    minute: AtomicU64,
    bits: [AtomicU64; WORDS],
}

/// The calls that one worker saw of one endpoint.
#[derive(Debug)]
pub(super) struct Seen([Window; 2]);

impl Default for Seen {
    fn default() -> Self {
        let window = || Window { minute: AtomicU64::new(0), bits: [const { AtomicU64::new(0) }; WORDS] };
        Self([window(), window()])
    }
}

fn minute(now_ms: u64) -> u64 {
    now_ms / WINDOW_MS + 1
}

impl Seen {
    /// Notes a call, by a hash of its Call-ID. Only the worker that owns this may call it.
    #[cold]
    pub(super) fn note(&self, now_ms: u64, call: u64) {
        let minute = minute(now_ms);
        let [even, odd] = &self.0;
        let window = if minute.is_multiple_of(2) { even } else { odd };
        if window.minute.load(Ordering::Relaxed) != minute {
            window.bits.iter().for_each(|word| word.store(0, Ordering::Relaxed));
            window.minute.store(minute, Ordering::Release);
        }
        let bit = call >> 32 & (BITS - 1);
        if let Some(word) = window.bits.get((bit / 64) as usize) {
            word.store(word.load(Ordering::Relaxed) | 1 << (bit % 64), Ordering::Relaxed);
        }
    }

    /// About how many different calls are noted in all of these in this minute and the last.
    pub(super) fn distinct<'a>(all: impl Iterator<Item = &'a Self>, now_ms: u64) -> u64 {
        let now = minute(now_ms);
        let mut bits = [0_u64; WORDS];
        for window in all.flat_map(|seen| &seen.0) {
            let minute = window.minute.load(Ordering::Acquire);
            if minute == now || minute + 1 == now {
                let words = window.bits.iter().map(|word| word.load(Ordering::Relaxed));
                bits.iter_mut().zip(words).for_each(|(sum, word)| *sum |= word);
            }
        }
        let free = bits.iter().map(|word| u64::from(word.count_zeros())).sum::<u64>().max(1);
        (-(BITS as f64) * (free as f64 / BITS as f64).ln()).round() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(seen: &Seen, now_ms: u64, calls: std::ops::Range<u64>) {
        let key = crate::balance::Key(3, 4);
        calls.for_each(|call| seen.note(now_ms, key.hash24(&call.to_le_bytes())));
    }

    #[test]
    fn different_calls_are_counted_once_each_to_a_few_percent() {
        let seen = Seen::default();
        assert_eq!(Seen::distinct([&seen].into_iter(), 0), 0);
        for count in [1, 10, 1_000, 10_000] {
            note(&seen, 1_000, 0..count);
            note(&seen, 2_000, 0..count);
            let told = Seen::distinct([&seen].into_iter(), 3_000);
            assert!(told.abs_diff(count) * 20 <= count, "{told} of {count}");
        }
    }

    #[test]
    fn calls_are_forgotten_after_one_to_two_minutes() {
        let seen = Seen::default();
        let count = |now_ms| Seen::distinct([&seen].into_iter(), now_ms);
        note(&seen, 10_000, 0..100);
        assert!(count(119_000).abs_diff(100) < 5);
        assert_eq!(count(120_000), 0);
        note(&seen, 130_000, 0..7);
        assert_eq!(count(131_000), 7, "an old window is cleared before it is used again");
    }
}
