//! What is refused at start, in words that say what would be right.

use std::process::Command;

use crate::harness::balancer::sum;
use crate::harness::lab::Path;
use crate::harness::spec::{Node, Spec};
use crate::harness::{TempDir, balancer, turn};
use crate::rig::Rig;

/// What it says when it does not start.
fn refusal(path: &Path, workers: u16, tuning: &str, unprivileged: bool) -> String {
    let dir = TempDir::new("refused");
    let spec = Spec::new(Path::at(false, "1.1", 5060), Path::at(false, "2.1", 5060)).workers(workers);
    let spec = spec.nodes([Node::new("node0", Path::at(false, "2.2", 5060))]).tuning(tuning);
    // Another balancer of this namespace may have its port.
    let spec = spec.tables("[admin]\nbind = \"off\"\n");
    let file = |name: &str, text: &str| {
        let file = dir.path().join(name);
        std::fs::write(&file, text).unwrap();
        file
    };
    let (config, cpus) = (file("sipring.toml", &spec.sipring_toml()), file("cpus.toml", &spec.cpus_toml()));
    let mut command: Command = if unprivileged {
        let mut command = path.middle().command("setpriv");
        command.args(["--bounding-set=-all", "--inh-caps=-all", "--"]).arg(balancer::binary());
        command
    } else {
        path.middle().command(balancer::binary())
    };
    let output = command.arg("run").arg("-c").arg(config).arg("-t").arg(cpus).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn an_interface_or_a_queue_that_is_not_there_is_named() {
    let _turn = turn();
    let path = Path::new();
    let said = refusal(&path, 1, "datapath = \"xdp\"\n[xdp]\ninterfaces = [\"edge\", \"node\"]\n", false);
    assert!(said.contains("`node`: there is no such interface"), "{said}");
    let said = refusal(&path, 2, "datapath = \"xdp\"\n[xdp]\ninterfaces = [\"edge\"]\n", false);
    assert!(said.contains("`edge`: no AF_XDP socket on queue 1: has it that queue?"), "{said}");
}

#[test]
fn queues_that_no_worker_serves_are_warned_about_and_served_by_the_slow_path() {
    let _turn = turn();
    let mut rig = Rig::over(Path::with_queues(4), 2, |host, port| Path::at(false, host, port), "queues = [0, 3]\n");
    let said = rig.balancer.process().said();
    assert!(said.contains("queues_unserved") && said.contains("[1, 2]"), "{said}");
    for port in 0..32 {
        rig.client = rig.path.client().socket(Path::at(false, "1.2", 20_000 + port));
        rig.exchange(100);
    }
    let counters = rig.balanced();
    let of = |name: &str| sum(&counters, &[name]);
    assert!(of("slow_received") > 0 && of("slow_received") < of("sipring_datagrams_received{"), "{counters:#?}");
}

#[test]
fn without_the_capabilities_it_says_which() {
    let _turn = turn();
    let path = Path::new();
    let said = refusal(&path, 1, "datapath = \"xdp\"\n[xdp]\ninterfaces = [\"edge\"]\n", true);
    assert!(said.contains("CAP_NET_ADMIN, CAP_NET_RAW and CAP_BPF"), "{said}");
}

#[test]
fn a_program_of_another_process_is_not_pushed_aside() {
    let _turn = turn();
    let path = Path::new();
    let spec = Spec::new(Path::at(false, "1.1", 5060), Path::at(false, "2.1", 5060));
    let spec = spec.nodes([Node::new("node0", Path::at(false, "2.2", 5060))]);
    let tuning = crate::rig::tuning("");
    let _first = balancer::Balancer::start(&path.middle(), &spec.tuning(&tuning));
    let said = refusal(&path, 1, &tuning, false);
    assert!(said.contains("edge"), "{said}");
}
