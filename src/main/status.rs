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
    let dialogs = node.get("dialogs").and_then(Value::as_u64).map(|dialogs| format!(", {dialogs} dialogs"));
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
        row[2] = word(end, "health");
        rows.push(row);
    }
    if rows.is_empty() {
        rows.push(first);
    }
    rows
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
