//! Bytes to look at from any offset on: a slice, or a datagram within a window that reaches beyond it.
//!
//! What is taken at sight is written once for both. In a window nothing is asked before a load, since
//! every offset that a span can hold lies within it; a slice is asked each time.

use super::lane;
use crate::packet::Window;

/// See the module. Loads give nothing where there is nothing.
pub(super) trait View: Copy {
    /// The `N` bytes from `at` on, if there are as many.
    fn chunk<const N: usize>(&self, at: usize) -> Option<&[u8; N]>;

    /// Eight bytes from `at` on, the first lowest; zeros behind a slice's end.
    fn word(&self, at: usize) -> u64;

    /// Where among the 64 bytes at `at` a CR stands, or an LF behind, one bit each, the lowest for the first; none
    /// behind a slice's end.
    fn breaks(&self, at: usize) -> Option<u64>;

    /// The byte at `at`.
    #[inline(always)]
    fn byte(&self, at: usize) -> Option<u8> {
        self.chunk::<1>(at).map(|[byte]| *byte)
    }
}

impl View for &[u8] {
    #[inline(always)]
    fn chunk<const N: usize>(&self, at: usize) -> Option<&[u8; N]> {
        lane::chunk(self, at)
    }

    #[inline(always)]
    fn word(&self, at: usize) -> u64 {
        lane::word(self, at)
    }

    #[inline(always)]
    fn breaks(&self, at: usize) -> Option<u64> {
        match self.chunk(at) {
            Some(chunk) => Some(lane::breaks(chunk)),
            None => last_breaks(self, at),
        }
    }
}

/// As `breaks`, with fewer bytes left than that looks at.
#[inline(never)]
fn last_breaks(bytes: &[u8], at: usize) -> Option<u64> {
    let rest = bytes.get(at..).filter(|rest| !rest.is_empty())?;
    let mut room = [0; 65];
    room.get_mut(..rest.len())?.copy_from_slice(rest);
    Some(lane::breaks(&room))
}

impl View for &Window {
    /// Offsets are those of spans: cutting them to 16 bits changes none, and spares the question.
    #[inline(always)]
    fn chunk<const N: usize>(&self, at: usize) -> Option<&[u8; N]> {
        self.get(usize::from(at as u16)..)?.first_chunk()
    }

    #[inline(always)]
    fn word(&self, at: usize) -> u64 {
        self.chunk(at).map_or(0, |chunk| u64::from_le_bytes(*chunk))
    }

    #[inline(always)]
    fn breaks(&self, at: usize) -> Option<u64> {
        self.chunk(at).map(lane::breaks)
    }
}
