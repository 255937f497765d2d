//! sipring-load: the command line's words are carried out here.
//!
//! Prints the live line and the result, hears signals, and turns the result into an exit status: 0
//! clean, 1 not, 2 not understood.

#![forbid(unsafe_code)]

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser;
use sipring_load::cli::{CallArgs, Cli, Command, RunningArgs};
use sipring_load::flow::Flow;
use sipring_load::plan::Plan;
use sipring_load::report::Report;
use sipring_load::{capacity, demo, watch};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    sipring::processor::run(command)
}

/// What was asked for, on a processor that runs it.
#[inline(never)]
fn command() -> ExitCode {
    let command = Cli::parse().command;
    if !matches!(command, Command::Demo(_)) {
        tracing_subscriber::fmt()
            .with_env_filter(tracing_subscriber::EnvFilter::new("warn"))
            .with_writer(std::io::stderr)
            .init();
    }
    let clean = match command {
        Command::Options(args) => call(&args, Flow::Options),
        Command::Register(args) => call(&args, Flow::Register),
        Command::Call(args) => call(&args, Flow::Call),
        Command::Busy(args) => call(&args, Flow::Busy),
        Command::Cancel(args) => call(&args, Flow::Cancel),
        Command::NodeHangup(args) => call(&args, Flow::NodeHangup),
        Command::NodeCall(args) => call(&args, Flow::NodeCall),
        Command::Reinvite(args) => call(&args, Flow::Reinvite),
        Command::Answer(args) => args.plan().and_then(|plan| run(&plan, &args.running)),
        Command::Capacity(args) => capacity::command(&args),
        Command::Demo(args) => demo::command(&args),
    };
    match clean {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(text) => {
            let _ = writeln!(std::io::stderr(), "sipring-load: {text}");
            ExitCode::FAILURE
        }
    }
}

fn call(args: &CallArgs, flow: Flow) -> Result<bool, String> {
    run(&args.plan(flow)?, &args.running)
}

fn run(plan: &Plan, running: &RunningArgs) -> Result<bool, String> {
    let report: Report = watch::run(plan, !running.quiet)?;
    let text = if running.json { report.json() + "\n" } else { report.to_string() };
    std::io::stdout().write_all(text.as_bytes()).map_err(|error| format!("the result cannot be printed: {error}"))?;
    Ok(report.is_clean())
}
