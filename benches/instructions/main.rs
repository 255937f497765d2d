//! One row of a call through the shard, a number of times; `run` counts its instructions.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a bench")]

#[path = "../../tests/rig/call.rs"]
mod call;
#[path = "../../tests/rig/mod.rs"]
mod rig;

use std::io::Write as _;

use sipring::packet::Sent;
use sipring::shard::Verdict;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let (name, rounds) = (arguments.next(), arguments.next().and_then(|rounds| rounds.parse::<u32>().ok()));
    let rows = call::rows();
    let (Some(name), Some(rounds)) = (name, rounds) else {
        for (name, messages) in rows {
            let bytes: Vec<_> = messages.iter().map(|message| message.bytes.len().to_string()).collect();
            let _ = writeln!(std::io::stdout(), "{name} {} {}", messages.len(), bytes.join("+"));
        }
        return;
    };
    let (_, messages) = rows.into_iter().find(|(own, _)| *own == name).unwrap();
    let mut rig = rig::Rig::bench();
    for _ in 0..rounds {
        for message in &messages {
            let mut packet = rig.pool.take().unwrap();
            assert!(packet.replace(&message.bytes));
            packet.received(message.bytes.len(), message.port, message.source);
            let verdict = rig.shard.handle(rig.now_ms, &mut packet, &mut rig.out);
            let Verdict::Forward(egress) = verdict else { panic!("{verdict:?}") };
            rig.out.decided(packet, egress, Sent::Forwarded).unwrap();
        }
        rig.out.sends().clear();
    }
}
