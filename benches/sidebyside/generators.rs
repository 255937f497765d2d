//! The table of load generators: `sipring-load` beside SIPp, measured by a script of the load generator's own, since what
//! is measured there sends and receives and forwards nothing.

use std::io::{BufRead as _, BufReader};
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
const ROLES: [(&str, &str); 3] =
    [("caller-1", "calling from one socket"), ("caller-1000", "calling from 1,000 sockets"), ("answerer", "answering")];

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

/// Has it measured, prints and writes the table; whether the script's limit is kept.
pub(crate) fn measure(rounds: usize, out: &Path) -> std::io::Result<bool> {
    println!("== {NAME}: {TITLE}");
    let mut command = Command::new(repository(SCRIPT));
    let mut script = command.env("ROUNDS", rounds.to_string()).stdout(Stdio::piped()).spawn()?;
    let mut lines = Vec::new();
    for line in BufReader::new(script.stdout.take().expect("a pipe")).lines() {
        let line = line?;
        println!("{line}");
        lines.extend(parse(&line).filter(|line| ROLES.iter().any(|(role, _)| *role == line.role)));
    }
    let kept = script.wait()?.success();
    let of = |role: &str, own: bool, value: fn(&Line) -> f64| {
        median(lines.iter().filter(|line| line.role == role && (line.who == OWN) == own).map(value))
    };
    let mut text = format!(
        "## {TITLE}\n\nThe same calls, INVITE 180 200 ACK BYE 200, closed loop, one cpu each, rounds in turn.\n\n"
    );
    text.push_str("| role | sipring-load, us | SIPp, us | ratio | calls/s of one cpu |\n|---|---|---|---|---|\n");
    let (mut bars, mut rows) = (Vec::new(), Vec::new());
    for (role, title) in ROLES {
        let (own, sipp) = (of(role, true, |line| line.us), of(role, false, |line| line.us));
        let (rate, sipp_rate) = (of(role, true, |line| line.rate), of(role, false, |line| line.rate));
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
