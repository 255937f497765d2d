//! What was measured, as Markdown, as JSON and as a chart.

use std::fmt::Write as _;
use std::io;
use std::path::Path;

use serde_json::{Value, json};

use crate::chart;
use crate::far::Pace;
use crate::profile::Profile;
use crate::round::{Outcome, Round, median};
use crate::scene::Row;
use crate::subject::Subject;
use crate::tables::{Lan, Table};

/// Writes a table's files and prints the table; whether all its limits are kept.
pub(crate) fn write(table: &Table, outcomes: &[Outcome], out: &Path, rounds: usize) -> io::Result<bool> {
    std::fs::create_dir_all(out)?;
    let text = markdown(table, outcomes, rounds);
    println!("\n{text}");
    let file = |ending: &str| out.join(format!("{}.{ending}", table.name));
    std::fs::write(file("md"), &text)?;
    std::fs::write(file("json"), serde_json::to_string_pretty(&everything(table, outcomes))? + "\n")?;
    let bars: Vec<chart::Bar> = outcomes.iter().flat_map(bars).collect();
    std::fs::write(file("svg"), chart::draw(table.title, &bars))?;
    println!("written: {}", [file("md"), file("json"), file("svg")].map(|path| path.display().to_string()).join(", "));
    let whole = outcomes.iter().all(|outcome| outcome.trouble.is_none());
    Ok(whole && outcomes.iter().flat_map(Outcome::verdicts).all(|(_, kept)| kept))
}

/// A subject of a contest and its rows in all rounds.
fn subjects(outcome: &Outcome) -> Vec<(Subject, Vec<&Row>)> {
    let contest = &outcome.contest;
    let bares = outcome.rounds.iter().flat_map(|round| &round.bares).collect();
    let ours = outcome.rounds.iter().map(|round| &round.ours).collect();
    let mut all = vec![(contest.bare, bares), (contest.ours, ours)];
    if let Some(peer) = contest.peer {
        all.push((peer, outcome.rounds.iter().filter_map(|round| round.peer.as_ref()).collect()));
    }
    all
}

fn bars(outcome: &Outcome) -> Vec<chart::Bar> {
    let own = subjects(outcome).into_iter().filter(|(_, rows)| !rows.is_empty());
    let bar = |(subject, rows): (Subject, Vec<&Row>)| chart::Bar {
        group: outcome.contest.name.to_owned(),
        label: subject.to_string(),
        us: median(rows.iter().map(|row| row.us())),
        kind: match subject {
            Subject::Bare(_) => chart::Kind::Bare,
            Subject::Sipring(_) | Subject::SipringNodes(_) => chart::Kind::Ours,
            Subject::Kamailio { .. } | Subject::Nginx => chart::Kind::Peer,
        },
    };
    own.map(bar).collect()
}

fn markdown(table: &Table, outcomes: &[Outcome], rounds: usize) -> String {
    let mut text = String::new();
    let far = match table.lan {
        Lan::Loopback => "over plain sockets of the same machine, with UDP GSO and GRO",
        Lan::Veth(_) => "over AF_XDP at the other ends of two veth links",
    };
    let _ = write!(
        text,
        "## {}\n\nINVITE 200 ACK BYE 200. Callers and nodes are one busy thread on the second cpu, {far}; what is measured\n\
         is alone on the first. CPU time by the scheduler's account, of all threads. A round is bare, ours, peer, bare,\n\
         void if its bares differ by more than 8 %; medians of at most {rounds} valid rounds. {}\n\n",
        table.title,
        machine()
    );
    text.push_str(
        "| contest | | us a message | least | messages/s of one cpu | share of its cpu | latency p50 / p99, us | far side busy |\n\
         |---|---|---|---|---|---|---|---|\n",
    );
    for outcome in outcomes {
        rows(&mut text, outcome);
    }
    text.push_str("\n| contest | rounds (void) | ours to bare | ours to peer | limits |\n|---|---|---|---|---|\n");
    for outcome in outcomes {
        ratios(&mut text, outcome);
    }
    text
}

fn rows(text: &mut String, outcome: &Outcome) {
    for (subject, rows) in subjects(outcome) {
        let name = outcome.contest.name;
        if rows.is_empty() {
            let _ = writeln!(text, "| {name} | {subject} | not measured | | | | | |");
            continue;
        }
        let of = |value: &dyn Fn(&Row) -> f64| median(rows.iter().map(|row| value(row)));
        let least = rows.iter().map(|row| row.us()).fold(f64::INFINITY, f64::min);
        let _ = writeln!(
            text,
            "| {name} | {subject} | {:.2} | {least:.2} | {:.0} | {:.0} % | {:.1} / {:.1} | {:.0} % |",
            of(&Row::us),
            of(&Row::per_core_second),
            100.0 * of(&Row::share),
            of(&|row| row.latency_us(0.5)),
            of(&|row| row.latency_us(0.99)),
            100.0 * of(&Row::far_share),
        );
    }
}

fn ratios(text: &mut String, outcome: &Outcome) {
    let [fast, slow] = outcome.speeds();
    let by_speed = |value: &dyn Fn(&Round) -> Option<f64>| {
        let of = |rounds: &[&Round]| median(rounds.iter().filter_map(|round| value(round)));
        let all = median(outcome.rounds.iter().filter_map(value));
        match (all.is_nan(), slow.is_empty()) {
            (true, _) => "-".to_owned(),
            (_, true) => format!("{all:.3}"),
            _ => format!("{all:.3} (fast {:.3} of {}, slow {:.3} of {})", of(&fast), fast.len(), of(&slow), slow.len()),
        }
    };
    let mut told: Vec<String> = outcome
        .verdicts()
        .into_iter()
        .map(|(what, kept)| format!("{what}: {}", if kept { "kept" } else { "**missed**" }))
        .collect();
    told.extend(outcome.offered.map(|rate| format!("at {rate:.0} messages/s")));
    told.extend(outcome.trouble.clone());
    let _ = writeln!(
        text,
        "| {} | {} ({}) | {} | {} | {} |",
        outcome.contest.name,
        outcome.rounds.len(),
        outcome.void,
        by_speed(&|round| Some(round.to_bare())),
        by_speed(&Round::to_peer),
        told.join("; ")
    );
}

/// Writes where the time goes of some subjects of a table, and prints it.
pub(crate) fn write_profiles(table: &Table, profiles: &[Profile], out: &Path) -> io::Result<()> {
    let mut text = format!(
        "## Where a message's time goes: {}\n\nSamples of the cpu clock, us a message. {}\n\n",
        table.title,
        machine()
    );
    text.push_str("| subject | all | part | us | share |\n|---|---|---|---|---|\n");
    for Profile { subject, us, parts, .. } in profiles {
        for (part, spent) in parts {
            let _ = writeln!(text, "| {subject} | {us:.2} | {part} | {spent:.3} | {:.1} % |", 100.0 * spent / us);
        }
    }
    text.push_str("\nThe kernel's busiest functions:\n\n");
    for Profile { subject, functions, .. } in profiles {
        let named = functions.iter().map(|(name, share)| format!("`{name}` {:.1} %", 100.0 * share));
        let _ = writeln!(text, "- {subject}: {}", named.collect::<Vec<_>>().join(", "));
    }
    println!("\n{text}");
    std::fs::create_dir_all(out)?;
    std::fs::write(out.join(format!("{}-profile.md", table.name)), text)
}

fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let cpus = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let info = read("/proc/cpuinfo");
    let model = info.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    format!("Linux {}, {cpus} cpus,{}.", read("/proc/sys/kernel/osrelease"), model.trim_start_matches(['\t', ':']))
}

fn everything(table: &Table, outcomes: &[Outcome]) -> Value {
    let contests: Vec<Value> = outcomes.iter().map(contest).collect();
    json!({ "table": table.name, "title": table.title, "machine": machine(), "contests": contests })
}

fn contest(outcome: &Outcome) -> Value {
    let subject = &outcome.contest;
    let round = |round: &Round| {
        json!({
            "bares": round.bares.iter().map(row).collect::<Vec<_>>(),
            "ours": row(&round.ours),
            "peer": round.peer.as_ref().map(row),
            "ours_to_bare": round.to_bare(),
            "ours_to_peer": round.to_peer(),
        })
    };
    json!({
        "name": subject.name,
        "bare": subject.bare.to_string(),
        "ours": subject.ours.to_string(),
        "peer": subject.peer.map(|peer| peer.to_string()),
        "void": outcome.void,
        "trouble": outcome.trouble,
        "offered_per_second": outcome.offered,
        "limits": outcome.verdicts().into_iter().map(|(what, kept)| json!({ "what": what, "kept": kept })).collect::<Vec<_>>(),
        "rounds": outcome.rounds.iter().map(round).collect::<Vec<_>>(),
    })
}

fn row(row: &Row) -> Value {
    json!({
        "us": row.us(),
        "messages": row.seen.messages,
        "per_second": row.per_second(),
        "cpu_share": row.share(),
        "far_side_busy": row.far_share(),
        "saturated": matches!(row.pace, Pace::Window(_)),
        "latency_p50_us": row.latency_us(0.5),
        "latency_p99_us": row.latency_us(0.99),
    })
}
