//! Cookies: signed user parts of our Record-Route, Path and Contact that name where a request goes.
//!
//! Owns their text and their keys. Shards sign twice and verify once a message. A cookie verifies
//! only as the very text that was signed, for its own role and, in Record-Route, its own Call-ID.

use std::net::SocketAddr;

use super::base32;
use super::key::{Bound, OfBound};
use super::raw::{GROUPS_MAX, HEAD_BYTES, MAC_BYTES, Raw, kind, target_len};
use super::{Key, NodeId, short};

/// What every cookie begins with.
pub const MARK: &[u8; 2] = b"0r";
/// Room that [`CookieKeys::sign`] writes into; the longest text is 79 bytes.
pub const COOKIE_MAX: usize = MARK.len() + GROUPS_MAX * 8;

pub(super) const VERSION: u8 = 0;

/// Which header value a cookie stands in, and so which side may use it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// The Record-Route value that faces the edge.
    EdgeFacing,
    /// The Record-Route value that faces the nodes.
    NodeFacing,
    /// Path.
    Path,
    /// Contact.
    Contact,
}

impl Role {
    /// Whether cookies of this role hold for one Call-ID only.
    #[inline]
    #[must_use]
    pub fn bound_to_call(self) -> bool {
        matches!(self, Self::EdgeFacing | Self::NodeFacing)
    }

    #[inline]
    fn of_bits(bits: u8) -> Self {
        match bits & 3 {
            0 => Self::EdgeFacing,
            1 => Self::NodeFacing,
            2 => Self::Path,
            _ => Self::Contact,
        }
    }

    #[inline]
    fn bits(self) -> u8 {
        match self {
            Self::EdgeFacing => 0,
            Self::NodeFacing => 1,
            Self::Path => 2,
            Self::Contact => 3,
        }
    }
}

/// Number of a local port that restarts and other instances agree on, unlike
/// [`PortId`](crate::packet::PortId).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortTag(pub u16);

impl PortTag {
    /// The tag of a listener: 15 bits of a hash of its name. Two listeners may share one; whoever
    /// names them has to refuse that.
    #[must_use]
    pub fn of_listener(name: &str) -> Self {
        Self((NodeId::of_name(name).0 >> 17) as u16)
    }

    /// The tag of worker port `index` of the node side of one address family.
    #[must_use]
    pub fn of_worker_port(v6: bool, index: u16) -> Self {
        Self(if v6 { 0xc000 } else { 0x8000 } | index)
    }
}

/// Where a cookie leads. Of IPv6 addresses, flow label and scope are not carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CookieTarget {
    /// Nobody: the next Route or the request-URI decides.
    Nothing {
        /// The port that the request leaves from.
        listener: PortTag,
    },
    /// A node.
    Node(NodeId),
    /// A client behind the flow it was seen on.
    Flow {
        /// The port of ours that the client knows.
        listener: PortTag,
        /// Where the client was seen.
        addr: SocketAddr,
    },
    /// A registered client whose Contact was rewritten.
    Contact {
        /// The flow that it registered on.
        flow: (PortTag, SocketAddr),
        /// What stood in its Contact; `None`: the flow's address.
        original: Option<SocketAddr>,
    },
}

/// What a verified cookie says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cookie {
    /// The header value that it was signed for.
    pub role: Role,
    /// Where it leads.
    pub target: CookieTarget,
}

/// Why a user part is no cookie of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CookieFault {
    /// It does not begin with [`MARK`].
    NoMark,
    /// It begins so, but is no cookie's text.
    Malformed,
    /// It was signed with a key that is not, or no longer, known.
    UnknownKey,
    /// It was altered, or signed for another Call-ID or by a stranger.
    BadMac,
}

/// A key that signs or verifies.
#[derive(Clone, PartialEq, Eq)]
pub struct CookieKey {
    /// What cookies call it.
    pub id: u8,
    /// The key.
    pub key: [u8; 16],
}

impl std::fmt::Debug for CookieKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CookieKey({}, ..)", self.id)
    }
}

/// Why a list of keys is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeysError {
    /// Two keys have this id.
    Duplicate(u8),
    /// No key has the signer's id.
    NoSigner(u8),
}

impl std::fmt::Display for KeysError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Duplicate(id) => write!(f, "two cookie keys have the id {id}"),
            Self::NoSigner(id) => write!(f, "no cookie key has the id {id} of the signer"),
        }
    }
}

impl std::error::Error for KeysError {}

/// Whether a user part claims to be a cookie.
#[inline]
#[must_use]
pub fn has_mark(user: &[u8]) -> bool {
    user.starts_with(MARK)
}

/// The keys in force: one signs, all verify.
#[derive(Clone, Debug)]
pub struct CookieKeys {
    signer: (u8, Key),
    /// What the signer's key makes of a call.
    binds: OfBound,
    all: Vec<(u8, Key)>,
}

impl CookieKeys {
    /// Keys of which the one with id `signer` signs.
    pub fn new(keys: &[CookieKey], signer: u8) -> Result<Self, KeysError> {
        let mut all: Vec<(u8, Key)> = Vec::with_capacity(keys.len());
        for key in keys {
            if all.iter().any(|(id, _)| *id == key.id) {
                return Err(KeysError::Duplicate(key.id));
            }
            all.push((key.id, Key::of_bytes(&key.key)));
        }
        let signer = *all.iter().find(|(id, _)| *id == signer).ok_or(KeysError::NoSigner(signer))?;
        Ok(Self { signer, binds: signer.1.of_bound(), all })
    }

    /// Writes the text of a cookie to the front of `out` and gives its length. `call` is the keyed
    /// hash of the Call-ID for the Record-Route roles and `None` for the others.
    #[inline]
    #[must_use]
    pub fn sign(&self, role: Role, target: &CookieTarget, call: Option<u64>, out: &mut [u8; COOKIE_MAX]) -> usize {
        debug_assert_eq!(call.is_some(), role.bound_to_call());
        let call = role.bound_to_call().then(|| call.unwrap_or_default());
        match (target, call) {
            (CookieTarget::Node(_) | CookieTarget::Nothing { .. }, Some(call)) => {
                let Some(of) = self.short(role, target) else { return 0 };
                Signed { of, mac: self.binds.bind(call).hash(of) }.write(out)
            }
            _ => Self::sign_long(&self.signer.1, self.head(role, kind(target)), target, call, out),
        }
    }

    /// Signs for one call, what of that all its cookies share being done once.
    #[inline]
    #[must_use]
    pub fn bind(&self, call: u64) -> Binding<'_> {
        Binding { keys: self, bound: self.binds.bind(call) }
    }

    /// The first two bytes of a cookie of ours.
    #[inline]
    fn head(&self, role: Role, kind: u8) -> u64 {
        u64::from(VERSION << 6 | role.bits() << 4 | kind) << 8 | u64::from(self.signer.0)
    }

    /// Head and target of a cookie that fits two words, at the top of one, and their bytes.
    #[inline(always)]
    fn short(&self, role: Role, target: &CookieTarget) -> Option<(u64, u64)> {
        match target {
            CookieTarget::Nothing { listener } => Some((self.head(role, 0) << 48 | u64::from(listener.0) << 32, 4)),
            CookieTarget::Node(node) => Some((self.head(role, 1) << 48 | u64::from(node.0) << 16, 6)),
            CookieTarget::Flow { .. } | CookieTarget::Contact { .. } => None,
        }
    }

    #[inline(never)]
    fn sign_long(key: &Key, head: u64, target: &CookieTarget, call: Option<u64>, out: &mut [u8; COOKIE_MAX]) -> usize {
        let mut raw = Raw::new();
        raw.put(head, 2);
        raw.put_target(target);
        let mac = raw.mac(key, call);
        raw.put(mac, MAC_BYTES);
        let (mark, room) = out.split_at_mut(MARK.len());
        mark.copy_from_slice(MARK);
        let mut texts = room.as_chunks_mut::<8>().0.iter_mut().take(raw.len.div_ceil(5));
        for block in raw.words.as_chunks().0 {
            for (group, text) in base32::parted(block).iter().zip(&mut texts) {
                *text = base32::encode(*group);
            }
            if texts.len() == 0 {
                break;
            }
        }
        MARK.len() + base32::text_len(raw.len)
    }

    /// Reads a user part, mark included. `call` is asked for the keyed hash of the Call-ID if the
    /// cookie is bound to one.
    #[inline]
    pub fn verify(&self, text: &[u8], call: impl FnOnce() -> u64) -> Result<Cookie, CookieFault> {
        let text = text.strip_prefix(MARK).ok_or(CookieFault::NoMark)?;
        match short::read(text) {
            Some(short) => self.verify_short(&short, call),
            None => self.verify_long(text, call),
        }
    }

    /// The node that a cookie of a Record-Route role names, where it is one of the signer's: what
    /// nearly every request of a dialog bears. None tells nothing; [`CookieKeys::verify`] does.
    #[inline]
    #[must_use]
    pub fn node_of(&self, text: &[u8], role: Role, call: u64) -> Option<NodeId> {
        let short = short::read_node(text.strip_prefix(MARK)?.try_into().ok()?)?;
        let genuine =
            short.word >> 48 == self.head(role, 1) && self.binds.bind(call).hash((short.word, 6)) == short.mac;
        (genuine && role.bound_to_call()).then_some(NodeId((short.word >> 16) as u32))
    }

    #[inline]
    fn key(&self, id: u8) -> Result<&Key, CookieFault> {
        if id == self.signer.0 {
            return Ok(&self.signer.1);
        }
        self.all.iter().find(|(known, _)| *known == id).map(|(_, key)| key).ok_or(CookieFault::UnknownKey)
    }

    #[inline]
    fn verify_short(&self, short: &short::Short, call: impl FnOnce() -> u64) -> Result<Cookie, CookieFault> {
        let (head, id) = ((short.word >> 56) as u8, (short.word >> 48) as u8);
        let role = Role::of_bits(head >> 4);
        let key = self.key(id)?;
        let bytes = HEAD_BYTES + if head & 0xf == 0 { 2 } else { 4 };
        if key.hash24_words(role.bound_to_call().then(call), &[short.word], bytes) != short.mac {
            return Err(CookieFault::BadMac);
        }
        let target = match head & 0xf {
            0 => CookieTarget::Nothing { listener: PortTag((short.word >> 32) as u16) },
            _ => CookieTarget::Node(NodeId((short.word >> 16) as u32)),
        };
        Ok(Cookie { role, target })
    }

    #[inline(never)]
    fn verify_long(&self, text: &[u8], call: impl FnOnce() -> u64) -> Result<Cookie, CookieFault> {
        let mut raw = Raw::of_text(text).ok_or(CookieFault::Malformed)?;
        let (head, id) = (raw.at(0, 1) as u8, raw.at(1, 1) as u8);
        let role = Role::of_bits(head >> 4);
        let target_len = target_len(head & 0xf).ok_or(CookieFault::Malformed)?;
        let len = HEAD_BYTES + target_len;
        let beyond = raw.at(len + MAC_BYTES, 8);
        if head >> 6 != VERSION || text.len() != base32::text_len(len + MAC_BYTES) || beyond != 0 {
            return Err(CookieFault::Malformed);
        }
        let key = self.key(id)?;
        let claimed = raw.cut_mac(len);
        if raw.mac(key, role.bound_to_call().then(call)) != claimed {
            return Err(CookieFault::BadMac);
        }
        let target = raw.target(head & 0xf).ok_or(CookieFault::Malformed)?;
        Ok(Cookie { role, target })
    }
}

/// A signed cookie that is not yet written.
#[derive(Clone, Copy, Debug)]
pub struct Signed {
    of: (u64, u64),
    mac: u64,
}

impl Signed {
    /// Writes its text to the front of `out` and gives its length.
    #[inline(always)]
    pub fn write(&self, out: &mut [u8; COOKIE_MAX]) -> usize {
        short::write(self.of.0, self.of.1, self.mac, out)
    }
}

/// Signs the cookies of one call; see [`CookieKeys::bind`].
#[derive(Clone, Copy)]
pub struct Binding<'a> {
    keys: &'a CookieKeys,
    bound: Bound,
}

impl Binding<'_> {
    /// Signs for two Record-Routes at once; none if one leads to an address.
    #[inline(always)]
    #[must_use]
    pub fn sign_two(&self, cookies: [(Role, &CookieTarget); 2]) -> Option<[Signed; 2]> {
        let [one, other] = cookies.map(|(role, target)| self.keys.short(role, target));
        let [one, other] = [one?, other?];
        let [mac, other_mac] = self.bound.hashes([one, other]);
        Some([Signed { of: one, mac }, Signed { of: other, mac: other_mac }])
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn keys() -> CookieKeys {
        let keys = [CookieKey { id: 7, key: *b"0123456789abcdef" }, CookieKey { id: 8, key: [0x5a; 16] }];
        CookieKeys::new(&keys, 7).unwrap()
    }

    fn signed(keys: &CookieKeys, role: Role, target: &CookieTarget, call: u64) -> Vec<u8> {
        let mut out = [0xee; COOKIE_MAX];
        let len = keys.sign(role, target, role.bound_to_call().then_some(call), &mut out);
        out[..len].to_vec()
    }

    const ROLES: [Role; 4] = [Role::EdgeFacing, Role::NodeFacing, Role::Path, Role::Contact];

    /// One target of every kind.
    fn targets() -> Vec<CookieTarget> {
        let listener = PortTag(0x1234);
        let v4: SocketAddr = "192.0.2.17:5062".parse().unwrap();
        let v6: SocketAddr = "[2001:db8::17]:5062".parse().unwrap();
        let mut all = vec![CookieTarget::Nothing { listener }, CookieTarget::Node(NodeId(0xdead_beef))];
        for addr in [v4, v6] {
            all.push(CookieTarget::Flow { listener, addr });
            for original in [None, Some(v4), Some(v6)] {
                all.push(CookieTarget::Contact { flow: (listener, addr), original });
            }
        }
        all
    }

    fn any_addr() -> impl Strategy<Value = SocketAddr> {
        let v4 = any::<([u8; 4], u16)>().prop_map(SocketAddr::from);
        prop_oneof![v4, any::<([u8; 16], u16)>().prop_map(SocketAddr::from)]
    }

    fn any_target() -> impl Strategy<Value = CookieTarget> {
        let flow = || (any::<u16>().prop_map(PortTag), any_addr());
        prop_oneof![
            any::<u16>().prop_map(|tag| CookieTarget::Nothing { listener: PortTag(tag) }),
            any::<u32>().prop_map(|id| CookieTarget::Node(NodeId(id))),
            flow().prop_map(|(listener, addr)| CookieTarget::Flow { listener, addr }),
            (flow(), prop::option::of(any_addr()))
                .prop_map(|(flow, original)| CookieTarget::Contact { flow, original }),
        ]
    }

    fn any_role() -> impl Strategy<Value = Role> {
        prop::sample::select(ROLES.to_vec())
    }

    proptest! {
        #[test]
        fn what_was_signed_verifies_as_what_it_is(role in any_role(), target in any_target(), call: u64) {
            let text = signed(&keys(), role, &target, call);
            prop_assert_eq!(keys().verify(&text, || call), Ok(Cookie { role, target }));
        }

        #[test]
        fn a_cookie_of_another_call_is_refused(target in any_target(), node_facing: bool, call: u64, other: u64) {
            prop_assume!(call != other);
            let role = if node_facing { Role::NodeFacing } else { Role::EdgeFacing };
            let text = signed(&keys(), role, &target, call);
            prop_assert_eq!(keys().verify(&text, || other), Err(CookieFault::BadMac));
        }

        #[test]
        fn a_cookie_of_a_strangers_key_is_refused(role in any_role(), target in any_target(), call: u64, key: [u8; 16]) {
            let own = CookieKeys::new(&[CookieKey { id: 7, key: *b"0123456789abcdef" }], 7).unwrap();
            let stranger = CookieKeys::new(&[CookieKey { id: 7, key }], 7).unwrap();
            let text = signed(&stranger, role, &target, call);
            prop_assert_eq!(own.verify(&text, || call), Err(CookieFault::BadMac));
        }

        #[test]
        fn no_text_out_of_nothing_verifies(text in "0r[a-z2-7]{0,90}", bytes: Vec<u8>, call: u64) {
            prop_assert!(keys().verify(text.as_bytes(), || call).is_err());
            prop_assert!(keys().verify(&bytes, || call).is_err());
        }

        #[test]
        fn two_cookies_spliced_into_each_other_are_refused(
            role in any_role(), one in any_target(), other in any_target(), call: u64, cut in 0..COOKIE_MAX,
        ) {
            let (one, other) = (signed(&keys(), role, &one, call), signed(&keys(), role, &other, call));
            let text: Vec<u8> =
                one.iter().take(cut).chain(other.iter().skip(cut)).copied().collect();
            prop_assume!(text != one && text != other);
            prop_assert!(keys().verify(&text, || call).is_err());
        }
    }

    #[test]
    fn any_other_character_anywhere_makes_every_kind_of_cookie_fail() {
        for role in ROLES {
            for target in targets() {
                let text = signed(&keys(), role, &target, 42);
                assert!(keys().verify(&text, || 42).is_ok());
                for place in 0..text.len() {
                    for byte in (0..=255).filter(|byte| *byte != text[place]) {
                        let mut altered = text.clone();
                        altered[place] = byte;
                        assert!(keys().verify(&altered, || 42).is_err(), "{role:?} {target:?} {byte} at {place}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_character_more_or_less_anywhere_makes_every_kind_of_cookie_fail() {
        for role in ROLES {
            for target in targets() {
                let text = signed(&keys(), role, &target, 42);
                for place in 0..=text.len() {
                    for byte in [b'a', b'7', 0, text[place.min(text.len() - 1)]] {
                        let mut longer = text.clone();
                        longer.insert(place, byte);
                        assert!(keys().verify(&longer, || 42).is_err(), "{role:?} {target:?} {byte} at {place}");
                    }
                    assert!(place == text.len() || keys().verify(&text[..place], || 42).is_err());
                }
            }
        }
    }

    #[test]
    fn a_mac_does_not_hold_for_another_role_or_key_id() {
        for target in targets() {
            for role in ROLES {
                let text = signed(&keys(), role, &target, 42);
                let raw = Raw::of_text(&text[MARK.len()..]).unwrap();
                for change in [0x10, 0x20, 0x30] {
                    let mut altered = Raw { words: raw.words, len: raw.len };
                    altered.words[0] ^= change << 56;
                    assert_eq!(keys().verify(&text_of(&altered, text.len()), || 42), Err(CookieFault::BadMac));
                }
                let mut altered = Raw { words: raw.words, len: raw.len };
                altered.words[0] ^= (7 ^ 8) << 48;
                assert_eq!(keys().verify(&text_of(&altered, text.len()), || 42), Err(CookieFault::BadMac));
                altered.words[0] ^= (8 ^ 9) << 48;
                assert_eq!(keys().verify(&text_of(&altered, text.len()), || 42), Err(CookieFault::UnknownKey));
            }
        }
    }

    fn text_of(raw: &Raw, len: usize) -> Vec<u8> {
        let groups = (0..GROUPS_MAX).flat_map(|group| base32::encode(raw.at(group * 5, 5)));
        MARK.iter().copied().chain(groups).take(len).collect()
    }

    #[test]
    fn spare_bits_other_than_zero_are_refused() {
        let text = signed(&keys(), Role::EdgeFacing, &CookieTarget::Node(NodeId(1)), 42);
        let last = text.len() - 1;
        let spare: Vec<Vec<u8>> = (1..8)
            .map(|bits| {
                let mut raw = Raw::of_text(&text[MARK.len()..]).unwrap();
                raw.words[1] |= bits << (5 + 8);
                text_of(&raw, text.len())
            })
            .collect();
        for altered in spare {
            assert_eq!(altered[..last], text[..last]);
            assert_eq!(keys().verify(&altered, || 42), Err(CookieFault::Malformed));
        }
    }

    #[test]
    fn faults_tell_what_is_wrong() {
        let text = signed(&keys(), Role::EdgeFacing, &CookieTarget::Node(NodeId(1)), 42);
        let upper: Vec<u8> = MARK.iter().copied().chain(text[2..].iter().map(u8::to_ascii_uppercase)).collect();
        assert_eq!(keys().verify(b"alice", || 42), Err(CookieFault::NoMark));
        assert_eq!(keys().verify(b"", || 42), Err(CookieFault::NoMark));
        assert_eq!(keys().verify(b"0r", || 42), Err(CookieFault::Malformed));
        assert_eq!(keys().verify(&upper, || 42), Err(CookieFault::Malformed));
        assert_eq!(keys().verify(&text, || 43), Err(CookieFault::BadMac));
        assert!(has_mark(&text) && has_mark(b"0r") && !has_mark(b"0") && !has_mark(b"0Rabc"));
    }

    #[test]
    fn the_call_is_asked_for_only_if_the_cookie_is_bound_to_one() {
        let target = CookieTarget::Node(NodeId(1));
        for role in ROLES {
            let mut asked = false;
            let text = signed(&keys(), role, &target, 42);
            assert!(
                keys()
                    .verify(&text, || {
                        asked = true;
                        42
                    })
                    .is_ok()
            );
            assert_eq!(asked, role.bound_to_call());
        }
    }

    #[test]
    fn every_key_verifies_and_one_signs() {
        let key = |id| CookieKey { id, key: [id; 16] };
        let before = CookieKeys::new(&[key(1), key(2)], 1).unwrap();
        let after = CookieKeys::new(&[key(1), key(2)], 2).unwrap();
        let dropped = CookieKeys::new(&[key(2)], 2).unwrap();
        let text = signed(&before, Role::Path, &CookieTarget::Node(NodeId(1)), 42);
        assert!(after.verify(&text, || 0).is_ok());
        assert_eq!(dropped.verify(&text, || 0), Err(CookieFault::UnknownKey));
        assert_ne!(text, signed(&after, Role::Path, &CookieTarget::Node(NodeId(1)), 42));
        assert_eq!(CookieKeys::new(&[key(1), key(2), key(1)], 1).unwrap_err(), KeysError::Duplicate(1));
        assert_eq!(CookieKeys::new(&[key(1)], 2).unwrap_err(), KeysError::NoSigner(2));
        assert_eq!(format!("{:?}", key(1)), "CookieKey(1, ..)");
    }

    #[test]
    fn lengths_keep_to_what_names_and_buffers_allow() {
        for target in targets() {
            let len = signed(&keys(), Role::EdgeFacing, &target, 42).len();
            let most = match target {
                CookieTarget::Nothing { .. } | CookieTarget::Node(_) => 32,
                CookieTarget::Flow { addr: SocketAddr::V4(_), .. } => 32,
                CookieTarget::Flow { addr: SocketAddr::V6(_), .. } => 50,
                CookieTarget::Contact { .. } => 79,
            };
            assert!(len <= most, "{target:?} takes {len}");
        }
    }

    #[test]
    fn what_is_bound_to_a_call_and_what_is_not_are_never_hashed_at_one_length() {
        let bytes = |target: &CookieTarget| HEAD_BYTES + target_len(kind(target)).unwrap();
        let record_route = |target: &&CookieTarget| !matches!(target, CookieTarget::Contact { .. });

        let all = targets();
        let bound: Vec<usize> = all.iter().filter(record_route).map(|target| 8 + bytes(target)).collect();
        assert!(all.iter().all(|target| !bound.contains(&bytes(target))));
    }

    #[test]
    fn texts_are_those_of_every_other_version() {
        let text = |role, target: &CookieTarget| String::from_utf8(signed(&keys(), role, target, 42)).unwrap();
        let all = targets();
        assert_eq!(text(Role::EdgeFacing, &all[0]), "0raadrencbplwa2artb24q");
        assert_eq!(text(Role::NodeFacing, &all[1]), "0rced55ln65533gsnzcqvdfny");
        assert_eq!(text(Role::EdgeFacing, &all[2]), "0raidrengaaabbce6gqtakywp7wledy");
        assert_eq!(text(Role::Path, &all[6]), "0remdrenbaaeg3qaaaaaaaaaaaaaaaaaaxcpdo6skp2ftj2ezq");
        assert_eq!(text(Role::Contact, &all[5]), "0rhmdrengaaabbce6geaaq3oaaaaaaaaaaaaaaaaaac4j4ndzo6ibbm55vv4");
        assert_eq!(PortTag::of_listener("phones"), PortTag(27788));
        assert_eq!(PortTag::of_worker_port(false, 3), PortTag(0x8003));
        assert_eq!(PortTag::of_worker_port(true, 3), PortTag(0xc003));
    }

    #[test]
    fn listeners_and_worker_ports_never_share_a_tag() {
        assert!((0..2000).all(|i| PortTag::of_listener(&format!("listener{i}")).0 < 0x8000));
    }
}
