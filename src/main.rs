//! The command line: run, check, explain, tune.
//!
//! Reads the arguments, sets up the log, and says on stderr what is wrong; all work is done below.
//! Exit codes: 0 done, 1 refused or failed, 2 not understood.

#[path = "main/explain.rs"]
mod explain;
#[path = "main/tune.rs"]
mod tune;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use sipring::config::Config;
use sipring::serve;

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
    Explain(explain::Question),
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
    let filter = tracing_subscriber::EnvFilter::builder()
        .with_default_directive(tracing_subscriber::filter::LevelFilter::INFO.into())
        .with_env_var("SIPRING_LOG")
        .from_env_lossy();
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_env_filter(filter).with_target(false).init();
    let done = match Cli::parse().command {
        Command::Run(files) => read(&files).and_then(serve::run),
        Command::Check(files) => read(&files).map(|config| check(&config)),
        Command::Explain(question) => explain::answer(&question).map(|text| say(&text)),
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
