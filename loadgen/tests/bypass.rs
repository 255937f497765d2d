//! Calls over AF_XDP, between two network namespaces.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a test stops at the first surprise and is its own clock"
)]

use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(10);

/// A caller's network and a callee's, joined by a veth pair of one queue; both go with their owner.
struct Pair {
    name: String,
}

fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split(' ')).output();
    let output = output.expect("iproute2 is needed; tests/run installs it");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {arguments}: {text}; this test makes network namespaces, which needs root");
}

impl Pair {
    fn new(what: &str) -> Self {
        let pair = Self { name: format!("sipload-{}-{what}", std::process::id()) };
        ip(&format!("netns add {}-a", pair.name));
        ip(&format!("netns add {}-b", pair.name));
        ip(&format!("link add wan netns {0}-a type veth peer name wan netns {0}-b", pair.name));
        for (side, host) in [("a", 1), ("b", 2)] {
            let own = format!("{}-{side}", pair.name);
            ip(&format!("-n {own} addr add 10.80.0.{host}/24 dev wan"));
            ip(&format!("-n {own} addr add fd80::{host}/64 dev wan nodad"));
            ip(&format!("-n {own} link set wan up"));
        }
        pair
    }

    fn load(&self, side: &str, arguments: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &format!("{}-{side}", self.name), env!("CARGO_BIN_EXE_sipring-load")]);
        command.args(arguments.split(' ')).arg("--quiet").stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Answers at the callee's side, from when its sockets are bound.
    fn answer(&self, at: &str, further: &str) -> Answering {
        let mut child = self.load("b", &format!("answer --at {at}{further}")).spawn().unwrap();
        let begun = Instant::now();
        let table = format!("/proc/{}/net/udp{}", child.id(), if at.starts_with('[') { "6" } else { "" });
        while !std::fs::read_to_string(&table).is_ok_and(|table| table.contains(":13C4 ")) {
            assert!(child.try_wait().unwrap().is_none() && begun.elapsed() < PATIENCE, "nobody answers at {at}");
            std::thread::sleep(Duration::from_millis(5));
        }
        Answering(child)
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        for side in ["a", "b"] {
            let _ = Command::new("ip").args(["netns", "del", &format!("{}-{side}", self.name)]).output();
        }
    }
}

struct Answering(Child);

impl Drop for Answering {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

const CALLER: &str = "--datapath xdp --interface wan";

fn clean(output: &Output) -> Value {
    let [out, err] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    assert!(output.status.success(), "{out}{err}");
    serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}{err}"))
}

#[test]
fn both_sides_past_the_kernel_carry_every_flow_in_both_families() {
    let pair = Pair::new("flows");
    for (caller, callee) in [("10.80.0.1", "10.80.0.2:5060"), ("fd80::1", "[fd80::2]:5060")] {
        let _answering = pair.answer(callee, " --datapath xdp --interface wan");
        for flow in ["options", "register", "call", "busy", "cancel", "node-hangup", "reinvite"] {
            let wish =
                format!("{flow} --to {callee} --from {caller} --sources 20 --calls 200 --window 20 --json {CALLER}");
            let told = clean(&pair.load("a", &wish).output().unwrap());
            assert_eq!((&told["calls"]["ok"], &told["wrong"]), (&200.into(), &0.into()), "{flow}: {told}");
        }
    }
}

#[test]
fn a_search_runs_step_after_step_over_the_same_queues() {
    let pair = Pair::new("search");
    let _answering = pair.answer("10.80.0.2:5060", " --answer-limit 300");
    let wish = format!(
        "capacity --to 10.80.0.2:5060 --from 10.80.0.1 --start-rate 100 --step-seconds 1 --resolution 60 --p99-max-ms 1900 \
         --loss-max 10 --json {CALLER}"
    );
    let output = pair.load("a", &wish).output().unwrap();
    let told: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    // What else the machine does may lower the rate; a queue that did not outlive its first step would leave none.
    let rate = told["rate"].as_f64().unwrap();
    assert!(rate > 0.0 && rate <= 600.0 && told["steps"].as_array().unwrap().len() >= 2, "{told}");
    assert_eq!(told["confirmed"]["wrong"], 0, "{told}");
}

#[test]
fn what_cannot_be_carried_is_said_before_anything_is_opened() {
    for (wish, said) in [
        ("call --to 10.80.0.2:5060 --datapath xdp", "--interface <NAME>"),
        ("call --to 10.80.0.2:5060 --from 10.80.0.1 --datapath xdp --interface wan --workers 2", "1 is right"),
        ("call --to 10.80.0.2:5060 --from 10.80.0.1 --interface wan", "are for `--datapath xdp`"),
        ("answer --at 0.0.0.0:5060 --datapath xdp --interface wan", "one of an interface is right"),
        ("call --to 127.0.0.1:5060 --from 127.0.0.1 --datapath xdp --interface nowhere0", "`nowhere0`"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_sipring-load")).args(wish.split(' ')).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && text.contains(said), "{wish}: {text}");
    }
}
