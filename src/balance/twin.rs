//! Two SipHash-2-4 that began alike, ended at once: both Record-Routes of a request are signed so.
//!
//! In two halves of one register where the build may use AVX2, else one after the other. Used by `key`
//! only, which says what is hashed. Pure.

#[cfg(all(target_arch = "x86_64", target_feature = "avx2"))]
pub(super) use one::ended;
#[cfg(not(all(target_arch = "x86_64", target_feature = "avx2")))]
pub(super) use two::ended;

#[cfg(any(test, not(all(target_arch = "x86_64", target_feature = "avx2"))))]
mod two {
    use crate::balance::key::Sip;

    /// The hashes of what `v` has taken in, each with one of `words` behind it.
    #[inline(always)]
    pub(in crate::balance) fn ended(v: [u64; 4], words: [u64; 2]) -> [u64; 2] {
        words.map(|word| {
            let mut state = Sip::<2, 4> { v };
            state.absorb(word);
            state.ended()
        })
    }
}

#[cfg(all(target_arch = "x86_64", target_feature = "avx2"))]
mod one {
    use safe_arch::{
        add_i64_m128i, bitor_m128i, bitxor_m128i, extract_i64_imm_m128i, get_i64_from_m128i_s, m128i, set_i64_m128i,
        set_splat_i64_m128i, shl_imm_u64_m128i, shr_imm_u64_m128i,
    };

    /// The hashes of what `v` has taken in, each with one of `words` behind it.
    #[inline(always)]
    pub(in crate::balance) fn ended(v: [u64; 4], [first, second]: [u64; 2]) -> [u64; 2] {
        let [mut a, mut b, mut c, mut d] = v.map(|word| set_splat_i64_m128i(word as i64));
        let words = set_i64_m128i(second as i64, first as i64);
        d = bitxor_m128i(d, words);
        for _ in 0..2 {
            [a, b, c, d] = round([a, b, c, d]);
        }
        a = bitxor_m128i(a, words);
        c = bitxor_m128i(c, set_splat_i64_m128i(0xff));
        for _ in 0..4 {
            [a, b, c, d] = round([a, b, c, d]);
        }
        let hashes = bitxor_m128i(bitxor_m128i(a, b), bitxor_m128i(c, d));
        [get_i64_from_m128i_s(hashes) as u64, extract_i64_imm_m128i::<1>(hashes) as u64]
    }

    #[inline(always)]
    fn rotated<const LEFT: i32, const RIGHT: i32>(words: m128i) -> m128i {
        bitor_m128i(shl_imm_u64_m128i::<LEFT>(words), shr_imm_u64_m128i::<RIGHT>(words))
    }

    #[inline(always)]
    fn round([mut a, mut b, mut c, mut d]: [m128i; 4]) -> [m128i; 4] {
        a = add_i64_m128i(a, b);
        c = add_i64_m128i(c, d);
        b = bitxor_m128i(rotated::<13, 51>(b), a);
        d = bitxor_m128i(rotated::<16, 48>(d), c);
        a = add_i64_m128i(rotated::<32, 32>(a), d);
        c = add_i64_m128i(c, b);
        d = bitxor_m128i(rotated::<21, 43>(d), a);
        b = bitxor_m128i(rotated::<17, 47>(b), c);
        [a, b, rotated::<32, 32>(c), d]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn two_at_once_are_those_one_after_the_other(v: [u64; 4], words: [u64; 2]) {
            prop_assert_eq!(ended(v, words), two::ended(v, words));
        }
    }
}
