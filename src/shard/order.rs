//! What keeps the messages of a call in order where packets leave in trains: a number a Call-ID.
//!
//! Cheap, and of no use for anything else: who made two calls collide would keep packets of both in order. Requests
//! and responses of a call get the same one. Pure.

const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

/// Never 0, which stands for a packet of no known call.
#[inline]
pub(super) fn order(call_id: &[u8]) -> u64 {
    let (words, rest) = call_id.as_chunks::<8>();
    let stir = |sum: u64, word: u64| {
        let product = u128::from(sum ^ word) * u128::from(FACTOR);
        (product as u64) ^ (product >> 64) as u64
    };
    let sum = words.iter().fold(FACTOR ^ call_id.len() as u64, |sum, word| stir(sum, u64::from_le_bytes(*word)));
    let last = match call_id.last_chunk::<8>() {
        // What was taken before is taken once more.
        Some(last) if !rest.is_empty() => u64::from_le_bytes(*last),
        Some(_) => return sum | 1,
        None => rest.iter().fold(0, |word, byte| word << 8 | u64::from(*byte)),
    };
    stir(sum, last) | 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_counts_and_none_gives_zero() {
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
