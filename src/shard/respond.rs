//! Responses on their way home (16.7): our Via off, to where the Via below says.
//!
//! Nothing is remembered for a response: the branch names the port that the request came in at, the
//! next Via the address.

use std::net::{SocketAddr, SocketAddrV4};

use crate::balance::{CookieTarget, NodeIx, Role};
use crate::packet::{Egress, Packet, PeerId, PortId};
use crate::sip::{self, Edit, EditError, Fault, Header, Message, Rport, Span, Text, Via, uri};

use super::Core;
use super::digits::{AHEAD, last_of, number_at_end, quad_of, same};
use super::homes::{Homes, Tail};
use super::verdict::{DropReason, Tally, Verdict};
use super::via::{Branch, Reading, leg};

/// Contacts of one response that are given their own address back; one edit holds no more.
const CONTACTS_MAX: usize = 12;
/// Retry-After lines that are removed from one response.
const RETRY_AFTERS_MAX: usize = 2;

impl Core {
    /// Decides on a response and edits it.
    pub(super) fn response(
        &self,
        edit: &mut Edit,
        homes: &mut Homes,
        now_ms: u64,
        packet: &mut Packet,
        message: &Message,
    ) -> Verdict {
        match message.fault {
            Some(Fault::NotSip) => return Verdict::Drop(DropReason::NotSip),
            Some(_) => return Verdict::Drop(DropReason::Malformed),
            None => {}
        }
        let sender = self.node_side(packet);
        let from_node = sender.is_some();
        self.counters.tally(if from_node { Tally::NodeResponse } else { Tally::EdgeResponse });
        let bytes = packet.bytes();
        let site = &self.shared.site;
        let branch = match Branch::read(message.via.branch.of(bytes), &site.secrets.via_tag) {
            Reading::Foreign => return Verdict::Drop(DropReason::ForeignVia),
            Reading::Forged => return Verdict::Drop(DropReason::BadBranch),
            Reading::Own(branch) => branch,
        };
        if !self.is_own_via(packet, message, branch.slot) {
            return Verdict::Drop(DropReason::ForeignVia);
        }
        if let Some(owner) = self.elsewhere(branch.slot, packet) {
            return Verdict::Handoff(owner);
        }
        let Some((own, to)) = self.way_home(homes, bytes, message) else {
            return Verdict::Drop(DropReason::NoReturnVia);
        };
        let port = site.by_tag(branch.arrived).or_else(|| site.first_edge(to.ip()));
        let Some(port) = port else { return Verdict::Drop(DropReason::NoEgress) };
        if !site.held_by(port, self.me)
            && let Some(holder) = site.holder(port)
            && !packet.handed
        {
            return Verdict::Handoff(holder);
        }
        // A client knows the branch of the request it got, and could write any Via below it.
        if !from_node && !self.state.plan.is_cluster(to.ip()) {
            return Verdict::Drop(DropReason::ResponseOutside);
        }
        let code = message.code().unwrap_or_default();
        let order = self.order(bytes, message);
        if let Some(sender) = sender {
            let line = self.testimony.line(sender.peer);
            if let Some(line) = line {
                line.response(code);
            }
            let method = message.cseq.method.of(bytes);
            if code >= 200 && leaves_mark(method) {
                // A node sends a final response again until it is acknowledged: that is one call still.
                let first = self.settle(now_ms, sender.node, order, leg(bytes, message));
                match line.filter(|_| first && method == b"INVITE") {
                    Some(line) if code == 503 => line.call_refused(now_ms, retry_after_s(bytes, message)),
                    Some(line) => line.call_answered(),
                    None => {}
                }
            }
        }
        // One bind may serve both sides; then the address decides.
        let to_edge = self.shared.site.port(port).is_some_and(|port| port.edge)
            && !(self.shared.site.port(port).is_some_and(|port| port.node) && self.state.plan.is_cluster(to.ip()));
        let masked = code == 503 && !self.relays_503(sender.and_then(|sender| sender.node));
        let restored = !message.contact().is_empty() && message.cseq.method.of(bytes) == b"REGISTER";
        packet.order = order;
        packet.truncate(usize::from(message.end));
        if from_node && to_edge && (masked || restored) {
            if let Err(error) = self.change(edit, packet, message, own, (masked, restored)) {
                return Verdict::Drop(super::rewrite::reason(error));
            }
        } else if !packet.cut_out(usize::from(own.start), own.len()) {
            return Verdict::Drop(DropReason::TooManyEdits);
        }
        let peer = if to_edge && from_node { PeerId::NONE } else { self.state.plan.peer(to) };
        Verdict::Forward(Egress { port, peer, to })
    }

    /// A response that changes by more than our Via.
    #[cold]
    #[inline(never)]
    fn change(
        &self,
        edit: &mut Edit,
        packet: &mut Packet,
        message: &Message,
        own: Span,
        (masked, restored): (bool, bool),
    ) -> Result<(), EditError> {
        edit.clear();
        edit.remove(own);
        if masked {
            mask_503(edit, packet.bytes(), message);
        }
        if restored {
            self.restore_contacts(edit, packet.bytes(), message);
        }
        edit.apply(packet).map(|_| ())
    }

    /// Whether sent-by of the top Via is ours: as written by us, else by any name of ours.
    #[inline]
    fn is_own_via(&self, packet: &Packet, message: &Message, slot: u16) -> bool {
        let (site, bytes) = (&self.shared.site, packet.bytes());
        let sent_by = message.via.sent_by.of(bytes);
        let named = |port: PortId| site.texts(port).is_some_and(|own| same(&own.advertise, sent_by));
        site.node_side(packet.source.ip()).is_some_and(|side| named(side.via_port(slot)))
            || named(packet.port)
            || site.is_ours(message.via.host.of(bytes), message.via.port)
    }

    /// What is to be removed with our Via, and where the Via below sends the response.
    #[inline]
    fn way_home(&self, homes: &mut Homes, bytes: &[u8], message: &Message) -> Option<(Span, SocketAddr)> {
        let line = message.via.line;
        if !message.via.shares_line
            && message.vias.count == 2
            && let Some(to) = plain_home(homes, bytes, Span { start: line.next, end: message.vias.end })
        {
            return Some((Span { start: line.start, end: line.next }, to));
        }
        let (own, next) = self.own_and_next(bytes, message)?;
        Some((own, sip::via(bytes, next).and_then(|via| home(bytes, &via))?))
    }

    /// What is to be removed with our Via, and the value below it.
    #[inline(never)]
    fn own_and_next(&self, bytes: &[u8], message: &Message) -> Option<(Span, Span)> {
        let line = message.via.line;
        if !message.via.shares_line
            && let Some(next) = plain_via(bytes, usize::from(line.next))
        {
            return Some((Span { start: line.start, end: line.next }, next));
        }
        let mut vias = sip::values(bytes, &message.vias, Header::Via, &self.watch);
        let (own, next) = (vias.next()?, vias.next()?);
        let removed = if own.last_in_line {
            Span { start: own.line.start, end: own.line.next }
        } else {
            Span { start: own.span.start, end: next.span.start }
        };
        Some((removed, next.span))
    }

    /// The final response has passed: the mark of its request ends in 32 s. False if it had passed before.
    #[inline(always)]
    fn settle(&self, now_ms: u64, node: Option<NodeIx>, order: u64, leg: u64) -> bool {
        let plan = &self.state.plan;
        let settle = |set| self.shared.marks.settle(self.mark_hash(set, order, leg), now_ms);
        match node.and_then(|ix| plan.node(ix)).and_then(|node| plan.set(node.set)) {
            Some(set) if plan.sets.len() == 1 => settle(set),
            // Nodes of several sets may share an address, or one may answer from another port.
            Some(_) | None => plan.sets.iter().fold(false, |first, set| settle(set) | first),
        }
    }

    fn relays_503(&self, node: Option<NodeIx>) -> bool {
        let plan = &self.state.plan;
        let node = node.and_then(|ix| plan.node(ix));
        node.and_then(|node| plan.sets.get(usize::from(node.set.0))).is_some_and(|set| set.policy.relay_503)
    }

    /// Gives registered Contacts the addresses back that `contact = rewrite` took from them.
    #[cold]
    fn restore_contacts(&self, edit: &mut Edit, bytes: &[u8], message: &Message) {
        let site = &self.shared.site;
        for value in sip::values(bytes, message.contact(), Header::Contact, &self.watch).take(CONTACTS_MAX) {
            let text = value.span.of(bytes);
            let Some(address) = uri::name_addr(text) else { continue };
            let Some(contact) = uri::parse(address.uri.of(text)) else { continue };
            let user = contact.user_span.of(address.uri.of(text));
            let (cookie, rest) = match user.iter().position(|&byte| byte == b'.') {
                Some(dot) => (user.get(..dot).unwrap_or_default(), user.get(dot + 1..).unwrap_or_default()),
                None => (user, &b""[..]),
            };
            let Ok(cookie) = site.cookie_keys.verify(cookie, || 0) else { continue };
            let (Role::Contact, CookieTarget::Contact { flow: (_, flow), original }) = (cookie.role, cookie.target)
            else {
                continue;
            };
            let base = value.span.start + address.uri.start;
            let replaced = Span { start: contact.user_span.start, end: contact.host_port_span.end }.offset(base);
            edit.splice(replaced, |text| {
                if !rest.is_empty() {
                    text.bytes(rest);
                    text.str("@");
                }
                written(text, original.unwrap_or(flow));
            });
        }
    }
}

/// Whether a request of this method may have left a mark that its final response settles: those that
/// belong to another request or to a dialog leave none.
#[inline(always)]
fn leaves_mark(method: &[u8]) -> bool {
    !matches!(method, b"BYE" | b"CANCEL" | b"ACK" | b"PRACK" | b"INFO" | b"UPDATE")
}

/// An address as a Contact had it: port 0 stands for none.
pub(super) fn written(text: &mut Text<'_>, addr: SocketAddr) {
    if addr.port() == 0 { text.host(addr.ip()) } else { text.addr(addr) }
}

/// A node's 503 would tell the caller to leave all of us alone (21.5.4): it leaves as 500,
/// without Retry-After.
#[cold]
fn mask_503(edit: &mut Edit, bytes: &[u8], message: &Message) {
    let line = Span { start: 0, end: message.first_header };
    edit.splice(line, |text| text.str("SIP/2.0 500 Server Internal Error\r\n"));
    let named =
        sip::headers(bytes, message).filter(|header| header.name.of(bytes).eq_ignore_ascii_case(b"Retry-After"));
    for header in named.take(RETRY_AFTERS_MAX) {
        edit.remove(Span { start: header.line.start, end: header.line.next });
    }
}

/// Seconds that a 503 asks to be left alone for (20.33); none if it does not say.
#[cold]
fn retry_after_s(bytes: &[u8], message: &Message) -> Option<u32> {
    let named =
        sip::headers(bytes, message).find(|header| header.name.of(bytes).eq_ignore_ascii_case(b"Retry-After"))?;
    let digits = named.line.value.of(bytes).iter().take_while(|byte| byte.is_ascii_digit());
    let add = |sum: Option<u32>, digit: &u8| {
        Some(sum.unwrap_or(0).saturating_mul(10).saturating_add(u32::from(digit - b'0')))
    };
    digits.fold(None, add)
}

/// The Via that stands on the line at `at`, if it is written as most write it: alone, not folded.
#[inline]
fn plain_via(bytes: &[u8], at: usize) -> Option<Span> {
    let value = bytes.get(at..)?.strip_prefix(b"Via: SIP/2.0/UDP ")?;
    let length = memchr::memchr2(b'\r', b',', value)?;
    let behind = value.get(length..length + 3)?;
    let plain = behind.starts_with(b"\r\n") && !behind.ends_with(b" ") && !behind.ends_with(b"\t");
    let start = at + b"Via: ".len();
    plain.then(|| Span::new(start, start + b"SIP/2.0/UDP ".len() + length))
}

/// Where the only Via of `lines` sends a response, if it stands alone on the first of them and ends as
/// we leave the Via of a phone: `;rport=PORT;received=IP`.
#[inline(always)]
fn plain_home(homes: &mut Homes, bytes: &[u8], lines: Span) -> Option<SocketAddr> {
    let value = lines.of(bytes).strip_prefix(b"Via: SIP/2.0/UDP ")?.strip_suffix(b"\r\n")?;
    // Of several values the first counts, and quotes may hold what looks like parameters.
    if sip::holds(value, b',', b'"') {
        return None;
    }
    let tail = Tail::of(value);
    if let Some(home) = tail.and_then(|tail| homes.find(tail)) {
        return Some(home);
    }
    let home = told_home(bytes, value, lines.end)?;
    if let Some(tail) = tail {
        homes.keep(tail, home);
    }
    Some(home.into())
}

/// Where a Via leads whose `value` ends, in front of the line end at `end`, as we leave it.
#[inline(never)]
fn told_home(bytes: &[u8], value: &[u8], end: u16) -> Option<SocketAddrV4> {
    // The upper half of sixteen bytes is shorter than an address.
    let last = value.last_chunk::<16>()?;
    let len = 15 - last_of(*last.first_chunk()?, b'=')?;
    let ip = quad_of(bytes.get(usize::from(end).checked_sub(len + 2 + AHEAD)?..)?.first_chunk()?, len)?;
    let rest = value.get(..value.len() - len)?.strip_suffix(b";received=")?;
    let last = *rest.last_chunk::<8>()?;
    let digits = 7 - last_of(last, b'=')?;
    let port = number_at_end(last, (1..=5).contains(&digits).then_some(digits)?)?;
    let port = u16::try_from(port).ok()?;
    let named = rest.get(..rest.len() - digits)?.ends_with(b";rport=");
    named.then_some(SocketAddrV4::new(ip, port))
}

/// Where the Via below ours sends a response (18.2.2, RFC 3581).
fn home(bytes: &[u8], via: &Via) -> Option<SocketAddr> {
    let ip =
        if via.received.is_empty() { uri::host_ip(via.host.of(bytes))? } else { received_ip(via.received.of(bytes))? };
    let port = match via.rport {
        Rport::Value { port, .. } => port,
        Rport::Absent | Rport::Asked { .. } => via.port.unwrap_or(5060),
    };
    Some(SocketAddr::new(ip, port))
}

/// IPv6 stands here without brackets, yet some write them.
fn received_ip(text: &[u8]) -> Option<std::net::IpAddr> {
    uri::host_ip(text).or_else(|| std::str::from_utf8(text).ok()?.parse().ok())
}
