//! The table of load generators: `sipring-load` beside SIPp, measured by a script of the load generator's own, since what
//! is measured there sends and receives and forwards nothing.

use std::io::{self, BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::json;

use crate::chart::{self, Bar, Kind};
use crate::harness::repository;
use crate::round::median;

/// The table's name.
pub(crate) const NAME: &str = "generators";
pub(crate) const TITLE: &str = "Load generators, us of cpu a message sent or received";
const SCRIPT: &str = "loadgen/tests/figures/versus-sipp";
const OWN: &str = "sipring-load";
/// What the script is told, and the ratio that it asks for.
const WAYS: [(&str, &str); 2] = [("sockets", "0.45"), ("xdp", "0.17")];
const ROLES: [(&str, &str, &str); 5] = [
    ("sockets", "caller-1", "calling from one socket"),
    ("sockets", "caller-1000", "calling from 1,000 sockets"),
    ("sockets", "answerer", "answering"),
    ("xdp", "caller-1", "calling from one port over AF_XDP, SIPp over a socket"),
    ("xdp", "caller-1000", "calling from 1,000 ports over AF_XDP, SIPp over sockets"),
];

/// One measurement as the script prints it: role, who, us a message, calls a second.
struct Line {
    role: String,
    who: String,
    us: f64,
    rate: f64,
}

fn parse(line: &str) -> Option<Line> {
    let mut words = line.split_whitespace();
    let (role, who) = (words.next()?.to_owned(), words.next()?.to_owned());
    let (us, rate) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    Some(Line { role, who, us, rate })
}

/// Runs the script; what it measured, and whether its limit is kept.
fn script(way: &str, ratio_max: &str, rounds: usize) -> io::Result<(Vec<Line>, bool)> {
    let mut command = Command::new(repository(SCRIPT));
    command.arg(way).env("ROUNDS", rounds.to_string()).env("RATIO_MAX", ratio_max).stdout(Stdio::piped());
    let mut script = command.spawn()?;
    let mut lines = Vec::new();
    for line in BufReader::new(script.stdout.take().expect("a pipe")).lines() {
        let line = line?;
        println!("{line}");
        lines.extend(parse(&line).filter(|line| ROLES.iter().any(|(_, role, _)| *role == line.role)));
    }
    Ok((lines, script.wait()?.success()))
}

/// Has it measured, prints and writes the table; whether the limits are kept.
pub(crate) fn measure(rounds: usize, out: &Path) -> io::Result<bool> {
    println!("== {NAME}: {TITLE}");
    let (mut lines, mut kept) = (Vec::new(), true);
    for (way, ratio_max) in WAYS {
        let (told, within) = script(way, ratio_max, rounds)?;
        kept &= within;
        lines.push((way, told));
    }
    let of = |way: &str, role: &str, own: bool, value: fn(&Line) -> f64| {
        let lines = lines.iter().filter(|(of, _)| *of == way).flat_map(|(_, lines)| lines);
        median(lines.filter(|line| line.role == role && (line.who == OWN) == own).map(value))
    };
    let mut text = format!(
        "## {TITLE}\n\nThe same calls, INVITE 180 200 ACK BYE 200, closed loop, one cpu each, rounds in turn.\n\n"
    );
    text.push_str("| role | sipring-load, us | SIPp, us | ratio | calls/s of one cpu |\n|---|---|---|---|---|\n");
    let (mut bars, mut rows) = (Vec::new(), Vec::new());
    for (way, role, title) in ROLES {
        let (own, sipp) = (of(way, role, true, |line| line.us), of(way, role, false, |line| line.us));
        let (rate, sipp_rate) = (of(way, role, true, |line| line.rate), of(way, role, false, |line| line.rate));
        text += &format!("| {title} | {own:.2} | {sipp:.2} | {:.2} | {rate:.0}, {sipp_rate:.0} |\n", own / sipp);
        rows.push(json!({
            "role": title, "sipring_load_us": own, "sipp_us": sipp, "ratio": own / sipp,
            "sipring_load_calls_per_second": rate, "sipp_calls_per_second": sipp_rate,
        }));
        for (label, us, kind) in [(OWN, own, Kind::Ours), ("SIPp", sipp, Kind::Peer)] {
            bars.push(Bar { group: title.to_owned(), label: label.to_owned(), us, kind });
        }
    }
    println!("\n{text}");
    std::fs::create_dir_all(out)?;
    std::fs::write(out.join("generators.md"), text)?;
    std::fs::write(out.join("generators.json"), serde_json::to_string_pretty(&rows)? + "\n")?;
    std::fs::write(out.join("generators.svg"), chart::draw(TITLE, &bars))?;
    Ok(kept)
}
