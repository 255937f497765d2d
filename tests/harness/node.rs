//! A node as a process of its own, to be killed and frozen: the program that starts it starts itself again, and the copy
//! answers calls and OPTIONS by RFC 3261 until it is ended.

use std::collections::HashMap;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use super::message::Message;
use super::namespace::Place;
use super::process::Process;
use super::sys::{self, Signal};
use super::{ports, wait_until};

/// What a copy finds its task in.
const TASK: &str = "SIPRING_TEST_NODE";
const T1: Duration = Duration::from_millis(500);
const T2: Duration = Duration::from_secs(4);

/// What a node is to be.
#[derive(Clone, Debug)]
pub(crate) struct Task {
    pub(crate) name: String,
    pub(crate) at: SocketAddr,
    /// How long a call rings before it is answered.
    pub(crate) ring_ms: u64,
    /// What OPTIONS is answered with; so are calls, if that is 503.
    pub(crate) code: u16,
}

/// A node that runs.
pub(crate) struct NodeProcess {
    pub(crate) task: Task,
    place: Place,
    process: Process,
}

impl NodeProcess {
    /// Starts it, and waits until it listens.
    pub(crate) fn start(place: &Place, task: Task) -> Self {
        let process = Self::spawn(place, &task);
        Self { task, place: place.clone(), process }
    }

    fn spawn(place: &Place, task: &Task) -> Process {
        let own = std::env::current_exe().unwrap_or_else(|e| panic!("{e}"));
        let mut command = place.command(own);
        // What a test program needs to hear; the figures' program looks at the task alone.
        command.args(["--exact", "health::a_node_answers_until_it_is_frozen_or_killed", "--nocapture"]);
        command.env(TASK, format!("{} {} {} {}", task.name, task.at, task.ring_ms, task.code));
        let mut process = Process::start(&task.name, &mut command, false);
        let listens =
            wait_until(Duration::from_secs(10), || process.ended().is_some() || ports::bound(process.id(), task.at));
        assert!(listens && process.ended().is_none(), "{} does not listen; {}", task.name, process.said());
        process
    }

    pub(crate) fn kill(&mut self) {
        self.process.signal(Signal::Kill);
        assert!(self.process.wait(Duration::from_secs(5)).is_some(), "{} outlived kill -9", self.task.name);
    }

    /// Stops it, and waits until it has: the signal wakes one thread, which stops the others when it gets to run.
    pub(crate) fn freeze(&self) {
        self.process.signal(Signal::Stop);
        let stopped = wait_until(Duration::from_secs(5), || {
            sys::has_stopped(self.process.id()).unwrap_or_else(|e| panic!("{}: {e}", self.task.name))
        });
        assert!(stopped, "{} goes on in spite of SIGSTOP", self.task.name);
    }

    pub(crate) fn thaw(&self) {
        self.process.signal(Signal::Continue);
    }

    /// Starts it anew at the same address.
    pub(crate) fn start_again(&mut self) {
        self.process = Self::spawn(&self.place, &self.task);
    }

    /// Makes it answer OPTIONS with another code.
    pub(crate) fn answers(&mut self, code: u16) {
        self.task.code = code;
        self.tell(&format!("!{code}"));
    }

    /// Makes it refuse calls with a 503 that asks to be left alone for so long; OPTIONS it answers as before.
    pub(crate) fn refuses_calls(&self, retry_after_s: u32) {
        self.tell(&format!("?{retry_after_s}"));
    }

    fn tell(&self, what: &str) {
        let from = self.place.socket(SocketAddr::new(self.task.at.ip(), 0));
        let sent = from.send_to(what.as_bytes(), self.task.at);
        assert!(sent.is_ok(), "{sent:?}");
    }
}

/// If this process is such a copy, does its task and never returns.
pub(crate) fn serve_if_told() -> bool {
    let Ok(task) = std::env::var(TASK) else { return false };
    let words: Vec<&str> = task.split(' ').collect();
    let [name, at, ring_ms, code] = words[..] else { panic!("no task: {task}") };
    let number = |word: &str| word.parse().unwrap_or_else(|e| panic!("{word}: {e}"));
    let at = at.parse().unwrap_or_else(|e| panic!("{at}: {e}"));
    let socket = Place::here().socket(at);
    let ring = Duration::from_millis(number(ring_ms));
    let code = number(code) as u16;
    Server { name: name.to_owned(), at, ring, code, retry_after_s: None, socket, calls: HashMap::new(), tags: 0 }.run();
    true
}

#[derive(Debug)]
struct Call {
    tag: String,
    invite: Message,
    /// What an INVITE that comes again is answered with.
    last: Message,
    answer_at: Option<Instant>,
    /// The 200 again, until its ACK comes.
    again: Option<(Instant, Duration)>,
    bye: Option<Message>,
}

struct Server {
    name: String,
    at: SocketAddr,
    ring: Duration,
    code: u16,
    retry_after_s: Option<u32>,
    socket: UdpSocket,
    calls: HashMap<String, Call>,
    tags: u64,
}

impl Server {
    fn run(mut self) {
        let mut buffer = vec![0; 65_536];
        let _ = self.socket.set_read_timeout(Some(Duration::from_millis(5)));
        loop {
            if let Ok((length, source)) = self.socket.recv_from(&mut buffer) {
                self.handle(buffer.get(..length).unwrap_or_default(), source);
            }
            self.expire(Instant::now());
        }
    }

    fn handle(&mut self, bytes: &[u8], source: SocketAddr) {
        if let Some(code) = bytes.strip_prefix(b"!") {
            self.code = String::from_utf8_lossy(code).parse().unwrap_or(self.code);
            return;
        }
        if let Some(seconds) = bytes.strip_prefix(b"?") {
            self.retry_after_s = String::from_utf8_lossy(seconds).parse().ok();
            return;
        }
        let Some(mut request) = Message::parse(bytes) else { return };
        request.mark_received(source);
        let method = request.method().unwrap_or_default().to_owned();
        let call_id = request.call_id().to_owned();
        let here = self.calls.get(&call_id).is_some_and(|call| request.tag("To").as_deref() == Some(&call.tag));
        match method.as_str() {
            "INVITE" if request.tag("To").is_none() => self.invite(request, call_id),
            "ACK" => {
                if let Some(call) = self.calls.get_mut(&call_id) {
                    call.again = None;
                }
            }
            "BYE" if here => {
                let response = self.response(&request, 200, "");
                if let Some(call) = self.calls.get_mut(&call_id) {
                    (call.again, call.bye) = (None, Some(response.clone()));
                }
                self.send(&request, &response);
            }
            "CANCEL" if self.calls.contains_key(&call_id) => self.cancel(&request, &call_id),
            "OPTIONS" => self.send(&request, &self.response(&request, self.code, "options")),
            "" => {}
            _ => self.send(&request, &self.response(&request, 481, "nobody")),
        }
    }

    fn invite(&mut self, invite: Message, call_id: String) {
        if let Some(call) = self.calls.get(&call_id) {
            return self.send(&invite, &call.last);
        }
        self.tags += 1;
        let tag = format!("{}x{}x{}", self.name, std::process::id(), self.tags);
        if let Some(seconds) = self.retry_after_s {
            let refusal = self.response(&invite, 503, &tag).with("Retry-After", seconds.to_string());
            return self.send(&invite, &refusal);
        }
        if self.code == 503 {
            return self.send(&invite, &self.response(&invite, 503, &tag));
        }
        let ringing = self.established(&invite, 180, &tag);
        self.send(&invite, &ringing);
        let answer_at = Some(Instant::now() + self.ring);
        self.calls.insert(call_id, Call { tag, invite, last: ringing, answer_at, again: None, bye: None });
    }

    fn cancel(&mut self, cancel: &Message, call_id: &str) {
        self.send(cancel, &self.response(cancel, 200, "cancel"));
        let Some(call) = self.calls.get(call_id).filter(|call| call.answer_at.is_some()) else { return };
        let (invite, last) = (call.invite.clone(), self.response(&call.invite, 487, &call.tag));
        self.send(&invite, &last);
        if let Some(call) = self.calls.get_mut(call_id) {
            (call.answer_at, call.last) = (None, last);
        }
    }

    fn expire(&mut self, now: Instant) {
        let ring: Vec<String> = self.calls.iter().filter(|(_, call)| call.due(now)).map(|(id, _)| id.clone()).collect();
        for id in ring {
            let Some(call) = self.calls.get(&id) else { continue };
            let (invite, tag, after) =
                (call.invite.clone(), call.tag.clone(), call.again.map_or(T1, |(_, gap)| (gap * 2).min(T2)));
            let answer = self.established(&invite, 200, &tag);
            self.send(&invite, &answer);
            if let Some(call) = self.calls.get_mut(&id) {
                (call.answer_at, call.last, call.again) = (None, answer, Some((now + after, after)));
            }
        }
        if self.calls.len() > 20_000 {
            self.calls.retain(|_, call| call.bye.is_none());
        }
    }

    fn response(&self, request: &Message, code: u16, tag: &str) -> Message {
        Message::response(request, code, "Whatever", tag).with("Server", self.name.clone())
    }

    fn established(&self, invite: &Message, code: u16, tag: &str) -> Message {
        let mut response = self.response(invite, code, tag).with("Contact", format!("<sip:{}@{}>", self.name, self.at));
        for route in invite.values("Record-Route") {
            response = response.with("Record-Route", route);
        }
        response
    }

    fn send(&self, request: &Message, response: &Message) {
        if let Some(to) = request.answer_to() {
            let _ = self.socket.send_to(&response.bytes(), to);
        }
    }
}

impl Call {
    /// Whether its 200 is to be sent, for the first time or again.
    fn due(&self, now: Instant) -> bool {
        self.answer_at.is_some_and(|at| at <= now) || self.again.is_some_and(|(at, _)| at <= now)
    }
}

/// The node that a response names.
pub(crate) fn named(response: &Message) -> String {
    response.header("Server").to_owned()
}
