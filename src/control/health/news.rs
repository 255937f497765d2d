//! What is worth telling again: of what may happen many times a second, the first in a minute.
//!
//! One for each endpoint; asked by its monitor, with the time. Tells nothing itself.

use crate::balance::Health;

const TOLD_US: u64 = 60_000_000;

/// When what was last told.
#[derive(Debug, Default)]
pub(super) struct News {
    /// That the cap keeps the endpoint in.
    held_us: Option<u64>,
    /// That the endpoint is in doubt; and whether the doubt of now was told.
    doubted_us: Option<u64>,
    doubt_told: bool,
}

impl News {
    /// The cap keeps it in.
    pub(super) fn held(&mut self, now_us: u64) -> bool {
        due(&mut self.held_us, now_us)
    }

    /// Its health changes. Forged ICMP errors may raise doubts four times a second that a probe settles.
    pub(super) fn health(&mut self, now_us: u64, before: Health, after: Health) -> bool {
        match (before, after) {
            (Health::Up, Health::Probing) => {
                self.doubt_told = due(&mut self.doubted_us, now_us);
                self.doubt_told
            }
            (Health::Probing, Health::Up) => self.doubt_told,
            (_, Health::Probing) => {
                self.doubt_told = true;
                true
            }
            (_, Health::Up | Health::Down) => true,
        }
    }
}

/// Whether something was told long enough ago; then it is told now.
fn due(told_us: &mut Option<u64>, now_us: u64) -> bool {
    let due = told_us.is_none_or(|at_us| now_us >= at_us + TOLD_US);
    if due {
        *told_us = Some(now_us);
    }
    due
}

#[cfg(test)]
mod tests {
    use super::*;
    use Health::{Down, Probing, Up};

    const S: u64 = 1_000_000;

    #[test]
    fn that_the_cap_keeps_a_node_in_is_told_once_a_minute_however_often_it_does() {
        let mut news = News::default();
        assert_eq!((0..180).filter(|second| news.held(second * S)).count(), 3);
    }

    #[test]
    fn doubts_that_are_settled_are_told_once_a_minute_and_what_is_lost_or_found_always() {
        let mut news = News::default();
        let mut told = [0; 2];
        for quarter in 0..4 * 120 {
            told[0] += u32::from(news.health(quarter * S / 4, Up, Probing));
            told[1] += u32::from(news.health(quarter * S / 4 + 1, Probing, Up));
        }
        assert_eq!(told, [2, 2], "an end for each begin");
        assert!(!news.health(119 * S, Up, Probing) && news.health(119 * S, Probing, Down));
        assert!(news.health(119 * S, Down, Up), "whatever was told of the doubt");
        assert!(!news.health(119 * S, Up, Probing), "the minute is not over");
        assert!(news.health(119 * S, Down, Probing) && news.health(119 * S, Probing, Up));
    }
}
