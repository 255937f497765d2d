//! What the black-box tests and the figures share: the balancer as a process, SIPp and Kamailio beside it, network
//! namespaces with NAT, and user agents in process. It knows the product by its command line, its config file, its
//! signals and the datagrams it sends, and by nothing else.

pub(crate) mod agent;
pub(crate) mod balancer;
pub(crate) mod callers;
pub(crate) mod cluster;
pub(crate) mod dialog;
pub(crate) mod failover;
pub(crate) mod flows;
pub(crate) mod frozen;
pub(crate) mod http;
pub(crate) mod kamailio;
pub(crate) mod lab;
pub(crate) mod message;
pub(crate) mod namespace;
pub(crate) mod node;
pub(crate) mod ports;
pub(crate) mod process;
pub(crate) mod restart;
pub(crate) mod ringing;
pub(crate) mod sipp;
pub(crate) mod size;
pub(crate) mod spec;
pub(crate) mod sys;
pub(crate) mod world;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

static TURN: Mutex<()> = Mutex::new(());

/// One black-box test at a time: each brings several busy processes, and two cores carry only one such test honestly.
pub(crate) fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A number that no other caller in this process got.
pub(crate) fn unique() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Polls `done` until it holds; false when `limit` passed first.
pub(crate) fn wait_until(limit: Duration, mut done: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + limit;
    loop {
        if done() {
            return true;
        }
        if Instant::now() >= end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A file of the repository, wherever the test was started.
pub(crate) fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// A directory that goes with its owner; kept, and named on stderr, if the owner goes in a panic.
#[derive(Debug)]
pub(crate) struct TempDir(PathBuf);

impl TempDir {
    pub(crate) fn new(what: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("sipring-{}-{}-{what}", std::process::id(), unique()));
        std::fs::create_dir_all(&dir).unwrap_or_else(|e| panic!("cannot create {}: {e}", dir.display()));
        Self(dir)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("kept for a look: {}", self.0.display());
        } else {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}
