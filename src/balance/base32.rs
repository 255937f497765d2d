//! Base32 (RFC 4648 alphabet, lower case, no padding), eight characters a step in one register; where
//! the build may use AVX2, a short cookie's text at once.
//!
//! Used by cookies only. Decoding is strict: for every list of bytes exactly one text decodes to it,
//! and no table is read, so time does not depend on the bytes.

#[cfg(all(target_arch = "x86_64", target_feature = "avx2"))]
pub(super) use one::{decode_row, encode_row};
#[cfg(not(all(target_arch = "x86_64", target_feature = "avx2")))]
pub(super) use three::{decode_row, encode_row};

/// A row: what two words hold without their last byte, 24 characters; and room that is stored with them.
pub(super) const ROW_ROOM: usize = 32;

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

#[cfg(any(test, not(all(target_arch = "x86_64", target_feature = "avx2"))))]
mod three {
    use super::{GROUP, ROW_ROOM, decode, encode};

    /// The characters of the upper 120 bits of two words, and anything behind them.
    #[inline(always)]
    pub(in crate::balance) fn encode_row(high: u64, low: u64) -> [u8; ROW_ROOM] {
        let groups = [high >> 24, (high << 16 | low >> 48) & GROUP, low >> 8 & GROUP];
        let mut text = [b'a'; ROW_ROOM];
        text.as_chunks_mut().0.iter_mut().zip(groups).for_each(|(text, group)| *text = encode(group));
        text
    }

    /// Two words of a text of `LEN` characters, 16 to 24; `None` if one is not of the alphabet.
    #[inline(always)]
    pub(in crate::balance) fn decode_row<const LEN: usize>(text: &[u8; LEN]) -> Option<(u64, u64)> {
        let [first, second] = text.as_chunks::<8>().0.first_chunk::<2>()?;
        // The characters that the last two groups share are shifted out, `a`s, which stand for zeros, in.
        let spare = 8 * (24 - LEN);
        let zeros = u64::from_be_bytes([b'a'; 8]) & ((1 << spare) - 1);
        let third = u64::from_be_bytes(*text.last_chunk()?) << spare | zeros;
        let (first, second, third) = (decode(*first)?, decode(*second)?, decode(third.to_be_bytes())?);
        Some((first << 24 | second >> 16, second << 48 | third << 8))
    }
}

#[cfg(all(target_arch = "x86_64", target_feature = "avx2"))]
mod one {
    use safe_arch::{
        add_i8_m256i, bitand_m256i, bitor_m256i, blend_varying_i8_m256i, cmp_eq_mask_i8_m256i, cmp_gt_mask_i8_m256i,
        extract_i64_imm_m128i, extract_m128i_m256i, get_i64_from_m128i_s, load_unaligned_m128i, m256i, min_u8_m256i,
        move_mask_i8_m256i, mul_i16_horizontal_add_m256i, mul_i16_keep_low_m256i,
        mul_u8i8_add_horizontal_saturating_m256i, mul_u64_low_bits_m256i, pack_i16_to_u8_m256i, set_i64_m128i,
        set_m128i_m256i, set_splat_i8_m256i, shr_imm_u16_m256i, shr_imm_u64_m256i, shuffle_av_i8z_half_m256i,
        splat_m128i_m256i, sub_i8_m256i,
    };

    use super::ROW_ROOM;

    /// By word of sixteen bits: the two bytes that hold a character's five bits, the first of them
    /// highest. Of two words, whose bytes stand the lowest first.
    const fn pairs(front: usize, back: Option<usize>) -> [u8; 32] {
        let mut places = [0x80; 32];
        let (mut rest, mut word): (&mut [u8], usize) = (&mut places, 0);
        while let [low, high, behind @ ..] = rest {
            let first = if word < 8 { Some(front) } else { back };
            if let Some(first) = first {
                let byte = (first + word % 8) * 5 / 8;
                *high = (if byte < 8 { 7 - byte } else { 23 - byte }) as u8;
                *low = (if byte < 7 { 6 - byte } else { 22 - byte }) as u8;
            }
            rest = behind;
            word += 1;
        }
        places
    }

    /// The first and the last eight characters of 24, and those between.
    const ENDS: [u8; 32] = pairs(0, Some(16));
    const MIDDLE: [u8; 32] = pairs(8, None);
    /// Factors that shift a character's bits to the highest.
    const SHIFTS: [i16; 8] = [1, 1 << 5, 1 << 2, 1 << 7, 1 << 4, 1 << 1, 1 << 6, 1 << 3];

    #[inline(always)]
    fn twice<T: Copy + Default, const N: usize, const M: usize>(of: [T; N]) -> [T; M] {
        let mut both = [T::default(); M];
        both.as_chunks_mut::<N>().0.iter_mut().for_each(|half| *half = of);
        both
    }

    /// See `three`.
    #[inline(always)]
    pub(in crate::balance) fn encode_row(high: u64, low: u64) -> [u8; ROW_ROOM] {
        let both = splat_m128i_m256i(set_i64_m128i(low as i64, high as i64));
        let digits = |places: [u8; 32]| {
            let pairs = shuffle_av_i8z_half_m256i(both, m256i::from(places));
            let highest = mul_i16_keep_low_m256i(pairs, m256i::from(twice::<i16, 8, 16>(SHIFTS)));
            shr_imm_u16_m256i::<11>(highest)
        };
        let digits = pack_i16_to_u8_m256i(digits(ENDS), digits(MIDDLE));
        let numerals = cmp_gt_mask_i8_m256i(digits, set_splat_i8_m256i(25));
        let less = bitand_m256i(numerals, set_splat_i8_m256i((b'2' as i8 - 26) - b'a' as i8));
        add_i8_m256i(add_i8_m256i(digits, set_splat_i8_m256i(b'a' as i8)), less).into()
    }

    /// Leaves the first half as it is, and brings the characters behind the first sixteen, of `LEN` in all,
    /// to the front of the other.
    const fn fronts<const LEN: usize>() -> [u8; 32] {
        let mut places = [0x80; 32];
        let (mut rest, mut at): (&mut [u8], usize) = (&mut places, 0);
        while let [place, behind @ ..] = rest {
            if at < 16 {
                *place = at as u8;
            } else if at < LEN {
                *place = (32 - LEN + at - 16) as u8;
            }
            rest = behind;
            at += 1;
        }
        places
    }

    /// See `three`.
    #[inline(always)]
    pub(in crate::balance) fn decode_row<const LEN: usize>(text: &[u8; LEN]) -> Option<(u64, u64)> {
        let (first, last) = (load_unaligned_m128i(text.first_chunk()?), load_unaligned_m128i(text.last_chunk()?));
        let text = set_m128i_m256i(last, first);
        let up_to =
            |number: m256i, most: i8| cmp_eq_mask_i8_m256i(min_u8_m256i(number, set_splat_i8_m256i(most)), number);
        let (letter, numeral) =
            (sub_i8_m256i(text, set_splat_i8_m256i(b'a' as i8)), sub_i8_m256i(text, set_splat_i8_m256i(b'2' as i8)));
        let letters = up_to(letter, 25);
        if move_mask_i8_m256i(bitor_m256i(letters, up_to(numeral, 5))) != -1 {
            return None;
        }
        let digits = blend_varying_i8_m256i(add_i8_m256i(numeral, set_splat_i8_m256i(26)), letter, letters);
        let digits = shuffle_av_i8z_half_m256i(digits, m256i::from(const { fronts::<LEN>() }));
        let tens = mul_u8i8_add_horizontal_saturating_m256i(digits, m256i::from(twice::<i8, 2, 32>([32, 1])));
        let twenties = mul_i16_horizontal_add_m256i(tens, m256i::from(twice::<i16, 2, 16>([1024, 1])));
        let upper = mul_u64_low_bits_m256i(twenties, m256i::from([1u64 << 20; 4]));
        let groups = bitor_m256i(upper, shr_imm_u64_m256i::<32>(twenties));
        let (front, back) = (extract_m128i_m256i::<0>(groups), extract_m128i_m256i::<1>(groups));
        let (first, second) = (get_i64_from_m128i_s(front) as u64, extract_i64_imm_m128i::<1>(front) as u64);
        let third = get_i64_from_m128i_s(back) as u64;
        Some((first << 24 | second >> 16, second << 48 | third << 8))
    }
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

    proptest! {
        #[test]
        fn a_row_is_its_groups_and_reads_back(high: u64, low: u64) {
            let low = low & !0xff;
            let text = encode_row(high, low);
            prop_assert_eq!(&text[..8 * 3], &three::encode_row(high, low)[..8 * 3]);
            prop_assert_eq!(&text[..8], slowly(high >> 24));
            prop_assert_eq!(decode_row::<24>(text.first_chunk().unwrap()), Some((high, low)));
            let shorter = |bits: u32| (high, low & u64::MAX << (128 - bits));
            prop_assert_eq!(decode_row::<23>(text.first_chunk().unwrap()), Some(shorter(115)));
            prop_assert_eq!(decode_row::<20>(text.first_chunk().unwrap()), Some(shorter(100)));
            prop_assert_eq!(three::decode_row::<23>(text.first_chunk().unwrap()), Some(shorter(115)));
        }
    }

    #[test]
    fn no_character_outside_the_alphabet_is_read_in_a_row() {
        for place in 0..23 {
            for byte in 0..=255_u8 {
                let mut text = [b'a'; 23];
                text[place] = byte;
                let known = byte.is_ascii_lowercase() || (b'2'..=b'7').contains(&byte);
                assert_eq!(decode_row(&text).is_some(), known, "{byte} at {place}");
                assert_eq!(decode_row(&text), three::decode_row(&text), "{byte} at {place}");
            }
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
