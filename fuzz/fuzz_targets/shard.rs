//! The whole shard: whatever arrives, it decides without a panic, answers no ACK or response, sends
//! what clients send to nodes only, and what it forwards scans again.
#![no_main]

#[path = "../../tests/rig/mod.rs"]
mod rig;

use std::cell::RefCell;

use libfuzzer_sys::fuzz_target;
use rig::{CLIENT, EDGE, NODE1, NODES, Rig, WORKERS};
use sipring::balance::{ContactMode, SourceForm, SourceHeader};
use sipring::shard::Verdict;
use sipring::sip::{self, Method, Watch};

thread_local! {
    static RIG: RefCell<Rig> = RefCell::new(Rig::with(|parts| {
        parts.policy.contact = ContactMode::Rewrite;
        parts.policy.source_header = Some(SourceHeader { name: "X-Source".to_owned(), form: SourceForm::Full });
    }));
}

fuzz_target!(|input: &[u8]| {
    let Some((&how, bytes)) = input.split_first() else { return };
    if bytes.len() > sipring::packet::DATAGRAM_MAX {
        return;
    }
    let (port, source) = match how % 4 {
        0 => (EDGE, CLIENT),
        1 => (NODES, NODE1),
        2 => (WORKERS, NODE1),
        _ => (NODES, CLIENT),
    };
    RIG.with_borrow_mut(|rig| {
        rig.now_ms += u64::from(how);
        // Line ends before the start line are passed over.
        let ends = bytes.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        let begun = &bytes[ends..];
        let before = sip::scan(begun, &Watch::NONE);
        let outcome = rig.pass(bytes, port, source);
        match outcome.verdict {
            Verdict::Forward(egress) => {
                let after = sip::scan(&outcome.bytes, &Watch::NONE);
                assert_eq!(after.fault, None, "{}", outcome.text());
                assert_eq!(before.call_id.of(begun), after.call_id.of(&outcome.bytes));
                assert_eq!(before.body().of(begun), after.body().of(&outcome.bytes));
                if source == CLIENT && before.is_request() {
                    assert!(rig.shard.state().plan.from_addr(egress.to).is_some(), "left the cluster: {}", egress.to);
                }
            }
            Verdict::Reply(_) => {
                assert!(before.is_request() && before.method() != Some(Method::Ack));
                assert_eq!(sip::scan(&outcome.bytes, &Watch::NONE).code(), outcome.reply());
            }
            Verdict::Absorb | Verdict::Drop(_) | Verdict::Handoff(_) => {}
        }
        assert_eq!(rig.pool.usage().free, rig.pool.usage().slots, "a packet was lost");
    });
});
