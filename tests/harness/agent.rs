//! A SIP user agent on one socket, phone or node: calls and answers by RFC 3261 without retransmissions of its own, so
//! that every lost message shows, and writes down all that a right network would never have sent it.

use std::collections::{BTreeMap, HashMap};
use std::net::{SocketAddr, UdpSocket};

use super::dialog::{Dialog, Sent, State};
use super::message::{Message, uri};

/// What it does with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Policy {
    Accept,
    /// Rings until the test says more (`Agent::answer`).
    Ring,
}

/// How a new request leaves.
#[derive(Clone, Debug)]
pub(crate) struct Start {
    pub(crate) uri: String,
    pub(crate) routes: Vec<String>,
    pub(crate) to: SocketAddr,
    pub(crate) body: Vec<u8>,
}

impl Start {
    pub(crate) fn new(uri: impl Into<String>, to: SocketAddr) -> Self {
        Self { uri: uri.into(), routes: Vec::new(), to, body: b"v=0\r\n".to_vec() }
    }

    pub(crate) fn body(mut self, body: Vec<u8>) -> Self {
        self.body = body;
        self
    }
}

/// What a registrar holds of a phone.
#[derive(Clone, Debug)]
pub(crate) struct Binding {
    pub(crate) contact: String,
    pub(crate) path: Vec<String>,
}

#[derive(Debug)]
struct Server {
    method: String,
    last: Vec<u8>,
    to: SocketAddr,
    code: u16,
}

#[derive(Debug)]
pub(crate) struct Agent {
    pub(crate) name: String,
    pub(crate) policy: Policy,
    pub(crate) dialogs: HashMap<String, Dialog>,
    /// By user.
    pub(crate) bindings: BTreeMap<String, Binding>,
    /// Final responses to requests outside dialogs, by Call-ID.
    pub(crate) answers: HashMap<String, Message>,
    /// What should not have come, in words.
    pub(crate) faults: Vec<String>,
    pub(crate) received: Vec<Message>,
    contact: SocketAddr,
    socket: UdpSocket,
    servers: HashMap<(String, String), Server>,
    clients: HashMap<String, String>,
}

impl Agent {
    /// `contact` is what it takes its own address for; behind a NAT nobody else can reach that.
    pub(crate) fn new(name: &str, socket: UdpSocket, contact: SocketAddr) -> Self {
        Self {
            name: name.to_owned(),
            policy: Policy::Accept,
            dialogs: HashMap::new(),
            bindings: BTreeMap::new(),
            answers: HashMap::new(),
            faults: Vec::new(),
            received: Vec::new(),
            contact,
            socket,
            servers: HashMap::new(),
            clients: HashMap::new(),
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.contact
    }

    pub(crate) fn contact(&self) -> String {
        format!("<sip:{}@{}>", self.name, self.contact)
    }

    pub(crate) fn dialog(&self, call_id: &str) -> &Dialog {
        self.dialogs.get(call_id).unwrap_or_else(|| panic!("{} has no dialog {call_id}", self.name))
    }

    pub(crate) fn state(&self, call_id: &str) -> Option<State> {
        self.dialogs.get(call_id).map(|dialog| dialog.state)
    }

    pub(crate) fn got(&self, call_id: &str, what: &str) -> usize {
        self.dialogs.get(call_id).map_or(0, |dialog| dialog.count(what))
    }

    /// Sends bytes as they are.
    pub(crate) fn throw(&self, bytes: &[u8], to: SocketAddr) {
        let sent = self.socket.send_to(bytes, to);
        assert!(sent.is_ok_and(|n| n == bytes.len()), "{} cannot send {} bytes to {to}", self.name, bytes.len());
    }

    /// A request outside any dialog; its Call-ID.
    pub(crate) fn start(&mut self, method: &str, start: &Start) -> String {
        let unique = super::unique();
        let call_id = format!("{}-{unique}-{}", std::process::id(), self.name);
        let mut message = Message::request(method, &start.uri);
        for route in &start.routes {
            message = message.with("Route", route.clone());
        }
        let from = if method == "REGISTER" { self.name.clone() } else { format!("{}-{unique}", self.name) };
        let to = if method == "REGISTER" { format!("sip:{}@example.com", self.name) } else { start.uri.clone() };
        let message = message
            .with("Max-Forwards", "70")
            .with("From", format!("<sip:{from}@example.com>;tag=f{unique}"))
            .with("To", format!("<{to}>"))
            .with("Call-ID", call_id.clone())
            .with("CSeq", format!("1 {method}"))
            .with("Contact", self.contact())
            .with_body(start.body.clone());
        let sent = self.send(Sent { message, to: start.to });
        if method == "INVITE" {
            self.dialogs.insert(call_id.clone(), Dialog::calling(sent));
        }
        call_id
    }

    /// A request as the test made it, below a Via of ours; what it is answered is found in the dialog of its Call-ID, if
    /// there is one, else in `answers`.
    pub(crate) fn inject(&mut self, message: Message, to: SocketAddr) {
        self.send(Sent { message, to });
    }

    /// A request inside a dialog.
    pub(crate) fn within(&mut self, method: &str, call_id: &str) {
        let contact = self.contact();
        let Some(dialog) = self.dialogs.get_mut(call_id) else { panic!("{} has no dialog {call_id}", self.name) };
        let mut sent = dialog.request(method, call_id);
        if method == "INVITE" {
            sent.message = sent.message.with("Contact", contact).with_body(b"v=0\r\n".to_vec());
        }
        let sent = self.send(sent);
        if let Some(dialog) = self.dialogs.get_mut(call_id).filter(|_| method == "INVITE") {
            dialog.invite = Some(sent);
        }
    }

    /// CANCEL of the INVITE sent last in this dialog.
    pub(crate) fn cancel(&mut self, call_id: &str) {
        let cancel = self.last_invite(call_id).sibling("CANCEL", None);
        self.throw(&cancel.message.bytes(), cancel.to);
    }

    /// The INVITE sent last in this dialog once more, byte for byte.
    pub(crate) fn retransmit(&self, call_id: &str) {
        let invite = self.last_invite(call_id);
        self.throw(&invite.message.bytes(), invite.to);
    }

    fn last_invite(&self, call_id: &str) -> Sent {
        self.dialog(call_id).invite.clone().unwrap_or_else(|| panic!("{} sent no INVITE in {call_id}", self.name))
    }

    /// A final answer to a call that rings here.
    pub(crate) fn answer(&mut self, call_id: &str, code: u16) {
        let invite = self.dialog(call_id).invited.clone();
        let Some(invite) = invite else { panic!("{} got no INVITE in {call_id}", self.name) };
        self.reply(&invite, code);
    }

    /// Puts our Via on top and sends.
    fn send(&mut self, mut sent: Sent) -> Sent {
        let branch = format!("z9hG4bK{}x{}", std::process::id(), super::unique());
        let via = format!("SIP/2.0/UDP {};branch={branch};rport", self.contact);
        sent.message.headers.insert(0, ("Via".into(), via));
        self.clients.insert(branch, sent.message.call_id().to_owned());
        self.throw(&sent.message.bytes(), sent.to);
        sent
    }

    /// One datagram that came in.
    pub(crate) fn handle(&mut self, bytes: &[u8], source: SocketAddr) {
        let Some(mut message) = Message::parse(bytes) else {
            return self.fault(format!("got what is no SIP message, {} bytes", bytes.len()));
        };
        if message.method().is_some() {
            message.mark_received(source);
            self.received.push(message.clone());
            self.request(&message);
        } else {
            self.received.push(message.clone());
            self.response(&message);
        }
    }

    fn fault(&mut self, what: String) {
        self.faults.push(format!("{}: {what}", self.name));
    }

    fn note(&mut self, call_id: &str, what: String) {
        if let Some(dialog) = self.dialogs.get_mut(call_id) {
            dialog.got.push(what);
        }
    }

    fn request(&mut self, request: &Message) {
        let method = request.method().unwrap_or_default().to_owned();
        let call_id = request.call_id().to_owned();
        let known = self.servers.get(&request.transaction()).map(|server| (server.method.clone(), server.code));
        match (method.as_str(), known) {
            ("ACK", Some((_, code))) if code >= 300 => self.note(&call_id, format!("ACK to {code}")),
            ("CANCEL", Some((of, code))) if of == "INVITE" => {
                self.note(&call_id, "CANCEL".into());
                self.reply_once(request, 200);
                let invited = self.dialogs.get(&call_id).and_then(|dialog| dialog.invited.clone());
                if let Some(invite) = invited.filter(|_| code < 200) {
                    self.reply(&invite, 487);
                }
            }
            ("ACK" | "CANCEL", Some((of, code))) => self.fault(format!("{method} to {of} answered {code}, {call_id}")),
            (_, Some(_)) => {
                self.note(&call_id, format!("{method} again"));
                if let Some(server) = self.servers.get(&request.transaction()) {
                    self.throw(&server.last, server.to);
                }
            }
            ("CANCEL", None) => {
                self.fault(format!("CANCEL of no call here, {call_id}"));
                self.reply_once(request, 481);
            }
            (_, None) if request.tag("To").is_some() => self.inside(&method, request),
            ("INVITE", None) => self.called(request),
            ("ACK", None) => self.fault(format!("ACK without tag to no call here, {call_id}")),
            ("REGISTER", None) => self.register(request),
            (_, None) => self.reply_once(request, 200),
        }
    }

    /// A new request with a To tag.
    fn inside(&mut self, method: &str, request: &Message) {
        let call_id = request.call_id().to_owned();
        let mine = self.dialogs.get_mut(&call_id).filter(|dialog| dialog.local_tag() == request.tag("To"));
        let Some(dialog) = mine.filter(|dialog| dialog.state != State::Ended || method == "ACK") else {
            self.fault(format!("{method} in no dialog of ours, {call_id}"));
            if method != "ACK" {
                self.reply_once(request, 481);
            }
            return;
        };
        dialog.got.push(method.to_owned());
        match method {
            "ACK" => {}
            "INVITE" => {
                dialog.refresh(request);
                dialog.invited = Some(request.clone());
                self.reply(request, 200);
            }
            "BYE" => {
                dialog.state = State::Ended;
                self.reply_once(request, 200);
            }
            _ => self.reply_once(request, 200),
        }
    }

    fn called(&mut self, invite: &Message) {
        let call_id = invite.call_id().to_owned();
        if self.dialogs.contains_key(&call_id) {
            return self.fault(format!("INVITE of a call that is here already, {call_id}"));
        }
        let mut dialog = Dialog::called(invite, &format!("t{}", super::unique()));
        dialog.got.push("INVITE".into());
        self.dialogs.insert(call_id, dialog);
        self.reply(invite, 180);
        if self.policy == Policy::Accept {
            self.reply(invite, 200);
        }
    }

    fn register(&mut self, request: &Message) {
        let user =
            uri(request.header("To")).trim_start_matches("sip:").split('@').next().unwrap_or_default().to_owned();
        let binding = Binding { contact: uri(request.header("Contact")).to_owned(), path: request.values("Path") };
        self.bindings.insert(user, binding);
        self.reply_once(request, 200);
    }

    /// A response to an INVITE, with Record-Route and Contact, by the state it brings.
    fn reply(&mut self, invite: &Message, code: u16) {
        let call_id = invite.call_id();
        let contact = self.contact();
        let Some(dialog) = self.dialogs.get_mut(call_id) else { return };
        let tag = dialog.local_tag().unwrap_or_default();
        let mut response = Message::response(invite, code, reason(code), &tag);
        if code < 300 {
            for route in invite.values("Record-Route") {
                response = response.with("Record-Route", route);
            }
            response = response.with("Contact", contact);
        }
        match code {
            200..300 => dialog.state = State::Confirmed,
            300.. => dialog.state = State::Ended,
            _ => {}
        }
        if code == 200 {
            response = response.with_body(invite.body.clone());
        }
        self.respond(invite, &response, code);
    }

    fn reply_once(&mut self, request: &Message, code: u16) {
        let mut response = Message::response(request, code, reason(code), &format!("t{}", super::unique()));
        if request.method() == Some("REGISTER") {
            response = response.with("Contact", format!("{};expires=3600", request.header("Contact")));
            for path in request.values("Path") {
                response = response.with("Path", path);
            }
        }
        self.respond(request, &response, code);
    }

    fn respond(&mut self, request: &Message, response: &Message, code: u16) {
        let Some(to) = request.answer_to() else {
            return self.fault(format!("no address to answer to in Via {}", request.via()));
        };
        let last = response.bytes();
        self.throw(&last, to);
        let method = request.method().unwrap_or_default().to_owned();
        if method != "CANCEL" {
            self.servers.insert(request.transaction(), Server { method, last, to, code });
        }
    }

    fn response(&mut self, response: &Message) {
        let (branch, _) = response.transaction();
        let call_id = response.call_id().to_owned();
        let code = response.status().unwrap_or(0);
        let (number, method) = response.cseq();
        let vias = response.values("Via").len();
        if vias != 1 || self.clients.get(&branch) != Some(&call_id) {
            return self.fault(format!("a {code} to {method} that is not ours ({vias} Vias), {call_id}"));
        }
        self.note(&call_id, format!("{code} {method}"));
        let contact = response.header("Contact").is_empty();
        let Some(dialog) = self.dialogs.get_mut(&call_id) else {
            if code >= 200 {
                self.answers.insert(call_id, response.clone());
            }
            return;
        };
        match (method, code) {
            ("INVITE", ..200) if dialog.state == State::Calling => dialog.state = State::Ringing,
            ("INVITE", 200..300) => {
                dialog.answered(response);
                let mut ack = dialog.request("ACK", &call_id);
                ack.message.headers.retain(|(name, _)| name != "CSeq");
                ack.message = ack.message.with("CSeq", format!("{number} ACK"));
                self.send(ack);
                if contact {
                    self.fault(format!("a 2xx without Contact, {call_id}"));
                }
            }
            ("INVITE", 300..) => {
                if dialog.state != State::Confirmed {
                    dialog.state = State::Ended;
                }
                if let Some(invite) = dialog.invite.clone() {
                    let ack = invite.sibling("ACK", Some(response.header("To")));
                    self.throw(&ack.message.bytes(), ack.to);
                }
            }
            ("BYE", 200..300) => dialog.state = State::Ended,
            _ => {}
        }
    }
}

fn reason(code: u16) -> &'static str {
    match code {
        180 => "Ringing",
        200 => "OK",
        481 => "Call/Transaction Does Not Exist",
        486 => "Busy Here",
        487 => "Request Terminated",
        _ => "Told",
    }
}
