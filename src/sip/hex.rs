//! Lower-case hexadecimal, sixteen bytes at once.
//!
//! Used by the shard for what stands in our own Via. Reading is strict: for every sixteen bytes one text
//! is read as them, and no other.

use super::sixteen::Lane;

/// The digits of two words, the highest first.
#[inline(always)]
#[must_use]
pub fn digits(high: u64, low: u64) -> [u8; 32] {
    let (first, second) = Lane::of_words(high.swap_bytes(), low.swap_bytes()).halved();
    let mut text = [0; 32];
    if let ([one, other], _) = text.as_chunks_mut() {
        (*one, *other) = (lettered(first).bytes(), lettered(second).bytes());
    }
    text
}

/// The digits of numbers below 16.
#[inline(always)]
fn lettered(numbers: Lane) -> Lane {
    numbers.plus(b'0').added(numbers.above(9).and(Lane::splat(b'a' - 10 - b'0')))
}

/// The sixteen bytes whose digits these are; none if one is no digit.
#[inline]
#[must_use]
pub fn bytes(digits: &[u8; 32]) -> Option<[u8; 16]> {
    let (halves, _) = digits.as_chunks::<16>();
    let [first, second] = halves else { return None };
    let ((first, odd), (second, also_odd)) = (values(Lane::new(first)), values(Lane::new(second)));
    (odd.or(also_odd).bits() == 0).then(|| first.joined(second))
}

/// The value of each digit, and which bytes are none.
#[inline(always)]
fn values(text: Lane) -> (Lane, Lane) {
    let (number, letter) = (text.plus(0u8.wrapping_sub(b'0')), text.plus(0u8.wrapping_sub(b'a' - 10)));
    let letters = text.within(b'a', b'f');
    let odd = text.beyond(b'0', b'9').and(letters.not());
    (letters.choose(letter, number), odd)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_those_of_the_standard_library_and_read_back() {
        for word in [0, 1, 0x0123_4567, 0x89ab_cdef, u32::MAX, 0x9a9a_0f0f] {
            let wide = (u128::from(word) << 77 | u128::from(word)).to_be_bytes();
            let number = u128::from_be_bytes(wide);
            let text = digits((number >> 64) as u64, number as u64);
            assert_eq!(text, *format!("{:032x}", u128::from_be_bytes(wide)).as_bytes());
            assert_eq!(bytes(&text), Some(wide));
        }
    }

    #[test]
    fn nothing_but_digits_is_read() {
        for byte in 0..=255u8 {
            for place in 0..32 {
                let mut text = [b'7'; 32];
                text[place] = byte;
                let digit = matches!(byte, b'0'..=b'9' | b'a'..=b'f');
                assert_eq!(bytes(&text).is_some(), digit, "{byte}");
                let number = bytes(&text).map(u128::from_be_bytes).unwrap_or_default();
                assert!(!digit || digits((number >> 64) as u64, number as u64) == text);
            }
        }
    }
}
