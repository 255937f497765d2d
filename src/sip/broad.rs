//! Thirty-two bytes looked at together: in one register where the build may use AVX2, else in two.
//!
//! Driven by `lane` and `sight`, with the few operations that they need. Knows nothing of what the bytes
//! mean.

use super::sixteen::Lane;

/// What is asked of a [`Lane`] and of a [`Broad`] alike.
pub(super) trait Look: Copy {
    /// See [`Lane::eq`].
    fn eq(self, byte: u8) -> Self;
    /// See [`Lane::beyond`].
    fn beyond(self, low: u8, high: u8) -> Self;
    /// See [`Lane::plus`].
    fn plus(self, addend: u8) -> Self;
    /// See [`Lane::with`].
    fn with(self, bits: u8) -> Self;
    /// See [`Lane::or`].
    fn or(self, other: Self) -> Self;
}

impl Look for Lane {
    #[inline(always)]
    fn eq(self, byte: u8) -> Self {
        Self::eq(self, byte)
    }

    #[inline(always)]
    fn beyond(self, low: u8, high: u8) -> Self {
        Self::beyond(self, low, high)
    }

    #[inline(always)]
    fn plus(self, addend: u8) -> Self {
        Self::plus(self, addend)
    }

    #[inline(always)]
    fn with(self, bits: u8) -> Self {
        Self::with(self, bits)
    }

    #[inline(always)]
    fn or(self, other: Self) -> Self {
        Self::or(self, other)
    }
}

#[cfg(all(target_arch = "x86_64", target_feature = "avx2"))]
pub(super) use one::Broad;

#[cfg(not(all(target_arch = "x86_64", target_feature = "avx2")))]
pub(super) use two::Broad;

#[cfg(all(target_arch = "x86_64", target_feature = "avx2"))]
mod one {
    use safe_arch::{
        add_i8_m256i, bitor_m256i, cmp_eq_mask_i8_m256i, cmp_gt_mask_i8_m256i, m256i, move_mask_i8_m256i,
        set_splat_i8_m256i,
    };

    use super::Look;

    /// Thirty-two bytes, or for each of them a yes or no as in a lane.
    #[derive(Clone, Copy)]
    pub(in crate::sip) struct Broad(m256i);

    impl Broad {
        #[inline(always)]
        pub(in crate::sip) fn new(bytes: &[u8; 32]) -> Self {
            Self(m256i::from(*bytes))
        }

        /// One bit for each yes, the lowest for the first byte.
        #[inline(always)]
        pub(in crate::sip) fn bits(self) -> u32 {
            move_mask_i8_m256i(self.0) as u32
        }
    }

    impl Look for Broad {
        #[inline(always)]
        fn eq(self, byte: u8) -> Self {
            Self(cmp_eq_mask_i8_m256i(self.0, set_splat_i8_m256i(byte as i8)))
        }

        #[inline(always)]
        fn beyond(self, low: u8, high: u8) -> Self {
            let place = add_i8_m256i(self.0, set_splat_i8_m256i(0x80_u8.wrapping_sub(low) as i8));
            Self(cmp_gt_mask_i8_m256i(place, set_splat_i8_m256i(((high - low) ^ 0x80) as i8)))
        }

        #[inline(always)]
        fn plus(self, addend: u8) -> Self {
            Self(add_i8_m256i(self.0, set_splat_i8_m256i(addend as i8)))
        }

        #[inline(always)]
        fn with(self, bits: u8) -> Self {
            Self(bitor_m256i(self.0, set_splat_i8_m256i(bits as i8)))
        }

        #[inline(always)]
        fn or(self, other: Self) -> Self {
            Self(bitor_m256i(self.0, other.0))
        }
    }
}

#[cfg(any(test, not(all(target_arch = "x86_64", target_feature = "avx2"))))]
mod two {
    use super::{Lane, Look};

    /// Thirty-two bytes, or for each of them a yes or no as in a lane.
    #[derive(Clone, Copy)]
    pub(in crate::sip) struct Broad(Lane, Lane);

    impl Broad {
        #[inline(always)]
        pub(in crate::sip) fn new(bytes: &[u8; 32]) -> Self {
            let (lanes, _) = bytes.as_chunks();
            match lanes {
                [first, second] => Self(Lane::new(first), Lane::new(second)),
                _ => Self(Lane::splat(0), Lane::splat(0)),
            }
        }

        /// One bit for each yes, the lowest for the first byte.
        #[inline(always)]
        pub(in crate::sip) fn bits(self) -> u32 {
            self.0.bits() | self.1.bits() << 16
        }
    }

    impl Look for Broad {
        #[inline(always)]
        fn eq(self, byte: u8) -> Self {
            Self(self.0.eq(byte), self.1.eq(byte))
        }

        #[inline(always)]
        fn beyond(self, low: u8, high: u8) -> Self {
            Self(self.0.beyond(low, high), self.1.beyond(low, high))
        }

        #[inline(always)]
        fn plus(self, addend: u8) -> Self {
            Self(self.0.plus(addend), self.1.plus(addend))
        }

        #[inline(always)]
        fn with(self, bits: u8) -> Self {
            Self(self.0.with(bits), self.1.with(bits))
        }

        #[inline(always)]
        fn or(self, other: Self) -> Self {
            Self(self.0.or(other.0), self.1.or(other.1))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_register_says_what_two_say() {
        for first in 0..=255u8 {
            let bytes: [u8; 32] = std::array::from_fn(|i| first.wrapping_add(i as u8 * 7));
            let (used, two) = (Broad::new(&bytes), two::Broad::new(&bytes));
            for byte in 0..=255u8 {
                assert_eq!(used.eq(byte).bits(), two.eq(byte).bits());
                assert_eq!(used.plus(byte).eq(0).or(used.eq(9)).bits(), two.plus(byte).eq(0).or(two.eq(9)).bits());
                assert_eq!(used.with(byte).eq(byte).bits(), two.with(byte).eq(byte).bits());
                for high in (byte..=byte.saturating_add(0x7f)).step_by(13) {
                    assert_eq!(used.beyond(byte, high).bits(), two.beyond(byte, high).bits());
                }
            }
        }
    }
}
