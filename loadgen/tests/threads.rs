//! A worker whose thread cannot be had ends the run before it begins, and the others with it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a test stops at the first surprise and is its own clock"
)]

mod rig;

use std::process::Command;

use rig::Net;
use sipring_load::crew;
use sipring_load::flow::Flow;
use sipring_load::plan::Plan;

/// Room for three stacks of threads: the test's own, and those of two workers.
const STACK: u64 = 2 << 30;
const ADDRESSES_KB: u64 = (3 * STACK + (3 << 29)) / 1_024;

/// In the copy of this program that has little room.
const LITTLE_ROOM: &str = "SIPRING_TEST_LITTLE_ROOM";

#[test]
fn without_a_thread_for_the_third_worker_the_others_leave() {
    if std::env::var_os(LITTLE_ROOM).is_some() {
        return start_three_workers();
    }
    let program = std::env::current_exe().unwrap();
    let own = "without_a_thread_for_the_third_worker_the_others_leave";
    let limited = format!("ulimit -v {ADDRESSES_KB} && exec \"$0\" --exact {own}");
    let mut command = Command::new("sh");
    command.args(["-c", &limited]).arg(program).env(LITTLE_ROOM, "1").env("RUST_MIN_STACK", STACK.to_string());
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

fn start_three_workers() {
    let net = Net::new();
    let answer_at = net.nodes(3);
    let plan = Plan { answer_at: answer_at.clone(), cpus: vec![None; 3], ..net.plan(Flow::Call, net.edge()) };
    let error = crew::start(&plan).map(|_| ()).unwrap_err();
    assert!(error.contains("no thread for worker 2"), "{error}");
    for at in answer_at {
        assert!(std::net::UdpSocket::bind(at).is_ok(), "{at} is still somebody's");
    }
}
