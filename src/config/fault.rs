//! What is wrong with a file, where, and what would be right.
//!
//! Turns byte spans into lines and columns and the parser's words into ours. Every check of
//! `config` reports through [`Source`]; nothing here knows what the files mean.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// One thing wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The file.
    pub file: PathBuf,
    /// Line, from 1; 0 if the file itself is what is wrong.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What is wrong; what would be right.
    pub text: String,
}

impl Fault {
    /// A fault of a whole file, such as one that cannot be read.
    #[must_use]
    pub fn of_file(file: &Path, text: impl Into<String>) -> Self {
        Self { file: file.to_owned(), line: 0, column: 0, text: text.into() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.file.display(), self.text),
            line => write!(f, "{}:{line}:{}: {}", self.file.display(), self.column, self.text),
        }
    }
}

/// All that is wrong with a configuration, in order of place; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faults(pub Vec<Fault>);

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, fault) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_str("\n")?;
            }
            fault.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}

impl From<Fault> for Faults {
    fn from(fault: Fault) -> Self {
        Self(vec![fault])
    }
}

/// A file's text, and the faults and warnings found in it so far.
#[derive(Clone, Debug)]
pub(super) struct Source {
    file: PathBuf,
    text: String,
    faults: Vec<Fault>,
    warnings: Vec<Fault>,
}

impl Source {
    pub(super) fn new(file: &Path, text: &str) -> Self {
        Self { file: file.to_owned(), text: text.to_owned(), faults: Vec::new(), warnings: Vec::new() }
    }

    /// Reads a file.
    pub(super) fn read(file: &Path) -> Result<Self, Fault> {
        let text =
            std::fs::read_to_string(file).map_err(|error| Fault::of_file(file, format!("cannot be read: {error}")))?;
        Ok(Self::new(file, &text))
    }

    /// Parses the text, with the parser's one fault in our words.
    pub(super) fn parse<T: serde::de::DeserializeOwned>(&self) -> Result<T, Fault> {
        toml::from_str(&self.text)
            .map_err(|error: toml::de::Error| self.at(error.span().unwrap_or(0..0), reword(error.message())))
    }

    pub(super) fn at(&self, span: Range<usize>, text: impl Into<String>) -> Fault {
        let before = self.text.get(..span.start).unwrap_or(&self.text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        Fault { file: self.file.clone(), line, column, text: text.into() }
    }

    pub(super) fn fault(&mut self, span: Range<usize>, text: impl Into<String>) {
        let fault = self.at(span, text);
        self.faults.push(fault);
    }

    pub(super) fn warn(&mut self, span: Range<usize>, text: impl Into<String>) {
        let warning = self.at(span, text);
        self.warnings.push(warning);
    }

    /// The one of `choices` that a word names; a fault listing them, and none, if there is no such.
    pub(super) fn choice<T: Clone>(
        &mut self,
        what: &str,
        word: &toml::Spanned<String>,
        choices: &[(&str, T)],
    ) -> Option<T> {
        let found = choices.iter().find(|(name, _)| name == word.get_ref());
        if found.is_none() {
            let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
            self.fault(word.span(), unknown(what, word.get_ref(), &names));
        }
        found.map(|(_, value)| value.clone())
    }

    /// A number within bounds; a fault, and none, if it is not.
    pub(super) fn within(&mut self, what: &str, number: &toml::Spanned<i64>, bounds: Range<i64>) -> Option<i64> {
        let value = *number.get_ref();
        if bounds.contains(&value) {
            return Some(value);
        }
        self.fault(
            number.span(),
            format!("{what} = {value} is out of bounds; {} to {} is right", bounds.start, bounds.end - 1),
        );
        None
    }

    /// The warnings, if nothing is wrong; else all faults in order of place.
    pub(super) fn verdict(mut self) -> Result<Vec<Fault>, Faults> {
        if self.faults.is_empty() {
            return Ok(self.warnings);
        }
        self.faults.sort_by_key(|fault| (fault.line, fault.column));
        Err(Faults(self.faults))
    }

    pub(super) fn is_sound(&self) -> bool {
        self.faults.is_empty()
    }
}

/// "unknown set `pbxx`; did you mean `pbx`? One of: pbx, trunk".
pub(super) fn unknown(what: &str, word: &str, choices: &[&str]) -> String {
    if choices.is_empty() {
        return format!("unknown {what} `{word}`; there is none to choose from");
    }
    let near = choices
        .iter()
        .map(|choice| (distance(word, choice), choice))
        .filter(|(distance, choice)| *distance <= 1 + choice.len() / 4)
        .min_by_key(|(distance, _)| *distance);
    let hint = near.map(|(_, choice)| format!("did you mean `{choice}`? ")).unwrap_or_default();
    format!("unknown {what} `{word}`; {hint}one of: {}", choices.join(", "))
}

/// The parser's message in our words: one line, "what is wrong; what would be right".
fn reword(message: &str) -> String {
    let message = message.trim().replace('\n', "; ");
    if message.starts_with("unknown field") {
        let mut quoted = message.split('`').skip(1).step_by(2);
        let word = quoted.next().unwrap_or_default();
        let choices: Vec<&str> = quoted.collect();
        return unknown("key", word, &choices);
    }
    if let Some(rest) = message.strip_prefix("missing field ") {
        return format!("the key {rest} is missing; this table needs it");
    }
    match message.split_once(", expected ") {
        Some((wrong, right)) => format!("{wrong}; expected {right}"),
        None => message,
    }
}

/// Edit distance of two short words (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (at, from) in a.chars().enumerate() {
        let mut corner = at;
        let mut left = at + 1;
        if let Some(first) = row.first_mut() {
            *first = left;
        }
        for (cell, to) in row.iter_mut().skip(1).zip(b.chars()) {
            left = (left + 1).min(*cell + 1).min(corner + usize::from(from != to));
            corner = std::mem::replace(cell, left);
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_becomes_line_and_column_counted_in_characters() {
        let source = Source::new(Path::new("a.toml"), "x = 1\nname = \"é\" # bad\n");
        let at = "x = 1\nname = \"é\" ".len();
        assert_eq!(source.at(at..at, "oh").to_string(), "a.toml:2:12: oh");
        assert_eq!(source.at(0..1, "oh").to_string(), "a.toml:1:1: oh");
    }

    #[test]
    fn a_near_miss_is_suggested_and_a_far_one_is_not() {
        assert_eq!(distance("wieght", "weight"), 2);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("same", "same"), 0);
        assert_eq!(
            unknown("key", "wieght", &["name", "weight"]),
            "unknown key `wieght`; did you mean `weight`? one of: name, weight"
        );
        assert_eq!(unknown("set", "zzz", &["pbx", "trunk"]), "unknown set `zzz`; one of: pbx, trunk");
    }
}
