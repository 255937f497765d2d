//! Via: the topmost value for `scan`, any other that the shard asks for.
//!
//! Told the bounds of a value in the datagram. What nearly all write is taken at sight, the rest as
//! the grammar has it (RFC 3261 20.42); both say the same. Never looks behind the value's end.

use super::fault::Fault;
use super::field::{Next, Param, byte_at, host, loose_end, next_param, port, skip_space, token};
use super::lane::{self, AnyCase};
use super::message::{Rport, Span, Via};

const BRANCH: AnyCase = AnyCase::new(b"branch");
const RECEIVED: AnyCase = AnyCase::new(b"received");
const RPORT: AnyCase = AnyCase::new(b"rport");
const BRANCH_IS: AnyCase = AnyCase::new(b";branch=");
const RECEIVE: AnyCase = AnyCase::new(b";receive");
const D_IS: AnyCase = AnyCase::new(b"d=");
const RPORT_END: AnyCase = AnyCase::new(b";rport;");
const RPORT_IS: AnyCase = AnyCase::new(b";rport=");
const MAGIC: AnyCase = AnyCase::new(b"z9hg4bk");

/// Parses the first value in `value`, which is that of a Via line, into `via`.
#[inline(never)]
pub(super) fn parse(bytes: &[u8], value: Span, via: &mut Via) -> Result<(), Fault> {
    let (at, end) = (value.start as usize, value.end as usize);
    via.transport = sent_protocol(bytes, at, end).ok_or(Fault::Via)?;
    let gap = via.transport.end as usize;
    let start = skip_space(bytes, gap + usize::from(byte_at(bytes, gap, end) == b' '), end);
    let mut stop = host(bytes, start, end);
    if stop == start || start == gap {
        return Err(Fault::Via);
    }
    via.host = Span::new(start, stop);
    let colon = skip_space(bytes, stop, end);
    if byte_at(bytes, colon, end) == b':' {
        let (port, digits_end) = port(bytes, skip_space(bytes, colon + 1, end), end).ok_or(Fault::Via)?;
        via.port = Some(port);
        stop = digits_end;
    }
    via.sent_by = Span::new(start, stop);
    stop = params(bytes, stop, end, via)?;
    via.value = Span::new(at, stop);
    Ok(())
}

/// Sent-protocol: the transport's span.
#[inline(always)]
fn sent_protocol(bytes: &[u8], at: usize, end: usize) -> Option<Span> {
    let start = if lane::word(bytes, at) == u64::from_le_bytes(*b"SIP/2.0/") && end > at + 8 {
        skip_space(bytes, at + 8, end)
    } else {
        let mut at = at;
        for _ in 0..2 {
            let stop = token(bytes, at, end);
            let slash = skip_space(bytes, stop, end);
            if stop == at || byte_at(bytes, slash, end) != b'/' {
                return None;
            }
            at = skip_space(bytes, slash + 1, end);
        }
        at
    };
    if lane::word(bytes, start) as u32 == u32::from_le_bytes(*b"UDP ") && end > start + 4 {
        return Some(Span::new(start, start + 3));
    }
    let stop = token(bytes, start, end);
    (stop > start).then(|| Span::new(start, stop))
}

/// The parameters from `at` on; where the value ends.
#[inline(always)]
fn params(bytes: &[u8], mut at: usize, end: usize, via: &mut Via) -> Result<usize, Fault> {
    while at < end {
        at = match plain_param(bytes, at, end, via) {
            Some(next) => next,
            None => match next_param(bytes, at, end) {
                Next::Param(param, next) => {
                    odd_param(bytes, param, via)?;
                    next
                }
                Next::Comma => {
                    via.shares_line = true;
                    return Ok(at);
                }
                Next::End => return Ok(at),
                Next::Fault => return Err(Fault::Via),
            },
        };
    }
    Ok(at)
}

/// A parameter that routing knows, without white space, and sound; none if it is anything else.
#[inline(always)]
fn plain_param(bytes: &[u8], at: usize, end: usize, via: &mut Via) -> Option<usize> {
    let word = lane::word(bytes, at);
    if BRANCH_IS.is(word) {
        let value = plain_value(bytes, at + 8, end)?;
        if !via.branch.is_empty() || value.len() == 7 {
            return None;
        }
        via.branch = value;
        return Some(value.end.into());
    }
    if RPORT_IS.is(word) {
        let (port, stop) = port(bytes, at + 7, end)?;
        if via.rport != Rport::Absent || (stop < end && byte_at(bytes, stop, end) != b';') {
            return None;
        }
        via.rport = Rport::Value { port, span: Span::new(at + 7, stop) };
        return Some(stop);
    }
    if RECEIVE.is(word) && D_IS.is(lane::word(bytes, at + 8)) {
        let value = plain_value(bytes, at + 10, end)?;
        if !via.received.is_empty() {
            return None;
        }
        via.received = value;
        return Some(value.end.into());
    }
    let last = word & 0xff_ffff_ffff_ffff | u64::from(b';') << 48;
    if RPORT_END.is(if at + 6 == end { last } else { word }) && via.rport == Rport::Absent {
        via.rport = Rport::Asked { at: (at + 6) as u16 };
        return Some(at + 6);
    }
    None
}

#[inline(always)]
fn plain_value(bytes: &[u8], start: usize, end: usize) -> Option<Span> {
    let stop = loose_end(bytes, start, end);
    (stop > start).then(|| Span::new(start, stop))
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
                Some(span) => match port(bytes, span.start as usize, span.end as usize) {
                    Some((port, stop)) if stop == span.end as usize => Rport::Value { port, span },
                    _ => return Err(Fault::Via),
                },
            };
        }
        _ => {}
    }
    Ok(())
}
