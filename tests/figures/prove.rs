//! Reproduces a measured figure: `tests/prove N.M` builds the release binary and runs this with the figure's number.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a figure stops at the first surprise, and is its own clock"
)]
#![allow(dead_code, reason = "the tests use the rest of the harness")]

/// The far side's sockets of benches/sidebyside.
#[path = "../../benches/sidebyside/far"]
#[allow(dead_code, reason = "not all of it is asked for here")]
mod far {
    mod door;
    pub(crate) mod sockets;

    pub(crate) use door::{Came, Door};
}
#[path = "../harness/mod.rs"]
mod harness;

mod bypass;
mod calls;
mod cycles;
mod generator;
mod health;
mod spread;
mod trains;
mod trunk;

use std::process::ExitCode;
use std::time::Duration;

use harness::{restart, ringing, size};

fn main() -> ExitCode {
    if harness::node::serve_if_told() {
        return ExitCode::SUCCESS;
    }
    let figure = std::env::args().nth(1).unwrap_or_default();
    if matches!(figure.as_str(), "1.1" | "1.2" | "1.3" | "1.7") {
        println!("datapath: {}, as every \"ready\" line has to say", harness::spec::datapath());
    }
    let holds = match figure.as_str() {
        "1.1" => calls::run(500, 20),
        "1.2" => outlives_a_kill(1_000),
        "1.3" => keeps_ringing_calls(1_000, Duration::from_secs(100)),
        "1.4" => spread::run(),
        "1.7" => carries_large_datagrams(),
        "2.3" => health::finds_lost_nodes(std::env::args().nth(2).as_deref()),
        "2.4" => health::switches_pairs(),
        "2.5" => cycles::run(1_000, 100),
        "3.4" => trunk::run(),
        "3.6" => bypass::carries(10_000_000),
        "trains-cost" => trains::run_all(&std::env::args().skip(2).collect::<Vec<_>>()),
        _ => {
            eprintln!(
                "no figure `{figure}` here; there are 1.1, 1.2, 1.3, 1.4, 1.7, 2.3, 2.4, 2.5, 3.4, 3.6 and trains-cost"
            );
            return ExitCode::from(2);
        }
    };
    println!("{figure} {}", if holds { "PASS" } else { "FAIL" });
    if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn outlives_a_kill(dialogs: usize) -> bool {
    println!(
        "kill -9 with {dialogs} established dialogs; restart with one node more, one weight changed, the nodes in"
    );
    println!(
        "another order and one worker more; then a re-INVITE and a BYE in each, half from clients, half from nodes"
    );
    let with = restart::run(dialogs, true);
    println!("  with cookies:    {with}");
    with.faults.iter().take(5).for_each(|fault| println!("    {fault}"));
    let without = restart::run(dialogs, false);
    println!("  without cookies: {without}");
    let needed = without.reinvites < dialogs && without.byes < dialogs;
    if !needed {
        println!("  without cookies nothing is lost: the test would prove nothing");
    }
    with.holds() && needed
}

fn keeps_ringing_calls(calls: usize, ring: Duration) -> bool {
    println!(
        "{calls} INVITEs ring {} s while the table of nodes changes; then a third is cancelled, a third",
        ring.as_secs()
    );
    println!("refused, a third retransmitted and refused");
    let outcome = ringing::run(calls, ring);
    println!("{outcome}");
    outcome.faults.iter().take(5).for_each(|fault| println!("    {fault}"));
    if !outcome.took_effect {
        println!("  the changes had not their effect on new calls: the test would prove nothing");
    }
    outcome.holds()
}

fn carries_large_datagrams() -> bool {
    println!("bodies of INVITE and 200 over veth links with an MTU of 1,500, compared byte by byte");
    let rows = size::run();
    rows.iter().for_each(|row| println!("  {row}"));
    !rows.is_empty() && rows.iter().all(|row| row.there && row.back)
}
