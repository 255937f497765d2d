//! Keyed hashes, and the keys derived from the cluster's hash secret.
//!
//! Owns key derivation and the SipHash forms that the hot path uses. Everything here is the same on
//! every instance and in every version: tables, branches and cookies of one are read by another.

use super::{Wide, twin};

/// A SipHash key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Key(pub u64, pub u64);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(..)")
    }
}

impl Key {
    /// A key of 16 bytes, read as SipHash's reference does.
    #[must_use]
    pub fn of_bytes(bytes: &[u8; 16]) -> Self {
        let both = u128::from_le_bytes(*bytes);
        Self(both as u64, (both >> 64) as u64)
    }

    /// SipHash-1-3 of `bytes`.
    #[inline]
    #[must_use]
    pub fn hash13(&self, bytes: &[u8]) -> u64 {
        Sip::<1, 3>::new(self).of_bytes(bytes)
    }

    /// SipHash-2-4 of `bytes`.
    #[inline]
    #[must_use]
    pub fn hash24(&self, bytes: &[u8]) -> u64 {
        Sip::<2, 4>::new(self).of_bytes(bytes)
    }

    /// The start of every [`OfPairs::hash`] under this key.
    pub(super) fn of_pairs(&self) -> OfPairs {
        OfPairs(Sip::new(self))
    }

    /// The start of every [`Bound`] under this key.
    pub(super) fn of_bound(&self) -> OfBound {
        OfBound(Sip::new(self))
    }

    /// SipHash-2-4 of `bytes` bytes, the first in the highest of the first word, with zeros behind them;
    /// in front of them those of `bound`.
    #[inline]
    #[must_use]
    pub(super) fn hash24_words(&self, bound: Option<u64>, words: &[u64], bytes: usize) -> u64 {
        let mut state = Sip::<2, 4>::new(self);
        bound.into_iter().for_each(|word| state.absorb(word));
        let mut words = words.iter().map(|word| word.swap_bytes());
        words.by_ref().take(bytes / 8).for_each(|word| state.absorb(word));
        let last = words.next().filter(|_| !bytes.is_multiple_of(8)).unwrap_or_default();
        let all = bytes + if bound.is_some() { 8 } else { 0 };
        state.absorb(last | (all as u64) << 56);
        state.ended()
    }

    /// A hash for tables within one process, quicker than SipHash: what it gives under a secret must not
    /// be shown, and nothing but a look-up may rest on it. Sixteen bytes a step, each half under its half of the key.
    #[inline]
    #[must_use]
    pub(crate) fn folded(&self, seed: u64, bytes: &[u8]) -> u64 {
        let step = |hash: u64, low: u64, high: u64| folded(low ^ self.0 ^ hash, high ^ self.1);
        let both = |hash: u64, both: &[u8; 16]| {
            let both = u128::from_le_bytes(*both);
            step(hash, both as u64, (both >> 64) as u64)
        };
        let (whole, rest) = bytes.as_chunks::<16>();
        let hash = seed ^ (bytes.len() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let hash = whole.iter().fold(hash, both);
        if rest.is_empty() {
            return hash;
        }
        // What overlaps has been taken in before; the length is known.
        if let Some(last) = bytes.last_chunk::<16>() {
            return both(hash, last);
        }
        match (bytes.first_chunk::<8>(), bytes.last_chunk::<8>()) {
            (Some(first), Some(last)) => step(hash, u64::from_le_bytes(*first), u64::from_le_bytes(*last)),
            _ => step(hash, rest.iter().fold(0, |word, &byte| word << 8 | u64::from(byte)), 0),
        }
    }

    /// Of two words, each under its half of the key, and stirred once more. What it gives may be shown
    /// where nothing but a guess that costs nobody anything rests on it.
    #[inline]
    #[must_use]
    pub(crate) fn folded_pair(&self, one: u64, other: u64) -> u64 {
        folded(folded(one ^ self.0, other ^ self.1) ^ self.1, self.0 | 1)
    }

    /// SipHash-1-3 of `parts`, none of 4 GB or more, in an encoding that no other list of parts
    /// has: two parts, each with zeros up to a multiple of eight bytes, then their lengths in 32
    /// bits each; and so on. Of an odd last part the missing partner's length is all ones.
    #[inline]
    #[must_use]
    pub fn hash13_parts(&self, parts: &[&[u8]]) -> u64 {
        let mut state = Sip::<1, 3>::new(self);
        let (pairs, odd) = parts.as_chunks::<2>();
        for [one, other] in pairs {
            state.absorb_padded(one);
            state.absorb_padded(other);
            state.absorb(one.len() as u64 | (other.len() as u64) << 32);
        }
        if let [last] = odd {
            state.absorb_padded(last);
            state.absorb(last.len() as u64 | u64::from(u32::MAX) << 32);
        }
        // The number of bytes, modulo 256, in the top byte.
        let words = |part: &&[u8]| part.len().div_ceil(8);
        let all = parts.iter().map(words).sum::<usize>() + parts.len().div_ceil(2);
        state.absorb((all as u64) << 59);
        state.ended()
    }
}

/// Both halves of the product, one upon the other.
#[inline(always)]
fn folded(one: u64, other: u64) -> u64 {
    let product = u128::from(one) * u128::from(other);
    product as u64 ^ (product >> 64) as u64
}

/// A SipHash-1-3 that has taken in nothing.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct OfPairs(Sip<1, 3>);

impl OfPairs {
    /// SipHash-1-3 of two words, without the block that tells their number, which is always the same:
    /// a hash that [`Key::hash13`] never gives under the same key but by chance.
    #[inline(always)]
    #[must_use]
    pub(super) fn hash(mut self, one: u64, other: u64) -> u64 {
        self.0.absorb(one);
        self.0.absorb(other);
        self.0.ended()
    }
}

/// A SipHash-2-4 that has taken in nothing.
#[derive(Clone, Copy)]
pub(super) struct OfBound(Sip<2, 4>);

impl std::fmt::Debug for OfBound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OfBound(..)")
    }
}

impl OfBound {
    /// SipHash-2-4 of eight bytes, little-endian, and of what [`Bound::hash`] is given behind them.
    #[inline(always)]
    #[must_use]
    pub(super) fn bind(mut self, word: u64) -> Bound {
        self.0.absorb(word);
        Bound(self.0)
    }
}

/// A SipHash-2-4 that has taken in eight bytes; see [`OfBound::bind`].
#[derive(Clone, Copy)]
pub(super) struct Bound(Sip<2, 4>);

impl Bound {
    /// The hash of the eight bytes and of the upper `bytes` bytes of `word`, less than eight; those below
    /// are zero.
    #[inline(always)]
    #[must_use]
    pub(super) fn hash(mut self, (word, bytes): (u64, u64)) -> u64 {
        self.0.absorb(word.swap_bytes() | (8 + bytes) << 56);
        self.0.ended()
    }

    /// The same of two words.
    #[inline(always)]
    #[must_use]
    pub(super) fn hashes(self, words: [(u64, u64); 2]) -> [u64; 2] {
        twin::ended(self.0.v, words.map(|(word, bytes)| word.swap_bytes() | (8 + bytes) << 56))
    }
}

/// SipHash of whole words, `C` rounds a word and `D` at the end.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Sip<const C: usize, const D: usize> {
    pub(super) v: [u64; 4],
}

impl<const C: usize, const D: usize> Sip<C, D> {
    #[inline]
    fn new(key: &Key) -> Self {
        let v = [
            key.0 ^ 0x736f_6d65_7073_6575,
            key.1 ^ 0x646f_7261_6e64_6f6d,
            key.0 ^ 0x6c79_6765_6e65_7261,
            key.1 ^ 0x7465_6462_7974_6573,
        ];
        Self { v }
    }

    #[inline]
    fn round(&mut self) {
        let [mut a, mut b, mut c, mut d] = self.v;
        a = a.wrapping_add(b);
        c = c.wrapping_add(d);
        b = b.rotate_left(13) ^ a;
        d = d.rotate_left(16) ^ c;
        a = a.rotate_left(32).wrapping_add(d);
        c = c.wrapping_add(b);
        d = d.rotate_left(21) ^ a;
        b = b.rotate_left(17) ^ c;
        c = c.rotate_left(32);
        self.v = [a, b, c, d];
    }

    #[inline]
    pub(super) fn absorb(&mut self, word: u64) {
        self.v[3] ^= word;
        for _ in 0..C {
            self.round();
        }
        self.v[0] ^= word;
    }

    #[inline]
    fn absorb_padded(&mut self, part: &[u8]) {
        let (whole, rest) = part.as_chunks::<8>();
        for word in whole {
            self.absorb(u64::from_le_bytes(*word));
        }
        if !rest.is_empty() {
            self.absorb(tail(part, rest));
        }
    }

    #[inline(always)]
    fn of_bytes(mut self, bytes: &[u8]) -> u64 {
        let (whole, rest) = bytes.as_chunks::<8>();
        for word in whole {
            self.absorb(u64::from_le_bytes(*word));
        }
        let last = if rest.is_empty() { 0 } else { tail(bytes, rest) };
        self.absorb(last | (bytes.len() as u64) << 56);
        self.ended()
    }

    #[inline]
    pub(super) fn ended(mut self) -> u64 {
        self.v[2] ^= 0xff;
        for _ in 0..D {
            self.round();
        }
        self.v[0] ^ self.v[1] ^ self.v[2] ^ self.v[3]
    }
}

/// The bytes behind the last whole word as a little-endian number. `rest` ends `part` and is shorter
/// than eight bytes; reading the last eight of a longer part spares a loop over bytes.
#[inline]
fn tail(part: &[u8], rest: &[u8]) -> u64 {
    match part.last_chunk::<8>() {
        Some(last) => u64::from_le_bytes(*last) >> (64 - 8 * rest.len()),
        None => rest.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte)),
    }
}

/// The keys derived from the cluster's hash secret, one a purpose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Secrets {
    /// Which node a slot prefers.
    pub table: Key,
    /// Marks.
    pub marks: Key,
    /// What a branch of ours tells transactions by.
    pub identity: Wide,
    /// The same, of what is too long for that or bears no branch.
    pub branch: Key,
    /// The tag of a branch of ours.
    pub via_tag: Key,
    /// Owner of a transaction.
    pub owner: Key,
    /// To tags of our own replies.
    pub to_tag: Key,
    /// Call-IDs and the other keys that calls are spread by; what cookies are bound to.
    pub call: Key,
    /// Look-up tables within one process.
    pub index: Key,
}

impl Secrets {
    /// Derives all keys from the 32 bytes of `hash` in the cluster's secret file.
    #[must_use]
    pub fn derive(secret: &[u8; 32]) -> Self {
        let low = Key::of_bytes(&std::array::from_fn(|i| secret.get(i).copied().unwrap_or_default()));
        let high = Key::of_bytes(&std::array::from_fn(|i| secret.get(16 + i).copied().unwrap_or_default()));
        let half = |label: &str, part: u8| {
            // Both halves of the secret in every word: whoever learns one derived key has no
            // 128-bit key of the derivation to search for. Unlike texts keep equal halves from
            // cancelling out.
            let text = |half: &str| format!("sipring/1/{label}/{part}/{half}");
            low.hash24(text("low").as_bytes()) ^ high.hash24(text("high").as_bytes())
        };
        let key = |label: &str| Key(half(label, 0), half(label, 1));
        Self {
            table: key("table"),
            marks: key("marks"),
            identity: Wide::derive(&key("identity")),
            branch: key("branch"),
            via_tag: key("via-tag"),
            owner: key("owner"),
            to_tag: key("to-tag"),
            call: key("call"),
            index: key("index"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encoded(parts: &[&[u8]]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for pair in parts.chunks(2) {
            for part in pair {
                bytes.extend_from_slice(part);
                bytes.resize(bytes.len().next_multiple_of(8), 0);
            }
            bytes.extend_from_slice(&(pair[0].len() as u32).to_le_bytes());
            bytes.extend_from_slice(&pair.get(1).map_or(u32::MAX, |part| part.len() as u32).to_le_bytes());
        }
        bytes
    }

    proptest! {
        #[test]
        fn a_hash_of_parts_is_siphash_of_their_encoding(
            parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..70), 0..7), a: u64, b: u64,
        ) {
            let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
            prop_assert_eq!(Key(a, b).hash13_parts(&parts), Key(a, b).hash13(&encoded(&parts)));
        }

        #[test]
        fn a_hash_of_words_is_siphash_of_their_bytes(bytes in prop::collection::vec(any::<u8>(), 0..80), call: Option<u64>, a: u64, b: u64) {
            let mut padded = bytes.clone();
            padded.resize(bytes.len().next_multiple_of(8) + 8, 0);
            let words: Vec<u64> = padded.as_chunks().0.iter().map(|word| u64::from_be_bytes(*word)).collect();
            let all: Vec<u8> = call.iter().flat_map(|call| call.to_le_bytes()).chain(bytes.iter().copied()).collect();
            prop_assert_eq!(Key(a, b).hash24_words(call, &words, bytes.len()), Key(a, b).hash24(&all));
        }
    }

    proptest! {
        #[test]
        fn hashes_of_bytes_are_those_of_siphasher(bytes: Vec<u8>, a: u64, b: u64) {
            let key = Key(a, b);
            prop_assert_eq!(key.hash13(&bytes), siphasher::sip::SipHasher13::new_with_keys(a, b).hash(&bytes));
            prop_assert_eq!(key.hash24(&bytes), siphasher::sip::SipHasher24::new_with_keys(a, b).hash(&bytes));
        }

        #[test]
        fn a_bound_hash_is_that_of_its_bytes(call: u64, word: u64, a: u64, b: u64) {
            let bytes = [call.to_le_bytes(), word.to_be_bytes()].concat();
            let bound = Key(a, b).of_bound().bind(call);
            prop_assert_eq!(bound.hash((word >> 16 << 16, 6)), Key(a, b).hash24(&bytes[..14]));
            prop_assert_eq!(bound.hash((word >> 32 << 32, 4)), Key(a, b).hash24(&bytes[..12]));
            let both = bound.hashes([(word >> 32 << 32, 4), (word >> 16 << 16, 6)]);
            prop_assert_eq!(both, [Key(a, b).hash24(&bytes[..12]), Key(a, b).hash24(&bytes[..14])]);
        }
    }

    #[test]
    fn moving_a_byte_between_parts_changes_the_hash() {
        let key = Key(1, 2);
        let lists: [&[&[u8]]; 10] = [
            &[],
            &[b""],
            &[b"", b""],
            &[b"", b"", b""],
            &[b"ab"],
            &[b"a", b"b"],
            &[b"ab", b""],
            &[b"", b"ab"],
            &[b"ab\0"],
            &[b"a", b"", b"b"],
        ];
        let mut hashes: Vec<u64> = lists.iter().map(|parts| key.hash13_parts(parts)).collect();
        hashes.sort_unstable();
        hashes.dedup();
        assert_eq!(hashes.len(), lists.len());
    }

    #[test]
    fn siphash_2_4_is_that_of_its_paper() {
        let key = Key::of_bytes(&std::array::from_fn(|i| i as u8));
        let message: [u8; 15] = std::array::from_fn(|i| i as u8);
        assert_eq!(key.hash24(&message), 0xa129_ca61_49be_45e5);
    }

    #[test]
    fn derived_keys_are_fixed_differ_from_each_other_and_depend_on_every_byte() {
        let secrets = |bytes: &[u8; 32]| {
            let s = Secrets::derive(bytes);
            [s.table, s.marks, s.branch, s.via_tag, s.owner, s.to_tag, s.call, s.index]
        };
        let zero = secrets(&[0; 32]);
        let mut words: Vec<u64> = zero.iter().flat_map(|key| [key.0, key.1]).collect();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), 16);
        for place in 0..32 {
            let mut bytes = [0; 32];
            bytes[place] = 1;
            assert!(secrets(&bytes).iter().zip(&zero).all(|(a, b)| a != b), "byte {place}");
        }
        assert_eq!(format!("{:?}", Secrets::derive(&[7; 32]).table), "Key(..)");
    }

    #[test]
    fn hashes_and_derived_keys_are_those_of_every_other_version() {
        let secrets = Secrets::derive(&std::array::from_fn(|i| i as u8));
        let keys = [
            secrets.table,
            secrets.marks,
            secrets.branch,
            secrets.owner,
            secrets.to_tag,
            secrets.call,
            secrets.via_tag,
        ];
        let words: Vec<u8> = keys.iter().flat_map(|key| [key.0, key.1]).flat_map(u64::to_le_bytes).collect();
        assert_eq!(Key(1, 2).hash24(&words), 0xe25489c57f50949f);
        assert_eq!(secrets.call.hash13(b"a84b4c76e66710@192.0.2.1"), 0xd55703b3ccafcc20);
        assert_eq!(secrets.branch.hash13_parts(&[b"z9hG4bK776asdhds", b"192.0.2.1", b"1"]), 0xaf2d37761c325b2e);
    }
}
