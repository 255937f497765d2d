//! The messages of the far side: written into one buffer, each text of a kind as long as all others of it.

use std::io::Write as _;
use std::net::SocketAddr;

const SDP: &str = "v=0\r\no=- 3724394400 3724394400 IN IP4 192.0.2.10\r\ns=-\r\nc=IN IP4 192.0.2.10\r\nt=0 0\r\n\
                   m=audio 40000 RTP/AVP 8 0 101\r\na=rtpmap:101 telephone-event/8000\r\na=ptime:20\r\na=sendrecv\r\n";

/// What lengths are varied by.
const FILLER: &str = "xxxxxxxxxxxxxxxx";

pub(super) struct Text {
    varied: bool,
    bytes: Vec<u8>,
    client: SocketAddr,
    nodes: Vec<SocketAddr>,
    edge: SocketAddr,
}

impl Text {
    /// `varied`: Call-ID, branch and tag are up to sixteen bytes longer, by the call.
    pub(super) fn new(client: SocketAddr, nodes: &[SocketAddr], edge: SocketAddr, varied: bool) -> Self {
        Self { varied, bytes: Vec::with_capacity(4_096), client, nodes: nodes.to_vec(), edge }
    }

    /// What was written last.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn invite(&mut self, call: u64) {
        let [branch, tag, id] = fillers(call, self.varied);
        let Self { bytes, client, edge, .. } = self;
        bytes.clear();
        write!(
            bytes,
            "INVITE sip:bob@{edge} SIP/2.0\r\nVia: SIP/2.0/UDP {client};branch=z9hG4bK-i-{call:016x}{branch};rport\r\n\
             Max-Forwards: 70\r\nFrom: \"Alice\" <sip:alice@example.net>;tag=a{call:016x}{tag}\r\n\
             To: <sip:bob@example.net>\r\nCall-ID: {call:016x}{id}@example.net\r\nCSeq: 1 INVITE\r\nContact: <sip:alice@{client}>\r\n\
             User-Agent: traffic\r\nAllow: INVITE, ACK, CANCEL, OPTIONS, BYE, INFO\r\nContent-Type: application/sdp\r\n\
             Content-Length: {}\r\n\r\n{SDP}",
            SDP.len()
        )
        .expect("memory");
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
            let node = self.nodes[at];
            write!(out, "Contact: <sip:{node}>\r\nContent-Type: application/sdp\r\n").expect("memory");
            write!(out, "Content-Length: {}\r\n\r\n{SDP}", SDP.len()).expect("memory");
        } else {
            out.extend_from_slice(b"Content-Length: 0\r\n\r\n");
        }
        true
    }

    /// A request along the route of a 200.
    pub(super) fn in_dialog(&mut self, response: &[u8], method: &str, cseq: u32) {
        let call = number(response).expect("a Call-ID of ours");
        let [branch, tag, id] = fillers(call, self.varied);
        let Self { bytes: out, client, .. } = self;
        let value = |name: &[u8]| lines(response).find_map(|line| line.strip_prefix(name));
        out.clear();
        write!(out, "{method} ").expect("memory");
        let contact = value(b"Contact: <").and_then(|value| value.strip_suffix(b">\r\n")).expect("a Contact");
        out.extend_from_slice(contact);
        write!(
            out,
            " SIP/2.0\r\nVia: SIP/2.0/UDP {client};branch=z9hG4bK-{method}-{call:016x}{branch};rport\r\n\
             Max-Forwards: 70\r\n"
        )
        .expect("memory");
        // Nearest first: the last Record-Route is the first Route.
        let mut routes = [&b""[..]; 8];
        let mut count = 0;
        for route in lines(response).filter_map(|line| line.strip_prefix(b"Record-Route: ")) {
            routes[count] = route;
            count += 1;
        }
        for route in routes[..count].iter().rev() {
            out.extend_from_slice(b"Route: ");
            out.extend_from_slice(route);
        }
        write!(out, "From: \"Alice\" <sip:alice@example.net>;tag=a{call:016x}{tag}\r\nTo: ").expect("memory");
        out.extend_from_slice(value(b"To: ").expect("a To"));
        write!(out, "Call-ID: {call:016x}{id}@example.net\r\nCSeq: {cseq} {method}\r\nContent-Length: 0\r\n\r\n")
            .expect("memory");
    }
}

/// What the branch, the tag and the Call-ID of a call are longer by.
fn fillers(call: u64, varied: bool) -> [&'static str; 3] {
    let spread = call.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    let lengths = [spread, spread >> 8, spread >> 16].map(|bits| (bits & 0xff) as usize % (FILLER.len() + 1));
    lengths.map(|length| if varied { &FILLER[..length] } else { "" })
}

/// The number of a message's call.
pub(super) fn number(message: &[u8]) -> Option<u64> {
    let hex = lines(message).find_map(|line| line.strip_prefix(b"Call-ID: "))?.get(..16)?;
    u64::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok()
}

/// The first letter of the method that a response answers.
pub(super) fn method(message: &[u8]) -> Option<u8> {
    let line = lines(message).find_map(|line| line.strip_prefix(b"CSeq: "))?;
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
