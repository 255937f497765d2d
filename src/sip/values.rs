//! Single values of headers that may hold several, and header lines one by one.
//!
//! Driven by the shard where a decision needs more than the first line: Route, Record-Route, further
//! Vias, Contacts. Walks the same lines as the scan did, only those asked for, and takes none apart.

use super::field;
use super::lane;
use super::lines::{self, Cutter};
use super::message::{Line, Lines, Message, Rport, Span, Via};
use super::names::{Header, Watch};

/// One value of a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Value {
    /// Without white space at both ends.
    pub span: Span,
    /// The line that it stands on.
    pub line: Line,
    /// Where the next value on its line starts; the line's `next` for the last.
    pub next: u16,
    pub first_in_line: bool,
    pub last_in_line: bool,
}

/// The values of all lines of one header, in order. See [`values`].
#[derive(Clone, Debug)]
pub struct Values<'a> {
    bytes: &'a [u8],
    watch: &'a Watch,
    header: Header,
    line: Line,
    /// Where the next value on `line` starts; its value's end when there is none.
    at: usize,
    first: bool,
    /// Lines to come behind `line`.
    left: u16,
    /// Made when a second line is looked for.
    cutter: Option<Cutter<'a>>,
}

/// The values of `lines`, which are those of `header`, in order. Commas within quotes do not
/// separate, nor do those within `<>` in headers that hold addresses. An empty value between two
/// commas is left out; a value with an unclosed quote or bracket goes on to the end of its line.
#[inline(always)]
#[must_use]
pub fn values<'a>(bytes: &'a [u8], lines: &Lines, header: Header, watch: &'a Watch) -> Values<'a> {
    let line = lines.first;
    let mut values =
        Values { bytes, watch, header, line, at: 0, first: true, left: lines.count.saturating_sub(1), cutter: None };
    values.at = values.start_from(line.value.start as usize);
    values
}

impl Values<'_> {
    /// Behind white space and commas.
    #[inline(always)]
    fn start_from(&self, at: usize) -> usize {
        let end = self.line.value.end as usize;
        // A comma and one blank is what nearly all write.
        match lane::chunk(self.bytes, at) {
            _ if at >= end => end,
            Some([b',', b' ', b'-'..=255, _]) if at + 2 < end => at + 2,
            Some([b'-'..=255, _, _, _]) => at,
            _ => self.odd_start(at),
        }
    }

    #[inline(never)]
    fn odd_start(&self, mut at: usize) -> usize {
        let end = self.line.value.end as usize;
        loop {
            at = field::skip_space(self.bytes, at, end);
            if field::byte_at(self.bytes, at, end) != b',' {
                return at.min(end);
            }
            at += 1;
        }
    }

    /// Offset of the comma that ends the value at `at`, or of the line's value's end.
    #[inline(always)]
    fn comma(&self, mut at: usize) -> usize {
        let end = self.line.value.end as usize;
        let bracketed = match self.header {
            Header::Via | Header::ProxyRequire | Header::Supported => false,
            Header::Route
            | Header::RecordRoute
            | Header::From
            | Header::To
            | Header::CallId
            | Header::CSeq
            | Header::MaxForwards
            | Header::Contact
            | Header::Path
            | Header::ContentLength
            | Header::Replaces
            | Header::Join
            | Header::Expires
            | Header::Watched(_)
            | Header::Other => true,
        };
        if bracketed && self.bytes.get(at) == Some(&b'<') {
            at = lane::find(self.bytes, at, end, |lane| lane.eq(b'>'));
        }
        while at < end {
            at = lane::find(self.bytes, at, end, |lane| lane.eq(b',').or(lane.eq(b'"')).or(lane.eq(b'<')));
            at = match field::byte_at(self.bytes, at, end) {
                b'"' => field::quoted(self.bytes, at, end).unwrap_or(end),
                b'<' if bracketed => lane::find(self.bytes, at, end, |lane| lane.eq(b'>')),
                b'<' => at + 1,
                _ => return at,
            };
        }
        end
    }

    /// Goes on to the next line of the header.
    #[inline(never)]
    fn next_line(&mut self) -> bool {
        let (bytes, watch) = (self.bytes, self.watch);
        while self.left > 0 {
            let start = self.line.next as usize;
            let cutter = self.cutter.get_or_insert_with(|| Cutter::new(bytes, start));
            let Some(end) = cutter.folded_end(start).filter(|end| end.at > start) else { break };
            self.line = Line { start: start as u16, value: Span::NONE, next: end.next as u16 };
            let Ok(name) = lines::name(bytes, start, end.at, watch) else { continue };
            if name.header == self.header {
                self.left -= 1;
                self.line.value = field::trim(bytes, name.value.min(end.at), end.at);
                self.at = self.start_from(self.line.value.start as usize);
                self.first = true;
                return true;
            }
        }
        self.left = 0;
        self.at = self.line.value.end as usize;
        false
    }
}

impl Iterator for Values<'_> {
    type Item = Value;

    #[inline]
    fn next(&mut self) -> Option<Value> {
        while self.at >= self.line.value.end as usize {
            if !self.next_line() {
                return None;
            }
        }
        let comma = self.comma(self.at);
        let span = field::trim_end(self.bytes, self.at, comma);
        let first_in_line = std::mem::replace(&mut self.first, false);
        self.at = self.start_from(comma);
        let last_in_line = self.at >= self.line.value.end as usize;
        let next = if last_in_line { self.line.next } else { self.at as u16 };
        Some(Value { span, line: self.line, next, first_in_line, last_in_line })
    }
}

/// One header line with its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeaderLine {
    pub header: Header,
    pub name: Span,
    pub line: Line,
}

/// All header lines. See [`headers`].
#[derive(Clone, Debug)]
pub struct Headers<'a> {
    bytes: &'a [u8],
    cutter: Cutter<'a>,
    at: usize,
    end: usize,
}

/// All header lines of a scanned message, in order, known or not. Lines that are no header lines are
/// left out.
#[must_use]
pub fn headers<'a>(bytes: &'a [u8], message: &Message) -> Headers<'a> {
    between(bytes, message.first_header as usize, message.head_end as usize)
}

/// All header lines that start from `at` on and before `end`; a line starts at `at`.
pub(super) fn between(bytes: &[u8], at: usize, end: usize) -> Headers<'_> {
    Headers { bytes, cutter: Cutter::new(bytes, at), at, end }
}

impl Iterator for Headers<'_> {
    type Item = HeaderLine;

    fn next(&mut self) -> Option<HeaderLine> {
        while self.at < self.end {
            let start = self.at;
            let end = self.cutter.folded_end(start).filter(|end| end.at > start)?;
            self.at = end.next;
            let Ok(name) = lines::name(self.bytes, start, end.at, &Watch::NONE) else { continue };
            let value = field::trim(self.bytes, name.value.min(end.at), end.at);
            let line = Line { start: start as u16, value, next: end.next as u16 };
            return Some(HeaderLine { header: name.header, name: name.span, line });
        }
        None
    }
}

/// Takes apart one Via value that stands alone in `span`, such as [`values`] gives; none if it is no
/// Via.
#[must_use]
pub fn via(bytes: &[u8], span: Span) -> Option<Via> {
    let line = Line { start: span.start, value: span, next: span.end };
    let mut via = Via { line, ..Via::NONE };
    super::via::parse(bytes, span, &mut via).ok().map(|()| via)
}

/// What goes when the topmost Via value is popped, and the Via below it. None if there is none below,
/// or no sound one.
#[must_use]
pub fn via_below(bytes: &[u8], message: &Message, watch: &Watch) -> Option<(Span, Via)> {
    let (gone, mut via) = next_line_via(bytes, message, watch).or_else(|| any_via_below(bytes, message, watch))?;
    if let Rport::Value { port: 0, .. } = via.rport {
        // Nobody filled it in: sent-by says where to.
        via.rport = Rport::Absent;
    }
    Some((gone, via))
}

/// On the very next line, as nearly all write it.
#[inline(always)]
fn next_line_via(bytes: &[u8], message: &Message, watch: &Watch) -> Option<(Span, Via)> {
    let top = message.via.line;
    let start = top.next as usize;
    if message.via.shares_line || message.vias.count < 2 {
        return None;
    }
    let end = Cutter::new(bytes, start).folded_end(start)?;
    let (header, length) = lines::plain(bytes, start, end.at, watch)?;
    let value = field::plain_value(bytes, start + length + 1, end.at)?;
    let line = Line { start: start as u16, value, next: end.next as u16 };
    let mut via = Via { line, ..Via::NONE };
    let sound = header == Header::Via && super::via::parse(bytes, value, &mut via).is_ok();
    sound.then_some((Span { start: top.start, end: top.next }, via))
}

#[cold]
fn any_via_below(bytes: &[u8], message: &Message, watch: &Watch) -> Option<(Span, Via)> {
    let mut vias = values(bytes, &message.vias, Header::Via, watch);
    let (own, next) = (vias.next()?, vias.next()?);
    let gone = if own.last_in_line {
        Span { start: own.line.start, end: own.line.next }
    } else {
        Span { start: own.span.start, end: next.span.start }
    };
    let mut via = Via { line: next.line, ..Via::NONE };
    super::via::parse(bytes, next.span, &mut via).ok()?;
    via.shares_line = !next.last_in_line;
    Some((gone, via))
}
