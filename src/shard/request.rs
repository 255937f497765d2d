//! Where a request goes: checks, cookies and Routes, the side it came from, the next hop (16.3 to
//! 16.6).
//!
//! Decides and changes nothing: the course that comes out is written into the packet by `rewrite`.

use std::net::SocketAddr;

use crate::balance::{self, CookieTarget, Intent, LostDialog, NodeIx, Role, SetIx};
use crate::packet::{Egress, PeerId, PortId};
use crate::sip::{Message, Method, Scheme, Span, Uri, uri};

use super::Core;
use super::routes::may_be_cookie;
use super::select::{Chosen, NoNode, rule_of};
use super::site::Port;
use super::told::Told;
use super::verdict::{DropReason, Tally};

/// A received request and where it came from.
#[derive(Clone, Copy)]
pub(super) struct Incoming<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) message: &'a Message,
    pub(super) method: Method,
    pub(super) port: &'a Port,
    pub(super) port_id: PortId,
    pub(super) source: SocketAddr,
    /// The source as text, if it is one of IPv4.
    pub(super) told: &'a Told,
    pub(super) from_node: bool,
    /// The node that sent it.
    pub(super) node: Option<NodeIx>,
    /// Keyed hash of the Call-ID, which cookies, branches and marks share.
    pub(super) call: u64,
    /// What stands for the Call-ID where nothing is shown: in `Packet::order` and in marks.
    pub(super) order: u64,
    /// What stands for the From tag.
    pub(super) leg: u64,
    pub(super) now_ms: u64,
}

impl<'a> Incoming<'a> {
    /// The request-URI, taken apart; few decisions need it.
    pub(super) fn uri(&self) -> Result<Uri<'a>, Refusal> {
        uri::parse(self.message.uri().of(self.bytes)).ok_or(Refusal::Answer(400))
    }
}

/// Somebody that a request comes from or goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Party {
    /// A node of the plan.
    Node(NodeIx),
    /// An address of the node side that is no node's: the request's source, or where it goes.
    Trusted,
    /// Anybody at the edge.
    Client,
}

/// What becomes of the request-URI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NewUri {
    Keep,
    /// The last Route value takes its place (16.4).
    LastRoute,
    /// The next Route value takes its place, and it becomes the last one (16.6, item 6).
    StrictHop,
    /// The Contact of a client that `contact = rewrite` had put our address into.
    Restored {
        user: Span,
        original: SocketAddr,
        replaced: Span,
    },
}

/// Where a request goes and what must be changed for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Course {
    pub(super) egress: Egress,
    pub(super) from: Party,
    pub(super) to: Party,
    /// The set whose policy holds; none for what nodes send to clients.
    pub(super) set: Option<SetIx>,
    /// Values at the top of Route that were ours.
    pub(super) pops: usize,
    /// Further values of Route stand behind them.
    pub(super) more_routes: bool,
    /// Route holds nothing but values of ours, and these are its lines.
    pub(super) own_lines: Option<Span>,
    pub(super) uri: NewUri,
    /// The client was reached where a cookie said, not where Route or request-URI point.
    pub(super) by_flow: bool,
}

impl Course {
    /// Back to the sender, unchanged: what a course starts as.
    #[inline]
    pub(super) fn back(incoming: &Incoming<'_>) -> Self {
        Self {
            egress: Egress { port: incoming.port_id, peer: PeerId::NONE, to: incoming.source },
            from: Party::Client,
            to: Party::Client,
            set: None,
            pops: 0,
            more_routes: false,
            own_lines: None,
            uri: NewUri::Keep,
            by_flow: false,
        }
    }
}

/// Why a request goes nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Answered with this code; an ACK is dropped.
    Answer(u16),
    /// 503 that tells the caller to stay away for a while.
    StayAway,
    /// OPTIONS to sipring itself.
    Options,
    /// 420 with the extensions that were required.
    BadExtension,
    /// Dropped without an answer.
    Silent(DropReason),
}

impl Core {
    /// Decides where a request goes.
    #[inline]
    pub(super) fn course(&self, incoming: &Incoming<'_>, course: &mut Course) -> Result<(), Refusal> {
        self.acceptable(incoming)?;
        let Incoming { bytes, message, method, .. } = *incoming;
        let asks_us = matches!(method, Method::Options | Method::Unknown);
        if incoming.from_node || asks_us || may_be_cookie(message.uri().of(bytes)) {
            return self.searched(incoming, course);
        }
        // A client's request without a cookie of ours, or with nothing but our pair in Route.
        if message.route().is_empty() {
            has_hops(message)?;
            let set = self.rule(incoming)?;
            // By reference: what is written in pieces is not to be read at once.
            return match &self.choose(set, incoming) {
                Ok(chosen) => self.to_chosen(course, chosen),
                Err(why) => Err(refusal(*why)),
            };
        }
        let cookie = if let Some(user) = self.own_pair(incoming) {
            (course.pops, course.own_lines) = (2, Some(message.route().span()));
            let keys = &self.shared.site.cookie_keys;
            if let Some(id) = keys.node_of(user, Role::EdgeFacing, incoming.call)
                && let Some(chosen) = self.dialog_node(id)
            {
                has_hops(message)?;
                return self.to_chosen(course, &chosen);
            }
            self.genuine(incoming, user)?
        } else {
            return self.searched(incoming, course);
        };
        has_hops(message)?;
        self.inward(incoming, Some(cookie.target), course)
    }

    /// The same for everything else.
    #[inline(never)]
    fn searched(&self, incoming: &Incoming<'_>, course: &mut Course) -> Result<(), Refusal> {
        let found = self.routes(incoming)?;
        if found.strict && found.next.is_none() {
            // A strict router leaves the target in the last Route (16.4): without it there is none.
            return Err(Refusal::Answer(400));
        }
        let ends_here = found.next.is_none() && !found.strict && found.cookie.is_none();
        // What a client asks of somebody else is told by key, whatever its request-URI says.
        let may_end = incoming.from_node || matches!(incoming.method, Method::Options | Method::Unknown);
        let to_us = ends_here && may_end && self.ends_here(incoming)?;
        has_hops(incoming.message)?;
        course.pops = found.pops;
        course.more_routes = found.next.is_some();
        course.own_lines = found.own_lines;
        if found.strict {
            course.uri = NewUri::LastRoute;
        }
        if incoming.from_node {
            self.outward(incoming, &found, to_us, course)
        } else {
            self.inward(incoming, found.cookie.map(|cookie| cookie.target), course)
        }
    }

    /// Whether the request-URI is ours. What asks us ourselves is answered.
    #[inline(never)]
    fn ends_here(&self, incoming: &Incoming<'_>) -> Result<bool, Refusal> {
        let uri = incoming.uri()?;
        let to_us = (incoming.from_node || uri.user.is_none()) && self.shared.site.is_ours(uri.host, uri.port);
        if to_us && uri.user.is_none() {
            if incoming.method == Method::Options {
                return Err(Refusal::Options);
            }
            if incoming.method == Method::Unknown {
                return Err(Refusal::Answer(501));
            }
        }
        Ok(to_us)
    }

    /// The checks of 16.3 that need no routing.
    #[inline]
    fn acceptable(&self, incoming: &Incoming<'_>) -> Result<(), Refusal> {
        match incoming.message.scheme {
            Scheme::Sip | Scheme::Sips | Scheme::Tel => {}
            // Emergency calls (RFC 5031).
            Scheme::Urn if is_service(incoming.message.uri().of(incoming.bytes)) => {}
            Scheme::Urn | Scheme::Other => return Err(Refusal::Answer(416)),
        }
        // ACK and CANCEL may not carry it (8.2.2.3), and refusing them would tear the call.
        if !incoming.message.proxy_require().is_empty() && !matches!(incoming.method, Method::Ack | Method::Cancel) {
            return Err(Refusal::BadExtension);
        }
        Ok(())
    }

    /// From the edge: to a node, never anywhere else (no open relay).
    #[inline(never)]
    fn inward(
        &self,
        incoming: &Incoming<'_>,
        target: Option<CookieTarget>,
        course: &mut Course,
    ) -> Result<(), Refusal> {
        let chosen = match target {
            Some(CookieTarget::Node(id)) => match self.dialog_node(id) {
                Some(chosen) => chosen,
                None => self.lost(incoming, id)?,
            },
            Some(CookieTarget::Flow { addr, .. }) if self.state.plan.is_cluster(addr.ip()) => {
                course.to = Party::Trusted;
                course.egress = self.to_node(addr, self.state.plan.peer(addr))?;
                return Ok(());
            }
            Some(CookieTarget::Flow { .. } | CookieTarget::Nothing { .. } | CookieTarget::Contact { .. }) => {
                self.counters.tally(Tally::DialogLost);
                return Err(Refusal::Answer(481));
            }
            None => self.by_key(incoming)?,
        };
        self.to_chosen(course, &chosen)
    }

    /// Fills in the way to a node.
    #[inline(always)]
    pub(super) fn to_chosen(&self, course: &mut Course, chosen: &Chosen<'_>) -> Result<(), Refusal> {
        course.to = Party::Node(chosen.node);
        course.set = Some(chosen.set);
        course.egress = self.to_node(chosen.endpoint.addr, chosen.endpoint.peer)?;
        Ok(())
    }

    /// The way to an address of the node side: from this worker's own port.
    #[inline]
    pub(super) fn to_node(&self, to: SocketAddr, peer: PeerId) -> Result<Egress, Refusal> {
        let side = self.shared.site.node_side(to.ip()).ok_or(Refusal::Silent(DropReason::NoEgress))?;
        let own = side.worker_ports.get(usize::from(self.me.0)).filter(|_| !side.shared);
        Ok(Egress { port: own.copied().unwrap_or(side.listener), peer, to })
    }

    /// The node of a dialog's cookie, dead or alive, unless it is stopped or gone.
    #[inline(always)]
    pub(super) fn dialog_node(&self, id: balance::NodeId) -> Option<Chosen<'_>> {
        let ix = self.state.plan.by_id(id)?;
        let node = self.state.plan.node(ix).filter(|node| node.intent != Intent::Stop)?;
        Some(Chosen { node: ix, endpoint: self.endpoint_anyway(node)?, set: node.set, backup: false })
    }

    /// A dialog whose node is stopped or gone: 481, or any node of a set whose nodes share state.
    #[cold]
    pub(super) fn lost(&self, incoming: &Incoming<'_>, id: balance::NodeId) -> Result<Chosen<'_>, Refusal> {
        self.counters.tally(Tally::DialogLost);
        let plan = &self.state.plan;
        let of_node =
            plan.by_id(id).and_then(|ix| plan.node(ix)).and_then(|node| plan.sets.get(usize::from(node.set.0)));
        let set = of_node.or_else(|| self.rule(incoming).ok());
        match set.map(|set| set.policy.lost_dialog) {
            Some(LostDialog::Rehash) => self.by_key(incoming),
            Some(LostDialog::Refuse) | None => Err(Refusal::Answer(481)),
        }
    }

    /// The set of the first rule that matches; for a node's own request, where none does, its own.
    #[inline]
    fn rule(&self, incoming: &Incoming<'_>) -> Result<&balance::NodeSet, Refusal> {
        match self.ruled.get(usize::from(incoming.port_id.0)).copied().flatten().and_then(|ix| self.state.plan.set(ix))
        {
            Some(set) => Ok(set),
            None => self.first_rule(incoming),
        }
    }

    #[inline(never)]
    fn first_rule(&self, incoming: &Incoming<'_>) -> Result<&balance::NodeSet, Refusal> {
        let Incoming { method, port_id, source, .. } = *incoming;
        let uri = incoming.uri()?;
        let plan = &self.state.plan;
        let ruled = rule_of(plan, port_id, method, uri.host, source.ip()).map(|(_, set)| set);
        let own = || {
            let node = incoming.node.and_then(|ix| plan.node(ix));
            node.and_then(|node| plan.set(node.set))
        };
        ruled.or_else(own).ok_or_else(|| refusal(NoNode::NoRule))
    }

    /// The node by mark or key, of the set that the rules give.
    #[inline(never)]
    pub(super) fn by_key(&self, incoming: &Incoming<'_>) -> Result<Chosen<'_>, Refusal> {
        let set = self.rule(incoming)?;
        self.choose(set, incoming).map_err(refusal)
    }
}

#[inline]
fn has_hops(message: &Message) -> Result<(), Refusal> {
    if message.max_forwards.is_some_and(|hops| hops.value == 0) { Err(Refusal::Answer(483)) } else { Ok(()) }
}

fn refusal(why: NoNode) -> Refusal {
    match why {
        NoNode::NoRule => Refusal::Answer(403),
        NoNode::NoneAnywhere => Refusal::StayAway,
        NoNode::NoneInSet => Refusal::Answer(500),
    }
}

fn is_service(uri: &[u8]) -> bool {
    const SERVICE: &[u8] = b"urn:service:";
    uri.get(..SERVICE.len()).is_some_and(|start| start.eq_ignore_ascii_case(SERVICE))
}
