//! What becomes of a packet, and the counters that tell it.
//!
//! Every verdict and every reason to drop or refuse has a counter in the worker's own memory:
//! written by plain stores of that worker, read by anyone.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::packet::{Egress, WorkerId};

/// What becomes of a received packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on, edited, to a node or a client.
    Forward(Egress),
    /// A reply of our own goes back in its place.
    Reply(Egress),
    /// It ends here, as it should.
    Absorb,
    /// Another worker must handle it.
    Handoff(WorkerId),
    /// It ends here, for a reason that is counted.
    Drop(DropReason),
}

macro_rules! counted {
    ($(#[$doc:meta])* $name:ident { $($(#[$line:meta])* $variant:ident => $label:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(usize)]
        pub enum $name { $($(#[$line])* $variant,)* }

        impl $name {
            /// All, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Name in counters and logs.
            #[must_use]
            pub fn label(self) -> &'static str {
                match self { $(Self::$variant => $label,)* }
            }
        }
    };
}

counted! {
    /// Why a packet was dropped.
    DropReason {
        /// Not SIP at all.
        NotSip => "not_sip",
        /// A message that breaks the grammar and cannot or must not be answered.
        Malformed => "malformed",
        /// A response whose top Via is not ours.
        ForeignVia => "foreign_via",
        /// A response whose top Via has our shape and a wrong tag.
        BadBranch => "bad_branch",
        /// A response without a Via below ours, or with one that gives no address.
        NoReturnVia => "no_return_via",
        /// A response from the edge that would leave the cluster.
        ResponseOutside => "response_outside",
        /// An ACK that a request in its place would have got an error for.
        AckRefused => "ack_refused",
        /// An ACK whose dialog or transaction leads nowhere.
        AckUnroutable => "ack_unroutable",
        /// A next hop that is a name we do not know yet; the retransmission finds the answer.
        NameUnresolved => "name_unresolved",
        /// The message grew beyond the head room.
        NoHeadroom => "no_headroom",
        /// More changes to one message than an edit holds.
        TooManyEdits => "too_many_edits",
        /// No local port of the address family that leads there.
        NoEgress => "no_egress",
        /// The queue to the other worker was full.
        MailFull => "mail_full",
        /// The turn had no room left to send.
        TurnFull => "turn_full",
        /// A reply that does not fit a datagram or has no address to go to.
        ReplyImpossible => "reply_impossible",
    }
}

counted! {
    /// Things worth counting that are no verdict.
    Tally {
        /// CRLF, NUL and empty datagrams absorbed.
        KeepAlive => "keep_alive",
        /// ACKs to replies of our own absorbed.
        OwnAck => "own_ack",
        /// Requests from the edge.
        EdgeRequest => "edge_requests",
        /// Requests from the node side.
        NodeRequest => "node_requests",
        /// Responses from the edge.
        EdgeResponse => "edge_responses",
        /// Responses from the node side.
        NodeResponse => "node_responses",
        /// Cookie marks that do not decode.
        CookieMalformed => "cookie_malformed",
        /// Cookies signed with a key that we do not have.
        CookieUnknownKey => "cookie_unknown_key",
        /// Cookies whose MAC is wrong: altered, or of another Call-ID.
        CookieBadMac => "cookie_bad_mac",
        /// Genuine cookies from a side that they do not face.
        CookieWrongSide => "cookie_wrong_side",
        /// Requests whose cookie names a node that is stopped or gone.
        DialogLost => "dialog_lost",
        /// Requests that followed their mark.
        MarkFollowed => "mark_followed",
        /// Marks moved to another node because theirs was Down.
        MarkMoved => "mark_moved",
        /// Live marks that gave way to younger ones.
        MarkEvicted => "mark_evicted",
        /// Requests repaired after a strict router (16.4).
        StrictRepaired => "strict_repaired",
        /// Headers that posed as our source header, removed.
        SourceForged => "source_forged",
        /// Contacts that name a host, left alone by `contact = rewrite`.
        ContactByName => "contact_by_name",
        /// Endpoints avoided after an ICMP error.
        EndpointAvoided => "endpoint_avoided",
        /// Names asked of control.
        NameAsked => "name_asked",
        /// Questions to control lost because its queue was full.
        NameAskLost => "name_ask_lost",
        /// Messages that came in at a worker that does not own them.
        NotOwner => "not_owner",
        /// Packets that came by mail from another worker.
        MailIn => "mail_in",
        /// Turns of the worker whose books did not balance; never, if the code is right.
        BooksWrong => "books_wrong",
    }
}

/// Response codes that sipring answers with, each with a counter of its own.
pub const REPLIES: &[(u16, &str)] = &[
    (200, "OK"),
    (400, "Bad Request"),
    (403, "Forbidden"),
    (404, "Not Found"),
    (416, "Unsupported URI Scheme"),
    (420, "Bad Extension"),
    (480, "Temporarily Unavailable"),
    (481, "Call/Transaction Does Not Exist"),
    (482, "Loop Detected"),
    (483, "Too Many Hops"),
    (500, "Server Internal Error"),
    (501, "Not Implemented"),
    (503, "Service Unavailable"),
    (505, "Version Not Supported"),
    (513, "Message Too Large"),
];

/// The counters of one worker, on cache lines of their own.
#[derive(Debug)]
#[repr(align(128))]
pub struct Counters {
    received: AtomicU64,
    forwarded: AtomicU64,
    replied: AtomicU64,
    absorbed: AtomicU64,
    handed_off: AtomicU64,
    dropped: [AtomicU64; DropReason::ALL.len()],
    tallies: [AtomicU64; Tally::ALL.len()],
    replies: [AtomicU64; REPLIES.len()],
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            received: AtomicU64::new(0),
            forwarded: AtomicU64::new(0),
            replied: AtomicU64::new(0),
            absorbed: AtomicU64::new(0),
            handed_off: AtomicU64::new(0),
            dropped: [const { AtomicU64::new(0) }; DropReason::ALL.len()],
            tallies: [const { AtomicU64::new(0) }; Tally::ALL.len()],
            replies: [const { AtomicU64::new(0) }; REPLIES.len()],
        }
    }
}

/// One writer only, so a plain load and store; no read-modify-write.
#[inline]
fn add(counter: &AtomicU64, n: u64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
}

impl Counters {
    /// Counts packets that the shard is asked to decide on.
    #[inline]
    pub fn receive(&self, packets: u64) {
        add(&self.received, packets);
    }

    /// Counts one verdict. Only the worker that owns these counters may call it.
    #[inline]
    pub fn judge(&self, verdict: Verdict) {
        match verdict {
            Verdict::Forward(_) => add(&self.forwarded, 1),
            Verdict::Reply(_) => add(&self.replied, 1),
            Verdict::Absorb => add(&self.absorbed, 1),
            Verdict::Handoff(_) => add(&self.handed_off, 1),
            Verdict::Drop(reason) => {
                if let Some(counter) = self.dropped.get(reason as usize) {
                    add(counter, 1);
                }
            }
        }
    }

    /// Counts one thing that is no verdict.
    #[inline]
    pub fn tally(&self, tally: Tally) {
        if let Some(counter) = self.tallies.get(tally as usize) {
            add(counter, 1);
        }
    }

    /// Counts a reply of our own.
    pub fn reply(&self, code: u16) {
        if let Some(at) = REPLIES.iter().position(|(own, _)| *own == code)
            && let Some(counter) = self.replies.get(at)
        {
            add(counter, 1);
        }
    }

    /// Packets dropped for a reason.
    #[must_use]
    pub fn drops(&self, reason: DropReason) -> u64 {
        self.dropped.get(reason as usize).map_or(0, |counter| counter.load(Ordering::Relaxed))
    }

    /// How often a thing happened.
    #[must_use]
    pub fn tallied(&self, tally: Tally) -> u64 {
        self.tallies.get(tally as usize).map_or(0, |counter| counter.load(Ordering::Relaxed))
    }

    /// Received packets, and what became of them: forwarded, replied, absorbed, handed off, dropped.
    #[must_use]
    pub fn books(&self) -> [u64; 6] {
        let dropped = self.dropped.iter().map(|counter| counter.load(Ordering::Relaxed)).sum();
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        [
            read(&self.received),
            read(&self.forwarded),
            read(&self.replied),
            read(&self.absorbed),
            read(&self.handed_off),
            dropped,
        ]
    }

    /// Calls `tell` with name, label and value of every counter, zeros included.
    pub fn each(&self, mut tell: impl FnMut(&'static str, &'static str, u64)) {
        let [received, forwarded, replied, absorbed, handed_off, _] = self.books();
        tell("received", "", received);
        for (label, value) in
            [("forward", forwarded), ("reply", replied), ("absorb", absorbed), ("handoff", handed_off)]
        {
            tell("verdict", label, value);
        }
        for reason in DropReason::ALL {
            tell("drop", reason.label(), self.drops(*reason));
        }
        for tally in Tally::ALL {
            tell("tally", tally.label(), self.tallied(*tally));
        }
        for ((_, reason), counter) in REPLIES.iter().zip(&self.replies) {
            tell("own_reply", reason, counter.load(Ordering::Relaxed));
        }
    }
}
