//! Callers and answering nodes in one thread that never sleeps: INVITE, 200, ACK, BYE, 200, over and over.
//!
//! So many calls are under way at any time, and a new one begins when one has ended: the process between them works as
//! fast as it can, and nobody's waking is billed to it. All that comes back is looked at.

use std::io::Write as _;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use sipring::datapath::{Batch, Datapath, Mmsg, Options, Waker};
use sipring::packet::{Egress, LocalPort, Outbox, Packet, PeerId, Pool, PoolOptions, PortId, PortRole, Sent};

const BATCH: usize = 64;
const SENDS_MAX: usize = 4 * BATCH;
/// A call that did not move on for so long is lost.
const PATIENCE: Duration = Duration::from_millis(500);
const CLIENT: PortId = PortId(0);
const SDP: &str = "v=0\r\no=- 3724394400 3724394400 IN IP4 192.0.2.10\r\ns=-\r\nc=IN IP4 192.0.2.10\r\nt=0 0\r\n\
                   m=audio 40000 RTP/AVP 8 0 101\r\na=rtpmap:101 telephone-event/8000\r\na=ptime:20\r\na=sendrecv\r\n";

/// What was seen in a time.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen {
    /// Messages that came through.
    pub(crate) messages: u64,
    /// Calls that did not move on.
    pub(crate) lost: u64,
    /// Messages that are none of the flow.
    pub(crate) strange: u64,
}

/// Callers and nodes.
pub(crate) struct Traffic {
    path: Mmsg,
    out: Outbox,
    batch: Batch,
    edge: SocketAddr,
    client: SocketAddr,
    nodes: Vec<SocketAddr>,
    /// By place in the window: number of the call, and when it last moved on.
    calls: Vec<(u64, Instant)>,
    now: Instant,
    text: Vec<u8>,
    seen: Seen,
}

impl Traffic {
    /// `window` calls under way from `client` by `edge` to `nodes`. For the thread that it is made on.
    pub(crate) fn new(client: SocketAddr, nodes: &[SocketAddr], edge: SocketAddr, window: usize) -> Self {
        let pool = Pool::new(&PoolOptions { slots: 2_048, threads: 1 }).unwrap();
        let binds = std::iter::once(client).chain(nodes.iter().copied());
        let ports = binds.map(|bind| LocalPort { bind, role: PortRole::Listener }).collect();
        let options = Options { ports, batch: BATCH, ..Options::default() };
        let now = Instant::now();
        Self {
            path: Mmsg::open(&options, pool, Waker::new().unwrap()).unwrap(),
            out: Outbox::new(pool, SENDS_MAX),
            batch: Batch::new(BATCH),
            edge,
            client,
            nodes: nodes.to_vec(),
            calls: (0..window as u64).map(|call| (call, now - PATIENCE)).collect(),
            now,
            text: Vec::with_capacity(4_096),
            seen: Seen::default(),
        }
    }

    /// Drives calls for `time`.
    pub(crate) fn run(&mut self, time: Duration) -> Seen {
        self.seen = Seen::default();
        let end = Instant::now() + time;
        let mut turns = 0_u32;
        while !turns.is_multiple_of(64) || Instant::now() < end {
            if turns.is_multiple_of(64) {
                self.now = Instant::now();
                self.begin_stale();
            }
            turns = turns.wrapping_add(1);
            self.path.recv(&mut self.batch, Some(Duration::ZERO)).unwrap();
            self.seen.messages += self.batch.packets.len() as u64;
            let mut packets = std::mem::take(&mut self.batch.packets);
            packets.drain(..).for_each(|packet| self.take(packet));
            self.batch.packets = packets;
            self.batch.events.clear();
            if !self.out.is_empty() {
                self.path.send(&mut self.out);
            }
        }
        assert_eq!(self.path.counts().send_errors.sum(), 0);
        self.seen
    }

    /// Begins the calls of a new window, and those that were lost anew.
    fn begin_stale(&mut self) {
        for place in 0..self.calls.len() {
            let (call, moved) = self.calls[place];
            if self.out.room() > 0 && self.now.duration_since(moved) >= PATIENCE {
                self.seen.lost += u64::from(call >= self.calls.len() as u64);
                self.begin(place);
            }
        }
        self.path.send(&mut self.out);
    }

    fn begin(&mut self, place: usize) {
        let call = self.calls[place].0 + self.calls.len() as u64;
        self.calls[place] = (call, self.now);
        let (edge, client) = (self.edge, self.client);
        self.text.clear();
        write!(
            self.text,
            "INVITE sip:bob@{edge} SIP/2.0\r\nVia: SIP/2.0/UDP {client};branch=z9hG4bK-i-{call:016x};rport\r\n\
             Max-Forwards: 70\r\nFrom: \"Alice\" <sip:alice@example.net>;tag=a{call:016x}\r\nTo: <sip:bob@example.net>\r\n\
             Call-ID: {call:016x}@example.net\r\nCSeq: 1 INVITE\r\nContact: <sip:alice@{client}>\r\n\
             User-Agent: traffic\r\nAllow: INVITE, ACK, CANCEL, OPTIONS, BYE, INFO\r\nContent-Type: application/sdp\r\n\
             Content-Length: {}\r\n\r\n{SDP}",
            SDP.len()
        )
        .unwrap();
        self.post(CLIENT, edge);
    }

    /// Sends what was written.
    fn post(&mut self, port: PortId, to: SocketAddr) {
        let mut packet = self.path.take().expect("slots enough");
        assert!(packet.replace(&self.text));
        self.out.decided(packet, Egress { port, peer: PeerId::NONE, to }, Sent::Originated).expect("room enough");
    }

    fn take(&mut self, packet: Packet) {
        if packet.port == CLIENT { self.take_response(&packet) } else { self.take_request(&packet) }
    }

    /// A node answers 200 with what is to be copied.
    fn take_request(&mut self, packet: &Packet) {
        let bytes = packet.bytes();
        if bytes.starts_with(b"ACK ") {
            return;
        }
        if !bytes.starts_with(b"INVITE ") && !bytes.starts_with(b"BYE ") {
            self.seen.strange += 1;
            return;
        }
        self.text.clear();
        self.text.extend_from_slice(b"SIP/2.0 200 OK\r\n");
        for line in lines(bytes) {
            match line {
                [b'V', b'i', b'a', b':', ..] | [b'F', b'r', b'o', b'm', ..] | [b'C', b'a', b'l', b'l', ..] => {
                    self.text.extend_from_slice(line);
                }
                [b'C', b'S', b'e', b'q', ..] | [b'R', b'e', b'c', b'o', b'r', b'd', ..] => {
                    self.text.extend_from_slice(line);
                }
                [b'T', b'o', b':', .., b'>', b'\r', b'\n'] => {
                    self.text.extend_from_slice(&line[..line.len() - 2]);
                    self.text.extend_from_slice(b";tag=n0001\r\n");
                }
                [b'T', b'o', b':', ..] => self.text.extend_from_slice(line),
                _ => {}
            }
        }
        let node = self.nodes[usize::from(packet.port.0) - 1];
        if bytes.starts_with(b"INVITE ") {
            write!(self.text, "Contact: <sip:{node}>\r\nContent-Type: application/sdp\r\n").unwrap();
            write!(self.text, "Content-Length: {}\r\n\r\n{SDP}", SDP.len()).unwrap();
        } else {
            self.text.extend_from_slice(b"Content-Length: 0\r\n\r\n");
        }
        self.post(packet.port, packet.source);
    }

    /// A caller confirms a 200 and hangs up; when that is confirmed, it calls again.
    fn take_response(&mut self, packet: &Packet) {
        let bytes = packet.bytes();
        let line = |start: &[u8]| lines(bytes).find(|line| line.starts_with(start));
        let call = line(b"Call-ID: ").and_then(|line| line.get(9..25)).map(|hex| std::str::from_utf8(hex).unwrap());
        let call = call.and_then(|hex| u64::from_str_radix(hex, 16).ok());
        let place = call.map(|call| (call, call as usize % self.calls.len()));
        let Some((call, place)) = place.filter(|(call, place)| self.calls[*place].0 == *call) else {
            self.seen.strange += 1;
            return;
        };
        let method = line(b"CSeq: ").unwrap_or_default();
        match (bytes.starts_with(b"SIP/2.0 200 "), method) {
            (true, b"CSeq: 1 INVITE\r\n") => {
                self.calls[place].1 = self.now;
                self.in_dialog(bytes, call, "ACK", 1);
                self.in_dialog(bytes, call, "BYE", 2);
            }
            (true, b"CSeq: 2 BYE\r\n") => self.begin(place),
            _ => self.seen.strange += 1,
        }
    }

    /// Writes and sends a request along the route of a 200.
    fn in_dialog(&mut self, response: &[u8], call: u64, method: &str, number: u32) {
        let (edge, client) = (self.edge, self.client);
        self.text.clear();
        let value = |name: &[u8]| lines(response).find(|line| line.starts_with(name)).map(|line| &line[name.len()..]);
        let contact = value(b"Contact: <").and_then(|value| value.strip_suffix(b">\r\n")).expect("a Contact");
        write!(self.text, "{method} ").unwrap();
        self.text.extend_from_slice(contact);
        write!(
            self.text,
            " SIP/2.0\r\nVia: SIP/2.0/UDP {client};branch=z9hG4bK-{method}-{call:016x};rport\r\nMax-Forwards: 70\r\n"
        )
        .unwrap();
        let start = self.text.len();
        for route in lines(response).filter_map(|line| line.strip_prefix(b"Record-Route: ")) {
            // Nearest first: each goes before those that stand already.
            let text: Vec<u8> = [b"Route: ", route].concat();
            self.text.splice(start..start, text);
        }
        write!(self.text, "From: \"Alice\" <sip:alice@example.net>;tag=a{call:016x}\r\nTo: ").unwrap();
        self.text.extend_from_slice(value(b"To: ").expect("a To"));
        write!(self.text, "Call-ID: {call:016x}@example.net\r\nCSeq: {number} {method}\r\nContent-Length: 0\r\n\r\n")
            .unwrap();
        self.post(CLIENT, edge);
    }
}

/// The lines of a message's head with their ends, the start line too.
fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let end = memchr::memchr(b'\n', rest)? + 1;
        let (line, after) = rest.split_at(end);
        rest = after;
        (line.len() > 2).then_some(line)
    })
}
