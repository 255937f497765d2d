//! Which set, which key, which node: the choice for a request that no cookie decides.
//!
//! Asks `balance` and follows marks. Reads the message, never changes it.

use std::net::{IpAddr, SocketAddr};

use crate::balance::{self, Endpoint, Intent, KeyBy, Node, NodeIx, NodeSet, Plan, Secrets, SetIx};
use crate::packet::PortId;
use crate::sip::{self, Header, Message, Method, Watch, uri};

use super::marks::Mark;
use super::request::Incoming;
use super::verdict::Tally;
use super::{Core, State};

/// Longest key that is hashed whole, bytes; what is longer falls back to the Call-ID.
const KEY_MAX: usize = 512;

/// Why a request gets no node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoNode {
    /// No rule gives it a set.
    NoRule,
    /// Nobody takes new calls: the caller had better go elsewhere for a while.
    NoneAnywhere,
    /// The set of this request takes none, another does.
    NoneInSet,
}

/// The node for a request, and how it came to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Chosen<'p> {
    pub(super) node: NodeIx,
    pub(super) endpoint: &'p Endpoint,
    pub(super) set: SetIx,
    /// It is the backup of a pair; told where a mark is left.
    pub(super) backup: bool,
}

/// What a request is spread by, as `explain` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpreadKey {
    /// What the set asks for.
    pub by: KeyBy,
    /// The message has no such thing, so its Call-ID stands in.
    pub fell_back: bool,
    /// The bytes that are hashed.
    pub value: Vec<u8>,
    /// Their hash: where the table is entered.
    pub hash: u64,
}

/// The first rule that matches, and the set that it names; `host` is the request-URI's.
#[must_use]
pub fn rule_of<'p>(
    plan: &'p Plan,
    port: PortId,
    method: Method,
    host: &[u8],
    source: IpAddr,
) -> Option<(usize, &'p NodeSet)> {
    plan.ruled(port, method as u8, host, source)
}

/// The set of every request that arrives at `port`, if the first rule that may match looks no further.
pub(super) fn set_of_port(plan: &Plan, port: PortId) -> Option<SetIx> {
    let rule = plan.rules.iter().find(|rule| rule.listener.is_none_or(|own| own == port))?;
    let plain = rule.method.is_none() && rule.host.is_none() && rule.source.is_none();
    plain.then_some(rule.set)
}

/// What the set spreads this request by, for `sipring explain`.
#[must_use]
pub fn key_of(
    set: &NodeSet,
    bytes: &[u8],
    message: &Message,
    source: SocketAddr,
    secrets: &Secrets,
    watch: &Watch,
    watched: &[String],
) -> SpreadKey {
    let mut room = [0; KEY_MAX];
    let by = set.keys.by(message.method().map_or(u8::MAX, |method| method as u8));
    let found = key(by, bytes, message, source.ip(), watch, watched, &mut room).map(<[u8]>::to_vec);
    let fell_back = found.is_none();
    let value = found.unwrap_or_else(|| message.call_id.of(bytes).to_vec());
    SpreadKey { by: by.clone(), fell_back, hash: secrets.call.hash13(&value), value }
}

/// The bytes that a request is spread by; none if it has no such thing.
fn key<'a>(
    by: &KeyBy,
    bytes: &'a [u8],
    message: &Message,
    source: IpAddr,
    watch: &Watch,
    watched: &[String],
    room: &'a mut [u8; KEY_MAX],
) -> Option<&'a [u8]> {
    let normalised = |text: &[u8], room: &'a mut [u8; KEY_MAX]| -> Option<&'a [u8]> {
        let length = uri::normalise_user_host(&uri::parse(text)?, room)?;
        room.get(..length).filter(|key| !key.is_empty())
    };
    match by {
        KeyBy::CallId => Some(replaced(bytes, message, watch).unwrap_or_else(|| message.call_id.of(bytes))),
        KeyBy::User => normalised(message.from.uri.of(bytes), room),
        KeyBy::Aor => normalised(message.to.uri.of(bytes), room),
        KeyBy::RequestUser => uri::parse(message.uri().of(bytes))?.user.filter(|user| !user.is_empty()),
        KeyBy::Source => {
            let octets = match source {
                IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
                IpAddr::V6(ip) => ip.octets(),
            };
            room.get_mut(..16)?.copy_from_slice(&octets);
            room.get(..16)
        }
        KeyBy::Header(name) => {
            let at = watched.iter().position(|own| own.eq_ignore_ascii_case(name))?;
            let line = message.watched().get(at).filter(|lines| !lines.is_empty())?;
            Some(line.first.value.of(bytes)).filter(|value| !value.is_empty() && value.len() <= KEY_MAX)
        }
    }
}

/// The Call-ID that the Replaces or Join of an INVITE names (RFC 3891, RFC 3911).
fn replaced<'a>(bytes: &'a [u8], message: &Message, watch: &Watch) -> Option<&'a [u8]> {
    if message.replaces().is_empty() && message.join().is_empty() || message.method() != Some(Method::Invite) {
        return None;
    }
    let (lines, header) = if message.replaces().is_empty() {
        (message.join(), Header::Join)
    } else {
        (message.replaces(), Header::Replaces)
    };
    let value = sip::values(bytes, lines, header, watch).next()?.span.of(bytes);
    let call = value.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii();
    (!call.is_empty()).then_some(call)
}

impl Core {
    /// The endpoint of a node that nothing is held against: its primary, up, while this worker avoids
    /// nobody. What nearly every request goes to.
    #[inline]
    fn untroubled<'p>(&self, node: &'p Node) -> Option<&'p Endpoint> {
        let first = node.endpoints.first()?.as_ref()?;
        (self.avoided.is_empty() && self.state.vitals.untroubled(first.peer)).then_some(first)
    }

    /// The endpoint of a node that this worker would send to now: alive and not avoided, else alive.
    #[inline(never)]
    pub(super) fn endpoint(&self, node: &Node) -> Option<Endpoint> {
        let living = node.living(&self.state.vitals)?;
        if !self.avoided.contains(living.addr) {
            return Some(living);
        }
        let other = node.endpoints.iter().flatten().find(|end| {
            let vitals = &self.state.vitals;
            let ready = vitals.of(end.peer) != balance::Health::Down && !vitals.stands_by(end.peer);
            ready && !self.avoided.contains(end.addr)
        });
        Some(other.copied().unwrap_or(living))
    }

    /// The endpoint that gets what belongs to a node even when it is down.
    #[inline]
    pub(super) fn endpoint_anyway<'p>(&self, node: &'p Node) -> Option<&'p Endpoint> {
        self.untroubled(node).or_else(|| self.troubled(node))
    }

    #[inline(never)]
    fn troubled<'p>(&self, node: &'p Node) -> Option<&'p Endpoint> {
        let wanted = self.endpoint(node);
        node.endpoints.iter().flatten().find(|end| wanted.is_none_or(|wanted| **end == wanted))
    }

    #[inline(never)]
    fn usable(&self, node: &Node) -> bool {
        node.intent != Intent::Stop && self.endpoint(node).is_some_and(|endpoint| !self.avoided.contains(endpoint.addr))
    }

    fn takes_new(&self, node: NodeIx) -> bool {
        self.state.plan.node(node).is_some_and(|node| {
            node.refusal(&self.state.vitals).is_none()
                && self.endpoint(node).is_some_and(|endpoint| !self.avoided.contains(endpoint.addr))
        })
    }

    /// What the marks know a request of a set by.
    #[inline]
    pub(super) fn mark_hash(&self, set: &NodeSet, order: u64, leg: u64) -> u64 {
        let salt = self.salts.get(usize::from(set.ix.0)).copied().unwrap_or_default();
        self.shared.site.secrets.marks.folded_pair(salt ^ order, leg)
    }

    /// The node for a request that no cookie decides: the marked one, else by key.
    #[inline]
    pub(super) fn choose(&self, set: &NodeSet, incoming: &Incoming<'_>) -> Result<Chosen<'_>, NoNode> {
        let Incoming { method, now_ms, order, leg, .. } = *incoming;
        let hash = self.mark_hash(set, order, leg);
        let found = self.shared.marks.found(hash, now_ms);
        if let Some(found) = &found
            && !self.may_leave(found.mark, incoming)
            && let Some(chosen) = self.follow(set, found.mark)
        {
            self.counters.tally(Tally::MarkFollowed);
            if begins(incoming) {
                let moved = found.mark.moved && !found.mark.settled;
                let mark = Mark { settled: false, moved, backup: chosen.backup, ..found.mark };
                self.shared.marks.renew(found, hash, now_ms, mark, method == Method::Invite);
            }
            return Ok(chosen);
        }
        self.anew(set, incoming, hash, found.map(|found| found.mark))
    }

    /// The node by key, where no mark leads to one.
    #[inline(never)]
    fn anew(
        &self,
        set: &NodeSet,
        incoming: &Incoming<'_>,
        hash: u64,
        mark: Option<Mark>,
    ) -> Result<Chosen<'_>, NoNode> {
        let Incoming { message, method, now_ms, .. } = *incoming;
        let by = set.keys.by(method as u8);
        let named = !message.replaces().is_empty() || !message.join().is_empty();
        let spread = if *by == KeyBy::CallId && !named { incoming.call } else { self.spread(by, incoming) };
        let begins = begins(incoming);
        // What is repeated after its final response is as good as new.
        let new = begins && mark.is_none_or(|mark| mark.settled);
        let node = self.pick(set, spread, new, incoming.node)?;
        let moved = mark.is_some_and(|mark| !mark.settled);
        if moved {
            self.counters.tally(Tally::MarkMoved);
        }
        let of = self.state.plan.node(node).ok_or(NoNode::NoneInSet)?;
        let endpoint = self.endpoint_anyway(of).ok_or(NoNode::NoneInSet)?;
        let backup = of.is_backup(*endpoint);
        let mark_of = |moved| Mark { node: of.mark, backup, moved, settled: false };
        if begins {
            self.leave(hash, now_ms, mark_of(moved), method);
        } else if mark.is_some() {
            self.leave(hash, now_ms, mark_of(true), Method::Invite);
        }
        Ok(Chosen { node, endpoint, set: set.ix, backup })
    }

    /// The hash of what a request is spread by.
    fn spread(&self, by: &KeyBy, incoming: &Incoming<'_>) -> u64 {
        let Incoming { bytes, message, source, call, .. } = *incoming;
        let mut room = [0; KEY_MAX];
        let key = key(by, bytes, message, source.ip(), &self.watch, &self.watched, &mut room);
        key.map_or(call, |key| self.shared.site.secrets.call.hash13(key))
    }

    /// The marked node, unless it is down or stopped; an ICMP error alone, which may be forged, does
    /// not tear a call. A mark that was moved once stays, dead or alive: the call would be torn again.
    #[inline]
    fn follow(&self, set: &NodeSet, mark: Mark) -> Option<Chosen<'_>> {
        let ix = self.state.plan.by_mark(mark.node)?;
        let node = self.state.plan.node(ix).filter(|node| node.set == set.ix && node.intent != Intent::Stop)?;
        let (endpoint, backup) = match self.untroubled(node) {
            Some(endpoint) if !mark.backup => (endpoint, false),
            Some(_) | None => self.follow_half(node, mark)?,
        };
        Some(Chosen { node: ix, endpoint, set: node.set, backup })
    }

    /// The half of a pair that got the request while that lives, whichever takes new calls.
    #[inline(never)]
    fn follow_half<'p>(&self, node: &'p Node, mark: Mark) -> Option<(&'p Endpoint, bool)> {
        let vitals = &self.state.vitals;
        let half = node.endpoints.get(usize::from(mark.backup)).and_then(Option::as_ref);
        let paired = node.endpoints.iter().all(Option::is_some);
        if let Some(end) = half.filter(|end| paired && vitals.of(end.peer) != balance::Health::Down) {
            return Some((end, mark.backup));
        }
        let stays = node.living(vitals).is_some() || mark.moved && !mark.settled;
        let endpoint = if stays { self.endpoint_anyway(node)? } else { return None };
        Some((endpoint, node.is_backup(*endpoint)))
    }

    /// Whether a request that only refreshes something may leave a node that is drained: a phone
    /// that registers every few seconds would keep it busy for ever. One with credentials answers
    /// that node's challenge, and an INVITE may be a retransmission.
    fn may_leave(&self, mark: Mark, incoming: &Incoming<'_>) -> bool {
        let Incoming { bytes, message, method, .. } = *incoming;
        let plan = &self.state.plan;
        let node = || plan.by_mark(mark.node).and_then(|ix| plan.node(ix));
        let refreshes = method != Method::Invite && begins(incoming);
        mark.settled
            && refreshes
            && node().is_some_and(|node| node.intent == Intent::Drain)
            && !sip::headers(bytes, message).any(|header| {
                let name = header.name.of(bytes);
                name.eq_ignore_ascii_case(b"Authorization") || name.eq_ignore_ascii_case(b"Proxy-Authorization")
            })
    }

    fn pick(&self, set: &NodeSet, spread: u64, new: bool, sender: Option<NodeIx>) -> Result<NodeIx, NoNode> {
        let plan = &self.state.plan;
        if new && self.state.draining {
            return Err(NoNode::NoneAnywhere);
        }
        // A node's own request goes to another one.
        let other = |node: NodeIx| Some(node) != sender;
        let meant = |node: NodeIx| plan.node(node).is_some_and(Node::is_meant_to_serve);
        let alive = |node: NodeIx| plan.node(node).is_some_and(|node| self.usable(node));
        let picked = if new {
            balance::pick(set, spread, |node| other(node) && self.takes_new(node))
        } else {
            balance::pick(set, spread, |node| other(node) && alive(node))
        };
        picked
            .or_else(|| {
                // Nothing but avoided or dead nodes: an error of a moment must not refuse calls, and
                // `panic = use_all` sends them even to the dead.
                let desperate = |node: NodeIx| {
                    other(node) && meant(node) && (set.policy.use_all_when_down || self.merely_avoided(node))
                };
                balance::pick(set, spread, desperate)
            })
            .ok_or_else(|| if self.takes_calls() { NoNode::NoneInSet } else { NoNode::NoneAnywhere })
    }

    fn merely_avoided(&self, node: NodeIx) -> bool {
        self.state.plan.node(node).is_some_and(|node| node.refusal(&self.state.vitals).is_none())
    }

    /// Whether any set takes new calls.
    pub(super) fn takes_calls(&self) -> bool {
        takes_calls(&self.state)
    }

    fn leave(&self, hash: u64, now_ms: u64, mark: Mark, method: Method) {
        if self.shared.marks.leave(hash, now_ms, mark, method == Method::Invite) {
            self.counters.tally(Tally::MarkEvicted);
        }
    }
}

/// Whether a request begins something, so that it leaves a mark. What belongs to a dialog does not,
/// even without To tag: nobody would settle its mark.
#[inline]
fn begins(incoming: &Incoming<'_>) -> bool {
    use Method::{Ack, Bye, Cancel, Info, Prack, Update};
    incoming.message.to.tag.is_empty() && !matches!(incoming.method, Ack | Cancel | Bye | Prack | Info | Update)
}

fn takes_calls(state: &State) -> bool {
    let State { plan, vitals, .. } = state;
    !state.draining && plan.sets.iter().any(|set| set.takes_calls(plan, vitals))
}
