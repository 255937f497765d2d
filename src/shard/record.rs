//! Record-Route and Path: what we write so that later requests come through us and find their way.
//!
//! Two Record-Route values, one facing each side, each naming the other in a signed cookie; a Path
//! that names the flow of a phone. Decides what they say; `rewrite` places them.

use std::net::SocketAddr;

use crate::balance::{COOKIE_MAX, CookieTarget, NodeIx, PathMode, PortTag, Role};
use crate::packet::PortId;
use crate::sip::{self, Header, Lines, Scheme, Text, uri};

use super::block::Block;
use super::digits::behind;
use super::request::{Course, Incoming, NewUri, Party};
use super::rewrite::Draft;
use super::site::Texts;

const RECORD_ROUTE: &[u8; 19] = b"Record-Route: <sip:";

impl Draft<'_> {
    /// Two values: above the one that faces where the request goes, below the one that faces where
    /// it came from; each names the other side.
    #[inline(always)]
    pub(super) fn record_routes(&self, block: &mut Block) {
        let site = &self.shard.shared.site;
        let above = self.facing(self.course.to, self.course.egress.port);
        let below = self.facing(self.course.from, self.incoming.port_id);
        let (back, on) = (self.target_of_sender(), self.target_of_receiver());
        if let (Some((role, texts)), Some((other_role, other_texts))) = (above, below)
            && site.options.cookies
            && let Some([one, other]) =
                site.cookie_keys.bind(self.incoming.call).sign_two([(role, &back), (other_role, &on)])
        {
            record_route(block, texts, |room| one.write(room));
            return record_route(block, other_texts, |room| other.write(room));
        }
        self.record_long(block, above, &back);
        self.record_long(block, below, &on);
    }

    /// The role of a value that faces `party`, reached through `port`, and who is named in it.
    #[inline(always)]
    fn facing(&self, party: Party, port: PortId) -> Option<(Role, &Texts)> {
        let site = &self.shard.shared.site;
        let (role, port) = match party {
            // A stranger may have come in at a worker port, which nothing but our Via may name.
            Party::Client if site.port(port).is_some_and(|port| !port.edge) => {
                (Role::EdgeFacing, self.node_listener(port)?)
            }
            Party::Client => (Role::EdgeFacing, port),
            Party::Node(_) | Party::Trusted => (Role::NodeFacing, self.node_listener(port)?),
        };
        Some((role, site.texts(port)?))
    }

    /// A value whose cookie leads to an address, or one without a cookie.
    #[inline(never)]
    fn record_long(&self, block: &mut Block, facing: Option<(Role, &Texts)>, target: &CookieTarget) {
        let Some((role, texts)) = facing else { return };
        let site = &self.shard.shared.site;
        if !site.options.cookies {
            block.array(RECORD_ROUTE);
            return block.piece(&texts.bare_tail);
        }
        record_route(block, texts, |room| site.cookie_keys.sign(role, target, Some(self.incoming.call), room));
    }

    /// The listener of the node side of the same address family: worker ports come and go.
    fn node_listener(&self, port: PortId) -> Option<PortId> {
        self.shard.shared.site.texts(port)?.node_listener
    }

    /// Where requests of the receiver's side are to go: back to the sender.
    fn target_of_sender(&self) -> CookieTarget {
        match self.course.from {
            Party::Node(ix) => self.node_target(ix),
            Party::Trusted => {
                let addr = self.incoming.source;
                CookieTarget::Flow { listener: self.node_tag(addr), addr }
            }
            Party::Client => {
                let listener = self.incoming.port.tag;
                match self.flow_of_client() {
                    Some(addr) => CookieTarget::Flow { listener, addr },
                    None => CookieTarget::Nothing { listener },
                }
            }
        }
    }

    /// Where requests of the sender's side are to go: on to the receiver.
    fn target_of_receiver(&self) -> CookieTarget {
        let Course { egress, to, by_flow, .. } = *self.course;
        match to {
            Party::Node(ix) => self.node_target(ix),
            Party::Trusted => CookieTarget::Flow { listener: self.node_tag(egress.to), addr: egress.to },
            Party::Client => {
                let listener = self.shard.shared.site.port(egress.port).map_or(PortTag(0), |port| port.tag);
                if by_flow && !self.points_to(egress.to) {
                    CookieTarget::Flow { listener, addr: egress.to }
                } else {
                    CookieTarget::Nothing { listener }
                }
            }
        }
    }

    fn node_target(&self, ix: NodeIx) -> CookieTarget {
        match self.shard.state.plan.node(ix) {
            Some(node) => CookieTarget::Node(node.id),
            None => CookieTarget::Nothing { listener: self.incoming.port.tag },
        }
    }

    fn node_tag(&self, addr: SocketAddr) -> PortTag {
        let site = &self.shard.shared.site;
        let listener = site.node_side(addr.ip()).and_then(|side| site.port(side.listener));
        listener.map_or(PortTag(0), |port| port.tag)
    }

    /// The client's flow, if its topmost Record-Route, else its Contact, is not where the request
    /// came from.
    fn flow_of_client(&self) -> Option<SocketAddr> {
        let Incoming { bytes, message, .. } = *self.incoming;
        if self.back.straight && message.record_route().is_empty() && self.contact_is_sent_by() {
            return None;
        }
        let client = self.client();
        let (lines, header) = if message.record_route().is_empty() {
            (message.contact(), Header::Contact)
        } else {
            (message.record_route(), Header::RecordRoute)
        };
        (self.first_address(bytes, lines, header) != Some(client)).then_some(client)
    }

    /// Whether the Contact names host and port by the very text that sent-by does, told without
    /// taking it apart.
    #[inline]
    fn contact_is_sent_by(&self) -> bool {
        let Incoming { bytes, message, .. } = *self.incoming;
        let Some(uri) = message.contact().first.value.of(bytes).strip_prefix(b"<sip:") else { return false };
        // What ends a user part, or what no plain one holds.
        const STOPS: &[u8; 5] = b"@>;?,";
        let near = uri.first_chunk().and_then(|chunk| sip::first_of(chunk, STOPS));
        let Some(at) = near.or_else(|| uri.iter().position(|byte| STOPS.contains(byte))) else { return false };
        let Some((b"@", rest)) = uri.get(at..).and_then(|rest| rest.split_at_checked(1)) else { return false };
        let sent_by = message.via.sent_by.of(bytes);
        let behind = behind(rest, sent_by);
        // What else could stand behind might lead elsewhere: maddr, transport, a second `@`.
        let plain: [&[u8]; 3] = [b">", b";transport=udp>", b";ob>"];
        behind.is_some_and(|behind| plain.iter().any(|plain| behind.starts_with(plain)))
    }

    /// Where the client is reached: its source, or its Contact's port where it listens on another
    /// port than it sends from.
    pub(super) fn client(&self) -> SocketAddr {
        let Incoming { bytes, message, source, .. } = *self.incoming;
        if self.back.rport.is_some() {
            return source;
        }
        match self.first_address(bytes, message.contact(), Header::Contact) {
            Some(contact) if contact.ip() == source.ip() => contact,
            _ => SocketAddr::new(source.ip(), self.back.port),
        }
    }

    /// The literal address of the first value of a header.
    fn first_address(&self, bytes: &[u8], lines: &Lines, header: Header) -> Option<SocketAddr> {
        if lines.is_empty() {
            return None;
        }
        let value = sip::values(bytes, lines, header, &self.shard.watch).next()?;
        literal(value.span.of(bytes))
    }

    /// Whether Route, else the request-URI, leads to an address by itself.
    fn points_to(&self, to: SocketAddr) -> bool {
        let Incoming { bytes, message, .. } = *self.incoming;
        let mut routes = sip::values(bytes, message.route(), Header::Route, &self.shard.watch);
        match routes.nth(self.course.pops).filter(|_| !message.route().is_empty()) {
            Some(next) => literal(next.span.of(bytes)) == Some(to),
            None => match self.course.uri {
                NewUri::Restored { original, .. } => {
                    original.ip() == to.ip()
                        && (original.port() == to.port() || original.port() == 0 && to.port() == 5060)
                }
                NewUri::Keep | NewUri::LastRoute | NewUri::StrictHop => {
                    uri_address(message.uri().of(bytes)) == Some(to)
                }
            },
        }
    }

    pub(super) fn path(&self, text: &mut Text<'_>) {
        let Some(policy) = self.policy else { return };
        let site = &self.shard.shared.site;
        let supported = self.supports_path();
        let wanted = match policy.path {
            PathMode::Always => true,
            PathMode::Supported => supported,
            PathMode::Off => false,
        };
        let listener = site.node_side(self.course.egress.to.ip()).and_then(|side| site.port(side.listener));
        let Some(listener) = listener.filter(|_| wanted && site.options.cookies) else { return };
        let target = CookieTarget::Flow { listener: self.incoming.port.tag, addr: self.client() };
        text.str("Path: <sip:");
        let mut room = [0; COOKIE_MAX];
        let length = site.cookie_keys.sign(Role::Path, &target, None, &mut room);
        text.bytes(room.get(..length).unwrap_or_default());
        text.str("@");
        text.str(&listener.advertise);
        text.str(";lr>\r\n");
        if !supported {
            text.str("Supported: path\r\n");
        }
    }

    fn supports_path(&self) -> bool {
        let Incoming { bytes, message, .. } = *self.incoming;
        !message.supported().is_empty()
            && sip::values(bytes, message.supported(), Header::Supported, &self.shard.watch)
                .any(|value| value.span.of(bytes).eq_ignore_ascii_case(b"path"))
    }
}

/// One value, whose cookie `write` writes.
#[inline(always)]
fn record_route(block: &mut Block, texts: &Texts, write: impl FnOnce(&mut [u8; COOKIE_MAX]) -> usize) {
    block.fill::<{ RECORD_ROUTE.len() + COOKIE_MAX }>(|room| {
        let Some((name, room)) = room.split_first_chunk_mut() else { return 0 };
        *name = *RECORD_ROUTE;
        let Some(room) = room.first_chunk_mut() else { return 0 };
        RECORD_ROUTE.len() + write(room)
    });
    block.piece(&texts.tail);
}

/// The literal address in a Contact or Route value.
fn literal(value: &[u8]) -> Option<SocketAddr> {
    uri_address(uri::name_addr(value)?.uri.of(value))
}

/// The address that a URI leads to by itself; none where that takes more than host and port.
fn uri_address(text: &[u8]) -> Option<SocketAddr> {
    let uri = uri::parse(text)?;
    let udp = match uri.param(b"transport") {
        Some(transport) => transport.is_some_and(|transport| transport.eq_ignore_ascii_case(b"udp")),
        None => true,
    };
    if uri.scheme != Scheme::Sip || !udp || uri.param(b"maddr").is_some() {
        return None;
    }
    Some(SocketAddr::new(uri::host_ip(uri.host)?, uri.port.unwrap_or(5060)))
}
