//! What stands between callers and nodes: bare forwarders, sipring, and its peers, each as a process of its own.

use std::any::Any;
use std::fmt;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::Duration;

use crate::account::Rank;
use crate::bare;
use crate::harness::balancer::Balancer;
use crate::harness::kamailio::Kamailio;
use crate::harness::process::{Output, Process};
use crate::harness::spec::{Node, Spec};
use crate::harness::{TempDir, ports, repository, wait_until};
use crate::scene::Scene;

const PATIENCE: Duration = Duration::from_secs(10);
/// What operators are told to set: a faster allocator, and buffers for bursts.
const TUNED: [&str; 6] = ["-x", "tlsf", "-X", "tlsf", "-b", "8388608"];
/// Stateful, transactions of five seconds are kept, in this many megabytes.
const STATEFUL_MB: &str = "3072";
const NGINX_MODULE: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";

/// How packets come in and leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Mmsg,
    Uring,
    /// With requests to one node leaving as trains.
    Trains,
    Xdp,
    /// Looking for frames instead of sleeping.
    XdpBusy,
}

impl Way {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Mmsg => "mmsg",
            Self::Uring => "uring",
            Self::Trains => "uring, trains",
            Self::Xdp => "xdp",
            Self::XdpBusy => "xdp, busy",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    Bare(Way),
    Sipring(Way),
    /// Over io_uring, of so many nodes.
    SipringNodes(usize),
    Kamailio {
        stateful: bool,
        tuned: bool,
    },
    Nginx,
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::Bare(way) => format!("bare {}", way.word()),
            Self::Sipring(way) => format!("sipring {}", way.word()),
            Self::SipringNodes(nodes) => format!("sipring uring, {nodes} nodes"),
            Self::Kamailio { stateful, tuned } => {
                let state = if *stateful { "stateful" } else { "stateless" };
                format!("Kamailio {state}, {}", if *tuned { "tuned" } else { "as it comes" })
            }
            Self::Nginx => "nginx stream".to_owned(),
        };
        f.pad(&text)
    }
}

/// A subject that runs; it ends when this goes.
pub(crate) struct Running {
    pub(crate) id: u32,
    pub(crate) rank: Rank,
    _process: Box<dyn Any>,
}

impl Subject {
    /// Starts it; what is missing or went wrong, if it cannot run. `script` is for bare forwarders.
    pub(crate) fn start(self, scene: &Scene, script: &Path) -> Result<Running, String> {
        if let Some(missing) = self.missing() {
            return Err(format!("{missing} is not installed"));
        }
        let started = catch_unwind(AssertUnwindSafe(|| match self {
            Self::Bare(way) => bare_forwarder(way, scene, script),
            Self::Sipring(way) => sipring(way, scene, &scene.nodes),
            Self::SipringNodes(count) => sipring(Way::Uring, scene, &scene.nodes[..count]),
            Self::Kamailio { stateful, tuned } => kamailio(scene, stateful, tuned),
            Self::Nginx => nginx(scene),
        }));
        started.map_err(|_| "it did not start; why stands above".to_owned())
    }

    fn missing(self) -> Option<&'static str> {
        let there = |path: &str| Path::new(path).exists();
        match self {
            Self::Kamailio { .. } => (!there("/usr/sbin/kamailio")).then_some("kamailio"),
            Self::Nginx => {
                (!there("/usr/sbin/nginx") || !there(NGINX_MODULE)).then_some("nginx with libnginx-mod-stream")
            }
            Self::Bare(_) | Self::Sipring(_) | Self::SipringNodes(_) => None,
        }
    }
}

fn bare_forwarder(way: Way, scene: &Scene, script: &Path) -> Running {
    let mut command = scene.middle().command(std::env::current_exe().unwrap());
    command.arg(bare::WORD);
    let words: &[&str] = match way {
        Way::Mmsg => &["mmsg"],
        Way::Uring | Way::Trains => &["uring"],
        Way::Xdp | Way::XdpBusy => &["xdp"],
    };
    command.args(words).arg(script);
    match way {
        Way::Trains => command.arg("trains"),
        Way::XdpBusy => command.arg("busy"),
        Way::Mmsg | Way::Uring | Way::Xdp => &mut command,
    };
    let process = Process::start("bare forwarder", &mut command, true);
    let ready = process.wait_line(0, PATIENCE, |output, line| output == Output::Out && line == bare::READY);
    assert!(ready.is_some(), "the bare forwarder does not forward; {}", process.said());
    Running { id: process.id(), rank: Rank::Fifo, _process: Box::new(process) }
}

fn sipring(way: Way, scene: &Scene, nodes: &[SocketAddr]) -> Running {
    let nodes = (0..).zip(nodes).map(|(number, at)| Node::new(format!("n{number}"), *at));
    // The table of nodes is as large as it is in service, and the one worker has the one port that it needs.
    let spec = Spec { set: Vec::new(), worker_ports: 1, ..Spec::new(scene.edge, scene.node_side) }.nodes(nodes);
    let [edge, node_side] = scene.interfaces();
    let trains = |on: bool| format!("trains = {on}\n");
    let bypass = |more: &str| format!("[xdp]\ninterfaces = [\"{edge}\", \"{node_side}\"]\n{more}");
    let spec = match way {
        Way::Mmsg => spec.datapath("mmsg").tuning(&trains(false)),
        Way::Uring => spec.datapath("uring").tuning(&trains(false)),
        Way::Trains => spec.datapath("uring").tuning(&trains(true)),
        Way::Xdp => spec.datapath("xdp").tuning(&bypass("")),
        Way::XdpBusy => spec.datapath("xdp").tuning(&bypass("busy_poll_us = 1000\n")),
    };
    let mut balancer = Balancer::start(&scene.middle(), &spec);
    Running { id: balancer.process().id(), rank: Rank::Fifo, _process: Box::new(balancer) }
}

fn kamailio(scene: &Scene, stateful: bool, tuned: bool) -> Running {
    let dir = TempDir::new("nodes");
    let list = dir.path().join("nodes.list");
    let lines: String = scene.nodes.iter().map(|node| format!("1 sip:{node}\n")).collect();
    std::fs::write(&list, lines).unwrap();
    let words = [("NODES", format!("\"{}\"", list.display()))];
    let mut flags: Vec<&str> = if tuned { TUNED.to_vec() } else { Vec::new() };
    if stateful {
        flags.extend(["-m", STATEFUL_MB]);
    }
    let config = if stateful { "stateful" } else { "stateless" };
    let config = repository(&format!("benches/sidebyside/peers/kamailio-{config}.cfg"));
    let kamailio = Kamailio::start_with(&scene.middle(), &config, scene.edge, &words, &flags);
    // Before all others, its one worker would keep its own timer from the cpu.
    let rank = if stateful { Rank::RoundRobin } else { Rank::Fifo };
    Running { id: kamailio.id(), rank, _process: Box::new((kamailio, dir)) }
}

fn nginx(scene: &Scene) -> Running {
    let dir = TempDir::new("nginx");
    let text = std::fs::read_to_string(repository("benches/sidebyside/peers/nginx.conf")).unwrap();
    let servers: String = scene.nodes.iter().map(|node| format!("server {node}; ")).collect();
    let text = text.replace("MODULE", NGINX_MODULE).replace("EDGE", &scene.edge.to_string());
    let text = text.replace("NODES", &servers).replace("DIR", &dir.path().display().to_string());
    let config = dir.path().join("nginx.conf");
    std::fs::write(&config, text).unwrap();
    let mut command = scene.middle().command("nginx");
    command.arg("-c").arg(&config).arg("-p").arg(dir.path());
    let mut process = Process::start("nginx", &mut command, true);
    let up = wait_until(PATIENCE, || process.ended().is_some() || ports::bound(process.id(), scene.edge));
    assert!(up && process.ended().is_none(), "nginx does not listen; {}", process.said());
    Running { id: process.id(), rank: Rank::Fifo, _process: Box::new((process, dir)) }
}
