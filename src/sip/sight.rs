//! Messages that are written as nearly all write them: their lines are cut and named first, then the
//! few are read that routing needs.
//!
//! Driven by `scan`, which goes line by line itself through whatever is left: a message is taken whole or not
//! at all, and what is taken means what the grammar says. Never finds a fault.

use super::broad::Look as _;
use super::known::{PLACES, Packed, Place, name};
use super::lane::{self, Lane};
use super::lines;
use super::message::{Address, CSeq, Line, Lines, Message, Number, Span, Start, Via};
use super::names::{Method, Watch};
use super::view::View;
use super::{address, field, scan, uri, via};

/// Takes the message that `bytes` are, of which `view` shows all, and nothing of a line behind. If it is not
/// taken, what `message` holds means nothing.
#[inline(always)]
pub(super) fn taken<V: View>(view: V, bytes: &[u8], watch: &Watch, message: &mut Message) -> bool {
    take(view, bytes, watch, message).is_some()
}

#[inline(always)]
fn take<V: View>(view: V, bytes: &[u8], watch: &Watch, message: &mut Message) -> Option<()> {
    if watch.has_frequent() {
        return None;
    }
    let mut ends = Ends::new(view, 0);
    let at = match start_line(view, &mut ends, message) {
        Some(at) => at,
        None => {
            let at = scan::uncommon_start(bytes, watch, message)?;
            ends = Ends::new(view, at);
            at
        }
    };
    message.first_header = at as u16;
    let mut found = Found { first: [Packed::NONE; PLACES], further: [0; PLACES] };
    let (head_end, Seen { seen, again }) = header_lines(view, bytes, &mut ends, watch, &mut found, at)?;
    if seen & NEEDED != NEEDED || again & ONCE != 0 {
        return None;
    }
    message.head_end = head_end as u16;
    message.end = bytes.len() as u16;
    top_via(view, bytes, &found, message)?;
    address(view, bytes, found.line(Place::From), &mut message.from)?;
    address(view, bytes, found.line(Place::To), &mut message.to)?;
    call_id(view, bytes, &found, message)?;
    cseq(view, bytes, &found, message)?;
    if seen & NUMBERS != 0 {
        numbers(view, bytes, &found, seen, message)?;
    }
    found.list(view, bytes, seen & LISTED, message);
    Some(())
}

/// Finds line ends, front to back, without a look at what stands between them: so no line waits for
/// what was read of the one before.
#[derive(Clone, Copy)]
struct Ends<V> {
    view: V,
    /// Where the bits begin.
    base: usize,
    /// Line ends that are not passed yet, one bit each.
    bits: u64,
}

impl<V: View> Ends<V> {
    #[inline(always)]
    fn new(view: V, at: usize) -> Self {
        Self { view, base: at.wrapping_sub(64), bits: 0 }
    }

    /// The line end behind the one found last; none if it is no CRLF, or there is none.
    #[inline(always)]
    fn next(&mut self) -> Option<usize> {
        while self.bits == 0 {
            self.base = self.base.wrapping_add(64);
            self.bits = self.view.breaks(self.base)?;
        }
        let end = self.base + self.bits.trailing_zeros() as usize;
        self.bits &= self.bits - 1;
        (self.view.chunk(end) == Some(b"\r\n")).then_some(end)
    }
}

/// The start line; where the next begins.
#[inline(always)]
fn start_line<V: View>(view: V, ends: &mut Ends<V>, message: &mut Message) -> Option<usize> {
    let end = ends.next()?;
    let word = view.word(0);
    if word == u64::from_le_bytes(*b"SIP/2.0 ") {
        let [a @ b'1'..=b'6', b @ b'0'..=b'9', c @ b'0'..=b'9', b' '] = view.chunk(8)? else { return None };
        let code = u16::from(a - b'0') * 100 + u16::from(b - b'0') * 10 + u16::from(c - b'0');
        message.start = Start::Response { code };
        return Some(end + 2);
    }
    let (method, length) = Method::frequent(word)?;
    let (parts, stop) = uri::plain(view, length + 1)?;
    if stop + 8 != end || view.chunk(stop)? != b" SIP/2.0" {
        return None;
    }
    message.start = Start::Request { method, name: Span::new(0, length), uri: Span::new(length + 1, stop) };
    message.scheme = parts.scheme;
    Some(end + 2)
}

/// Lines by what they are kept under.
struct Found {
    first: [Packed; PLACES],
    /// Of those behind the first, how many there are, above 16 bits, and where the line behind the last starts.
    further: [u32; PLACES],
}

/// What no message lacks.
const NEEDED: u32 = Place::Via.bit() | Place::From.bit() | Place::To.bit() | Place::CallId.bit() | Place::CSeq.bit();
const NUMBERS: u32 = Place::MaxForwards.bit() | Place::ContentLength.bit() | Place::Expires.bit();
/// Where a second line is not told from the first by place alone.
const ONCE: u32 = (NEEDED ^ Place::Via.bit()) | NUMBERS;
/// What a message lists.
const LISTED: u32 = Place::Via.bit() - 1;

/// A bit for each place that has a line, and for each that has several: apart from the lines, so that they need not
/// stand in memory.
#[derive(Clone, Copy)]
struct Seen {
    seen: u32,
    again: u32,
}

impl Found {
    /// Keeps a line that ends at `end`.
    #[inline(always)]
    fn add(&mut self, seen: &mut Seen, (place, bit): (Place, u32), line: Packed, end: usize) -> Option<()> {
        if seen.seen & bit == 0 {
            seen.seen |= bit;
            *self.first.get_mut(place as usize)? = line;
        } else {
            seen.again |= bit;
            let further = self.further.get_mut(place as usize)?;
            *further = ((*further | 0xffff) + 1) | u32::from(end as u16 + 2);
        }
        Some(())
    }

    #[inline(always)]
    fn line(&self, place: Place) -> Line {
        self.first.get(place as usize).map_or(Line::NONE, |line| line.line())
    }

    /// The lines at a place that has one.
    #[inline(always)]
    fn lines(&self, place: usize, first: Line) -> Lines {
        let further = self.further.get(place).copied().unwrap_or_default();
        let end = if further == 0 { first.next } else { further as u16 };
        Lines { count: (further >> 16) as u16 + 1, end, first }
    }

    /// Lists the lines that are not looked into.
    #[inline(always)]
    fn list(&self, view: impl View, bytes: &[u8], mut left: u32, message: &mut Message) {
        while left != 0 {
            let place = left.trailing_zeros() as usize;
            left &= left - 1;
            let first = self.first.get(place).map_or(Line::NONE, |line| line.line());
            let Some(lines) = message.listed(place) else { return };
            *lines = self.lines(place, first);
            if !has_plain_ends(view, first.value) {
                lines.first = trimmed_line(bytes, first);
            }
        }
    }
}

/// Cuts and names the lines from `start` on; where the body begins.
#[inline(always)]
fn header_lines<V: View>(
    view: V,
    bytes: &[u8],
    ends: &mut Ends<V>,
    watch: &Watch,
    found: &mut Found,
    mut start: usize,
) -> Option<(usize, Seen)> {
    let mut seen = Seen { seen: 0, again: 0 };
    loop {
        let end = ends.next()?;
        match view.chunk(start).and_then(name) {
            Some(known) => found.add(&mut seen, (known.place, known.bit), known.line(start, end), end)?,
            None if end == start => return Some((end + 2, seen)),
            None => {
                let (place, line) = other_line(bytes, start, end, watch)?;
                found.add(&mut seen, (place, place.bit()), line, end)?;
            }
        }
        start = end + 2;
    }
}

/// A line of any other name, or written in another way; none if it is a fold, or wrong.
#[inline(never)]
fn other_line(bytes: &[u8], start: usize, end: usize, watch: &Watch) -> Option<(Place, Packed)> {
    if *bytes.get(start)? <= b' ' {
        return None;
    }
    let name = lines::name(bytes, start, end, watch).ok()?;
    let value = field::trim(bytes, name.value.min(end), end);
    Some((Place::of(name.header), Packed::new(Line { start: start as u16, value, next: end as u16 + 2 })))
}

/// Whether no white space stands at either end of a value.
#[inline(always)]
fn has_plain_ends(view: impl View, value: Span) -> bool {
    view.byte(value.start.into()).is_some_and(|first| first > b' ')
        && view.byte(value.end.wrapping_sub(1).into()).is_some_and(|last| last > b' ')
}

#[inline(never)]
fn trimmed_line(bytes: &[u8], line: Line) -> Line {
    Line { value: field::trim(bytes, line.value.start.into(), line.value.end.into()), ..line }
}

#[inline(always)]
fn top_via(view: impl View, bytes: &[u8], found: &Found, message: &mut Message) -> Option<()> {
    let line = found.line(Place::Via);
    if via::plain_alone(view, line.value.start.into(), &mut message.via) == Some(line.value.end.into()) {
        message.via.line = line;
    } else {
        odd_via(bytes, line, &mut message.via)?;
    }
    message.vias = found.lines(Place::Via as usize, message.via.line);
    Some(())
}

#[inline(never)]
fn odd_via(bytes: &[u8], line: Line, found: &mut Via) -> Option<()> {
    let line = trimmed_line(bytes, line);
    *found = Via { line, ..Via::NONE };
    via::parse(bytes, line.value, found).ok()
}

#[inline(always)]
fn address(view: impl View, bytes: &[u8], line: Line, found: &mut Address) -> Option<()> {
    found.line = line;
    match address::plain(view, line.value.start.into(), line.value.end.into(), found) {
        Some(()) => Some(()),
        None => odd_address(bytes, line, found),
    }
}

#[inline(never)]
fn odd_address(bytes: &[u8], line: Line, found: &mut Address) -> Option<()> {
    let line = trimmed_line(bytes, line);
    *found = Address { line, ..Address::NONE };
    address::address(bytes, line.value, found)
}

#[inline(always)]
fn call_id(view: impl View, bytes: &[u8], found: &Found, message: &mut Message) -> Option<()> {
    let value = found.line(Place::CallId).value;
    let stop = lane::far_stop(view, value.start.into(), |lane| lane.beyond(b'!', b'~'));
    message.call_id = value;
    if stop != Some(value.end.into()) || value.start == value.end {
        message.call_id = odd_call_id(bytes, value)?;
    }
    Some(())
}

#[inline(never)]
fn odd_call_id(bytes: &[u8], value: Span) -> Option<Span> {
    let value = field::trim(bytes, value.start.into(), value.end.into());
    field::call_id_sound(bytes, value).then_some(value)
}

#[inline(always)]
fn cseq(view: impl View, bytes: &[u8], found: &Found, message: &mut Message) -> Option<()> {
    let value = found.line(Place::CSeq).value;
    let name = match message.start {
        Start::Request { name, .. } => name,
        Start::Response { .. } => Span::NONE,
    };
    match plain_cseq(view, value, name) {
        Some(cseq) => message.cseq = cseq,
        None => odd_cseq(bytes, value, name, &mut message.cseq)?,
    }
    Some(())
}

/// The value of CSeq, with the method of the request that is named by `name`; with any in a response.
#[inline(always)]
fn plain_cseq(view: impl View, value: Span, name: Span) -> Option<CSeq> {
    let (at, end, length) = (usize::from(value.start), usize::from(value.end), usize::from(name.end));
    let (number, start);
    if length != 0 {
        start = end.wrapping_sub(length);
        if length > 8 || (view.word(0) ^ view.word(start)) << (64 - 8 * length) != 0 {
            return None;
        }
        number = lane::all_digits(*view.chunk(at)?, start.wrapping_sub(at + 1))?;
    } else {
        let (found, count) = lane::few_digits(*view.chunk(at)?);
        (number, start) = (found, at + count + 1);
        let others = Lane::new(view.chunk(start)?).beyond(b'A', b'Z').bits() | 1 << 16;
        let letters = others.trailing_zeros() as usize;
        if start + letters != end || letters == 0 || count == 0 {
            return None;
        }
    }
    let digits = Span::new(at, start - 1);
    (view.byte(start - 1)? == b' ').then_some(CSeq { number, value, method: Span::new(start, end), digits })
}

#[inline(never)]
fn odd_cseq(bytes: &[u8], value: Span, name: Span, cseq: &mut CSeq) -> Option<()> {
    field::cseq(bytes, field::trim(bytes, value.start.into(), value.end.into()), cseq)?;
    (name.is_empty() || field::same(bytes, name, cseq.method)).then_some(())
}

/// Max-Forwards, Content-Length and Expires, of which at least one is there.
#[inline(always)]
fn numbers(view: impl View, bytes: &[u8], found: &Found, seen: u32, message: &mut Message) -> Option<()> {
    if seen & Place::MaxForwards.bit() != 0 {
        let number = number(view, bytes, found.line(Place::MaxForwards).value).filter(|number| number.value <= 255)?;
        message.max_forwards = Some(number);
    }
    if seen & Place::ContentLength.bit() != 0 {
        let number = number(view, bytes, found.line(Place::ContentLength).value)?;
        message.content_length = Some(number);
        let room = message.end - message.head_end;
        if number.value > room.into() {
            return None;
        }
        message.end = message.head_end + number.value as u16;
    }
    if seen & Place::Expires.bit() != 0 {
        message.expires = expires(bytes, found.line(Place::Expires).value);
    }
    Some(())
}

#[inline(always)]
fn number(view: impl View, bytes: &[u8], value: Span) -> Option<Number> {
    let (at, end) = (usize::from(value.start), usize::from(value.end));
    match lane::all_digits(*view.chunk(at)?, end.wrapping_sub(at)) {
        Some(number) => Some(Number { value: number, span: value }),
        None => {
            let packed = odd_number(bytes, value)?;
            let span = Span { start: (packed >> 32) as u16, end: (packed >> 48) as u16 };
            Some(Number { value: packed as u32, span })
        }
    }
}

/// A number's value, and its span in the upper half: so it comes back in registers, not in memory that would be read wider
/// than it was written.
#[inline(never)]
fn odd_number(bytes: &[u8], value: Span) -> Option<u64> {
    let span = field::trim(bytes, value.start.into(), value.end.into());
    let value = u32::try_from(field::number(bytes, span)?).ok()?;
    Some(u64::from(value) | u64::from(span.start) << 32 | u64::from(span.end) << 48)
}

/// What is no number is left alone, what is too large is cut off.
#[inline(never)]
fn expires(bytes: &[u8], value: Span) -> Option<Number> {
    let span = field::trim(bytes, value.start.into(), value.end.into());
    let value = field::number(bytes, span)?.min(u32::MAX.into()) as u32;
    Some(Number { value, span })
}
