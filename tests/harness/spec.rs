//! What a balancer is told: the two files of a test, written from this.

use std::fmt::Write;
use std::net::SocketAddr;

#[derive(Clone, Debug)]
pub(crate) struct Listener {
    pub(crate) name: String,
    pub(crate) bind: SocketAddr,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) address: SocketAddr,
    pub(crate) weight: u16,
    pub(crate) intent: &'static str,
    /// The backup of a pair.
    pub(crate) pair: Option<SocketAddr>,
}

impl Node {
    pub(crate) fn new(name: impl Into<String>, address: SocketAddr) -> Self {
        Self { name: name.into(), address, weight: 100, intent: "serve", pair: None }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Spec {
    pub(crate) listeners: Vec<Listener>,
    /// Listener ports towards the nodes, each with the first of its worker ports.
    pub(crate) node_sides: Vec<(SocketAddr, u16)>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) workers: u16,
    pub(crate) worker_ports: u16,
    pub(crate) datapath: String,
    pub(crate) cookies: bool,
    pub(crate) drain_max_s: u32,
    /// Further lines of `[[set]]`.
    pub(crate) set: Vec<String>,
    /// Lines of `[health]`; nodes of most tests expect calls and nothing else.
    pub(crate) health: Vec<String>,
    /// Further tables.
    pub(crate) tables: String,
    /// Further lines of `cpus.toml`.
    pub(crate) tuning: String,
}

/// How many worker ports a test gives the balancer: more than workers, as in service.
pub(crate) const WORKER_PORTS: u16 = 4;

/// The datapath that the balancer is told to use: `SIPRING_DATAPATH`, else the one that it takes of itself.
pub(crate) fn datapath() -> String {
    std::env::var("SIPRING_DATAPATH").unwrap_or_else(|_| "auto".into())
}

impl Spec {
    /// One listener, one node side whose worker ports follow its own port.
    pub(crate) fn new(edge: SocketAddr, node_side: SocketAddr) -> Self {
        Self {
            listeners: vec![Listener { name: "edge".into(), bind: edge }],
            node_sides: vec![(node_side, node_side.port() + 1)],
            nodes: Vec::new(),
            workers: 1,
            worker_ports: WORKER_PORTS,
            datapath: datapath(),
            cookies: true,
            drain_max_s: 32,
            set: vec!["slots = 4096".into()],
            health: vec!["probe = false".into()],
            tables: String::new(),
            tuning: String::new(),
        }
    }

    pub(crate) fn listener(mut self, name: &str, bind: SocketAddr) -> Self {
        self.listeners.push(Listener { name: name.into(), bind });
        self
    }

    pub(crate) fn nodes(mut self, nodes: impl IntoIterator<Item = Node>) -> Self {
        self.nodes.extend(nodes);
        self
    }

    pub(crate) fn workers(mut self, workers: u16) -> Self {
        self.workers = workers;
        self
    }

    /// Probes every 250 ms, and what else `[health]` shall say.
    pub(crate) fn probes(mut self, lines: &[&str]) -> Self {
        self.health = std::iter::once(&"interval_ms = 250").chain(lines).map(|line| (*line).to_owned()).collect();
        self
    }

    pub(crate) fn datapath(mut self, datapath: &str) -> Self {
        self.datapath = datapath.into();
        self
    }

    /// A further line of the set.
    pub(crate) fn set(mut self, line: &str) -> Self {
        self.set.push(line.into());
        self
    }

    /// Further tables, behind all others.
    pub(crate) fn tables(mut self, text: &str) -> Self {
        self.tables.push_str(text);
        self
    }

    /// Further lines of `cpus.toml`.
    pub(crate) fn tuning(mut self, lines: &str) -> Self {
        self.tuning = lines.into();
        self
    }

    pub(crate) fn edge(&self) -> SocketAddr {
        self.listeners.first().unwrap_or_else(|| panic!("a spec has a listener")).bind
    }

    pub(crate) fn node_side(&self) -> SocketAddr {
        self.node_sides.first().unwrap_or_else(|| panic!("a spec has a node side")).0
    }

    pub(crate) fn sipring_toml(&self) -> String {
        let mut text = String::from("cluster_secret_file = \"cluster-secret.toml\"\n");
        let mut line = |line: std::fmt::Arguments<'_>| writeln!(text, "{line}").unwrap_or_else(|e| panic!("{e}"));
        line(format_args!("drain_max_s = {}\nmarks_max = 65536\ncookies = {}", self.drain_max_s, self.cookies));
        line(format_args!("\n[health]\n{}", self.health.join("\n")));
        for Listener { name, bind } in &self.listeners {
            line(format_args!("\n[[listener]]\nname = \"{name}\"\nbind = \"{bind}\"\nset = \"cluster\""));
        }
        for (bind, first) in &self.node_sides {
            let last = first + self.worker_ports - 1;
            line(format_args!("\n[[node_side]]\nbind = \"{bind}\"\nports = \"{first}-{last}\""));
        }
        line(format_args!("\n[[set]]\nname = \"cluster\"\n{}", self.set.join("\n")));
        for Node { name, address, weight, intent, pair } in &self.nodes {
            line(format_args!("\n[[set.node]]\nname = \"{name}\"\naddress = \"{address}\""));
            line(format_args!("weight = {weight}\nintent = \"{intent}\""));
            if let Some(pair) = pair {
                line(format_args!("pair = \"{pair}\""));
            }
        }
        line(format_args!("\n{}", self.tables));
        text
    }

    pub(crate) fn cpus_toml(&self) -> String {
        let chosen = self.tuning.lines().any(|line| line.starts_with("datapath"));
        let datapath = if chosen { String::new() } else { format!("datapath = \"{}\"\n", self.datapath) };
        format!("{datapath}workers = {}\n{}", self.workers, self.tuning)
    }
}
