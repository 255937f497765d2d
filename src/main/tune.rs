//! `sipring tune`: a `cpus.toml` for the machine that it runs on.
//!
//! Prints it, or writes it to a file that is not there yet. Changes nothing of the machine itself:
//! that is `tuning/apply.sh`.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use sipring::config::{Machine, tuned};

/// Where to look, and where to write.
#[derive(Args)]
pub(crate) struct Tune {
    /// The file to be written; absent: printed.
    #[arg(short, long)]
    output: Option<PathBuf>,
    /// Replace the file if it is there.
    #[arg(long, requires = "output")]
    force: bool,
    /// The interface that SIP comes by; absent: that of the default route.
    #[arg(short, long)]
    interface: Option<String>,
    /// Read `proc` and `sys` below this directory.
    #[arg(long, default_value = "/", hide_default_value = true)]
    root: PathBuf,
}

impl Tune {
    /// The text to be printed; none if it was written to a file.
    pub(crate) fn done(&self) -> Result<Option<String>, String> {
        let machine = Machine::read(&self.root, self.interface.as_deref());
        if let Some(name) = self.interface.as_ref().filter(|_| machine.interface.is_none()) {
            return Err(format!(
                "unknown interface `{name}`; one of those in {}",
                self.root.join("sys/class/net").display()
            ));
        }
        let text = tuned(&machine);
        let Some(file) = &self.output else { return Ok(Some(text)) };
        let mut options = std::fs::OpenOptions::new();
        options.write(true).create(true).truncate(true).create_new(!self.force);
        let written = options.open(file).and_then(|mut file| file.write_all(text.as_bytes()));
        let there = std::io::ErrorKind::AlreadyExists;
        written.map(|()| None).map_err(|error| {
            if error.kind() == there {
                format!("{}: is there already; `--force` replaces it", file.display())
            } else {
                format!("{}: cannot be written: {error}", file.display())
            }
        })
    }
}
