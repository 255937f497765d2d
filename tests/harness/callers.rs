//! Callers at a steady rate from one socket, who retransmit by RFC 3261 timers and write down when they heard what of
//! whom: calls of a few seconds, hung up by the caller.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashMap};
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use super::dialog::{Dialog, Sent};
use super::message::Message;
use super::namespace::Place;
use super::node::named;

const T1: Duration = Duration::from_millis(500);
const T2: Duration = Duration::from_secs(4);

/// One call, as its caller knows it.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) id: String,
    pub(crate) begun: Instant,
    /// When the first response of any kind came.
    pub(crate) heard: Option<Instant>,
    pub(crate) answered: Option<Instant>,
    pub(crate) hung_up: Option<Instant>,
    /// When the BYE was answered, with what.
    pub(crate) ended: Option<(Instant, u16)>,
    /// Final response to INVITE other than 200, or 0 where the caller gave up.
    pub(crate) refused: Option<u16>,
    /// The BYE was never answered.
    pub(crate) abandoned: bool,
    pub(crate) retransmissions: u32,
    /// The node that answered first.
    pub(crate) node: String,
    /// Every node that answered anything.
    pub(crate) nodes: BTreeSet<String>,
    dialog: Dialog,
    invite: Sent,
    request: Option<Sent>,
}

impl Call {
    pub(crate) fn is_over(&self) -> bool {
        self.ended.is_some() || self.refused.is_some() || self.abandoned
    }

    pub(crate) fn failed(&self) -> bool {
        self.ended.is_none_or(|(_, code)| code != 200)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    Invite(Duration),
    GiveUp,
    HangUp,
    Request(Duration),
}

/// How the callers call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Habit {
    /// Calls a second.
    pub(crate) rate: u32,
    /// How long a call lasts from its answer on.
    pub(crate) hold: Duration,
    /// How long a final response is waited for (timers B and F).
    pub(crate) patience: Duration,
}

pub(crate) struct Callers {
    pub(crate) calls: Vec<Call>,
    pub(crate) habit: Habit,
    socket: UdpSocket,
    at: SocketAddr,
    edge: SocketAddr,
    by_id: HashMap<String, usize>,
    timers: BinaryHeap<Reverse<(Instant, usize, Timer)>>,
    next: Instant,
    pub(crate) strays: usize,
}

impl Callers {
    pub(crate) fn new(place: &Place, at: SocketAddr, edge: SocketAddr, habit: Habit) -> Self {
        let socket = place.socket(at);
        Self {
            calls: Vec::new(),
            habit,
            socket,
            at,
            edge,
            by_id: HashMap::new(),
            timers: BinaryHeap::new(),
            next: Instant::now(),
            strays: 0,
        }
    }

    /// Makes calls until `done` holds or `limit` has passed; whether it holds.
    pub(crate) fn run(&mut self, limit: Duration, done: impl FnMut(&Self) -> bool) -> bool {
        self.next = Instant::now();
        self.turn(limit, true, done)
    }

    /// Makes no new calls, and waits until all are over.
    pub(crate) fn finish(&mut self) -> bool {
        let limit = self.habit.hold + self.habit.patience * 2 + Duration::from_secs(5);
        self.turn(limit, false, |callers| callers.calls.iter().all(Call::is_over))
    }

    fn turn(&mut self, limit: Duration, calling: bool, mut done: impl FnMut(&Self) -> bool) -> bool {
        let end = Instant::now() + limit;
        let mut buffer = vec![0; 65_536];
        let mut looked = Instant::now();
        loop {
            let now = Instant::now();
            if now >= looked {
                looked = now + Duration::from_millis(2);
                if done(self) {
                    return true;
                }
            }
            if now >= end {
                return done(self);
            }
            while calling && self.next <= now {
                self.next += Duration::from_secs(1) / self.habit.rate;
                self.begin(now);
            }
            self.expire(now);
            let due = self.timers.peek().map_or(end, |Reverse((at, ..))| *at);
            let wait = due.min(self.next.max(now)).min(looked).saturating_duration_since(now);
            let _ = self.socket.set_read_timeout(Some(wait.max(Duration::from_micros(200))));
            if let Ok((length, _)) = self.socket.recv_from(&mut buffer) {
                self.hear(buffer.get(..length).unwrap_or_default());
            }
        }
    }

    fn begin(&mut self, now: Instant) {
        let unique = super::unique();
        let id = format!("c{unique}-{}", std::process::id());
        let message = Message::request("INVITE", &format!("sip:any@{}", self.edge))
            .with("Via", self.via())
            .with("Max-Forwards", "70")
            .with("From", format!("<sip:caller{unique}@example.com>;tag=f{unique}"))
            .with("To", format!("<sip:any@{}>", self.edge))
            .with("Call-ID", id.clone())
            .with("CSeq", "1 INVITE")
            .with("Contact", format!("<sip:caller@{}>", self.at));
        let invite = Sent { message, to: self.edge };
        let place = self.calls.len();
        self.by_id.insert(id.clone(), place);
        self.send(&invite);
        self.calls.push(Call {
            id,
            begun: now,
            heard: None,
            answered: None,
            hung_up: None,
            ended: None,
            refused: None,
            abandoned: false,
            retransmissions: 0,
            node: String::new(),
            nodes: BTreeSet::new(),
            dialog: Dialog::calling(invite.clone()),
            invite,
            request: None,
        });
        self.timers.push(Reverse((now + T1, place, Timer::Invite(T1))));
        self.timers.push(Reverse((now + self.habit.patience, place, Timer::GiveUp)));
    }

    fn via(&self) -> String {
        format!("SIP/2.0/UDP {};branch=z9hG4bKc{}x{};rport", self.at, std::process::id(), super::unique())
    }

    fn send(&self, sent: &Sent) {
        let _ = self.socket.send_to(&sent.message.bytes(), sent.to);
    }

    fn expire(&mut self, now: Instant) {
        while let Some(Reverse((at, place, timer))) = self.timers.peek().copied().filter(|Reverse((at, ..))| *at <= now)
        {
            self.timers.pop();
            let Some(call) = self.calls.get_mut(place).filter(|call| !call.is_over()) else { continue };
            match timer {
                Timer::Invite(gap) if call.heard.is_none() => {
                    call.retransmissions += 1;
                    let _ = self.socket.send_to(&call.invite.message.bytes(), call.invite.to);
                    self.timers.push(Reverse((at + gap * 2, place, Timer::Invite(gap * 2))));
                }
                Timer::GiveUp if call.answered.is_none() => call.refused = Some(0),
                Timer::GiveUp if call.hung_up.is_some_and(|at| at + self.habit.patience <= now) => {
                    call.abandoned = true
                }
                Timer::HangUp => self.hang_up(place, now),
                Timer::Request(gap) => {
                    call.retransmissions += 1;
                    if let Some(request) = &call.request {
                        let _ = self.socket.send_to(&request.message.bytes(), request.to);
                    }
                    let gap = (gap * 2).min(T2);
                    self.timers.push(Reverse((at + gap, place, Timer::Request(gap))));
                }
                Timer::Invite(_) | Timer::GiveUp => {}
            }
        }
    }

    fn hang_up(&mut self, place: usize, now: Instant) {
        let via = self.via();
        let patience = self.habit.patience;
        let Some(call) = self.calls.get_mut(place) else { return };
        let mut bye = call.dialog.request("BYE", &call.id);
        bye.message.headers.insert(0, ("Via".into(), via));
        let _ = self.socket.send_to(&bye.message.bytes(), bye.to);
        (call.request, call.hung_up) = (Some(bye), Some(now));
        self.timers.push(Reverse((now + T1, place, Timer::Request(T1))));
        self.timers.push(Reverse((now + patience, place, Timer::GiveUp)));
    }

    fn hear(&mut self, bytes: &[u8]) {
        let now = Instant::now();
        let Some(response) = Message::parse(bytes) else { return };
        let (Some(code), Some(place)) = (response.status(), self.by_id.get(response.call_id()).copied()) else {
            self.strays += 1;
            return;
        };
        let ack_via = self.via();
        let hold = self.habit.hold;
        let Some(call) = self.calls.get_mut(place) else { return };
        let node = named(&response);
        call.heard.get_or_insert(now);
        if code > 100 && !node.is_empty() {
            call.nodes.insert(node.clone());
            if call.node.is_empty() {
                call.node = node;
            }
        }
        match (response.cseq().1, code) {
            ("INVITE", 200..300) => {
                // The same answer again, or a late one of a node that was away: each is acknowledged.
                let mut dialog =
                    if call.answered.is_none() { call.dialog.clone() } else { Dialog::calling(call.invite.clone()) };
                dialog.answered(&response);
                let mut ack = dialog.request("ACK", &call.id);
                ack.message.headers.insert(0, ("Via".into(), ack_via));
                let _ = self.socket.send_to(&ack.message.bytes(), ack.to);
                if call.answered.is_none() && call.refused.is_none() {
                    (call.answered, call.dialog) = (Some(now), dialog);
                    self.timers.push(Reverse((now + hold, place, Timer::HangUp)));
                }
            }
            ("INVITE", 300..) => {
                let ack = call.invite.sibling("ACK", Some(response.header("To")));
                let _ = self.socket.send_to(&ack.message.bytes(), ack.to);
                if call.answered.is_none() {
                    call.refused.get_or_insert(code);
                }
            }
            ("BYE", 200..) if call.hung_up.is_some() => {
                call.ended.get_or_insert((now, code));
            }
            _ => {}
        }
    }
}
