//! Sixteen bytes looked at together.
//!
//! Driven by `lane` and the parsers above it. SSE2 belongs to every x86-64; elsewhere the same
//! operations work on an array. Knows nothing of what the bytes mean.

#[cfg(target_arch = "x86_64")]
pub(super) use sse2::Lane;

#[cfg(not(target_arch = "x86_64"))]
pub(super) use portable::Lane;

#[cfg(target_arch = "x86_64")]
mod sse2 {
    use safe_arch::{
        add_i8_m128i, bitand_m128i, bitandnot_m128i, bitor_m128i, bitxor_m128i, cmp_eq_mask_i8_m128i,
        cmp_gt_mask_i8_m128i, load_unaligned_m128i, m128i, min_u8_m128i, move_mask_i8_m128i, pack_i16_to_u8_m128i,
        set_i64_m128i, set_splat_i8_m128i, set_splat_i16_m128i, shl_imm_u16_m128i, shr_imm_u16_m128i, sub_i8_m128i,
        unpack_high_i8_m128i, unpack_low_i8_m128i,
    };

    #[cfg(target_feature = "sse4.1")]
    use safe_arch::test_all_zeroes_m128i;

    /// Sixteen bytes, or for each of them a yes (0xff) or no (0).
    #[derive(Clone, Copy)]
    pub(in crate::sip) struct Lane(m128i);

    impl Lane {
        #[inline(always)]
        pub(in crate::sip) fn new(bytes: &[u8; 16]) -> Self {
            Self(load_unaligned_m128i(bytes))
        }

        /// The bytes of two words, the lowest first.
        #[inline(always)]
        pub(in crate::sip) fn of_words(first: u64, second: u64) -> Self {
            Self(set_i64_m128i(second as i64, first as i64))
        }

        /// Sixteen times `byte`.
        #[inline(always)]
        pub(in crate::sip) fn splat(byte: u8) -> Self {
            Self(set_splat_i8_m128i(byte as i8))
        }

        #[inline(always)]
        pub(in crate::sip) fn bytes(self) -> [u8; 16] {
            self.0.into()
        }

        /// Which bytes, none of them above 127, are above `byte`.
        #[inline(always)]
        pub(in crate::sip) fn above(self, byte: u8) -> Self {
            Self(cmp_gt_mask_i8_m128i(self.0, set_splat_i8_m128i(byte as i8)))
        }

        /// Which bytes are `byte`.
        #[inline(always)]
        pub(in crate::sip) fn eq(self, byte: u8) -> Self {
            Self(cmp_eq_mask_i8_m128i(self.0, set_splat_i8_m128i(byte as i8)))
        }

        /// Which bytes are those of `other`.
        #[inline(always)]
        pub(in crate::sip) fn equal(self, other: Self) -> Self {
            Self(cmp_eq_mask_i8_m128i(self.0, other.0))
        }

        /// Which bytes are at most `byte`.
        #[inline(always)]
        pub(in crate::sip) fn up_to(self, byte: u8) -> Self {
            Self(cmp_eq_mask_i8_m128i(min_u8_m128i(self.0, set_splat_i8_m128i(byte as i8)), self.0))
        }

        /// Whether all bytes are those of `other`, as far as the bits that are set in `counts` go.
        #[inline(always)]
        pub(in crate::sip) fn agrees(self, other: Self, counts: Self) -> bool {
            let differing = bitxor_m128i(self.0, other.0);
            #[cfg(target_feature = "sse4.1")]
            return test_all_zeroes_m128i(differing, counts.0) != 0;
            #[cfg(not(target_feature = "sse4.1"))]
            return Self(bitand_m128i(differing, counts.0)).eq(0).bits() == 0xffff;
        }

        /// Which bytes are from `low` to `high`.
        #[inline(always)]
        pub(in crate::sip) fn within(self, low: u8, high: u8) -> Self {
            Self(sub_i8_m128i(self.0, set_splat_i8_m128i(low as i8))).up_to(high - low)
        }

        /// Which bytes are not from `low` to `high`: cheaper than `within`.
        #[inline(always)]
        pub(in crate::sip) fn beyond(self, low: u8, high: u8) -> Self {
            // Signed, as SSE2 compares, from the least byte on.
            let place = add_i8_m128i(self.0, set_splat_i8_m128i(0x80_u8.wrapping_sub(low) as i8));
            Self(cmp_gt_mask_i8_m128i(place, set_splat_i8_m128i(((high - low) ^ 0x80) as i8)))
        }

        /// Every byte with `addend` added, modulo 256.
        #[inline(always)]
        pub(in crate::sip) fn plus(self, addend: u8) -> Self {
            Self(add_i8_m128i(self.0, set_splat_i8_m128i(addend as i8)))
        }

        #[inline(always)]
        pub(in crate::sip) fn and(self, other: Self) -> Self {
            Self(bitand_m128i(self.0, other.0))
        }

        /// Every byte with these bits set.
        #[inline(always)]
        pub(in crate::sip) fn with(self, bits: u8) -> Self {
            Self(bitor_m128i(self.0, set_splat_i8_m128i(bits as i8)))
        }

        /// Every byte with bit 5 set: letters in lower case.
        #[inline(always)]
        pub(in crate::sip) fn lower(self) -> Self {
            self.with(0x20)
        }

        #[inline(always)]
        pub(in crate::sip) fn or(self, other: Self) -> Self {
            Self(bitor_m128i(self.0, other.0))
        }

        /// Bytes of `one` where this is yes, of `other` where it is no.
        #[inline(always)]
        pub(in crate::sip) fn choose(self, one: Self, other: Self) -> Self {
            Self(bitor_m128i(bitand_m128i(self.0, one.0), bitandnot_m128i(self.0, other.0)))
        }

        /// Numbers below 16, two to a byte, the first in its upper half; behind them those of `other`.
        #[inline(always)]
        pub(in crate::sip) fn joined(self, other: Self) -> [u8; 16] {
            let pairs = |lane: m128i| {
                let both = bitor_m128i(shl_imm_u16_m128i::<4>(lane), shr_imm_u16_m128i::<8>(lane));
                bitand_m128i(both, set_splat_i16_m128i(0xff))
            };
            pack_i16_to_u8_m128i(pairs(self.0), pairs(other.0)).into()
        }

        /// Both halves of every byte, the upper one first.
        #[inline(always)]
        pub(in crate::sip) fn halved(self) -> (Self, Self) {
            let low = set_splat_i8_m128i(0x0f);
            let (upper, lower) = (bitand_m128i(shr_imm_u16_m128i::<4>(self.0), low), bitand_m128i(self.0, low));
            (Self(unpack_low_i8_m128i(upper, lower)), Self(unpack_high_i8_m128i(upper, lower)))
        }

        /// The sum of each pair of bytes, modulo 256.
        #[inline(always)]
        pub(in crate::sip) fn added(self, other: Self) -> Self {
            Self(add_i8_m128i(self.0, other.0))
        }

        /// Yes for no, no for yes.
        #[inline(always)]
        pub(in crate::sip) fn not(self) -> Self {
            self.eq(0)
        }

        /// One bit for each yes, the lowest for the first byte.
        #[inline(always)]
        pub(in crate::sip) fn bits(self) -> u32 {
            move_mask_i8_m128i(self.0) as u32
        }
    }
}

#[cfg(any(test, not(target_arch = "x86_64")))]
mod portable {
    /// Sixteen bytes, or for each of them a yes (0xff) or no (0).
    #[derive(Clone, Copy)]
    pub(in crate::sip) struct Lane([u8; 16]);

    impl Lane {
        pub(in crate::sip) fn new(bytes: &[u8; 16]) -> Self {
            Self(*bytes)
        }

        pub(in crate::sip) fn of_words(first: u64, second: u64) -> Self {
            Self((u128::from(first) | u128::from(second) << 64).to_le_bytes())
        }

        pub(in crate::sip) fn splat(byte: u8) -> Self {
            Self([byte; 16])
        }

        pub(in crate::sip) fn bytes(self) -> [u8; 16] {
            self.0
        }

        pub(in crate::sip) fn above(self, byte: u8) -> Self {
            self.map(|own| own > byte)
        }

        pub(in crate::sip) fn halved(self) -> (Self, Self) {
            let half = |place: usize| {
                let byte = self.0.get(place / 2).copied().unwrap_or_default();
                if place.is_multiple_of(2) { byte >> 4 } else { byte & 15 }
            };
            (Self(std::array::from_fn(half)), Self(std::array::from_fn(|place| half(place + 16))))
        }

        pub(in crate::sip) fn added(self, other: Self) -> Self {
            let mut sum = self.0;
            sum.iter_mut().zip(other.0).for_each(|(sum, other)| *sum = sum.wrapping_add(other));
            Self(sum)
        }

        fn map(self, each: impl Fn(u8) -> bool) -> Self {
            Self(self.0.map(|byte| if each(byte) { 0xff } else { 0 }))
        }

        pub(in crate::sip) fn eq(self, byte: u8) -> Self {
            self.map(|own| own == byte)
        }

        pub(in crate::sip) fn equal(self, other: Self) -> Self {
            let mut both = self.0;
            both.iter_mut().zip(other.0).for_each(|(own, other)| *own = if *own == other { 0xff } else { 0 });
            Self(both)
        }

        pub(in crate::sip) fn up_to(self, byte: u8) -> Self {
            self.map(|own| own <= byte)
        }

        pub(in crate::sip) fn agrees(self, other: Self, counts: Self) -> bool {
            let mut pairs = self.0.iter().zip(other.0).zip(counts.0);
            pairs.all(|((own, other), counts)| (own ^ other) & counts == 0)
        }

        pub(in crate::sip) fn within(self, low: u8, high: u8) -> Self {
            self.map(|own| (low..=high).contains(&own))
        }

        pub(in crate::sip) fn beyond(self, low: u8, high: u8) -> Self {
            self.map(|own| !(low..=high).contains(&own))
        }

        pub(in crate::sip) fn plus(self, addend: u8) -> Self {
            Self(self.0.map(|byte| byte.wrapping_add(addend)))
        }

        pub(in crate::sip) fn and(self, other: Self) -> Self {
            let mut both = self.0;
            both.iter_mut().zip(other.0).for_each(|(own, other)| *own &= other);
            Self(both)
        }

        pub(in crate::sip) fn with(self, bits: u8) -> Self {
            Self(self.0.map(|byte| byte | bits))
        }

        pub(in crate::sip) fn lower(self) -> Self {
            self.with(0x20)
        }

        pub(in crate::sip) fn or(self, other: Self) -> Self {
            let mut both = self.0;
            both.iter_mut().zip(other.0).for_each(|(own, other)| *own |= other);
            Self(both)
        }

        pub(in crate::sip) fn choose(self, one: Self, other: Self) -> Self {
            let mut chosen = other.0;
            let yes = chosen.iter_mut().zip(self.0.iter().zip(one.0)).filter(|(_, (yes, _))| **yes != 0);
            yes.for_each(|(byte, (_, one))| *byte = one);
            Self(chosen)
        }

        pub(in crate::sip) fn joined(self, other: Self) -> [u8; 16] {
            let mut bytes = [0; 16];
            let pairs = self.0.as_chunks::<2>().0.iter().chain(other.0.as_chunks().0);
            bytes.iter_mut().zip(pairs).for_each(|(byte, [high, low])| *byte = high << 4 | low);
            bytes
        }

        pub(in crate::sip) fn not(self) -> Self {
            self.eq(0)
        }

        pub(in crate::sip) fn bits(self) -> u32 {
            self.0.iter().rev().fold(0, |bits, byte| bits << 1 | u32::from(byte >> 7))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_of_lane_say_the_same_of_every_byte() {
        for first in 0..=255u8 {
            let bytes: [u8; 16] = std::array::from_fn(|index| first.wrapping_add(index as u8 * 7));
            let (sse2, portable) = (super::Lane::new(&bytes), portable::Lane::new(&bytes));
            for byte in 0..=255u8 {
                assert_eq!(sse2.eq(byte).bits(), portable.eq(byte).bits());
                assert_eq!(sse2.up_to(byte).bits(), portable.up_to(byte).bits());
                for high in [byte, byte.saturating_add(3), 0x7e] {
                    assert_eq!(sse2.beyond(byte.min(high), high).bits(), portable.beyond(byte.min(high), high).bits());
                }
                let counts = bytes.map(|own| own & 0x20);
                let other = [byte; 16];
                assert_eq!(
                    sse2.agrees(super::Lane::new(&other), super::Lane::new(&counts)),
                    portable.agrees(portable::Lane::new(&other), portable::Lane::new(&counts))
                );
                assert_eq!(sse2.plus(byte).eq(0).bits(), portable.plus(byte).eq(0).bits());
                assert_eq!(sse2.within(byte, 255).bits(), portable.within(byte, 255).bits());
                assert_eq!(sse2.within(byte / 2, byte).bits(), portable.within(byte / 2, byte).bits());
            }
            let (text, _) = b"some bytes to com".split_first_chunk().unwrap();
            let pair = (super::Lane::new(text), portable::Lane::new(text));
            assert_eq!(sse2.equal(pair.0).bits(), portable.equal(pair.1).bits());
            let both = (sse2.eq(first).and(sse2.beyond(7, 9)), portable.eq(first).and(portable.beyond(7, 9)));
            assert_eq!(both.0.bits(), both.1.bits());
            let low = (
                sse2.lower().eq(b'a').choose(sse2, sse2.lower()),
                portable.lower().eq(b'a').choose(portable, portable.lower()),
            );
            assert_eq!(low.0.eq(first).bits(), low.1.eq(first).bits());
            let halved = (sse2.halved(), portable.halved());
            assert_eq!((halved.0.0.bytes(), halved.0.1.bytes()), (halved.1.0.bytes(), halved.1.1.bytes()));
            assert_eq!(sse2.added(pair.0).bytes(), portable.added(pair.1).bytes());
            assert_eq!(super::Lane::splat(first).bytes(), portable::Lane::splat(first).bytes());
            let word = u64::from(first) << 13 | 0x0123_4567;
            let words = (super::Lane::of_words(word, !word), portable::Lane::of_words(word, !word));
            assert_eq!(words.0.bytes(), words.1.bytes());
            let nibbles = bytes.map(|byte| byte & 15);
            let few = (super::Lane::new(&nibbles).above(9), portable::Lane::new(&nibbles).above(9));
            assert_eq!(few.0.bits(), few.1.bits());
            let others = nibbles.map(|nibble| 15 - nibble);
            assert_eq!(
                super::Lane::new(&nibbles).joined(super::Lane::new(&others)),
                portable::Lane::new(&nibbles).joined(portable::Lane::new(&others))
            );
            assert_eq!(sse2.not().bits(), portable.not().bits());
            assert_eq!(sse2.lower().eq(b'a').bits(), portable.lower().eq(b'a').bits());
            assert_eq!(
                sse2.eq(first).or(sse2.eq(first ^ 7)).bits(),
                portable.eq(first).or(portable.eq(first ^ 7)).bits()
            );
        }
    }
}
