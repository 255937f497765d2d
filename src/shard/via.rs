//! Our Via: one identity for a client transaction, whichever worker writes it (17.2.3).
//!
//! The branch depends on the message and the cluster secret only, so an INVITE, its retransmission,
//! its CANCEL and the ACK to its non-2xx response get the same bytes. Text of a branch:
//! `z9hG4bK0r`, then in lower-case hexadecimal the owner's slot (4), the port that the request came
//! in at (4), L for loop detection (8), H of the client transaction (16), and a keyed tag (8).

use memchr::memmem;

use crate::balance::{Key, PortTag, Secrets, WIDE_MAX};
use crate::sip::{self, Header, Message, Watch, hex as digits};

/// The magic cookie of RFC 3261 8.1.1.7 and our own mark behind it.
pub(super) const PREFIX: &[u8] = b"z9hG4bK0r";
/// Length of a branch of ours.
pub(super) const BRANCH_LEN: usize = PREFIX.len() + 40;
const MAGIC: &[u8] = b"z9hG4bK";

/// What a branch of ours says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Branch {
    /// Place of the owner's worker port in the range.
    pub(super) slot: u16,
    /// The port that the request came in at: its response leaves from there.
    pub(super) arrived: PortTag,
    /// What a looping request would have equal.
    pub(super) l: u32,
    /// Identity of the client transaction.
    pub(super) h: u64,
}

/// What a branch turns out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// Somebody else's.
    Foreign,
    /// Of our shape, with a wrong tag.
    Forged,
    /// One that this cluster wrote.
    Own(Branch),
}

impl Branch {
    /// What follows [`PREFIX`] in the branch parameter's value.
    #[inline]
    pub(super) fn text(&self, key: &Key) -> [u8; BRANCH_LEN - PREFIX.len()] {
        let head = u64::from(self.slot) << 48 | u64::from(self.arrived.0) << 32 | u64::from(self.l);
        let digits = digits::digits(head, self.h);
        let mut text = [0; BRANCH_LEN - PREFIX.len()];
        if let Some((body, end)) = text.split_first_chunk_mut() {
            *body = digits;
            end.copy_from_slice(&tag(head, self.h, key));
        }
        text
    }

    /// Reads the value of a branch parameter; what is not asked for afterwards is not computed.
    #[inline(always)]
    pub(super) fn read(text: &[u8], key: &Key) -> Reading {
        let Some(rest) = text.strip_prefix(PREFIX) else { return Reading::Foreign };
        let Some((body, claimed)) = rest.split_first_chunk::<32>() else { return Reading::Foreign };
        let Some(bytes) = digits::bytes(body) else { return Reading::Forged };
        let both = u128::from_be_bytes(bytes);
        let (head, h) = ((both >> 64) as u64, both as u64);
        if *claimed != tag(head, h, key) {
            return Reading::Forged;
        }
        let (slot, arrived) = ((head >> 48) as u16, PortTag((head >> 32) as u16));
        Reading::Own(Self { slot, arrived, l: head as u32, h })
    }
}

/// The digits of a branch's tag, which is over all that the others say. A genuine branch of another
/// transaction would lead a response no less far than a forged one, so nothing rests on the tag but that
/// strays are told.
#[inline]
fn tag(head: u64, h: u64, key: &Key) -> [u8; 8] {
    hex((key.folded_pair(head, h) >> 32) as u32)
}

/// H: what the client transaction is told by (17.2.3), the method left out, since CANCEL and ACK
/// must get the same. The Call-ID is in there as its keyed hash.
#[inline(always)]
pub(super) fn identity(bytes: &[u8], message: &Message, call: u64, secrets: &Secrets) -> u64 {
    let (branch, sent_by) = (message.via.branch.of(bytes), message.via.sent_by.of(bytes));
    if branch.starts_with(MAGIC) && branch.len().max(sent_by.len()) <= WIDE_MAX {
        let lengths = (branch.len() as u64) << 32 | (sent_by.len() as u64) << 48;
        return secrets.identity.hash(branch, sent_by, [call, u64::from(message.cseq.number) | lengths]);
    }
    odd_identity(bytes, message, call, &secrets.branch)
}

/// A branch that is too long for that, or RFC 2543: none, or one that is not unique. The To tag stays
/// out, as the ACK has one.
#[cold]
#[inline(never)]
fn odd_identity(bytes: &[u8], message: &Message, call: u64, key: &Key) -> u64 {
    let (branch, sent_by) = (message.via.branch.of(bytes), message.via.sent_by.of(bytes));
    let (call, number) = (call.to_le_bytes(), message.cseq.number.to_le_bytes());
    if branch.starts_with(MAGIC) {
        return key.hash13_parts(&[branch, sent_by, &call, &number]);
    }
    let (value, tag) = (message.via.value.of(bytes), message.from.tag.of(bytes));
    key.hash13_parts(&[value, tag, &call, &number, message.uri().of(bytes)])
}

/// L: equal for a request that comes back unchanged, different for a spiral (16.3). Route counts in
/// but for the `skip` values that were ours; `None` if there are no others. The seed is the
/// Call-ID's keyed hash and the side: what a node sends on unchanged has not looped; beside it stands
/// what [`leg`] says. It tells friends apart, not foes, who could only stop calls of their own.
#[inline]
pub(super) fn loop_mark(
    bytes: &[u8],
    message: &Message,
    uri: &[u8],
    skip: Option<usize>,
    (seed, leg): (u64, u64),
    watch: &Watch,
) -> u32 {
    let number = u64::from(message.cseq.number).wrapping_mul(LOOPS.1);
    let mut hash = LOOPS.folded_pair(LOOPS.folded(seed ^ number, uri), leg);
    if let Some(skip) = skip {
        for value in sip::values(bytes, message.route(), Header::Route, watch).skip(skip) {
            hash = LOOPS.folded(hash, value.span.of(bytes));
        }
    }
    (hash >> 32) as u32
}

/// The From tag as a number, the same everywhere and no secret.
#[inline]
pub(super) fn leg(bytes: &[u8], message: &Message) -> u64 {
    LOOPS.folded(0, message.from.tag.of(bytes))
}

/// Whether a Via of ours below says that this very request has been here (16.3, item 4).
#[inline]
pub(super) fn looped(bytes: &[u8], message: &Message, l: u32, key: &Key) -> bool {
    let foreign = || !message.via.branch.of(bytes).starts_with(PREFIX);
    !(message.vias.count == 1 && !message.via.shares_line && foreign()) && recurs(bytes, message, l, key)
}

#[inline(never)]
fn recurs(bytes: &[u8], message: &Message, l: u32, key: &Key) -> bool {
    let lines = bytes.get(usize::from(message.vias.first.start)..usize::from(message.vias.end)).unwrap_or_default();
    memmem::find_iter(lines, PREFIX).any(|at| {
        let text = lines.get(at..at + BRANCH_LEN).unwrap_or_default();
        matches!(Branch::read(text, key), Reading::Own(own) if own.l == l)
    })
}

/// No secret, and the same everywhere: what is keyed about L is its seed.
const LOOPS: Key = Key(0x9e37_79b9_7f4a_7c15, 0xd1b5_4a32_d192_ed03);

/// Eight lower-case hexadecimal digits.
#[inline]
pub(super) fn hex(word: u32) -> [u8; 8] {
    digits::digits(u64::from(word) << 32, 0).first_chunk().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: Key = Key(3, 5);

    #[test]
    fn digits_are_those_of_the_standard_library() {
        for word in [0, 1, 0x0123_4567, 0x89ab_cdef, u32::MAX, 0x9a9a_0f0f] {
            assert_eq!(hex(word), format!("{word:08x}").as_bytes());
        }
    }

    #[test]
    fn a_branch_reads_back_and_no_changed_byte_passes() {
        let branch = Branch { slot: 7, arrived: PortTag(0x8003), l: 0xdead_beef, h: 0x0123_4567_89ab_cdef };
        let text = [PREFIX, &branch.text(&KEY)].concat();
        assert_eq!(Branch::read(&text, &KEY), Reading::Own(branch));
        // As other instances read and write it.
        assert_eq!(text, b"z9hG4bK0r00078003deadbeef0123456789abcdef2f40e283");
        assert_eq!(Branch::read(&text, &Key(3, 6)), Reading::Forged);
        assert_eq!(Branch::read(&text[..BRANCH_LEN - 1], &KEY), Reading::Forged);
        for place in PREFIX.len()..BRANCH_LEN {
            let mut changed = text.clone();
            changed[place] ^= 1;
            assert_eq!(Branch::read(&changed, &KEY), Reading::Forged, "byte {place}");
        }
        assert_eq!(Branch::read(b"z9hG4bK776asdhds", &KEY), Reading::Foreign);
    }
}
