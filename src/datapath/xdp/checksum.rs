//! The Internet's checksum (RFC 1071), over whole packets.
//!
//! Pure functions on bytes; used where frames are built. What comes in is not summed: the network
//! card has done that, and frames between namespaces bear unfinished sums.

/// The sum of `bytes` as numbers of two bytes in network order, on top of `sum`, not yet folded. Of an
/// odd number of bytes the last is the upper half of one.
#[inline]
pub(super) fn add(sum: u64, bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<4>();
    // Summed as the machine reads them: the byte order of the folded sum is that of its parts.
    let mut total: u64 = words.iter().map(|word| u64::from(u32::from_ne_bytes(*word))).sum();
    let mut last = [0; 4];
    for (to, from) in last.iter_mut().zip(rest) {
        *to = *from;
    }
    total += u64::from(u32::from_ne_bytes(last));
    let folded = u16::from_be_bytes(fold(total).to_ne_bytes());
    sum + u64::from(folded)
}

/// The checksum: the complement of the folded sum.
#[inline]
pub(super) fn finish(sum: u64) -> u16 {
    !fold(sum)
}

#[inline]
fn fold(sum: u64) -> u16 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16 & 0xffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    ((sum & 0xffff) + (sum >> 16)) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plainly(bytes: &[u8]) -> u16 {
        let mut sum = 0_u32;
        for pair in bytes.chunks(2) {
            sum += u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !(sum as u16)
    }

    #[test]
    fn a_header_with_its_sum_in_place_sums_to_nothing() {
        let header = [0x45, 0, 0, 0x73, 0, 0, 0x40, 0, 0x40, 0x11, 0, 0, 0xc0, 0xa8, 0, 1, 0xc0, 0xa8, 0, 0xc7_u8];
        assert_eq!(finish(add(0, &header)), 0xb861, "the example of RFC 1071's readers");
    }

    #[test]
    fn any_length_sums_as_it_does_pair_by_pair() {
        let bytes: Vec<u8> = (0..2_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        for len in 0..bytes.len() {
            assert_eq!(finish(add(0, &bytes[..len])), plainly(&bytes[..len]), "{len}");
        }
        assert_eq!(finish(add(add(0, &bytes[..40]), &bytes[40..])), plainly(&bytes), "in two parts");
        assert_eq!(finish(add(0, &[0xff; 1_500])), plainly(&[0xff; 1_500]));
    }
}
