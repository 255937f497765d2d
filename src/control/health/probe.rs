//! The text of a probe, and what an answer to one says.
//!
//! Pure functions of their inputs; the same token gives the same bytes, so that a retransmission is
//! one.

use std::net::SocketAddr;

use crate::sip::{self, Watch};

use super::monitor::Token;

/// What our branches begin with, the magic cookie and two letters that no worker uses.
const BRANCH: &str = "z9hG4bK0p";

/// The OPTIONS that goes from `local` to `to`.
pub(super) fn request(token: Token, local: SocketAddr, to: SocketAddr) -> Vec<u8> {
    let Token(number) = token;
    let (tag, call) = (number as u32, (number >> 32) as u64);
    format!(
        "OPTIONS sip:{to} SIP/2.0\r\nVia: SIP/2.0/UDP {local};branch={BRANCH}{number:032x};rport\r\nMax-Forwards: 70\r\n\
         From: <sip:sipring@{local}>;tag={tag:08x}\r\nTo: <sip:{to}>\r\nCall-ID: {call:016x}@{}\r\nCSeq: 1 OPTIONS\r\n\
         Contact: <sip:sipring@{local}>\r\nAccept: application/sdp\r\nUser-Agent: sipring\r\nContent-Length: 0\r\n\r\n",
        local.ip()
    )
    .into_bytes()
}

/// Token and code of a final response to a probe; none for anything else.
pub(super) fn response(bytes: &[u8]) -> Option<(Token, u16)> {
    let message = sip::scan(bytes, &Watch::NONE);
    let code = message.code().filter(|code| (200..700).contains(code))?;
    let branch = std::str::from_utf8(message.via.branch.of(bytes)).ok()?;
    let digits = branch.strip_prefix(BRANCH).filter(|digits| digits.len() == 32)?;
    Some((Token(u128::from_str_radix(digits, 16).ok()?), code))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: Token = Token(0x0123_4567_89ab_cdef_0011_2233_4455_6677);

    fn probe(local: &str, to: &str) -> String {
        String::from_utf8(request(TOKEN, local.parse().unwrap(), to.parse().unwrap())).unwrap()
    }

    /// As a node answers it.
    fn answer(probe: &str, code: u16) -> String {
        let via =
            probe.lines().find(|line| line.starts_with("Via")).unwrap().replace(";rport", ";rport=4;received=::1");
        let kept =
            probe.lines().filter(|line| ["From", "To", "Call", "CSeq"].iter().any(|name| line.starts_with(name)));
        let kept: Vec<&str> = kept.collect();
        format!("SIP/2.0 {code} Whatever\r\n{via}\r\n{};tag=1\r\nContent-Length: 0\r\n\r\n", kept.join("\r\n"))
    }

    #[test]
    fn a_probe_is_a_sound_request_and_its_answer_is_known_again() {
        for (local, to) in [("10.0.0.1:40000", "10.0.0.2:5060"), ("[fd00::1]:40000", "[fd00::2]:5080")] {
            let probe = probe(local, to);
            let message = sip::scan(probe.as_bytes(), &Watch::NONE);
            assert_eq!(message.fault, None);
            assert!(probe.starts_with(&format!("OPTIONS sip:{to} SIP/2.0\r\n")));
            assert_eq!(response(answer(&probe, 404).as_bytes()), Some((TOKEN, 404)));
        }
    }

    #[test]
    fn what_is_no_final_response_to_a_probe_says_nothing() {
        let probe = probe("10.0.0.1:40000", "10.0.0.2:5060");
        let sound = answer(&probe, 200);
        assert_eq!(response(probe.as_bytes()), None, "the request itself");
        assert_eq!(response(answer(&probe, 100).as_bytes()), None);
        assert_eq!(response(sound.replace(BRANCH, "z9hG4bK0r").as_bytes()), None);
        assert_eq!(response(sound.replace("6677;", "667;").as_bytes()), None);
        assert_eq!(response(sound.replace("6677;", "66zz;").as_bytes()), None);
        assert_eq!(response(b"SIP/2.0 200"), None);
        assert_eq!(response(b""), None);
        assert_eq!(response(&[0xff; 200]), None);
    }
}
