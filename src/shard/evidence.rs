//! What workers testify about the nodes: requests, answers, refusals, errors, by endpoint.
//!
//! Every worker writes cells of its own by plain stores; control reads them all. Made by control for
//! one plan and mailed with it, so no reload can mix up endpoints. Judges nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering};

use crate::packet::{PeerId, WorkerId};

use super::seen::Seen;

/// Longest time that a node may ask to be left alone by Retry-After, seconds.
pub const RETRY_AFTER_MAX_S: u32 = 30;

/// ICMP errors of one worker whose endpoints are remembered one by one.
const RUNG: usize = 32;

/// Classes of responses: 1xx to 6xx.
pub const CLASSES: usize = 6;

/// What is counted of one endpoint, summed over the workers; each wraps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// Requests sent to it, without ACK.
    pub requests: u32,
    /// Requests that it sent.
    pub begun: u32,
    /// Its responses by class.
    pub responses: [u32; CLASSES],
    /// Final responses to INVITE.
    pub calls_answered: u32,
    /// 503s among them.
    pub calls_refused: u32,
    /// 503s among those that bore Retry-After.
    pub retry_after: u32,
    /// ICMP errors that came back from there.
    pub unreachable: u32,
    /// Until when it asked to be left alone, tenths of a second on the workers' clock; 0: never.
    pub leave_alone_ds: u32,
}

impl Account {
    /// Packets that came from it.
    #[must_use]
    pub fn heard(&self) -> u32 {
        self.responses.iter().fold(self.begun, |sum, count| sum.wrapping_add(*count))
    }
}

/// One endpoint as one worker saw it: a cache line.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(super) struct Line {
    requests: AtomicU32,
    begun: AtomicU32,
    responses: [AtomicU32; CLASSES],
    /// Final responses to INVITE but 503.
    calls_answered: AtomicU32,
    /// 503s to INVITE.
    calls_refused: AtomicU32,
    retry_after: AtomicU32,
    unreachable: AtomicU32,
    leave_alone_ds: AtomicU32,
    /// Where its dialogs are counted, from 1; 0: nowhere. Written before any worker has it.
    seen: u32,
}

/// One writer only, so a plain load and store; no read-modify-write.
#[inline]
fn add(cell: &AtomicU32) {
    cell.store(cell.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
}

impl Line {
    /// A response came from there.
    #[inline]
    pub(super) fn response(&self, code: u16) {
        if let Some(cell) = self.responses.get(usize::from(code / 100).wrapping_sub(1)) {
            add(cell);
        }
    }

    /// A final response to an INVITE came from there, and no 503.
    #[inline]
    pub(super) fn call_answered(&self) {
        add(&self.calls_answered);
    }

    /// A 503 to an INVITE came from there, perhaps with the seconds of its Retry-After.
    #[cold]
    pub(super) fn call_refused(&self, now_ms: u64, retry_after_s: Option<u32>) {
        add(&self.calls_refused);
        if let Some(seconds) = retry_after_s {
            add(&self.retry_after);
            let until_ds = now_ms / 100 + u64::from(seconds.min(RETRY_AFTER_MAX_S)) * 10;
            self.leave_alone_ds.store(until_ds as u32, Ordering::Relaxed);
        }
    }
}

/// What one worker testifies.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Testimony {
    lines: Box<[Line]>,
    /// ICMP errors of all endpoints: control looks closer when it has grown.
    alarms: AtomicU64,
    /// The endpoints of the last of them, in turn.
    rung: [AtomicU16; RUNG],
    /// Shared with the testimony before, which the same worker wrote: what was counted is not lost.
    seen: Box<[Arc<Seen>]>,
}

impl Testimony {
    /// `endpoints` of them, of which those in `counted` have their dialogs counted in `seen`.
    fn new(endpoints: usize, counted: &[Counted], seen: Box<[Arc<Seen>]>) -> Self {
        let mut lines: Box<[Line]> = (0..endpoints).map(|_| Line::default()).collect();
        for (counted, at) in counted.iter().zip(1..) {
            if let Some(line) = lines.get_mut(usize::from(counted.peer.0)) {
                line.seen = at;
            }
        }
        Self { lines, alarms: AtomicU64::new(0), rung: [const { AtomicU16::new(0) }; RUNG], seen }
    }

    /// What is testified of `peer`; none if that is no endpoint.
    #[inline]
    pub(super) fn line(&self, peer: PeerId) -> Option<&Line> {
        self.lines.get(usize::from(peer.0))
    }

    /// An ICMP error came back from `peer`.
    pub(super) fn unreachable(&self, peer: PeerId) {
        if let Some(line) = self.line(peer) {
            add(&line.unreachable);
            let alarms = self.alarms.load(Ordering::Relaxed);
            if let Some(place) = self.rung.get(alarms as usize % RUNG) {
                place.store(peer.0, Ordering::Relaxed);
            }
            self.alarms.store(alarms + 1, Ordering::Release);
        }
    }

    /// Tells the endpoints of the ICMP errors since there were `before`; then how many there are. What
    /// is beyond what is remembered is left out.
    fn rung_since(&self, before: u64, mut tell: impl FnMut(PeerId)) -> u64 {
        let now = self.alarms.load(Ordering::Acquire);
        for alarm in now.saturating_sub(RUNG as u64).max(before)..now {
            let place = self.rung.get(alarm as usize % RUNG);
            place.into_iter().for_each(|place| tell(PeerId(place.load(Ordering::Relaxed))));
        }
        now
    }

    /// A request leaves for `peer`; `inside`: inside a dialog, with the hash of its Call-ID.
    #[inline]
    pub(super) fn request(&self, peer: PeerId, ack: bool, now_ms: u64, inside: Option<u64>) {
        let Some(line) = self.line(peer) else { return };
        if !ack {
            add(&line.requests);
        }
        self.dialog(line, now_ms, inside);
    }

    /// A request came from `peer`.
    #[inline]
    pub(super) fn begun(&self, peer: PeerId, now_ms: u64, inside: Option<u64>) {
        let Some(line) = self.line(peer) else { return };
        add(&line.begun);
        self.dialog(line, now_ms, inside);
    }

    #[inline]
    fn dialog(&self, line: &Line, now_ms: u64, inside: Option<u64>) {
        if line.seen != 0
            && let Some(call) = inside
            && let Some(seen) = self.seen.get(line.seen as usize - 1)
        {
            seen.note(now_ms, call);
        }
    }

    fn account(&self, peer: PeerId, sum: &mut Account) {
        let Some(line) = self.line(peer) else { return };
        let add = |sum: &mut u32, cell: &AtomicU32| *sum = sum.wrapping_add(cell.load(Ordering::Relaxed));
        add(&mut sum.requests, &line.requests);
        add(&mut sum.begun, &line.begun);
        sum.responses.iter_mut().zip(&line.responses).for_each(|(sum, cell)| add(sum, cell));
        // Read once: what was answered contains what was refused, whatever is written meanwhile.
        let refused = line.calls_refused.load(Ordering::Relaxed);
        let answered = line.calls_answered.load(Ordering::Relaxed).wrapping_add(refused);
        sum.calls_answered = sum.calls_answered.wrapping_add(answered);
        sum.calls_refused = sum.calls_refused.wrapping_add(refused);
        add(&mut sum.retry_after, &line.retry_after);
        add(&mut sum.unreachable, &line.unreachable);
        sum.leave_alone_ds = sum.leave_alone_ds.max(line.leave_alone_ds.load(Ordering::Relaxed));
    }
}

/// An endpoint whose dialogs are counted.
#[derive(Clone, Copy, Debug)]
struct Counted {
    peer: PeerId,
    since_ms: u64,
}

/// What all workers testify about the endpoints of one plan.
#[derive(Debug, Default)]
pub struct Evidence {
    workers: Vec<Arc<Testimony>>,
    counted: Vec<Counted>,
}

impl Evidence {
    /// Empty evidence of `workers` workers about `endpoints` endpoints; of those in `counted`, the
    /// dialogs are counted as well.
    #[must_use]
    pub fn new(workers: u16, endpoints: usize, counted: Vec<PeerId>) -> Self {
        let nothing = Self { workers: (0..workers).map(|_| Arc::default()).collect(), counted: Vec::new() };
        let counted: Vec<(PeerId, PeerId)> = counted.into_iter().map(|peer| (peer, PeerId::NONE)).collect();
        nothing.next(endpoints, &counted, 0)
    }

    /// Empty evidence of the same workers about the endpoints of the next plan. Dialogs are counted of
    /// those in `counted`, each with its place in the plan before: where they were counted there, they
    /// are counted on, else from `now_ms`.
    #[must_use]
    pub fn next(&self, endpoints: usize, counted: &[(PeerId, PeerId)], now_ms: u64) -> Self {
        let place = |before: PeerId| self.counted.iter().position(|counted| counted.peer == before);
        let places: Vec<Option<usize>> = counted.iter().map(|(_, before)| place(*before)).collect();
        let since = |place: &Option<usize>| place.and_then(|at| self.counted.get(at)).map(|known| known.since_ms);
        let counted: Vec<Counted> = (counted.iter().zip(&places))
            .map(|((peer, _), place)| Counted { peer: *peer, since_ms: since(place).unwrap_or(now_ms) })
            .collect();
        let testify = |before: &Arc<Testimony>| {
            let kept = |place: &Option<usize>| place.and_then(|at| before.seen.get(at)).cloned().unwrap_or_default();
            Arc::new(Testimony::new(endpoints, &counted, places.iter().map(kept).collect()))
        };
        Self { workers: self.workers.iter().map(testify).collect(), counted }
    }

    /// The cells of one worker; without any for a worker that is not in it.
    #[must_use]
    pub fn of(&self, worker: WorkerId) -> Arc<Testimony> {
        self.workers.get(usize::from(worker.0)).cloned().unwrap_or_default()
    }

    /// What is counted of an endpoint.
    #[must_use]
    pub fn account(&self, peer: PeerId) -> Account {
        let mut sum = Account::default();
        self.workers.iter().for_each(|testimony| testimony.account(peer, &mut sum));
        sum
    }

    /// ICMP errors of all endpoints together.
    #[must_use]
    pub fn alarms(&self) -> u64 {
        self.workers.iter().map(|testimony| testimony.alarms.load(Ordering::Acquire)).sum()
    }

    /// The endpoints that ICMP errors came back from since `heard` was renewed by this: by worker, how
    /// many errors there were. Of very many at once, some are left to a look at all endpoints.
    #[must_use]
    pub fn rung(&self, heard: &mut Vec<u64>) -> Vec<PeerId> {
        heard.resize(self.workers.len(), 0);
        let mut peers = Vec::new();
        for (testimony, heard) in self.workers.iter().zip(heard) {
            *heard = testimony.rung_since(*heard, |peer| peers.push(peer));
        }
        peers.sort_unstable();
        peers.dedup();
        peers
    }

    /// About how many calls had requests inside a dialog with an endpoint in the last one to two
    /// minutes; none if they are not counted.
    #[must_use]
    pub fn dialogs(&self, peer: PeerId, now_ms: u64) -> Option<u64> {
        let at = self.counted.iter().position(|counted| counted.peer == peer)?;
        let seen = self.workers.iter().filter_map(|testimony| testimony.seen.get(at));
        Some(Seen::distinct(seen.map(Arc::as_ref), now_ms))
    }

    /// For how long they have been counted, seconds.
    #[must_use]
    pub fn dialogs_counted_s(&self, peer: PeerId, now_ms: u64) -> Option<u64> {
        let counted = self.counted.iter().find(|counted| counted.peer == peer)?;
        Some(now_ms.saturating_sub(counted.since_ms) / 1_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_workers_write_is_summed_and_wraps() {
        let evidence = Evidence::new(2, 3, Vec::new());
        let (one, other) = (evidence.of(WorkerId(0)), evidence.of(WorkerId(1)));
        let [here, there] = [&one, &other].map(|testimony| testimony.line(PeerId(1)).unwrap());
        one.request(PeerId(1), false, 0, None);
        other.request(PeerId(1), false, 0, None);
        other.request(PeerId(1), true, 0, None);
        other.begun(PeerId(1), 0, None);
        [180, 503, 999].into_iter().for_each(|code| here.response(code));
        here.call_refused(1_000, Some(99));
        there.call_answered();
        other.unreachable(PeerId(2));
        one.unreachable(PeerId(9));
        assert!(one.line(PeerId::NONE).is_none());
        let told = evidence.account(PeerId(1));
        let leave_alone_ds = 10 + RETRY_AFTER_MAX_S * 10;
        assert_eq!(told.responses, [1, 0, 0, 0, 1, 0]);
        assert_eq!((told.requests, told.begun, told.heard()), (2, 1, 3));
        assert_eq!((told.calls_answered, told.calls_refused, told.retry_after), (2, 1, 1));
        assert_eq!(told.leave_alone_ds, leave_alone_ds, "bounded");
        assert_eq!((evidence.account(PeerId(2)).unreachable, evidence.alarms()), (1, 1));
        assert_eq!(evidence.account(PeerId(0)), Account::default());
        assert!(evidence.of(WorkerId(7)).line(PeerId(0)).is_none(), "a worker that is not in it");
    }

    #[test]
    fn dialogs_are_counted_where_that_was_asked_for_and_once_over_all_workers() {
        let evidence = Evidence::new(2, 3, vec![PeerId(2)]);
        for worker in [0, 1] {
            for call in 0..300_u64 {
                let hash = crate::balance::Key(3, 4).hash24(&call.to_le_bytes());
                let testimony = evidence.of(WorkerId(worker));
                testimony.request(PeerId(2), true, 5_000, Some(hash));
                testimony.begun(PeerId(2), 5_000, Some(hash));
                testimony.request(PeerId(1), true, 5_000, Some(hash));
            }
        }
        assert!(evidence.dialogs(PeerId(2), 6_000).is_some_and(|count| count.abs_diff(300) < 15));
        assert_eq!(evidence.dialogs(PeerId(1), 6_000), None);
    }

    #[test]
    fn who_icmp_errors_came_back_from_is_told_once_and_of_a_storm_the_last() {
        let evidence = Evidence::new(2, 100, Vec::new());
        let (one, other) = (evidence.of(WorkerId(0)), evidence.of(WorkerId(1)));
        let mut heard = Vec::new();
        assert!(evidence.rung(&mut heard).is_empty());
        [7, 3, 7].into_iter().for_each(|peer| one.unreachable(PeerId(peer)));
        [3, 100].into_iter().for_each(|peer| other.unreachable(PeerId(peer)));
        assert_eq!(evidence.rung(&mut heard), [PeerId(3), PeerId(7)]);
        assert!(evidence.rung(&mut heard).is_empty());
        (0..100).for_each(|peer| one.unreachable(PeerId(peer)));
        assert_eq!(evidence.rung(&mut heard), (100 - RUNG as u16..100).map(PeerId).collect::<Vec<_>>());
        assert_eq!((evidence.rung(&mut heard).len(), evidence.alarms()), (0, 104));
    }

    #[test]
    fn dialogs_are_counted_on_in_the_next_plan_wherever_it_puts_their_endpoint() {
        let hash = |call: u64| crate::balance::Key(3, 4).hash24(&call.to_le_bytes());
        let first = Evidence::new(2, 3, vec![PeerId(1), PeerId(2)]);
        (0..100).for_each(|call| first.of(WorkerId(1)).request(PeerId(2), false, 5_000, Some(hash(call))));
        let second = first.next(2, &[(PeerId(0), PeerId(2)), (PeerId(1), PeerId::NONE)], 6_000);
        assert!(second.dialogs(PeerId(0), 6_000).is_some_and(|count| count.abs_diff(100) < 5));
        assert_eq!(second.dialogs(PeerId(1), 6_000), Some(0), "another endpoint has that place now");
        assert_eq!(second.dialogs_counted_s(PeerId(0), 16_000), Some(16));
        assert_eq!(second.dialogs_counted_s(PeerId(1), 16_000), Some(10));
        // What the worker still writes into the evidence before is of the same dialogs.
        (100..200).for_each(|call| first.of(WorkerId(1)).request(PeerId(2), false, 6_000, Some(hash(call))));
        (150..250).for_each(|call| second.of(WorkerId(1)).request(PeerId(0), false, 6_000, Some(hash(call))));
        assert!(second.dialogs(PeerId(0), 7_000).is_some_and(|count| count.abs_diff(250) < 13));
        assert_eq!(second.account(PeerId(0)).requests, 100, "all else begins anew");
        let without = second.next(2, &[], 8_000);
        assert_eq!((without.dialogs(PeerId(0), 8_000), without.dialogs_counted_s(PeerId(0), 8_000)), (None, None));
    }
}
