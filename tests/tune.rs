//! `sipring tune` on machines of many kinds, each a tree of files as the kernel shows it.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test")]

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use sipring::config::{Config, Cpus, Machine, Workers, tuned};
use sipring::datapath::Steered;

/// A machine made of files.
struct Tree(PathBuf);

impl Drop for Tree {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

const ALL: &str = "000001ffffffffff";
const NONE: &str = "0000000000000000";

impl Tree {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("sipring-tune-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }

    fn file(&self, path: &str, text: impl AsRef<str>) -> &Self {
        let file = self.0.join(path);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, format!("{}\n", text.as_ref())).unwrap();
        self
    }

    /// What every machine has.
    fn process(&self, allowed: &str, capabilities: &str, memory_kb: u64) -> &Self {
        self.file("proc/self/status", format!("Name:\tsipring\nCpus_allowed_list:\t{allowed}\nCapEff:\t{capabilities}"))
            .file("proc/meminfo", format!("MemTotal:       {memory_kb} kB\nMemFree: 1 kB"))
            .file(
                "proc/self/limits",
                "Limit Soft Hard Units\nMax open files            1024                524288 files",
            )
            .file("proc/sys/kernel/osrelease", "6.1.0-test")
            .file("proc/sys/kernel/io_uring_disabled", "0")
            .file("proc/sys/net/core/rmem_max", "212992")
            .file("proc/sys/net/core/wmem_max", "212992")
    }

    fn cpu(&self, cpu: usize, siblings: &str) -> &Self {
        self.file(&format!("sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"), siblings)
    }

    fn interface(&self, name: &str, node: &str, queues: usize, interrupts: &[(usize, &str)]) -> &Self {
        let base = format!("sys/class/net/{name}");
        for queue in 0..queues {
            self.file(&format!("{base}/queues/rx-{queue}/rps_cpus"), "0");
        }
        self.file(&format!("{base}/device/numa_node"), node);
        for (number, cpus) in interrupts {
            self.file(&format!("{base}/device/msi_irqs/{number}"), "msix");
            self.file(&format!("proc/irq/{number}/smp_affinity_list"), cpus);
        }
        symlink("../../../../bus/pci/drivers/ice", self.0.join(format!("{base}/device/driver"))).unwrap();
        self.file("proc/net/route", format!("Iface Destination Gateway\nlo 0000007F 0\n{name} 00000000 010200C0 0003"))
    }

    fn machine(&self) -> Machine {
        Machine::read(&self.0, None)
    }

    /// The text, and what sipring makes of it.
    fn tuned(&self) -> (String, Cpus) {
        let text = tuned(&self.machine());
        (text.clone(), self.read(&text))
    }

    fn read(&self, text: &str) -> Cpus {
        let workers = 256;
        let config = format!(
            "[[listener]]\nname = \"a\"\nbind = \"192.0.2.1:5060\"\n[[node_side]]\nbind = \"192.0.2.1:5062\"\n\
             ports = \"6000-{}\"\n[[set]]\nname = \"s\"\n[[set.node]]\nname = \"n\"\naddress = \"192.0.2.2\"\n",
            6_000 + workers - 1
        );
        self.file("out/sipring.toml", config).file("out/cpus.toml", text);
        let read = Config::read(&self.0.join("out/sipring.toml"), Some(&self.0.join("out/cpus.toml")));
        read.unwrap_or_else(|faults| panic!("{faults}\n{text}")).cpus
    }
}

/// Two virtual cpus, one queue, nothing else told.
fn small(tree: &Tree) {
    tree.process("0-1", ALL, 4 << 20).file("sys/devices/system/cpu/online", "0-1");
    for cpu in 0..2 {
        tree.cpu(cpu, &cpu.to_string());
    }
    tree.file("sys/devices/system/node/node0/cpulist", "0-1").interface("eth0", "-1", 1, &[(37, "0-1")]);
}

#[test]
fn a_virtual_machine_of_two_cpus_uses_both() {
    let tree = Tree::new("vm");
    small(&tree);
    let (text, cpus) = tree.tuned();
    assert_eq!(cpus.workers, Workers::Pinned(vec![0, 1]), "{text}");
    assert_eq!((cpus.packets, cpus.receive_buffer, cpus.steering), (16_384, 8 << 20, None));
    for said in [
        "half of what they carry",
        "interrupt 37 on cpus 0-1",
        "driver ice",
        "auto means ebpf",
        "CAP_NET_ADMIN was there",
    ] {
        assert!(text.contains(said), "{said} in {text}");
    }
}

#[test]
fn a_server_of_two_sockets_uses_the_cores_beside_the_interface_and_leaves_one_to_the_rest() {
    let tree = Tree::new("server");
    tree.process("0-31", NONE, 256 << 20).file("sys/devices/system/cpu/online", "0-31");
    // Cpu n and n + 16 are threads of one core; even cores are of node 0, as some firmware counts.
    for cpu in 0..32 {
        tree.cpu(cpu, &format!("{},{}", cpu % 16, cpu % 16 + 16));
    }
    for node in 0..2 {
        let cpus: Vec<String> = (0..32).filter(|cpu| cpu % 2 == node).map(|cpu| cpu.to_string()).collect();
        tree.file(&format!("sys/devices/system/node/node{node}/cpulist"), cpus.join(","));
    }
    tree.interface("ens1f0", "1", 8, &[(120, "1"), (121, "3")]);
    let (text, cpus) = tree.tuned();
    assert_eq!(cpus.workers, Workers::Pinned(vec![3, 5, 7, 9, 11, 13, 15]), "{text}");
    assert_eq!(cpus.packets, 7 * 8_192);
    for said in [
        "ens1f0 is attached to memory node 1",
        "Cpu 1,17 is left to interrupts",
        "on its first thread",
        "8 receive queues",
        "net.core.rmem_max is 212992",
        "auto means cbpf",
    ] {
        assert!(text.contains(said), "{said} in {text}");
    }
}

#[test]
fn a_container_with_a_quota_has_as_many_workers_as_fit_and_none_is_pinned() {
    let tree = Tree::new("container");
    tree.process("0-7", NONE, 64 << 20).file("sys/devices/system/cpu/online", "0-7");
    for cpu in 0..8 {
        tree.cpu(cpu, &cpu.to_string());
    }
    tree.file("proc/self/cgroup", "0::/")
        .file("sys/fs/cgroup/cpu.max", "150000 100000")
        .file("sys/fs/cgroup/cpuset.cpus.effective", "2-5")
        .file("sys/fs/cgroup/memory.max", "134217728");
    let machine = tree.machine();
    assert_eq!((machine.cpus.as_slice(), machine.quota, machine.cpuset), (&[2, 3, 4, 5][..], Some(1_500), true));
    let (text, cpus) = tree.tuned();
    assert_eq!(cpus.workers, Workers::Free(1), "{text}");
    // An eighth of 128 MB.
    assert_eq!(cpus.packets, 2_048);
    for said in
        ["limited to 1.5 cpus", "cpus       2-5 may be used, by a cpuset", "Memory is short", "nothing to share out"]
    {
        assert!(text.contains(said), "{said} in {text}");
    }
}

#[test]
fn a_quota_that_no_worker_reaches_changes_nothing_and_the_least_of_nested_groups_holds() {
    let tree = Tree::new("nested");
    tree.process("0-3", NONE, 64 << 20).file("sys/devices/system/cpu/online", "0-3");
    for cpu in 0..4 {
        tree.cpu(cpu, &cpu.to_string());
    }
    tree.file("proc/self/cgroup", "0::/a/b").file("sys/fs/cgroup/a/cpu.max", "350000 100000");
    tree.file("sys/fs/cgroup/a/b/cpu.max", "max 100000");
    assert_eq!(tree.tuned().1.workers, Workers::Pinned(vec![1, 2, 3]));
    tree.file("sys/fs/cgroup/a/cpu.max", "250000 100000");
    assert_eq!(tree.tuned().1.workers, Workers::Free(2));
}

#[test]
fn the_older_control_groups_are_read_too() {
    let tree = Tree::new("v1");
    tree.process("0-7", NONE, 64 << 20).file("sys/devices/system/cpu/online", "0-7");
    tree.file("proc/self/cgroup", "4:memory:/docker/x\n3:cpuset:/docker/x\n2:cpu,cpuacct:/docker/x\n1:name=systemd:/")
        .file("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "50000")
        .file("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000")
        .file("sys/fs/cgroup/cpuset/docker/x/cpuset.effective_cpus", "4,6")
        .file("sys/fs/cgroup/memory/docker/x/memory.limit_in_bytes", "1073741824");
    let machine = tree.machine();
    assert_eq!((machine.quota, machine.memory), (Some(500), Some(1 << 30)));
    assert_eq!(machine.cpus, [4, 6]);
    assert_eq!(tree.tuned().1.workers, Workers::Free(1));
}

#[test]
fn without_sys_each_cpu_is_taken_for_a_core() {
    let tree = Tree::new("nosys");
    tree.process("0-3", ALL, 8 << 20);
    let (text, cpus) = tree.tuned();
    assert_eq!(cpus.workers, Workers::Pinned(vec![1, 2, 3]), "{text}");
    assert!(text.contains("is not told: each is taken for a core of its own"), "{text}");
}

#[test]
fn where_nothing_is_told_there_is_one_worker_and_the_file_is_sound() {
    let tree = Tree::new("nothing");
    let (text, cpus) = tree.tuned();
    assert_eq!(cpus.workers, Workers::Free(1), "{text}");
    assert_eq!(cpus.steering, None::<Steered>);
}

#[test]
fn an_interface_of_a_node_that_is_not_allowed_leaves_the_cpus_that_are() {
    let tree = Tree::new("apart");
    tree.process("0-3", ALL, 8 << 20).file("sys/devices/system/cpu/online", "0-7");
    for cpu in 0..8 {
        tree.cpu(cpu, &cpu.to_string());
    }
    tree.file("sys/devices/system/node/node0/cpulist", "0-3").file("sys/devices/system/node/node1/cpulist", "4-7");
    tree.interface("eth0", "1", 4, &[]);
    let (text, cpus) = tree.tuned();
    assert_eq!(cpus.workers, Workers::Pinned(vec![1, 2, 3]), "{text}");
    assert!(text.contains("of which no cpu is allowed"), "{text}");
}

fn sipring(args: &[&str], dir: &Path) -> (i32, String, String) {
    let done = Command::new(env!("CARGO_BIN_EXE_sipring")).args(args).current_dir(dir).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (done.status.code().unwrap(), text(done.stdout), text(done.stderr))
}

#[test]
fn the_command_prints_or_writes_and_never_overwrites_unasked() {
    let tree = Tree::new("command");
    small(&tree);
    let (code, printed, _) = sipring(&["tune", "--root", "."], &tree.0);
    assert_eq!((code, printed.as_str()), (0, tuned(&tree.machine()).as_str()));
    assert_eq!(sipring(&["tune", "--root", ".", "-o", "cpus.toml"], &tree.0), (0, String::new(), String::new()));
    assert_eq!(std::fs::read_to_string(tree.0.join("cpus.toml")).unwrap(), printed);
    tree.file("cpus.toml", "mine");
    let (code, out, err) = sipring(&["tune", "--root", ".", "-o", "cpus.toml"], &tree.0);
    assert_eq!((code, out.as_str(), err.as_str()), (1, "", "cpus.toml: is there already; `--force` replaces it\n"));
    assert_eq!(std::fs::read_to_string(tree.0.join("cpus.toml")).unwrap(), "mine\n");
    assert_eq!(sipring(&["tune", "--root", ".", "-o", "cpus.toml", "--force"], &tree.0).0, 0);
    assert_eq!(std::fs::read_to_string(tree.0.join("cpus.toml")).unwrap(), printed);
    let (code, _, err) = sipring(&["tune", "--root", ".", "--interface", "eth9"], &tree.0);
    assert!(code == 1 && err.starts_with("unknown interface `eth9`"), "{err}");
    let (code, _, err) = sipring(&["tune", "--root", ".", "-o", "no/where.toml"], &tree.0);
    assert!(code == 1 && err.starts_with("no/where.toml: cannot be written: "), "{err}");
}
