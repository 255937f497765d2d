//! SIPp -> sipring -> three SIPp nodes: every flow, by either side, 1 and 2 workers, IPv4 and IPv6.

use crate::harness::flows::{self, Flow, Row};

pub(crate) fn run(rate: u32, seconds: u32) -> bool {
    println!(
        "{rate} calls/s for {seconds} s through sipring to three SIPp nodes; each row: failed calls, calls with a"
    );
    println!("message on another node or fewer messages than the flow has, and calls by node");
    let mut holds = true;
    for row in rows(rate, seconds) {
        let report = flows::run(row);
        let held = report.holds();
        println!("  {report}: {}", if held { "holds" } else { "DOES NOT HOLD" });
        if !held {
            println!("{}", report.errors);
        }
        holds &= held;
    }
    holds
}

fn rows(rate: u32, seconds: u32) -> Vec<Row> {
    let mut rows = Vec::new();
    for from_nodes in [false, true] {
        for flow in Flow::ALL {
            for v6 in [false, true] {
                for workers in [1, 2] {
                    rows.push(Row { flow, from_nodes, v6, workers, datapath: None, rate, seconds, pause_ms: 500 });
                }
            }
        }
    }
    rows
}
