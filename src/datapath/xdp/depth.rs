//! How many frames the kernel is to have for receiving at one interface.
//!
//! The kernel fills them in turn, so each is used again only after all the others: the more there are, the further they are
//! from any cache. Numbers only; asked by `lane` at every turn, which gives the frames.

/// Frames while it is calm.
const CALM: u32 = 512;
/// Turns after which it is calm again.
const TURNS: u32 = 4_096;

/// A number of frames that grows when more than half of them were filled.
#[derive(Debug)]
pub(super) struct Depth {
    /// At most: what the ring holds.
    ring: u32,
    now: u32,
    /// Turns since more than half of them were filled.
    turns: u32,
}

impl Depth {
    /// For a ring of so many entries, which is empty.
    pub(super) fn new(ring: u32) -> Self {
        Self { ring, now: (ring / 2).min(CALM / 2), turns: 0 }
    }

    /// How many more to give, after a turn that left the kernel `held` frames, of which it has filled `waiting`, that were
    /// not read yet.
    #[inline]
    pub(super) fn wanted(&mut self, held: u64, waiting: u64) -> u64 {
        self.after(held.saturating_sub(waiting)).saturating_sub(held)
    }

    /// How many there are to be, if a turn left so many unfilled.
    #[inline]
    fn after(&mut self, unfilled: u64) -> u64 {
        self.turns += 1;
        if unfilled < u64::from(self.now / 2) {
            (self.now, self.turns) = ((2 * self.now).min(self.ring), 0);
        } else if self.turns >= TURNS {
            (self.now, self.turns) = ((self.now / 2).max(CALM.min(self.ring)), 0);
        }
        u64::from(self.now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_begins_calm_grows_with_what_a_turn_needs_and_is_calm_again_after_a_while() {
        let mut depth = Depth::new(2_048);
        assert_eq!(depth.after(0), 512);
        assert_eq!(depth.after(256), 512, "half of them are left");
        assert_eq!([depth.after(255), depth.after(100), depth.after(0)], [1_024, 2_048, 2_048]);
        assert!((1..TURNS).all(|_| depth.after(2_048) == 2_048));
        assert_eq!(depth.after(2_048), 1_024);
        assert_eq!((0..2 * TURNS).map(|_| depth.after(2_000)).last(), Some(512), "never fewer");
    }

    #[test]
    fn what_waits_to_be_read_makes_it_grow_however_little_a_turn_reads() {
        const BATCH: u64 = 64;
        let mut depth = Depth::new(2_048);
        let mut held = depth.wanted(0, 0);
        // The kernel fills all that it gets before the next turn.
        for _ in 0..4 {
            let waiting = held - BATCH;
            held = waiting + depth.wanted(waiting, waiting);
        }
        assert_eq!(held, 2_048);
        assert_eq!(Depth::new(2_048).wanted(512, 600), 0, "it has filled more meanwhile");
    }

    #[test]
    fn it_is_never_more_than_the_ring_holds() {
        let mut depth = Depth::new(64);
        assert!((0..3).all(|_| depth.after(0) == 64));
        assert!((0..2 * TURNS).all(|_| depth.after(64) == 64));
    }
}
