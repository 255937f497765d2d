//! The far side: callers and answering nodes in one thread that never sleeps, the same for all that is measured.
//!
//! INVITE, 200, ACK, BYE, 200, over and over: so many calls under way at any time, or so many begun each second. All that
//! comes back is looked at. What carries the messages is a door; both doors send and receive cheaper than what stands
//! between them, so that this is the one that works as fast as it can.

mod door;
pub(crate) mod sockets;
mod text;
pub(crate) mod xdp;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

pub(crate) use door::{Came, Door};
use text::Text;

/// A call that did not move on for so long is lost.
const PATIENCE: Duration = Duration::from_millis(500);
/// Calls that can be under way when so many are begun each second.
const OPEN_MAX: usize = 4_096;
/// Latencies are kept to three digits, up to a second.
const LATENCY_MAX_NS: u64 = 1_000_000_000;

/// How calls are begun.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Pace {
    /// So many are under way; one that ends is followed by another.
    Window(usize),
    /// So many are begun each second.
    PerSecond(f64),
}

/// What is carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    /// Calls, all messages of a kind of one length.
    Calls,
    /// Calls whose Call-ID, branch and tag are up to sixteen bytes longer each; every datagram is sent by itself.
    Varied,
    /// INVITEs alone, which nobody answers.
    Requests,
}

/// What was seen in a time.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// Messages that came through.
    pub(crate) messages: u64,
    /// Calls that did not move on, or could not be begun in time.
    pub(crate) lost: u64,
    /// Messages that are none of the flow.
    pub(crate) strange: u64,
    /// Requests that came to their node before one that was sent earlier.
    pub(crate) overtaken: u64,
    /// Requests that came, and trains that they came in.
    pub(crate) requests: u64,
    pub(crate) trains: u64,
    /// Time in turns that had something to do.
    pub(crate) busy: Duration,
    pub(crate) elapsed: Duration,
    /// From one side to the other, ns: of INVITE, BYE and the two 200.
    pub(crate) latency: Histogram<u64>,
}

impl Seen {
    fn new() -> Self {
        let latency = Histogram::new_with_max(LATENCY_MAX_NS, 3).expect("bounds of a histogram");
        Self {
            messages: 0,
            lost: 0,
            strange: 0,
            overtaken: 0,
            requests: 0,
            trains: 0,
            busy: Duration::ZERO,
            elapsed: Duration::ZERO,
            latency,
        }
    }
}

/// What left from one side and what came to it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Record {
    pub(crate) went: Vec<Vec<u8>>,
    pub(crate) came: Vec<Vec<u8>>,
}

#[derive(Clone, Copy)]
struct Call {
    /// Its place in the table is this modulo the table's length.
    number: u64,
    moved: Instant,
    /// When its last message left, until that has come.
    left: Option<Instant>,
    open: bool,
    confirmed: bool,
}

/// Callers at one door, nodes at the other.
pub(crate) struct Traffic<D> {
    client: D,
    nodes: D,
    edge: SocketAddr,
    text: Text,
    calls: Vec<Call>,
    /// Places without a call, if calls are begun by the clock.
    idle: Vec<usize>,
    pace: Pace,
    flow: Flow,
    due: Instant,
    now: Instant,
    seen: Seen,
    /// Of callers, of nodes.
    record: Option<[Record; 2]>,
}

impl<D: Door> Traffic<D> {
    /// Calls from the first address of `client`, at `client_at`, by `edge` to what answers at `nodes_at`.
    pub(crate) fn new(
        (client, client_at): (D, SocketAddr),
        (nodes, nodes_at): (D, &[SocketAddr]),
        edge: SocketAddr,
        pace: Pace,
        flow: Flow,
    ) -> Self {
        let now = Instant::now();
        let places = if let Pace::Window(window) = pace { window } else { OPEN_MAX };
        let call = |number: usize| Call {
            number: number as u64,
            moved: now - PATIENCE,
            left: None,
            open: false,
            confirmed: false,
        };
        Self {
            client,
            nodes,
            edge,
            text: Text::new(client_at, nodes_at, edge, flow == Flow::Varied),
            flow,
            calls: (0..places).map(call).collect(),
            idle: (0..places).collect(),
            pace,
            due: now,
            now,
            seen: Seen::new(),
            record: None,
        }
    }

    /// Drives calls for `time`.
    pub(crate) fn run(&mut self, time: Duration) -> Seen {
        self.seen = Seen::new();
        let begun = Instant::now();
        (self.now, self.due) = (begun, begun);
        let mut turns = 0_u32;
        while self.now < begun + time {
            if turns.is_multiple_of(64) {
                self.drop_stale();
            }
            turns = turns.wrapping_add(1);
            let mut worked = self.begin_due();
            worked |= self.take_requests() > 0;
            worked |= self.take_responses() > 0;
            let now = Instant::now();
            if worked {
                self.seen.busy += now - self.now;
            }
            self.now = now;
        }
        self.seen.elapsed = begun.elapsed();
        std::mem::replace(&mut self.seen, Seen::new())
    }

    /// Drives calls for `time` and keeps all messages: of callers, of nodes.
    pub(crate) fn record(&mut self, time: Duration) -> [Record; 2] {
        self.record = Some(Default::default());
        self.run(time);
        self.record.take().expect("what was kept")
    }

    /// Begins anew what was lost, and a window that is not full.
    fn drop_stale(&mut self) {
        for place in 0..self.calls.len() {
            let Call { moved, open, .. } = self.calls[place];
            let windowed = matches!(self.pace, Pace::Window(_));
            if (open || windowed) && self.now.duration_since(moved) >= PATIENCE {
                self.seen.lost += u64::from(open);
                self.end(place);
            }
        }
        self.client.flush();
    }

    /// Begins the calls whose time has come; whether there were any.
    fn begin_due(&mut self) -> bool {
        let Pace::PerSecond(rate) = self.pace else { return false };
        let mut any = false;
        while self.due <= self.now {
            self.due += Duration::from_secs_f64(1.0 / rate);
            any = true;
            match self.idle.pop() {
                Some(place) => self.begin(place),
                None => self.seen.lost += 1,
            }
        }
        if any {
            self.client.flush();
        }
        any
    }

    /// A call is over: another follows, or its place waits for one.
    fn end(&mut self, place: usize) {
        self.calls[place].open = false;
        if matches!(self.pace, Pace::Window(_)) {
            self.begin(place);
        } else {
            self.idle.push(place);
        }
    }

    fn begin(&mut self, place: usize) {
        let number = self.calls[place].number + self.calls.len() as u64;
        self.calls[place] = Call { number, moved: self.now, left: Some(self.now), open: true, confirmed: false };
        self.text.invite(number);
        self.post_by_client();
    }

    fn post_by_client(&mut self) {
        if let Some([record, _]) = &mut self.record {
            record.went.push(self.text.bytes().to_vec());
        }
        self.client.post(0, self.edge, self.text.bytes());
    }

    /// The place of the call that a message names, if that is under way.
    fn place(&self, number: Option<u64>) -> Option<usize> {
        let place = number? as usize % self.calls.len();
        (Some(self.calls[place].number) == number).then_some(place)
    }

    /// A message of the call at `place` has come, and another leaves.
    fn passed(&mut self, place: usize) {
        let call = &mut self.calls[place];
        if let Some(left) = call.left.replace(self.now) {
            let ns = self.now.duration_since(left).as_nanos() as u64;
            self.seen.latency.saturating_record(ns);
        }
    }

    /// Nodes answer 200 with what is to be copied.
    fn take_requests(&mut self) -> usize {
        let came = self.nodes.receive();
        if came > 0 && self.paced() {
            self.now = Instant::now();
        }
        for nth in 0..came {
            let Came { at, from, bytes } = self.nodes.came(nth);
            if let Some([_, record]) = &mut self.record {
                record.came.push(bytes.to_vec());
            }
            let (first, place) = (bytes.first().copied(), self.place(text::number(bytes)));
            let answered = self.flow != Flow::Requests && self.text.answer(bytes, at);
            let Some(place) = place else {
                self.seen.strange += 1;
                continue;
            };
            if !answered {
                self.end_or_confirm(place, first);
                continue;
            }
            self.seen.overtaken += u64::from(first == Some(b'B') && !self.calls[place].confirmed);
            self.passed(place);
            if let Some([_, record]) = &mut self.record {
                record.went.push(self.text.bytes().to_vec());
            }
            self.nodes.post(at, from, self.text.bytes());
        }
        self.seen.messages += came as u64;
        self.seen.requests += came as u64;
        self.seen.trains += self.nodes.trains();
        if came > 0 {
            self.nodes.flush();
            if self.flow == Flow::Requests {
                self.client.flush();
            }
        }
        came
    }

    /// A request that nobody answers has come.
    fn end_or_confirm(&mut self, place: usize, first: Option<u8>) {
        match (self.flow, first) {
            (Flow::Requests, Some(b'I')) => {
                self.passed(place);
                self.end(place);
            }
            (Flow::Calls | Flow::Varied, Some(b'A')) => self.calls[place].confirmed = true,
            _ => self.seen.strange += 1,
        }
    }

    /// A caller confirms a 200 and hangs up; when that is confirmed, the call is over.
    fn take_responses(&mut self) -> usize {
        let came = self.client.receive();
        if came > 0 && self.paced() {
            self.now = Instant::now();
        }
        // Of the subject's own, and none that it forwarded.
        let mut provisional = 0;
        for nth in 0..came {
            let bytes = self.client.came(nth).bytes;
            if let Some([record, _]) = &mut self.record {
                record.came.push(bytes.to_vec());
            }
            if bytes.starts_with(b"SIP/2.0 1") {
                provisional += 1;
                continue;
            }
            let (ok, number, method) = (bytes.starts_with(b"SIP/2.0 200 "), text::number(bytes), text::method(bytes));
            match (self.place(number).filter(|_| ok), method) {
                (Some(place), Some(b'I')) => {
                    self.passed(place);
                    self.calls[place].moved = self.now;
                    for (method, cseq) in [("ACK", "1"), ("BYE", "2")] {
                        self.text.in_dialog(self.client.came(nth).bytes, method, cseq);
                        self.post_by_client();
                    }
                }
                (Some(place), Some(b'B')) => {
                    self.passed(place);
                    self.end(place);
                }
                _ => self.seen.strange += 1,
            }
        }
        self.seen.messages += came as u64 - provisional;
        if came > 0 {
            self.client.flush();
        }
        came
    }

    /// Whether turns are so short of messages that a clock reading more does no harm, and latency so low that it matters.
    fn paced(&self) -> bool {
        matches!(self.pace, Pace::PerSecond(_))
    }
}
