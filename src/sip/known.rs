//! The names of header lines that most messages bear, found by one step and one comparison.
//!
//! Driven by `sight`, which leaves lines of other names to `lines`. Told a name with its colon and one
//! blank, as nearly all write it; says what lines of it are kept under, and packs them. Never looks at a value.

use super::lane::Lane;
use super::message::{Line, Span};
use super::names::Header;

/// A name with its colon and a blank.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Known {
    name: [u8; 16],
    /// The bits that count: of a letter all but its case, behind the name none.
    counts: [u8; 16],
    /// Added to where a line starts and ends, so that it is a [`Line`] packed.
    bias: u64,
    /// What both are multiplied by for that.
    apart: u64,
    /// That of its place.
    pub(super) bit: u32,
    pub(super) place: Place,
}

/// What the lines of a header are kept under.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Place {
    /// Those up to `Watched3` as the message lists them.
    Route,
    RecordRoute,
    Contact,
    Path,
    ProxyRequire,
    Supported,
    Replaces,
    Join,
    Watched0,
    Watched1,
    Watched2,
    Watched3,
    Via,
    From,
    To,
    CallId,
    CSeq,
    MaxForwards,
    ContentLength,
    Expires,
    /// It means nothing.
    Other,
}

/// How many there are.
pub(super) const PLACES: usize = Place::Other as usize + 1;

impl Place {
    pub(super) const fn of(header: Header) -> Self {
        match header {
            Header::Via => Self::Via,
            Header::Route => Self::Route,
            Header::RecordRoute => Self::RecordRoute,
            Header::From => Self::From,
            Header::To => Self::To,
            Header::CallId => Self::CallId,
            Header::CSeq => Self::CSeq,
            Header::MaxForwards => Self::MaxForwards,
            Header::Contact => Self::Contact,
            Header::Path => Self::Path,
            Header::ContentLength => Self::ContentLength,
            Header::ProxyRequire => Self::ProxyRequire,
            Header::Supported => Self::Supported,
            Header::Replaces => Self::Replaces,
            Header::Join => Self::Join,
            Header::Expires => Self::Expires,
            Header::Watched(0) => Self::Watched0,
            Header::Watched(1) => Self::Watched1,
            Header::Watched(2) => Self::Watched2,
            Header::Watched(_) => Self::Watched3,
            Header::Other => Self::Other,
        }
    }

    /// One bit of its own.
    #[inline(always)]
    pub(super) const fn bit(self) -> u32 {
        1 << self as u8
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

/// See [`Known::apart`].
const APART: u64 = 0x1_0001;

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
    let mut all = [Known { name: [0; 16], counts: [0; 16], bias: 0, apart: APART, bit: 0, place: Place::Other }; SLOTS];
    let mut left: &[(&[u8], Header)] = &NAMES;
    while let [(text, header), tail @ ..] = left {
        let bias = (text.len() as u64) << 16 | 2 << 48;
        let place = Place::of(*header);
        let mut known = Known { name: [0; 16], counts: [0; 16], bias, apart: APART, bit: place.bit(), place };
        let mut index = 0;
        while index < text.len() {
            known.name[index] = text[index];
            known.counts[index] = if text[index].is_ascii_lowercase() { 0xdf } else { 0xff };
            index += 1;
        }
        let [a, b, c, d, _, e, f, g, h, ..] = known.name;
        let slot = slot([a, b, c, d], [e, f, g, h]);
        assert!(all[slot].bias == 0);
        all[slot] = known;
        left = tail;
    }
    // What stands in the other slots has one of its own, so nothing that is looked for there is it.
    let some = all[slot(*b"via:", [0; 4])];
    let mut index = 0;
    while index < SLOTS {
        if all[index].bias == 0 {
            // A factor that is not the same for all remains one multiplication.
            all[index] = Known { apart: 0, ..some };
        }
        index += 1;
    }
    all
}

/// What a line is that begins so.
#[inline(always)]
pub(super) fn name(head: &[u8; 16]) -> Option<&'static Known> {
    let [a, b, c, d, _, e, f, g, h, ..] = *head;
    let known = KNOWN.get(slot([a, b, c, d], [e, f, g, h]))?;
    Lane::new(head).agrees(Lane::new(&known.name), Lane::new(&known.counts)).then_some(known)
}

/// Whether lines of this name are known, and mean nothing.
pub(super) fn passes_over(name: &[u8]) -> bool {
    NAMES.iter().any(|(text, header)| {
        let own = text.split_last_chunk::<2>().map_or(*text, |(own, _)| own);
        *header == Header::Other && own.eq_ignore_ascii_case(name)
    })
}

impl Known {
    /// The line of this name that starts and ends there, packed.
    #[inline(always)]
    pub(super) const fn line(&self, start: usize, end: usize) -> Packed {
        Packed((start as u64 | (end as u64).rotate_left(32)).wrapping_mul(self.apart).wrapping_add(self.bias))
    }
}

/// A [`Line`] in one word: where it starts, where its value does, where that ends, where the next line starts.
#[derive(Clone, Copy)]
pub(super) struct Packed(u64);

impl Packed {
    pub(super) const NONE: Self = Self(0);

    pub(super) const fn new(line: Line) -> Self {
        let Line { start, value, next } = line;
        Self(start as u64 | (value.start as u64) << 16 | (value.end as u64) << 32 | (next as u64) << 48)
    }

    #[inline(always)]
    pub(super) const fn line(self) -> Line {
        let value = Span { start: (self.0 >> 16) as u16, end: (self.0 >> 32) as u16 };
        Line { start: self.0 as u16, value, next: (self.0 >> 48) as u16 }
    }
}
