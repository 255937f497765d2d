//! The text that a request gets above its first header, put together in one place; where that is short,
//! between the start line and whatever else changes at the front.
//!
//! Pieces that a port or a header always has are kept ready, at a width that is copied by a few
//! moves; the block is handed on once. Owned by the shard, written by `rewrite`, `record` and `plain`.

use crate::sip::Text;

/// Bytes that may be put in above the first header; as much as an edit puts in.
const ADDED_MAX: usize = crate::sip::TEXT_MAX;
/// Longest start line that is taken along.
const LEAD_MAX: usize = 256;
const ROOM: usize = 2 * ADDED_MAX;
/// Width of a piece: what an IPv4 listener needs in its Via.
const WIDTH: usize = 64;

/// A text that is written often.
#[derive(Debug)]
pub(super) struct Piece {
    wide: [u8; WIDTH],
    text: Box<[u8]>,
}

impl Piece {
    pub(super) fn new(text: &str) -> Self {
        let mut wide = [0; WIDTH];
        wide.iter_mut().zip(text.bytes()).for_each(|(to, from)| *to = from);
        Self { wide, text: text.as_bytes().into() }
    }
}

/// The text. What does not fit is left out and told by [`Block::added`].
#[derive(Debug)]
pub(super) struct Block {
    room: Box<[u8; ROOM]>,
    /// Length of the start line in front of the text.
    lead: usize,
    len: usize,
    fits: bool,
}

impl Block {
    pub(super) fn new() -> Self {
        Self { room: Box::new([0; ROOM]), lead: 0, len: 0, fits: true }
    }

    /// Starts anew, behind the start line that ends at `first_header`, if that is not too long.
    #[inline]
    pub(super) fn begin(&mut self, bytes: &[u8], first_header: usize) {
        (self.lead, self.len, self.fits) = (0, 0, true);
        if first_header <= LEAD_MAX {
            self.copy::<64>(bytes, 0, first_header);
            self.lead = self.len;
        }
    }

    /// What was written, without the start line; none if not all of it fitted.
    #[inline]
    pub(super) fn added(&self) -> Option<&[u8]> {
        self.room.get(self.lead..self.len).filter(|added| self.fits && added.len() <= ADDED_MAX)
    }

    /// All of it, if it begins with a start line that ends at `first_header`.
    #[inline]
    pub(super) fn whole(&self, first_header: usize) -> Option<&[u8]> {
        self.room.get(..self.len).filter(|_| self.fits && self.lead == first_header)
    }

    /// Takes back what was written behind the first `len` bytes, which fitted.
    pub(super) fn cut(&mut self, len: usize) {
        (self.len, self.fits) = (self.lead + len, true);
    }

    /// Bytes written so far, without the start line.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.len - self.lead
    }

    /// Takes over the bytes from `from` up to `to`; `N` of them are copied at once.
    #[inline]
    pub(super) fn copy<const N: usize>(&mut self, bytes: &[u8], from: usize, to: usize) {
        match bytes.get(from..).and_then(<[u8]>::first_chunk) {
            Some(wide) if to.wrapping_sub(from) <= N => self.fill::<N>(|room| {
                *room = *wide;
                to - from
            }),
            _ => self.write(|text| text.bytes(bytes.get(from..to).unwrap_or_default())),
        }
    }

    /// The next `N` bytes, of which `write` tells how many it has filled.
    #[inline]
    pub(super) fn fill<const N: usize>(&mut self, write: impl FnOnce(&mut [u8; N]) -> usize) {
        match self.room.get_mut(self.len..).and_then(<[u8]>::first_chunk_mut) {
            Some(room) => self.len += write(room),
            None => self.fits = false,
        }
    }

    #[inline]
    pub(super) fn array<const N: usize>(&mut self, text: &[u8; N]) {
        self.fill(|room| {
            *room = *text;
            N
        });
    }

    #[inline]
    pub(super) fn piece(&mut self, piece: &Piece) {
        if piece.text.len() <= WIDTH {
            self.fill(|room| {
                *room = piece.wide;
                piece.text.len()
            });
        } else {
            self.write(|text| text.bytes(&piece.text));
        }
    }

    /// Anything else.
    #[inline]
    pub(super) fn write(&mut self, write: impl FnOnce(&mut Text<'_>)) {
        let mut text = Text::new(self.room.get_mut(self.len..).unwrap_or_default());
        write(&mut text);
        self.fits &= text.fits();
        self.len += text.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_holds_what_was_written_and_tells_what_did_not_fit() {
        let mut block = Block::new();
        let long = "x".repeat(100);
        block.begin(b"BYE sip:a SIP/2.0\r\nVia: ...", 19);
        block.piece(&Piece::new("Via: "));
        block.piece(&Piece::new(&long));
        block.array(b"\r\n");
        block.write(|text| text.str("end"));
        let added = format!("Via: {long}\r\nend");
        assert_eq!(block.added(), Some(added.as_bytes()));
        assert_eq!(block.len(), added.len());
        assert_eq!(block.whole(19), Some(format!("BYE sip:a SIP/2.0\r\n{added}").as_bytes()));
        for _ in 0..40 {
            block.array(&[b'y'; 32]);
        }
        assert_eq!(block.added(), None);
        block.begin(&[b'a'; 300], 300);
        assert_eq!((block.added(), block.whole(300)), (Some(&b""[..]), None));
        block.cut(0);
        assert_eq!(block.added(), Some(&b""[..]));
        (0..2 * ROOM / 64).for_each(|_| block.array(&[b'y'; 64]));
        assert_eq!((block.added(), block.whole(0)), (None, None));
    }

    #[test]
    fn bytes_are_taken_over_whatever_stands_behind_them() {
        let bytes: Vec<u8> = (0..200).collect();
        for (from, to) in [(0, 0), (0, 1), (3, 19), (3, 20), (180, 190), (190, 200), (0, 200)] {
            let mut block = Block::new();
            block.copy::<16>(&bytes, from, to);
            assert_eq!(block.added(), bytes.get(from..to));
        }
    }
}
