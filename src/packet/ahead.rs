//! Asking the cache for bytes that are read soon.
//!
//! What another cpu has written, such as the kernel's half of a bypass, costs as much to read as the rest of a small packet's
//! way; asked for ahead, it comes while something else is worked on. Changes nothing but time.

use std::iter;

use super::Packet;

/// Packets that are asked for before their turn.
const AHEAD: usize = 2;
/// Bytes of a cache line, or of half of what comes at once.
const LINE: usize = 64;
/// Bytes asked for at most: the longest datagrams are mostly body, which nobody reads.
const ASKED_MAX: usize = 1_024;

/// Takes packets out, each asked for while those before it are worked on.
#[inline]
pub fn asked_ahead(packets: &mut Vec<Packet>) -> impl Iterator<Item = Packet> + '_ {
    packets.iter().take(AHEAD).for_each(|packet| ask(packet.bytes()));
    let mut coming = packets.drain(..);
    iter::from_fn(move || {
        let packet = coming.next()?;
        if let Some(later) = coming.as_slice().get(AHEAD - 1) {
            ask(later.bytes());
        }
        Some(packet)
    })
}

/// Asks for the lines of `bytes`, of the first ones if they are many.
#[inline]
pub(super) fn ask(bytes: &[u8]) {
    let asked = bytes.get(..ASKED_MAX).unwrap_or(bytes);
    asked.iter().step_by(LINE).for_each(line);
    if let Some(last) = asked.last() {
        line(last);
    }
}

#[inline]
fn line(at: &u8) {
    #[cfg(target_feature = "sse")]
    safe_arch::prefetch_t0(at);
    #[cfg(not(target_feature = "sse"))]
    let _ = at;
}

#[cfg(test)]
mod tests {
    use super::super::{Pool, PoolOptions};
    use super::*;

    #[test]
    fn all_packets_come_out_in_order_whatever_their_length() {
        let pool = Pool::new(&PoolOptions { slots: 8, threads: 1 }).unwrap();
        let lengths = [0, 1, 255, 256, 257, 1_025, 60_000];
        let mut packets: Vec<_> = lengths.iter().map(|_| pool.take().unwrap()).collect();
        packets.iter_mut().zip(lengths).for_each(|(packet, len)| assert!(packet.replace(&vec![7; len])));
        assert!(asked_ahead(&mut packets).map(|packet| packet.len()).eq(lengths));
        assert!(packets.is_empty());
    }
}
