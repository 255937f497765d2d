//! Losing a node moves its calls and no others, and what is left stays even.

#[path = "figures/spread.rs"]
#[allow(dead_code, reason = "the figure of many secrets is asked for elsewhere")]
mod spread;

use spread::{Effort, measure};

#[test]
fn losing_a_node_moves_its_calls_only_and_spreads_them_evenly() {
    for nodes in [2, 3, 10, 30] {
        let figures =
            measure(nodes, &Effort { secrets: 2, secret: |number| [number as u8; 32], calls: 1_000_000, losses: 2 });
        assert!(figures.hold(), "{nodes} nodes: {figures:?}");
    }
}
