//! Where it is measured: networks with a place for what is measured, the far side's thread, and one measurement.
//!
//! What is measured has the first cpu for itself, the far side the second. Networks go with their owner.

use std::fmt;
use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::account;
use crate::bare::script::{Script, changes};
use crate::far::sockets::Sockets;
use crate::far::xdp::{Link, Wire};
use crate::far::{Door, Flow, Pace, Record, Seen, Traffic};
use crate::harness::lab::{Core, Path as Lab};
use crate::harness::namespace::{Namespace, Place};
use crate::harness::{TempDir, sys, wait_until};
use crate::subject::{Running, Subject, Way};

const PATIENCE: Duration = Duration::from_secs(10);
const RECORDED: Duration = Duration::from_millis(50);
/// A subject that had less of its cpu shared it with somebody, or waited for the far side.
const SHARE_MIN: f64 = 0.6;

/// How long calls are driven before and while cpu time is counted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    pub(crate) warm_up: Duration,
    pub(crate) measured: Duration,
}

/// What one measurement of one subject gave.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) seen: Seen,
    pub(crate) pace: Pace,
    /// Of all its threads, ns.
    pub(crate) cpu: u64,
    /// Of the first cpu, its own included, ns.
    pub(crate) core: u64,
}

impl Row {
    /// CPU time a message, us.
    pub(crate) fn us(&self) -> f64 {
        self.cpu as f64 / 1e3 / self.seen.messages as f64
    }

    /// Of its cpu.
    pub(crate) fn share(&self) -> f64 {
        self.cpu as f64 / self.seen.elapsed.as_nanos() as f64
    }

    /// Of the far side's time, how much it had something to do.
    pub(crate) fn far_share(&self) -> f64 {
        self.seen.busy.as_secs_f64() / self.seen.elapsed.as_secs_f64()
    }

    pub(crate) fn per_second(&self) -> f64 {
        self.seen.messages as f64 / self.seen.elapsed.as_secs_f64()
    }

    /// Messages a second that the whole of a cpu would carry at this cost.
    pub(crate) fn per_core_second(&self) -> f64 {
        1e6 / self.us()
    }

    /// Requests of a train, on average.
    pub(crate) fn mean_train(&self) -> f64 {
        self.seen.requests as f64 / self.seen.trains.max(1) as f64
    }

    pub(crate) fn latency_us(&self, quantile: f64) -> f64 {
        self.seen.latency.value_at_quantile(quantile) as f64 / 1e3
    }

    /// Nothing was lost, and a subject that was to work as fast as it can had its cpu.
    pub(crate) fn valid(&self) -> bool {
        let saturated = matches!(self.pace, Pace::Window(_));
        self.seen.lost == 0
            && self.seen.strange == 0
            && self.seen.overtaken == 0
            && self.seen.messages > 0
            && (!saturated || self.share() > SHARE_MIN)
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:6.2} us a message, {:7.0} messages/s, {:3.0} % of the cpu (all of it {:3.0} %), far side {:3.0} % busy, \
             latency p50 {:.1} p99 {:.1} us, mean train {:.1}; lost {}, strange {}, overtaken {}",
            self.us(),
            self.per_second(),
            100.0 * self.share(),
            100.0 * self.core as f64 / self.seen.elapsed.as_nanos() as f64,
            100.0 * self.far_share(),
            self.latency_us(0.5),
            self.latency_us(0.99),
            self.mean_train(),
            self.seen.lost,
            self.seen.strange,
            self.seen.overtaken
        )
    }
}

/// Which network.
enum Lan {
    /// One network with addresses on its loopback device.
    Loopback(Core),
    /// Three networks and two veth links.
    Veth(Lab),
}

pub(crate) struct Scene {
    lan: Lan,
    pub(crate) edge: SocketAddr,
    pub(crate) node_side: SocketAddr,
    pub(crate) client: SocketAddr,
    pub(crate) nodes: Vec<SocketAddr>,
    dir: TempDir,
}

impl Scene {
    /// Three nodes at loopback addresses; the far side over plain sockets.
    pub(crate) fn loopback() -> Self {
        let core = Core::new();
        let at = |net, host| SocketAddr::new(core.address(net, host), 5060);
        let nodes = (1..=3).map(|host| at(2, host)).collect();
        let (edge, node_side, client) = (at(0, 1), at(1, 1), at(3, 1));
        Self { lan: Lan::Loopback(core), edge, node_side, client, nodes, dir: TempDir::new("sidebyside") }
    }

    /// So many nodes, ports of one address behind a veth link; the far side over AF_XDP at both links.
    pub(crate) fn veth(nodes: u16) -> Self {
        let lab = Lab::new();
        let at = |host: &str, port: u16| Lab::at(false, host, port);
        let [client, middle, node] = lab.namespaces();
        // The far side answers to no ARP of its own, and who was asked last is not to matter.
        for (link, host, other) in [("edge", "1.2", client), ("nodes", "2.2", node)] {
            let mac = text(Link::of(other, "wan").mac);
            middle.ip(&format!("neigh replace {} lladdr {mac} dev {link} nud permanent", at(host, 0).ip()));
        }
        Self {
            edge: at("1.1", 5060),
            node_side: at("2.1", 5060),
            client: at("1.2", 5090),
            nodes: (0..nodes).map(|nth| at("2.2", 10_000 + nth)).collect(),
            lan: Lan::Veth(lab),
            dir: TempDir::new("sidebyside"),
        }
    }

    /// Where subjects run.
    pub(crate) fn middle(&self) -> Place {
        match &self.lan {
            Lan::Loopback(core) => core.place(),
            Lan::Veth(lab) => lab.middle(),
        }
    }

    /// The links of a subject, towards clients and nodes.
    pub(crate) fn interfaces(&self) -> [&'static str; 2] {
        match &self.lan {
            Lan::Loopback(_) => ["lo", "lo"],
            Lan::Veth(_) => ["edge", "nodes"],
        }
    }

    /// Records the flow as sipring carries it, and writes down what a bare forwarder has to do.
    pub(crate) fn script(&self) -> Result<PathBuf, String> {
        let running = Subject::Sipring(Way::Mmsg).start(self, Path::new(""))?;
        let (client, nodes) = self.far(Pace::Window(4), Flow::Calls, |traffic| {
            let all = traffic.record(RECORDED);
            (all.client, all.nodes)
        });
        self.end(running);
        let [invite, ack, bye, response] =
            changes(&client, &nodes).ok_or("sipring did not change all messages of a kind by as many bytes")?;
        let script = Script {
            edge: self.edge,
            // What sipring sends requests from: its one worker port.
            node_side: SocketAddr::new(self.node_side.ip(), self.node_side.port() + 1),
            client: self.client,
            nodes: self.nodes.iter().take(3).copied().collect(),
            invite,
            ack,
            bye,
            response,
        };
        for (kind, change) in
            [("INVITE", &script.invite), ("ACK", &script.ack), ("BYE", &script.bye), ("200", &script.response)]
        {
            println!("  {kind}: {} bytes at {} give way to {}", change.cut, change.at, change.put.len());
        }
        let path = self.dir.path().join("script.json");
        let text = serde_json::to_vec(&script).map_err(|error| error.to_string())?;
        std::fs::write(&path, text).map_err(|error| error.to_string())?;
        Ok(path)
    }

    /// Measures a subject that runs.
    pub(crate) fn measure(&self, running: &Running, pace: Pace, flow: Flow, times: Times) -> Row {
        account::seat(running.id, running.rank);
        let leader = running.id;
        self.far(pace, flow, |traffic| {
            sys::occupy(1, 50).unwrap();
            traffic.run(times.warm_up);
            let ids = account::group(leader);
            let (cpu, core) = (account::cpu(&ids), account::core_busy());
            let seen = traffic.run(times.measured);
            Row { seen, pace, cpu: account::cpu(&ids) - cpu, core: account::core_busy() - core }
        })
    }

    /// Ends a subject, and waits until its ports are free: rings and queues outlive their process for a moment.
    pub(crate) fn end(&self, running: Running) {
        drop(running);
        let sent_from = SocketAddr::new(self.node_side.ip(), self.node_side.port() + 1);
        let free = || [self.edge, self.node_side, sent_from].into_iter().all(|at| UdpSocket::bind(at).is_ok());
        let freed = self.middle().inside(|| wait_until(PATIENCE, free));
        assert!(freed, "a subject's ports are not free again");
    }

    /// Has a thread of its own drive calls.
    fn far<T: Send>(&self, pace: Pace, flow: Flow, drive: impl FnOnce(&mut dyn Drive) -> T + Send) -> T {
        let run = || match &self.lan {
            Lan::Loopback(core) => {
                core.place().enter();
                let joins = flow != Flow::Varied;
                let open = |at: &[SocketAddr]| Sockets::open(at, joins).unwrap_or_else(|e| panic!("{at:?}: {e}"));
                let client = (open(&[self.client]), self.client);
                let nodes = (open(&self.nodes), self.nodes.as_slice());
                drive(&mut Traffic::new(client, nodes, self.edge, pace, flow))
            }
            Lan::Veth(lab) => {
                let [client, middle, node] = lab.namespaces();
                let client = (wire(client, (middle, "edge"), &[self.client]), self.client);
                let nodes = (wire(node, (middle, "nodes"), &self.nodes), self.nodes.as_slice());
                drive(&mut Traffic::new(client, nodes, self.edge, pace, flow))
            }
        };
        std::thread::scope(|scope| scope.spawn(run).join()).unwrap_or_else(|_| panic!("the far side gave up"))
    }
}

/// A door in `own` at its link to the other's.
fn wire(own: &Namespace, (other, link): (&Namespace, &str), at: &[SocketAddr]) -> Wire {
    let peer = Link::of(other, link).mac;
    let own_link = Link::of(own, "wan");
    own.place().inside(|| Wire::open(own_link, peer, at).unwrap_or_else(|e| panic!("AF_XDP of the far side: {e}")))
}

fn text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// What came of recorded calls, at both sides.
pub(crate) struct Both {
    pub(crate) client: Record,
    pub(crate) nodes: Record,
}

/// Traffic by whatever doors.
trait Drive {
    fn run(&mut self, time: Duration) -> Seen;
    fn record(&mut self, time: Duration) -> Both;
}

impl<D: Door> Drive for Traffic<D> {
    fn run(&mut self, time: Duration) -> Seen {
        Traffic::run(self, time)
    }

    fn record(&mut self, time: Duration) -> Both {
        let [client, nodes] = Traffic::record(self, time);
        Both { client, nodes }
    }
}
