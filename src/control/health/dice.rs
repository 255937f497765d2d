//! Numbers that nobody guesses: for branches of probes and for their jitter.
//!
//! A keyed hash over a counter; the key comes from the system once. Tests give their own key.

use siphasher::sip::SipHasher24;

/// The source of them.
#[derive(Debug)]
pub(super) struct Dice {
    key: SipHasher24,
    counter: u64,
}

impl Dice {
    pub(super) fn new(key: [u8; 16]) -> Self {
        Self { key: SipHasher24::new_with_key(&key), counter: 0 }
    }

    pub(super) fn roll(&mut self) -> u64 {
        self.counter = self.counter.wrapping_add(1);
        self.key.hash(&self.counter.to_le_bytes())
    }

    /// One of 0 to `below` - 1; 0 if that is none.
    pub(super) fn below(&mut self, below: u64) -> u64 {
        ((u128::from(self.roll()) * u128::from(below)) >> 64) as u64
    }
}
