//! The runs and stops that scanning is made of, numbers and words.
//!
//! Driven by the parsers of this module. Lines are too short for a call to memchr each to pay. Never
//! reads outside the slice given.

use super::broad::{Broad, Look as _};
pub(super) use super::sixteen::Lane;
use super::view::View;

/// Bytes in a lane.
const WIDTH: usize = 16;

/// The `N` bytes from `at` on, if there are as many. No datagram is so long that `at` would be cut,
/// and thus one comparison is enough.
#[inline(always)]
pub(super) fn chunk<const N: usize>(bytes: &[u8], at: usize) -> Option<&[u8; N]> {
    let at = at as u32 as usize;
    bytes.get(at..at + N)?.first_chunk()
}

/// Offset of the first byte from `at` on for which `stop` says yes; `end` if there is none before.
#[inline(always)]
pub(super) fn find(bytes: &[u8], at: usize, end: usize, stop: impl Fn(Lane) -> Lane) -> usize {
    // Most runs end in the first lane: it is worth code of its own, without the loop's preparations.
    if at >= end {
        return end;
    }
    let Some(chunk) = chunk(bytes, at) else { return find_last(bytes, at, end, stop) };
    let bits = stop(Lane::new(chunk)).bits();
    if bits != 0 {
        return end.min(at + bits.trailing_zeros() as usize);
    }
    find_on(bytes, at + WIDTH, end, stop)
}

/// Offset of the first byte from `at` on for which `stop` says yes; none if the last lane of a slice is
/// reached before. In a window there must be one.
#[inline(always)]
pub(super) fn stop(view: impl View, at: usize, stop: impl Fn(Lane) -> Lane) -> Option<usize> {
    let bits = stop(Lane::new(view.chunk(at)?)).bits();
    // What follows has code of its own: inlined it saves a few instructions and costs more time.
    if bits != 0 { Some(at + bits.trailing_zeros() as usize) } else { stop_on(view, at + WIDTH, stop) }
}

#[inline(never)]
fn stop_on(view: impl View, mut at: usize, stop: impl Fn(Lane) -> Lane) -> Option<usize> {
    loop {
        let bits = stop(Lane::new(view.chunk(at)?)).bits();
        if bits != 0 {
            return Some(at + bits.trailing_zeros() as usize);
        }
        at += WIDTH;
    }
}

/// As `stop`, twice as many bytes at a time: of what is mostly longer than a lane.
#[inline(always)]
pub(super) fn far_stop(view: impl View, at: usize, stop: impl Fn(Broad) -> Broad) -> Option<usize> {
    let bits = stop(Broad::new(view.chunk(at)?)).bits();
    if bits != 0 { Some(at + bits.trailing_zeros() as usize) } else { far_stop_on(view, at + 2 * WIDTH, stop) }
}

#[inline(never)]
fn far_stop_on(view: impl View, mut at: usize, stop: impl Fn(Broad) -> Broad) -> Option<usize> {
    loop {
        let bits = stop(Broad::new(view.chunk(at)?)).bits();
        if bits != 0 {
            return Some(at + bits.trailing_zeros() as usize);
        }
        at += 2 * WIDTH;
    }
}

/// Where `byte` stands in `text`, one bit each, the lowest for the first.
#[inline]
#[must_use]
pub fn places(text: &[u8; WIDTH], byte: u8) -> u32 {
    Lane::new(text).eq(byte).bits()
}

/// Where the first of some bytes stands in `text`.
#[inline]
#[must_use]
pub fn first_of<const N: usize>(text: &[u8; WIDTH], some: &[u8; N]) -> Option<usize> {
    let lane = Lane::new(text);
    let bits = some.iter().fold(Lane::splat(0), |all, byte| all.or(lane.eq(*byte))).bits();
    (bits != 0).then_some(bits.trailing_zeros() as usize)
}

/// Whether `text` holds one of two bytes.
#[inline]
#[must_use]
pub fn holds(text: &[u8], one: u8, other: u8) -> bool {
    let Some(last) = text.last_chunk::<WIDTH>() else { return text.iter().any(|byte| *byte == one || *byte == other) };
    let seen = |chunk| {
        let lane = Lane::new(chunk);
        lane.eq(one).or(lane.eq(other))
    };
    let (chunks, _) = text.as_chunks::<WIDTH>();
    chunks.iter().fold(seen(last), |all, chunk| all.or(seen(chunk))).bits() != 0
}

/// Where `wanted` stands for the last time but one; none if it stands once or not at all.
#[inline]
#[must_use]
pub fn last_but_one(text: &[u8; 48], wanted: u8) -> Option<usize> {
    let (lanes, _) = text.as_chunks::<WIDTH>();
    let all = lanes.iter().rev().fold(0, |bits, lane| bits << WIDTH | u64::from(Lane::new(lane).eq(wanted).bits()));
    let last = 1u64.checked_shl(63 - all.leading_zeros().min(63))?;
    let others = all & (last - 1);
    (others != 0).then(|| 63 - others.leading_zeros() as usize)
}

/// Whether two texts are the same from `at` on.
#[inline]
#[must_use]
pub fn same_from(one: &[u8; 48], other: &[u8; 48], at: usize) -> bool {
    let (ones, _) = one.as_chunks::<WIDTH>();
    let (others, _) = other.as_chunks::<WIDTH>();
    let lanes = ones.iter().zip(others).rev();
    let same =
        lanes.fold(0, |bits, (one, other)| bits << WIDTH | u64::from(Lane::new(one).equal(Lane::new(other)).bits()));
    (same ^ ((1 << 48) - 1)) >> (at & 63) == 0
}

/// The port at `at` and how many digits it has; none if it is not one that can be sent to.
#[inline(always)]
pub(super) fn port(view: impl View, at: usize) -> Option<(u16, usize)> {
    // Of all ports one is by far the most frequent.
    if let Some([b'5', b'0', b'6', b'0', behind]) = view.chunk(at)
        && !behind.is_ascii_digit()
    {
        return Some((5060, 4));
    }
    let (mut number, mut count) = few_digits(*view.chunk(at)?);
    if count == 4 {
        // A fifth digit, perhaps more.
        let [digit, behind] = view.chunk(at + 4)?.map(|byte: u8| byte.wrapping_sub(b'0'));
        if digit <= 9 {
            number = number * 10 + u32::from(digit);
            count = 5;
        }
        if count == 5 && behind <= 9 {
            return None;
        }
    }
    (number != 0 && number <= 0xffff).then_some((number as u16, count))
}

#[inline(always)]
fn find_on(bytes: &[u8], mut at: usize, end: usize, stop: impl Fn(Lane) -> Lane) -> usize {
    while at < end {
        let Some(chunk) = chunk(bytes, at) else {
            return find_last(bytes, at, end, stop);
        };
        let bits = stop(Lane::new(chunk)).bits();
        if bits != 0 {
            return end.min(at + bits.trailing_zeros() as usize);
        }
        at += WIDTH;
    }
    end
}

/// As `find`, with less than a lane left.
#[inline(never)]
fn find_last(bytes: &[u8], at: usize, end: usize, stop: impl Fn(Lane) -> Lane) -> usize {
    let bits = match bytes.last_chunk() {
        Some(chunk) => stop(Lane::new(chunk)).bits() >> ((at + WIDTH).saturating_sub(bytes.len()) & (WIDTH - 1)),
        None => stop(Lane::new(&padded(bytes, at))).bits(),
    };
    end.min(at + (bits | 1 << WIDTH).trailing_zeros() as usize)
}

/// What stands from `at` on, less than a lane, with zeros behind.
#[cold]
fn padded(bytes: &[u8], at: usize) -> [u8; WIDTH] {
    let mut padded = [0; WIDTH];
    padded.iter_mut().zip(bytes.iter().skip(at)).for_each(|(to, from)| *to = *from);
    padded
}

/// See [`View::breaks`].
#[inline(always)]
pub(super) fn breaks(chunk: &[u8; 65]) -> u64 {
    let (Some(low), Some(high)) = (chunk.first_chunk::<33>(), chunk.last_chunk::<33>()) else { return 0 };
    u64::from(half_breaks(low)) | u64::from(half_breaks(high)) << 32
}

#[inline(always)]
fn half_breaks(chunk: &[u8; 33]) -> u32 {
    let (Some(here), Some(behind)) = (chunk.first_chunk(), chunk.last_chunk()) else { return 0 };
    Broad::new(here).eq(b'\r').or(Broad::new(behind).eq(b'\n')).bits()
}

/// CRs and LFs among the 64 bytes at `at`, one bit each, the lowest for the first.
#[inline(always)]
pub(super) fn line_ends(bytes: &[u8], at: usize) -> u64 {
    match chunk(bytes, at) {
        Some(chunk) => line_ends_of(chunk),
        None => line_ends_last(bytes, at),
    }
}

#[inline(always)]
fn line_ends_of(chunk: &[u8; 64]) -> u64 {
    let (lanes, _) = chunk.as_chunks::<WIDTH>();
    lanes.iter().rev().fold(0, |bits, lane| {
        let lane = Lane::new(lane);
        bits << WIDTH | u64::from(lane.eq(b'\r').or(lane.eq(b'\n')).bits())
    })
}

/// As `line_ends`, with less than 64 bytes left.
#[inline(never)]
fn line_ends_last(bytes: &[u8], at: usize) -> u64 {
    if let Some(chunk) = bytes.last_chunk() {
        let before = (at + 64).saturating_sub(bytes.len());
        return line_ends_of(chunk).checked_shr(before as u32).unwrap_or(0);
    }
    let rest = bytes.iter().skip(at).take(64).rev();
    rest.fold(0, |bits, byte| bits << 1 | u64::from(matches!(byte, b'\r' | b'\n')))
}

/// Whatever is none of letters, digits, `.` and `-`: as [`plain`] is not, to stop at.
#[inline(always)]
pub(super) fn plain_stop(lane: Lane) -> Lane {
    let other = lane.lower().beyond(b'a', b'z').and(lane.beyond(b'-', b'9'));
    other.or(lane.eq(b'/'))
}

/// Letters, digits, `.` and `-`: all of most names, hosts and tokens.
#[inline(always)]
pub(super) fn plain(lane: Lane) -> Lane {
    lane.lower().within(b'a', b'z').or(lane.within(b'0', b'9')).or(lane.within(b'-', b'.'))
}

/// End of the run of what is `plain` that starts at `at`.
#[inline(always)]
pub(super) fn plain_end(bytes: &[u8], at: usize, end: usize) -> usize {
    find(bytes, at, end, |lane| plain(lane).not())
}

/// Eight bytes from `at` on, the first lowest; zeros behind the end.
#[inline(always)]
pub(super) fn word(bytes: &[u8], at: usize) -> u64 {
    match chunk(bytes, at) {
        Some(chunk) => u64::from_le_bytes(*chunk),
        None => word_last(bytes, at),
    }
}

#[inline(never)]
fn word_last(bytes: &[u8], at: usize) -> u64 {
    if let Some(chunk) = bytes.last_chunk() {
        let missing = (at + 8).saturating_sub(bytes.len());
        return u64::from_le_bytes(*chunk).checked_shr(missing as u32 * 8).unwrap_or(0);
    }
    bytes.iter().skip(at).take(8).rev().fold(0, |word, byte| word << 8 | u64::from(*byte))
}

/// The decimal digits that `word` begins with: their number, and how many. Eight may be a part only.
#[inline(always)]
pub(super) fn digits(word: u64) -> (u32, usize) {
    const EACH: u64 = 0x0101_0101_0101_0101;
    const PAIR: u64 = 0x0000_00ff_0000_00ff;
    let digits = word ^ (EACH * 0x30);
    // Bit 7 tells what is no digit; a carry spoils only what stands behind the first of these.
    let others = (digits.wrapping_add(EACH * 0x76) | digits) & (EACH * 0x80);
    let bits = others.trailing_zeros() & 0x78;
    let digits = digits.checked_shl(64 - bits).unwrap_or(0);
    // Pairs, then fours, then all eight.
    let pairs = digits.wrapping_mul(10).wrapping_add(digits >> 8);
    let first = (pairs & PAIR).wrapping_mul(100 + (1_000_000 << 32));
    let second = (pairs >> 16 & PAIR).wrapping_mul(1 + (10_000 << 32));
    ((first.wrapping_add(second) >> 32) as u32, bits as usize / 8)
}

/// As `digits`, of four bytes.
#[inline(always)]
pub(super) const fn few_digits(bytes: [u8; 4]) -> (u32, usize) {
    let digits = u32::from_le_bytes(bytes) ^ 0x3030_3030;
    let others = (digits.wrapping_add(0x7676_7676) | digits) & 0x8080_8080;
    let bits = others.trailing_zeros() & 0x38;
    let digits = ((digits as u64) << (32 - bits)) as u32;
    (four(digits), bits as usize / 8)
}

/// The number that the first `count` of these bytes are the digits of, if they are digits.
#[inline(always)]
pub(super) const fn all_digits(bytes: [u8; 4], count: usize) -> Option<u32> {
    if !matches!(count, 1..=4) {
        return None;
    }
    let digits = (u32::from_le_bytes(bytes) ^ 0x3030_3030) << (32 - 8 * count);
    let others = (digits.wrapping_add(0x7676_7676) | digits) & 0x8080_8080;
    if others == 0 { Some(four(digits)) } else { None }
}

/// The number of four digits, the first lowest; 0 stands for itself and for none in front.
#[inline(always)]
const fn four(digits: u32) -> u32 {
    // Each with ten times the one before, of which two make pairs; then those.
    let pairs = digits.wrapping_mul(10 << 8 | 1) >> 8 & 0x00ff_00ff;
    pairs.wrapping_mul(100 << 16 | 1) >> 16
}

/// Up to eight bytes to compare a [`word`] with, letters in any case.
#[derive(Clone, Copy)]
pub(super) struct AnyCase {
    letters: u64,
    kept: u64,
    value: u64,
}

impl AnyCase {
    /// `text` is in lower case.
    pub(super) const fn new(text: &[u8]) -> Self {
        let (mut letters, mut kept, mut value) = (0, 0, 0);
        let mut rest = text;
        let mut shift = 0;
        while let [first, tail @ ..] = rest {
            // Only letters: other bytes would be told from control characters no more.
            letters |= if first.is_ascii_lowercase() { 0x20 << shift } else { 0 };
            kept |= 0xff << shift;
            value |= (*first as u64) << shift;
            shift += 8;
            rest = tail;
        }
        Self { letters, kept, value }
    }

    #[inline(always)]
    pub(super) const fn is(self, word: u64) -> bool {
        (word | self.letters) & self.kept == self.value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_is_found_wherever_it_stands_and_never_behind_the_end() {
        for length in 0..100 {
            for stop in 0..length {
                for at in 0..=length {
                    let mut bytes = vec![b'a'; length];
                    bytes[stop] = b'\r';
                    let wanted = if stop >= at { stop } else { length };
                    assert_eq!(find(&bytes, at, length, |lane| lane.eq(b'\r')), wanted);
                    assert_eq!(plain_end(&bytes, at, length), wanted);
                    assert_eq!(find(&bytes, at, stop.max(at), |lane| lane.eq(b'\r')), stop.max(at));
                    let bits = line_ends(&bytes, at);
                    let seen = (stop >= at && stop - at < 64).then(|| 1u64 << (stop - at));
                    assert_eq!(bits, seen.unwrap_or(0), "{length} {stop} {at}");
                }
            }
        }
    }

    #[test]
    fn few_digits_are_read_as_many_are() {
        for number in 0..10_000u32 {
            let text = format!("{number}\r\n\r\n...");
            let bytes: [u8; 4] = text.as_bytes()[..4].try_into().unwrap();
            assert_eq!(few_digits(bytes), digits(word(text.as_bytes(), 0)), "{number}");
        }
        for other in (0..=255u8).filter(|byte| !byte.is_ascii_digit()) {
            assert_eq!(few_digits([b'1', other, b'9', other]), (1, 1));
            assert_eq!(few_digits([other, b'9', b'9', b'9']), (0, 0));
            assert_eq!(few_digits([b'7', b'0', other, 0xff]), (70, 2));
        }
    }

    #[test]
    fn a_word_is_compared_in_any_case_but_letters_only() {
        let via = AnyCase::new(b"via:");
        assert!(via.is(word(b"ViA: SIP/2.0", 0)));
        assert!(via.is(word(b"vIA:", 0)));
        assert!(!via.is(word(b"via\x1a SIP", 0)));
        assert!(!via.is(word(b"via", 0)));
        assert!(!AnyCase::new(b"call-id:").is(word(b"call\rid:", 0)));
        assert_eq!(word(b"abc", 9), 0);
    }

    #[test]
    fn ends_of_texts_are_looked_at_from_any_byte_on() {
        for one in 0..48 {
            let mut text = [b'x'; 48];
            text[one] = b';';
            assert_eq!(last_but_one(&text, b';'), None);
            for other in 0..48 {
                let mut text = text;
                text[other] = b';';
                assert_eq!(last_but_one(&text, b';'), (one != other).then_some(one.min(other)));
                let mut changed = text;
                changed[one] = b'y';
                assert_eq!(same_from(&text, &changed, other), other > one);
            }
        }
        assert_eq!(last_but_one(&[b';'; 48], b';'), Some(46));
    }

    #[test]
    fn either_byte_is_seen_at_every_place() {
        for length in 0..70 {
            let mut text = vec![b'x'; length];
            assert!(!holds(&text, b',', b'"'));
            for place in 0..length {
                text[place] = if place % 2 == 0 { b',' } else { b'"' };
                assert!(holds(&text, b',', b'"'));
                text[place] = b'x';
            }
        }
    }
}
