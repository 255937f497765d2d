//! sipring beside bare forwarders and its peers: `benches/sidebyside/run` builds what it needs and runs this.
//!
//! Every subject carries the same calls of one far side, one at a time, alone on the first cpu. Prints each measurement as
//! it is made, and writes tables, charts and all numbers.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a measurement stops at the first surprise, and is its own clock"
)]
#![allow(dead_code, reason = "the tests use the rest of the harness")]

#[path = "../../tests/harness/mod.rs"]
mod harness;

mod account;
mod bare;
mod chart;
mod far;
mod generators;
mod profile;
mod report;
mod round;
mod scene;
mod subject;
mod tables;
mod xsk;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

use far::Pace;
use round::{Outcome, Ring};
use scene::{Scene, Times};
use tables::{Lan, Table};

/// Sets sipring beside bare forwarders and its peers.
#[derive(Parser)]
struct Choice {
    /// Valid rounds of each contest.
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Tables or contests to measure; all, if none is named.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// The contests of a figure, whose limits then decide how this ends.
    #[arg(long)]
    figure: Option<String>,
    /// Time of each measurement, ms; a third of it before is for warming up.
    #[arg(long, default_value_t = 1_800)]
    measured_ms: u64,
    /// Where results are written to.
    #[arg(long, default_value = "benches/sidebyside/results")]
    out: PathBuf,
    /// Instead of rounds: where a message's time goes, by perf, in what is named.
    #[arg(long)]
    profile: bool,
    /// Names tables and contests, and measures nothing.
    #[arg(long)]
    list: bool,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some((bare::WORD, words)) = arguments.split_first().map(|(first, rest)| (first.as_str(), rest)) {
        return match bare::serve(words) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("bare forwarder: {error}");
                ExitCode::FAILURE
            }
        };
    }
    let choice = Choice::parse();
    let mut only = choice.only.clone();
    if let Some(figure) = &choice.figure {
        let Some(contests) = tables::of_figure(figure) else {
            eprintln!("no figure `{figure}` here");
            return ExitCode::from(2);
        };
        only.extend(contests.iter().map(|name| (*name).to_owned()));
    }
    let tables = chosen(&only);
    let generators = only.is_empty() || only.iter().any(|word| word == generators::NAME);
    if choice.list || (tables.is_empty() && !generators) {
        for table in tables::tables() {
            println!("{}: {}", table.name, table.title);
            table.contests.iter().for_each(|contest| println!("  {}", contest.name));
        }
        println!("{}: {}", generators::NAME, generators::TITLE);
        return if choice.list { ExitCode::SUCCESS } else { ExitCode::from(2) };
    }
    let mut good = true;
    if choice.profile {
        tables.iter().for_each(|table| profile_all(table, &choice));
        return ExitCode::SUCCESS;
    }
    for table in &tables {
        let outcomes = measure(table, &choice);
        good &= report::write(table, &outcomes, &choice.out, choice.rounds).unwrap();
    }
    if generators {
        good &= generators::measure(choice.rounds, &choice.out).unwrap();
    }
    let Some(figure) = &choice.figure else { return ExitCode::SUCCESS };
    println!("{figure} {}", if good { "PASS" } else { "FAIL" });
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The tables with what is named of them.
fn chosen(only: &[String]) -> Vec<Table> {
    let named = |name: &str| only.is_empty() || only.iter().any(|word| word == name);
    let mut tables = tables::tables();
    for table in &mut tables {
        if !named(table.name) {
            table.contests.retain(|contest| named(contest.name));
        }
    }
    tables.retain(|table| !table.contests.is_empty());
    tables
}

/// The network of a table, and what bare forwarders do in it.
fn scene(table: &Table) -> (Scene, PathBuf) {
    println!("== {}: {}", table.name, table.title);
    let scene = match table.lan {
        Lan::Loopback => Scene::loopback(),
        Lan::Veth(nodes) => Scene::veth(nodes),
    };
    let script = scene.script().unwrap_or_else(|why| panic!("no flow to carry: {why}"));
    (scene, script)
}

/// Bare and ours of every contest, each once.
fn profile_all(table: &Table, choice: &Choice) {
    let (scene, script) = scene(table);
    let mut subjects: Vec<_> = table.contests.iter().flat_map(|contest| [contest.bare, contest.ours]).collect();
    subjects.dedup();
    let measured = Duration::from_millis(3 * choice.measured_ms);
    let times = Times { warm_up: measured / 3, measured };
    let mut profiles = Vec::new();
    for (place, subject) in subjects.iter().enumerate() {
        if subjects[..place].contains(subject) {
            continue;
        }
        match profile::take(&scene, &script, *subject, Pace::Window(table.window), times) {
            Ok(profile) => profiles.push(profile),
            Err(why) => println!("  {subject}: {why}"),
        }
    }
    report::write_profiles(table, &profiles, &choice.out).unwrap();
}

fn measure(table: &Table, choice: &Choice) -> Vec<Outcome> {
    let (scene, script) = scene(table);
    let measured = Duration::from_millis(choice.measured_ms);
    let times = Times { warm_up: measured / 3, measured };
    let ring = Ring { scene: &scene, script: &script, window: table.window, times, rounds: choice.rounds };
    table.contests.iter().map(|contest| ring.hold(contest)).collect()
}
