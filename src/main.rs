//! The command line: run, check, explain, tune, and what a running balancer is asked and told.
//!
//! Reads the arguments, sets up the log, and says on stderr what is wrong; all work is done below.
//! Exit codes: 0 done, 1 refused or failed, 2 not understood.

#[path = "main/explain.rs"]
mod explain;
#[path = "main/log.rs"]
mod log;
#[path = "main/nodes.rs"]
mod nodes;
#[path = "main/remote.rs"]
mod remote;
#[path = "main/status.rs"]
mod status;
#[path = "main/tune.rs"]
mod tune;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use sipring::config::Config;
use sipring::serve;

/// Threads that look up names, answer operators and log do not hold each other up.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A load balancer for clusters of SIP servers.
#[derive(Parser)]
#[command(name = "sipring", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve until SIGTERM or SIGINT, which drain; SIGHUP reads the file again, SIGUSR1 prints all counters.
    Run(Files),
    /// Read the files and say what is wrong with them.
    Check(Files),
    /// Say which node a new call goes to, and why.
    Explain(explain::Asked),
    /// Show sets and nodes of the running balancer.
    Status(status::Status),
    /// Give a node no new calls; it keeps those that it has.
    Drain(nodes::Drain),
    /// Give a node calls again.
    Serve(nodes::Named),
    /// Send a node nothing at all.
    Stop(nodes::Named),
    /// Change a node's share of new calls.
    Weight(nodes::Weight),
    /// Add a node, until the next restart.
    Add(nodes::Add),
    /// Remove a node, until the next restart.
    Remove(nodes::Named),
    /// Read the file again, and wait until it is in force.
    Reload(remote::Remote),
    /// Look at this machine, and write a tuning file for it.
    Tune(tune::Tune),
}

#[derive(Args)]
struct Files {
    /// The configuration.
    #[arg(short, long, default_value = "sipring.toml")]
    config: PathBuf,
    /// Which cpus run workers, with which buffers; absent: one worker, wherever the kernel puts it.
    #[arg(short, long)]
    tuning: Option<PathBuf>,
}

fn main() -> ExitCode {
    sipring::processor::run(command)
}

/// What was asked for, on a processor that runs it.
#[inline(never)]
fn command() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Run(files) => read(&files).and_then(|config| {
            log::start(config.log);
            serve::run(config)
        }),
        Command::Check(files) => read(&files).map(|config| check(&config)),
        Command::Explain(asked) => explain::answer(&asked).map(|text| say(&text)),
        Command::Status(asked) => status::show(&asked).map(|text| say(&text)),
        Command::Drain(asked) => nodes::drain(&asked).map(|text| say(&text)),
        Command::Serve(asked) => nodes::intent(&asked, "serve").map(|text| say(&text)),
        Command::Stop(asked) => nodes::intent(&asked, "stop").map(|text| say(&text)),
        Command::Weight(asked) => nodes::weight(&asked).map(|text| say(&text)),
        Command::Add(asked) => nodes::add(&asked).map(|text| say(&text)),
        Command::Remove(asked) => nodes::remove(&asked).map(|text| say(&text)),
        Command::Reload(remote) => nodes::reload(&remote).map(|text| say(&text)),
        Command::Tune(tune) => tune.done().map(|text| text.iter().for_each(|text| say(text))),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(text) => {
            let _ = writeln!(std::io::stderr(), "{text}");
            ExitCode::FAILURE
        }
    }
}

fn read(files: &Files) -> Result<Config, String> {
    Config::read(&files.config, files.tuning.as_deref()).map_err(|faults| faults.to_string())
}

fn check(config: &Config) {
    for warning in &config.warnings {
        let _ = writeln!(std::io::stderr(), "warning: {warning}");
    }
    if config.secret.is_none() {
        let _ =
            writeln!(std::io::stderr(), "warning: {}: absent; `sipring run` makes it", config.secret_file.display());
    }
    say(&format!("{}: sound\n", config.file.display()));
}

/// A closed pipe is the reader's business.
fn say(text: &str) {
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}
