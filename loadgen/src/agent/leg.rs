//! Legs: what one end of a call knows of it, and the places where legs are kept.
//!
//! Owns the places, which are used again last-in first-out with a new serial each time, and the texts
//! of each, whose memory stays with the place. Driven by the agent; sends nothing.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use sipring::packet::PortId;
use sipring::sip::Method;
use sipring::wheel::Handle;

use super::number::{DIGITS, LegId, SLOTS_MAX, Tag};
use crate::flow::Flow;
use crate::wire::dialog::Dialog;

/// Which end of a call a leg is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Caller,
    Callee,
}

/// What a leg waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// The answer to a request outside dialogs that is no INVITE.
    Asking,
    /// The final response to the first INVITE.
    Inviting,
    /// The 200 to CANCEL and the 487 to INVITE, in any order.
    Cancelling,
    /// The time of a pause; then the flow goes on.
    Held,
    /// The final response to an INVITE within the dialog.
    Reinviting,
    /// A request of the other end.
    Waiting,
    /// The time at which the callee answers.
    Ringing,
    /// ACK to a 200 of ours.
    Accepting,
    /// ACK to a refusal of ours.
    Refusing,
    /// Nothing any more: the ACK to a refusal came, and what comes late is still told apart (timers I and J).
    Confirmed,
    /// The answer to BYE.
    Ending,
}

/// One end of a call.
#[derive(Debug)]
pub(crate) struct Leg {
    serial: u32,
    pub(crate) live: bool,
    pub(crate) side: Side,
    pub(crate) flow: Flow,
    pub(crate) step: Step,
    pub(crate) port: PortId,
    /// Where its requests go.
    pub(crate) hop: SocketAddr,
    /// Where responses to the INVITE last answered go.
    pub(crate) reply_to: SocketAddr,
    pub(crate) digits: [u8; DIGITS],
    /// Method of the request last sent: not ACK.
    pub(crate) method: Method,
    /// CSeq number of the request last sent.
    pub(crate) seq: u32,
    /// CSeq number of the INVITE last sent, and the branch number of the ACK to its 200.
    pub(crate) invite_seq: u32,
    pub(crate) ack_tx: u8,
    /// Branch number of the request last sent.
    pub(crate) tx: u8,
    /// CSeq number of the request last answered.
    pub(crate) peer_seq: u32,
    /// A provisional response to the request last sent came.
    pub(crate) proceeding: bool,
    /// Of CANCEL and INVITE, which are answered: bits 1 and 2.
    pub(crate) cancelled: u8,
    /// The code that the call fails with when it has come to its end; 0: none.
    pub(crate) failing: u16,
    /// ACKs received, or INVITEs within the dialog sent: what the flow counts by.
    pub(crate) round: u8,
    /// Which request-URI and which user the first request has.
    pub(crate) target: u32,
    pub(crate) user: u32,
    /// Place of the answering node in the tally.
    pub(crate) node: Option<u16>,
    /// When the request last sent should have been sent.
    pub(crate) intended_ns: u64,
    /// Hash of Call-ID, and with the caller's tag.
    pub(crate) call_hash: u64,
    pub(crate) key: u64,
    /// Hash of the Record-Route that came first.
    pub(crate) routes_hash: Option<u64>,
    /// When what was sent last is sent again, and by how much later each time; 0: never.
    pub(crate) resend_ms: u64,
    pub(crate) interval_ms: u64,
    /// When the step ends for want of anything else.
    pub(crate) deadline_ms: u64,
    /// The timer, and when it fires: never later than it must.
    pub(crate) timer: Option<(Handle, u64)>,
    /// What requests within the dialog are written from.
    pub(crate) dialog: Dialog,
    /// What stands between the status line and Contact of the answer to the INVITE last answered.
    pub(crate) kept: Vec<u8>,
    /// Credentials, a header line: of the first request or the INVITE last sent, and of BYE.
    pub(crate) invite_credentials: Vec<u8>,
    pub(crate) bye_credentials: Vec<u8>,
}

impl Leg {
    fn new() -> Self {
        Self {
            serial: 0,
            live: false,
            side: Side::Caller,
            flow: Flow::Call,
            step: Step::Waiting,
            port: PortId(0),
            hop: SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0)),
            reply_to: SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0)),
            digits: [0; DIGITS],
            method: Method::Unknown,
            seq: 0,
            invite_seq: 0,
            ack_tx: 0,
            tx: 0,
            peer_seq: 0,
            proceeding: false,
            cancelled: 0,
            failing: 0,
            round: 0,
            target: 0,
            user: 0,
            node: None,
            intended_ns: 0,
            call_hash: 0,
            key: 0,
            routes_hash: None,
            resend_ms: 0,
            interval_ms: 0,
            deadline_ms: 0,
            timer: None,
            dialog: Dialog::default(),
            kept: Vec::new(),
            invite_credentials: Vec::new(),
            bye_credentials: Vec::new(),
        }
    }

    /// Forgets the last use; texts keep their memory.
    fn renew(&mut self, digits: [u8; DIGITS]) {
        let dialog = std::mem::take(&mut self.dialog);
        let kept = std::mem::take(&mut self.kept);
        let invite_credentials = std::mem::take(&mut self.invite_credentials);
        let bye_credentials = std::mem::take(&mut self.bye_credentials);
        *self = Self {
            serial: self.serial,
            live: true,
            digits,
            dialog,
            kept,
            invite_credentials,
            bye_credentials,
            ..Self::new()
        };
        self.dialog.clear();
        self.kept.clear();
        self.invite_credentials.clear();
        self.bye_credentials.clear();
    }

    /// The credentials that a request of this method bears: an ACK those of its INVITE, which may have to be
    /// acknowledged again after BYE.
    pub(crate) fn credentials(&mut self, method: Method) -> &mut Vec<u8> {
        if method == Method::Bye { &mut self.bye_credentials } else { &mut self.invite_credentials }
    }

    /// When its timer must fire at the latest.
    pub(crate) fn due_ms(&self) -> u64 {
        if self.resend_ms == 0 { self.deadline_ms } else { self.resend_ms.min(self.deadline_ms) }
    }
}

/// What became of the leg that a tag names.
pub(crate) enum Found {
    Live(u32),
    /// It was there and has ended.
    Ended,
    /// Of another worker.
    Elsewhere,
    /// There never was one.
    Never,
}

/// The lowest serial above `last` that leaves `rest` when divided by `ways`; from the lowest of all when
/// they are used up.
fn serial_behind(last: u32, rest: u32, ways: u32) -> u32 {
    let next = last.wrapping_add(1);
    let ahead = (rest + ways - next % ways) % ways;
    next.checked_add(ahead).filter(|serial| *serial != 0).unwrap_or(rest + ways)
}

/// All legs of one worker.
#[derive(Debug)]
pub(crate) struct Legs {
    worker: u8,
    legs: Vec<Leg>,
    free: Vec<u32>,
    max: usize,
}

impl Legs {
    pub(crate) fn new(worker: u8, max: usize) -> Self {
        let max = max.min(SLOTS_MAX);
        Self { worker, legs: Vec::new(), free: Vec::new(), max }
    }

    /// A new leg, whose serial leaves `rest` when divided by `ways`; none if all places are taken.
    pub(crate) fn begin(&mut self, rest: u32, ways: u32) -> Option<u32> {
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None if self.legs.len() < self.max => {
                self.legs.push(Leg::new());
                (self.legs.len() - 1) as u32
            }
            None => return None,
        };
        let worker = self.worker;
        let leg = self.legs.get_mut(slot as usize)?;
        leg.serial = serial_behind(leg.serial, rest, ways);
        let digits = LegId { worker, slot, serial: leg.serial }.digits();
        leg.renew(digits);
        Some(slot)
    }

    /// Ends a leg; its place is free.
    pub(crate) fn end(&mut self, slot: u32) {
        if let Some(leg) = self.legs.get_mut(slot as usize).filter(|leg| leg.live) {
            leg.live = false;
            self.free.push(slot);
        }
    }

    #[inline]
    pub(crate) fn at(&mut self, slot: u32) -> Option<&mut Leg> {
        self.legs.get_mut(slot as usize).filter(|leg| leg.live)
    }

    /// The leg that timers know by this number.
    pub(crate) fn by_id(&mut self, id: LegId) -> Option<&mut Leg> {
        self.legs.get_mut(id.slot as usize).filter(|leg| leg.live && leg.serial == id.serial)
    }

    pub(crate) fn id(&self, slot: u32) -> LegId {
        let serial = self.legs.get(slot as usize).map_or(0, |leg| leg.serial);
        LegId { worker: self.worker, slot, serial }
    }

    /// Looks for the leg of a tag of ours.
    #[inline]
    pub(crate) fn find(&self, tag: &Tag<'_>) -> Found {
        if tag.leg.worker != self.worker {
            return Found::Elsewhere;
        }
        match self.legs.get(tag.leg.slot as usize) {
            Some(leg) if leg.live && leg.digits == *tag.digits => Found::Live(tag.leg.slot),
            // Serials count up from 1.
            Some(leg) if tag.leg.serial.wrapping_sub(1) < leg.serial => Found::Ended,
            _ => Found::Never,
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Leg> {
        self.legs.iter().filter(|leg| leg.live)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serials_go_up_and_tell_their_rest() {
        for (last, rest, ways, wanted) in
            [(0, 0, 1, 1), (7, 0, 1, 8), (0, 0, 3, 3), (3, 0, 3, 6), (3, 1, 3, 4), (4, 1, 3, 7)]
        {
            assert_eq!(serial_behind(last, rest, ways), wanted, "{last} {rest} {ways}");
        }
        for last in u32::MAX - 9..=u32::MAX {
            for rest in 0..7 {
                let serial = serial_behind(last, rest, 7);
                assert!(serial != 0 && serial % 7 == rest, "{last} {rest}: {serial}");
            }
        }
    }
}
