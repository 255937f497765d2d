//! All counters as text, one a line: `sipring_NAME{worker="0",...} VALUE`.
//!
//! Sums over the workers follow with `total ` in front, so that whoever adds up all lines of a name
//! does not count twice.

use std::fmt::Write as _;
use std::io::Write as _;

use crate::control::{Figures, Status};
use crate::shard::REPLIES;

pub(super) fn print(figures: &[Figures], status: Option<&Status>) {
    let health = status.map(probes).unwrap_or_default();
    let _ = std::io::stdout().lock().write_all((told(figures) + &health).as_bytes());
}

/// The lines of every endpoint's probes.
fn probes(status: &Status) -> String {
    let mut text = String::new();
    let nodes = status.sets.iter().flat_map(|set| set.nodes.iter().map(|node| (&set.name, node)));
    for (set, node) in nodes {
        for end in &node.endpoints {
            let labels = format!("{{set=\"{set}\",node=\"{}\",endpoint=\"{}\"}}", node.name, end.address);
            for (name, value) in
                [("probes", end.probes), ("probes_failed", end.probes_failed), ("probes_late", end.probes_late)]
            {
                // Writing to a string cannot fail.
                let _ = writeln!(text, "sipring_{name}{labels} {value}");
            }
        }
    }
    text
}

/// The lines of every worker, then their sums.
pub(super) fn told(figures: &[Figures]) -> String {
    let mut text = String::new();
    let mut sums: Vec<(&'static str, &'static str, u64)> = Vec::new();
    for (worker, figures) in figures.iter().enumerate() {
        let mut tell = |name, label, value| {
            line(&mut text, "", name, Some(worker), label, value);
            match sums.iter_mut().find(|(other, own, _)| *other == name && *own == label) {
                Some((_, _, sum)) => *sum += value,
                None => sums.push((name, label, value)),
            }
        };
        figures.counters.each(&mut tell);
        figures.ledger.each(|name, value| tell(name, "", value));
        if let Some(frames) = &figures.frames {
            frames.each(|state, value| tell("frames", state, value));
        }
    }
    sums.iter().for_each(|(name, label, value)| line(&mut text, "total ", name, None, label, *value));
    text
}

fn line(text: &mut String, lead: &str, name: &str, worker: Option<usize>, label: &str, value: u64) {
    let what = match name {
        "drop" => "reason",
        "own_reply" => "code",
        _ => "kind",
    };
    let code =
        REPLIES.iter().find(|(_, reason)| name == "own_reply" && *reason == label).map(|(code, _)| code.to_string());
    let label = code.as_deref().unwrap_or(label);
    let worker = worker.map(|worker| format!("worker=\"{worker}\""));
    let label = (!label.is_empty()).then(|| format!("{what}=\"{label}\""));
    let labels: Vec<String> = worker.into_iter().chain(label).collect();
    let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{lead}sipring_{name}{labels} {value}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::{DropReason, Verdict};

    #[test]
    fn every_worker_has_its_lines_and_sums_follow() {
        let figures: [Figures; 2] = std::array::from_fn(|_| Figures::default());
        for (count, figures) in (1..).zip(&figures) {
            (0..count).for_each(|_| figures.counters.judge(Verdict::Drop(DropReason::NotSip)));
            figures.counters.reply(481);
        }
        let text = told(&figures);
        for wanted in [
            "sipring_drop{worker=\"0\",reason=\"not_sip\"} 1\n",
            "sipring_drop{worker=\"1\",reason=\"not_sip\"} 2\n",
            "total sipring_drop{reason=\"not_sip\"} 3\n",
            "total sipring_own_reply{code=\"481\"} 2\n",
            "sipring_received{worker=\"0\"} 0\n",
            "total sipring_turns 0\n",
        ] {
            assert!(text.contains(wanted), "{wanted} in {text}");
        }
    }
}
