//! Writes a course into a request: Via, Record-Route, Path, Route, Max-Forwards, source header
//! (16.6), as one edit.
//!
//! Everything that we add stands in one place, above the first header, so that little is moved.

use std::net::{IpAddr, SocketAddr};

use crate::balance::{COOKIE_MAX, ContactMode, CookieTarget, Role, SetPolicy, SourceForm, SourceHeader};
use crate::packet::{DATAGRAM_MAX, PortId};
use crate::sip::{self, Edit, EditError, Header, Message, Method, Number, Rport, Span, SpliceId, Text, uri};

use super::Core;
use super::block::Block;
use super::digits;
use super::local::{Return, way_back};
use super::plain::{Plain, VIA_GROWTH};
use super::request::{Course, Incoming, NewUri, Party, Refusal};

use super::site::ForceRport;
use super::verdict::{DropReason, Tally};
use super::via::{self, Branch};

/// Contacts of one REGISTER that `contact = rewrite` rewrites.
const CONTACTS_MAX: usize = 8;
/// Lines that pose as our source header and are removed from one request.
const FORGED_MAX: usize = 8;

/// What stands between the request and its leaving.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unwritten {
    /// The request has been here, unchanged: 482.
    Loop,
    /// The edit does not fit.
    Edit(EditError),
    /// More of something than one edit takes.
    TooMany,
}

/// Why a message whose edit failed is dropped.
pub(super) fn reason(error: EditError) -> DropReason {
    match error {
        EditError::NoHeadRoom => DropReason::NoHeadroom,
        EditError::TooManySplices | EditError::TextTooLong | EditError::Overlap => DropReason::TooManyEdits,
    }
}

/// How a request that cannot be written is answered.
pub(super) fn unwritten(why: Unwritten) -> Refusal {
    match why {
        Unwritten::Loop => Refusal::Answer(482),
        Unwritten::Edit(EditError::NoHeadRoom) => Refusal::Answer(513),
        Unwritten::TooMany
        | Unwritten::Edit(EditError::TooManySplices | EditError::TextTooLong | EditError::Overlap) => {
            Refusal::Answer(400)
        }
    }
}

/// What the texts of one request need.
pub(super) struct Draft<'a> {
    pub(super) shard: &'a Core,
    pub(super) incoming: &'a Incoming<'a>,
    pub(super) course: &'a Course,
    pub(super) policy: Option<&'a SetPolicy>,
    pub(super) back: &'a Return,
    /// The port that the other side sees: sent-by names it.
    sent_by: PortId,
    branch: Branch,
}

impl Core {
    /// Gathers the edit of a request that follows `course`.
    pub(super) fn write(
        &self,
        edit: &mut Edit,
        block: &mut Block,
        incoming: &Incoming<'_>,
        course: &Course,
        head_room: usize,
    ) -> Result<Written, Unwritten> {
        let policy = if incoming.from_node { ForceRport::Never } else { incoming.port.force_rport };
        let back = way_back(incoming.bytes, incoming.message, incoming.source, incoming.told.quad(), policy);
        let draft = self.draft(incoming, course, &back);
        let (message, key) = (incoming.message, &self.shared.site.secrets.via_tag);
        if via::looped(incoming.bytes, message, draft.branch.l, key) {
            return Err(Unwritten::Loop);
        }
        let pad = draft.top(block);
        let added = block.added().ok_or(Unwritten::Edit(EditError::TextTooLong))?;
        if let Some(plain) = draft.plain()
            && added.len() + VIA_GROWTH <= head_room
            && incoming.bytes.len() + added.len() + VIA_GROWTH <= DATAGRAM_MAX
        {
            return Ok(Written::Plain(plain, pad));
        }
        draft.gather(edit, added).map(|top| Written::Edit(top, pad))
    }

    #[inline]
    fn draft<'a>(&'a self, incoming: &'a Incoming<'a>, course: &'a Course, back: &'a Return) -> Draft<'a> {
        let Incoming { bytes, message, call, leg, .. } = *incoming;
        let site = &self.shared.site;
        let uri = final_uri(self, incoming, course);
        let slot = self.slot_of(bytes, message);
        if site.owner(slot) != self.me {
            self.counters.tally(Tally::NotOwner);
        }
        let sent_by = match (course.to, site.node_side(course.egress.to.ip())) {
            (Party::Node(_) | Party::Trusted, Some(side)) => side.via_port(slot),
            _ => course.egress.port,
        };
        let seed = if incoming.from_node { !call } else { call };
        let branch = Branch {
            slot,
            arrived: incoming.port.tag,
            l: via::loop_mark(bytes, message, uri, course.more_routes.then_some(course.pops), (seed, leg), &self.watch),
            h: via::identity(bytes, message, call, &site.secrets),
        };
        let policy = course.set.and_then(|set| self.state.plan.set(set)).map(|set| &set.policy);
        Draft { shard: self, incoming, course, policy, back, sent_by, branch }
    }
}

/// The request-URI as the next hop will see it, for loop detection.
fn final_uri<'a>(shard: &Core, incoming: &Incoming<'a>, course: &Course) -> &'a [u8] {
    if course.uri == NewUri::LastRoute {
        let values = sip::values(incoming.bytes, incoming.message.route(), Header::Route, &shard.watch);
        if let Some(last) = values.skip(course.pops).last() {
            return last.span.of(incoming.bytes);
        }
    }
    incoming.message.uri().of(incoming.bytes)
}

/// What became of a course: the change that the packet gets, and the offset within the block where
/// filler may go.
pub(super) enum Written {
    /// Nearly always.
    Plain(Plain, u16),
    /// Gathered in the edit, with the block by this splice.
    Edit(SpliceId, u16),
}

impl Draft<'_> {
    /// Gathers everything in the edit.
    #[inline(never)]
    fn gather(&self, edit: &mut Edit, added: &[u8]) -> Result<SpliceId, Unwritten> {
        edit.clear();
        self.request_line(edit)?;
        let top = edit.insert(self.incoming.message.first_header, |text| text.bytes(added));
        self.via_below(edit);
        self.max_forwards(edit);
        self.forged(edit)?;
        if self.incoming.method == Method::Register && !self.incoming.from_node {
            self.contacts(edit)?;
        }
        Ok(top)
    }

    /// Everything above the first header; the offset within it where our Via may be padded.
    fn top(&self, block: &mut Block) -> u16 {
        let message = self.incoming.message;
        block.begin(self.incoming.bytes, message.first_header.into());
        let pad = self.via(block);
        if self.incoming.method.forms_dialog() {
            self.record_routes(block);
        }
        if self.incoming.message.max_forwards.is_none() {
            block.array(b"Max-Forwards: 70\r\n");
        }
        if !self.incoming.from_node {
            if self.incoming.method == Method::Register {
                block.write(|text| self.path(text));
            }
            let header = self.policy.and_then(|policy| policy.source_header.as_ref());
            if let Some(header) = header.filter(|_| self.incoming.message.to.tag.is_empty()) {
                block.write(|text| self.source_header(text, header));
            }
        }
        pad
    }

    #[inline]
    fn via(&self, block: &mut Block) -> u16 {
        let site = &self.shard.shared.site;
        if let Some(texts) = site.texts(self.sent_by) {
            block.piece(&texts.via_head);
        }
        block.array(&self.branch.text(&site.secrets.via_tag));
        block.array(b";rport\r\n");
        block.len() as u16 - 2
    }

    fn source_header(&self, text: &mut Text<'_>, header: &SourceHeader) {
        text.str(&header.name);
        text.str(": ");
        match header.form {
            SourceForm::Address => text.ip(self.incoming.source.ip()),
            SourceForm::Full => {
                text.addr(self.incoming.source);
                text.str(";listener=");
                text.str(&self.incoming.port.name);
            }
        }
        text.str("\r\n");
    }

    /// `received` and `rport` of the sender's Via (18.2.1, RFC 3581).
    fn via_below(&self, edit: &mut Edit) {
        let via = &self.incoming.message.via;
        let mut at_end = self.back.received;
        if at_end && !via.received.is_empty() {
            edit.splice(via.received, |text| self.address(text));
            at_end = false;
        }
        let mut port_at_end = self.back.rport;
        if let Some(port) = self.back.rport {
            match via.rport {
                Rport::Asked { at } => {
                    edit.insert(at, |text| {
                        text.byte(b'=');
                        self.port(text, port);
                    });
                    port_at_end = None;
                }
                Rport::Value { span, .. } => {
                    edit.splice(span, |text| self.port(text, port));
                    port_at_end = None;
                }
                Rport::Absent => {}
            }
        }
        if at_end || port_at_end.is_some() {
            edit.insert(via.value.end, |text| {
                if at_end {
                    text.str(";received=");
                    self.address(text);
                }
                if let Some(port) = port_at_end {
                    text.str(";rport=");
                    self.port(text, port);
                }
            });
        }
    }

    #[inline]
    fn port(&self, text: &mut Text<'_>, port: u16) {
        let (digits, len) = digits::port(port);
        text.bytes(digits.get(..len).unwrap_or_default());
    }

    /// The source address, without brackets.
    #[inline]
    fn address(&self, text: &mut Text<'_>) {
        match self.incoming.source.ip() {
            IpAddr::V4(_) => text.bytes(self.incoming.told.quad().text()),
            ip @ IpAddr::V6(_) => text.ip(ip),
        }
    }

    #[inline]
    fn max_forwards(&self, edit: &mut Edit) {
        if let Some(hops) = self.incoming.message.max_forwards
            && !lowers_in_place(hops)
        {
            let left = u64::from(hops.value.saturating_sub(1));
            edit.splice(hops.span, |text| text.number(left));
        }
    }

    /// Whether anything poses as our source header.
    #[inline]
    pub(super) fn bears_forged(&self) -> bool {
        let forged = |place: usize| self.incoming.message.watched().get(place).is_some_and(|lines| !lines.is_empty());
        !self.incoming.from_node && (0..self.shard.source_headers).any(forged)
    }

    /// Removes what poses as our source header.
    fn forged(&self, edit: &mut Edit) -> Result<(), Unwritten> {
        let shard = self.shard;
        if !self.bears_forged() {
            return Ok(());
        }
        let Incoming { bytes, message, .. } = *self.incoming;
        let names = shard.watched.get(..shard.source_headers).unwrap_or_default();
        let mut removed = 0;
        for header in sip::headers(bytes, message) {
            let name = header.name.of(bytes);
            if names.iter().any(|own| name.eq_ignore_ascii_case(own.as_bytes())) {
                removed += 1;
                if removed > FORGED_MAX {
                    return Err(Unwritten::TooMany);
                }
                edit.remove(Span { start: header.line.start, end: header.line.next });
                shard.counters.tally(Tally::SourceForged);
            }
        }
        Ok(())
    }

    /// `contact = rewrite`: the node reaches the client through a Contact that is ours.
    fn contacts(&self, edit: &mut Edit) -> Result<(), Unwritten> {
        let site = &self.shard.shared.site;
        let Incoming { bytes, message, .. } = *self.incoming;
        let wanted = self.policy.is_some_and(|policy| policy.contact == ContactMode::Rewrite);
        if !wanted || message.contact().is_empty() || !site.options.cookies {
            return Ok(());
        }
        let listener = site.node_side(self.course.egress.to.ip()).and_then(|side| site.port(side.listener));
        let Some(listener) = listener else { return Ok(()) };
        let client = self.client();
        let values = sip::values(bytes, message.contact(), Header::Contact, &self.shard.watch);
        for (place, value) in values.enumerate() {
            if place >= CONTACTS_MAX {
                return Err(Unwritten::TooMany);
            }
            let text = value.span.of(bytes);
            let Some(address) = uri::name_addr(text) else { continue };
            let Some(contact) = uri::parse(address.uri.of(text)) else { continue };
            let Some(ip) = uri::host_ip(contact.host) else {
                self.shard.counters.tally(Tally::ContactByName);
                continue;
            };
            // Port 0 stands for none: the phone must find its own Contact again, letter by letter.
            let original = SocketAddr::new(ip, contact.port.unwrap_or(0));
            let target = CookieTarget::Contact {
                flow: (self.incoming.port.tag, client),
                original: (original != client).then_some(original),
            };
            let base = value.span.start + address.uri.start;
            let start = if contact.user.is_some() { contact.user_span.start } else { contact.host_port_span.start };
            let user = contact.user.map(|_| contact.user_span.offset(base));
            let mut room = [0; COOKIE_MAX];
            let length = site.cookie_keys.sign(Role::Contact, &target, None, &mut room);
            edit.splice(Span { start, end: contact.host_port_span.end }.offset(base), |text| {
                text.bytes(room.get(..length).unwrap_or_default());
                if let Some(user) = user {
                    text.str(".");
                    text.bytes(user.of(bytes));
                }
                text.str("@");
                text.str(&listener.advertise);
            });
        }
        Ok(())
    }
}

/// Whether a number has as many digits when it is one less.
#[inline]
pub(super) fn lowers_in_place(hops: Number) -> bool {
    (1..=255).contains(&hops.value) && !matches!(hops.value, 10 | 100)
}

/// Takes one off Max-Forwards where that changes its digits only; the edit does the rest.
#[inline]
pub(super) fn lower_hops(bytes: &mut [u8], message: &Message) {
    let Some(hops) = message.max_forwards.filter(|hops| lowers_in_place(*hops)) else { return };
    let digits = bytes.get_mut(usize::from(hops.span.start)..usize::from(hops.span.end)).unwrap_or_default();
    let Some((last, above)) = digits.split_last_mut() else { return };
    if *last > b'0' {
        *last -= 1;
        return;
    }
    *last = b'9';
    for digit in above.iter_mut().rev() {
        if *digit > b'0' {
            *digit -= 1;
            return;
        }
        *digit = b'9';
    }
}
