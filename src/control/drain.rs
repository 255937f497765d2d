//! When a drain is over.
//!
//! A pure function of time and of how much is still pending; control's loop asks it.

use std::time::Duration;

use tokio::time::Instant;

/// How long nothing must be pending: a retransmission may be on its way.
const QUIET: Duration = Duration::from_secs(1);

/// A drain under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Drain {
    until: Instant,
    quiet_since: Option<Instant>,
}

impl Drain {
    pub(super) fn new(now: Instant, max_s: u32) -> Self {
        Self { until: now + Duration::from_secs(u64::from(max_s)), quiet_since: None }
    }

    /// Whether it is over, with `pending` calls and transactions not settled.
    pub(super) fn is_over(&mut self, now: Instant, pending: u64) -> bool {
        if pending > 0 {
            self.quiet_since = None;
            return now >= self.until;
        }
        let since = *self.quiet_since.get_or_insert(now);
        now >= self.until || now.duration_since(since) >= QUIET
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drain_ends_after_a_quiet_second_or_when_its_time_is_up() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut drain = Drain::new(start, 5);
        assert!(!drain.is_over(at(0), 0));
        assert!(!drain.is_over(at(900), 1), "pending again");
        assert!(!drain.is_over(at(1_000), 0));
        assert!(!drain.is_over(at(1_999), 0));
        assert!(drain.is_over(at(2_000), 0));
        let mut drain = Drain::new(start, 5);
        assert!(!drain.is_over(at(4_999), 9));
        assert!(drain.is_over(at(5_000), 9));
    }
}
