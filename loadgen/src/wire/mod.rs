//! The messages that the load generator sends, written straight into packets.
//!
//! First requests are stencils with fixed places for what differs from call to call; requests within
//! a dialog and answers are put together from pieces that were copied once. Driven by the agent;
//! never allocates for a message, decides nothing.

pub(crate) mod answer;
pub(crate) mod dialog;
pub(crate) mod spot;
pub(crate) mod stencil;

use std::net::SocketAddr;

use sipring::packet::{Packet, PortId};
use sipring::sip::{Lines, Text};

/// Ends a message without a body.
pub(crate) const NO_BODY: &[u8] = b"Content-Length: 0\r\n\r\n";

/// Writes a message into an empty packet; false if it does not fit.
#[inline]
pub(crate) fn fill(packet: &mut Packet, write: impl FnOnce(&mut Text<'_>)) -> bool {
    let mut text = Text::new(packet.room());
    write(&mut text);
    let (len, fits) = (text.len(), text.fits());
    packet.received(len, PortId(0), SocketAddr::from(([0, 0, 0, 0], 0)));
    fits
}

/// The bytes from the first to the last line of a header, if no other stands between them and none
/// is folded.
#[inline]
pub(crate) fn block<'a>(bytes: &'a [u8], lines: &Lines) -> Option<&'a [u8]> {
    let block = bytes.get(lines.first.start as usize..lines.end as usize)?;
    let ends = if lines.count == 1 { 1 } else { block.iter().filter(|byte| **byte == b'\n').count() };
    (ends == usize::from(lines.count)).then_some(block)
}

/// Two lower-case hexadecimal digits.
#[inline]
pub(crate) fn two_digits(number: u8) -> [u8; 2] {
    let digit = |nibble: u8| if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 };
    [digit(number >> 4), digit(number & 15)]
}

/// A hash of bytes, the same within the process.
#[inline]
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
    let fold = |sum: u64, word: u64| {
        let product = u128::from(sum ^ word) * u128::from(ODD);
        product as u64 ^ (product >> 64) as u64
    };
    let (words, rest) = bytes.as_chunks::<8>();
    let sum = words.iter().fold(bytes.len() as u64 ^ ODD, |sum, word| fold(sum, u64::from_le_bytes(*word)));
    let mut last = [0; 8];
    last.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
    fold(fold(sum, u64::from_le_bytes(last)), ODD)
}
