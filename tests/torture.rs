//! The torture messages of RFC 4475 through the whole shard: each has the outcome that a proxy owes.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test")]

mod rig;

use rig::{CLIENT, EDGE, NODES, Outcome, Rig};
use sipring::shard::{DropReason, Verdict};

/// What becomes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    /// Forwarded; everything but what a proxy must change is the same, byte for byte.
    Forward,
    /// Answered with this code.
    Answer(u16),
    /// A response that is dropped.
    Drop,
    /// A response that is forwarded if its top Via is ours, else dropped.
    Home,
}

use Expected::{Answer, Drop, Forward, Home};

const OUTCOMES: [(&str, Expected); 49] = [
    ("wsinv", Forward),
    ("intmeth", Forward),
    ("esc01", Forward),
    ("escnull", Forward),
    ("esc02", Forward),
    ("lwsdisp", Forward),
    ("longreq", Forward),
    ("dblreq", Forward),
    ("semiuri", Forward),
    ("transports", Forward),
    ("mpart01", Forward),
    ("unreason", Home),
    ("noreason", Home),
    ("badinv01", Answer(400)),
    ("clerr", Answer(400)),
    ("ncl", Answer(400)),
    ("scalar02", Answer(400)),
    ("scalarlg", Drop),
    ("quotbal", Answer(400)),
    ("ltgtruri", Answer(400)),
    ("lwsruri", Answer(400)),
    ("lwsstart", Answer(400)),
    ("trws", Answer(400)),
    ("escruri", Answer(400)),
    ("baddate", Forward),
    ("regbadct", Forward),
    ("badaspec", Answer(400)),
    ("baddn", Answer(400)),
    ("badvers", Answer(505)),
    ("mismatch01", Answer(400)),
    ("mismatch02", Answer(400)),
    ("bigcode", Drop),
    ("badbranch", Answer(400)),
    ("insuf", Answer(400)),
    ("unkscm", Answer(416)),
    ("novelsc", Answer(416)),
    ("unksm2", Forward),
    ("bext01", Answer(420)),
    ("invut", Forward),
    ("regaut01", Forward),
    ("multi01", Answer(400)),
    ("mcl01", Answer(400)),
    ("bcast", Drop),
    ("zeromf", Answer(483)),
    ("cparam01", Forward),
    ("cparam02", Forward),
    ("regescrt", Forward),
    ("sdp01", Forward),
    ("inv2543", Forward),
];

fn message(name: &str) -> Vec<u8> {
    std::fs::read(format!("{}/tests/messages/{name}.dat", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

/// Where the body begins.
fn body_at(bytes: &[u8]) -> usize {
    bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4
}

/// Header lines, folds included, without those that a proxy adds or changes.
fn kept(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut lines: Vec<Vec<u8>> = Vec::new();
    for line in bytes[..body_at(bytes) - 2].split_inclusive(|&byte| byte == b'\n') {
        match lines.last_mut().filter(|_| line.starts_with(b" ") || line.starts_with(b"\t")) {
            Some(last) => last.extend_from_slice(line),
            None => lines.push(line.to_vec()),
        }
    }
    let changed = ["via", "v", "max-forwards", "record-route", "path"];
    let name = |line: &Vec<u8>| {
        let colon = line.iter().position(|&byte| byte == b':').unwrap_or(0);
        String::from_utf8_lossy(&line[..colon]).trim().to_ascii_lowercase()
    };
    lines.retain(|line| !changed.contains(&name(line).as_str()) && line != b"Supported: path\r\n");
    lines
}

/// The body by Content-Length, else to the end.
fn body(bytes: &[u8]) -> Vec<u8> {
    let head = String::from_utf8_lossy(&bytes[..body_at(bytes)]).to_ascii_lowercase();
    let length = head.split("\r\n").find_map(|line| {
        let (name, value) = line.split_once(':')?;
        let name = name.trim();
        (name == "content-length" || name == "l").then(|| value.trim().parse::<usize>().ok()).flatten()
    });
    let rest = &bytes[body_at(bytes)..];
    rest[..length.unwrap_or(rest.len())].to_vec()
}

fn judge(name: &str, expected: Expected, bytes: &[u8], outcome: &Outcome, rig: &mut Rig) -> Result<(), String> {
    match expected {
        Forward => {
            let to = outcome.to().ok_or_else(|| format!("{:?}\n{}", outcome.verdict, outcome.text()))?;
            if rig.shard.state().plan.from_addr(to).is_none() {
                return Err(format!("left the cluster: {to}"));
            }
            if kept(bytes) != kept(&outcome.bytes) {
                return Err(format!("headers changed:\n{}", outcome.text()));
            }
            if body(bytes) != outcome.bytes[body_at(&outcome.bytes)..] {
                return Err("the body changed, or octets beyond it were forwarded".to_owned());
            }
            Ok(())
        }
        Answer(code) if outcome.reply() == Some(code) => Ok(()),
        Drop if matches!(outcome.verdict, Verdict::Drop(_)) => Ok(()),
        Home => home(bytes, outcome, rig),
        Answer(_) | Drop => Err(format!("{:?} for {name}\n{}", outcome.verdict, outcome.text())),
    }
}

/// A response is dropped as it stands, and forwarded once a Via of ours is on top.
fn home(bytes: &[u8], outcome: &Outcome, rig: &mut Rig) -> Result<(), String> {
    if outcome.verdict != Verdict::Drop(DropReason::ForeignVia) {
        return Err(format!("{:?} without a Via of ours", outcome.verdict));
    }
    let sent = rig.from_client(&rig::request("OPTIONS", "sip:bob@example.com", ""));
    let (via, node) = (sent.all("Via").remove(0), sent.to().unwrap());
    let line_end = bytes.iter().position(|&byte| byte == b'\n').unwrap() + 1;
    let mut ours = bytes[..line_end].to_vec();
    ours.extend_from_slice(format!("Via: {via}\r\nVia: SIP/2.0/UDP 192.0.2.50;branch=z9hG4bKx\r\n").as_bytes());
    let without = bytes[line_end..].split_inclusive(|&byte| byte == b'\n').filter(|line| !line.starts_with(b"Via:"));
    without.for_each(|line| ours.extend_from_slice(line));
    let forwarded = rig.pass(&ours, NODES, &node.to_string());
    if forwarded.to() != Some("192.0.2.50:5060".parse().unwrap()) {
        return Err(format!("{:?}\n{}", forwarded.verdict, forwarded.text()));
    }
    if forwarded.bytes[..line_end] != bytes[..line_end] {
        return Err("the reason phrase changed".to_owned());
    }
    Ok(())
}

#[test]
fn every_torture_message_has_its_outcome() {
    let mut wrong = Vec::new();
    for (name, expected) in OUTCOMES {
        let mut rig = Rig::new();
        let bytes = message(name);
        let outcome = rig.pass(&bytes, EDGE, CLIENT);
        if let Err(why) = judge(name, expected, &bytes, &outcome, &mut rig) {
            wrong.push(format!("== {name}: {expected:?} expected, {why}"));
        }
    }
    println!("{} of {} torture messages", OUTCOMES.len() - wrong.len(), OUTCOMES.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_is_refused_says_why_and_keeps_what_a_transaction_is_told_by() {
    let mut rig = Rig::new();
    let outcome = rig.pass(&message("bext01"), EDGE, CLIENT);
    assert_eq!(outcome.one("Unsupported"), "noProxiesSupportThis, norDoAnyProxiesSupportThis");
    assert!(outcome.one("To").contains(";tag="));
}
