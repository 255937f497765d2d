//! Replies of our own, and the way back to whoever sent a request (18.2, RFC 3581).
//!
//! ACKs and responses are never replied to. The To tag is keyed, so that a retransmission gets the
//! same (8.2.7) and the ACK that bears it is told as ours.

use std::net::SocketAddr;

use crate::balance::Secrets;
use crate::packet::{Egress, Packet};
use crate::sip::{self, Fault, Header, Message, Method, Rport, reply, uri};

use super::Core;
use super::digits::Quad;
use super::request::{Incoming, Refusal};
use super::site::ForceRport;
use super::verdict::{DropReason, REPLIES, Verdict};
use super::via::{hex, identity};

/// Seconds that a 503 asks callers to stay away.
pub const RETRY_AFTER_S: u16 = 10;

/// Length of a To tag of ours.
const TAG_LEN: usize = 18;
const TAG_MARK: &[u8] = b"0r";

/// Where responses to a request go, and what its top Via must say for that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Return {
    /// The source address is to be put in as `received`.
    pub(super) received: bool,
    /// To be put in as `rport`.
    pub(super) rport: Option<u16>,
    /// The port at the source address that responses go to.
    pub(super) port: u16,
    /// Host and port of sent-by are the very address that the request came from.
    pub(super) straight: bool,
}

/// The way back to the source of a request.
#[inline(always)]
pub(super) fn way_back(bytes: &[u8], message: &Message, source: SocketAddr, quad: &Quad, policy: ForceRport) -> Return {
    let via = &message.via;
    let same = match source {
        SocketAddr::V4(_) => quad.stands_at(bytes, via.host),
        SocketAddr::V6(_) => uri::host_ip(via.host.of(bytes)) == Some(source.ip()),
    };
    let asked = via.rport != Rport::Absent;
    let by_source = match policy {
        ForceRport::Always => true,
        ForceRport::Auto => asked || !same,
        ForceRport::Never => asked,
    };
    let received = asked || !same || !via.received.is_empty();
    let rport = by_source.then_some(source.port());
    let port = rport.unwrap_or_else(|| via.port.unwrap_or(5060));
    let straight = same && via.port.unwrap_or(5060) == source.port();
    Return { received, rport, port, straight }
}

/// The To tag of our reply to a request.
#[inline]
fn to_tag(bytes: &[u8], message: &Message, call: u64, secrets: &Secrets) -> [u8; TAG_LEN] {
    let hash = secrets.to_tag.hash13(&identity(bytes, message, call, secrets).to_le_bytes());
    let (high, low) = (hex((hash >> 32) as u32), hex(hash as u32));
    let mut tag = [0; TAG_LEN];
    tag.iter_mut().zip(TAG_MARK.iter().chain(&high).chain(&low)).for_each(|(to, from)| *to = *from);
    tag
}

impl Core {
    /// How the way back to the sender of a request is told: a listener's policy is for clients.
    #[inline]
    pub(super) fn return_policy(&self, packet: &Packet) -> ForceRport {
        match self.shared.site.port(packet.port) {
            Some(port) if self.node_side(packet).is_none() => port.force_rport,
            Some(_) | None => ForceRport::Never,
        }
    }

    /// Whether an ACK acknowledges a reply of our own.
    #[inline]
    pub(super) fn acknowledges_us(&self, incoming: &Incoming<'_>) -> bool {
        let tag = incoming.message.to.tag.of(incoming.bytes);
        let secrets = &self.shared.site.secrets;
        tag.len() == TAG_LEN
            && tag.starts_with(TAG_MARK)
            && tag == to_tag(incoming.bytes, incoming.message, incoming.call, secrets)
    }

    /// Answers a request that goes nowhere, in its own packet.
    #[cold]
    pub(super) fn refuse(&self, scratch: &mut [u8], packet: &mut Packet, message: &Message, why: Refusal) -> Verdict {
        let ack = message.method() == Some(Method::Ack);
        match why {
            Refusal::Silent(reason) => Verdict::Drop(reason),
            Refusal::Answer(403) if ack => Verdict::Drop(DropReason::AckRefused),
            Refusal::Answer(_) | Refusal::StayAway | Refusal::Options | Refusal::BadExtension if ack => {
                Verdict::Drop(DropReason::AckUnroutable)
            }
            Refusal::Answer(code) => self.answer(scratch, packet, message, code, reason(code), b""),
            Refusal::StayAway => self.stay_away(scratch, packet, message),
            Refusal::Options if self.takes_calls() => self.answer(scratch, packet, message, 200, reason(200), ALLOWED),
            Refusal::Options => self.stay_away(scratch, packet, message),
            Refusal::BadExtension => {
                let mut extra = [0; 512];
                let length = unsupported(packet.bytes(), message, &self.watch, &mut extra);
                let extra = extra.get(..length).unwrap_or_default();
                self.answer(scratch, packet, message, 420, reason(420), extra)
            }
        }
    }

    fn stay_away(&self, scratch: &mut [u8], packet: &mut Packet, message: &Message) -> Verdict {
        let extra = format_retry_after();
        self.answer(scratch, packet, message, 503, reason(503), &extra)
    }

    /// Answers a request whose grammar is broken; what cannot be answered is dropped.
    #[cold]
    pub(super) fn fault(&self, scratch: &mut [u8], packet: &mut Packet, message: &Message) -> Verdict {
        let Some(fault) = message.fault else { return Verdict::Drop(DropReason::Malformed) };
        if fault == Fault::NotSip {
            return Verdict::Drop(DropReason::NotSip);
        }
        let method = message.method();
        if method.is_none() || method == Some(Method::Ack) || message.vias.is_empty() {
            return Verdict::Drop(DropReason::Malformed);
        }
        self.answer(scratch, packet, message, fault.answer(), fault.text(), b"")
    }

    fn answer(
        &self,
        scratch: &mut [u8],
        packet: &mut Packet,
        message: &Message,
        code: u16,
        reason: &str,
        extra: &[u8],
    ) -> Verdict {
        let policy = self.return_policy(packet);
        let secrets = &self.shared.site.secrets;
        let bytes = packet.bytes();
        let broken = message.via.host.is_empty();
        let back = if broken {
            // The Via gives no way back: to where the packet came from.
            Return { received: false, rport: None, port: packet.source.port(), straight: false }
        } else {
            way_back(bytes, message, packet.source, &Quad::of(packet.source.ip()), policy)
        };
        let call = self.call_hash(bytes, message);
        let tag = to_tag(bytes, message, call, secrets);
        let received = back.received.then_some(packet.source.ip());
        let reply = reply::Reply { code, reason, to_tag: Some(&tag), received, rport: back.rport, extra };
        let Some(length) = reply::write(bytes, message, &reply, scratch) else {
            return Verdict::Drop(DropReason::ReplyImpossible);
        };
        if !packet.replace(scratch.get(..length).unwrap_or_default()) {
            return Verdict::Drop(DropReason::ReplyImpossible);
        }
        self.counters.reply(code);
        let to = SocketAddr::new(packet.source.ip(), back.port);
        Verdict::Reply(Egress { port: packet.port, peer: self.state.plan.peer(to), to })
    }
}

/// What sipring itself understands, for OPTIONS (11.2).
const ALLOWED: &[u8] = b"Allow: OPTIONS\r\nAccept: application/sdp\r\n";

fn format_retry_after() -> [u8; 17] {
    let mut line = *b"Retry-After: 00\r\n";
    line[13] = b'0' + (RETRY_AFTER_S / 10 % 10) as u8;
    line[14] = b'0' + (RETRY_AFTER_S % 10) as u8;
    line
}

/// The reason phrase of a code that we answer with.
fn reason(code: u16) -> &'static str {
    REPLIES.iter().find(|(own, _)| *own == code).map_or("Error", |(_, reason)| reason)
}

/// Writes `Unsupported: ...` with every option tag that Proxy-Require asks for; what does not fit is
/// left out whole.
fn unsupported(bytes: &[u8], message: &Message, watch: &crate::sip::Watch, out: &mut [u8; 512]) -> usize {
    const NAME: &[u8] = b"Unsupported: ";
    let mut length = 0;
    for value in sip::values(bytes, message.proxy_require(), Header::ProxyRequire, watch) {
        let lead: &[u8] = if length == 0 { NAME } else { b", " };
        let tag = value.span.of(bytes);
        let end = length + lead.len() + tag.len();
        // A folded value would end the line early.
        if end + 2 > out.len() || tag.contains(&b'\n') {
            break;
        }
        let room = out.iter_mut().skip(length);
        room.zip(lead.iter().chain(tag)).for_each(|(to, from)| *to = *from);
        length = end;
    }
    if length > 0 {
        out.iter_mut().skip(length).zip(b"\r\n").for_each(|(to, from)| *to = *from);
        length += 2;
    }
    length
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sip::Watch;

    fn back(via: &str, policy: ForceRport) -> Return {
        let text = format!(
            "OPTIONS sip:a@b SIP/2.0\r\nVia: {via}\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:a@b>\r\nCall-ID: 1\r\n\
             CSeq: 1 OPTIONS\r\n\r\n"
        );
        let message = sip::scan(text.as_bytes(), &Watch::NONE);
        assert_eq!(message.fault, None);
        let source: SocketAddr = "192.0.2.7:33000".parse().unwrap();
        way_back(text.as_bytes(), &message, source, &Quad::of(source.ip()), policy)
    }

    #[test]
    fn responses_go_where_the_policy_of_the_listener_says() {
        let plain = "SIP/2.0/UDP 192.0.2.7:5062;branch=z9hG4bKa";
        let nated = "SIP/2.0/UDP 10.0.0.7:5062;branch=z9hG4bKa";
        let asked = "SIP/2.0/UDP 192.0.2.7:5062;rport;branch=z9hG4bKa";
        let port = |via, policy| back(via, policy).port;
        assert_eq!(port(plain, ForceRport::Auto), 5062);
        assert_eq!(port(nated, ForceRport::Auto), 33000);
        assert_eq!(port(asked, ForceRport::Auto), 33000);
        assert_eq!(port(plain, ForceRport::Always), 33000);
        assert_eq!(port(nated, ForceRport::Never), 5062);
        assert_eq!(port(asked, ForceRport::Never), 33000);
    }

    #[test]
    fn what_a_client_claims_as_received_is_overwritten() {
        let lying = back("SIP/2.0/UDP 192.0.2.7:5062;received=198.51.100.1;branch=z9hG4bKa", ForceRport::Auto);
        assert!(lying.received);
        assert_eq!(lying.port, 5062);
        assert!(!back("SIP/2.0/UDP 192.0.2.7;branch=z9hG4bKa", ForceRport::Auto).received);
    }
}
