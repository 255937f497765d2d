//! How long a worker's turns take, without its wait: a histogram in the worker's own memory.
//!
//! Written by plain stores of that worker for one turn in [`SAMPLED`], read by anyone. Reads no
//! clock.

use std::sync::atomic::{AtomicU64, Ordering};

/// One turn in so many is timed.
pub(super) const SAMPLED: u64 = 64;

/// Upper bounds of the buckets, nanoseconds; longer turns have a bucket of their own.
pub const BOUNDS_NS: [u64; 12] =
    [1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 10_000_000, 100_000_000];

/// The histogram.
#[derive(Debug, Default)]
pub struct Pace {
    buckets: [AtomicU64; BOUNDS_NS.len() + 1],
    sum_ns: AtomicU64,
}

/// What a histogram held when it was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Paced {
    /// Turns by bucket, not accumulated; the last is of those beyond all bounds.
    pub buckets: [u64; BOUNDS_NS.len() + 1],
    /// Time of all of them, nanoseconds.
    pub sum_ns: u64,
}

impl Pace {
    pub(super) fn record(&self, took_ns: u64) {
        let at = BOUNDS_NS.iter().position(|bound| took_ns <= *bound).unwrap_or(BOUNDS_NS.len());
        // One writer only.
        if let Some(bucket) = self.buckets.get(at) {
            bucket.store(bucket.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        }
        self.sum_ns.store(self.sum_ns.load(Ordering::Relaxed) + took_ns, Ordering::Relaxed);
    }

    /// What it holds.
    #[must_use]
    pub fn read(&self) -> Paced {
        let mut paced = Paced { sum_ns: self.sum_ns.load(Ordering::Relaxed), ..Paced::default() };
        for (read, bucket) in paced.buckets.iter_mut().zip(&self.buckets) {
            *read = bucket.load(Ordering::Relaxed);
        }
        paced
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_counts_in_the_first_bucket_that_holds_it() {
        let pace = Pace::default();
        [1, 1_000, 1_001, 100_000_000, 100_000_001, 5_000_000_000].into_iter().for_each(|ns| pace.record(ns));
        let Paced { buckets, sum_ns } = pace.read();
        assert_eq!((buckets[0], buckets[1], buckets[11], buckets[12]), (2, 1, 1, 2));
        assert_eq!((buckets.iter().sum::<u64>(), sum_ns), (6, 5_200_002_003));
    }
}
