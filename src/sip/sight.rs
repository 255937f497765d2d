//! Lines that are written as nearly all write them, taken from front to back without looking for
//! their ends first.
//!
//! Driven by `scan`, which takes apart itself whatever is left: a line is taken whole or not at all,
//! and what is taken means what the grammar says. Never finds a fault.

use super::address;
use super::broad::{Broad, Look as _};
use super::known::{Kind, name};
use super::lane::{self, Lane};
use super::lines;
use super::message::{Address, CSeq, Line, Lines, Message, Number, Span, Start, Via};
use super::names::{Header, Method, Watch};
use super::scan::{
    SEEN_CALL_ID, SEEN_CONTENT_LENGTH, SEEN_CSEQ, SEEN_FROM, SEEN_MAX_FORWARDS, SEEN_METHOD, SEEN_TO, SEEN_VIA,
};
use super::view::View;
use super::{uri, via};

/// As `name`, of whatever `lines` knows and of names that mean nothing here.
fn other_name(view: impl View, at: usize, watch: &Watch) -> Option<(Header, usize)> {
    if view.byte(at)? <= b' ' {
        return None;
    }
    let (header, length) = lines::plain(view, at, usize::MAX, watch)?;
    let sound = lane::stop(view, at, |lane| lane::plain(lane).not())? == at + length;
    (sound && view.byte(at + length + 1) == Some(b' ')).then_some((header, at + length + 2))
}

/// Whether CRLF stands at `at` and, as far as a glance tells, no fold behind it.
#[inline(always)]
fn ends_line(view: impl View, at: usize) -> bool {
    // Of white space and few other bytes these bits leave nothing.
    const NO_FOLD: u8 = 0xd6;
    view.chunk(at) == Some(b"\r\n") && view.byte(at + 2).is_some_and(|behind| behind & NO_FOLD != 0)
}

/// Finds line ends, front to back, without a look at what stands between them: so no line waits for
/// what was read of the one before.
#[derive(Clone, Copy)]
pub(super) struct Ends<V> {
    view: V,
    /// Where the next bits begin.
    base: usize,
    /// Line ends that are not passed yet, and the few control characters beside them, one bit each.
    bits: u64,
}

impl<V: View> Ends<V> {
    #[inline(always)]
    pub(super) fn new(view: V) -> Self {
        Self { view, base: 0, bits: 0 }
    }

    /// Goes on at `at`, behind whatever was not looked into here.
    #[inline(always)]
    pub(super) fn skip_to(&mut self, at: usize) {
        (self.base, self.bits) = (at, 0);
    }

    /// The end of the line that starts at `start`, where the end found last ended; none if it is not a
    /// CRLF that ends a line.
    #[inline(always)]
    fn next(&mut self, start: usize) -> Option<usize> {
        while self.bits == 0 {
            // The LF of the end found last may be the first here.
            self.bits = breaks(self.view.chunk(self.base)?) & if start > self.base { !1 } else { !0 };
            self.base += 64;
        }
        let end = self.base - 64 + self.bits.trailing_zeros() as usize;
        self.bits &= self.bits - 1;
        self.bits &= self.bits.wrapping_sub(1);
        ends_line(self.view, end).then_some(end)
    }
}

/// CR, LF and their neighbours, one bit each, the lowest for the first.
#[inline(always)]
fn breaks(chunk: &[u8; 64]) -> u64 {
    let (halves, _) = chunk.as_chunks::<32>();
    halves.iter().rev().fold(0, |bits, half| bits << 32 | u64::from(Broad::new(half).breaks().bits()))
}

/// The start line; where the next begins.
#[inline(always)]
pub(super) fn start_line<V: View>(view: V, ends: &mut Ends<V>, message: &mut Message) -> Option<usize> {
    let end = ends.next(0)?;
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

/// A header line: where it starts, where its value begins, and where that ends.
#[derive(Clone, Copy)]
struct Bounds {
    start: usize,
    at: usize,
    end: usize,
}

impl Bounds {
    #[inline(always)]
    fn line(self) -> Line {
        Line { start: self.start as u16, value: Span::new(self.at, self.end), next: self.end as u16 + 2 }
    }
}

/// Takes header lines from `at` on; where the first begins that was not taken.
#[inline(always)]
pub(super) fn header_lines<V: View>(
    view: V,
    ends: &mut Ends<V>,
    watch: &Watch,
    message: &mut Message,
    seen: &mut u8,
    at: usize,
) -> usize {
    let mut start = at;
    while let Some(end) = ends.next(start) {
        let taken = match name(view, start) {
            Some(known) => {
                let at = start + known.length as usize;
                take(view, watch, message, seen, (known.kind, known.place), Bounds { start, at, end })
            }
            None => end > start && take_other(view, watch, message, seen, start, end),
        };
        if !taken {
            break;
        }
        start = end + 2;
    }
    start
}

#[inline(never)]
fn take_other(view: impl View, watch: &Watch, message: &mut Message, seen: &mut u8, start: usize, end: usize) -> bool {
    let found = other_name(view, start, watch).filter(|(_, at)| *at <= end);
    found.is_some_and(|(header, at)| take(view, watch, message, seen, Kind::of(header), Bounds { start, at, end }))
}

/// Takes a line, or leaves it for a closer look. Of those that are looked into, the longer ones have
/// functions of their own, so that the constants of one are no burden to another.
#[inline(always)]
fn take(
    view: impl View,
    watch: &Watch,
    message: &mut Message,
    seen: &mut u8,
    (kind, place): (Kind, u8),
    line: Bounds,
) -> bool {
    match kind {
        // Only a closer look tells whether it is one of those looked for.
        Kind::Other => !watch.has_length(line.at - line.start - 2),
        Kind::Via if *seen & SEEN_VIA == 0 => top_via(view, message, seen, line),
        Kind::From => *seen & SEEN_FROM == 0 && address(view, &mut message.from, seen, SEEN_FROM, line),
        Kind::To => *seen & SEEN_TO == 0 && address(view, &mut message.to, seen, SEEN_TO, line),
        Kind::CallId => call_id(view, message, seen, line).is_some(),
        Kind::CSeq => cseq(view, message, seen, line).is_some(),
        Kind::MaxForwards => max_forwards(view, message, seen, line).is_some(),
        Kind::ContentLength => content_length(view, message, seen, line).is_some(),
        Kind::Left => false,
        Kind::Via => {
            let sound = has_plain_ends(view, line);
            if sound {
                message.vias.add(line.line());
            }
            sound
        }
        Kind::Listed => match message.listed(place.into()) {
            Some(lines) if has_plain_ends(view, line) => {
                lines.add(line.line());
                true
            }
            Some(_) | None => false,
        },
    }
}

/// Whether no white space stands at either end of a value.
#[inline(always)]
fn has_plain_ends(view: impl View, line: Bounds) -> bool {
    view.byte(line.at).is_some_and(|first| first > b' ')
        && view.byte(line.end.wrapping_sub(1)).is_some_and(|last| last > b' ')
}

#[inline(always)]
fn top_via(view: impl View, message: &mut Message, seen: &mut u8, line: Bounds) -> bool {
    if via::plain_alone(view, line.at, &mut message.via) != Some(line.end) {
        message.via = Via::NONE;
        return false;
    }
    let line = line.line();
    message.via.line = line;
    message.vias = Lines { count: 1, end: line.next, first: line };
    *seen |= SEEN_VIA;
    true
}

/// From or To; `bit` tells which.
#[inline(always)]
fn address(view: impl View, address: &mut Address, seen: &mut u8, bit: u8, line: Bounds) -> bool {
    let sound = address::plain(view, line.at, line.end, address);
    if sound {
        address.line = line.line();
        *seen |= bit;
    }
    sound
}

#[inline(always)]
fn call_id(view: impl View, message: &mut Message, seen: &mut u8, line: Bounds) -> Option<()> {
    let stop = lane::far_stop(view, line.at, |lane| lane.beyond(b'!', b'~'))?;
    if stop != line.end || stop == line.at || *seen & SEEN_CALL_ID != 0 {
        return None;
    }
    message.call_id = Span::new(line.at, line.end);
    *seen |= SEEN_CALL_ID;
    Some(())
}

#[inline(always)]
fn cseq(view: impl View, message: &mut Message, seen: &mut u8, line: Bounds) -> Option<()> {
    let Bounds { at, end, .. } = line;
    let (number, count) = lane::few_digits(*view.chunk(at)?);
    let start = at + count + 1;
    let length = end.wrapping_sub(start);
    let letters = Lane::new(view.chunk(start)?).beyond(b'A', b'Z').bits().trailing_zeros() as usize;
    if letters != length || length == 0 || count == 0 || view.byte(start - 1)? != b' ' || *seen & SEEN_CSEQ != 0 {
        return None;
    }
    let (value, method, digits) = (Span::new(at, end), Span::new(start, end), Span::new(at, start - 1));
    message.cseq = CSeq { number, value, method, digits };
    *seen |= SEEN_CSEQ;
    if let Start::Request { name, .. } = message.start
        && usize::from(name.end) == length
        && length <= 8
        && (view.word(0) ^ view.word(start)) << (64 - 8 * length) == 0
    {
        *seen |= SEEN_METHOD;
    }
    Some(())
}

#[inline(always)]
fn max_forwards(view: impl View, message: &mut Message, seen: &mut u8, line: Bounds) -> Option<()> {
    let number = number(view, line).filter(|number| number.value <= 255 && *seen & SEEN_MAX_FORWARDS == 0)?;
    message.max_forwards = Some(number);
    *seen |= SEEN_MAX_FORWARDS;
    Some(())
}

#[inline(always)]
fn content_length(view: impl View, message: &mut Message, seen: &mut u8, line: Bounds) -> Option<()> {
    let number = number(view, line).filter(|_| *seen & SEEN_CONTENT_LENGTH == 0)?;
    message.content_length = Some(number);
    *seen |= SEEN_CONTENT_LENGTH;
    Some(())
}

/// The number that is all of a value, of up to four digits.
#[inline(always)]
fn number(view: impl View, Bounds { at, end, .. }: Bounds) -> Option<Number> {
    let value = lane::all_digits(*view.chunk(at)?, end.wrapping_sub(at))?;
    Some(Number { value, span: Span::new(at, end) })
}
