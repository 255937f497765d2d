//! Our Via: one identity for a client transaction, whichever worker writes it (17.2.3).
//!
//! The branch depends on the message and the cluster secret only, so an INVITE, its retransmission,
//! its CANCEL and the ACK to its non-2xx response get the same bytes. Text of a branch:
//! `z9hG4bK0r`, then in lower-case hexadecimal the owner's slot (4), the port that the request came
//! in at (4), L for loop detection (8), H of the client transaction (16), and a keyed tag (8).

use memchr::memmem;

use crate::balance::{Key, PortTag};
use crate::sip::{self, Header, Message, Watch};

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
        let digits = hex_wide(&(u128::from(head) << 64 | u128::from(self.h)).to_be_bytes());
        let mut text = [0; BRANCH_LEN - PREFIX.len()];
        if let ([a, b, c, d, end], [w, x, y, z]) = (text.as_chunks_mut::<8>().0, digits.as_chunks::<8>().0) {
            (*a, *b, *c, *d) = (*w, *x, *y, *z);
            *end = tag(&[*w, *x, *y, *z], key);
        }
        text
    }

    /// Reads the value of a branch parameter; what is not asked for afterwards is not computed.
    #[inline(always)]
    pub(super) fn read(text: &[u8], key: &Key) -> Reading {
        let Some(rest) = text.strip_prefix(PREFIX) else { return Reading::Foreign };
        let Some((body, claimed)) = rest.as_chunks::<8>().0.split_first_chunk::<4>() else { return Reading::Foreign };
        let [claimed] = claimed else { return Reading::Forged };
        if rest.len() + PREFIX.len() != BRANCH_LEN || *claimed != tag(body, key) {
            return Reading::Forged;
        }
        // Digits, since it was us who wrote them.
        let [head, l, high, low] = body;
        let head = unhex(head);
        Reading::Own(Self {
            slot: (head >> 16) as u16,
            arrived: PortTag(head as u16),
            l: unhex(l),
            h: u64::from(unhex(high)) << 32 | u64::from(unhex(low)),
        })
    }
}

/// The tag of a branch's text. Its first word gets bits that no text and no length has, so that no
/// tag is the hash of anything else under this key.
#[inline]
fn tag(body: &[[u8; 8]; 4], key: &Key) -> [u8; 8] {
    let [a, b, c, d] = body.map(u64::from_le_bytes);
    let mut hash = key.keyed13(a ^ 0x8080_8080_8080_8080);
    [b, c, d].into_iter().for_each(|word| hash.word(word));
    hex(hash.finish() as u32)
}

/// H: what the client transaction is told by (17.2.3), the method left out, since CANCEL and ACK
/// must get the same.
#[inline]
pub(super) fn identity(bytes: &[u8], message: &Message, call: u64, key: &Key) -> u64 {
    let branch = message.via.branch.of(bytes);
    // The Call-ID is in there as a keyed hash already; an odd factor keeps the numbers apart.
    let call = call ^ u64::from(message.cseq.number).wrapping_mul(ODD);
    if branch.starts_with(MAGIC) {
        let sent_by = message.via.sent_by.of(bytes);
        let mut hash = key.keyed13(branch.len() as u64 | (sent_by.len() as u64) << 32);
        hash.padded(branch);
        hash.padded(sent_by);
        hash.word(call);
        hash.finish()
    } else {
        old_identity(bytes, message, call, key)
    }
}

/// RFC 2543: no branch, or one that is not unique. The To tag stays out, as the ACK has one.
#[cold]
#[inline(never)]
fn old_identity(bytes: &[u8], message: &Message, call: u64, key: &Key) -> u64 {
    let tag = message.from.tag.of(bytes);
    key.hash13_parts(&[message.via.value.of(bytes), tag, &call.to_le_bytes(), message.uri().of(bytes)])
}

/// L: equal for a request that comes back unchanged, different for a spiral (16.3). Route counts in
/// but for the `skip` values that were ours; `None` if there are no others. The seed is the
/// Call-ID's keyed hash and the side: what a node sends on unchanged has not looped. It tells friends
/// apart, not foes, who could only stop calls of their own.
#[inline]
pub(super) fn loop_mark(
    bytes: &[u8],
    message: &Message,
    uri: &[u8],
    skip: Option<usize>,
    seed: u64,
    watch: &Watch,
) -> u32 {
    let number = u64::from(message.cseq.number).wrapping_mul(ODD);
    let mut hash = mix(mix(seed ^ number, uri), message.from.tag.of(bytes));
    if let Some(skip) = skip {
        for value in sip::values(bytes, &message.route, Header::Route, watch).skip(skip) {
            hash = mix(hash, value.span.of(bytes));
        }
    }
    (hash >> 32) as u32
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

const ODD: u64 = 0x9e37_79b9_7f4a_7c15;

/// A hash of `text` that differs from seed to seed: whole little-endian words, the last filled up
/// with zeros.
#[inline]
pub(super) fn mix(seed: u64, text: &[u8]) -> u64 {
    let mut hash = seed ^ (text.len() as u64).wrapping_mul(ODD);
    let (words, rest) = text.as_chunks::<8>();
    for word in words {
        hash = stir(hash ^ u64::from_le_bytes(*word));
    }
    if rest.is_empty() {
        return stir(hash);
    }
    let last = match text.last_chunk::<8>() {
        Some(last) => u64::from_le_bytes(*last) >> (64 - 8 * rest.len()),
        None => rest.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte)),
    };
    stir(stir(hash ^ last))
}

#[inline]
fn stir(word: u64) -> u64 {
    let word = word.wrapping_mul(ODD);
    word ^ (word >> 29)
}

/// Eight lower-case hexadecimal digits.
#[inline]
pub(super) fn hex(word: u32) -> [u8; 8] {
    let mut x = u64::from(word);
    x = (x | x << 16) & 0x0000_ffff_0000_ffff;
    x = (x | x << 8) & 0x00ff_00ff_00ff_00ff;
    x = (x | x << 4) & 0x0f0f_0f0f_0f0f_0f0f;
    let letters = ((x + 0x0606_0606_0606_0606) >> 4) & 0x0101_0101_0101_0101;
    (x + 0x3030_3030_3030_3030 + letters * 39).to_be_bytes()
}

/// The same of sixteen bytes. Two digits a step, and not inlined: so the compiler takes eight steps at
/// once.
#[inline(never)]
fn hex_wide(bytes: &[u8; 16]) -> [u8; 32] {
    let mut text = [0; 32];
    for (to, byte) in text.as_chunks_mut::<2>().0.iter_mut().zip(bytes) {
        let byte = u16::from(*byte);
        let pair = byte >> 4 | (byte & 15) << 8;
        let letters = ((pair + 0x0606) >> 4) & 0x0101;
        *to = (pair + 0x3030 + (letters << 5) + (letters << 3) - letters).to_le_bytes();
    }
    text
}

/// The word that [`hex`] made these digits of.
#[inline]
fn unhex(digits: &[u8; 8]) -> u32 {
    let x = u64::from_be_bytes(*digits);
    let letters = x >> 6 & 0x0101_0101_0101_0101;
    let x = (x & 0x0f0f_0f0f_0f0f_0f0f) + letters * 9;
    let x = (x | x >> 4) & 0x00ff_00ff_00ff_00ff;
    let x = (x | x >> 8) & 0x0000_ffff_0000_ffff;
    (x | x >> 16) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: Key = Key(3, 5);

    #[test]
    fn digits_are_those_of_the_standard_library_and_read_back() {
        for word in [0, 1, 0x0123_4567, 0x89ab_cdef, u32::MAX, 0x9a9a_0f0f] {
            assert_eq!(hex(word), format!("{word:08x}").as_bytes());
            assert_eq!(unhex(&hex(word)), word);
            let wide = u128::from(word) << 77 | u128::from(word);
            assert_eq!(hex_wide(&wide.to_be_bytes()), *format!("{wide:032x}").as_bytes());
        }
    }

    #[test]
    fn a_branch_reads_back_and_no_changed_byte_passes() {
        let branch = Branch { slot: 7, arrived: PortTag(0x8003), l: 0xdead_beef, h: 0x0123_4567_89ab_cdef };
        let text = [PREFIX, &branch.text(&KEY)].concat();
        assert_eq!(Branch::read(&text, &KEY), Reading::Own(branch));
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
