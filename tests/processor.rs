//! A processor that lacks what the build is made of is told so by the program's first words, not by SIGILL.
#![cfg(target_arch = "x86_64")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test stops at the first surprise")]

use std::process::{Command, Output};

/// `sipring --version` on a processor that qemu plays.
fn on(processor: &str) -> Output {
    Command::new("qemu-x86_64")
        .args(["-cpu", processor, env!("CARGO_BIN_EXE_sipring"), "--version"])
        .output()
        .expect("qemu-x86_64 is missing: apt-get install qemu-user")
}

#[test]
fn a_processor_without_avx2_is_refused_where_the_build_uses_it() {
    let output = on("IvyBridge");
    let text = String::from_utf8(output.stderr).unwrap();
    let refused = text.contains("lacks instructions of x86-64-v3") && text.contains("-C target-cpu=x86-64\"");
    assert_eq!(refused, cfg!(target_feature = "avx2"), "{text}");
    assert_eq!(output.status.code(), Some(i32::from(refused)), "{text}");
}

#[test]
fn a_processor_with_avx2_runs_it() {
    let output = on("Haswell");
    assert_eq!(output.status.code(), Some(0));
    assert!(String::from_utf8(output.stdout).unwrap().starts_with("sipring "));
}
