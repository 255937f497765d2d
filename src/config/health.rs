//! `[health]` and `[set.health]`: how nodes are watched.
//!
//! What a set does not say is as `[health]` says, and what that does not say has a default.

use std::ops::Range;

use super::fault::Source;
use super::file::{self, Number};
use crate::balance::HealthPolicy;

/// A quarter of a second to ten minutes.
const INTERVAL_MS: Range<i64> = 250..600_001;
const TIMEOUT_MS: Range<i64> = 20..10_001;
const ROW: Range<i64> = 1..101;
const HOMING: Range<i64> = 0..10_001;
const UNANSWERED_REQUESTS: Range<i64> = 1..1_000_001;
const UNANSWERED_MS: Range<i64> = 500..600_001;
const BUSY_ROW: Range<i64> = 1..1_000_001;
const PERCENT: Range<i64> = 0..101;
const EJECTED_S: Range<i64> = 1..3_601;

/// The policy that `file` makes of `base`.
pub(super) fn health(file: &file::Health, base: HealthPolicy, source: &mut Source) -> HealthPolicy {
    let mut number = |what: &str, number: &Option<Number>, bounds: Range<i64>, base: u32| {
        let value = number.as_ref().and_then(|number| source.within(what, number, bounds));
        value.and_then(|value| u32::try_from(value).ok()).unwrap_or(base)
    };
    let interval_ms = number("interval_ms", &file.interval_ms, INTERVAL_MS, base.interval_ms);
    let timeout_ms = number("timeout_ms", &file.timeout_ms, TIMEOUT_MS, base.timeout_ms);
    let unanswered =
        number("unanswered_requests", &file.unanswered_requests, UNANSWERED_REQUESTS, base.unanswered_requests);
    let cap = number("ejected_max_percent", &file.ejected_max_percent, PERCENT, u32::from(base.ejected_max_percent));
    let policy = HealthPolicy {
        probe: file.probe.unwrap_or(base.probe),
        interval_ms,
        timeout_ms,
        misses: number("misses", &file.misses, ROW, u32::from(base.misses)) as u16,
        answers: number("answers", &file.answers, ROW, u32::from(base.answers)) as u16,
        homing: number("homing", &file.homing, HOMING, u32::from(base.homing)) as u16,
        unanswered_requests: unanswered,
        unanswered_ms: number("unanswered_ms", &file.unanswered_ms, UNANSWERED_MS, base.unanswered_ms),
        busy_row: number("busy_row", &file.busy_row, BUSY_ROW, base.busy_row),
        busy_percent: number("busy_percent", &file.busy_percent, PERCENT, u32::from(base.busy_percent)) as u8,
        ejected_s: number("ejected_s", &file.ejected_s, EJECTED_S, base.ejected_s),
        ejected_max_percent: cap as u8,
    };
    if timeout_ms >= interval_ms
        && let Some(at) = file.timeout_ms.as_ref().or(file.interval_ms.as_ref())
    {
        let text = format!(
            "a probe of timeout_ms = {timeout_ms} does not end within interval_ms = {interval_ms}; less than that is right"
        );
        source.fault(at.span(), text);
    }
    policy
}
