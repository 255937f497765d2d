//! Why an endpoint or a pair is as it is: one word, the same in logs and in status.
//!
//! Named by whoever changes a state; nothing is decided by it but how an ejection is treated.

/// Why a thing is as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Cause {
    /// Nothing is known against it.
    #[default]
    Started,
    /// Probes are answered.
    Answered,
    /// Probes are not answered.
    NoAnswer,
    /// Probes are answered 503.
    Refused,
    /// An ICMP error came back.
    Unreachable,
    /// Requests went there and no packet came back.
    Unanswered,
    /// Calls were answered 503, one after the other.
    Busy,
    /// It asked to be left alone.
    RetryAfter,
    /// The time is over for which traffic kept it out.
    Elapsed,
    /// The other half of the pair does not take the calls.
    OtherHalf,
    /// The primary has proved itself.
    Homing,
}

impl Cause {
    /// Name in logs and status.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Answered => "answered",
            Self::NoAnswer => "no_answer",
            Self::Refused => "refused_503",
            Self::Unreachable => "unreachable",
            Self::Unanswered => "unanswered",
            Self::Busy => "busy_503",
            Self::RetryAfter => "retry_after",
            Self::Elapsed => "elapsed",
            Self::OtherHalf => "other_half",
            Self::Homing => "homing",
        }
    }
}
