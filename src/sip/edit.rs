//! Changes to a datagram, gathered first and applied in one pass.
//!
//! Driven by the shard with the spans of a scan. Only the bytes in front of the last change move, to
//! the left into the packet's head room where the message grows; body and tail stay where they are.
//! Holds the texts to put in, so that they may be copied out of the packet itself. Never applies a
//! part of an edit.

use super::copy;
use super::message::Span;
use super::text::Text;
use super::values::Value;
use crate::packet::Packet;

/// Changes that one edit can hold.
pub const SPLICES_MAX: usize = 16;
/// Bytes that one edit can put in.
pub const TEXT_MAX: usize = 1024;

/// Why an edit was not applied; the packet is as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EditError {
    /// The packet has less room in front than the message would grow.
    NoHeadRoom,
    /// More than [`SPLICES_MAX`].
    TooManySplices,
    /// More than [`TEXT_MAX`] bytes to put in.
    TextTooLong,
    /// Two splices share bytes, or one lies outside the datagram.
    Overlap,
}

/// Names one splice of an edit, so that its text can be found after `apply`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpliceId(u8);

#[derive(Clone, Copy, Debug, Default)]
struct Splice {
    at: Span,
    /// Its part of the texts.
    text: Span,
    /// Its place in the order of the calls.
    id: u8,
    /// Where its text landed.
    landed: u16,
}

/// Changes gathered for one packet. Kept and cleared by its owner from packet to packet.
#[derive(Debug)]
pub struct Edit {
    /// The first `count` are in use, sorted by place.
    splices: [Splice; SPLICES_MAX],
    count: usize,
    text_len: usize,
    growth: isize,
    error: Option<EditError>,
    texts: [u8; TEXT_MAX],
}

/// Where an edit's texts landed.
#[derive(Clone, Copy, Debug)]
pub struct Applied<'a>(&'a Edit);

impl Applied<'_> {
    /// Where the text of `splice` begins in the changed datagram.
    #[must_use]
    pub fn at(&self, splice: SpliceId) -> u16 {
        self.0.used().iter().find(|own| own.id == splice.0).map_or(0, |own| own.landed)
    }
}

impl Default for Edit {
    fn default() -> Self {
        Self::new()
    }
}

impl Edit {
    #[must_use]
    pub fn new() -> Self {
        Self {
            splices: [Splice::default(); SPLICES_MAX],
            count: 0,
            text_len: 0,
            growth: 0,
            error: None,
            texts: [0; TEXT_MAX],
        }
    }

    /// Forgets all splices.
    #[inline]
    pub fn clear(&mut self) {
        self.count = 0;
        self.text_len = 0;
        self.growth = 0;
        self.error = None;
    }

    /// Replaces the bytes `at` by what `write` takes down. Splices must not share bytes; their order
    /// is free, but what stands at one place stands in the order of the calls.
    #[inline(always)]
    pub fn splice(&mut self, at: Span, write: impl FnOnce(&mut Text<'_>)) -> SpliceId {
        let mut text = Text::new(self.texts.get_mut(self.text_len..).unwrap_or_default());
        write(&mut text);
        let (len, fits) = (text.len(), text.fits());
        if !fits {
            self.error.get_or_insert(EditError::TextTooLong);
        }
        let id = self.count as u8;
        let text = Span::new(self.text_len, self.text_len + len);
        self.place(Splice { at, text, id, landed: 0 });
        self.text_len += len;
        self.growth += len as isize - at.len() as isize;
        SpliceId(id)
    }

    /// Puts what `write` takes down in front of the byte at `at`.
    #[inline(always)]
    pub fn insert(&mut self, at: u16, write: impl FnOnce(&mut Text<'_>)) -> SpliceId {
        self.splice(Span { start: at, end: at }, write)
    }

    /// Removes the bytes `at`.
    #[inline]
    pub fn remove(&mut self, at: Span) {
        self.splice(at, |_| ());
    }

    /// Removes a value from its header. Values are popped from the first on, in order, as `values`
    /// gives them; the last of a line takes the line with it.
    pub fn pop(&mut self, value: &Value) {
        let line = value.line;
        let start = if value.first_in_line { line.value.start } else { value.span.start };
        match (value.first_in_line, value.last_in_line) {
            (true, true) => self.remove(Span { start: line.start, end: line.next }),
            (_, false) => self.remove(Span { start, end: value.next }),
            (false, true) => {
                self.remove(Span { start: line.start, end: line.value.start });
                self.remove(Span { start, end: line.next });
            }
        }
    }

    /// By how many bytes the datagram will grow.
    #[inline]
    #[must_use]
    pub const fn growth(&self) -> isize {
        self.growth
    }

    #[inline]
    fn used(&self) -> &[Splice] {
        self.splices.get(..self.count).unwrap_or_default()
    }

    /// Sorts `splice` in, behind those at the same place.
    #[inline]
    fn place(&mut self, splice: Splice) {
        let mut index = self.count;
        let Some(free) = self.splices.get_mut(..=index) else {
            self.error.get_or_insert(EditError::TooManySplices);
            return;
        };
        // An insertion in front of what another splice replaces comes first, whoever was called first.
        let key = |splice: &Splice| (splice.at.start, splice.at.end);
        while let Some([before, here]) = index.checked_sub(1).and_then(|from| free.get_mut(from..=index)) {
            if key(before) <= key(&splice) {
                break;
            }
            *here = *before;
            index -= 1;
        }
        if let Some(here) = free.get_mut(index) {
            *here = splice;
        }
        self.count += 1;
    }

    /// Applies all splices to `packet`, whose bytes their spans describe.
    ///
    /// # Errors
    /// [`EditError`]; the packet is then as it was.
    #[inline]
    pub fn apply(&mut self, packet: &mut Packet) -> Result<Applied<'_>, EditError> {
        let growth = self.checked(packet)?;
        // Offsets in the larger of both views of the packet.
        let base = growth.max(0);
        if growth > 0 && !packet.grow_front(growth) {
            return Err(EditError::NoHeadRoom);
        }
        self.shift(packet.bytes_mut(), base);
        // What was checked cannot fail.
        let _ = growth < 0 && packet.grow_front(growth);
        Ok(Applied(self))
    }

    /// The growth, if the splices can be applied.
    #[inline]
    fn checked(&self, packet: &Packet) -> Result<isize, EditError> {
        if let Some(error) = self.error {
            return Err(error);
        }
        let mut behind = 0;
        for splice in self.used() {
            if splice.at.start < behind || splice.at.end < splice.at.start {
                return Err(EditError::Overlap);
            }
            behind = splice.at.end;
        }
        if usize::from(behind) > packet.len() {
            return Err(EditError::Overlap);
        }
        if self.growth > packet.head_room() as isize {
            return Err(EditError::NoHeadRoom);
        }
        Ok(self.growth)
    }

    /// Moves what stands between the splices and puts the texts in. `base` is where the unchanged
    /// datagram begins in `bytes`.
    #[inline]
    fn shift(&mut self, bytes: &mut [u8], base: isize) {
        let splices = self.splices.get_mut(..self.count).unwrap_or_default();
        // Parts that move left go front to back, so that none overwrites what has yet to move.
        let mut by = -self.growth;
        let mut from = 0;
        let mut right = false;
        for splice in splices.iter_mut() {
            let end = base + splice.at.start as isize;
            let start = base + from as isize;
            if by < 0 {
                shift_part(bytes, start, end, by);
            }
            right |= by > 0;
            from = splice.at.end;
            // The datagram will begin at `base - growth`.
            splice.landed = (splice.at.start as isize + by + self.growth) as u16;
            by += splice.text.len() as isize - splice.at.len() as isize;
        }
        if right {
            shift_right(splices, bytes, base);
        }
        for splice in splices.iter() {
            let start = base - self.growth + splice.landed as isize;
            let text = splice.text.of(&self.texts);
            if let Some(room) = usize::try_from(start).ok().and_then(|start| bytes.get_mut(start..start + text.len())) {
                copy::short(room, text);
            }
        }
    }
}

/// Parts that move right go back to front.
#[cold]
fn shift_right(splices: &[Splice], bytes: &mut [u8], base: isize) {
    let mut by = 0;
    for (index, splice) in splices.iter().enumerate().rev() {
        by -= splice.text.len() as isize - splice.at.len() as isize;
        let from = index.checked_sub(1).and_then(|before| splices.get(before)).map_or(0, |before| before.at.end);
        if by > 0 {
            shift_part(bytes, base + from as isize, base + splice.at.start as isize, by);
        }
    }
}

/// Moves `start..end` by `by`. Bounds were checked by the caller.
#[inline]
fn shift_part(bytes: &mut [u8], start: isize, end: isize, by: isize) {
    let bounds = (usize::try_from(start), usize::try_from(end), usize::try_from(start + by));
    if let (Ok(start), Ok(end), Ok(to)) = bounds
        && start < end
        && end <= bytes.len()
        && to + (end - start) <= bytes.len()
    {
        copy::within(bytes, start, end, to);
    }
}

#[cfg(test)]
#[path = "edit_tests.rs"]
mod tests;
