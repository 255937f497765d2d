//! What a scan finds: spans into the datagram, numbers, and the first fault.
//!
//! Filled by `scan`, read by the shard, which may edit the packet while it holds a message: nothing
//! here borrows the bytes. Owns the names of methods and headers and the texts of faults; never
//! looks at a datagram by itself.

use super::field;
use super::uri::Scheme;

/// Part of a datagram: offsets from its first byte.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// Offset of the first byte.
    pub start: u16,
    /// Offset behind the last byte.
    pub end: u16,
}

impl Span {
    /// Nothing: what was not there.
    pub const NONE: Self = Self { start: 0, end: 0 };

    /// The span of the bytes `start..end`. Datagrams are shorter than 64 kB, so nothing is cut.
    #[inline]
    #[must_use]
    pub const fn new(start: usize, end: usize) -> Self {
        Self { start: start as u16, end: end as u16 }
    }

    /// Whether it holds no byte.
    #[inline]
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.start >= self.end
    }

    /// Its length, bytes.
    #[inline]
    #[must_use]
    pub const fn len(self) -> usize {
        self.end.saturating_sub(self.start) as usize
    }

    /// Its bytes; none if it does not lie within `bytes`.
    #[inline]
    #[must_use]
    pub fn of(self, bytes: &[u8]) -> &[u8] {
        bytes.get(self.start as usize..self.end as usize).unwrap_or_default()
    }

    /// The same bytes, seen from a buffer in which this span's own buffer starts at `by`.
    #[inline]
    #[must_use]
    pub const fn offset(self, by: u16) -> Self {
        Self { start: self.start.saturating_add(by), end: self.end.saturating_add(by) }
    }
}

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

/// What the start line says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    Request {
        method: Method,
        name: Span,
        uri: Span,
    },
    /// `code` is 0 where the start line has a fault.
    Response {
        code: u16,
    },
}

/// One header line, folds included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Line {
    /// First byte of the name.
    pub start: u16,
    /// What follows the colon, without white space and folds at both ends; folds within stay.
    pub value: Span,
    /// First byte of the next line.
    pub next: u16,
}

impl Line {
    pub(super) const NONE: Self = Self { start: 0, value: Span::NONE, next: 0 };
}

/// All lines of one header: the bounds between which they stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lines {
    /// Lines; 0: the header is absent.
    pub count: u16,
    /// `next` of the last of them.
    pub end: u16,
    /// The first of them.
    pub first: Line,
}

impl Lines {
    pub(super) const NONE: Self = Self { count: 0, end: 0, first: Line::NONE };

    /// Whether the header is absent.
    #[inline]
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.count == 0
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
const WATCH_NAME_MAX: usize = 64;

/// What else to look for: configured header names, such as the source header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watch {
    names: [[u8; WATCH_NAME_MAX]; WATCH_MAX],
    lengths: [u8; WATCH_MAX],
    count: u8,
}

impl Watch {
    /// Nothing.
    pub const NONE: Self = Self { names: [[0; WATCH_NAME_MAX]; WATCH_MAX], lengths: [0; WATCH_MAX], count: 0 };

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
        }
        Some(watch)
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

/// What the topmost Via asks of `rport` (RFC 3581).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rport {
    #[default]
    Absent,
    /// Without a value; `at` is the offset behind the word, where `=5060` may be put.
    Asked { at: u16 },
    /// With a value; `span` is that of its digits.
    Value { port: u16, span: Span },
}

/// The topmost Via value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Via {
    /// The line that it stands on: our own Via goes to `line.start`.
    pub line: Line,
    /// The whole value, without white space at both ends; `;name=value` may be put at its end.
    pub value: Span,
    /// `UDP` and the like.
    pub transport: Span,
    /// Host and port as written.
    pub sent_by: Span,
    /// IPv6 with its brackets.
    pub host: Span,
    /// Port of sent-by.
    pub port: Option<u16>,
    /// Value of the branch parameter; empty for RFC 2543 peers.
    pub branch: Span,
    /// Value of the received parameter.
    pub received: Span,
    /// The rport parameter.
    pub rport: Rport,
    /// Further values stand behind this one on the same line.
    pub shares_line: bool,
}

impl Via {
    pub(super) const NONE: Self = Self {
        line: Line::NONE,
        value: Span::NONE,
        transport: Span::NONE,
        sent_by: Span::NONE,
        host: Span::NONE,
        port: None,
        branch: Span::NONE,
        received: Span::NONE,
        rport: Rport::Absent,
        shares_line: false,
    };
}

/// From or To.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Address {
    pub line: Line,
    /// Inside `<>`, or the bare addr-spec up to `;`.
    pub uri: Span,
    /// Value of the tag parameter.
    pub tag: Span,
}

impl Address {
    pub(super) const NONE: Self = Self { line: Line::NONE, uri: Span::NONE, tag: Span::NONE };
}

/// CSeq.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CSeq {
    pub number: u32,
    /// Number and method as written.
    pub value: Span,
    /// The method's name.
    pub method: Span,
    /// The number as written.
    pub digits: Span,
}

/// A number and where it stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Number {
    pub value: u32,
    /// Its digits.
    pub span: Span,
}

/// Everything that a scan found. Spans and numbers only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    pub start: Start,
    /// Scheme of the request-URI.
    pub scheme: Scheme,
    /// Offset behind the start line's end.
    pub first_header: u16,
    /// Offset of the body, behind the empty line.
    pub head_end: u16,
    /// End of the message: that of the body by Content-Length, else the datagram's.
    pub end: u16,
    /// The topmost Via value.
    pub via: Via,
    pub vias: Lines,
    pub from: Address,
    pub to: Address,
    /// The value, byte for byte.
    pub call_id: Span,
    pub cseq: CSeq,
    pub max_forwards: Option<Number>,
    pub content_length: Option<Number>,
    /// None also where it is no number; what exceeds 32 bits is `u32::MAX`.
    pub expires: Option<Number>,
    pub route: Lines,
    pub record_route: Lines,
    pub contact: Lines,
    pub path: Lines,
    pub proxy_require: Lines,
    pub supported: Lines,
    pub replaces: Lines,
    pub join: Lines,
    /// Lines of the names in the `Watch`, by their index.
    pub watched: [Lines; WATCH_MAX],
    /// The first fault met. What stands behind it was still collected, so that it can be answered.
    pub fault: Option<Fault>,
}

impl Message {
    /// Nothing found.
    pub(super) const EMPTY: Self = Self {
        start: Start::Response { code: 0 },
        scheme: Scheme::Other,
        first_header: 0,
        head_end: 0,
        end: 0,
        via: Via::NONE,
        vias: Lines::NONE,
        from: Address::NONE,
        to: Address::NONE,
        call_id: Span::NONE,
        cseq: CSeq { number: 0, value: Span::NONE, method: Span::NONE, digits: Span::NONE },
        max_forwards: None,
        content_length: None,
        expires: None,
        route: Lines::NONE,
        record_route: Lines::NONE,
        contact: Lines::NONE,
        path: Lines::NONE,
        proxy_require: Lines::NONE,
        supported: Lines::NONE,
        replaces: Lines::NONE,
        join: Lines::NONE,
        watched: [Lines::NONE; WATCH_MAX],
        fault: None,
    };

    /// Whether it is a request.
    #[inline]
    #[must_use]
    pub const fn is_request(&self) -> bool {
        matches!(self.start, Start::Request { .. })
    }

    /// The method of a request.
    #[inline]
    #[must_use]
    pub const fn method(&self) -> Option<Method> {
        match self.start {
            Start::Request { method, .. } => Some(method),
            Start::Response { .. } => None,
        }
    }

    /// The request-URI; empty for a response.
    #[inline]
    #[must_use]
    pub const fn uri(&self) -> Span {
        match self.start {
            Start::Request { uri, .. } => uri,
            Start::Response { .. } => Span::NONE,
        }
    }

    /// The status code of a response.
    #[inline]
    #[must_use]
    pub const fn code(&self) -> Option<u16> {
        match self.start {
            Start::Request { .. } => None,
            Start::Response { code } => Some(code),
        }
    }

    /// The body.
    #[inline]
    #[must_use]
    pub const fn body(&self) -> Span {
        Span { start: self.head_end, end: self.end }
    }
}

/// What is wrong with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Not even a start line: there is nothing to answer.
    NotSip,
    /// Longer than a datagram can be: nothing was scanned.
    TooLong,
    StartLine,
    Version,
    /// The request-URI.
    Uri,
    /// CR or LF alone in the header block.
    BareLineEnd,
    /// In or around a header name.
    ControlCharacter,
    HeaderName,
    /// A line without a colon.
    HeaderSyntax,
    /// The datagram ends before the empty line.
    NoHeadEnd,
    /// A header that every message has is absent.
    Missing(Header),
    /// A header that stands once stands twice.
    Repeated(Header),
    /// The topmost Via.
    Via,
    /// The branch of the topmost Via: empty, twice, or the magic cookie alone.
    Branch,
    From,
    To,
    CallId,
    CSeq,
    /// CSeq and start line name different methods.
    CSeqMethod,
    MaxForwards,
    ContentLength,
    /// The datagram ends before the body does.
    TooShort,
}

impl Fault {
    /// The status code that a request with this fault is answered with.
    #[must_use]
    pub const fn answer(self) -> u16 {
        if matches!(self, Self::Version) { 505 } else { 400 }
    }

    /// What to say about it: reason phrase and log.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::NotSip => "Not SIP",
            Self::TooLong => "Datagram Too Long",
            Self::StartLine => "Bad Start Line",
            Self::Version => "Version Not Supported",
            Self::Uri => "Bad Request-URI",
            Self::BareLineEnd => "Bare CR Or LF",
            Self::ControlCharacter => "Control Character In Header Name",
            Self::HeaderName => "Bad Header Name",
            Self::HeaderSyntax => "Header Without Colon",
            Self::NoHeadEnd => "Header Block Not Ended",
            Self::Missing(header) => missing(header),
            Self::Repeated(header) => repeated(header),
            Self::Via => "Bad Via",
            Self::Branch => "Bad Branch",
            Self::From => "Bad From",
            Self::To => "Bad To",
            Self::CallId => "Bad Call-ID",
            Self::CSeq => "Bad CSeq",
            Self::CSeqMethod => "CSeq Names Another Method",
            Self::MaxForwards => "Bad Max-Forwards",
            Self::ContentLength => "Bad Content-Length",
            Self::TooShort => "Body Shorter Than Content-Length",
        }
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "only these are ever told missing")]
const fn missing(header: Header) -> &'static str {
    match header {
        Header::Via => "Missing Via",
        Header::From => "Missing From",
        Header::To => "Missing To",
        Header::CallId => "Missing Call-ID",
        Header::CSeq => "Missing CSeq",
        _ => "Missing Header",
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "only these are ever told repeated")]
const fn repeated(header: Header) -> &'static str {
    match header {
        Header::From => "From Twice",
        Header::To => "To Twice",
        Header::CallId => "Call-ID Twice",
        Header::CSeq => "CSeq Twice",
        Header::MaxForwards => "Max-Forwards Twice",
        Header::ContentLength => "Content-Length Twice",
        _ => "Header Twice",
    }
}
