//! What a scan finds: spans into the datagram, numbers, and the first fault.
//!
//! Filled by `scan`, read by the shard, which may edit the packet while it holds a message: nothing
//! here borrows the bytes. Never looks at a datagram by itself.

use super::fault::Fault;
use super::names::{Header, LISTED_MAX, Method, WATCH_MAX};
use super::uri::Scheme;

/// Part of a datagram: offsets from its first byte.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
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
#[repr(C)]
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

    /// From the first of them to behind the last.
    #[inline]
    #[must_use]
    pub const fn span(self) -> Span {
        Span { start: self.first.start, end: self.end }
    }

    /// Whether the header is absent.
    #[inline]
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.count == 0
    }
}

/// What the topmost Via asks of `rport` (RFC 3581).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rport {
    #[default]
    Absent,
    /// Without a value; `at` is the offset behind the word, where `=5060` may be put.
    Asked { at: u16 },
    /// With a value; `span` is that of its digits. `port` is 0 where it says 0 or nothing: it says
    /// no port, but one may be put there.
    Value { port: u16, span: Span },
}

/// The topmost Via value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Via {
    /// The line that it stands on: our own Via goes to `line.start`.
    pub line: Line,
    /// The whole value, without white space at both ends and a `;` too many; `;name=value` may be put
    /// at its end.
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
    /// Value of the tag parameter. Where it is there but empty, a tag may be put there.
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
    /// Lines of the headers whose values are not looked into, by their places.
    lists: [Lines; LISTED_MAX],
    /// The first fault met. What stands behind it was still collected, so that it can be answered.
    pub fault: Option<Fault>,
}

impl Message {
    /// Nothing found. Not a constant, which would be copied by a call.
    #[inline(always)]
    #[must_use]
    pub fn empty() -> Self {
        Self {
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
            lists: [Lines::NONE; LISTED_MAX],
            fault: None,
        }
    }

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

/// The lines of headers whose values are not looked into.
impl Message {
    #[inline]
    #[must_use]
    pub fn route(&self) -> &Lines {
        self.list(Header::Route)
    }

    #[inline]
    #[must_use]
    pub fn record_route(&self) -> &Lines {
        self.list(Header::RecordRoute)
    }

    #[inline]
    #[must_use]
    pub fn contact(&self) -> &Lines {
        self.list(Header::Contact)
    }

    #[inline]
    #[must_use]
    pub fn path(&self) -> &Lines {
        self.list(Header::Path)
    }

    #[inline]
    #[must_use]
    pub fn proxy_require(&self) -> &Lines {
        self.list(Header::ProxyRequire)
    }

    #[inline]
    #[must_use]
    pub fn supported(&self) -> &Lines {
        self.list(Header::Supported)
    }

    #[inline]
    #[must_use]
    pub fn replaces(&self) -> &Lines {
        self.list(Header::Replaces)
    }

    #[inline]
    #[must_use]
    pub fn join(&self) -> &Lines {
        self.list(Header::Join)
    }

    /// Those of the names in the `Watch`, by their index.
    #[inline]
    #[must_use]
    pub fn watched(&self) -> &[Lines; WATCH_MAX] {
        self.lists.last_chunk().unwrap_or(&[Lines::NONE; WATCH_MAX])
    }

    #[inline(always)]
    fn list(&self, header: Header) -> &Lines {
        header.place().and_then(|place| self.lists.get(place)).unwrap_or(&Lines::NONE)
    }

    /// The lines of the header at a place.
    #[inline(always)]
    pub(super) fn listed(&mut self, place: usize) -> Option<&mut Lines> {
        self.lists.get_mut(place)
    }

    #[cold]
    #[inline(never)]
    pub(super) fn blame(&mut self, fault: Fault) {
        self.fault.get_or_insert(fault);
    }
}

impl Lines {
    #[inline(always)]
    pub(super) fn add(&mut self, line: Line) {
        if self.count == 0 {
            self.first = line;
        }
        self.count += 1;
        self.end = line.next;
    }
}
