//! What Route and request-URI say that is ours: values to be taken off, and the cookie that decides.
//!
//! Reads and verifies only. A cookie is obeyed from the side that its value faces and from no other,
//! since the sender chooses what it puts on top.

use crate::balance::{self, Cookie, CookieFault, Role};
use crate::packet::PortId;
use crate::sip::{self, Header, Span, Uri, Value, uri};

use super::Core;
use super::digits::{behind, find};
use super::request::{Incoming, Refusal};
use super::verdict::Tally;

/// Values at the top of Route that are looked at; more of ours than that stay in the message.
const POPS_MAX: usize = 6;

/// How a URI with a cookie begins.
const MARKED: &[u8] = b"sip:0r";
/// Length of the shortest cookie, mark included.
const COOKIE_MIN: usize = 22;

/// Length of `<sip:`.
const BEFORE_COOKIE: usize = 5;
/// Length of the cookie of a node.
const NODE_COOKIE: usize = 25;

/// What the top of Route and the request-URI say.
#[derive(Clone, Copy, Default)]
pub(super) struct Found {
    /// Route is nothing but a pair of ours, on these lines.
    pub(super) own_lines: Option<Span>,
    pub(super) pops: usize,
    pub(super) cookie: Option<Cookie>,
    /// The cookie stood in the request-URI, as a strict router leaves it.
    pub(super) strict: bool,
    /// User part behind a Contact cookie, and the part of the URI to be replaced.
    pub(super) contact: Option<(Span, Span)>,
    /// The first Route value that is not ours.
    pub(super) next: Option<Value>,
}

impl Core {
    /// Reads our own values off the top of Route, and the cookie that decides.
    pub(super) fn routes(&self, incoming: &Incoming<'_>) -> Result<Found, Refusal> {
        let mut found = Found::default();
        if may_be_cookie(incoming.message.uri().of(incoming.bytes)) {
            self.request_uri_cookie(incoming, &incoming.uri()?, &mut found)?;
        }
        if incoming.message.route().is_empty() {
            return Ok(found);
        }
        if !found.strict
            && found.cookie.is_none()
            && let Some(user) = self.own_pair(incoming)
        {
            let cookie = self.genuine(incoming, user)?;
            if matches!(cookie.role, Role::EdgeFacing | Role::NodeFacing) {
                found.cookie = Some(cookie);
                (found.pops, found.own_lines) = (2, Some(incoming.message.route().span()));
                return Ok(found);
            }
        }
        let mut pair = found.strict;
        for value in sip::values(incoming.bytes, incoming.message.route(), Header::Route, &self.watch) {
            let text = value.span.of(incoming.bytes);
            let uri = uri::name_addr(text).and_then(|address| uri::parse(address.uri.of(text)));
            if uri.is_none() && memchr::memmem::find(text, MARKED).is_some() {
                // A cookie may be in there, and would be passed over.
                return Err(Refusal::Answer(400));
            }
            let Some(own) = uri.filter(|uri| self.shared.site.is_ours(uri.host, uri.port)) else {
                found.next = Some(value);
                return Ok(found);
            };
            if found.pops >= POPS_MAX {
                return Err(Refusal::Answer(400));
            }
            if pair {
                // The other half of a Record-Route pair; what it says is for the way back.
                found.pops += 1;
                pair = false;
                continue;
            }
            let user = own.user.unwrap_or_default();
            if balance::has_mark(user) {
                if found.cookie.is_some() {
                    found.next = Some(value);
                    return Ok(found);
                }
                let cookie = self.genuine(incoming, user)?;
                pair = matches!(cookie.role, Role::EdgeFacing | Role::NodeFacing);
                found.cookie = Some(cookie);
            }
            found.pops += 1;
        }
        Ok(found)
    }

    /// Route as most phones send it: the pair that we recorded, as we wrote it, and nothing else. Its
    /// upper user part. Its lines are all of the header's.
    #[inline]
    pub(super) fn own_pair<'a>(&self, incoming: &Incoming<'a>) -> Option<&'a [u8]> {
        let (bytes, route) = (incoming.bytes, incoming.message.route());
        let first = route.first.value.of(bytes);
        let (at, rest) = self.own_value(first, incoming.port_id)?;
        let rest = if route.count == 2 && rest.is_empty() {
            let second = bytes.get(usize::from(route.first.next)..usize::from(route.end))?;
            second.strip_prefix(b"Route: ")?.strip_suffix(b"\r\n")?
        } else if route.count == 1 {
            let rest = rest.strip_prefix(b",")?;
            rest.strip_prefix(b" ").unwrap_or(rest)
        } else {
            return None;
        };
        let likely = if incoming.from_node { incoming.port_id } else { self.facing_nodes(incoming) };
        let (_, rest) = self.own_value(rest, likely)?;
        let user = first.get(BEFORE_COOKIE..at)?;
        rest.is_empty().then_some(user)
    }

    /// Takes `<sip:COOKIE@HOST;lr>` off the front, where HOST is a listener of ours as it is advertised:
    /// where the cookie ends, and what follows.
    #[inline(always)]
    fn own_value<'a>(&self, text: &'a [u8], likely: PortId) -> Option<(usize, &'a [u8])> {
        let begin = text.first_chunk::<{ BEFORE_COOKIE + COOKIE_MIN }>()?;
        let mark = u64::from_le_bytes(*begin.first_chunk()?) ^ u64::from_le_bytes(*b"<sip:0r\0");
        if mark << 8 != 0 {
            return None;
        }
        let likely_ends = [BEFORE_COOKIE + NODE_COOKIE, BEFORE_COOKIE + COOKIE_MIN];
        let at = match likely_ends.into_iter().find(|at| text.get(*at) == Some(&b'@')) {
            Some(at) => at,
            None => BEFORE_COOKIE + find(text.get(BEFORE_COOKIE..)?, b'@')?,
        };
        let rest = text.get(at..)?;
        match self.shared.site.texts(likely).and_then(|texts| behind(rest, &texts.behind_cookie)) {
            Some(rest) => Some((at, rest)),
            None => Some((at, self.behind_any(rest)?)),
        }
    }

    #[inline(never)]
    fn behind_any<'a>(&self, text: &'a [u8]) -> Option<&'a [u8]> {
        self.shared.site.recorded().find_map(|texts| behind(text, &texts.behind_cookie))
    }

    /// The listener that faces the nodes, likely the second one that a client's Route names.
    #[inline]
    fn facing_nodes(&self, incoming: &Incoming<'_>) -> PortId {
        self.shared.site.node_side(incoming.source.ip()).map_or(incoming.port_id, |side| side.listener)
    }

    /// A cookie in the request-URI: a strict router's doing, or a Contact that we rewrote.
    fn request_uri_cookie(&self, incoming: &Incoming<'_>, uri: &Uri<'_>, found: &mut Found) -> Result<(), Refusal> {
        let user = uri.user.unwrap_or_default();
        // A user may be called `0rion`; no cookie is as short as that.
        let marked = user.len() >= COOKIE_MIN && balance::has_mark(user);
        if !marked || !self.shared.site.is_ours(uri.host, uri.port) {
            return Ok(());
        }
        let length = user.iter().position(|&byte| byte == b'.').unwrap_or(user.len());
        let cookie = self.genuine(incoming, user.get(..length).unwrap_or_default())?;
        match cookie.role {
            Role::EdgeFacing | Role::NodeFacing => found.strict = true,
            Role::Contact => {
                let base = incoming.message.uri().start;
                let (whole, host) = (uri.user_span, uri.host_port_span);
                // The dot goes with the cookie; a password stays with the user.
                let rest = Span { start: whole.end.min(whole.start + length as u16 + 1), end: whole.end };
                let replaced = Span { start: whole.start, end: host.end };
                found.contact = Some((rest.offset(base), replaced.offset(base)));
            }
            Role::Path => return Err(self.refuse_cookie(Tally::CookieWrongSide)),
        }
        found.cookie = Some(cookie);
        Ok(())
    }

    /// Verifies a cookie, and that it faces the side that the request came from.
    #[inline]
    pub(super) fn genuine(&self, incoming: &Incoming<'_>, user: &[u8]) -> Result<Cookie, Refusal> {
        let cookie = self.shared.site.cookie_keys.verify(user, || incoming.call).map_err(|fault| {
            self.refuse_cookie(match fault {
                CookieFault::NoMark | CookieFault::Malformed => Tally::CookieMalformed,
                CookieFault::UnknownKey => Tally::CookieUnknownKey,
                CookieFault::BadMac => Tally::CookieBadMac,
            })
        })?;
        let faces_nodes = match cookie.role {
            Role::EdgeFacing => false,
            Role::NodeFacing | Role::Path | Role::Contact => true,
        };
        if faces_nodes == incoming.from_node { Ok(cookie) } else { Err(self.refuse_cookie(Tally::CookieWrongSide)) }
    }

    #[cold]
    fn refuse_cookie(&self, why: Tally) -> Refusal {
        self.counters.tally(why);
        Refusal::Answer(403)
    }
}

/// Whether the user part of a request-URI may bear our mark, told without taking it apart.
#[inline]
pub(super) fn may_be_cookie(uri: &[u8]) -> bool {
    let marked = |at: usize| uri.get(at..).is_some_and(balance::has_mark);
    marked(b"sip:".len()) || marked(b"sips:".len())
}
