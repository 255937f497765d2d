//! Via: the topmost value for `scan`, any other that the shard asks for.
//!
//! Told the bounds of a value in the datagram. What nearly all write is taken at sight, the rest as
//! the grammar has it (RFC 3261 20.42); both say the same. Never looks behind the value's end.

use super::fault::Fault;
use super::field::{Next, Param, byte_at, digits, host, loose_end, next_param, port, skip_space, token};
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
    plain(bytes, at, end, via).ok_or(()).or_else(|()| odd(bytes, at, end, via))
}

/// Over UDP, no white space but one blank, each parameter that routing knows at most once, no other.
#[inline(always)]
fn plain(bytes: &[u8], at: usize, end: usize, via: &mut Via) -> Option<()> {
    if lane::chunk(bytes, at)? != b"SIP/2.0/UDP " {
        return None;
    }
    let start = at + 12;
    if start >= end {
        return None;
    }
    let stop = lane::plain_end(bytes, start, end);
    let word = lane::word(bytes, stop);
    if stop == start {
        return None;
    }
    let (mut port, mut next) = (None, stop);
    if word as u8 == b':' {
        let (number, count) = lane::digits(word >> 8);
        port = Some(u16::try_from(number).ok().filter(|port| *port != 0 && count < 7)?);
        next = stop + 1 + count;
    }
    let mut found = Via { port, host: Span::new(start, stop), sent_by: Span::new(start, next), ..Via::NONE };
    while next < end {
        next = plain_param(bytes, next, end, &mut found)?;
    }
    if next > end {
        return None;
    }
    (via.host, via.port, via.sent_by) = (found.host, found.port, found.sent_by);
    (via.branch, via.received, via.rport) = (found.branch, found.received, found.rport);
    via.transport = Span::new(at + 8, at + 11);
    via.value = Span::new(at, end);
    Some(())
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
        let (number, count) = lane::digits(lane::word(bytes, at + 7));
        let port = u16::try_from(number).ok().filter(|port| *port != 0 && count < 7)?;
        let stop = at + 7 + count;
        if via.rport != Rport::Absent || (stop < end && bytes.get(stop) != Some(&b';')) {
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
    let last = word & 0xffff_ffff_ffff | u64::from(b';') << 48;
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
