//! URIs, the header values that hold them, and their parameters.
//!
//! Driven by `scan` for the request-URI and by the shard for the addresses that a decision needs.
//! Strict where two readers could see two hosts (RFC 4475), and no stricter. Never undoes an escape.

use super::broad::Look;
use super::field::{self, Next};
use super::lane::{self, AnyCase};
use super::message::Span;
use super::view::View;

pub use super::host::host_ip;
pub use super::key::normalise_user_host;
use super::{address, copy};

/// Scheme of a URI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    Sip,
    Sips,
    Tel,
    /// Any urn; emergency calls are urn:service.
    Urn,
    Other,
}

/// A URI taken apart. Of tel, urn and other URIs, all between the scheme and the parameters is
/// `user`, and there is no host. The spans are relative to the URI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Uri<'a> {
    pub scheme: Scheme,
    /// As written, escapes and all, without the password.
    pub user: Option<&'a [u8]>,
    pub password: Option<&'a [u8]>,
    /// IPv6 with its brackets.
    pub host: &'a [u8],
    pub port: Option<u16>,
    /// Behind the first `;` of sip, sips and tel URIs.
    pub params: &'a [u8],
    /// Behind the `?` of sip and sips URIs.
    pub headers: &'a [u8],
    /// User and password, without the `@`.
    pub user_span: Span,
    /// Host and port.
    pub host_port_span: Span,
}

impl<'a> Uri<'a> {
    /// The value of a parameter: None if absent, `Some(None)` if it has no value.
    #[must_use]
    pub fn param(&self, name: &[u8]) -> Option<Option<&'a [u8]>> {
        param(self.params, name)
    }
}

/// A header value of the form of From, Contact or Route. The spans are relative to the value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NameAddr {
    /// Display name, quotes included.
    pub display: Span,
    /// Inside `<>`, or the bare addr-spec up to `;`.
    pub uri: Span,
    /// Behind the first `;` that follows the URI.
    pub params: Span,
}

/// Takes a URI apart. None if there is no scheme or host, a port out of range, more than one `@`, or
/// a byte that would end the URI for another reader.
#[inline(always)]
#[must_use]
pub fn parse(uri: &[u8]) -> Option<Uri<'_>> {
    // Longer than a datagram, it came from none.
    let span = Span { start: 0, end: u16::try_from(uri.len()).ok()? };
    // With something behind, most are taken at sight.
    let mut room = [0; 80];
    match room.get_mut(..uri.len()) {
        Some(front) if uri.len() <= 64 => {
            copy::short(front, uri);
            taken_apart(uri, span, parse_at(&room, span)?)
        }
        _ => parse_in(uri, span),
    }
}

/// As [`parse`], of the URI at `span` of a datagram: faster than of a slice, as it may look at what
/// stands behind. The spans in the answer are relative to the URI all the same.
#[inline(always)]
#[must_use]
pub fn parse_in(bytes: &[u8], span: Span) -> Option<Uri<'_>> {
    taken_apart(bytes, span, parse_at(bytes, span)?)
}

#[inline(always)]
fn taken_apart(bytes: &[u8], span: Span, parts: Parts) -> Option<Uri<'_>> {
    let uri = span.of(bytes);
    let all = parts.user.of(bytes);
    let split = if parts.scheme.has_host() {
        let (start, end) = (parts.user.start.into(), parts.user.end.into());
        lane::find(bytes, start, end, |lane| lane.eq(b':')) - start
    } else {
        all.len()
    };
    let (user, password) = match all.split_at_checked(split) {
        Some((user, [_, password @ ..])) => (user, Some(password)),
        _ => (all, None),
    };
    let relative = |part: Span| match part.end {
        0 => part,
        _ => Span { start: part.start.wrapping_sub(span.start), end: part.end.wrapping_sub(span.start) },
    };
    Some(Uri {
        scheme: parts.scheme,
        user: (!all.is_empty()).then_some(user),
        password,
        host: parts.host.of(bytes),
        port: parts.port,
        params: parts.params.of(bytes),
        headers: parts.headers.of(bytes),
        user_span: relative(parts.user),
        host_port_span: relative(parts.host_port),
    })
    .filter(|_| !uri.is_empty())
}

/// Parts of a URI, as offsets into the datagram.
#[derive(Clone, Copy)]
pub(super) struct Parts {
    pub(super) scheme: Scheme,
    /// User and password.
    user: Span,
    host: Span,
    port: Option<u16>,
    host_port: Span,
    params: Span,
    pub(super) headers: Span,
}

impl Scheme {
    const fn has_host(self) -> bool {
        matches!(self, Self::Sip | Self::Sips)
    }
}

const SIP: AnyCase = AnyCase::new(b"sip:");
const SIPS: AnyCase = AnyCase::new(b"sips:");
const TEL: AnyCase = AnyCase::new(b"tel:");
const URN: AnyCase = AnyCase::new(b"urn:");

/// The scheme at `at` and the offset behind its colon.
#[inline(always)]
fn scheme(bytes: &[u8], at: usize, end: usize) -> Option<(Scheme, usize)> {
    let word = lane::word(bytes, at);
    let (scheme, stop) = if SIP.is(word) {
        (Scheme::Sip, at + 4)
    } else if SIPS.is(word) {
        (Scheme::Sips, at + 5)
    } else if TEL.is(word) {
        (Scheme::Tel, at + 4)
    } else if URN.is(word) {
        (Scheme::Urn, at + 4)
    } else {
        // RFC 3261 25.1: a letter, then letters, digits, `+`, `-` and `.`.
        let mut stop = at;
        while matches!(field::byte_at(bytes, stop, end), b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'+' | b'-' | b'.') {
            stop += 1;
        }
        let sound = field::byte_at(bytes, at, end).is_ascii_alphabetic() && field::byte_at(bytes, stop, end) == b':';
        (sound.then_some(Scheme::Other)?, stop + 1)
    };
    (stop < end).then_some((scheme, stop))
}

/// The URI at `at`, of sip, with nothing but user, host, port and parameters, and the offset behind
/// it. Whatever cannot go on ends it: it is for the caller to see whether it may.
#[inline(always)]
pub(super) fn plain(view: impl View, at: usize) -> Option<(Parts, usize)> {
    if !SIP.is(view.word(at)) {
        return None;
    }
    let at = at + 4;
    let mut user = Span::new(at, at);
    let mut host_at = at;
    let stop = lane::stop(view, at, |lane| stop(lane).or(lane.eq(b'@')))?;
    if view.byte(stop) == Some(b'@') {
        user.end = stop as u16;
        host_at = stop + 1;
    }
    let host_end = lane::stop(view, host_at, lane::plain_stop)?;
    if host_end == host_at || stop == at {
        return None;
    }
    let (mut next, mut port, mut params) = (host_end, None, Span::NONE);
    if view.byte(next) == Some(b':') {
        let (number, count) = lane::port(view, next + 1)?;
        port = Some(number);
        next += 1 + count;
    }
    let host_port = Span::new(host_at, next);
    if view.byte(next) == Some(b';') {
        let stop = lane::stop(view, next, |lane| self::stop(lane).or(lane.plus(1).with(1).eq(b'A')))?;
        params = Span::new(next + 1, stop);
        next = stop;
    }
    let host = Span::new(host_at, host_end);
    Some((Parts { scheme: Scheme::Sip, user, host, port, host_port, params, headers: Span::NONE }, next))
}

/// Takes the URI at `span` apart.
#[inline(always)]
pub(super) fn parse_at(bytes: &[u8], span: Span) -> Option<Parts> {
    match plain(bytes, span.start.into()) {
        Some((parts, stop)) if stop == span.end as usize => Some(parts),
        _ => odd_parts(bytes, span),
    }
}

#[inline(never)]
fn odd_parts(bytes: &[u8], span: Span) -> Option<Parts> {
    let (at, end) = (span.start as usize, span.end as usize);
    let (scheme, at) = scheme(bytes, at, end)?;
    let stop = lane::find(bytes, at, end, |lane| unsound(lane).or(lane.eq(b'@')));
    if !scheme.has_host() {
        // `@` means nothing here, but the rest must be as sound.
        let sound = stop == end || lane::find(bytes, stop, end, unsound) == end;
        return sound.then(|| opaque(bytes, scheme, at, end));
    }
    let (user, host_at) = if stop == end {
        (Span::new(at, at), at)
    } else if stop > at && bytes.get(stop) == Some(&b'@') {
        (Span::new(at, stop), stop + 1)
    } else {
        return None;
    };
    let host_end = field::host(bytes, host_at, end);
    if host_end == host_at {
        return None;
    }
    let mut parts = Parts {
        scheme,
        user,
        host: Span::new(host_at, host_end),
        port: None,
        host_port: Span::new(host_at, host_end),
        params: Span::NONE,
        headers: Span::NONE,
    };
    if host_end == end {
        return Some(parts);
    }
    tail(bytes, host_end, end, &mut parts).then_some(parts)
}

/// As `unsound`, and `!` and what is not ASCII: where what is taken at sight stops.
#[inline(always)]
pub(super) fn stop<L: Look>(lane: L) -> L {
    lane.beyond(b'#', b'~').or(lane.with(2).eq(b'>'))
}

/// White space, control characters and what encloses URIs: never part of one.
#[inline(always)]
pub(super) fn unsound(lane: lane::Lane) -> lane::Lane {
    lane.up_to(b' ').or(lane.eq(b'"')).or(lane.with(2).eq(b'>')).or(lane.eq(0x7f))
}

/// Port, parameters and headers, which follow the host at `at`.
#[inline(always)]
fn tail(bytes: &[u8], at: usize, end: usize, parts: &mut Parts) -> bool {
    // A second `@` would let two readers see two hosts.
    let stop = lane::find(bytes, at, end, |lane| unsound(lane).or(lane.eq(b'@')).or(lane.eq(b'?')));
    let mut at = at;
    if bytes.get(at) == Some(&b':') {
        let Some((port, stop)) = field::port(bytes, at + 1, end) else { return false };
        parts.port = Some(port);
        parts.host_port.end = stop as u16;
        at = stop;
    }
    if bytes.get(at) == Some(&b';') && at < stop {
        parts.params = Span::new(at + 1, stop);
        at = stop;
    }
    if stop == end {
        return at == end;
    }
    at == stop && headers(bytes, stop, end, parts)
}

/// What follows the `?` at `at`, if it is one.
#[cold]
fn headers(bytes: &[u8], at: usize, end: usize, parts: &mut Parts) -> bool {
    let sound = lane::find(bytes, at, end, |lane| unsound(lane).or(lane.eq(b'@'))) == end;
    parts.headers = Span::new(at + 1, end);
    sound && field::byte_at(bytes, at, end) == b'?' && at + 1 < end
}

#[inline(never)]
fn opaque(bytes: &[u8], scheme: Scheme, at: usize, end: usize) -> Parts {
    let stop = if scheme == Scheme::Tel { lane::find(bytes, at, end, |lane| lane.eq(b';')) } else { end };
    Parts {
        scheme,
        user: Span::new(at, stop),
        host: Span::NONE,
        port: None,
        host_port: Span::NONE,
        params: if stop < end { Span::new(stop + 1, end) } else { Span::NONE },
        headers: Span::NONE,
    }
}

/// Takes a header value apart. None if quotes or brackets are not balanced, white space stands
/// within `<>`, a display name is neither quoted nor made of tokens, or parameters are not sound.
#[inline]
#[must_use]
pub fn name_addr(value: &[u8]) -> Option<NameAddr> {
    let end = u16::try_from(value.len()).ok()?;
    name_addr_in(value, Span { start: 0, end })
}

/// As [`name_addr`], of the value at `span` of a datagram; so are the spans in the answer.
#[inline]
#[must_use]
pub fn name_addr_in(bytes: &[u8], span: Span) -> Option<NameAddr> {
    let (at, end) = (span.start as usize, span.end as usize);
    if let Some((uri, stop)) = address::bracketed(bytes, at, end)
        && stop == end
    {
        return Some(NameAddr { display: Span::new(at, at), uri, params: Span::NONE });
    }
    odd_name_addr(bytes, at, end)
}

#[inline(never)]
fn odd_name_addr(bytes: &[u8], at: usize, end: usize) -> Option<NameAddr> {
    let start = field::skip_space(bytes, at, end);
    let (mut found, stop) = address::name_addr(bytes, start, end)?;
    let mut at = stop;
    loop {
        match field::next_param(bytes, at, end) {
            Next::Param(_, next) => at = next,
            Next::End => break,
            Next::Comma | Next::Fault => return None,
        }
    }
    if at > stop {
        let semicolon = field::skip_space(bytes, stop, end);
        found.params = Span::new(semicolon + 1, at);
    }
    Some(found)
}

/// The value of a parameter, its name in any case: None if absent, `Some(None)` if it has no value.
/// A quoted value is given with its quotes. What is no parameter ends the search.
#[must_use]
pub fn param<'a>(params: &'a [u8], name: &[u8]) -> Option<Option<&'a [u8]>> {
    let end = params.len().min(u16::MAX.into());
    let mut at = 0;
    while at < end {
        let start = field::skip_space(params, at, end);
        let stop = lane::find(params, start, end, |lane| lane.eq(b';').or(lane.eq(b'=')).or(lane.up_to(b' ')));
        let found = params.get(start..stop)?;
        let mut value = None;
        at = field::skip_space(params, stop, end);
        if field::byte_at(params, at, end) == b'=' {
            let from = field::skip_space(params, at + 1, end);
            let to = field::param_value(params, from, end)?;
            value = params.get(from..to);
            at = field::skip_space(params, to, end);
        }
        if found.eq_ignore_ascii_case(name) {
            return Some(value);
        }
        if field::byte_at(params, at, end) != b';' {
            return None;
        }
        at += 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(uri: &str) -> String {
        let mut out = [0; 64];
        let len = normalise_user_host(&parse(uri.as_bytes()).unwrap(), &mut out).unwrap();
        String::from_utf8(out[..len].to_vec()).unwrap()
    }

    #[test]
    fn a_uri_is_taken_apart() {
        let uri = parse(b"sips:al;x=1?/:pw@[2001:db8::1]:5061;transport=tcp;lr?subject=x").unwrap();
        assert_eq!((uri.scheme, uri.user, uri.password), (Scheme::Sips, Some(&b"al;x=1?/"[..]), Some(&b"pw"[..])));
        assert_eq!((uri.host, uri.port, uri.headers), (&b"[2001:db8::1]"[..], Some(5061), &b"subject=x"[..]));
        assert_eq!((uri.param(b"LR"), uri.param(b"transport")), (Some(None), Some(Some(&b"tcp"[..]))));
        assert_eq!(uri.param(b"maddr"), None);
        assert_eq!((uri.user_span.start, uri.user_span.end, uri.host_port_span.start), (5, 16, 17));
        assert_eq!(host_ip(uri.host), Some("2001:db8::1".parse().unwrap()));
        assert_eq!(parse(b"tel:+1-201;phone-context=x").unwrap().user, Some(&b"+1-201"[..]));
        assert_eq!(parse(b"urn:service:sos").unwrap().scheme, Scheme::Urn);
    }

    #[test]
    fn what_two_readers_could_read_differently_is_no_uri() {
        for uri in [
            "",
            "sip:",
            "sip:@host",
            "sip:a@",
            "sip:a@b@c",
            "sip:a b@c",
            "sip:a@b:0",
            "sip:a@b:65536",
            "sip:a@b:",
            "sip:a@b?",
            "sip:<a@b>",
            "sip:a@b;x\"y",
            "sip:a@[::1",
            "sip:a@b/c",
            ":a",
            "1x:a",
            "alice",
            "sip:a@b\x7f",
        ] {
            assert_eq!(parse(uri.as_bytes()), None, "{uri}");
        }
    }

    #[test]
    fn only_whole_addresses_are_addresses() {
        assert_eq!(host_ip(b"192.0.2.1"), Some([192, 0, 2, 1].into()));
        for host in ["192.0.2", "192.0.2.256", "192.0.2.01", "192.0.2.1.", "[192.0.2.1]", "::1", "a.b.c.d", "[::1"] {
            assert_eq!(host_ip(host.as_bytes()), None, "{host}");
        }
    }

    #[test]
    fn a_key_is_the_same_however_the_uri_is_spelt() {
        assert_eq!(key("sip:%61lice:pw@EXAMPLE.com:5070;lr"), "alice@example.com");
        assert_eq!(key("sip:a%3ab@x"), "a%3Ab@x");
        assert_eq!(key("sip:a%2541@x"), "a%2541@x");
        assert_eq!(key("sip:Example.com"), "example.com");
        assert_eq!(key("tel:+1-(201).555"), "+1201555");
        assert_eq!(normalise_user_host(&parse(b"sip:alice@example.com").unwrap(), &mut [0; 5]), None);
    }

    #[test]
    fn parameters_are_found_behind_quotes_and_folds() {
        let params = b"x=\"a;lr=1\"\r\n ; Expires\t=\r\n 60;q=0.5;lr";
        assert_eq!(param(params, b"expires"), Some(Some(&b"60"[..])));
        assert_eq!(param(params, b"lr"), Some(None));
        assert_eq!(param(params, b"a"), None);
        let found = name_addr(b" \"B, \\\"x\" <sip:b@c;lr>\t;expires=3 ; +sip.instance=\"<urn:x>\"").unwrap();
        assert_eq!(found.uri.len(), 10);
        assert_eq!(name_addr(b"<sip:a>").unwrap().params, Span::NONE);
        for value in ["\"a <sip:b>", "<sip:a", "a, b <sip:c>", "<sip:a> x", "<sip:a>;;", "*", ""] {
            assert_eq!(name_addr(value.as_bytes()), None, "{value}");
        }
    }
}
