//! What settings of the machine and of sockets are worth: the table in `tuning/README.md`.
//!
//! `cargo bench --bench tuning`, as root, since part of it needs network namespaces. Variants take
//! turns, so that a machine that gets slower meanwhile is slower for all; median and least of the
//! rounds are shown, and the median's ratio to the first variant of its group.

#![expect(unsafe_code, reason = "socket options, clocks and advice that no crate at hand has")]
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed step fails the bench")]
#![expect(clippy::disallowed_methods, reason = "it measures time")]

#[path = "tuning/loops.rs"]
mod loops;
#[path = "tuning/raw.rs"]
mod raw;

use raw::Veth;

const ROUNDS: usize = 9;

/// One way to do a thing: its name, and a run of it that gives figures.
pub(crate) type Variant<'a> = (String, Box<dyn FnMut() -> Vec<f64> + 'a>);

/// Runs the variants in turn and prints a table of what they gave.
fn compare(title: &str, units: &[&str], mut variants: Vec<Variant<'_>>) {
    let mut all: Vec<Vec<Vec<f64>>> = vec![Vec::new(); variants.len()];
    // The first round warms up.
    for round in 0..=ROUNDS {
        for ((_, run), figures) in variants.iter_mut().zip(&mut all) {
            let figure = run();
            if round > 0 {
                figures.push(figure);
            }
        }
    }
    println!("\n{title}\n");
    let heads: Vec<String> = units.iter().map(|unit| format!("{unit}, median (least) | ratio")).collect();
    println!("| variant | {} |\n|---{}|", heads.join(" | "), "|---|---".repeat(units.len()));
    let sorted = |variant: usize, unit: usize| {
        let mut column: Vec<f64> = all[variant].iter().map(|figures| figures[unit]).collect();
        column.sort_by(f64::total_cmp);
        column
    };
    for (place, (name, _)) in variants.iter().enumerate() {
        let cells = (0..units.len()).map(|unit| {
            let (own, first) = (sorted(place, unit), sorted(0, unit));
            let (median, base) = (own[own.len() / 2], first[first.len() / 2]);
            format!("{median:.0} ({:.0}) | {:.2}", own[0], median / base)
        });
        println!("| {name} | {} |", cells.collect::<Vec<_>>().join(" | "));
    }
}

fn main() {
    let pinned = core_affinity::get_core_ids().and_then(|cpus| cpus.first().copied());
    pinned.map(core_affinity::set_for_current);
    let per_datagram = "ns of cpu a datagram";
    compare(
        "Batch: a socket that sends to itself and receives, loopback, 400 bytes",
        &[per_datagram],
        loops::batches(),
    );
    compare(
        "Huge pages for packets: the same, batch 64, all of the pool advised before its first use",
        &[per_datagram],
        loops::huge_pages(),
    );
    compare("Steering: one sender, two workers, INVITEs of 650 bytes, loopback", &[per_datagram], loops::steering());
    compare("Receive buffer: a burst of 20,000 datagrams of 400 bytes while nobody reads", &["lost"], raw::bursts());
    let Some(veth) = Veth::new() else {
        println!("\nNo network namespaces: the rest needs root.");
        return;
    };
    compare(
        "UDP GRO at the receiver, a sender without GSO, veth with GRO on, 400 bytes",
        &[per_datagram],
        raw::receive_offload(&veth),
    );
    compare(
        "NAPI busy-poll: a peer on another cpu that echoes, veth with GRO on, one datagram under way",
        &["ns there and back", "ns of cpu of the echo"],
        raw::busy_poll(&veth),
    );
}
