//! Base32 (RFC 4648 alphabet, lower case, no padding), eight characters a step in one register.
//!
//! Used by cookies only. Decoding is strict: for every list of bytes exactly one text decodes to it,
//! and no table is read, so time does not depend on the bytes.

/// Characters that `bytes` bytes take.
pub(super) const fn text_len(bytes: usize) -> usize {
    (bytes * 8).div_ceil(5)
}

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x80 * ONES;

/// Eight characters for forty bits, the highest first.
#[inline]
pub(super) fn encode(bits: u64) -> [u8; 8] {
    let x = (bits & 0xf_ffff) | ((bits << 12) & 0x000f_ffff_0000_0000);
    let x = (x & 0x0000_03ff_0000_03ff) | ((x << 6) & 0x03ff_0000_03ff_0000);
    let x = (x & 0x001f_001f_001f_001f) | ((x << 3) & 0x1f00_1f00_1f00_1f00);
    let digits = ((x + (0x80 - 26) * ONES) & HIGHS) >> 7;
    let text = x + u64::from(b'a') * ONES - digits * u64::from(b'a' - (b'2' - 26));
    text.to_be_bytes()
}

/// Forty bits from eight characters; `None` if one is not of the alphabet.
#[inline]
pub(super) fn decode(text: [u8; 8]) -> Option<u64> {
    let x = u64::from_be_bytes(text);
    if x & HIGHS != 0 {
        return None;
    }
    let at_least = |low: u8| x + u64::from(0x80 - low) * ONES;
    let letters = at_least(b'a') & !at_least(b'z' + 1) & HIGHS;
    let digits = at_least(b'2') & !at_least(b'7' + 1) & HIGHS;
    if letters | digits != HIGHS {
        return None;
    }
    let x = x - u64::from(b'2' - 26) * ONES - (letters >> 7) * u64::from(b'a' - (b'2' - 26));
    let x = (x & 0x001f_001f_001f_001f) | ((x >> 3) & 0x03e0_03e0_03e0_03e0);
    let x = (x & 0x0000_03ff_0000_03ff) | ((x >> 6) & 0x000f_fc00_000f_fc00);
    Some((x & 0xf_ffff) | ((x >> 12) & 0xff_fff0_0000))
}

/// Words that eight groups of forty bits fill.
pub(super) const BLOCK_WORDS: usize = 5;
/// Groups of forty bits in [`BLOCK_WORDS`] words.
pub(super) const BLOCK_GROUPS: usize = 8;
const GROUP: u64 = (1 << 40) - 1;

/// Eight groups of forty bits in a row.
#[inline]
pub(super) fn joined(g: &[u64; BLOCK_GROUPS]) -> [u64; BLOCK_WORDS] {
    [
        g[0] << 24 | g[1] >> 16,
        g[1] << 48 | g[2] << 8 | g[3] >> 32,
        g[3] << 32 | g[4] >> 8,
        g[4] << 56 | g[5] << 16 | g[6] >> 24,
        g[6] << 40 | g[7],
    ]
}

/// The reverse of [`joined`].
#[inline]
pub(super) fn parted(w: &[u64; BLOCK_WORDS]) -> [u64; BLOCK_GROUPS] {
    [
        w[0] >> 24,
        (w[0] << 16 | w[1] >> 48) & GROUP,
        w[1] >> 8 & GROUP,
        (w[1] << 32 | w[2] >> 32) & GROUP,
        (w[2] << 8 | w[3] >> 56) & GROUP,
        w[3] >> 16 & GROUP,
        (w[3] << 24 | w[4] >> 40) & GROUP,
        w[4] & GROUP,
    ]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn slowly(bits: u64) -> [u8; 8] {
        std::array::from_fn(|i| b"abcdefghijklmnopqrstuvwxyz234567"[(bits >> (35 - 5 * i) & 31) as usize])
    }

    proptest! {
        #[test]
        fn text_is_that_of_the_alphabet_and_decodes_to_its_bits(bits in 0..1_u64 << 40) {
            prop_assert_eq!(encode(bits), slowly(bits));
            prop_assert_eq!(decode(encode(bits)), Some(bits));
        }
    }

    #[test]
    fn groups_joined_keep_their_bits_in_order() {
        let groups: [u64; BLOCK_GROUPS] =
            std::array::from_fn(|i| 0x9e37_79b9_7f4a_7c15_u64.rotate_left(i as u32 * 7) & GROUP);
        let bits: String = groups.iter().map(|group| format!("{group:040b}")).collect();
        let words = joined(&groups);
        assert_eq!(words.iter().map(|word| format!("{word:064b}")).collect::<String>(), bits);
        assert_eq!(parted(&words), groups);
    }

    #[test]
    fn every_character_outside_the_alphabet_is_refused_at_every_place() {
        for place in 0..8 {
            for byte in 0..=255_u8 {
                let mut text = *b"aaaaaaaa";
                text[place] = byte;
                let known = byte.is_ascii_lowercase() || (b'2'..=b'7').contains(&byte);
                let back = decode(text);
                assert_eq!(back.is_some(), known, "{byte} at {place}");
                assert!(back.is_none_or(|bits| encode(bits) == text));
            }
        }
    }

    #[test]
    fn test_vectors_of_rfc_4648_hold() {
        assert_eq!(&encode(u64::from_be_bytes(*b"\0\0\0fooba")), b"mzxw6ytb");
        assert_eq!(text_len(1), 2);
        assert_eq!(text_len(4), 7);
        assert_eq!(text_len(5), 8);
    }
}
