//! The number of a leg, and the digits by which messages carry it.
//!
//! Every tag, branch and Call-ID of ours holds the number in sixteen digits at a fixed place, so that
//! whatever comes back leads to its leg without a search. Pure; whoever reads a number compares the
//! digits with those of the leg that it finds.

use sipring::sip::Text;

/// Digits of a leg's number.
pub(crate) const DIGITS: usize = 16;
/// Digits of a run's number, which every text of ours begins with.
pub(crate) const RUN_DIGITS: usize = 8;
/// Digits of a node's key, with which To tags of answering sides end.
pub(crate) const NODE_DIGITS: usize = 8;

/// Places of legs that a number can name.
pub(crate) const SLOTS_MAX: usize = 1 << 24;

/// Which leg, of which worker, and which use of its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LegId {
    pub(crate) worker: u8,
    pub(crate) slot: u32,
    pub(crate) serial: u32,
}

impl LegId {
    pub(crate) fn bits(self) -> u64 {
        u64::from(self.worker) << 56 | u64::from(self.slot & 0xff_ffff) << 32 | u64::from(self.serial)
    }

    pub(crate) fn of_bits(bits: u64) -> Self {
        Self { worker: (bits >> 56) as u8, slot: (bits >> 32) as u32 & 0xff_ffff, serial: bits as u32 }
    }

    pub(crate) fn digits(self) -> [u8; DIGITS] {
        let mut digits = [0; DIGITS];
        Text::new(&mut digits).hex(self.bits());
        digits
    }
}

/// Who a tag of ours speaks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tag<'a> {
    pub(crate) leg: LegId,
    pub(crate) digits: &'a [u8; DIGITS],
    /// The key of the node that made it; none in a caller's.
    pub(crate) node: Option<&'a [u8; NODE_DIGITS]>,
}

impl<'a> Tag<'a> {
    /// Takes a tag apart; none if it is not of this run.
    #[inline]
    pub(crate) fn parse(tag: &'a [u8], run: &[u8; RUN_DIGITS]) -> Option<Self> {
        let (first, rest) = tag.split_first_chunk::<RUN_DIGITS>()?;
        let (digits, rest) = rest.split_first_chunk::<DIGITS>()?;
        let node = if rest.is_empty() { None } else { Some(<&[u8; NODE_DIGITS]>::try_from(rest).ok()?) };
        (first == run).then(|| Self { leg: LegId::of_bits(number(digits)), digits, node })
    }
}

/// The number that sixteen digits write; of other bytes, whatever comes of them.
#[inline]
pub(crate) fn number(digits: &[u8; DIGITS]) -> u64 {
    let (front, back) = digits.split_at(DIGITS / 2);
    u64::from(half(front)) << 32 | u64::from(half(back))
}

#[inline]
fn half(digits: &[u8]) -> u32 {
    let Some(digits) = digits.first_chunk() else { return 0 };
    let text = u64::from_le_bytes(*digits);
    // A letter's low four bits are 1 to 6, and it has bit 6.
    let nibbles = (text & 0x0f0f_0f0f_0f0f_0f0f) + (text >> 6 & 0x0101_0101_0101_0101) * 9;
    let pairs = (nibbles << 4 | nibbles >> 8) & 0x00ff_00ff_00ff_00ff;
    let fours = (pairs | pairs >> 8) & 0x0000_ffff_0000_ffff;
    ((fours | fours >> 16) as u32).swap_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_reads_as_it_was_written() {
        for (worker, slot, serial) in [(0, 0, 0), (255, 0xff_ffff, u32::MAX), (7, 0x12_3456, 0x9abc_def0)] {
            let leg = LegId { worker, slot, serial };
            assert_eq!(LegId::of_bits(number(&leg.digits())), leg);
        }
        assert_eq!(&LegId { worker: 1, slot: 0x23, serial: 0xabc }.digits(), b"0100002300000abc");
    }

    #[test]
    fn tags_of_other_runs_and_lengths_are_not_ours() {
        let leg = LegId { worker: 3, slot: 9, serial: 1 };
        let digits = leg.digits();
        let caller = [b"00c0ffee".as_slice(), &digits].concat();
        let callee = [caller.as_slice(), b"0000beef"].concat();
        assert_eq!(Tag::parse(&caller, b"00c0ffee").map(|tag| (tag.leg, tag.node)), Some((leg, None)));
        assert_eq!(Tag::parse(&callee, b"00c0ffee").map(|tag| (tag.leg, tag.node)), Some((leg, Some(b"0000beef"))));
        assert_eq!(Tag::parse(&caller, b"00c0ffed"), None);
        assert_eq!(Tag::parse(&callee[..31], b"00c0ffee"), None);
        assert_eq!(Tag::parse(b"", b"00c0ffee"), None);
    }
}
