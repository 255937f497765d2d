//! When calls begin: so many a second whatever comes back, or one for each that ends.
//!
//! Owns the schedule of one worker, whose calls are every so-many-th of all. Each call has a time at
//! which it should begin, from which its latency counts; being late does not move it.

use crate::plan::Load;

/// Calls begun in one turn at most, so that answers are read in between.
const BURST_MAX: u32 = 64;

/// The schedule of one worker.
#[derive(Debug)]
pub(crate) struct Pace {
    load: Load,
    start_ns: u64,
    /// This worker's share: its place and how many there are.
    place: u64,
    workers: u64,
    begun: u64,
    /// Calls of this worker in all.
    total: u64,
    end_ns: u64,
    in_turn: u32,
}

impl Pace {
    /// `calls` and `time_ns` bound all workers together; none: no bound.
    pub(crate) fn new(
        load: Load,
        calls: Option<u64>,
        time_ns: Option<u64>,
        start_ns: u64,
        place: u64,
        workers: u64,
    ) -> Self {
        let workers = workers.max(1);
        let timed = match (load, time_ns) {
            (Load::Rate(rate), Some(time_ns)) => (rate * time_ns as f64 / 1e9).round() as u64,
            _ => u64::MAX,
        };
        let all = calls.unwrap_or(u64::MAX).min(timed);
        let total = if all == u64::MAX { all } else { all / workers + u64::from(place < all % workers) };
        let end_ns = time_ns.map_or(u64::MAX, |time_ns| start_ns.saturating_add(time_ns));
        Self { load, start_ns, place, workers, begun: 0, total, end_ns, in_turn: 0 }
    }

    /// A new turn.
    pub(crate) fn turn(&mut self) {
        self.in_turn = 0;
    }

    /// The time at which the next call should have begun, if it should by now. `calling`: calls of this
    /// worker under way.
    pub(crate) fn due(&mut self, now_ns: u64, calling: usize) -> Option<u64> {
        if self.over(now_ns) || self.in_turn >= BURST_MAX {
            return None;
        }
        let at_ns = match self.load {
            Load::Rate(_) => Some(self.next_ns()?).filter(|at_ns| *at_ns <= now_ns)?,
            Load::Window(window) => (calling < self.share(window)).then_some(now_ns)?,
        };
        self.begun += 1;
        self.in_turn += 1;
        Some(at_ns)
    }

    /// This worker's part of a window.
    fn share(&self, window: u32) -> usize {
        let window = u64::from(window);
        (window / self.workers + u64::from(self.place < window % self.workers)) as usize
    }

    /// When the next call of an open loop should begin; none if no more do.
    pub(crate) fn next_ns(&self) -> Option<u64> {
        let Load::Rate(rate) = self.load else { return None };
        let nth = self.place + self.begun * self.workers;
        (self.begun < self.total).then(|| self.start_ns + (nth as f64 * 1e9 / rate) as u64)
    }

    /// Whether no more calls begin.
    pub(crate) fn over(&self, now_ns: u64) -> bool {
        let timed = matches!(self.load, Load::Window(_)) && now_ns >= self.end_ns;
        self.begun >= self.total || timed
    }

    /// Begins no more calls.
    pub(crate) fn stop(&mut self) {
        self.total = self.begun;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_turn_moves_no_call() {
        let mut pace = Pace::new(Load::Rate(1_000.0), Some(5), None, 0, 0, 1);
        assert_eq!(pace.due(0, 0), Some(0));
        assert_eq!(pace.due(0, 0), None);
        let late: Vec<_> = std::iter::from_fn(|| pace.due(10_000_000, 0)).collect();
        assert_eq!(late, [1_000_000, 2_000_000, 3_000_000, 4_000_000]);
        assert!(pace.over(10_000_000));
    }

    #[test]
    fn workers_share_a_rate_and_a_window_without_a_rest() {
        let mut times = Vec::new();
        for place in 0..3 {
            let mut pace = Pace::new(Load::Rate(10.0), None, Some(1_000_000_000), 0, place, 3);
            times.extend(std::iter::from_fn(|| pace.due(2_000_000_000, 0)));
        }
        times.sort_unstable();
        assert_eq!(times, (0..10).map(|nth| nth * 100_000_000).collect::<Vec<_>>());

        let mut begun = 0;
        for place in 0..3 {
            let mut pace = Pace::new(Load::Window(10), Some(100), None, 0, place, 3);
            let mut calling = 0;
            while pace.due(5, calling).is_some() {
                calling += 1;
            }
            begun += calling;
        }
        assert_eq!(begun, 10);
    }

    #[test]
    fn a_closed_loop_ends_with_its_time() {
        let mut pace = Pace::new(Load::Window(1), None, Some(1_000), 500, 0, 1);
        assert_eq!(pace.due(1_499, 0), Some(1_499));
        assert_eq!(pace.due(1_500, 0), None);
        assert!(pace.over(1_500));
    }
}
