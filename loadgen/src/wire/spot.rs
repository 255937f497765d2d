//! A spot: one local address that calls begin at or are answered at, and all its texts.
//!
//! Owns what every message from there says alike, written once when its socket is open. Driven by the
//! agent.

use std::net::{IpAddr, SocketAddr};

use sipring::packet::PortId;
use sipring::sip::{Method, Text};

use super::stencil::{EXTRA, LEG, SEQ, Stencil, TX, USER};
use super::{NO_BODY, hash};
use crate::agent::number::{NODE_DIGITS, RUN_DIGITS};
use crate::flow::Flow;

/// What is the same at every spot of a run.
#[derive(Clone, Debug)]
pub(crate) struct Wording<'a> {
    pub(crate) run: &'a [u8; RUN_DIGITS],
    pub(crate) flow: Option<Flow>,
    pub(crate) user: &'a str,
    /// More than one: the name is followed by six digits.
    pub(crate) users: u32,
    /// Whom registrations are for: host of From and To.
    pub(crate) domain: String,
    pub(crate) callee: &'a str,
}

/// One local address.
#[derive(Debug)]
pub(crate) struct Spot {
    pub(crate) port: PortId,
    /// It takes calls.
    pub(crate) answers: bool,
    /// As messages name it.
    pub(crate) address: String,
    pub(crate) key: [u8; NODE_DIGITS],
    /// `Via: ...;branch=z9hG4bKRUN`, which a leg's digits follow.
    pub(crate) via: Vec<u8>,
    /// What stands in a branch before the digits, and what stands behind them in a Call-ID.
    pub(crate) branch: Vec<u8>,
    pub(crate) call_id_tail: Vec<u8>,
    /// What Contact says, without brackets.
    pub(crate) contact_uri: Vec<u8>,
    /// Contact and the end of a message without a body.
    pub(crate) contact: Vec<u8>,
    /// Contact and a body.
    pub(crate) offer: Vec<u8>,
    /// First requests, behind the start line.
    pub(crate) first: Stencil,
    /// The ACK to a refusal, CANCEL: up to To.
    pub(crate) further: Stencil,
    /// To of first requests, a whole line.
    pub(crate) to: Vec<u8>,
}

impl Spot {
    pub(crate) fn new(port: PortId, address: SocketAddr, answers: bool, wording: &Wording<'_>) -> Self {
        let run = String::from_utf8_lossy(wording.run).into_owned();
        let user = if wording.users > 1 { format!("{}{USER}", wording.user) } else { wording.user.to_owned() };
        let plain = wording.user.to_owned();
        let branch = format!("z9hG4bK{run}");
        let via = format!("Via: SIP/2.0/UDP {address};rport;branch={branch}");
        let contact_uri = format!("sip:{plain}@{address}");
        let body = sdp(address.ip());
        let contact = format!("Contact: <{contact_uri}>\r\n");
        let typed = format!("Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        let call_id_tail = format!("-{run}@{}", address.ip());
        let host = match wording.flow {
            Some(Flow::Register) => wording.domain.clone(),
            _ => address.to_string(),
        };
        let from = format!("From: <sip:{user}@{host}>;tag={run}{LEG}\r\n");
        let head = format!("{via}{LEG}{TX}\r\nMax-Forwards: 70\r\n{from}Call-ID: {LEG}{call_id_tail}\r\n");
        let method = wording.flow.map_or(Method::Options, Flow::method);
        let mut first = format!("{head}CSeq: {SEQ} {}\r\n{EXTRA}", method.name());
        let to = if method == Method::Register { &user } else { wording.callee };
        let to = format!("To: <sip:{to}@{}>\r\n", wording.domain);
        first.push_str(&to);
        let end = String::from_utf8_lossy(NO_BODY);
        first += &if method == Method::Invite {
            format!("{contact}{typed}")
        } else if method == Method::Register {
            format!("Contact: <sip:{user}@{address}>\r\nExpires: 3600\r\n{end}")
        } else {
            format!("{contact}Accept: application/sdp\r\n{end}")
        };
        Self {
            port,
            answers,
            key: key(&address.to_string()),
            address: address.to_string(),
            via: via.into_bytes(),
            branch: branch.into_bytes(),
            call_id_tail: call_id_tail.into_bytes(),
            contact_uri: contact_uri.into_bytes(),
            contact: [contact.as_bytes(), NO_BODY].concat(),
            offer: [contact, typed].concat().into_bytes(),
            first: Stencil::new(&first),
            further: Stencil::new(&head),
            to: to.into_bytes(),
        }
    }
}

/// What a node's To tags end with.
fn key(address: &str) -> [u8; NODE_DIGITS] {
    let mut digits = [0; 16];
    Text::new(&mut digits).hex(hash(address.as_bytes()));
    digits.first_chunk().copied().unwrap_or_default()
}

/// An offer of one voice stream, of the usual size.
fn sdp(ip: IpAddr) -> String {
    let family = if ip.is_ipv4() { "IP4" } else { "IP6" };
    format!(
        "v=0\r\no=sipring-load 53655765 2353687637 IN {family} {ip}\r\ns=-\r\nc=IN {family} {ip}\r\nt=0 0\r\nm=audio 20000 \
         RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\n"
    )
}

#[cfg(test)]
mod tests {
    use sipring::sip::{Watch, scan};

    use super::super::stencil::Fill;
    use super::*;

    #[test]
    fn first_requests_of_all_flows_are_sound() {
        for flow in Flow::ALL {
            for (address, users) in [("192.0.2.7:5060", 1), ("[2001:db8::7]:5062", 9)] {
                let domain = "example.com".to_owned();
                let wording =
                    Wording { run: b"00c0ffee", flow: Some(flow), user: "load", users, domain, callee: "call" };
                let mut spot = Spot::new(PortId(0), address.parse().unwrap(), false, &wording);
                let mut room = [0; 2048];
                let mut text = Text::new(&mut room);
                text.str(flow.method().name());
                text.str(" sip:call@192.0.2.1 SIP/2.0\r\n");
                let fill = Fill { leg: b"0123456789abcdef", tx: 1, seq: 1, user: 7, extra: b"" };
                spot.first.write(&fill, &mut text);
                let len = text.len();
                let bytes = &room[..len];
                let message = scan(bytes, &Watch::NONE);
                assert_eq!(message.fault, None, "{}", String::from_utf8_lossy(bytes));
                assert_eq!(usize::from(message.end), len);
                assert_eq!(message.via.branch.of(bytes), b"z9hG4bK00c0ffee0123456789abcdef01");
                assert_eq!(message.from.tag.of(bytes), b"00c0ffee0123456789abcdef");
                assert!(message.call_id.of(bytes).starts_with(b"0123456789abcdef-00c0ffee@"));
                assert!(!message.contact().is_empty());
            }
        }
    }
}
