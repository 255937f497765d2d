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
const RECEIVE: AnyCase = AnyCase::new(b";receive");
const D_IS: AnyCase = AnyCase::new(b"d=");
const MAGIC: AnyCase = AnyCase::new(b"z9hg4bk");

/// Parses the first value in `value`, which is that of a Via line, into `via`.
#[inline(always)]
pub(super) fn parse(bytes: &[u8], value: Span, via: &mut Via) -> Result<(), Fault> {
    let line = via.line;
    if plain_alone(bytes, value.start as usize, via) == Some(value.end as usize) {
        return Ok(());
    }
    *via = Via { line, ..Via::NONE };
    odd(bytes, value.start as usize, value.end as usize, via)
}

/// Over UDP, no white space but one blank, each parameter that routing knows at most once, no other.
/// Fills in all but the line and gives the offset behind the value, which whatever cannot go on ends:
/// it is for the caller to see whether it may.
#[inline(never)]
pub(super) fn plain_alone(view: impl View, at: usize, via: &mut Via) -> Option<usize> {
    if view.chunk(at)? != b"SIP/2.0/UDP " {
        return None;
    }
    let start = at + 12;
    let stop = lane::stop(view, start, lane::plain_stop)?;
    if stop == start {
        return None;
    }
    let (mut next, mut port) = (stop, None);
    if view.byte(stop) == Some(b':') {
        let (number, count) = lane::port(view, stop + 1)?;
        port = Some(number);
        next = stop + 1 + count;
    }
    let behind = next;
    // By start and end; an end of 0 stands for none.
    let (mut branch, mut received, mut rport) = ((0, 0), (0, 0), Rport::Absent);
    loop {
        let word = view.word(next);
        if word as u8 != b';' {
            break;
        }
        if BRANCH_IS.is(word) && branch.1 == 0 {
            branch = plain_value(view, next + 8)?;
            // The magic cookie alone.
            if branch.1 == branch.0 + 7 {
                return None;
            }
            next = branch.1;
        } else if RPORT.is(word >> 8) && rport == Rport::Absent {
            (rport, next) = plain_rport(view, word, next + 6)?;
        } else if RECEIVE.is(word) && D_IS.is(view.word(next + 8)) && received.1 == 0 {
            received = plain_value(view, next + 10)?;
            next = received.1;
        } else {
            return None;
        }
    }
    (via.host, via.port, via.sent_by) = (Span::new(start, stop), port, Span::new(start, behind));
    via.transport = Span::new(at + 8, at + 11);
    (via.branch, via.received) = (Span::new(branch.0, branch.1), Span::new(received.0, received.1));
    (via.rport, via.value) = (rport, Span::new(at, next));
    Some(next)
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

/// Start and end of the value at `start`, of what most values are made of.
#[inline(always)]
fn plain_value(view: impl View, start: usize) -> Option<(usize, usize)> {
    let stop = lane::far_stop(view, start, loose_stop)?;
    (stop > start).then_some((start, stop))
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
