//! The log: one line an event on stderr, as logfmt or JSON.
//!
//! Every line has `time`, `level` and `event`, then the event's own fields. Whatever comes from the
//! network is escaped, so that nobody writes a line of his own.

use std::fmt::{self, Write};

use serde_json::Value;
use sipring::config::{Log, LogFormat};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// Starts the log; `RUST_LOG` says more than the file.
pub(crate) fn start(log: Log) {
    let level: tracing_subscriber::filter::LevelFilter =
        log.level.parse().unwrap_or_else(|_| tracing::Level::INFO.into());
    let filter = tracing_subscriber::EnvFilter::builder().with_default_directive(level.into()).from_env_lossy();
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter(filter)
        .event_format(Lines(log.format))
        .init();
}

struct Lines(LogFormat);

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut to: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut time = String::new();
        SystemTime.format_time(&mut Writer::new(&mut time))?;
        let mut fields = Fields(vec![("time", Value::String(time)), ("level", level(event).into())]);
        let head = fields.0.len();
        event.record(&mut fields);
        // What the event is called comes right behind the level.
        if let Some(at) = fields.0.iter().position(|(key, _)| *key == "event") {
            let name = fields.0.remove(at);
            fields.0.insert(head, name);
        }
        match self.0 {
            LogFormat::Json => writeln!(to, "{}", json(&fields.0)),
            LogFormat::Logfmt => writeln!(to, "{}", logfmt(&fields.0)),
        }
    }
}

fn level(event: &Event<'_>) -> &'static str {
    match *event.metadata().level() {
        tracing::Level::ERROR => "error",
        tracing::Level::WARN => "warn",
        tracing::Level::INFO => "info",
        tracing::Level::DEBUG => "debug",
        tracing::Level::TRACE => "trace",
    }
}

/// The fields of one event, its message as `event`.
struct Fields(Vec<(&'static str, Value)>);

impl Fields {
    fn add(&mut self, field: &Field, value: Value) {
        let key = if field.name() == "message" { "event" } else { field.name() };
        self.0.push((key, value));
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, Value::String(format!("{value:?}")));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, value.into());
    }
}

/// One object, the fields in order.
fn json(fields: &[(&'static str, Value)]) -> String {
    let fields: Vec<String> = fields.iter().map(|(key, value)| format!("{}:{value}", Value::from(*key))).collect();
    format!("{{{}}}", fields.join(","))
}

/// `key=value`, the value in quotes with escapes if it holds anything but plain characters.
fn logfmt(fields: &[(&'static str, Value)]) -> String {
    let mut line = String::new();
    for (key, value) in fields {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(key);
        line.push('=');
        match value.as_str() {
            Some(text) => word(&mut line, text),
            None => line.push_str(&value.to_string()),
        }
    }
    line
}

fn word(line: &mut String, text: &str) {
    let plain = |c: char| c.is_ascii_graphic() && !matches!(c, '"' | '=' | '\\');
    if !text.is_empty() && text.chars().all(plain) {
        line.push_str(text);
        return;
    }
    line.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => line.extend(['\\', c]),
            '\n' => line.push_str("\\n"),
            '\r' => line.push_str("\\r"),
            '\t' => line.push_str("\\t"),
            // Control characters move a terminal's cursor, and the Unicode ones its direction.
            c if c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}') => {
                // Writing to a string cannot fail.
                let _ = write!(line, "\\u{{{:x}}}", u32::from(c));
            }
            c => line.push(c),
        }
    }
    line.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_stays_one_value_of_one_line_whatever_it_holds() {
        let forged = "x\nlevel=error event=\"worker_lost\"\r\u{1b}[2J\\ \u{202e}é";
        let fields = [("event", Value::from("name_failed")), ("name", forged.into()), ("count", 3.into())];
        assert_eq!(
            logfmt(&fields),
            "event=name_failed name=\"x\\nlevel=error event=\\\"worker_lost\\\"\\r\\u{1b}[2J\\\\ \\u{202e}é\" count=3"
        );
        assert_eq!(logfmt(&[("a", "".into()), ("b", "x=y".into()), ("c", true.into())]), "a=\"\" b=\"x=y\" c=true");
    }
}
