//! `[log]`: how the log is written, and how much of it.
//!
//! Read once at start by `main`, which owns the log; `RUST_LOG` overrides the level there.

use super::fault::Source;
use super::file;

/// How a line of the log is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// `time=... level=info event=ready key=value`.
    #[default]
    Logfmt,
    /// One JSON object a line, with the same keys.
    Json,
}

/// The log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Log {
    /// How a line is written.
    pub format: LogFormat,
    /// `error`, `warn`, `info`, `debug` or `trace`.
    pub level: &'static str,
}

impl Default for Log {
    fn default() -> Self {
        Self { format: LogFormat::default(), level: "info" }
    }
}

pub(super) fn read(log: &file::Log, source: &mut Source) -> Log {
    let formats = [("logfmt", LogFormat::Logfmt), ("json", LogFormat::Json)];
    let levels = ["error", "warn", "info", "debug", "trace"].map(|level| (level, level));
    let format = log.format.as_ref().and_then(|word| source.choice("format", word, &formats));
    let level = log.level.as_ref().and_then(|word| source.choice("level", word, &levels));
    Log { format: format.unwrap_or_default(), level: level.unwrap_or(Log::default().level) }
}
