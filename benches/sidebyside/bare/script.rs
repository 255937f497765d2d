//! What a bare forwarder does to the messages of the flow, found by looking at what sipring did: how many bytes go, how
//! many come in their place, and at which byte.
//!
//! All messages of a kind are of one length and differ in the same places, so that this is known beforehand and nothing
//! has to be read: the first byte tells the kind, and one byte of the call's number the node.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::far::Record;

/// A change of one kind of message.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub(crate) struct Change {
    pub(crate) at: usize,
    pub(crate) cut: usize,
    pub(crate) put: Vec<u8>,
    /// Where the last digit of the call's number stands.
    pub(crate) digit: usize,
}

/// What a bare forwarder is told.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Script {
    pub(crate) edge: SocketAddr,
    pub(crate) node_side: SocketAddr,
    pub(crate) client: SocketAddr,
    pub(crate) nodes: Vec<SocketAddr>,
    pub(crate) invite: Change,
    pub(crate) ack: Change,
    pub(crate) bye: Change,
    pub(crate) response: Change,
}

/// Where a call's number ends in a message.
const BEFORE: &[u8] = b"\r\nCall-ID: ";
const DIGITS: usize = 16;

fn number_at(message: &[u8]) -> Option<usize> {
    memchr::memmem::find(message, BEFORE).map(|at| at + BEFORE.len())
}

/// Messages that begin so, by call: as they left one side, and as they came to the other.
fn pairs<'a>(from: &'a Record, to: &'a Record, start: &str, cseq: &str) -> Vec<(&'a [u8], &'a [u8])> {
    let chosen = |messages: &'a [Vec<u8>]| -> Vec<(&'a [u8], &'a [u8])> {
        let ours = messages.iter().map(Vec::as_slice).filter(|message| {
            message.starts_with(start.as_bytes()) && memchr::memmem::find(message, cseq.as_bytes()).is_some()
        });
        ours.filter_map(|message| Some((message.get(number_at(message)?..)?.get(..DIGITS)?, message))).collect()
    };
    let (before, after) = (chosen(&from.went), chosen(&to.came));
    let partner = |call: &[u8]| after.iter().find(|(other, _)| *other == call).map(|(_, message)| *message);
    before.iter().filter_map(|(call, message)| Some((*message, partner(call)?))).collect()
}

impl Change {
    /// The least piece of `before` that, exchanged, gives `after`.
    fn between(before: &[u8], after: &[u8]) -> Self {
        let same = |one: &[u8], other: &[u8]| one.iter().zip(other).take_while(|(a, b)| a == b).count();
        let mut at = same(before, after);
        let behind = before[at..].iter().rev().zip(after[at..].iter().rev()).take_while(|(a, b)| a == b).count();
        let put = after[at..after.len() - behind].to_vec();
        let cut = before.len() - behind - at;
        // A piece that only goes can be told from several places on; the first of them is the same for all.
        while put.is_empty() && at > 0 && before[at - 1] == before[at + cut - 1] {
            at -= 1;
        }
        let digit = number_at(before).map_or(0, |at| at + DIGITS - 1);
        Self { at, cut, put, digit }
    }

    /// What sipring did to all messages of a kind; none if it did not the same to all.
    fn of(pairs: &[(&[u8], &[u8])]) -> Option<Self> {
        let (before, after) = pairs.first()?;
        let change = Self::between(before, after);
        let grown = after.len() as i64 - before.len() as i64;
        let alike =
            |(one, other): &(&[u8], &[u8])| one.len() == before.len() && other.len() as i64 - one.len() as i64 == grown;
        pairs.iter().all(alike).then_some(change)
    }
}

/// The change of each kind, by what left and came to callers and nodes with a balancer between them.
pub(crate) fn changes(client: &Record, nodes: &Record) -> Option<[Change; 4]> {
    let response = |cseq: &str| Change::of(&pairs(nodes, client, "SIP/2.0 ", cseq));
    let (of_invite, of_bye) = (response("CSeq: 1 INVITE")?, response("CSeq: 2 BYE")?);
    // One Via goes from both, at one place.
    ((of_invite.at, of_invite.cut, &of_invite.put) == (of_bye.at, of_bye.cut, &of_bye.put)).then_some(())?;
    let request = |method: &str| Change::of(&pairs(client, nodes, &format!("{method} "), "CSeq: "));
    Some([request("INVITE")?, request("ACK")?, request("BYE")?, of_invite])
}
