//! One side of a dialog: route set, remote target and numbers of RFC 3261 section 12, and what this side received.

use std::net::SocketAddr;

use super::message::{Message, host_port, parameter, uri};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Calling,
    Ringing,
    Confirmed,
    Ended,
}

/// A request as it left, for its retransmission, its CANCEL and the ACK to its non-2xx.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) message: Message,
    pub(crate) to: SocketAddr,
}

#[derive(Clone, Debug)]
pub(crate) struct Dialog {
    pub(crate) state: State,
    /// From and To of the requests this side sends; the remote one has its tag once that is known.
    pub(crate) local: String,
    pub(crate) remote: String,
    pub(crate) route_set: Vec<String>,
    /// The remote target: the URI of the peer's Contact.
    pub(crate) target: String,
    pub(crate) cseq: u32,
    /// The INVITE this side sent last.
    pub(crate) invite: Option<Sent>,
    /// The INVITE this side received last.
    pub(crate) invited: Option<Message>,
    /// What reached this side, in order: `INVITE`, `INVITE again`, `ACK`, `200 BYE`, ...
    pub(crate) got: Vec<String>,
}

impl Dialog {
    /// The caller's side, before any answer.
    pub(crate) fn calling(sent: Sent) -> Self {
        Self {
            state: State::Calling,
            local: sent.message.header("From").to_owned(),
            remote: sent.message.header("To").to_owned(),
            route_set: Vec::new(),
            target: sent.message.uri().to_owned(),
            cseq: sent.message.cseq().0,
            invite: Some(sent),
            invited: None,
            got: Vec::new(),
        }
    }

    /// The callee's side of 12.1.1: the route set is the Record-Route of the request, in order.
    pub(crate) fn called(invite: &Message, tag: &str) -> Self {
        Self {
            state: State::Ringing,
            local: format!("{};tag={tag}", invite.header("To")),
            remote: invite.header("From").to_owned(),
            route_set: invite.values("Record-Route"),
            target: uri(invite.header("Contact")).to_owned(),
            cseq: 0,
            invite: None,
            invited: Some(invite.clone()),
            got: Vec::new(),
        }
    }

    /// The caller's side of 12.1.2, at the first 2xx: the Record-Route of the response, reversed.
    pub(crate) fn answered(&mut self, response: &Message) {
        if self.state != State::Confirmed {
            self.remote = response.header("To").to_owned();
            self.route_set = response.values("Record-Route");
            self.route_set.reverse();
            self.state = State::Confirmed;
        }
        self.refresh(response);
    }

    /// A target refresh (12.2): the peer's Contact, if it sent one.
    pub(crate) fn refresh(&mut self, message: &Message) {
        let contact = uri(message.header("Contact"));
        if !contact.is_empty() {
            self.target = contact.to_owned();
        }
    }

    /// A request inside the dialog (12.2.1.1), without Via, and where its first hop is.
    pub(crate) fn request(&mut self, method: &str, call_id: &str) -> Sent {
        if method != "ACK" {
            self.cseq += 1;
        }
        let mut routes = self.route_set.clone();
        let first = routes.first().map(|route| uri(route).to_owned());
        let hop = first.clone().unwrap_or_else(|| self.target.clone());
        let loose = first.as_ref().is_none_or(|route| parameter(route, "lr").is_some());
        let target = if loose {
            self.target.clone()
        } else {
            routes.remove(0);
            routes.push(format!("<{}>", self.target));
            hop.clone()
        };
        let mut message = Message::request(method, &target);
        for route in routes {
            message = message.with("Route", route);
        }
        message = message
            .with("Max-Forwards", "70")
            .with("From", self.local.clone())
            .with("To", self.remote.clone())
            .with("Call-ID", call_id)
            .with("CSeq", format!("{} {method}", self.cseq));
        let to = host_port(&hop).unwrap_or_else(|| panic!("no address to send {method} to in {hop}"));
        Sent { message, to }
    }

    pub(crate) fn local_tag(&self) -> Option<String> {
        parameter(&self.local, "tag")
    }

    /// How often `what` reached this side.
    pub(crate) fn count(&self, what: &str) -> usize {
        self.got.iter().filter(|got| *got == what).count()
    }

    pub(crate) fn has(&self, what: &str) -> bool {
        self.count(what) > 0
    }
}

impl Sent {
    /// The CANCEL of 9.1, or the ACK of 17.1.1.3 when `to` is that of the final response: same request-URI, Route,
    /// top Via, From, Call-ID and number.
    pub(crate) fn sibling(&self, method: &str, to: Option<&str>) -> Sent {
        let mut message = Message::request(method, self.message.uri()).with("Via", self.message.via());
        for (name, value) in &self.message.headers {
            match name.as_str() {
                "Route" | "Max-Forwards" | "From" | "Call-ID" => message = message.with(name, value.clone()),
                "To" => message = message.with("To", to.unwrap_or(value)),
                "CSeq" => message = message.with("CSeq", format!("{} {method}", self.message.cseq().0)),
                _ => {}
            }
        }
        Sent { message, to: self.to }
    }
}
