//! What stands for a Call-ID: its keyed hash, and a cheaper number that keeps the messages of a call in
//! order where packets leave in trains, and that marks know a call by.
//!
//! The number is never shown: who made two calls collide would keep packets of both in order, and mix up
//! calls of his own. Requests and responses of a call get the same one. Pure.

use crate::balance::Key;
use crate::sip::Message;

use super::Core;

impl Core {
    /// What is shared by all that may be shown.
    #[inline(always)]
    pub(super) fn call_hash(&self, bytes: &[u8], message: &Message) -> u64 {
        self.shared.site.secrets.call.hash13(message.call_id.of(bytes))
    }

    /// See the module.
    #[inline(always)]
    pub(super) fn order(&self, bytes: &[u8], message: &Message) -> u64 {
        order(message.call_id.of(bytes), &self.shared.site.secrets.marks)
    }
}

/// Never 0, which stands for a packet of no known call.
#[inline]
fn order(call_id: &[u8], key: &Key) -> u64 {
    key.folded(0, call_id) | 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_counts_and_none_gives_zero() {
        let order = |call_id: &[u8]| order(call_id, &Key(3, 5));
        let id: Vec<u8> = (0..60).map(|n| b'0' + n).collect();
        let mut seen: Vec<u64> = Vec::new();
        for length in 0..id.len() {
            seen.push(order(&id[..length]));
            for at in 0..length {
                let mut changed = id[..length].to_vec();
                changed[at] ^= 1;
                seen.push(order(&changed));
            }
        }
        assert!(seen.iter().all(|order| *order != 0));
        let count = seen.len();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), count);
    }
}
