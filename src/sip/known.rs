//! The names of header lines that most messages bear, found by one step and one comparison.
//!
//! Driven by `sight`, which leaves lines of other names to `lines`. Told a name with its colon and one
//! blank, as nearly all write it; never looks at a value.

use super::lane::Lane;
use super::names::Header;
use super::view::View;

/// A name with its colon and a blank.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Known {
    name: [u8; 16],
    /// Bit 5 of each letter, whose case means nothing.
    cases: [u8; 16],
    /// A bit for each byte behind the name.
    rest: u16,
    pub(super) length: u8,
    pub(super) kind: Kind,
    /// Of a header whose lines alone are told: its place among those.
    pub(super) place: u8,
}

/// What is done with a line, by its header.
#[derive(Clone, Copy)]
#[repr(u8)]
pub(super) enum Kind {
    Via,
    From,
    To,
    CallId,
    CSeq,
    MaxForwards,
    ContentLength,
    /// Only where it stands is told.
    Listed,
    /// It means nothing, if nobody looks for its name.
    Other,
    /// Left to a closer look.
    Left,
}

impl Kind {
    #[inline(always)]
    pub(super) const fn of(header: Header) -> (Self, u8) {
        let kind = match header {
            Header::Via => Self::Via,
            Header::From => Self::From,
            Header::To => Self::To,
            Header::CallId => Self::CallId,
            Header::CSeq => Self::CSeq,
            Header::MaxForwards => Self::MaxForwards,
            Header::ContentLength => Self::ContentLength,
            Header::Other => Self::Other,
            Header::Expires | Header::Watched(_) => Self::Left,
            Header::Route
            | Header::RecordRoute
            | Header::Contact
            | Header::Path
            | Header::ProxyRequire
            | Header::Supported
            | Header::Replaces
            | Header::Join => Self::Listed,
        };
        match header.place() {
            Some(place) => (kind, place as u8),
            None => (kind, 0),
        }
    }
}

const SLOTS: usize = 64;

/// Where the name stands that begins with these bytes.
#[inline(always)]
const fn slot(first: [u8; 4], further: [u8; 4]) -> usize {
    const CONT: u32 = u32::from_le_bytes(*b"cont");
    let first = u32::from_le_bytes(first) | 0x2020_2020;
    let key = if first == CONT { u32::from_le_bytes(further) | 0x2020_2020 } else { first };
    (key.wrapping_mul(0xe3c0_43a9) >> 26) as usize
}

/// No two share a slot.
static KNOWN: [Known; SLOTS] = known();

const NAMES: [(&[u8], Header); 33] = [
    (b"via: ", Header::Via),
    (b"from: ", Header::From),
    (b"to: ", Header::To),
    (b"call-id: ", Header::CallId),
    (b"cseq: ", Header::CSeq),
    (b"contact: ", Header::Contact),
    (b"content-length: ", Header::ContentLength),
    (b"max-forwards: ", Header::MaxForwards),
    (b"route: ", Header::Route),
    (b"record-route: ", Header::RecordRoute),
    (b"replaces: ", Header::Replaces),
    (b"path: ", Header::Path),
    (b"proxy-require: ", Header::ProxyRequire),
    (b"supported: ", Header::Supported),
    (b"expires: ", Header::Expires),
    (b"join: ", Header::Join),
    (b"allow: ", Header::Other),
    (b"user-agent: ", Header::Other),
    (b"content-type: ", Header::Other),
    (b"accept: ", Header::Other),
    (b"server: ", Header::Other),
    (b"date: ", Header::Other),
    (b"event: ", Header::Other),
    (b"reason: ", Header::Other),
    (b"require: ", Header::Other),
    (b"subject: ", Header::Other),
    (b"privacy: ", Header::Other),
    (b"min-se: ", Header::Other),
    (b"rseq: ", Header::Other),
    (b"rack: ", Header::Other),
    (b"organization: ", Header::Other),
    (b"authorization: ", Header::Other),
    (b"warning: ", Header::Other),
];

#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler")]
const fn known() -> [Known; SLOTS] {
    // Of no bytes whatever.
    let none = Known { name: [0; 16], cases: [0xff; 16], rest: 0, length: 0, kind: Kind::Other, place: 0 };
    let mut all = [none; SLOTS];
    let mut left: &[(&[u8], Header)] = &NAMES;
    while let [(text, header), tail @ ..] = left {
        let (kind, place) = Kind::of(*header);
        let mut known = Known {
            name: [0; 16],
            cases: [0; 16],
            rest: !((1u32 << text.len()) - 1) as u16,
            length: text.len() as u8,
            kind,
            place,
        };
        let mut index = 0;
        while index < text.len() {
            known.name[index] = text[index];
            known.cases[index] = if text[index].is_ascii_lowercase() { 0x20 } else { 0 };
            index += 1;
        }
        let [a, b, c, d, _, e, f, g, h, ..] = known.name;
        let slot = slot([a, b, c, d], [e, f, g, h]);
        assert!(all[slot].length == 0);
        all[slot] = known;
        left = tail;
    }
    all
}

/// What the line at `at` is by its name, and the length of that with its colon and one blank.
#[inline(always)]
pub(super) fn name(view: impl View, at: usize) -> Option<&'static Known> {
    let chunk: &[u8; 16] = view.chunk(at)?;
    let [a, b, c, d, _, e, f, g, h, ..] = *chunk;
    let known = KNOWN.get(slot([a, b, c, d], [e, f, g, h]))?;
    let same = Lane::new(chunk).or(Lane::new(&known.cases)).equal(Lane::new(&known.name)).bits();
    (same | u32::from(known.rest) == u32::from(u16::MAX)).then_some(known)
}
