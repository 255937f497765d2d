//! Lines that are written as nearly all write them, taken from front to back without looking for
//! their ends first.
//!
//! Driven by `scan`, which takes apart itself whatever is left: a line is taken whole or not at all,
//! and what is taken means what the grammar says. Never finds a fault.

use super::address;
use super::lane::{self, Lane};
use super::lines;
use super::message::{Address, CSeq, Line, Lines, Message, Number, Span, Start, Via};
use super::names::{Header, Method, Watch};
use super::scan::{SEEN_CALL_ID, SEEN_CONTENT_LENGTH, SEEN_CSEQ, SEEN_FROM, SEEN_MAX_FORWARDS, SEEN_TO, SEEN_VIA};
use super::{uri, via};

/// A name with its colon and a blank.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Known {
    name: [u8; 16],
    /// Bit 5 of each letter, whose case means nothing.
    cases: [u8; 16],
    /// A bit for each byte behind the name.
    rest: u16,
    length: u8,
    header: Header,
}

const SLOTS: usize = 64;

/// Where the name stands that begins with these bytes.
#[inline(always)]
const fn slot(first: [u8; 4], further: [u8; 4]) -> usize {
    const CONT: u32 = u32::from_le_bytes(*b"cont");
    let first = u32::from_le_bytes(first) | 0x2020_2020;
    let key = if first == CONT { u32::from_le_bytes(further) | 0x2020_2020 } else { first };
    (key.wrapping_mul(0xe3c0_43a9) >> 26) as usize
}

/// No two share a slot.
static KNOWN: [Known; SLOTS] = known();

const NAMES: [(&[u8], Header); 33] = [
    (b"via: ", Header::Via),
    (b"from: ", Header::From),
    (b"to: ", Header::To),
    (b"call-id: ", Header::CallId),
    (b"cseq: ", Header::CSeq),
    (b"contact: ", Header::Contact),
    (b"content-length: ", Header::ContentLength),
    (b"max-forwards: ", Header::MaxForwards),
    (b"route: ", Header::Route),
    (b"record-route: ", Header::RecordRoute),
    (b"replaces: ", Header::Replaces),
    (b"path: ", Header::Path),
    (b"proxy-require: ", Header::ProxyRequire),
    (b"supported: ", Header::Supported),
    (b"expires: ", Header::Expires),
    (b"join: ", Header::Join),
    (b"allow: ", Header::Other),
    (b"user-agent: ", Header::Other),
    (b"content-type: ", Header::Other),
    (b"accept: ", Header::Other),
    (b"server: ", Header::Other),
    (b"date: ", Header::Other),
    (b"event: ", Header::Other),
    (b"reason: ", Header::Other),
    (b"require: ", Header::Other),
    (b"subject: ", Header::Other),
    (b"privacy: ", Header::Other),
    (b"min-se: ", Header::Other),
    (b"rseq: ", Header::Other),
    (b"rack: ", Header::Other),
    (b"organization: ", Header::Other),
    (b"authorization: ", Header::Other),
    (b"warning: ", Header::Other),
];

#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler")]
const fn known() -> [Known; SLOTS] {
    // Of no bytes whatever.
    let none = Known { name: [0; 16], cases: [0xff; 16], rest: 0, length: 0, header: Header::Other };
    let mut all = [none; SLOTS];
    let mut left: &[(&[u8], Header)] = &NAMES;
    while let [(text, header), tail @ ..] = left {
        let mut known = Known {
            name: [0; 16],
            cases: [0; 16],
            rest: !((1u32 << text.len()) - 1) as u16,
            length: text.len() as u8,
            header: *header,
        };
        let mut index = 0;
        while index < text.len() {
            known.name[index] = text[index];
            known.cases[index] = if text[index].is_ascii_lowercase() { 0x20 } else { 0 };
            index += 1;
        }
        let [a, b, c, d, _, e, f, g, h, ..] = known.name;
        let slot = slot([a, b, c, d], [e, f, g, h]);
        assert!(all[slot].length == 0);
        all[slot] = known;
        left = tail;
    }
    all
}

/// The header that the line at `at` names, and where its value begins, behind one blank.
#[inline(always)]
fn name(bytes: &[u8], at: usize) -> Option<(Header, usize)> {
    let chunk: &[u8; 16] = lane::chunk(bytes, at)?;
    let [a, b, c, d, _, e, f, g, h, ..] = *chunk;
    let known = KNOWN.get(slot([a, b, c, d], [e, f, g, h]))?;
    let same = Lane::new(chunk).or(Lane::new(&known.cases)).equal(Lane::new(&known.name)).bits();
    (same | u32::from(known.rest) == u32::from(u16::MAX)).then_some((known.header, at + known.length as usize))
}

/// As `name`, of whatever `lines` knows and of names that mean nothing here.
fn other_name(bytes: &[u8], at: usize, watch: &Watch) -> Option<(Header, usize)> {
    if bytes.get(at)? <= &b' ' {
        return None;
    }
    let (header, length) = lines::plain(bytes, at, bytes.len(), watch)?;
    let sound = lane::plain_end(bytes, at, at + length) == at + length;
    (sound && bytes.get(at + length + 1) == Some(&b' ')).then_some((header, at + length + 2))
}

/// Behind the line end at `at`, if it is CRLF and, as far as a glance tells, no fold.
#[inline(always)]
fn line_end(bytes: &[u8], at: usize) -> Option<usize> {
    const CRLF: u32 = u32::from_le_bytes(*b"\0\0\r\n");
    // Of white space and few other bytes these bits leave nothing.
    const NO_FOLD: u32 = 0xd6;
    let word = u32::from_le_bytes(*lane::chunk(bytes, at)?) & (NO_FOLD << 16 | 0xffff);
    // CR and LF are subtracted, one of them shows as a number out of bounds; so does none behind.
    (word.rotate_left(16).wrapping_sub(CRLF + 1) < NO_FOLD).then_some(at + 2)
}

#[inline(always)]
fn line_stop(lane: Lane) -> Lane {
    lane.up_to(b'\r')
}

/// The start line; where the next begins.
#[inline(always)]
pub(super) fn start_line(bytes: &[u8], message: &mut Message) -> Option<usize> {
    let word = lane::word(bytes, 0);
    if word == u64::from_le_bytes(*b"SIP/2.0 ") {
        let [a @ b'1'..=b'6', b @ b'0'..=b'9', c @ b'0'..=b'9', b' '] = lane::chunk(bytes, 8)? else { return None };
        let next = line_end(bytes, lane::stop(bytes, 12, line_stop)?)?;
        let code = u16::from(a - b'0') * 100 + u16::from(b - b'0') * 10 + u16::from(c - b'0');
        message.start = Start::Response { code };
        return Some(next);
    }
    let (method, length) = Method::frequent(word)?;
    let (parts, stop) = uri::plain(bytes, length + 1)?;
    if lane::chunk(bytes, stop)? != b" SIP/2.0" {
        return None;
    }
    let next = line_end(bytes, stop + 8)?;
    message.start = Start::Request { method, name: Span::new(0, length), uri: Span::new(length + 1, stop) };
    message.scheme = parts.scheme;
    Some(next)
}

/// Takes header lines from `at` on; where the first begins that was not taken.
#[inline(always)]
pub(super) fn header_lines(bytes: &[u8], watch: &Watch, message: &mut Message, seen: &mut u8, mut at: usize) -> usize {
    loop {
        let next = match name(bytes, at) {
            Some((header, value)) => line(bytes, watch, message, seen, header, at, value),
            None if bytes.get(at) == Some(&b'\r') => return at,
            None => other_line(bytes, watch, message, seen, at),
        };
        let Some(next) = next else { return at };
        at = next;
    }
}

#[inline(never)]
fn other_line(bytes: &[u8], watch: &Watch, message: &mut Message, seen: &mut u8, at: usize) -> Option<usize> {
    let (header, value) = other_name(bytes, at, watch)?;
    line(bytes, watch, message, seen, header, at, value)
}

/// Takes the line at `start`, whose value begins at `at`; where the next line begins.
#[inline(always)]
fn line(
    bytes: &[u8],
    watch: &Watch,
    message: &mut Message,
    seen: &mut u8,
    header: Header,
    start: usize,
    at: usize,
) -> Option<usize> {
    let lines = match header {
        Header::Other => {
            // Only a closer look tells whether it is one of those looked for.
            let looked_for = watch.has_length(at - start - 2);
            return if looked_for { None } else { line_end(bytes, lane::stop(bytes, at, line_stop)?) };
        }
        Header::Via if message.vias.count == 0 => {
            let next = top_via(bytes, message, start, at)?;
            *seen |= SEEN_VIA;
            return Some(next);
        }
        Header::From | Header::To => {
            let from = header == Header::From;
            let bit = if from { SEEN_FROM } else { SEEN_TO };
            let next = address(bytes, if from { &mut message.from } else { &mut message.to }, start, at, *seen & bit)?;
            *seen |= bit;
            return Some(next);
        }
        Header::CallId if *seen & SEEN_CALL_ID == 0 => return call_id(bytes, message, seen, at),
        Header::CSeq if *seen & SEEN_CSEQ == 0 => return cseq(bytes, message, seen, at),
        Header::MaxForwards if *seen & SEEN_MAX_FORWARDS == 0 => {
            let (number, next) = number(bytes, at).filter(|(number, _)| number.value <= 255)?;
            message.max_forwards = Some(number);
            *seen |= SEEN_MAX_FORWARDS;
            return Some(next);
        }
        Header::ContentLength if *seen & SEEN_CONTENT_LENGTH == 0 => {
            let (number, next) = number(bytes, at)?;
            message.content_length = Some(number);
            *seen |= SEEN_CONTENT_LENGTH;
            return Some(next);
        }
        Header::CallId
        | Header::CSeq
        | Header::MaxForwards
        | Header::ContentLength
        | Header::Expires
        | Header::Watched(_) => return None,
        Header::Via => &mut message.vias,
        Header::Route => &mut message.route,
        Header::RecordRoute => &mut message.record_route,
        Header::Contact => &mut message.contact,
        Header::Path => &mut message.path,
        Header::ProxyRequire => &mut message.proxy_require,
        Header::Supported => &mut message.supported,
        Header::Replaces => &mut message.replaces,
        Header::Join => &mut message.join,
    };
    let stop = lane::stop(bytes, at, line_stop)?;
    let next = line_end(bytes, stop)?;
    if *bytes.get(at)? <= b' ' || *bytes.get(stop.wrapping_sub(1))? <= b' ' {
        return None;
    }
    lines.add(Line { start: start as u16, value: Span::new(at, stop), next: next as u16 });
    Some(next)
}

#[inline(always)]
fn top_via(bytes: &[u8], message: &mut Message, start: usize, at: usize) -> Option<usize> {
    let stop = via::plain(bytes, at, &mut message.via)?;
    let Some(next) = line_end(bytes, stop) else {
        message.via = Via::NONE;
        return None;
    };
    let line = Line { start: start as u16, value: Span::new(at, stop), next: next as u16 };
    message.via.line = line;
    message.vias = Lines { count: 1, end: next as u16, first: line };
    Some(next)
}

#[inline(always)]
fn address(bytes: &[u8], address: &mut Address, start: usize, at: usize, seen: u8) -> Option<usize> {
    let (uri, tag, stop) = address::plain(bytes, at)?;
    let next = line_end(bytes, stop).filter(|_| seen == 0)?;
    let line = Line { start: start as u16, value: Span::new(at, stop), next: next as u16 };
    *address = Address { line, uri, tag };
    Some(next)
}

#[inline(always)]
fn call_id(bytes: &[u8], message: &mut Message, seen: &mut u8, at: usize) -> Option<usize> {
    let stop = lane::stop(bytes, at, |lane| lane.up_to(b' ').or(lane.eq(0x7f)))?;
    let next = line_end(bytes, stop)?;
    if stop == at {
        return None;
    }
    message.call_id = Span::new(at, stop);
    *seen |= SEEN_CALL_ID;
    Some(next)
}

#[inline(always)]
fn cseq(bytes: &[u8], message: &mut Message, seen: &mut u8, at: usize) -> Option<usize> {
    let (number, count) = lane::few_digits(*lane::chunk(bytes, at)?);
    let start = at + count + 1;
    let stop = lane::stop(bytes, start, |lane| lane.within(b'A', b'Z').not())?;
    let next = line_end(bytes, stop)?;
    if count == 0 || bytes.get(start - 1) != Some(&b' ') || stop == start {
        return None;
    }
    let (value, method, digits) = (Span::new(at, stop), Span::new(start, stop), Span::new(at, start - 1));
    message.cseq = CSeq { number, value, method, digits };
    *seen |= SEEN_CSEQ;
    Some(next)
}

/// The number that is all of the value at `at`, and where the next line begins.
#[inline(always)]
fn number(bytes: &[u8], at: usize) -> Option<(Number, usize)> {
    let (value, count) = lane::few_digits(*lane::chunk(bytes, at)?);
    let next = line_end(bytes, at + count)?;
    (count > 0).then(|| (Number { value, span: Span::new(at, at + count) }, next))
}
