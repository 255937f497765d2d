//! From, To and whatever else has the form of a name-addr (RFC 3261 25.1).
//!
//! Driven by `scan` for From and To and by `uri` for single values. Told the bounds of a value in the
//! datagram; never looks into the URI but for what would end it.

use super::field::{
    LOOSE, Next, SPACE, byte_at, loose_end, loose_stop, next_param, quoted, run, skip_space, token, trim,
};
use super::lane::{self, AnyCase, Lane};
use super::message::{Address, Span};
use super::uri::{self, NameAddr};
use super::view::View;

const TAG: AnyCase = AnyCase::new(b"tag");
const TAG_IS: AnyCase = AnyCase::new(b">;tag=");

/// The name-addr or addr-spec at `at`, and the offset behind it. `params` is not filled.
#[inline(always)]
pub(super) fn name_addr(bytes: &[u8], at: usize, end: usize) -> Option<(NameAddr, usize)> {
    let first = byte_at(bytes, at, end);
    let (display_end, open) = if first == b'<' {
        (at, at)
    } else if first == b'"' {
        let stop = quoted(bytes, at, end)?;
        (stop, skip_space(bytes, stop, end))
    } else {
        // A name made of more than tokens is what many write, and means nothing to routing.
        let open = run(bytes, at, end, LOOSE | SPACE);
        let scheme = token(bytes, at, end);
        if byte_at(bytes, open, end) != b'<' && byte_at(bytes, scheme, end) == b':' && scheme > at {
            return addr_spec(bytes, at, end);
        }
        (trim(bytes, at, open).end as usize, open)
    };
    let (uri, stop) = bracketed(bytes, open, end)?;
    Some((NameAddr { display: Span::new(at, display_end), uri, params: Span::NONE }, stop))
}

/// The URI within the `<>` that open at `open`, and the offset behind them.
#[inline(always)]
pub(super) fn bracketed(bytes: &[u8], open: usize, end: usize) -> Option<(Span, usize)> {
    let start = open + 1;
    if open >= end || bytes.get(open) != Some(&b'<') {
        return None;
    }
    let close = lane::find(bytes, start, end, uri::unsound);
    let sound = close > start && close < end && bytes.get(close) == Some(&b'>');
    sound.then(|| (Span::new(start, close), close + 1))
}

/// A bare addr-spec ends where parameters, a further value or white space begin (RFC 3261 20).
#[inline(always)]
fn addr_spec(bytes: &[u8], at: usize, end: usize) -> Option<(NameAddr, usize)> {
    let stop = loose_end(bytes, at, end);
    let uri = Span::new(at, stop);
    (byte_at(bytes, stop.saturating_sub(1), end) != b':')
        .then_some((NameAddr { display: Span::NONE, uri, params: Span::NONE }, stop))
}

/// Fills in URI and tag of the value of From or To at `at`, if it is written up to its `end`, where a line
/// ends, as nearly all write it: quotes or none, `<>`, a tag or none, no white space but one blank.
#[inline(always)]
pub(super) fn plain(view: impl View, at: usize, end: usize, address: &mut Address) -> Option<()> {
    let start = match view.byte(at)? {
        b'<' => at + 1,
        b'"' => quoted_end(view, at + 1)? + 3,
        _ => return None,
    };
    let close = lane::far_stop(view, start, uri::stop)?;
    let word = view.word(close);
    if word as u8 != b'>' || close == start {
        return None;
    }
    address.uri = Span::new(start, close);
    if close + 1 == end {
        return Some(());
    }
    let from = close + 6;
    if !TAG_IS.is(word) || from == end || lane::stop(view, from, loose_stop)? != end {
        return None;
    }
    address.tag = Span::new(from, end);
    Some(())
}

/// Where the quote stands that closes the one before `at`, soon and with a blank and a URI behind. Were it behind
/// the line's end, so would be all that follows.
#[inline(always)]
fn quoted_end(view: impl View, at: usize) -> Option<usize> {
    let lane = Lane::new(view.chunk(at)?);
    let stops = lane.eq(b'"').or(lane.eq(b'\\')).bits() | 1 << 16;
    let close = at + stops.trailing_zeros() as usize;
    let behind = u32::from_le_bytes(*view.chunk(close)?) << 8;
    (behind == u32::from_le_bytes(*b"\0\" <")).then_some(close)
}

/// Parses the value of From or To; none if it is not sound.
#[inline(never)]
pub(super) fn address(bytes: &[u8], value: Span, address: &mut Address) -> Option<()> {
    let end = value.end as usize;
    let (found, mut at) = name_addr(bytes, value.start as usize, end)?;
    address.uri = found.uri;
    loop {
        match next_param(bytes, at, end) {
            Next::Param(param, next) => {
                if param.name.len() == 3 && TAG.is(lane::word(bytes, param.name.start as usize)) {
                    // Twice is a fault even where one is empty: two readers could take either.
                    let value = param.value.filter(|_| address.tag == Span::NONE)?;
                    address.tag = value;
                }
                at = next;
            }
            Next::End => return Some(()),
            Next::Comma | Next::Fault => return None,
        }
    }
}
