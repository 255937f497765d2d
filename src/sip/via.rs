//! Via: the topmost value for `scan`, any other that the shard asks for.
//!
//! Told the bounds of a value in the datagram. What nearly all write is taken at sight, the rest as
//! the grammar has it (RFC 3261 20.42); both say the same. Never looks behind the value's end.

use super::fault::Fault;
use super::field::{self, Next, Param, byte_at, digits, host, loose_stop, next_param, skip_space, token};
use super::lane::{self, AnyCase};
use super::message::{Rport, Span, Via};
use super::view::View;

const BRANCH: AnyCase = AnyCase::new(b"branch");
const RECEIVED: AnyCase = AnyCase::new(b"received");
const RPORT: AnyCase = AnyCase::new(b"rport");
const BRANCH_IS: AnyCase = AnyCase::new(b";branch=");
const RPORT_IS: AnyCase = AnyCase::new(b";rport");
const RECEIVE: AnyCase = AnyCase::new(b";receive");
const D_IS: AnyCase = AnyCase::new(b"d=");
const MAGIC: AnyCase = AnyCase::new(b"z9hg4bk");

/// Parses the first value in `value`, which is that of a Via line, into `via`.
#[inline(always)]
pub(super) fn parse(bytes: &[u8], value: Span, via: &mut Via) -> Result<(), Fault> {
    let line = via.line;
    if plain_apart(bytes, value.start as usize, via) == Some(value.end as usize) {
        return Ok(());
    }
    *via = Via { line, ..Via::NONE };
    odd(bytes, value.start as usize, value.end as usize, via)
}

#[inline(never)]
fn plain_apart(bytes: &[u8], at: usize, via: &mut Via) -> Option<usize> {
    plain_alone(bytes, at, via)
}

/// Over UDP, no white space but one blank, each parameter that routing knows at most once, no other.
/// Fills in all but the line, of a Via that has nothing else, and gives the offset behind the value, which whatever
/// cannot go on ends: it is for the caller to see whether it may.
#[inline(always)]
pub(super) fn plain_alone(view: impl View, at: usize, via: &mut Via) -> Option<usize> {
    if view.chunk(at)? != b"SIP/2.0/UDP " {
        return None;
    }
    let start = at + 12;
    let stop = plain_host(view, start)?;
    let mut next = stop;
    if view.byte(stop) == Some(b':') {
        let (number, count) = lane::port(view, stop + 1)?;
        via.port = Some(number);
        next = stop + 1 + count;
    }
    via.transport = Span::new(at + 8, at + 11);
    (via.host, via.sent_by) = (Span::new(start, stop), Span::new(start, next));
    // Most have these two, in this order.
    let mut word = view.word(next);
    if BRANCH_IS.is(word) {
        next = plain_branch(view, next, via)?;
        word = view.word(next);
    }
    if RPORT_IS.is(word) {
        (via.rport, next) = plain_rport(view, word, next + 6)?;
        word = view.byte(next)?.into();
    }
    if word as u8 == b';' {
        next = further(view, next, via)?;
    }
    via.value = Span::new(at, next);
    Some(next)
}

/// End of the host at `at`.
#[inline(always)]
fn plain_host(view: impl View, at: usize) -> Option<usize> {
    // An address mostly, which is told by less.
    let numeric = lane::stop(view, at, |lane| lane.beyond(b'-', b'9').or(lane.eq(b'/')))?;
    let stop =
        if matches!(view.byte(numeric)?, b':' | b';') { numeric } else { lane::stop(view, at, lane::plain_stop)? };
    (stop > at).then_some(stop)
}

/// The branch parameter at `at`; the offset behind it.
#[inline(always)]
fn plain_branch(view: impl View, at: usize, via: &mut Via) -> Option<usize> {
    let stop = plain_value(view, at + 8)?;
    via.branch = Span::new(at + 8, stop);
    // The magic cookie alone is none.
    (stop != at + 15).then_some(stop)
}

/// The parameters from `at` on; the offset behind them.
#[inline(never)]
fn further(view: impl View, mut at: usize, via: &mut Via) -> Option<usize> {
    loop {
        let word = view.word(at);
        if word as u8 != b';' {
            return Some(at);
        }
        if BRANCH_IS.is(word) && via.branch == Span::NONE {
            at = plain_branch(view, at, via)?;
        } else if RPORT_IS.is(word) && via.rport == Rport::Absent {
            (via.rport, at) = plain_rport(view, word, at + 6)?;
        } else if RECEIVE.is(word) && D_IS.is(view.word(at + 8)) && via.received == Span::NONE {
            let stop = plain_value(view, at + 10)?;
            via.received = Span::new(at + 10, stop);
            at = stop;
        } else {
            return None;
        }
    }
}

/// The rport parameter whose name ends at `at`, and the offset behind it. `word` begins at its `;`.
#[inline(always)]
fn plain_rport(view: impl View, word: u64, at: usize) -> Option<(Rport, usize)> {
    match (word >> 48) as u8 {
        b'=' => {
            let (port, count) = lane::port(view, at + 1)?;
            let stop = at + 1 + count;
            Some((Rport::Value { port, span: Span::new(at + 1, stop) }, stop))
        }
        b';' | b'\r' | b',' => Some((Rport::Asked { at: at as u16 }, at)),
        _ => None,
    }
}

/// End of the value at `start`, of what most values are made of.
#[inline(always)]
fn plain_value(view: impl View, start: usize) -> Option<usize> {
    lane::far_stop(view, start, loose_stop).filter(|stop| *stop > start)
}

#[inline(never)]
fn odd(bytes: &[u8], at: usize, end: usize, via: &mut Via) -> Result<(), Fault> {
    via.transport = sent_protocol(bytes, at, end).ok_or(Fault::Via)?;
    let gap = via.transport.end as usize;
    let start = skip_space(bytes, gap, end);
    let mut stop = host(bytes, start, end);
    if stop == start || start == gap {
        return Err(Fault::Via);
    }
    via.host = Span::new(start, stop);
    let colon = skip_space(bytes, stop, end);
    if byte_at(bytes, colon, end) == b':' {
        let (port, digits_end) = field::port(bytes, skip_space(bytes, colon + 1, end), end).ok_or(Fault::Via)?;
        via.port = Some(port);
        stop = digits_end;
    }
    via.sent_by = Span::new(start, stop);
    stop = params(bytes, stop, end, via)?;
    via.value = Span::new(at, stop);
    Ok(())
}

/// Sent-protocol: the transport's span.
fn sent_protocol(bytes: &[u8], at: usize, end: usize) -> Option<Span> {
    let mut at = at;
    for _ in 0..2 {
        let stop = token(bytes, at, end);
        let slash = skip_space(bytes, stop, end);
        if stop == at || byte_at(bytes, slash, end) != b'/' {
            return None;
        }
        at = skip_space(bytes, slash + 1, end);
    }
    let stop = token(bytes, at, end);
    (stop > at).then(|| Span::new(at, stop))
}

/// The parameters from `at` on; where the value ends.
#[inline(always)]
fn params(bytes: &[u8], mut at: usize, end: usize, via: &mut Via) -> Result<usize, Fault> {
    loop {
        match next_param(bytes, at, end) {
            Next::Param(param, next) => {
                odd_param(bytes, param, via)?;
                at = next;
            }
            Next::Comma => {
                via.shares_line = true;
                return Ok(at);
            }
            Next::End => return Ok(at),
            Next::Fault => return Err(Fault::Via),
        }
    }
}

#[inline(never)]
fn odd_param(bytes: &[u8], param: Param, via: &mut Via) -> Result<(), Fault> {
    let name = lane::word(bytes, param.name.start as usize);
    match param.name.len() {
        6 if BRANCH.is(name) => {
            let value = param.value.unwrap_or_default();
            let bare = value.len() == 7 && MAGIC.is(lane::word(bytes, value.start as usize));
            if value.is_empty() || bare || !via.branch.is_empty() {
                return Err(Fault::Branch);
            }
            via.branch = value;
        }
        8 if RECEIVED.is(name) => {
            let value = param.value.unwrap_or_default();
            if value.is_empty() || !via.received.is_empty() {
                return Err(Fault::Via);
            }
            via.received = value;
        }
        5 if RPORT.is(name) => {
            if via.rport != Rport::Absent {
                return Err(Fault::Via);
            }
            via.rport = match param.value {
                None => Rport::Asked { at: param.name.end },
                Some(span) => match digits(bytes, span.start as usize, span.end as usize) {
                    (port @ 0..=0xffff, stop) if stop == span.end as usize => Rport::Value { port: port as u16, span },
                    _ => return Err(Fault::Via),
                },
            };
        }
        _ => {}
    }
    Ok(())
}
