//! What tests of the load generator share: loopback networks of their own, a balancer in this process, and a relay
//! that misbehaves as told.

#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "each test uses part of it; a test stops at the first surprise and is its own clock"
)]

pub(crate) mod relay;
pub(crate) mod server;

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use sipring::config::Config;
use sipring::serve::{self, Running};
use sipring_load::flow::Flow;
use sipring_load::plan::{Load, Plan};
use sipring_load::report::Report;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// 127.24.X.*, kept from other tests and processes by a socket bound there.
pub(crate) struct Net {
    third: u8,
    _kept: UdpSocket,
}

impl Net {
    pub(crate) fn new() -> Self {
        for _ in 0..250 {
            let turn = NEXT.fetch_add(1, Ordering::Relaxed).wrapping_add(std::process::id().wrapping_mul(37));
            let third = (turn % 250) as u8 + 1;
            if let Ok(kept) = UdpSocket::bind((Ipv4Addr::new(127, 24, third, 254), 9)) {
                return Self { third, _kept: kept };
            }
        }
        panic!("no free network under 127.24");
    }

    pub(crate) fn ip(&self, host: u8) -> IpAddr {
        Ipv4Addr::new(127, 24, self.third, host).into()
    }

    pub(crate) fn at(&self, host: u8, port: u16) -> SocketAddr {
        SocketAddr::new(self.ip(host), port)
    }

    pub(crate) fn edge(&self) -> SocketAddr {
        self.at(1, 5060)
    }

    pub(crate) fn node_side(&self) -> SocketAddr {
        self.at(2, 5060)
    }

    pub(crate) fn nodes(&self, count: u8) -> Vec<SocketAddr> {
        (1..=count).map(|node| self.at(10 + node, 5060)).collect()
    }

    /// Sockets of callers.
    pub(crate) fn sources(&self, count: usize) -> Vec<SocketAddr> {
        vec![self.at(100, 0); count]
    }

    /// Calls of `flow` straight to `to`.
    pub(crate) fn plan(&self, flow: Flow, to: SocketAddr) -> Plan {
        Plan {
            flow: Some(flow),
            to,
            from: self.sources(3),
            load: Load::Rate(200.0),
            calls: Some(200),
            // A machine with other things to do is late, and not lossy.
            t1: Duration::from_secs(5),
            timeout: Duration::from_secs(30),
            ..Plan::default()
        }
    }
}

/// A balancer in this process.
pub(crate) struct Balancer {
    running: Option<Running>,
    dir: PathBuf,
}

impl Balancer {
    /// With `count` nodes. Messages name its edge listener `advertise`.
    pub(crate) fn start(net: &Net, count: u8, advertise: SocketAddr) -> Self {
        let mut text = format!(
            "marks_max = 65536\n[admin]\nbind = \"off\"\n[health]\nprobe = false\n[[listener]]\nname = \"edge\"\nbind = \"{}\"\nadvertise = \"{advertise}\"\nset = \"s\"\n\
             [[node_side]]\nbind = \"{}\"\nports = \"5070-5073\"\n[[set]]\nname = \"s\"\nslots = 4096\n",
            net.edge(),
            net.node_side()
        );
        for (number, node) in net.nodes(count).iter().enumerate() {
            write!(text, "[[set.node]]\nname = \"node{number}\"\naddress = \"{node}\"\n").unwrap();
        }
        let dir = std::env::temp_dir().join(format!("sipring-load-test-{}-{}", std::process::id(), net.third));
        std::fs::create_dir_all(&dir).unwrap();
        let file = dir.join("sipring.toml");
        std::fs::write(&file, text).unwrap();
        let config = Config::read(&file, None).unwrap_or_else(|faults| panic!("{faults}"));
        Self { running: Some(serve::start(config).unwrap()), dir }
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            running.stop();
            let _ = running.wait();
        }
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// Asserts that every call went as it should.
pub(crate) fn assert_clean(report: &Report, calls: u64) {
    assert!(report.is_clean(), "{report}");
    assert_eq!((report.calls.started, report.calls.ok), (calls, calls), "{report}");
}

/// How often `kind` was counted as odd.
pub(crate) fn odd(report: &Report, kind: &str) -> u64 {
    *report.odd.get(kind).unwrap_or_else(|| panic!("no kind {kind}"))
}
