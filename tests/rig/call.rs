//! The messages of a call as they arrive at the shard, for benches and counts.
#![allow(unreachable_pub, dead_code, reason = "shared by several binaries")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test rig")]

use std::net::SocketAddr;

use sipring::packet::PortId;

use super::rig::{CLIENT, EDGE, NODES, Outcome, Rig, response};

/// One arriving message.
#[derive(Clone, Debug)]
pub struct Arriving {
    pub bytes: Vec<u8>,
    pub port: PortId,
    pub source: SocketAddr,
}

const SDP: &str = "v=0\r\no=alice 2890844526 2890844526 IN IP4 192.0.2.50\r\ns=-\r\nc=IN IP4 192.0.2.50\r\nt=0 0\r\n\
                   m=audio 49172 RTP/AVP 0 8\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\na=ptime:20\r\n\
                   m=video 49174 RTP/AVP 97\r\na=rtpmap:97 H264/90000\r\na=sendrecv\r\n";

fn request(method: &str, uri: &str, routes: &str, to_tag: &str, branch: &str, sdp: bool) -> String {
    let (kind, body) = if sdp { ("Content-Type: application/sdp\r\n", SDP) } else { ("", "") };
    format!(
        "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.50:5060;branch=z9hG4bK-{branch}-3a5f-19c2;rport\r\n\
         {routes}Max-Forwards: 70\r\nFrom: \"Alice\" <sip:alice@example.org>;tag=9fxced76sl\r\n\
         To: <sip:bob@example.org>{to_tag}\r\nCall-ID: 3848276298220188511@192.0.2.50\r\nCSeq: 1 {method}\r\n\
         Contact: <sip:alice@192.0.2.50:5060;transport=udp>\r\nUser-Agent: phone/1.0\r\n{kind}\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn routes(of: &Outcome) -> String {
    of.all("Record-Route").iter().rev().map(|value| format!("Route: {value}\r\n")).collect()
}

/// INVITE, 200, ACK, BYE and 200 of one call, as they arrive.
pub fn flow(rig: &mut Rig, sdp: bool) -> Vec<Arriving> {
    let client: SocketAddr = CLIENT.parse().unwrap();
    let edge = |text: String| Arriving { bytes: text.into_bytes(), port: EDGE, source: client };
    let tag = ";tag=314159";
    let invite = edge(request("INVITE", "sip:bob@example.org", "", "", "invite", sdp));
    let sent = rig.pass(&invite.bytes, EDGE, CLIENT);
    let node = sent.to().unwrap_or_else(|| panic!("{:?}", sent.verdict));
    let home = |text: String| Arriving { bytes: text.into_bytes(), port: NODES, source: node };
    let contact = "Contact: <sip:bob@10.0.0.11:5060>\r\nUser-Agent: pbx/1.0\r\n";
    let ok = home(response(&sent, 200, "314159", contact));
    let ack = edge(request("ACK", "sip:bob@10.0.0.11:5060", &routes(&sent), tag, "ack", false));
    let bye = edge(request("BYE", "sip:bob@10.0.0.11:5060", &routes(&sent), tag, "bye", false));
    let ended = rig.pass(&bye.bytes, EDGE, CLIENT);
    let bye_ok = home(response(&ended, 200, "", ""));
    vec![invite, ok, ack, bye, bye_ok]
}

/// What is measured: the call, each of its messages, and an INVITE of 650 bytes with SDP.
pub fn rows() -> Vec<(&'static str, Vec<Arriving>)> {
    let mut rig = Rig::bench();
    let call = flow(&mut rig, true);
    let names = ["invite", "ok", "ack", "bye", "bye-ok"];
    let each: Vec<_> = names.into_iter().zip(&call).map(|(name, message)| (name, vec![message.clone()])).collect();
    std::iter::once(("call", call)).chain(each).collect()
}
