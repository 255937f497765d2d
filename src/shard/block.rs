//! The text that a request gets above its first header, put together in one place.
//!
//! Pieces that a port or a header always has are kept ready, at a width that is copied by a few
//! moves; the block is handed to the edit once. Owned by the shard, written by `rewrite` and `record`.

use crate::sip::Text;

/// Bytes that a block holds; as much as an edit puts in.
const BLOCK_MAX: usize = crate::sip::TEXT_MAX;
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

/// The text. What does not fit is left out and told by [`Block::text`].
#[derive(Debug)]
pub(super) struct Block {
    room: Box<[u8; BLOCK_MAX]>,
    len: usize,
    fits: bool,
}

impl Block {
    pub(super) fn new() -> Self {
        Self { room: Box::new([0; BLOCK_MAX]), len: 0, fits: true }
    }

    #[inline]
    pub(super) fn clear(&mut self) {
        self.len = 0;
        self.fits = true;
    }

    /// What was written; none if not all of it fitted.
    #[inline]
    pub(super) fn text(&self) -> Option<&[u8]> {
        self.room.get(..self.len).filter(|_| self.fits)
    }

    /// Bytes written so far.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.len
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
        block.piece(&Piece::new("Via: "));
        block.piece(&Piece::new(&long));
        block.array(b"\r\n");
        block.write(|text| text.str("end"));
        assert_eq!(block.text(), Some(format!("Via: {long}\r\nend").as_bytes()));
        for _ in 0..40 {
            block.array(&[b'y'; 32]);
        }
        assert_eq!(block.text(), None);
        block.clear();
        assert_eq!(block.text(), Some(&b""[..]));
    }
}
