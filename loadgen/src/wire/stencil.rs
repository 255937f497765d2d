//! Stencils: whole requests written once, with places for what differs from call to call.
//!
//! Made when a spot is, used for every first request. A copy and a few short writes a message.

use sipring::sip::Text;

use super::two_digits;
use crate::agent::number::DIGITS;

/// In the text of a stencil: where a leg's digits go.
pub(crate) const LEG: char = '\u{1}';
/// Where the two digits of a branch number go.
pub(crate) const TX: char = '\u{2}';
/// Where the digit of CSeq goes.
pub(crate) const SEQ: char = '\u{3}';
/// Where the six digits of a user go.
pub(crate) const USER: char = '\u{4}';
/// Where further header lines go.
pub(crate) const EXTRA: char = '\u{5}';

/// Digits of a user's number.
pub(crate) const USER_DIGITS: usize = 6;

/// What differs from call to call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fill<'a> {
    pub(crate) leg: &'a [u8; DIGITS],
    pub(crate) tx: u8,
    /// 1 to 9.
    pub(crate) seq: u32,
    pub(crate) user: u32,
    /// Whole header lines.
    pub(crate) extra: &'a [u8],
}

/// A request with places.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stencil {
    text: Vec<u8>,
    legs: Vec<usize>,
    tx: Option<usize>,
    seq: Option<usize>,
    users: Vec<usize>,
    extra: usize,
}

impl Stencil {
    /// Takes the places from `text`.
    pub(crate) fn new(text: &str) -> Self {
        let mut stencil = Self::default();
        for letter in text.chars() {
            let at = stencil.text.len();
            let width = match letter {
                LEG => {
                    stencil.legs.push(at);
                    DIGITS
                }
                TX => {
                    stencil.tx = Some(at);
                    2
                }
                SEQ => {
                    stencil.seq = Some(at);
                    1
                }
                USER => {
                    stencil.users.push(at);
                    USER_DIGITS
                }
                EXTRA => {
                    stencil.extra = at;
                    0
                }
                plain => {
                    stencil.text.extend_from_slice(plain.encode_utf8(&mut [0; 4]).as_bytes());
                    continue;
                }
            };
            stencil.text.resize(at + width, b'0');
        }
        stencil
    }

    /// Writes the request behind its start line.
    #[inline]
    pub(crate) fn write(&mut self, fill: &Fill<'_>, text: &mut Text<'_>) {
        for at in &self.legs {
            if let Some(place) = self.text.get_mut(*at..).and_then(|place| place.first_chunk_mut()) {
                *place = *fill.leg;
            }
        }
        if let Some(place) = self.tx.and_then(|at| self.text.get_mut(at..)).and_then(|place| place.first_chunk_mut()) {
            *place = two_digits(fill.tx);
        }
        if let Some(place) = self.seq.and_then(|at| self.text.get_mut(at)) {
            *place = b'0' + (fill.seq % 10) as u8;
        }
        for at in &self.users {
            let Some(place) = self.text.get_mut(*at..*at + USER_DIGITS) else { continue };
            let mut rest = fill.user;
            for digit in place.iter_mut().rev() {
                *digit = b'0' + (rest % 10) as u8;
                rest /= 10;
            }
        }
        if fill.extra.is_empty() {
            return text.bytes(&self.text);
        }
        if let Some((front, back)) = self.text.split_at_checked(self.extra) {
            text.bytes(front);
            text.bytes(fill.extra);
            text.bytes(back);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_place_is_written_nowhere() {
        let mut room = [0; 64];
        let mut text = Text::new(&mut room);
        let fill = Fill { leg: b"0123456789abcdef", tx: 7, seq: 2, user: 42, extra: b"" };
        Stencil::new(&format!("a{LEG}{TX}")).write(&fill, &mut text);
        let len = text.len();
        assert_eq!(&room[..len], b"a0123456789abcdef07");
    }

    #[test]
    fn every_place_is_filled_and_the_rest_stays() {
        let mut stencil = Stencil::new(&format!("b={LEG}{TX} u={USER} c={SEQ}\r\n{EXTRA}tag={LEG}."));
        let mut room = [0; 200];
        for (tx, extra) in [(1, ""), (0xaf, "X: y\r\n")] {
            let mut text = Text::new(&mut room);
            let fill = Fill { leg: b"0123456789abcdef", tx, seq: 2, user: 42, extra: extra.as_bytes() };
            stencil.write(&fill, &mut text);
            let len = text.len();
            let wanted = format!("b=0123456789abcdef{tx:02x} u=000042 c=2\r\n{extra}tag=0123456789abcdef.");
            assert_eq!(std::str::from_utf8(&room[..len]).unwrap(), wanted);
        }
    }
}
