//! What one worker counts: calls, messages, what was wrong, and how long answers took.
//!
//! Written by one agent, read when its run is over; the live figures are copied out by the worker.
//! Allocates only for the first examples of what was wrong.

use hdrhistogram::Histogram;

/// What a latency is of: from when the request should have been sent to its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// INVITE to its first 180.
    Ringing,
    /// INVITE to its final response.
    Invite,
    /// INVITE within a dialog to its final response.
    Reinvite,
    Cancel,
    Bye,
    Options,
    Register,
}

impl Kind {
    pub const ALL: [Self; 7] =
        [Self::Ringing, Self::Invite, Self::Reinvite, Self::Cancel, Self::Bye, Self::Options, Self::Register];

    /// What reports call it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ringing => "INVITE to 180",
            Self::Invite => "INVITE",
            Self::Reinvite => "re-INVITE",
            Self::Cancel => "CANCEL",
            Self::Bye => "BYE",
            Self::Options => "OPTIONS",
            Self::Register => "REGISTER",
        }
    }
}

/// What is wrong with a message that came, or strange about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Odd {
    /// It is no SIP message, or breaks off.
    Malformed,
    /// It belongs to no call of this run.
    Stray,
    /// Our Via is not the only one in a response, or not on top.
    ViaNotPopped,
    /// The only Via is not the one sent.
    WrongVia,
    WrongCallId,
    /// From or To tag is another than before, or missing.
    WrongTag,
    WrongCSeq,
    /// Record-Route changed from one response to the next.
    RecordRouteChanged,
    /// A Route is left in a request that has arrived.
    RouteLeft,
    /// A request within a dialog is not addressed to our Contact.
    WrongUri,
    /// A request within a dialog came to another node than the one that has the dialog.
    WrongNode,
    /// It came to another of our sockets than the one that it belongs to.
    WrongSocket,
    /// No such message can come in this state of the call.
    Unexpected,
    /// The same again: a retransmission, or a copy.
    Repeated,
    /// It belongs to a call that has ended.
    Late,
}

impl Odd {
    pub const ALL: [Self; 15] = [
        Self::Malformed,
        Self::Stray,
        Self::ViaNotPopped,
        Self::WrongVia,
        Self::WrongCallId,
        Self::WrongTag,
        Self::WrongCSeq,
        Self::RecordRouteChanged,
        Self::RouteLeft,
        Self::WrongUri,
        Self::WrongNode,
        Self::WrongSocket,
        Self::Unexpected,
        Self::Repeated,
        Self::Late,
    ];

    /// What reports call it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Stray => "stray",
            Self::ViaNotPopped => "via_not_popped",
            Self::WrongVia => "wrong_via",
            Self::WrongCallId => "wrong_call_id",
            Self::WrongTag => "wrong_tag",
            Self::WrongCSeq => "wrong_cseq",
            Self::RecordRouteChanged => "record_route_changed",
            Self::RouteLeft => "route_left",
            Self::WrongUri => "wrong_uri",
            Self::WrongNode => "wrong_node",
            Self::WrongSocket => "wrong_socket",
            Self::Unexpected => "unexpected",
            Self::Repeated => "repeated",
            Self::Late => "late",
        }
    }

    /// Whether it must not happen; what loss and retransmission bring along may.
    #[must_use]
    pub const fn is_wrong(self) -> bool {
        !matches!(self, Self::Repeated | Self::Late)
    }
}

/// Nodes that a worker tells apart besides its own, and what the others are called together.
const NODES_MAX: usize = 256;
const OTHERS: &str = "other";
const OTHERS_KEY: u64 = u64::MAX;
/// Examples of wrong messages that a worker keeps.
const EXAMPLES_MAX: usize = 5;
/// Bytes of a message that an example shows.
const EXAMPLE_BYTES: usize = 1_024;
/// Bounds of latencies, nanoseconds.
const SHORTEST_NS: u64 = 1_000;
const LONGEST_NS: u64 = 256_000_000_000;

/// What is known of one answering node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeTally {
    pub key: u64,
    pub name: String,
    /// Calls that it answered, at the caller.
    pub calls: u64,
    /// Requests outside dialogs that came to it, at this process.
    pub requests: u64,
}

/// What one worker counts.
#[derive(Clone, Debug)]
pub struct Tally {
    /// Calls begun.
    pub started: u64,
    /// Calls that went as their flow says.
    pub ok: u64,
    /// Calls that got no answer in time.
    pub lost: u64,
    /// Calls that were due and not begun, or came and were not taken, for want of a place.
    pub held_back: u64,
    /// Calls that ended with a code that their flow does not have, by code.
    pub failed: Vec<u64>,
    /// Calls that ended for another reason: an answer that could not be used.
    pub broken: u64,
    /// Legs that an answering side gave up.
    pub abandoned: u64,
    /// Calls that an answering side took, and those that it left unanswered for its limit.
    pub answered: u64,
    pub over_limit: u64,
    /// Requests and responses sent again.
    pub retransmitted: u64,
    /// Messages received.
    pub received: u64,
    /// By `Odd`, in order.
    pub odd: [u64; Odd::ALL.len()],
    pub examples: Vec<String>,
    /// By `Kind`, nanoseconds.
    pub latency: [Histogram<u64>; Kind::ALL.len()],
    /// How much later than intended calls were begun, nanoseconds.
    pub lag: Histogram<u64>,
    pub nodes: Vec<NodeTally>,
    /// How many of them are not its own.
    pub(crate) met: usize,
}

fn histogram() -> Histogram<u64> {
    let bounded = Histogram::new_with_bounds(SHORTEST_NS, LONGEST_NS, 2);
    // Only with bounds out of order there is none.
    bounded.unwrap_or_else(|_| Histogram::new_from(&small()))
}

fn small() -> Histogram<u64> {
    let mut sigfig = 0;
    loop {
        if let Ok(histogram) = Histogram::new(sigfig) {
            return histogram;
        }
        sigfig += 1;
    }
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            started: 0,
            ok: 0,
            lost: 0,
            held_back: 0,
            failed: vec![0; 700],
            broken: 0,
            abandoned: 0,
            answered: 0,
            over_limit: 0,
            retransmitted: 0,
            received: 0,
            odd: [0; Odd::ALL.len()],
            examples: Vec::new(),
            latency: std::array::from_fn(|_| histogram()),
            lag: histogram(),
            nodes: Vec::new(),
            met: 0,
        }
    }
}

impl Tally {
    pub(crate) fn fail(&mut self, code: u16) {
        if let Some(count) = self.failed.get_mut(usize::from(code)) {
            *count += 1;
        }
    }

    /// Counts `message` as odd; one of the first wrong ones is kept, with what was expected.
    #[cold]
    pub(crate) fn odd(&mut self, odd: Odd, message: &[u8]) {
        if let Some(count) = self.odd.get_mut(odd as usize) {
            *count += 1;
        }
        if odd.is_wrong() && self.examples.len() < EXAMPLES_MAX {
            let text = String::from_utf8_lossy(message.get(..EXAMPLE_BYTES).unwrap_or(message));
            self.examples.push(format!(
                "{}: {}",
                odd.name(),
                text.escape_debug().to_string().replace("\\r\\n", "\n    ")
            ));
        }
    }

    #[inline]
    pub(crate) fn took(&mut self, kind: Kind, nanoseconds: u64) {
        if let Some(latency) = self.latency.get_mut(kind as usize) {
            latency.saturating_record(nanoseconds);
        }
    }

    /// The place of the node with this key, named when it is seen first. Whoever changes its address
    /// with each call is no new node beyond a bound.
    pub(crate) fn node(&mut self, key: u64, name: impl FnOnce() -> String) -> u16 {
        let place = self.nodes.iter().position(|node| node.key == key).unwrap_or_else(|| {
            if self.met == NODES_MAX {
                return self.place(OTHERS_KEY, OTHERS);
            }
            self.met += 1;
            self.place(key, &name())
        });
        u16::try_from(place).unwrap_or(u16::MAX)
    }

    /// A node of this process.
    pub(crate) fn own_node(&mut self, key: u64, name: &str) {
        self.place(key, name);
    }

    fn place(&mut self, key: u64, name: &str) -> usize {
        self.nodes.iter().position(|node| node.key == key).unwrap_or_else(|| {
            self.nodes.push(NodeTally { key, name: name.to_owned(), ..NodeTally::default() });
            self.nodes.len() - 1
        })
    }

    /// Calls that ended with a code that their flow does not have.
    #[must_use]
    pub fn failed_in_all(&self) -> u64 {
        self.failed.iter().sum::<u64>() + self.broken
    }

    /// Messages that must not have come.
    #[must_use]
    pub fn wrong(&self) -> u64 {
        Odd::ALL.iter().zip(&self.odd).filter(|(odd, _)| odd.is_wrong()).map(|(_, count)| count).sum()
    }

    /// Adds what another worker counted.
    pub(crate) fn add(&mut self, other: &Self) {
        self.started += other.started;
        self.ok += other.ok;
        self.lost += other.lost;
        self.held_back += other.held_back;
        self.broken += other.broken;
        self.abandoned += other.abandoned;
        self.answered += other.answered;
        self.over_limit += other.over_limit;
        self.retransmitted += other.retransmitted;
        self.received += other.received;
        self.failed.iter_mut().zip(&other.failed).for_each(|(sum, count)| *sum += count);
        self.odd.iter_mut().zip(&other.odd).for_each(|(sum, count)| *sum += count);
        let room = EXAMPLES_MAX.saturating_sub(self.examples.len());
        self.examples.extend(other.examples.iter().take(room).cloned());
        for (sum, latency) in self.latency.iter_mut().zip(&other.latency) {
            let _ = sum.add(latency);
        }
        let _ = self.lag.add(&other.lag);
        for node in &other.nodes {
            let place = self.place(node.key, &node.name);
            if let Some(sum) = self.nodes.get_mut(place) {
                sum.calls += node.calls;
                sum.requests += node.requests;
            }
        }
    }
}
