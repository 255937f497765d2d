//! The shard: what one worker owns and decides. Performs no I/O and reads no clock.
//!
//! Bytes and `now` come in, a verdict goes out, and the packet is edited in place; whatever else is
//! to be sent goes into the outbox. Driven by `worker`, and the same way by tests, benches and
//! fuzzing over `datapath::Replay`.

mod avoid;
mod block;
mod digits;
mod evidence;
mod homes;
mod local;
mod marks;
mod names;
mod order;
mod outward;
mod owner;
mod plain;
mod record;
mod request;
mod respond;
mod rewrite;
mod routes;
mod seen;
mod select;
mod site;
mod steer;
mod told;
mod unroute;
mod verdict;
mod via;

use std::sync::Arc;

use crate::balance::{Plan, Sender, SetIx, Vitals};
use crate::packet::{Event, Hops, Outbox, Packet, PeerId, PortId, Trouble, WorkerId};
use crate::sip::{self, Edit, Message, Method, SpliceId, Start, WATCH_MAX, Watch};

pub use avoid::AVOID_MS;
pub use evidence::{Account, CLASSES, Evidence, RETRY_AFTER_MAX_S, Testimony};
pub use local::RETRY_AFTER_S;
pub use marks::{Mark, Marks, RINGING_MAX_S, SETTLED_S};
pub use names::{Asks, HOST_MAX, HostName, Lookup, Names};
pub use select::{SpreadKey, key_of, rule_of};
pub use site::{ForceRport, NodeSide, Options, Port, Site};
pub use steer::steering;
pub use verdict::{Counters, DropReason, REPLIES, Tally, Verdict};

use avoid::Avoided;
use block::Block;
use homes::Homes;
use request::{Course, Incoming, Refusal};
use rewrite::{Unwritten, Written, unwritten};
use told::Sources;

/// Longest local reply, bytes.
const REPLY_MAX: usize = 65_507;

/// What control tells a worker, whole: newest wins.
#[derive(Clone, Debug)]
pub struct State {
    /// Sets, nodes and rules.
    pub plan: Arc<Plan>,
    /// Health of the plan's endpoints.
    pub vitals: Arc<Vitals>,
    /// What is testified about the plan's endpoints.
    pub evidence: Arc<Evidence>,
    /// Next hops that are names.
    pub names: Arc<Names>,
    /// Next hops of packets, for workers that find them themselves.
    pub hops: Arc<Hops>,
    /// No new calls: the process is about to end.
    pub draining: bool,
}

/// What all workers share.
#[derive(Clone, Debug)]
pub struct Shared {
    /// This instance.
    pub site: Arc<Site>,
    /// The table of marks.
    pub marks: Arc<Marks>,
    /// Questions to control.
    pub asks: Arc<Asks>,
}

/// All that a decision reads.
#[derive(Debug)]
struct Core {
    me: WorkerId,
    shared: Shared,
    state: State,
    counters: Arc<Counters>,
    /// This worker's part of the state's evidence.
    testimony: Arc<Testimony>,
    watch: Watch,
    /// Names in `watch`, in its order: source headers first, then headers that sets are keyed by.
    watched: Vec<String>,
    source_headers: usize,
    /// By set: what keeps the marks of one apart from those of another.
    salts: Vec<u64>,
    /// By port: the set of all its requests, where the rules do not look further than at the port.
    ruled: Vec<Option<SetIx>>,
    avoided: Avoided,
}

/// The state of one worker.
#[derive(Debug)]
pub struct Shard {
    core: Core,
    edit: Edit,
    block: Block,
    sources: Sources,
    homes: Homes,
    scratch: Box<[u8]>,
}

/// The names of headers that the sets of a plan ask for: those that tell the source, then those that
/// are keys; and how many are of the first kind.
#[must_use]
pub fn watched(plan: &Plan) -> (Vec<String>, usize) {
    let mut names: Vec<String> = Vec::new();
    let mut learn = |name: &str| {
        if !names.iter().any(|own| own.eq_ignore_ascii_case(name)) {
            names.push(name.to_owned());
        }
        names.len()
    };
    let sources = plan.sets.iter().filter_map(|set| set.policy.source_header.as_ref());
    let count = sources.map(|header| learn(&header.name)).last().unwrap_or(0);
    for set in &plan.sets {
        for method in 0..crate::balance::METHODS {
            if let crate::balance::KeyBy::Header(name) = set.keys.by(method as u8) {
                learn(name);
            }
        }
    }
    (names, count)
}

/// The watch for those names; none if there are more than a watch holds, or one that it cannot.
#[must_use]
pub fn watch_of(names: &[String]) -> Option<Watch> {
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    if names.len() > WATCH_MAX { None } else { Watch::new(&names) }
}

impl Shard {
    /// The shard of worker `me`.
    #[must_use]
    pub fn new(me: WorkerId, shared: Shared, state: State, counters: Arc<Counters>) -> Self {
        let avoided = Avoided::new(shared.site.options.avoided_max);
        let core = Core {
            me,
            shared,
            testimony: state.evidence.of(me),
            state,
            counters,
            watch: Watch::NONE,
            watched: Vec::new(),
            source_headers: 0,
            salts: Vec::new(),
            ruled: Vec::new(),
            avoided,
        };
        let scratch = vec![0; REPLY_MAX].into_boxed_slice();
        let (sources, homes) = (Sources::new(), Homes::new());
        let mut shard = Self { core, edit: Edit::new(), block: Block::new(), sources, homes, scratch };
        shard.core.watch_plan();
        shard
    }

    /// Takes over what control mailed; `state` is then what was there, to be freed elsewhere. True
    /// if the plan changed.
    pub fn apply(&mut self, state: &mut State) -> bool {
        std::mem::swap(&mut self.core.state, state);
        self.core.testimony = self.core.state.evidence.of(self.core.me);
        let changed = !Arc::ptr_eq(&state.plan, &self.core.state.plan);
        if changed {
            self.core.watch_plan();
        }
        changed
    }

    /// What control told last.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.core.state
    }

    /// This worker's counters.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.core.counters
    }

    /// What all workers share.
    #[must_use]
    pub fn shared(&self) -> &Shared {
        &self.core.shared
    }

    /// Decides what becomes of a packet, and edits it for that. `now_ms` is monotonic; what else is
    /// to be sent goes into `out`.
    #[inline]
    pub fn handle(&mut self, now_ms: u64, packet: &mut Packet, out: &mut Outbox) -> Verdict {
        debug_assert!(out.room() > 0, "the worker keeps room for the verdict");
        if packet.bytes().first().is_none_or(|first| *first <= b'\r') && self.only_keeps_alive(packet) {
            return Verdict::Absorb;
        }
        let (len, watch) = (packet.len(), &self.core.watch);
        let mut message = Message::empty();
        match packet.window() {
            Some(window) => sip::scan_in(window, len, watch, &mut message),
            None => scan_longest(packet, watch, &mut message),
        }
        match message.start {
            Start::Request { method, .. } => self.request(now_ms, packet, &message, method),
            Start::Response { .. } => self.core.response(&mut self.edit, &mut self.homes, now_ms, packet, &message),
        }
    }

    /// Whether a datagram that begins oddly holds nothing but CR, LF and NUL. Line ends before the
    /// start line are passed over (7.5).
    #[cold]
    fn only_keeps_alive(&self, packet: &mut Packet) -> bool {
        let bytes = packet.bytes();
        if bytes.iter().all(|byte| matches!(byte, b'\r' | b'\n' | 0)) {
            self.core.counters.tally(Tally::KeepAlive);
            return true;
        }
        let ends = bytes.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        let _ = packet.grow_front(-(ends as isize));
        false
    }

    fn request(&mut self, now_ms: u64, packet: &mut Packet, message: &Message, method: Method) -> Verdict {
        let Self { core, edit, block, sources, scratch, .. } = self;
        if message.fault.is_some() {
            return core.fault(scratch, packet, message);
        }
        let bytes = packet.bytes();
        let sender = core.node_side(packet);
        let from_node = sender.is_some();
        core.counters.tally(if from_node { Tally::NodeRequest } else { Tally::EdgeRequest });
        let Some(port) = core.shared.site.port(packet.port) else { return Verdict::Drop(DropReason::NoEgress) };
        if let Some(owner) = core.not_owner(packet, message) {
            return Verdict::Handoff(owner);
        }
        let call = core.call_hash(bytes, message);
        let order = core.order(bytes, message);
        let inside = !message.to.tag.is_empty();
        if let Some(sender) = sender {
            core.testimony.begun(sender.peer, now_ms, inside.then_some(call));
        }
        let told = sources.of(packet.source);
        let incoming = Incoming {
            bytes,
            message,
            method,
            port,
            port_id: packet.port,
            source: packet.source,
            told,
            from_node,
            node: sender.and_then(|sender| sender.node),
            call,
            order,
            leg: via::leg(bytes, message),
            now_ms,
        };
        if method == Method::Ack && core.acknowledges_us(&incoming) {
            core.counters.tally(Tally::OwnAck);
            return Verdict::Absorb;
        }
        let mut course = Course::back(&incoming);
        if let Err(why) = core.course(&incoming, &mut course) {
            return core.refuse(scratch, packet, message, why);
        }
        let changed = match core.write(edit, block, &incoming, &course, packet.head_room()) {
            Ok(Written::Plain(plain, pad)) => {
                packet.truncate(usize::from(message.end));
                rewrite::lower_hops(packet.bytes_mut(), message);
                packet.pad_at = message.first_header + pad;
                // Room was asked for, and the spans are the scan's.
                if plain.apply(packet, message, block, told) { Ok(()) } else { Err(Refusal::Answer(513)) }
            }
            Ok(Written::Edit(top, pad)) => apply(edit, packet, message, (top, pad)),
            Err(why) => Err(unwritten(why)),
        };
        if let Err(why) = changed {
            return core.refuse(scratch, packet, message, why);
        }
        packet.order = order;
        core.testimony.request(course.egress.peer, method == Method::Ack, now_ms, inside.then_some(call));
        Verdict::Forward(course.egress)
    }

    /// What the datapath learned about a peer.
    pub fn event(&mut self, now_ms: u64, event: Event) {
        match event.trouble {
            Trouble::Unreachable => {
                let peer = self.core.state.plan.peer(event.to);
                self.core.testimony.unreachable(peer);
                if peer != PeerId::NONE && self.core.avoided.add(event.to, now_ms) {
                    self.core.counters.tally(Tally::EndpointAvoided);
                }
            }
            Trouble::TooLong => {}
        }
    }

    /// Does what time has brought; at most `most` things.
    pub fn expire(&mut self, now_ms: u64, _most: usize, _out: &mut Outbox) {
        if self.core.avoided.next_ms().is_some_and(|at_ms| at_ms <= now_ms) {
            self.core.avoided.expire(now_ms);
        }
    }

    /// When it next wants waking, on the clock of `now_ms`.
    #[must_use]
    pub fn wakes_at_ms(&self) -> Option<u64> {
        self.core.avoided.next_ms()
    }
}

/// Scans what stands too far behind in its slot.
#[cold]
#[inline(never)]
fn scan_longest(packet: &Packet, watch: &Watch, message: &mut Message) {
    *message = sip::scan(packet.bytes(), watch);
}

/// Applies a gathered edit; filler may go `pad` bytes into the text of `top`.
#[inline(never)]
fn apply(edit: &mut Edit, packet: &mut Packet, message: &Message, (top, pad): (SpliceId, u16)) -> Result<(), Refusal> {
    if packet.len() as isize + edit.growth() > REPLY_MAX as isize {
        return Err(Refusal::Answer(513));
    }
    packet.truncate(usize::from(message.end));
    rewrite::lower_hops(packet.bytes_mut(), message);
    packet.pad_at = edit.apply(packet).map_err(|error| unwritten(Unwritten::Edit(error)))?.at(top) + pad;
    Ok(())
}

impl Core {
    fn watch_plan(&mut self) {
        let (names, sources) = watched(&self.state.plan);
        // `config` refuses plans that ask for more than a watch holds.
        self.watch = watch_of(&names).unwrap_or(Watch::NONE);
        (self.watched, self.source_headers) = (names, sources);
        let marks = &self.shared.site.secrets.marks;
        self.salts = self.state.plan.sets.iter().map(|set| marks.hash13(set.name.as_bytes())).collect();
        let ports = (0..).map(PortId).take(self.shared.site.ports().len());
        self.ruled = ports.map(|port| select::set_of_port(&self.state.plan, port)).collect();
    }

    /// Whether a packet came from the node side: it arrived there, from an address of the cluster.
    /// Who sent it then.
    #[inline(always)]
    fn node_side(&self, packet: &Packet) -> Option<Sender> {
        if !self.shared.site.port(packet.port).is_some_and(|port| port.node) {
            return None;
        }
        let sender = self.state.plan.sender(packet.source);
        sender.inside.then_some(sender)
    }

    /// The owner's slot.
    #[inline]
    fn slot_of(&self, bytes: &[u8], message: &Message) -> u16 {
        self.shared.site.slot_of(bytes, message)
    }

    /// The owner, where requests are handled by their owner only and it is not this worker.
    #[inline]
    fn not_owner(&self, packet: &Packet, message: &Message) -> Option<WorkerId> {
        if !self.shared.site.options.owner_handoff || packet.handed {
            return None;
        }
        self.elsewhere(self.slot_of(packet.bytes(), message), packet)
    }

    /// The worker of an owner's slot, where packets go to their owner and it is not this one. Counts
    /// those that came in at another.
    #[inline]
    fn elsewhere(&self, slot: u16, packet: &Packet) -> Option<WorkerId> {
        let owner = self.shared.site.owner(slot);
        if owner == self.me || packet.handed {
            return None;
        }
        self.counters.tally(Tally::NotOwner);
        self.shared.site.options.owner_handoff.then_some(owner)
    }
}
