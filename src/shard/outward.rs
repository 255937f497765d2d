//! Where a request from a node goes: to the client that a cookie names, else where Route or
//! request-URI point (16.5, 16.6).
//!
//! Looks names up in the table that control keeps, and asks for those that it lacks.

use std::net::{IpAddr, SocketAddr};

use crate::balance::{CookieTarget, PortTag};
use crate::packet::{Egress, PeerId, PortId};
use crate::sip::{self, Header, Scheme, Uri, uri};

use super::Core;
use super::names::{HostName, Lookup};
use super::request::{Course, Incoming, NewUri, Party, Refusal};
use super::routes::Found;
use super::verdict::{DropReason, Tally};

impl Core {
    /// From a node: to the client that a cookie names, else where Route or request-URI point.
    pub(super) fn outward(
        &self,
        incoming: &Incoming<'_>,
        found: &Found,
        to_us: bool,
        course: &mut Course,
    ) -> Result<(), Refusal> {
        course.from = self.sender(incoming);
        let target = found.cookie.map(|cookie| cookie.target);
        if to_us && target.is_none() {
            let chosen = self.by_key(incoming)?;
            self.to_chosen(course, &chosen)?;
            return not_back(course, incoming);
        }
        let listener = match target {
            Some(CookieTarget::Node(id)) => {
                let chosen = self.dialog_node(id).map_or_else(|| self.lost(incoming, id), Ok)?;
                self.to_chosen(course, &chosen)?;
                return not_back(course, incoming);
            }
            Some(CookieTarget::Flow { listener, addr }) => {
                self.to_flow(course, listener, addr)?;
                return not_back(course, incoming);
            }
            Some(CookieTarget::Contact { flow: (listener, addr), original }) => {
                if let Some((user, replaced)) = found.contact {
                    course.uri = NewUri::Restored { user, original: original.unwrap_or(addr), replaced };
                }
                self.to_flow(course, listener, addr)?;
                return not_back(course, incoming);
            }
            Some(CookieTarget::Nothing { listener }) => Some(listener),
            None => None,
        };
        let to = self.next_hop(incoming, found, course)?;
        if self.shared.site.holds(to) {
            // It comes back to us: by key, as if it had; inside a dialog that leads nowhere.
            if !incoming.message.to.tag.is_empty() {
                return Err(Refusal::Answer(481));
            }
            let chosen = self.by_key(incoming)?;
            self.to_chosen(course, &chosen)?;
            return not_back(course, incoming);
        }
        self.towards(course, listener, to)?;
        not_back(course, incoming)
    }

    /// Who sent this.
    fn sender(&self, incoming: &Incoming<'_>) -> Party {
        match incoming.node {
            Some(ix) => Party::Node(ix),
            None => Party::Trusted,
        }
    }

    /// The address that Route, else the request-URI, points to.
    fn next_hop(&self, incoming: &Incoming<'_>, found: &Found, course: &mut Course) -> Result<SocketAddr, Refusal> {
        if let Some(next) = found.next {
            let text = next.span.of(incoming.bytes);
            let route = uri::name_addr(text).and_then(|address| uri::parse(address.uri.of(text)));
            let route = route.ok_or(Refusal::Answer(400))?;
            let last = found.strict
                && sip::values(incoming.bytes, incoming.message.route(), Header::Route, &self.watch)
                    .nth(found.pops + 1)
                    .is_none();
            if !last && route.param(b"lr").is_none() && course.uri == NewUri::Keep {
                course.uri = NewUri::StrictHop;
            }
            return self.address(&route);
        }
        self.address(&incoming.uri()?)
    }

    /// The address of a URI: literal, or by the table of names.
    fn address(&self, uri: &Uri<'_>) -> Result<SocketAddr, Refusal> {
        match uri.scheme {
            Scheme::Sip => {}
            Scheme::Sips => return Err(Refusal::Answer(480)),
            Scheme::Tel | Scheme::Urn | Scheme::Other => return Err(Refusal::Answer(416)),
        }
        if let Some(Some(transport)) = uri.param(b"transport")
            && !transport.eq_ignore_ascii_case(b"udp")
        {
            return Err(Refusal::Answer(480));
        }
        let host = uri.param(b"maddr").flatten().unwrap_or(uri.host);
        let port = uri.port.unwrap_or(5060);
        if let Some(ip) = uri::host_ip(host) {
            return Ok(SocketAddr::new(ip, port));
        }
        let name = HostName::new(host).ok_or(Refusal::Answer(400))?;
        let any = |ip| self.shared.site.first_edge(ip).is_some() || self.shared.site.node_side(ip).is_some();
        let (v4, v6) = (any(IpAddr::from([0; 4])), any(IpAddr::from([0; 16])));
        match self.state.names.find(&name, v4, v6) {
            Lookup::Found(ip) => return Ok(SocketAddr::new(ip, port)),
            Lookup::Nowhere => return Err(Refusal::Answer(500)),
            Lookup::Unknown => {}
        }
        let asked = self.shared.asks.ask(name);
        self.counters.tally(if asked { Tally::NameAsked } else { Tally::NameAskLost });
        Err(Refusal::Silent(DropReason::NameUnresolved))
    }

    /// Fills in the way to an address that a node named.
    fn towards(&self, course: &mut Course, listener: Option<PortTag>, to: SocketAddr) -> Result<(), Refusal> {
        let plan = &self.state.plan;
        let peer = plan.peer(to);
        if peer != PeerId::NONE || plan.trusted.iter().any(|net| net.contains(&to.ip())) {
            course.to = plan.from_addr(to).filter(|_| peer != PeerId::NONE).map_or(Party::Trusted, Party::Node);
            course.egress = self.to_node(to, peer)?;
            return Ok(());
        }
        let set = match course.from {
            Party::Node(ix) => plan.node(ix).and_then(|node| plan.sets.get(usize::from(node.set.0))),
            Party::Trusted | Party::Client => None,
        };
        let fits = |port: &PortId| {
            let site = &self.shared.site;
            site.port(*port).is_some_and(|port| port.edge && port.local.bind.is_ipv4() == to.is_ipv4())
        };
        let port = listener
            .and_then(|tag| self.shared.site.by_tag(tag))
            .filter(fits)
            .or_else(|| set.and_then(|set| set.policy.egress).filter(fits))
            .or_else(|| self.shared.site.first_edge(to.ip()))
            .ok_or(Refusal::Silent(DropReason::NoEgress))?;
        course.egress = Egress { port, peer: PeerId::NONE, to };
        Ok(())
    }

    /// Fills in the way to a client's flow.
    fn to_flow(&self, course: &mut Course, listener: PortTag, addr: SocketAddr) -> Result<(), Refusal> {
        let site = &self.shared.site;
        let port = site
            .by_tag(listener)
            .filter(|port| site.port(*port).is_some_and(|port| port.local.bind.is_ipv4() == addr.is_ipv4()))
            .or_else(|| site.first_edge(addr.ip()))
            .ok_or(Refusal::Silent(DropReason::NoEgress))?;
        course.by_flow = true;
        if site.port(port).is_some_and(|port| port.edge) {
            course.egress = Egress { port, peer: PeerId::NONE, to: addr };
        } else {
            course.to = Party::Trusted;
            course.egress = self.to_node(addr, self.state.plan.peer(addr))?;
        }
        Ok(())
    }
}

/// Never back to where it came from.
fn not_back(course: &Course, incoming: &Incoming<'_>) -> Result<(), Refusal> {
    if course.egress.to != incoming.source {
        return Ok(());
    }
    Err(Refusal::Answer(if incoming.message.to.tag.is_empty() { 404 } else { 481 }))
}
