//! One pass over a datagram for the headers that routing needs.
//!
//! Driven by the shard, once for each datagram received. Linear in the length of the head, without
//! allocation, for any bytes whatever: what is wrong is a fault in the message found, and the scan
//! goes on behind it so that the fault can be answered. Never looks at the body or at values that
//! routing has no use for.

use super::address;
use super::fault::Fault;
use super::field;
use super::lane::{self, AnyCase};
use super::lines::{self, Cutter, End};
use super::message::{Line, Message, Number, Span, Start};
use super::names::{Header, Method, Watch};
use super::{sight, start, uri, via};
use crate::packet::Window;

/// Longest datagram that spans can describe.
const LENGTH_MAX: usize = u16::MAX as usize;

const SIP: AnyCase = AnyCase::new(b"sip/");
const SIP_2_0: AnyCase = AnyCase::new(b"sip/2.0 ");
const VERSION: AnyCase = AnyCase::new(b" sip/2.0");

/// Scans a datagram. Always answers: what is wrong stands in [`Message::fault`].
#[inline(always)]
#[must_use]
pub fn scan(bytes: &[u8], watch: &Watch) -> Message {
    // Inlined so that the message is filled in where the caller keeps it.
    let mut message = Message::empty();
    fill(bytes, watch, &mut message);
    message
}

/// Scans the datagram that the first `len` bytes of a window are, as [`scan`] does, and quicker: into
/// `message`, which is empty.
#[inline(always)]
pub fn scan_in(window: &Window, len: usize, watch: &Watch, message: &mut Message) {
    fill_in(window, len, watch, message);
}

#[inline(never)]
fn fill(bytes: &[u8], watch: &Watch, message: &mut Message) {
    if bytes.len() > LENGTH_MAX {
        return message.blame(Fault::TooLong);
    }
    if !sight::taken(bytes, bytes, watch, message) {
        by_lines(bytes, watch, message);
    }
}

#[inline(never)]
fn fill_in(window: &Window, len: usize, watch: &Watch, message: &mut Message) {
    let Some(bytes) = window.get(..len) else { return message.blame(Fault::TooLong) };
    if !sight::taken(window, bytes, watch, message) {
        by_lines(bytes, watch, message);
    }
}

/// Scans line by line, for whatever was not taken at sight: faults are told in the order of the lines.
#[inline(never)]
fn by_lines(bytes: &[u8], watch: &Watch, message: &mut Message) {
    *message = Message::empty();
    message.head_end = bytes.len() as u16;
    message.end = bytes.len() as u16;
    message.first_header = bytes.len() as u16;
    let mut scan = Scan { bytes, watch, seen: 0, message };
    let mut cutter = Cutter::new(bytes, 0);
    let Some(first) = cutter.end(0) else {
        scan.start_line(bytes.len());
        return scan.fault(Fault::NoHeadEnd);
    };
    scan.start_line(first.at);
    if scan.message.fault == Some(Fault::NotSip) {
        return;
    }
    scan.told(first);
    scan.message.first_header = first.next as u16;
    let mut at = first.next;
    loop {
        let Some(end) = cutter.folded_end(at) else {
            scan.fault(Fault::NoHeadEnd);
            break;
        };
        scan.told(end);
        if end.at == at {
            scan.message.head_end = end.next as u16;
            break;
        }
        scan.line(at, end);
        at = end.next;
    }
    scan.finish();
}

/// A start line that is not what most are made of, and may be sound all the same; where the next line begins.
#[inline(never)]
pub(super) fn uncommon_start(bytes: &[u8], watch: &Watch, message: &mut Message) -> Option<usize> {
    let first = Cutter::new(bytes, 0).end(0).filter(|first| !first.bare)?;
    let mut scan = Scan { bytes, watch, seen: 0, message };
    scan.start_line(first.at);
    scan.message.fault.is_none().then_some(first.next)
}

struct Scan<'a> {
    bytes: &'a [u8],
    watch: &'a Watch,
    /// A bit for each header that must stand once and has been seen.
    seen: u8,
    message: &'a mut Message,
}

const SEEN_VIA: u8 = 1;
const SEEN_FROM: u8 = 2;
const SEEN_TO: u8 = 4;
const SEEN_CALL_ID: u8 = 8;
const SEEN_CSEQ: u8 = 16;
const SEEN_MAX_FORWARDS: u8 = 32;
const SEEN_CONTENT_LENGTH: u8 = 64;
const SEEN_ALL: u8 = SEEN_VIA | SEEN_FROM | SEEN_TO | SEEN_CALL_ID | SEEN_CSEQ;

impl Scan<'_> {
    #[inline(always)]
    fn fault(&mut self, fault: Fault) {
        self.message.blame(fault);
    }

    #[inline(always)]
    fn told(&mut self, end: End) {
        if end.bare {
            self.fault(Fault::BareLineEnd);
        }
    }

    /// The start line, which ends at `end`.
    #[inline(always)]
    fn start_line(&mut self, end: usize) {
        let word = lane::word(self.bytes, 0);
        if SIP.is(word) && end >= 4 {
            return self.status_line(word, end);
        }
        let version = end.saturating_sub(8);
        let (method, stop) = Method::frequent(word).unwrap_or_else(|| uncommon(self.bytes, end));
        let plain = stop > 0 && field::byte_at(self.bytes, stop, end) == b' ' && stop < version;
        if !plain || !VERSION.is(lane::word(self.bytes, version)) {
            return start::odd_request_line(self.bytes, end, self.message);
        }
        self.request(method, Span::new(0, stop), Span::new(stop + 1, version));
    }

    #[inline(always)]
    fn request(&mut self, method: Method, name: Span, uri: Span) {
        self.message.start = Start::Request { method, name, uri };
        match uri::parse_at(self.bytes, uri) {
            // A request-URI has no headers (RFC 3261 19.1.1).
            Some(parts) if parts.headers.is_empty() => self.message.scheme = parts.scheme,
            Some(parts) => {
                self.message.scheme = parts.scheme;
                self.fault(Fault::Uri);
            }
            None => self.fault(Fault::Uri),
        }
    }

    /// `word` holds the first bytes.
    #[inline(always)]
    fn status_line(&mut self, word: u64, end: usize) {
        let digits = lane::word(self.bytes, 8).to_le_bytes();
        let [a @ b'1'..=b'6', b @ b'0'..=b'9', c @ b'0'..=b'9', behind, ..] = digits else {
            return odd_status_line(word, self.message);
        };
        if !SIP_2_0.is(word) || (behind != b' ' && end != 11) || end < 11 {
            return odd_status_line(word, self.message);
        }
        let code = u16::from(a - b'0') * 100 + u16::from(b - b'0') * 10 + u16::from(c - b'0');
        self.message.start = Start::Response { code };
    }

    /// A header line that starts at `start`.
    #[inline(always)]
    fn line(&mut self, start: usize, end: End) {
        match lines::name(self.bytes, start, end.at, self.watch) {
            Ok(name) => {
                let value = field::trim(self.bytes, name.value.min(end.at), end.at);
                self.header(name.header, start, value, end.next);
            }
            Err(fault) => self.fault(fault),
        }
    }

    #[inline(always)]
    fn header(&mut self, header: Header, start: usize, value: Span, next: usize) {
        let line = Line { start: start as u16, value, next: next as u16 };
        let message = &mut *self.message;
        match header {
            Header::Via => {
                message.vias.add(line);
                if self.first(SEEN_VIA) {
                    self.via(line);
                }
            }
            Header::From => self.from(line),
            Header::To => self.to(line),
            Header::CallId => self.call_id(value),
            Header::CSeq => self.cseq(value),
            Header::MaxForwards => self.max_forwards(value),
            Header::ContentLength => self.content_length(value),
            Header::Expires => self.expires(value),
            Header::Route
            | Header::RecordRoute
            | Header::Contact
            | Header::Path
            | Header::ProxyRequire
            | Header::Supported
            | Header::Replaces
            | Header::Join
            | Header::Watched(_)
            | Header::Other => {
                if let Some(lines) = header.place().and_then(|place| message.listed(place)) {
                    lines.add(line);
                }
            }
        }
    }

    /// Whether `header` is seen for the first time.
    #[inline(always)]
    fn first(&mut self, header: u8) -> bool {
        let first = self.seen & header == 0;
        self.seen |= header;
        first
    }

    /// As `first`; a second time is a fault.
    #[inline(always)]
    fn once(&mut self, bit: u8, header: Header) -> bool {
        let first = self.first(bit);
        if !first {
            self.fault(Fault::Repeated(header));
        }
        first
    }

    #[inline(always)]
    fn via(&mut self, line: Line) {
        self.message.via.line = line;
        if let Err(fault) = via::parse(self.bytes, line.value, &mut self.message.via) {
            self.fault(fault);
        }
    }

    #[inline(always)]
    fn from(&mut self, line: Line) {
        if self.once(SEEN_FROM, Header::From) {
            self.message.from.line = line;
            if address::address(self.bytes, line.value, &mut self.message.from).is_none() {
                self.fault(Fault::From);
            }
        }
    }

    #[inline(always)]
    fn to(&mut self, line: Line) {
        if self.once(SEEN_TO, Header::To) {
            self.message.to.line = line;
            if address::address(self.bytes, line.value, &mut self.message.to).is_none() {
                self.fault(Fault::To);
            }
        }
    }

    #[inline(always)]
    fn call_id(&mut self, value: Span) {
        if self.once(SEEN_CALL_ID, Header::CallId) {
            self.message.call_id = value;
            if !field::call_id_sound(self.bytes, value) {
                self.fault(Fault::CallId);
            }
        }
    }

    #[inline(always)]
    fn cseq(&mut self, value: Span) {
        if self.once(SEEN_CSEQ, Header::CSeq) && field::cseq(self.bytes, value, &mut self.message.cseq).is_none() {
            self.fault(Fault::CSeq);
        }
    }

    #[inline(always)]
    fn max_forwards(&mut self, value: Span) {
        if !self.once(SEEN_MAX_FORWARDS, Header::MaxForwards) {
            return;
        }
        match field::number(self.bytes, value) {
            Some(number @ 0..=255) => self.message.max_forwards = Some(Number { value: number as u32, span: value }),
            _ => self.fault(Fault::MaxForwards),
        }
    }

    #[inline(always)]
    fn content_length(&mut self, value: Span) {
        if !self.once(SEEN_CONTENT_LENGTH, Header::ContentLength) {
            // Of two lengths none can be believed.
            self.message.content_length = None;
            return;
        }
        match field::number(self.bytes, value).and_then(|number| u32::try_from(number).ok()) {
            Some(number) => self.message.content_length = Some(Number { value: number, span: value }),
            None => self.fault(Fault::ContentLength),
        }
    }

    /// A proxy does not answer for Expires: what is no number is left alone, what is too large is
    /// cut off (RFC 3261 20.19).
    #[inline(always)]
    fn expires(&mut self, value: Span) {
        if let (None, Some(number)) = (self.message.expires, field::number(self.bytes, value)) {
            self.message.expires = Some(Number { value: number.min(u32::MAX.into()) as u32, span: value });
        }
    }

    /// What can be said only once all lines are known.
    #[inline(always)]
    fn finish(&mut self) {
        if self.seen & SEEN_ALL != SEEN_ALL {
            missing(self.seen, self.message);
        }
        if let Start::Request { name, .. } = self.message.start
            && !field::same(self.bytes, name, self.message.cseq.method)
        {
            self.fault(Fault::CSeqMethod);
        }
        let Some(length) = self.message.content_length else { return };
        let room = self.message.end - self.message.head_end;
        if length.value > u32::from(room) {
            return self.fault(Fault::TooShort);
        }
        self.message.end = self.message.head_end + length.value as u16;
    }
}

#[cold]
#[inline(never)]
fn missing(seen: u8, message: &mut Message) {
    let wanted = [
        (SEEN_VIA, Header::Via),
        (SEEN_FROM, Header::From),
        (SEEN_TO, Header::To),
        (SEEN_CALL_ID, Header::CallId),
        (SEEN_CSEQ, Header::CSeq),
    ];
    if let Some((_, header)) = wanted.iter().find(|(bit, _)| seen & bit == 0) {
        message.blame(Fault::Missing(*header));
    }
}

#[cold]
#[inline(never)]
fn odd_status_line(word: u64, message: &mut Message) {
    message.blame(if SIP_2_0.is(word) { Fault::StartLine } else { Fault::Version });
}

/// The method that stands before `end`, and its name's length.
#[inline(never)]
fn uncommon(bytes: &[u8], end: usize) -> (Method, usize) {
    let stop = field::token(bytes, 0, end);
    (Method::parse(Span::new(0, stop).of(bytes)), stop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(line: &str) -> Option<Fault> {
        let head = "OPTIONS sip:a@b SIP/2.0\r\nVia: SIP/2.0/UDP h\r\nFrom: <sip:a@b>\r\nTo: <sip:a@b>\r\n";
        scan(format!("{head}Call-ID: 1\r\nCSeq: 1 OPTIONS\r\n{line}\r\n\r\n").as_bytes(), &Watch::NONE).fault
    }

    #[test]
    fn lines_that_another_reader_could_name_otherwise_are_faults() {
        assert_eq!(fault("X-A \t: b"), None);
        assert_eq!(fault(": b"), Some(Fault::HeaderName));
        assert_eq!(fault("X(A): b"), Some(Fault::HeaderName));
        assert_eq!(fault("X A: b"), Some(Fault::HeaderName));
        assert_eq!(fault("X-A"), Some(Fault::HeaderSyntax));
        assert_eq!(fault("X\0A: b"), Some(Fault::ControlCharacter));
        assert_eq!(fault("\x0bRoute: b"), Some(Fault::ControlCharacter));
        assert_eq!(fault("Route:\x0bb"), Some(Fault::ControlCharacter));
        assert_eq!(fault("X-A: b\nRoute: c"), Some(Fault::BareLineEnd));
        assert_eq!(fault("X-A: b\rRoute: c"), Some(Fault::BareLineEnd));
        assert_eq!(fault("i: 2"), Some(Fault::Repeated(Header::CallId)));
    }

    #[test]
    fn a_method_in_cseq_is_read_to_its_end() {
        let head = "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP h\r\nFrom: <sip:a@b>\r\nTo: <sip:a@b>\r\nCall-ID: 1\r\n";
        let fault = |cseq: &str| {
            let text = format!("{head}CSeq: {cseq}\r\n\r\n");
            let mut room = vec![b'\r'; size_of::<Window>()];
            room[..text.len()].copy_from_slice(text.as_bytes());
            let mut message = Message::empty();
            scan_in(room.first_chunk().unwrap(), text.len(), &Watch::NONE, &mut message);
            assert_eq!(message, scan(text.as_bytes(), &Watch::NONE));
            message.fault
        };
        for length in 1..40 {
            let method = "ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEFGHIJKLMNOP".get(..length).unwrap();
            assert_eq!(fault(&format!("1 {method}")), None, "{length}");
            for odd in ["\0 x x x x x x xy", "                y", "\0"] {
                assert_eq!(fault(&format!("1 {method}{odd}")), Some(Fault::CSeq), "{length} {odd:?}");
            }
        }
    }

    #[test]
    fn what_is_not_sip_has_no_headers() {
        for bytes in [&b""[..], b"\r\n\r\n", b"GET / HTTP/1.1\r\nVia: x\r\n\r\n", b"\0\0\0\0", b":x\r\n\r\n"] {
            let message = scan(bytes, &Watch::NONE);
            assert_eq!(message.fault, Some(Fault::NotSip));
            assert_eq!(crate::sip::headers(bytes, &message).count(), 0);
        }
        assert_eq!(scan(&[b'a'; 65_536], &Watch::NONE).fault, Some(Fault::TooLong));
    }

    #[test]
    fn watched_names_are_found_in_any_case_and_spacing() {
        let watch = Watch::new(&["X-Sipring-Source"]).unwrap();
        let bytes = b"BYE sip:a SIP/2.0\r\nx-SIPRING-source : 1\r\nY: 2\r\nX-Sipring-Source:\r\n 3\r\n\r\n";
        let found = *scan(bytes, &watch).watched();
        assert_eq!((found[0].count, found[1].count), (2, 0));
        assert!(Watch::new(&["Via"]).is_none() && Watch::new(&["a b"]).is_none() && Watch::new(&["a"; 5]).is_none());
    }

    fn scanned(via: &str, from: &str, to: &str) -> (Vec<u8>, Message) {
        let bytes = format!(
            "OPTIONS sip:a@b SIP/2.0\r\nVia: SIP/2.0/UDP {via}\r\nFrom: {from}\r\nTo: {to}\r\nCall-ID: 1\r\nCSeq: 1 OPTIONS\r\n\r\n"
        );
        let message = scan(bytes.as_bytes(), &Watch::NONE);
        (bytes.into_bytes(), message)
    }

    #[test]
    fn an_rport_that_says_no_port_is_asked_for_where_its_digits_go() {
        use crate::sip::{Reply, Rport, reply};
        for via in ["h;rport=;branch=z9hG4bKa", "h;branch=z9hG4bKa;rport=0", "h;rport=", "h;branch=z9hG4bKa;rport=;"] {
            let (bytes, message) = scanned(via, "<sip:a@b>", "<sip:a@b>");
            assert_eq!(message.fault, None, "{via}");
            let Rport::Value { port: 0, span } = message.via.rport else { panic!("{via}") };
            assert!(bytes[..span.start.into()].ends_with(b"rport="));
            let mut out = [0; 512];
            let (received, rport) = (Some([192, 0, 2, 1].into()), Some(5062));
            let wanted = Reply { code: 200, reason: "OK", to_tag: None, received, rport, extra: b"" };
            let len = reply::write(&bytes, &message, &wanted, &mut out).unwrap();
            let answer = scan(&out[..len], &Watch::NONE);
            assert!(matches!(answer.via.rport, Rport::Value { port: 5062, .. }), "{via}");
            assert_eq!((answer.fault, answer.via.received.of(&out)), (None, &b"192.0.2.1"[..]), "{via}");
        }
        for via in ["h;rport=x", "h;rport=65536", "h;rport=;rport", "h;rport=\"\""] {
            assert_eq!(scanned(via, "<sip:a@b>", "<sip:a@b>").1.fault, Some(Fault::Via), "{via}");
        }
    }

    #[test]
    fn one_semicolon_too_many_at_the_end_of_a_value_is_no_fault() {
        let (bytes, message) = scanned("h;branch=z9hG4bKa;", "<sip:a@b>;tag=1 ; ", "sip:a@b;");
        assert_eq!(message.fault, None);
        assert!(message.via.value.of(&bytes).ends_with(b"Ka"));
        assert_eq!((message.from.tag.of(&bytes), message.to.uri.of(&bytes)), (&b"1"[..], &b"sip:a@b"[..]));
        let (bytes, message) = scanned("h ; , SIP/2.0/UDP i;", "<sip:a@b>", "<sip:a@b>");
        assert_eq!((message.fault, message.via.value.of(&bytes)), (None, &b"SIP/2.0/UDP h"[..]));
        assert_eq!(uri::name_addr(b"<sip:a>;").map(|it| it.params), Some(Span::NONE));
        assert_eq!(uri::name_addr(b"<sip:a>;lr;").map(|it| it.params), Some(Span::new(8, 10)));
        assert_eq!(scanned("h;;", "<sip:a@b>", "<sip:a@b>").1.fault, Some(Fault::Via));
        assert_eq!(scanned("h", "<sip:a@b>;;", "<sip:a@b>").1.fault, Some(Fault::From));
        assert_eq!(scanned("h", "<sip:a@b>", "<sip:a@b>;,").1.fault, Some(Fault::To));
    }

    #[test]
    fn display_names_without_quotes_hold_whatever_cannot_end_them() {
        for name in ["AT&T", "Bob (home)", "a@b", "Bob: =[1]/2?", "sip:a@b", "caf\u{e9} {x}|^$#"] {
            let (bytes, message) = scanned("h", &format!("{name} <sip:c@d>;tag=1"), "<sip:a@b>");
            assert_eq!((message.fault, message.from.uri.of(&bytes)), (None, &b"sip:c@d"[..]), "{name}");
            let value = format!("{name} <sip:c@d>");
            assert_eq!(uri::name_addr(value.as_bytes()).unwrap().display.of(value.as_bytes()), name.as_bytes());
        }
        for name in ["Bell, A", "a;b", "a\\b", "a \"b\"", "a>", "\"a", "a\x01b", "a\x7fb"] {
            assert_eq!(scanned("h", &format!("{name} <sip:c@d>"), "<sip:a@b>").1.fault, Some(Fault::From), "{name}");
        }
    }

    #[test]
    fn an_empty_tag_is_none_and_its_place_is_where_ours_goes() {
        use crate::sip::{Reply, reply};
        for to in ["<sip:a@b>;tag=", "<sip:a@b>;tag=;x=1", "sip:a@b;x;tag= ;", "<sip:a@b>;"] {
            let (bytes, message) = scanned("h", "<sip:a@b>;tag=", to);
            assert_eq!(message.fault, None, "{to}");
            assert!(message.to.tag.is_empty() && message.from.tag.is_empty());
            let mut out = [0; 512];
            let wanted =
                Reply { code: 200, reason: "OK", to_tag: Some(b"ours"), received: None, rport: None, extra: b"" };
            let len = reply::write(&bytes, &message, &wanted, &mut out).unwrap();
            let answer = scan(&out[..len], &Watch::NONE);
            assert_eq!((answer.fault, answer.to.tag.of(&out)), (None, &b"ours"[..]), "{to}");
        }
        assert_eq!(scanned("h", "<sip:a@b>;tag=;tag=1", "<sip:a@b>").1.fault, Some(Fault::From));
        assert_eq!(scanned("h", "<sip:a@b>", "<sip:a@b>;tag").1.fault, Some(Fault::To));
    }

    #[test]
    fn names_around_the_width_of_a_lane_are_told_apart() {
        for length in [15, 16, 17, 25] {
            let watched = format!("X-{}", "w".repeat(length - 2));
            let unknown = format!("X-{}", "u".repeat(length - 2));
            let longer = format!("{watched}w");
            let known = format!("{:<length$}", "Content-Length");
            let watch = Watch::new(&[&watched]).unwrap();
            for (case, gap) in [(false, ""), (true, ""), (false, " "), (true, "\t ")] {
                let name = if case { watched.to_uppercase() } else { watched.clone() };
                let bytes = format!(
                    "BYE sip:a SIP/2.0\r\n{unknown}{gap}: 1\r\n{name}{gap}: 2\r\n{longer}: 3\r\n{known}:0\r\n\r\n"
                );
                let message = scan(bytes.as_bytes(), &watch);
                assert_eq!(
                    (message.watched()[0].count, message.watched()[0].first.value.of(bytes.as_bytes())),
                    (1, &b"2"[..])
                );
                assert_eq!(message.content_length.map(|number| number.value), Some(0), "{length}");
                let lines: Vec<_> = crate::sip::headers(bytes.as_bytes(), &message).collect();
                let names: Vec<_> = lines.iter().map(|line| line.name.of(bytes.as_bytes())).collect();
                assert_eq!(names, [unknown.as_bytes(), name.as_bytes(), longer.as_bytes(), b"Content-Length"]);
                let headers: Vec<_> = lines.iter().map(|line| line.header).collect();
                assert_eq!(headers, [Header::Other, Header::Other, Header::Other, Header::ContentLength]);
            }
        }
    }

    #[test]
    fn a_body_that_begins_with_a_blank_is_no_fold_of_the_empty_line() {
        let head = "BYE sip:a SIP/2.0\r\nX: 1\r\n\r\n";
        for body in [" b\r\n", "\tb: c\r\n\r\n"] {
            let bytes = format!("{head}{body}");
            let message = scan(bytes.as_bytes(), &Watch::NONE);
            assert_eq!(message.head_end as usize, head.len());
            assert_eq!(crate::sip::headers(bytes.as_bytes(), &message).count(), 1);
        }
    }
}
