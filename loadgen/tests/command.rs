//! The program itself: its command line, its JSON, its exit status, the demo.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a test stops at the first surprise and is its own clock"
)]

mod rig;

use std::io::{BufRead, BufReader};
use std::process::{Command, Output, Stdio};

use clap::CommandFactory;
use rig::Net;
use serde_json::Value;
use sipring_load::cli::Cli;

fn load(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sipring-load")).args(args).output().unwrap()
}

fn json(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&text)
        .unwrap_or_else(|error| panic!("{error}: {text}{}", String::from_utf8_lossy(&output.stderr)))
}

/// Names of all fields, nested ones behind a dot; of maps by name, only the map's.
fn fields(value: &Value, at: &str, found: &mut Vec<String>) {
    let maps = ["odd", "latency_us", "calls.failed_by_code"];
    let first = value.as_array().and_then(|items| items.first()).filter(|first| first.is_object());
    if let Some(object) = value.as_object().filter(|_| !maps.contains(&at)) {
        for (name, value) in object {
            let path = if at.is_empty() { name.clone() } else { format!("{at}.{name}") };
            fields(value, &path, found);
        }
    } else if let Some(first) = first {
        fields(first, at, found);
    } else {
        found.push(at.to_owned());
    }
}

/// What scripts rely on: a field that goes or is renamed needs another `schema`.
#[test]
fn the_json_has_the_fields_of_schema_1() {
    let net = Net::new();
    let at = net.edge().to_string();
    let output =
        // A machine with other things to do is late, and nothing is sent again for that.
        load(&["call", "--to", &at, "--answer-at", &at, "--calls", "20", "--rate", "100", "--t1-ms", "5000", "--json", "--quiet"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let value = json(&output);
    assert_eq!((&value["schema"], &value["flow"]), (&1.into(), &"call".into()));
    assert_eq!((&value["calls"]["ok"], &value["messages"]["sent"]), (&20.into(), &120.into()));
    assert_eq!(value["odd"].as_object().unwrap().len(), 15);
    let mut found = Vec::new();
    fields(&value, "", &mut found);
    let wanted = [
        "calls.abandoned",
        "calls.answered",
        "calls.failed",
        "calls.failed_by_code",
        "calls.held_back",
        "calls.left_over",
        "calls.lost",
        "calls.ok",
        "calls.over_limit",
        "calls.started",
        "calls.started_per_second",
        "examples",
        "flow",
        "lag_us.count",
        "lag_us.max",
        "lag_us.p50",
        "lag_us.p90",
        "lag_us.p99",
        "lag_us.p99_9",
        "latency_us",
        "messages.icmp_errors",
        "messages.received",
        "messages.received_per_second",
        "messages.refused",
        "messages.retransmitted",
        "messages.send_errors",
        "messages.sent",
        "messages.sent_per_second",
        "messages.system_calls",
        "nodes.calls",
        "nodes.name",
        "nodes.requests",
        "odd",
        "rate",
        "schema",
        "seconds",
        "to",
        "window",
        "workers.busy",
        "workers.cpu",
        "workers.cpu_seconds",
        "workers.cpu_us_per_message",
        "wrong",
    ];
    found.sort();
    assert_eq!(found, wanted);
}

#[test]
fn a_run_that_is_not_clean_ends_with_1() {
    let net = Net::new();
    let at = net.edge().to_string();
    let output = load(&["options", "--to", &at, "--calls", "3", "--timeout-ms", "200", "--json", "--quiet"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(json(&output)["calls"]["lost"], 3);
}

#[test]
fn what_makes_no_sense_is_refused_with_what_would_be_right() {
    for (args, says) in [
        (&["call", "--to", "nowhere"][..], "invalid value"),
        (&["call", "--to", "127.0.0.1:5060", "--rate", "0"], "above 0"),
        (&["call", "--to", "127.0.0.1:5060", "--rate", "5", "--window", "5"], "cannot be used with"),
        (&["call", "--to", "127.0.0.1:5060", "--workers", "3", "--one-source"], "as many are right"),
        (&["call", "--to", "127.0.0.1:5060", "--from", "::1"], "another family"),
        (&["call", "--to", "127.0.0.1:5060", "--cpus", "4000"], "cannot be pinned to cpu 4000"),
        (&["answer"], "--at"),
        (&["call", "--to", "127.0.0.1:5060", "--ring-ms", "0"], "--ring-ms is of an answering side"),
        (&["call", "--to", "127.0.0.1:5060", "--trying"], "--trying is of an answering side"),
        (&["call", "--to", "127.0.0.1:5060", "--no-ringing"], "--no-ringing is of an answering side"),
        (&["call", "--to", "127.0.0.1:5060", "--answer-as", "busy"], "--answer-at has to name its addresses"),
        (&["call", "--to", "127.0.0.1:5060", "--answer-limit", "5"], "--answer-at has to name its addresses"),
        (&["register", "--to", "127.0.0.1:5060", "--registrar-password", "x"], "--answer-at has to name its addresses"),
        (&["register", "--to", "127.0.0.1:5060", "--callee", "x"], "--callee has no place here"),
        (&["capacity", "--to", "127.0.0.1:5060", "--rate", "5"], "--start-rate"),
        (&["capacity", "--to", "127.0.0.1:5060", "--window", "5"], "--start-rate"),
        (&["capacity", "--to", "127.0.0.1:5060", "--calls", "5"], "--start-rate"),
        (&["capacity", "--to", "127.0.0.1:5060", "--seconds", "5"], "--step-seconds"),
    ] {
        let output = load(args);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && text.contains(says), "{args:?}: {text}");
    }
}

#[test]
fn every_option_is_explained_with_its_unit() {
    let mut seen = 0;
    for command in Cli::command().get_subcommands() {
        for option in command.get_arguments() {
            let help = option.get_help().map(ToString::to_string).unwrap_or_default();
            assert!(!help.is_empty(), "{} {option}", command.get_name());
            let unit = match option.get_value_names() {
                Some([name]) if name == "MS" => "milliseconds",
                Some([name]) if name == "S" => "seconds",
                Some([name]) if name == "BYTES" => "bytes",
                Some([name]) if name == "%" => "percent",
                _ => "",
            };
            assert!(help.contains(unit), "{} {option}: {help}", command.get_name());
            seen += 1;
        }
    }
    assert!(seen > 100);
}

#[test]
fn the_demo_loses_nothing_and_says_where_to_look() {
    let output = load(&["demo", "--seconds", "2"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("0 lost, 0 failed: every call went as it should"), "{text}");
    assert!(text.contains("packets/s") && text.contains("sipring.toml") && text.contains("README.md"), "{text}");
    assert!(text.contains("1000 started"), "{text}");
    // Its nodes are one thread: if that is held up, all three are, and none is a better choice.
    let file = text.split_whitespace().find(|word| word.ends_with("/sipring.toml")).unwrap();
    let config = std::fs::read_to_string(file).unwrap();
    assert!(config.contains("panic = \"use_all\"") && config.contains("timeout_ms = 800"), "{config}");
}

#[test]
fn two_demos_run_at_once() {
    let both = [(), ()].map(|()| std::thread::spawn(|| load(&["demo", "--seconds", "1", "--json"])));
    for thread in both {
        let output = thread.join().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(json(&output)["calls"]["ok"], 500);
    }
}

/// Interrupts the program when it says `word`; what it has printed then.
fn interrupted(args: &[&str], word: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sipring-load"));
    let mut child = command.args(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let said: Vec<String> = lines.map(Result::unwrap).take_while(|line| !line.contains(word)).collect();
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success(), "{said:?}");
    child.wait_with_output().unwrap()
}

#[test]
fn a_signal_ends_a_run_in_order() {
    let net = Net::new();
    let at = net.edge().to_string();
    let call = ["call", "--to", &at, "--answer-at", &at, "--seconds", "600", "--rate", "50", "--json"];
    // The first live line: calls are under way.
    let output = interrupted(&call, "calls +");
    assert!(output.status.success());
    let value = json(&output);
    assert_eq!(value["calls"]["started"], value["calls"]["ok"]);
    assert!(value["calls"]["ok"].as_u64().unwrap() > 10);
}

#[test]
fn a_signal_ends_a_search_with_what_it_has_found() {
    let net = Net::new();
    let at = net.edge().to_string();
    let search = ["capacity", "--to", &at, "--answer-at", &at, "--step-seconds", "1.5", "--start-rate", "50", "--json"];
    // A machine with other things to do is late, and the step holds all the same.
    let patient = ["--loss-max", "100", "--p99-max-ms", "60000", "--t1-ms", "5000"];
    let output = interrupted(&[&search[..], &patient[..]].concat(), ": holds");
    assert_eq!(output.status.code(), Some(1), "nothing was confirmed");
    let value = json(&output);
    assert_eq!(
        (&value["limited_by"], &value["rate"], &value["confirmed"]),
        (&"signal".into(), &0.0.into(), &Value::Null)
    );
    assert!(value["held"].as_f64().unwrap() > 0.0, "{value}");
    assert!(!value["steps"].as_array().unwrap().is_empty(), "{value}");
    // While a step is under way, it has its live lines.
    let search = ["capacity", "--to", &at, "--answer-at", &at, "--step-seconds", "60", "--json"];
    let output = interrupted(&search, "calls +");
    assert_eq!((&json(&output)["limited_by"], &json(&output)["steps"]), (&"signal".into(), &Value::Array(Vec::new())));
}
