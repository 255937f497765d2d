//! From, To and whatever else has the form of a name-addr (RFC 3261 25.1).
//!
//! Driven by `scan` for From and To and by `uri` for single values. Told the bounds of a value in the
//! datagram; never looks into the URI but for what would end it.

use super::field::{NAME, Next, SPACE, byte_at, loose_end, next_param, quoted, run, skip_space, token, trim};
use super::lane::{self, AnyCase};
use super::message::{Address, Line, Span};
use super::uri::{self, NameAddr};

const TAG: AnyCase = AnyCase::new(b"tag");

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
        let mut open = token(bytes, at, end);
        if byte_at(bytes, open, end) == b':' && open > at {
            return addr_spec(bytes, at, end);
        }
        open = run(bytes, open, end, NAME | SPACE);
        (trim(bytes, at, open).end as usize, open)
    };
    if byte_at(bytes, open, end) != b'<' {
        return None;
    }
    let start = open + 1;
    let close = lane::find(bytes, start, end, uri::unsound);
    if byte_at(bytes, close, end) != b'>' || close == start {
        return None;
    }
    let uri = Span::new(start, close);
    Some((NameAddr { display: Span::new(at, display_end), uri, params: Span::NONE }, close + 1))
}

/// A bare addr-spec ends where parameters, a further value or white space begin (RFC 3261 20).
#[inline(always)]
fn addr_spec(bytes: &[u8], at: usize, end: usize) -> Option<(NameAddr, usize)> {
    let stop = loose_end(bytes, at, end);
    let uri = Span::new(at, stop);
    (byte_at(bytes, stop.saturating_sub(1), end) != b':')
        .then_some((NameAddr { display: Span::NONE, uri, params: Span::NONE }, stop))
}

/// Parses From or To; none if it is not sound.
#[inline(never)]
pub(super) fn address(bytes: &[u8], line: Line, address: &mut Address) -> Option<()> {
    let end = line.value.end as usize;
    address.line = line;
    let (found, mut at) = name_addr(bytes, line.value.start as usize, end)?;
    address.uri = found.uri;
    loop {
        match next_param(bytes, at, end) {
            Next::Param(param, next) => {
                if param.name.len() == 3 && TAG.is(lane::word(bytes, param.name.start as usize)) {
                    let value = param.value.unwrap_or_default();
                    if value.is_empty() || !address.tag.is_empty() {
                        return None;
                    }
                    address.tag = value;
                }
                at = next;
            }
            Next::End => return Some(()),
            Next::Comma | Next::Fault => return None,
        }
    }
}
