//! A balancer, three nodes and calls in one process, to look at.
//!
//! Runs the balancer as `sipring run` does, on loopback addresses that nobody uses, so that it needs no
//! privileges and disturbs no other demo. Everything that it measured is printed, with where to go on.

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sipring::config::Config;
use sipring::datapath;
use sipring::packet::{LocalPort, PortRole};
use sipring::serve::{self, Running};

use crate::cli::DemoArgs;
use crate::flow::Flow;
use crate::plan::{Load, Plan};
use crate::report::Report;
use crate::watch;

/// Tries for a network of loopback addresses that nobody uses.
const TRIES: u32 = 50;
const NODES: u8 = 3;
/// Sockets that calls begin at.
const SOURCES: usize = 8;
const SIP: u16 = 5060;
const ADMIN: u16 = 8060;
/// The first of the balancer's worker ports, and how many there are.
const FIRST_PORT: u16 = 5070;
const PORTS: u16 = 4;

/// Runs the demo; whether no call was lost or failed.
///
/// # Errors
/// What could not be had.
pub fn command(args: &DemoArgs) -> Result<bool, String> {
    let seconds = Duration::try_from_secs_f64(args.seconds).map_err(|error| error.to_string())?;
    let net = Net::find()?;
    let dir = directory()?;
    let file = net.write(&dir)?;
    let config = Config::read(&file, Some(&dir.join("cpus.toml"))).map_err(|faults| faults.to_string())?;
    let balancer = serve::start(config)?;
    if !args.json {
        say(&net.scene(args));
    }
    let plan = Plan {
        flow: Some(Flow::Call),
        to: net.edge(),
        from: vec![SocketAddr::new(net.host(100), 0); SOURCES],
        answer_at: net.nodes().collect(),
        load: Load::Rate(args.rate),
        time: Some(seconds),
        hold: Duration::from_millis(500),
        ..Plan::default()
    };
    let report = watch::run(&plan, !args.json);
    let figures = Balancer::read(&balancer);
    balancer.stop();
    let sound = balancer.wait();
    let report = report?;
    if args.json {
        say(&(report.json() + "\n"));
    } else {
        say(&summary(&report, figures, &file));
    }
    Ok(sound && report.is_clean())
}

fn say(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}

/// What the balancer counted.
#[derive(Clone, Copy, Debug, Default)]
struct Balancer {
    received: u64,
    sent: u64,
    dropped: u64,
    unsent: u64,
}

impl Balancer {
    fn read(running: &Running) -> Self {
        let mut read = Self::default();
        for figures in running.counters() {
            figures.ledger.each(|name, value| match name {
                "datagrams_received" => read.received += value,
                "datagrams_sent" => read.sent += value,
                _ if name.starts_with("send_error") => read.unsent += value,
                _ => {}
            });
            figures.counters.each(|name, _, value| read.dropped += if name == "drop" { value } else { 0 });
        }
        read
    }
}

fn summary(report: &Report, balancer: Balancer, file: &Path) -> String {
    let Balancer { received, sent, dropped, unsent } = balancer;
    let per_second = |count: u64| count as f64 / report.seconds.max(0.001);
    let verdict = if report.is_clean() { "every call went as it should" } else { "NOT every call went as it should" };
    format!(
        "\n{report}balancer   {received} packets in, {sent} out ({:.0} packets/s), {dropped} dropped, {unsent} not sent\n\n\
         {} lost, {} failed: {verdict}.\n\n\
         Where to look:\n  \
         {}    what this balancer was configured with\n  \
         README.md    what sipring does, and every option\n  \
         loadgen/README.md    the load generator: flows, checks, the search for a capacity\n  \
         cargo run --release -p sipring-load -- call --help    calls of your own\n",
        per_second(received + sent),
        report.calls.lost,
        report.calls.failed,
        file.display(),
    )
}

/// A network of loopback addresses: 127.A.B.*.
struct Net {
    high: u8,
    low: u8,
}

impl Net {
    /// One in which no address is taken.
    fn find() -> Result<Self, String> {
        let mut last = String::new();
        for _ in 0..TRIES {
            let mut random = [0; 2];
            getrandom::fill(&mut random).map_err(|error| format!("no random numbers: {error}"))?;
            let [high, low] = random;
            // Away from 127.0, where services are, and from 127.255, which is broadcast.
            let net = Self { high: high % 100 + 100, low };
            let all: Vec<LocalPort> =
                net.addresses().map(|bind| LocalPort { bind, role: PortRole::Listener }).collect();
            match datapath::probe(&all) {
                Ok(()) => return Ok(net),
                Err(error) => last = error.to_string(),
            }
        }
        Err(format!("no free loopback addresses: {last}"))
    }

    fn host(&self, host: u8) -> IpAddr {
        Ipv4Addr::new(127, self.high, self.low, host).into()
    }

    fn edge(&self) -> SocketAddr {
        SocketAddr::new(self.host(1), SIP)
    }

    fn node_side(&self) -> SocketAddr {
        SocketAddr::new(self.host(2), SIP)
    }

    fn admin(&self) -> SocketAddr {
        SocketAddr::new(self.host(1), ADMIN)
    }

    fn nodes(&self) -> impl Iterator<Item = SocketAddr> {
        (1..=NODES).map(|node| SocketAddr::new(self.host(10 + node), SIP))
    }

    fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        let ports = (FIRST_PORT..FIRST_PORT + PORTS).map(|port| SocketAddr::new(self.host(2), port));
        [self.edge(), self.node_side(), SocketAddr::new(self.host(100), 0)].into_iter().chain(self.nodes()).chain(ports)
    }

    /// Writes the balancer's files; where `sipring.toml` is.
    fn write(&self, dir: &Path) -> Result<PathBuf, String> {
        let nodes: String = self
            .nodes()
            .zip(1..)
            .map(|(address, number)| format!("\n[[set.node]]\nname = \"node{number}\"\naddress = \"{address}\"\n"))
            .collect();
        let text = format!(
            "# The balancer of `cargo demo`; sipring.toml in the sources explains every key.\n\
             [[listener]]\nname = \"edge\"\nbind = \"{}\"\nset = \"cluster\"\n\n\
             [[node_side]]\nbind = \"{}\"\nports = \"{FIRST_PORT}-{}\"\n\n\
             [[set]]\nname = \"cluster\"\n# All nodes are one thread of this process: what stalls one stalls all.\npanic = \"use_all\"\n{nodes}\n\
             [health]\ntimeout_ms = 800\n\n\
             [admin]\nbind = \"{}\"\n",
            self.edge(),
            self.node_side(),
            FIRST_PORT + PORTS - 1,
            self.admin(),
        );
        let write = |name: &str, text: &str| {
            let file = dir.join(name);
            std::fs::write(&file, text).map_err(|error| format!("{}: {error}", file.display())).map(|()| file)
        };
        write("cpus.toml", "# One worker, on any cpu.\nworkers = 1\n")?;
        write("sipring.toml", &text)
    }

    fn scene(&self, args: &DemoArgs) -> String {
        let nodes: Vec<String> = self.nodes().map(|node| node.to_string()).collect();
        format!(
            "{SOURCES} callers -> balancer {} -> nodes {}\n{} calls/s for {} s: INVITE 180 200 ACK, half a second, BYE \
             200\nmeanwhile: curl http://{}/sets, or /metrics\n",
            self.edge(),
            nodes.join(", "),
            args.rate,
            args.seconds,
            self.admin(),
        )
    }
}

/// A new directory for the balancer's files, which stays.
fn directory() -> Result<PathBuf, String> {
    let dir = std::env::temp_dir().join(format!("sipring-demo-{}", std::process::id()));
    std::fs::create_dir_all(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    Ok(dir)
}
