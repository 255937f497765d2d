//! How the nodes of a set are watched: the numbers of its health checks.
//!
//! Filled from the file by `config`, carried by the plan, obeyed by `control`; shards never look.

/// The numbers of a set's health checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HealthPolicy {
    /// Whether its nodes are probed.
    pub probe: bool,
    /// From the begin of one probe to that of the next, milliseconds.
    pub interval_ms: u32,
    /// When a probe has failed, milliseconds from its first sending; it is sent again after a quarter
    /// and after half of that.
    pub timeout_ms: u32,
    /// Probes in a row that must fail before an endpoint is down.
    pub misses: u16,
    /// Probes in a row that must be answered before it is up again.
    pub answers: u16,
    /// Probes in a row that the primary of a pair must answer before calls return to it; 0: they stay.
    pub homing: u16,
    /// Requests without any packet from the node that count as silence.
    pub unanswered_requests: u32,
    /// How long that silence must last, milliseconds.
    pub unanswered_ms: u32,
    /// 503s to calls in a row that close a node to new calls.
    pub busy_row: u32,
    /// What part of all final responses to calls they must be, percent.
    pub busy_percent: u8,
    /// How long what traffic showed keeps a node out, seconds.
    pub ejected_s: u32,
    /// What part of the set's nodes may be out before traffic takes no further one out, percent.
    pub ejected_max_percent: u8,
}

impl Default for HealthPolicy {
    fn default() -> Self {
        Self {
            probe: true,
            interval_ms: 1_000,
            timeout_ms: 200,
            misses: 3,
            answers: 2,
            homing: 0,
            unanswered_requests: 10,
            unanswered_ms: 2_000,
            busy_row: 10,
            busy_percent: 80,
            ejected_s: 10,
            ejected_max_percent: 50,
        }
    }
}
