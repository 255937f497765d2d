//! The names that routing knows: methods and headers, and the headers that a configuration adds.
//!
//! Driven by `scan` and the iterators over header lines. Methods are told apart by case, headers in
//! any case and in their compact forms. Never looks at a datagram.

use super::{field, known};

/// Request methods; told apart by case (RFC 3261 7.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    Invite,
    Ack,
    Cancel,
    Bye,
    Prack,
    Register,
    Options,
    Publish,
    Message,
    Info,
    Update,
    Subscribe,
    Notify,
    Refer,
    /// Any other token.
    Unknown,
}

impl Method {
    /// The method whose name and the blank behind it a request that begins with `word` begins with,
    /// and its name's length. Only what calls are made of.
    #[inline(always)]
    pub(super) const fn frequent(word: u64) -> Option<(Self, usize)> {
        const fn begins(word: u64, text: &[u8; 8], length: usize) -> bool {
            (word ^ u64::from_le_bytes(*text)) << (64 - 8 * length) == 0
        }
        if begins(word, b"INVITE  ", 7) {
            Some((Self::Invite, 6))
        } else if begins(word, b"ACK     ", 4) {
            Some((Self::Ack, 3))
        } else if begins(word, b"BYE     ", 4) {
            Some((Self::Bye, 3))
        } else if begins(word, b"CANCEL  ", 7) {
            Some((Self::Cancel, 6))
        } else if begins(word, b"OPTIONS ", 8) {
            Some((Self::Options, 7))
        } else {
            None
        }
    }

    /// The method that `name` names.
    #[inline]
    #[must_use]
    pub fn parse(name: &[u8]) -> Self {
        match name {
            b"INVITE" => Self::Invite,
            b"ACK" => Self::Ack,
            b"CANCEL" => Self::Cancel,
            b"BYE" => Self::Bye,
            b"PRACK" => Self::Prack,
            b"REGISTER" => Self::Register,
            b"OPTIONS" => Self::Options,
            b"PUBLISH" => Self::Publish,
            b"MESSAGE" => Self::Message,
            b"INFO" => Self::Info,
            b"UPDATE" => Self::Update,
            b"SUBSCRIBE" => Self::Subscribe,
            b"NOTIFY" => Self::Notify,
            b"REFER" => Self::Refer,
            _ => Self::Unknown,
        }
    }

    /// Whether a request of this method may start a dialog, so that it gets a Record-Route. What is
    /// not known may.
    #[inline]
    #[must_use]
    pub const fn forms_dialog(self) -> bool {
        match self {
            Self::Ack
            | Self::Cancel
            | Self::Bye
            | Self::Prack
            | Self::Register
            | Self::Options
            | Self::Publish
            | Self::Message
            | Self::Info => false,
            Self::Invite | Self::Update | Self::Subscribe | Self::Notify | Self::Refer | Self::Unknown => true,
        }
    }

    /// Its name; empty for `Unknown`, whose name the message holds.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Invite => "INVITE",
            Self::Ack => "ACK",
            Self::Cancel => "CANCEL",
            Self::Bye => "BYE",
            Self::Prack => "PRACK",
            Self::Register => "REGISTER",
            Self::Options => "OPTIONS",
            Self::Publish => "PUBLISH",
            Self::Message => "MESSAGE",
            Self::Info => "INFO",
            Self::Update => "UPDATE",
            Self::Subscribe => "SUBSCRIBE",
            Self::Notify => "NOTIFY",
            Self::Refer => "REFER",
            Self::Unknown => "",
        }
    }
}

/// The headers that routing knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    Via,
    Route,
    RecordRoute,
    From,
    To,
    CallId,
    CSeq,
    MaxForwards,
    Contact,
    Path,
    ContentLength,
    ProxyRequire,
    Supported,
    Replaces,
    Join,
    Expires,
    /// The name of this index in the `Watch`.
    Watched(u8),
    Other,
}

impl Header {
    /// The place among the headers of which a scan tells the lines alone, below [`LISTED_MAX`].
    #[inline(always)]
    pub(super) const fn place(self) -> Option<usize> {
        Some(match self {
            Self::Route => 0,
            Self::RecordRoute => 1,
            Self::Contact => 2,
            Self::Path => 3,
            Self::ProxyRequire => 4,
            Self::Supported => 5,
            Self::Replaces => 6,
            Self::Join => 7,
            Self::Watched(index) => LISTED + index as usize,
            Self::Via
            | Self::From
            | Self::To
            | Self::CallId
            | Self::CSeq
            | Self::MaxForwards
            | Self::ContentLength
            | Self::Expires
            | Self::Other => return None,
        })
    }

    /// The header that `name` names, in any case, long or compact (RFC 3261 7.3.3).
    #[must_use]
    pub fn parse(name: &[u8], watch: &Watch) -> Self {
        let is = |word: &str| name.eq_ignore_ascii_case(word.as_bytes());
        let known = match name.len() {
            1 => match name.first().map(u8::to_ascii_lowercase) {
                Some(b'v') => Self::Via,
                Some(b'f') => Self::From,
                Some(b't') => Self::To,
                Some(b'i') => Self::CallId,
                Some(b'm') => Self::Contact,
                Some(b'l') => Self::ContentLength,
                Some(b'k') => Self::Supported,
                _ => Self::Other,
            },
            2 if is("to") => Self::To,
            3 if is("via") => Self::Via,
            4 if is("from") => Self::From,
            4 if is("cseq") => Self::CSeq,
            4 if is("path") => Self::Path,
            4 if is("join") => Self::Join,
            5 if is("route") => Self::Route,
            7 if is("call-id") => Self::CallId,
            7 if is("contact") => Self::Contact,
            7 if is("expires") => Self::Expires,
            8 if is("replaces") => Self::Replaces,
            9 if is("supported") => Self::Supported,
            12 if is("max-forwards") => Self::MaxForwards,
            12 if is("record-route") => Self::RecordRoute,
            13 if is("proxy-require") => Self::ProxyRequire,
            14 if is("content-length") => Self::ContentLength,
            _ => Self::Other,
        };
        if known == Self::Other { watch.find(name) } else { known }
    }

    /// Its long name; "header" for what has no name of its own here.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Via => "Via",
            Self::Route => "Route",
            Self::RecordRoute => "Record-Route",
            Self::From => "From",
            Self::To => "To",
            Self::CallId => "Call-ID",
            Self::CSeq => "CSeq",
            Self::MaxForwards => "Max-Forwards",
            Self::Contact => "Contact",
            Self::Path => "Path",
            Self::ContentLength => "Content-Length",
            Self::ProxyRequire => "Proxy-Require",
            Self::Supported => "Supported",
            Self::Replaces => "Replaces",
            Self::Join => "Join",
            Self::Expires => "Expires",
            Self::Watched(_) | Self::Other => "header",
        }
    }
}

/// Names that a `Watch` can hold.
pub const WATCH_MAX: usize = 4;
/// Headers known here of which a scan tells the lines alone.
const LISTED: usize = 8;
/// The same with those of a `Watch`.
pub(super) const LISTED_MAX: usize = LISTED + WATCH_MAX;
const WATCH_NAME_MAX: usize = 64;

/// What else to look for: configured header names, such as the source header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watch {
    names: [[u8; WATCH_NAME_MAX]; WATCH_MAX],
    lengths: [u8; WATCH_MAX],
    count: u8,
    /// A bit for each length modulo 64 that a name has.
    has_length: u64,
    /// One of the names is one that is passed over where nobody looks for it.
    frequent: bool,
}

impl Watch {
    /// Nothing.
    pub const NONE: Self = Self {
        names: [[0; WATCH_NAME_MAX]; WATCH_MAX],
        lengths: [0; WATCH_MAX],
        count: 0,
        has_length: 0,
        frequent: false,
    };

    /// Looks for `names`, in any case, in this order. None if there are more than [`WATCH_MAX`], if
    /// one is longer than 64 bytes or no token, or names a header that the scan knows anyway.
    #[must_use]
    pub fn new(names: &[&str]) -> Option<Self> {
        let mut watch = Self::NONE;
        if names.len() > WATCH_MAX {
            return None;
        }
        for (index, name) in names.iter().enumerate() {
            let token = !name.is_empty() && name.bytes().all(field::is_token);
            if !token || Header::parse(name.as_bytes(), &watch) != Header::Other {
                return None;
            }
            let slot = watch.names.get_mut(index)?.get_mut(..name.len())?;
            slot.copy_from_slice(name.as_bytes());
            slot.make_ascii_lowercase();
            *watch.lengths.get_mut(index)? = name.len() as u8;
            watch.count = index as u8 + 1;
            watch.has_length |= 1 << (name.len() % 64);
            watch.frequent |= known::passes_over(name.as_bytes());
        }
        Some(watch)
    }

    /// False if no name of this length is looked for.
    #[inline(always)]
    pub(super) const fn has_length(&self, length: usize) -> bool {
        self.has_length >> (length % 64) & 1 != 0
    }

    /// Whether a name is looked for that is among the most frequent.
    #[inline(always)]
    pub(super) const fn has_frequent(&self) -> bool {
        self.frequent
    }

    /// `Watched` for a name that is looked for, else `Other`.
    #[inline]
    pub(super) fn find(&self, name: &[u8]) -> Header {
        for index in 0..self.count {
            let Some(length) = self.lengths.get(index as usize) else { break };
            if usize::from(*length) == name.len()
                && self
                    .names
                    .get(index as usize)
                    .and_then(|slot| slot.get(..name.len()))
                    .is_some_and(|slot| slot.eq_ignore_ascii_case(name))
            {
                return Header::Watched(index);
            }
        }
        Header::Other
    }
}
