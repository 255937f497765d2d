//! `sipring status`: sets and nodes of a running balancer, as a table or as JSON.

use clap::Args;
use serde_json::Value;

use super::remote::{Api, Remote};

/// How to show it.
#[derive(Args)]
pub(crate) struct Status {
    /// As the balancer tells it, in JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    remote: Remote,
}

const HEAD: [&str; 8] =
    ["NODE", "ADDRESS", "HEALTH", "INTENT", "WEIGHT", "NEW CALLS", "PENDING", "CHANGED AT RUN TIME"];

/// How long dialogs are counted before all with traffic have been seen, seconds.
const DIALOGS_COUNTED_S: u64 = 120;

pub(crate) fn show(asked: &Status) -> Result<String, String> {
    let told = Api::open(&asked.remote)?.ask("/sets", &[])?;
    if asked.json {
        return Ok(format!("{told:#}\n"));
    }
    let mut text = String::new();
    if told.get("draining").and_then(Value::as_bool).unwrap_or_default() {
        text.push_str("the whole instance drains: no new calls\n");
    }
    let mut rows = vec![HEAD.map(str::to_owned)];
    for set in array(&told, "sets") {
        let name = word(set, "name");
        let nodes = array(set, "nodes");
        rows.extend(nodes.iter().flat_map(|node| lines(&name, node)));
        for removed in array(set, "removed") {
            let node = format!("{name}/{}", removed.as_str().unwrap_or_default());
            let none = || "-".to_owned();
            rows.push([node, none(), none(), none(), none(), none(), none(), "removed".to_owned()]);
        }
    }
    text.push_str(&table(&rows));
    Ok(text)
}

/// One node in one line.
pub(crate) fn line(set: &str, node: &Value) -> String {
    lines(set, node).iter().map(|row| row.join("  ").trim_end().to_owned() + "\n").collect()
}

/// A line of the table for each address of a node.
fn lines(set: &str, node: &Value) -> Vec<[String; 8]> {
    let number = |key: &str| node.get(key).map_or_else(|| "-".to_owned(), Value::to_string);
    let takes = word(node, "refusal");
    let figure = |key: &str| node.get(key).and_then(Value::as_u64);
    // Until a window of two minutes is full, not all dialogs have been seen.
    let so_far = figure("dialogs_counted_s").filter(|counted_s| *counted_s < DIALOGS_COUNTED_S);
    let so_far = so_far.map_or_else(String::new, |counted_s| format!(" in {counted_s} s so far"));
    let dialogs = figure("dialogs").map(|dialogs| format!(", {dialogs} dialogs{so_far}"));
    let first = [
        format!("{set}/{}", word(node, "name")),
        "-".to_owned(),
        "-".to_owned(),
        word(node, "intent"),
        number("weight"),
        if takes.is_empty() { "yes".to_owned() } else { format!("no: {takes}") },
        format!("{}{}", number("marks"), dialogs.unwrap_or_default()),
        changed(node.get("changed").unwrap_or(&Value::Null)),
    ];
    let mut rows: Vec<[String; 8]> = Vec::new();
    for end in array(node, "endpoints") {
        let mut row = if rows.is_empty() { first.clone() } else { HEAD.map(|_| String::new()) };
        row[1] = word(end, "address");
        row[2] = health(end, node);
        rows.push(row);
    }
    if rows.is_empty() {
        rows.push(first);
    }
    rows
}

/// What is observed of an address; of a pair, which one calls go to; and why, where something is wrong.
fn health(end: &Value, node: &Value) -> String {
    let is = |key: &str| end.get(key).and_then(Value::as_bool).unwrap_or_default();
    let pair = array(node, "endpoints").len() > 1;
    let active = pair && end.get("address").is_some_and(|address| node.get("active") == Some(address));
    let mut told = word(end, "health");
    for (holds, name) in [(active, "active"), (is("standby"), "standby"), (is("closed"), "closed")] {
        if holds {
            told = format!("{told}, {name}");
        }
    }
    let well = word(end, "health") == "up" && !is("standby") && !is("closed");
    if well { told } else { format!("{told} ({})", word(end, "cause")) }
}

fn changed(changed: &Value) -> String {
    let Value::Object(changes) = changed else { return String::new() };
    if changes.contains_key("added") {
        return "added".to_owned();
    }
    let told = changes.iter().filter(|(key, _)| *key != "wins").map(|(key, both)| {
        let of = |side: &str| both.get(side).map_or_else(String::new, |value| value.to_string().replace('"', ""));
        format!("{key} {} instead of {}", of("run_time"), of("file"))
    });
    told.collect::<Vec<String>>().join(", ")
}

fn word(value: &Value, key: &str) -> String {
    value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn array<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value.get(key).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

fn table(rows: &[[String; 8]]) -> String {
    let mut widths = [0; 8];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        text.push_str(cells.collect::<Vec<String>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}
