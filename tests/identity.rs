//! Owner and Via are one for INVITE, retransmission, CANCEL and non-2xx ACK, from every worker and
//! for every worker count; and no two transactions share them.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]

mod rig;

use std::collections::HashSet;

use proptest::prelude::*;
use rig::{Parts, Rig};
use sipring::shard::Verdict;
use sipring::sip::Method;

/// What a transaction is made of.
#[derive(Clone, Debug)]
struct Transaction {
    branch: Option<String>,
    host: String,
    tag: Option<String>,
    call: String,
    number: u32,
    user: String,
}

fn transaction() -> impl Strategy<Value = Transaction> {
    let branch = prop_oneof![
        8 => "z9hG4bK[a-zA-Z0-9.-]{1,40}".prop_map(Some),
        1 => "[a-y][a-zA-Z0-9]{1,12}".prop_map(Some),
        1 => Just(None),
    ];
    let host = prop_oneof![
        Just("192.0.2.50:5060".to_owned()),
        Just("phone.example.org".to_owned()),
        Just("[2001:db8::7]".to_owned())
    ];
    let tag = prop_oneof![9 => "[a-z0-9]{1,16}".prop_map(Some), 1 => Just(None)];
    (branch, host, tag, "[a-zA-Z0-9]{1,40}(@[a-z0-9.]{1,20})?", any::<u32>(), "[a-z0-9]{1,10}")
        .prop_map(|(branch, host, tag, call, number, user)| Transaction { branch, host, tag, call, number, user })
}

fn text(of: &Transaction, method: &str, to_tag: &str) -> String {
    let branch = of.branch.as_ref().map(|branch| format!(";branch={branch}")).unwrap_or_default();
    let tag = of.tag.as_ref().map(|tag| format!(";tag={tag}")).unwrap_or_default();
    format!(
        "{method} sip:{}@example.com SIP/2.0\r\nv: SIP/2.0/UDP {}{branch}\r\nf: <sip:a@example.org>{tag}\r\n\
         t: <sip:b@example.org>{to_tag}\r\ni: {}\r\nCSeq: {} {method}\r\nMax-Forwards: 70\r\nl: 0\r\n\r\n",
        of.user, of.host, of.call, of.number
    )
}

/// Our Via and the owner that each worker names for one message.
fn seen(rigs: &mut [Rig], message: &str) -> (String, Vec<Option<u16>>) {
    let mut vias = HashSet::new();
    let mut owners = Vec::new();
    for rig in rigs {
        let mut outcome = rig.from_client(message);
        let owner = if let Verdict::Handoff(owner) = outcome.verdict { Some(owner.0) } else { None };
        owners.push(owner);
        if owner.is_some() {
            let mut packet = rig.pool.take().unwrap();
            assert!(packet.replace(message.as_bytes()));
            packet.received(message.len(), rig::EDGE, rig::CLIENT.parse().unwrap());
            packet.handed = true;
            outcome = rig.pass_packet(packet);
        }
        assert!(outcome.to().is_some(), "{:?}\n{message}", outcome.verdict);
        vias.insert(outcome.all("Via").remove(0));
    }
    assert_eq!(vias.len(), 1, "{vias:?}");
    (vias.into_iter().next().unwrap(), owners)
}

fn workers(count: u16) -> Vec<Rig> {
    let mut parts = Parts::default();
    parts.options.workers = count;
    parts.options.owner_handoff = true;
    let first = Rig::of(&parts);
    let more: Vec<Rig> = (1..count).map(|me| first.sibling(me)).collect();
    std::iter::once(first).chain(more).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn one_transaction_has_one_via_and_one_owner(of in transaction()) {
        let mut across = HashSet::new();
        for count in 1..=4 {
            let mut rigs = workers(count);
            let invite = seen(&mut rigs, &text(&of, "INVITE", ""));
            prop_assert_eq!(&seen(&mut rigs, &text(&of, "INVITE", "")), &invite);
            prop_assert_eq!(&seen(&mut rigs, &text(&of, "CANCEL", "")), &invite);
            // RFC 2543 had the To tag in CANCEL and ACK alike; either way it is left out.
            prop_assert_eq!(&seen(&mut rigs, &text(&of, "ACK", ";tag=x1")), &invite);
            prop_assert_eq!(invite.1.iter().filter(|owner| owner.is_none()).count(), 1, "one owner");
            across.insert(invite.0);
        }
        prop_assert_eq!(across.len(), 1, "the Via does not depend on the worker count");
    }

    #[test]
    fn another_transaction_has_another_via(a in transaction(), b in transaction()) {
        prop_assume!((&a.branch, &a.host, &a.call, a.number) != (&b.branch, &b.host, &b.call, b.number));
        let mut rigs = workers(1);
        let (one, _) = seen(&mut rigs, &text(&a, "INVITE", ""));
        let (other, _) = seen(&mut rigs, &text(&b, "INVITE", ""));
        prop_assert_ne!(one, other);
    }
}

#[test]
fn every_method_has_a_number_below_the_count_of_keys() {
    assert!((Method::Unknown as usize) < sipring::balance::METHODS);
}
