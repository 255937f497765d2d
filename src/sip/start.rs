//! Request lines that are not written as nearly all are.
//!
//! Driven by `scan` with the whole datagram and where its first line ends. Tells what such a line may
//! still be answered for; never sees a sound one.

use super::fault::Fault;
use super::field;
use super::message::{Message, Span, Start};
use super::names::Method;

/// What ends in `SIP/` and something is answered as far as it can be; the rest is not SIP.
#[cold]
#[inline(never)]
pub(super) fn odd_request_line(bytes: &[u8], end: usize, message: &mut Message) {
    let line = bytes.get(..end).unwrap_or_default();
    let trimmed = line.trim_ascii_end();
    let version = trimmed.iter().rposition(|byte| *byte == b' ').map_or(trimmed.len(), |space| space + 1);
    let name = Span::new(0, field::token(line, 0, end));
    let (sip, number) = trimmed.get(version..).and_then(|rest| rest.split_at_checked(4)).unwrap_or_default();
    if !sip.eq_ignore_ascii_case(b"SIP/") {
        return message.blame(Fault::NotSip);
    }
    let uri = field::trim(line, name.end as usize, version.max(name.end as usize));
    message.start = Start::Request { method: Method::parse(name.of(line)), name, uri };
    let sound = !name.is_empty() && uri.start == name.end + 1 && uri.end as usize + 1 == version;
    if !sound || trimmed.len() != end {
        message.blame(Fault::StartLine);
    } else {
        message.blame(if number != b"2.0" && is_version(number) { Fault::Version } else { Fault::StartLine });
    }
}

/// Digits, a dot, digits.
fn is_version(number: &[u8]) -> bool {
    let number_part = |part: &[u8]| !part.is_empty() && part.iter().all(u8::is_ascii_digit);
    let dot = number.iter().position(|byte| *byte == b'.').unwrap_or(number.len());
    number.split_at_checked(dot).is_some_and(|(major, minor)| {
        number_part(major) && minor.split_first().is_some_and(|(_, minor)| number_part(minor))
    })
}
