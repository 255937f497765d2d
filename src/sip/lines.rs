//! Cuts the header block into lines, and names them.
//!
//! Driven by `scan` over the whole block and by the iterators of `values` over parts of it, so that
//! both see the same lines. A line ends with CRLF that no white space follows (RFC 3261 7.3.1); a CR
//! or LF alone is told, ends a line as well, and is never folded. Never looks at values.

use std::hint::cold_path;

use super::fault::Fault;
use super::field;
use super::lane::{self, Lane};
use super::message::Span;
use super::names::{Header, Watch};
use super::view::View;

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
        // The byte in front, CR, LF, and the byte behind, which begins no fold.
        if let Some(chunk) = lane::chunk(self.bytes, cr.wrapping_sub(1)) {
            let word = u32::from_le_bytes(*chunk);
            let folds = || {
                // Most lines are followed by a name; the last by CR.
                cold_path();
                word >> 24 != 0x0d
            };
            if word & 0xff_ff00 == u32::from_le_bytes(*b"\0\r\n\0") && (word >> 24 > 0x20 || !folds()) {
                self.ends &= self.ends - 1;
                self.ends &= self.ends.wrapping_sub(1);
                return Some(End { at: cr, next: cr + 2, bare: false });
            }
        }
        let end;
        (*self, end) = self.clone().odd_end(at);
        end
    }

    /// By value: a reference would keep the cutter of the fast path out of registers.
    #[inline(never)]
    fn odd_end(mut self, at: usize) -> (Self, Option<End>) {
        let mut end = self.end(at);
        // An empty line is the last, whatever the body begins with.
        while let Some(End { at: stop, next, bare: false, .. }) = end
            && stop > at
            && matches!(self.bytes.get(next), Some(b' ' | b'\t'))
        {
            end = self.end(next);
        }
        (self, end)
    }
}

/// The name of the header line that starts at `start`, whose content ends at `end`.
pub(super) struct Name {
    pub(super) header: Header,
    pub(super) span: Span,
    /// Behind the colon.
    pub(super) value: usize,
}

/// The names that routing knows, each with its colon, by `slot`. No two share one.
struct Known {
    names: [[u8; 16]; SLOTS],
    headers: [Header; SLOTS],
}

const SLOTS: usize = 32;

/// Where a name stands; its colon counts among the first two bytes.
#[inline(always)]
const fn slot(first_two: u16, length: usize) -> usize {
    let key = (first_two | 0x2020) as u32 | (length as u32) << 16;
    (key.wrapping_mul(0x9615_a32f) >> 27) as usize
}

static KNOWN: Known = known();

#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler")]
const fn known() -> Known {
    let all: [(&[u8], Header); 23] = [
        (b"via:", Header::Via),
        (b"v:", Header::Via),
        (b"from:", Header::From),
        (b"f:", Header::From),
        (b"to:", Header::To),
        (b"t:", Header::To),
        (b"call-id:", Header::CallId),
        (b"i:", Header::CallId),
        (b"cseq:", Header::CSeq),
        (b"contact:", Header::Contact),
        (b"m:", Header::Contact),
        (b"content-length:", Header::ContentLength),
        (b"l:", Header::ContentLength),
        (b"max-forwards:", Header::MaxForwards),
        (b"route:", Header::Route),
        (b"record-route:", Header::RecordRoute),
        (b"replaces:", Header::Replaces),
        (b"path:", Header::Path),
        (b"proxy-require:", Header::ProxyRequire),
        (b"supported:", Header::Supported),
        (b"k:", Header::Supported),
        (b"expires:", Header::Expires),
        (b"join:", Header::Join),
    ];
    let mut known = Known { names: [[0; 16]; SLOTS], headers: [Header::Other; SLOTS] };
    let mut rest: &[(&[u8], Header)] = &all;
    while let [(name, header), tail @ ..] = rest {
        let slot = slot(u16::from_le_bytes([name[0], name[1]]), name.len() - 1);
        assert!(matches!(known.headers[slot], Header::Other));
        known.headers[slot] = *header;
        let mut index = 0;
        while index < name.len() {
            known.names[slot][index] = name[index];
            index += 1;
        }
        rest = tail;
    }
    known
}

/// The header that a name of letters, digits, `.` and `-` at `start` names, and the name's length, if
/// the colon follows it and stands before `end`. None of a name that may be looked for, nor of one
/// that is long: a closer look is needed.
#[inline(always)]
pub(super) fn plain(view: impl View, start: usize, end: usize, watch: &Watch) -> Option<(Header, usize)> {
    let chunk: &[u8; 16] = view.chunk(start)?;
    let lane = Lane::new(chunk);
    let found = lane.eq(b':').bits();
    let colons = found | 1 << 16;
    let length = colons.trailing_zeros() as usize;
    if start + length >= end {
        return None;
    }
    // Up to the first colon and with it.
    let name = colons ^ (colons - 1);
    let slot = slot(view.word(start) as u16, length);
    let text = KNOWN.names.get(slot)?;
    if lane.lower().equal(Lane::new(text)).bits() & name == name {
        return Some((*KNOWN.headers.get(slot)?, length));
    }
    let token = lane::plain(lane).bits() | found;
    (token & name == name && length > 0 && !watch.has_length(length)).then_some((Header::Other, length))
}

/// Names the line at `start`, whose content ends at `end`.
#[inline(always)]
pub(super) fn name(bytes: &[u8], start: usize, end: usize, watch: &Watch) -> Result<Name, Fault> {
    if let Some((header, length)) = plain(bytes, start, end, watch) {
        let stop = start + length;
        return checked(bytes, Name { header, span: Span::new(start, stop), value: stop + 1 }, end);
    }
    odd_name(bytes, start, end, watch)
}

#[inline(never)]
pub(super) fn odd_name(bytes: &[u8], start: usize, end: usize, watch: &Watch) -> Result<Name, Fault> {
    let stop = field::token(bytes, start, end);
    let colon =
        if stop > start && bytes.get(stop) == Some(&b':') { stop } else { spaced_colon(bytes, start, stop, end)? };
    let span = Span::new(start, stop);
    checked(bytes, Name { header: Header::parse(span.of(bytes), watch), span, value: colon + 1 }, end)
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
