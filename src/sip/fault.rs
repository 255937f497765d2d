//! What can be wrong with a message, and how it is answered.
//!
//! Told by `scan`, read by the shard for its verdict, its 400 and its counters. Owns the texts; never
//! decides whether an answer is due.

use super::names::Header;

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
