//! What is set side by side, and which figure it is for.

use crate::far::Flow;
use crate::round::{Contest, Limit, Load};
use crate::subject::{Subject, Way};

/// Which network a table is measured in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lan {
    Loopback,
    /// Two veth links, behind one of which so many nodes are.
    Veth(u16),
}

pub(crate) struct Table {
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    pub(crate) lan: Lan,
    /// Calls under way where the subject works as fast as it can.
    pub(crate) window: usize,
    pub(crate) contests: Vec<Contest>,
}

const TUNED: Subject = Subject::Kamailio { stateful: false, tuned: true };
const DEFAULT: Subject = Subject::Kamailio { stateful: false, tuned: false };
const STATEFUL_TUNED: Subject = Subject::Kamailio { stateful: true, tuned: true };
const STATEFUL: Subject = Subject::Kamailio { stateful: true, tuned: false };
/// As much as the receive buffer of Kamailio's default holds.
const WINDOW: usize = 40;

fn contest(name: &'static str, bare: Way, ours: Way, peer: Option<Subject>, limits: &'static [Limit]) -> Contest {
    let (bare, ours) = (Subject::Bare(bare), Subject::Sipring(ours));
    Contest { name, bare, ours, peer, load: Load::Saturated, flow: Flow::Calls, limits }
}

#[expect(clippy::too_many_lines, reason = "a table of contests, one after the other")]
pub(crate) fn tables() -> Vec<Table> {
    use Limit::{Latency, LatencyToBare, OursToBare, OursToPeer, OursToPeerBySpeed};
    use Way::{Mmsg, Trains, Uring, Xdp, XdpBusy};
    let paced = |load: Load, contest: Contest| Contest { load, ..contest };
    let rate = Load::Messages(100_000.0);
    let plain = Some(Subject::Sipring(Uring));
    let nodes = |count: usize| Subject::SipringNodes(count);
    vec![
        Table {
            name: "sockets",
            title: "Over kernel sockets, as fast as it can",
            lan: Lan::Loopback,
            window: WINDOW,
            contests: vec![
                contest("mmsg-nginx", Mmsg, Mmsg, Some(Subject::Nginx), &[]),
                contest("uring-tuned", Uring, Uring, Some(TUNED), &[OursToBare(1.10), OursToPeer(0.50)]),
                contest("uring-default", Uring, Uring, Some(DEFAULT), &[OursToPeer(0.20)]),
                contest("uring-stateful-tuned", Uring, Uring, Some(STATEFUL_TUNED), &[]),
                contest("uring-stateful", Uring, Uring, Some(STATEFUL), &[]),
            ],
        },
        Table {
            name: "trains",
            title: "Over kernel sockets with trains towards the nodes, as fast as it can",
            lan: Lan::Loopback,
            window: WINDOW,
            contests: vec![
                contest("trains-tuned", Trains, Trains, Some(TUNED), &[OursToBare(1.10), OursToPeer(0.40)]),
                contest("trains-default", Trains, Trains, Some(DEFAULT), &[OursToPeer(0.20)]),
                Contest { flow: Flow::Varied, ..contest("trains-varied", Trains, Trains, plain, &[OursToPeer(0.95)]) },
            ],
        },
        Table {
            name: "half",
            title: "Over io_uring at half of what sipring carries on its cpu, of two settings the slower",
            lan: Lan::Loopback,
            window: WINDOW,
            contests: vec![
                paced(Load::Share(0.5), contest("half-uring", Uring, Uring, None, &[OursToBare(1.10)])),
                Contest {
                    flow: Flow::Varied,
                    ..paced(Load::Share(0.5), contest("half-varied", Trains, Trains, plain, &[OursToPeer(1.05)]))
                },
                paced(Load::Share(0.5), contest("half-trains", Trains, Trains, None, &[OursToBare(1.10)])),
            ],
        },
        Table {
            name: "bypass",
            title: "At two veth links, as fast as it can",
            lan: Lan::Veth(3),
            window: WINDOW,
            contests: vec![
                contest(
                    "xdp-uring",
                    Xdp,
                    Xdp,
                    Some(Subject::Sipring(Uring)),
                    &[OursToBare(1.25), OursToPeerBySpeed(0.50, 0.60)],
                ),
                contest("xdp-tuned", Xdp, Xdp, Some(TUNED), &[OursToPeer(0.25)]),
                contest("xdp-default", Xdp, Xdp, Some(DEFAULT), &[OursToPeer(0.16)]),
                contest("uring-veth", Uring, Uring, Some(TUNED), &[]),
            ],
        },
        Table {
            name: "latency",
            title: "At two veth links, 100,000 messages/s",
            lan: Lan::Veth(3),
            window: WINDOW,
            contests: vec![
                paced(rate, contest("latency-busy", XdpBusy, XdpBusy, None, &[Latency(8.0, 25.0)])),
                paced(rate, contest("latency-asleep", Xdp, Xdp, Some(Subject::Sipring(Uring)), &[LatencyToBare(1.3)])),
                paced(rate, contest("latency-uring", Uring, Uring, None, &[])),
            ],
        },
        Table {
            name: "nodes",
            title: "Over io_uring at veth links with 2, 4, 64 and 1,000 nodes, as fast as it can",
            lan: Lan::Veth(1_000),
            window: WINDOW,
            contests: vec![
                Contest {
                    ours: nodes(1_000),
                    peer: Some(nodes(4)),
                    ..contest("nodes-1000", Uring, Uring, None, &[OursToPeer(1.15)])
                },
                Contest { ours: nodes(64), peer: Some(nodes(2)), ..contest("nodes-64", Uring, Uring, None, &[]) },
            ],
        },
    ]
}

/// The contests by which a figure is proven.
pub(crate) fn of_figure(figure: &str) -> Option<&'static [&'static str]> {
    Some(match figure {
        "2.6" => &["mmsg-nginx", "uring-tuned", "uring-default"],
        "3.1" => &["uring-tuned", "trains-tuned", "half-uring", "half-trains", "trains-varied", "half-varied"],
        "3.2" => &["xdp-uring", "latency-busy", "latency-asleep"],
        "3.3" => &["uring-tuned", "uring-default", "trains-tuned", "trains-default", "xdp-tuned", "xdp-default"],
        "3.7" => &["nodes-1000"],
        _ => return None,
    })
}
