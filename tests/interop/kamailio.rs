//! Kamailio as the next hop before us: it record-routes and sends every call of its clients here.

use std::net::{Ipv4Addr, SocketAddr};

use crate::harness::flows::{self, Flow, Row};
use crate::harness::kamailio::Kamailio;
use crate::harness::namespace::Place;
use crate::harness::{ports, turn};

fn calls_through_an_edge_proxy_stay_whole(flow: Flow) {
    let _turn = turn();
    let row =
        Row { flow, from_nodes: false, v6: false, workers: 2, datapath: None, rate: 60, seconds: 2, pause_ms: 100 };
    let report = flows::run_behind(row, |edge| {
        let listen = SocketAddr::new(Ipv4Addr::new(127, 0, 0, 5).into(), ports::free(1));
        let next = [("NEXT", format!("\"sip:{edge}\""))];
        (listen, Kamailio::start(&Place::here(), "kamailio-edge.cfg", listen, &next))
    });
    println!("{report}");
    assert!(report.holds(), "{report}\n{}\ncounters: {:#?}", report.errors, report.counters);
}

#[test]
fn calls_through_kamailio_before_us_stay_on_one_node() {
    calls_through_an_edge_proxy_stay_whole(Flow::Call);
}

#[test]
fn busy_through_kamailio_before_us() {
    calls_through_an_edge_proxy_stay_whole(Flow::Busy);
}

#[test]
fn nodes_hang_up_through_kamailio_before_us() {
    calls_through_an_edge_proxy_stay_whole(Flow::Hangup);
}

#[test]
fn re_invites_through_kamailio_before_us() {
    calls_through_an_edge_proxy_stay_whole(Flow::Reinvite);
}
