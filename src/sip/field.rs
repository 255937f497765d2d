//! The parts that header values are made of, and the parsers of CSeq and numbers.
//!
//! Driven by `scan`, `address` and `uri` with the whole datagram and the bounds of a value, whose line ends are
//! known to be folds already: CR and LF within a value are white space. Never looks at a line's name.

use super::broad::Look;
use super::lane;
use super::message::{CSeq, Span};

const TOKEN: u8 = 1;
const HOST: u8 = 2;
pub(super) const SPACE: u8 = 4;
/// In the value of a parameter and, besides white space, in a display name, outside quotes.
pub(super) const LOOSE: u8 = 8;

/// What each byte may be part of.
static CLASSES: [u8; 256] = classes();

#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler")]
const fn classes() -> [u8; 256] {
    let mut classes = [0; 256];
    let mut index = 0;
    while index < 256 {
        let byte = index as u8;
        let alphanumeric = byte.is_ascii_alphanumeric();
        let token =
            alphanumeric || matches!(byte, b'-' | b'.' | b'!' | b'%' | b'*' | b'_' | b'+' | b'`' | b'\'' | b'~');
        let space = matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
        let loose = byte > b' ' && !matches!(byte, b';' | b',' | b'"' | b'<' | b'>' | b'\\' | 0x7f);
        classes[index] = if token { TOKEN } else { 0 }
            | if alphanumeric || matches!(byte, b'-' | b'.' | b'_') { HOST } else { 0 }
            | if space { SPACE } else { 0 }
            | if loose { LOOSE } else { 0 };
        index += 1;
    }
    classes
}

#[inline(always)]
fn is(byte: u8, class: u8) -> bool {
    CLASSES.get(byte as usize).is_some_and(|classes| classes & class != 0)
}

/// Whether `byte` may stand in a token (RFC 3261 25.1).
#[inline]
pub(super) fn is_token(byte: u8) -> bool {
    is(byte, TOKEN)
}

/// The byte at `at`; 0 at `end` and behind.
#[inline(always)]
pub(super) fn byte_at(bytes: &[u8], at: usize, end: usize) -> u8 {
    if at < end { bytes.get(at).copied().unwrap_or(0) } else { 0 }
}

#[inline(always)]
pub(super) fn run(bytes: &[u8], mut at: usize, end: usize, class: u8) -> usize {
    while at < end && bytes.get(at).is_some_and(|byte| is(*byte, class)) {
        at += 1;
    }
    at
}

/// Behind the white space and folds at `at`.
#[inline(always)]
pub(super) fn skip_space(bytes: &[u8], at: usize, end: usize) -> usize {
    if byte_at(bytes, at, end) > b' ' || at >= end { at } else { skip_spaces(bytes, at, end) }
}

#[inline(never)]
fn skip_spaces(bytes: &[u8], at: usize, end: usize) -> usize {
    run(bytes, at, end, SPACE)
}

/// `start..end` without the one blank in front that nearly all write; none if there is any other
/// white space at its ends.
#[inline(always)]
pub(super) fn plain_value(bytes: &[u8], start: usize, end: usize) -> Option<Span> {
    let [blank, first] = lane::chunk(bytes, start)?;
    let last = bytes.get(end.wrapping_sub(1))?;
    (*blank == b' ' && *first > b' ' && *last > b' ' && start < end).then(|| Span::new(start + 1, end))
}

/// `start..end` without white space and folds at both ends.
#[inline(always)]
pub(super) fn trim(bytes: &[u8], start: usize, end: usize) -> Span {
    plain_value(bytes, start, end).unwrap_or_else(|| trim_both(bytes, start, end))
}

/// `start..end`, at whose start no white space stands, without that at its end.
#[inline(always)]
pub(super) fn trim_end(bytes: &[u8], start: usize, end: usize) -> Span {
    match bytes.get(end.wrapping_sub(1)) {
        Some(b'!'..) => Span::new(start, end),
        _ => trim_both(bytes, start, end),
    }
}

#[inline(never)]
fn trim_both(bytes: &[u8], start: usize, mut end: usize) -> Span {
    let start = run(bytes, start, end, SPACE);
    while end > start && end.checked_sub(1).and_then(|last| bytes.get(last)).is_some_and(|byte| is(*byte, SPACE)) {
        end -= 1;
    }
    Span::new(start, end)
}

/// End of the token at `at`; `at` if there is none.
#[inline(always)]
pub(super) fn token(bytes: &[u8], at: usize, end: usize) -> usize {
    let stop = lane::plain_end(bytes, at, end);
    if is(byte_at(bytes, stop, end), TOKEN) { run(bytes, stop, end, TOKEN) } else { stop }
}

/// End of the host at `at`; `at` if there is none.
#[inline(always)]
pub(super) fn host(bytes: &[u8], at: usize, end: usize) -> usize {
    if byte_at(bytes, at, end) == b'[' {
        return bracketed(bytes, at, end);
    }
    let stop = lane::plain_end(bytes, at, end);
    if byte_at(bytes, stop, end) == b'_' { run(bytes, stop, end, HOST) } else { stop }
}

/// End of an IPv6 reference; `at` if it is none.
fn bracketed(bytes: &[u8], at: usize, end: usize) -> usize {
    let mut stop = at + 1;
    while matches!(byte_at(bytes, stop, end), b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F' | b':' | b'.') {
        stop += 1;
    }
    if byte_at(bytes, stop, end) == b']' && stop > at + 2 { stop + 1 } else { at }
}

/// The number at `at`, cut off at `u64::MAX / 16`, and the end of its digits.
#[inline(always)]
pub(super) fn digits(bytes: &[u8], at: usize, end: usize) -> (u64, usize) {
    let (number, count) = lane::digits(lane::word(bytes, at));
    if count < 8 && at + count <= end { (number.into(), at + count) } else { long_digits(bytes, at, end) }
}

#[cold]
#[inline(never)]
fn long_digits(bytes: &[u8], mut at: usize, end: usize) -> (u64, usize) {
    let mut number = 0u64;
    while let digit @ b'0'..=b'9' = byte_at(bytes, at, end) {
        number = (number * 10 + u64::from(digit - b'0')).min(u64::MAX / 16);
        at += 1;
    }
    (number, at)
}

/// Whether two spans hold the same bytes.
#[inline(always)]
pub(super) fn same(bytes: &[u8], one: Span, other: Span) -> bool {
    if let length @ 1..=8 = one.len()
        && length == other.len()
    {
        let (one, other) = (lane::word(bytes, one.start.into()), lane::word(bytes, other.start.into()));
        return (one ^ other) << (64 - 8 * length) == 0;
    }
    one.of(bytes) == other.of(bytes)
}

/// A port and the end of its digits; none if it is no port that can be sent to.
#[inline(always)]
pub(super) fn port(bytes: &[u8], at: usize, end: usize) -> Option<(u16, usize)> {
    let (number, stop) = digits(bytes, at, end);
    let port = u16::try_from(number).ok().filter(|port| *port != 0)?;
    Some((port, stop))
}

/// Behind the quoted string whose opening quote stands at `at`; none if it is not closed.
#[inline(always)]
pub(super) fn quoted(bytes: &[u8], at: usize, end: usize) -> Option<usize> {
    let mut at = at + 1;
    loop {
        at = lane::find(bytes, at, end, |lane| lane.eq(b'"').or(lane.eq(b'\\')));
        match byte_at(bytes, at, end) {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => return None,
        }
    }
}

/// Where a run of what most values are made of may end; what else is loose is left to a closer look.
#[inline(always)]
pub(super) fn loose_stop<L: Look>(lane: L) -> L {
    // From `;` to `>` four bytes differ in two bits once five is added.
    lane.beyond(b'-', b'~').or(lane.plus(5).with(3).eq(b'C')).or(lane.eq(b'\\'))
}

/// End of the run at `at` of what may stand in a value outside quotes.
#[inline(always)]
pub(super) fn loose_end(bytes: &[u8], at: usize, end: usize) -> usize {
    let stop = lane::find(bytes, at, end, loose_stop);
    if stop < end && is(byte_at(bytes, stop, end), LOOSE) { run(bytes, stop, end, LOOSE) } else { stop }
}

/// End of a parameter's value at `at`, quoted or not; `at` if there is none.
#[inline(always)]
pub(super) fn param_value(bytes: &[u8], at: usize, end: usize) -> Option<usize> {
    if byte_at(bytes, at, end) == b'"' { quoted(bytes, at, end) } else { Some(loose_end(bytes, at, end)) }
}

/// One parameter: its name and its value, which is none without `=`.
#[derive(Clone, Copy)]
pub(super) struct Param {
    pub(super) name: Span,
    pub(super) value: Option<Span>,
}

/// What stands where a parameter may.
pub(super) enum Next {
    /// A parameter, and the offset behind it.
    Param(Param, usize),
    /// A comma, perhaps behind a `;`.
    Comma,
    End,
    Fault,
}

/// The parameter at `at`, white space and its `;` included. A `;` that ends the value is none.
#[inline(always)]
pub(super) fn next_param(bytes: &[u8], at: usize, end: usize) -> Next {
    let at = skip_space(bytes, at, end);
    match byte_at(bytes, at, end) {
        b';' => {}
        b',' => return Next::Comma,
        _ if at >= end => return Next::End,
        _ => return Next::Fault,
    }
    let start = skip_space(bytes, at + 1, end);
    let stop = token(bytes, start, end);
    if stop == start {
        // Some write one `;` too many behind the last.
        return match byte_at(bytes, start, end) {
            b',' => Next::Comma,
            _ if start >= end => Next::End,
            _ => Next::Fault,
        };
    }
    let name = Span::new(start, stop);
    let equals = skip_space(bytes, stop, end);
    if byte_at(bytes, equals, end) != b'=' {
        return Next::Param(Param { name, value: None }, stop);
    }
    let start = skip_space(bytes, equals + 1, end);
    match param_value(bytes, start, end) {
        Some(stop) => Next::Param(Param { name, value: Some(Span::new(start, stop)) }, stop),
        None => Next::Fault,
    }
}

/// Parses CSeq.
#[inline(always)]
pub(super) fn cseq(bytes: &[u8], value: Span, cseq: &mut CSeq) -> Option<()> {
    let (at, end) = (value.start as usize, value.end as usize);
    let (number, stop) = digits(bytes, at, end);
    // One blank, then a method of letters, is what nearly all write.
    let start = stop + 1;
    if let Ok(number) = u32::try_from(number)
        && stop > at
        && start < end
        && bytes.get(stop) == Some(&b' ')
        && lane::plain_end(bytes, start, end) == end
    {
        *cseq = CSeq { number, value, method: Span::new(start, end), digits: Span::new(at, stop) };
        return Some(());
    }
    odd_cseq(bytes, value, cseq)
}

#[inline(never)]
fn odd_cseq(bytes: &[u8], value: Span, cseq: &mut CSeq) -> Option<()> {
    let (at, end) = (value.start as usize, value.end as usize);
    cseq.value = value;
    let (number, stop) = digits(bytes, at, end);
    let start = skip_space(bytes, stop, end);
    let number = u32::try_from(number).ok()?;
    if stop == at || start == stop || start == end || token(bytes, start, end) != end {
        return None;
    }
    *cseq = CSeq { number, value, method: Span::new(start, end), digits: Span::new(at, stop) };
    Some(())
}

/// A value that is all digits, cut off at `u64::MAX / 16`.
#[inline(always)]
pub(super) fn number(bytes: &[u8], value: Span) -> Option<u64> {
    if let length @ 1..=4 = value.len()
        && let Some(chunk) = lane::chunk(bytes, value.start.into())
    {
        return lane::all_digits(*chunk, length).map(u64::from);
    }
    long_number(bytes, value)
}

#[inline(never)]
fn long_number(bytes: &[u8], value: Span) -> Option<u64> {
    let (number, stop) = digits(bytes, value.start as usize, value.end as usize);
    (stop == value.end as usize && !value.is_empty()).then_some(number)
}

/// Whether a Call-ID holds neither white space nor control characters, and anything at all.
#[inline(always)]
pub(super) fn call_id_sound(bytes: &[u8], value: Span) -> bool {
    let (at, end) = (value.start as usize, value.end as usize);
    !value.is_empty() && lane::find(bytes, at, end, |lane| lane.up_to(b' ').or(lane.eq(0x7f))) == end
}
