//! Cuts the header block into lines, and names them.
//!
//! Driven by `scan` over the whole block and by the iterators of `values` over parts of it, so that
//! both see the same lines. A line ends with CRLF that no white space follows (RFC 3261 7.3.1); a CR
//! or LF alone is told, ends a line as well, and is never folded. Never looks at values.

use super::fault::Fault;
use super::field;
use super::lane::{self, AnyCase};
use super::message::Span;
use super::names::{Header, Watch};

/// Finds line ends, front to back.
#[derive(Clone, Debug)]
pub(super) struct Cutter<'a> {
    bytes: &'a [u8],
    /// Where the bits of `ends` begin.
    base: usize,
    /// CRs and LFs not yet told, one bit each.
    ends: u64,
}

/// The end of a line.
#[derive(Clone, Copy)]
pub(super) struct End {
    /// Behind the last byte of the line's content.
    pub(super) at: usize,
    /// First byte of the next line.
    pub(super) next: usize,
    /// It is a CR or LF alone.
    pub(super) bare: bool,
}

impl<'a> Cutter<'a> {
    #[inline(always)]
    pub(super) fn new(bytes: &'a [u8], at: usize) -> Self {
        Self { bytes, base: at, ends: lane::line_ends(bytes, at) }
    }

    #[inline(always)]
    fn refill(&mut self, at: usize) -> Option<()> {
        while self.ends == 0 {
            self.base += 64;
            if self.base >= self.bytes.len() {
                return None;
            }
            // The LF of the end told last may be the first here.
            self.ends = lane::line_ends(self.bytes, self.base) & if at > self.base { !1 } else { !0 };
        }
        Some(())
    }

    /// The end of the line that starts at `at`, behind the end told last, without regard to folds;
    /// none if it does not end.
    #[inline(always)]
    pub(super) fn end(&mut self, at: usize) -> Option<End> {
        if self.ends == 0 {
            self.refill(at)?;
        }
        let at = self.base + self.ends.trailing_zeros() as usize;
        self.ends &= self.ends - 1;
        if lane::word(self.bytes, at) as u16 != u16::from_le_bytes(*b"\r\n") {
            return Some(End { at, next: at + 1, bare: true });
        }
        self.ends &= self.ends.wrapping_sub(1);
        Some(End { at, next: at + 2, bare: false })
    }

    /// The end of the header line that `at` stands in, folds included.
    #[inline(always)]
    pub(super) fn folded_end(&mut self, at: usize) -> Option<End> {
        if self.ends == 0 {
            self.refill(at)?;
        }
        let cr = self.base + self.ends.trailing_zeros() as usize;
        let behind = self.bytes.get(cr..).and_then(|rest| rest.first_chunk());
        if let Some([b'\r', b'\n', next]) = behind
            && !matches!(next, b' ' | b'\t')
        {
            self.ends &= self.ends - 1;
            self.ends &= self.ends.wrapping_sub(1);
            return Some(End { at: cr, next: cr + 2, bare: false });
        }
        self.odd_end(at)
    }

    #[inline(never)]
    fn odd_end(&mut self, at: usize) -> Option<End> {
        let mut end = self.end(at)?;
        while !end.bare && matches!(self.bytes.get(end.next), Some(b' ' | b'\t')) {
            end = self.end(end.next)?;
        }
        Some(end)
    }
}

/// The name of the header line that starts at `start`, whose content ends at `end`.
pub(super) struct Name {
    pub(super) header: Header,
    pub(super) span: Span,
    /// Behind the colon.
    pub(super) value: usize,
}

macro_rules! names {
    ($($constant:ident = $text:literal;)*) => { $(const $constant: AnyCase = AnyCase::new($text);)* };
}

names! {
    VIA = b"via:"; FROM = b"from:"; TO = b"to:"; CALL_ID = b"call-id:"; CSEQ = b"cseq:"; CONTACT = b"contact:";
    CONTENT = b"content-"; LENGTH = b"-length:"; MAX_FORW = b"max-forw"; ORWARDS = b"orwards:"; ROUTE = b"route:";
    RECORD = b"record-r"; D_ROUTE = b"d-route:"; REPLACES = b"replaces"; PATH = b"path:"; PROXY = b"proxy-re";
    REQUIRE = b"require:"; SUPPORTE = b"supporte"; PPORTED = b"pported:"; EXPIRES = b"expires:"; JOIN = b"join:";
}

/// The header whose name, directly followed by its colon, stands at `at`, and the name's length.
#[inline(always)]
fn known(bytes: &[u8], at: usize) -> Option<(Header, usize)> {
    let word = lane::word(bytes, at);
    let tail = |offset: usize| lane::word(bytes, at + offset);
    let compact = word >> 8 & 0xff == u64::from(b':');
    match word as u8 | 0x20 {
        b'v' if VIA.is(word) => Some((Header::Via, 3)),
        b'v' if compact => Some((Header::Via, 1)),
        b'f' if FROM.is(word) => Some((Header::From, 4)),
        b'f' if compact => Some((Header::From, 1)),
        b't' if TO.is(word) => Some((Header::To, 2)),
        b't' if compact => Some((Header::To, 1)),
        b'c' if CALL_ID.is(word) => Some((Header::CallId, 7)),
        b'c' if CSEQ.is(word) => Some((Header::CSeq, 4)),
        b'c' if CONTACT.is(word) => Some((Header::Contact, 7)),
        b'c' if CONTENT.is(word) && LENGTH.is(tail(7)) => Some((Header::ContentLength, 14)),
        b'm' if MAX_FORW.is(word) && ORWARDS.is(tail(5)) => Some((Header::MaxForwards, 12)),
        b'm' if compact => Some((Header::Contact, 1)),
        b'r' if ROUTE.is(word) => Some((Header::Route, 5)),
        b'r' if RECORD.is(word) && D_ROUTE.is(tail(5)) => Some((Header::RecordRoute, 12)),
        b'r' if REPLACES.is(word) && bytes.get(at + 8) == Some(&b':') => Some((Header::Replaces, 8)),
        b'l' if compact => Some((Header::ContentLength, 1)),
        b'i' if compact => Some((Header::CallId, 1)),
        b's' if SUPPORTE.is(word) && PPORTED.is(tail(2)) => Some((Header::Supported, 9)),
        b'k' if compact => Some((Header::Supported, 1)),
        b'p' if PATH.is(word) => Some((Header::Path, 4)),
        b'p' if PROXY.is(word) && REQUIRE.is(tail(6)) => Some((Header::ProxyRequire, 13)),
        b'e' if EXPIRES.is(word) => Some((Header::Expires, 7)),
        b'j' if JOIN.is(word) => Some((Header::Join, 4)),
        _ => None,
    }
}

/// Names the line at `start`, whose content ends at `end`.
#[inline(always)]
pub(super) fn name(bytes: &[u8], start: usize, end: usize, watch: &Watch) -> Result<Name, Fault> {
    if let Some((header, length)) = known(bytes, start) {
        let stop = start + length;
        return checked(bytes, Name { header, span: Span::new(start, stop), value: stop + 1 }, end);
    }
    let stop = field::token(bytes, start, end);
    let colon =
        if stop > start && bytes.get(stop) == Some(&b':') { stop } else { spaced_colon(bytes, start, stop, end)? };
    let span = Span::new(start, stop);
    let header = if colon == stop { watch.find(span.of(bytes)) } else { Header::parse(span.of(bytes), watch) };
    checked(bytes, Name { header, span, value: colon + 1 }, end)
}

/// A peer may take a control character behind the colon for a line end or for nothing at all.
#[inline(always)]
fn checked(bytes: &[u8], name: Name, end: usize) -> Result<Name, Fault> {
    match bytes.get(name.value) {
        Some(b' '..=b'~') => Ok(name),
        Some(b'\t' | b'\r' | 0x80..) => Ok(name),
        _ if name.value >= end => Ok(name),
        _ => Err(Fault::ControlCharacter),
    }
}

/// The colon behind the white space that follows a name (RFC 3261 7.3.1, HCOLON: no folds).
#[inline(never)]
fn spaced_colon(bytes: &[u8], start: usize, stop: usize, end: usize) -> Result<usize, Fault> {
    let mut at = stop;
    while matches!(field::byte_at(bytes, at, end), b' ' | b'\t') {
        at += 1;
    }
    match bytes.get(at) {
        _ if at >= end => Err(Fault::HeaderSyntax),
        Some(b':') if stop > start => Ok(at),
        Some(0..=b'\x1f' | 0x7f) => Err(Fault::ControlCharacter),
        _ => Err(Fault::HeaderName),
    }
}
