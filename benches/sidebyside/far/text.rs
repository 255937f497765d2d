//! The messages of the far side: written into one buffer, each text of a kind as long as all others of it.

use std::net::SocketAddr;
use std::sync::LazyLock;

use memchr::memmem::Finder;

/// The end of an INVITE and of its 200.
const BODY: &[u8] = b"Content-Type: application/sdp\r\nContent-Length: 173\r\n\r\n\
    v=0\r\no=- 3724394400 3724394400 IN IP4 192.0.2.10\r\ns=-\r\nc=IN IP4 192.0.2.10\r\nt=0 0\r\n\
    m=audio 40000 RTP/AVP 8 0 101\r\na=rtpmap:101 telephone-event/8000\r\na=ptime:20\r\na=sendrecv\r\n";
const EMPTY: &[u8] = b"\r\nContent-Length: 0\r\n\r\n";

/// What lengths are varied by.
const FILLER: &[u8] = b"xxxxxxxxxxxxxxxx";

pub(super) struct Text {
    varied: bool,
    bytes: Vec<u8>,
    client: Vec<u8>,
    nodes: Vec<Vec<u8>>,
    edge: Vec<u8>,
}

impl Text {
    /// `varied`: Call-ID, branch and tag are up to sixteen bytes longer, by the call.
    pub(super) fn new(client: SocketAddr, nodes: &[SocketAddr], edge: SocketAddr, varied: bool) -> Self {
        let text = |at: &SocketAddr| at.to_string().into_bytes();
        let nodes = nodes.iter().map(text).collect();
        Self { varied, bytes: Vec::with_capacity(4_096), client: text(&client), nodes, edge: text(&edge) }
    }

    /// What was written last.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn invite(&mut self, call: u64) {
        let [branch, tag, id] = fillers(call, self.varied);
        let number = digits(call);
        let Self { bytes, client, edge, .. } = self;
        bytes.clear();
        add(bytes, &[b"INVITE sip:bob@", edge, b" SIP/2.0\r\nVia: SIP/2.0/UDP ", client, b";branch=z9hG4bK-i-"]);
        add(bytes, &[&number, branch, b";rport\r\nMax-Forwards: 70\r\nFrom: \"Alice\" <sip:alice@example.net>;tag=a"]);
        add(bytes, &[&number, tag, b"\r\nTo: <sip:bob@example.net>\r\nCall-ID: ", &number, id]);
        add(
            bytes,
            &[b"@example.net\r\nCSeq: 1 INVITE\r\nContact: <sip:alice@", client, b">\r\nUser-Agent: traffic\r\n"],
        );
        add(bytes, &[b"Allow: INVITE, ACK, CANCEL, OPTIONS, BYE, INFO\r\n", BODY]);
    }

    /// The 200 of node `at`; false if it is no request to be answered so.
    pub(super) fn answer(&mut self, request: &[u8], at: usize) -> bool {
        let invite = request.starts_with(b"INVITE ");
        if !invite && !request.starts_with(b"BYE ") {
            return false;
        }
        let out = &mut self.bytes;
        out.clear();
        out.extend_from_slice(b"SIP/2.0 200 OK\r\n");
        for line in lines(request) {
            match line {
                [b'V', b'i', b'a', b':', ..] | [b'F', b'r', b'o', b'm', ..] | [b'C', b'a', b'l', b'l', ..] => {
                    out.extend_from_slice(line);
                }
                [b'C', b'S', b'e', b'q', ..] | [b'R', b'e', b'c', b'o', b'r', b'd', ..] => out.extend_from_slice(line),
                [b'T', b'o', b':', start @ .., b'>', b'\r', b'\n'] => {
                    out.extend_from_slice(b"To:");
                    out.extend_from_slice(start);
                    out.extend_from_slice(b">;tag=n0001\r\n");
                }
                [b'T', b'o', b':', ..] => out.extend_from_slice(line),
                _ => {}
            }
        }
        if invite {
            add(out, &[b"Contact: <sip:", &self.nodes[at], b">\r\n", BODY]);
        } else {
            out.extend_from_slice(b"Content-Length: 0\r\n\r\n");
        }
        true
    }

    /// A request along the route of a 200.
    pub(super) fn in_dialog(&mut self, response: &[u8], method: &str, cseq: &str) {
        let call = number(response).expect("a Call-ID of ours");
        let [branch, tag, id] = fillers(call, self.varied);
        let number = digits(call);
        let Self { bytes: out, client, .. } = self;
        // Nearest first: the last Record-Route is the first Route.
        let (mut routes, mut count) = ([&b""[..]; 8], 0);
        let (mut contact, mut to) = (&b""[..], &b""[..]);
        for line in lines(response) {
            match line {
                [b'R', b'e', b'c', b'o', b'r', b'd', b'-', b'R', b'o', b'u', b't', b'e', b':', b' ', route @ ..] => {
                    routes[count] = route;
                    count += 1;
                }
                [b'C', b'o', b'n', b't', b'a', b'c', b't', b':', b' ', b'<', uri @ .., b'>', b'\r', b'\n'] => {
                    contact = uri
                }
                [b'T', b'o', b':', b' ', value @ ..] => to = value,
                _ => {}
            }
        }
        out.clear();
        add(out, &[method.as_bytes(), b" ", contact, b" SIP/2.0\r\nVia: SIP/2.0/UDP ", client, b";branch=z9hG4bK-"]);
        add(out, &[method.as_bytes(), b"-", &number, branch, b";rport\r\nMax-Forwards: 70\r\n"]);
        routes[..count].iter().rev().for_each(|route| add(out, &[b"Route: ", route]));
        add(out, &[b"From: \"Alice\" <sip:alice@example.net>;tag=a", &number, tag, b"\r\nTo: ", to, b"Call-ID: "]);
        add(out, &[&number, id, b"@example.net\r\nCSeq: ", cseq.as_bytes(), b" ", method.as_bytes(), EMPTY]);
    }
}

#[inline]
fn add(out: &mut Vec<u8>, parts: &[&[u8]]) {
    parts.iter().for_each(|part| out.extend_from_slice(part));
}

/// Sixteen hexadecimal digits.
fn digits(call: u64) -> [u8; 16] {
    std::array::from_fn(|at| b"0123456789abcdef"[(call >> (60 - 4 * at)) as usize & 15])
}

/// What the branch, the tag and the Call-ID of a call are longer by.
fn fillers(call: u64, varied: bool) -> [&'static [u8]; 3] {
    let spread = call.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    let lengths = [spread, spread >> 8, spread >> 16].map(|bits| (bits & 0xff) as usize % (FILLER.len() + 1));
    lengths.map(|length| if varied { &FILLER[..length] } else { &[] })
}

/// Finds what stands before the number of a call.
static CALL_ID: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\r\nCall-ID: "));

/// The number of a message's call.
pub(super) fn number(message: &[u8]) -> Option<u64> {
    let at = CALL_ID.find(message)? + CALL_ID.needle().len();
    let digit = |number: u64, digit: &u8| Some(number << 4 | u64::from(char::from(*digit).to_digit(16)?));
    message.get(at..at + 16)?.iter().try_fold(0, digit)
}

/// The first letter of the method that a response answers: behind the number in CSeq, which follows the Call-ID.
pub(super) fn method(message: &[u8]) -> Option<u8> {
    let rest = message.get(CALL_ID.find(message)? + 2..)?;
    let line = lines(rest).find_map(|line| line.strip_prefix(b"CSeq: "))?;
    line.iter().copied().find(u8::is_ascii_uppercase)
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
