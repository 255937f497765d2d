//! What the machine has: cpus, cores, memory nodes, quotas, the network interface, limits.
//!
//! Read from `/proc` and `/sys` below a root that may be another one; changes nothing, and takes
//! what is missing for unknown. What follows from it is for `tune`.

mod cgroup;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// A machine, as far as it tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// Cpus that this process may use, ascending; empty if unknown.
    pub cpus: Vec<usize>,
    /// The same by physical core: the threads of each, the cores by their first.
    pub cores: Vec<Vec<usize>>,
    /// Whether the machine tells which cpus share a core.
    pub cores_known: bool,
    /// Cpus of each memory node, by its number.
    pub nodes: Vec<(usize, Vec<usize>)>,
    /// Cpu time allowed, in thousandths of a cpu.
    pub quota: Option<u64>,
    /// Whether a cpuset leaves out cpus that the machine has.
    pub cpuset: bool,
    /// Memory that this process may have, bytes.
    pub memory: Option<u64>,
    /// The interface that packets come by.
    pub interface: Option<Interface>,
    /// `net.core.rmem_max` and `wmem_max`, bytes.
    pub buffers_max: [Option<u64>; 2],
    /// Hard limit of open files.
    pub files_max: Option<u64>,
    /// Effective capabilities, a bit each.
    pub capabilities: Option<u64>,
    /// `kernel.io_uring_disabled`.
    pub io_uring_disabled: Option<u64>,
    /// Release of the kernel.
    pub kernel: Option<String>,
}

/// A network interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its driver.
    pub driver: Option<String>,
    /// The memory node that it is attached to.
    pub node: Option<usize>,
    /// Receive queues.
    pub queues: usize,
    /// Its interrupts, and the cpus that each may go to.
    pub interrupts: Vec<(usize, Vec<usize>)>,
}

/// Bits in the mask of capabilities.
const NET_ADMIN: u64 = 1 << 12;
const SYS_ADMIN: u64 = 1 << 21;
const BPF: u64 = 1 << 39;

impl Machine {
    /// Reads what is below `root`; the interface is the given one or that of the default route.
    #[must_use]
    pub fn read(root: &Path, interface: Option<&str>) -> Self {
        let tree = Tree(root);
        let online = tree.list("sys/devices/system/cpu/online");
        let limits = cgroup::read(&tree);
        let cpus = usable(&tree, online.as_deref(), limits.cpus.as_deref());
        let (cores, cores_known) = cores(&tree, &cpus);
        let cpuset = limits.cpus.zip(online).is_some_and(|(set, online)| online.iter().any(|cpu| !set.contains(cpu)));
        let total = tree.text("proc/meminfo").and_then(|text| {
            let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:").map(str::to_owned))?;
            line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1_024)
        });
        let name = interface.map(str::to_owned).or_else(|| default_route(&tree));
        Self {
            cpus,
            cores,
            cores_known,
            nodes: nodes(&tree),
            quota: limits.quota,
            cpuset,
            memory: limits.memory.into_iter().chain(total).min(),
            interface: name.and_then(|name| Interface::read(&tree, &name)),
            buffers_max: ["rmem_max", "wmem_max"].map(|name| tree.number(&format!("proc/sys/net/core/{name}"))),
            files_max: tree.text("proc/self/limits").and_then(|text| {
                let line = text.lines().find_map(|line| line.strip_prefix("Max open files").map(str::to_owned))?;
                line.split_whitespace().nth(1)?.parse().ok()
            }),
            capabilities: tree.status("CapEff").and_then(|mask| u64::from_str_radix(&mask, 16).ok()),
            io_uring_disabled: tree.number("proc/sys/kernel/io_uring_disabled"),
            kernel: tree.text("proc/sys/kernel/osrelease"),
        }
    }

    /// Whether buffers beyond the system's limit may be had.
    #[must_use]
    pub fn may_force_buffers(&self) -> bool {
        self.capabilities.is_some_and(|mask| mask & NET_ADMIN != 0)
    }

    /// Whether programs may be loaded into the kernel.
    #[must_use]
    pub fn may_load_programs(&self) -> bool {
        self.capabilities.is_some_and(|mask| mask & (BPF | SYS_ADMIN) != 0)
    }

    /// Whether some core has more than one thread.
    #[must_use]
    pub fn has_threads(&self) -> bool {
        self.cores.iter().any(|core| core.len() > 1)
    }
}

impl Interface {
    fn read(tree: &Tree<'_>, name: &str) -> Option<Self> {
        let base = format!("sys/class/net/{name}");
        let queues = tree.names(&format!("{base}/queues")).iter().filter(|name| name.starts_with("rx-")).count();
        // A virtio device stands below the one that has node and interrupts.
        let [own, above] = ["device", "device/.."].map(|place| format!("{base}/{place}"));
        let places = [own.as_str(), above.as_str()];
        let node = places.iter().find_map(|place| tree.number(&format!("{place}/numa_node")));
        let listed =
            places.iter().map(|place| tree.names(&format!("{place}/msi_irqs"))).find(|names| !names.is_empty());
        let mut numbers: Vec<usize> = listed.unwrap_or_default().iter().filter_map(|name| name.parse().ok()).collect();
        numbers.sort_unstable();
        let cpus = |number: usize| Some((number, tree.list(&format!("proc/irq/{number}/smp_affinity_list"))?));
        tree.exists(&base).then(|| Self {
            name: name.to_owned(),
            driver: tree.link(&format!("{base}/device/driver")),
            node: node.and_then(|node| usize::try_from(node).ok()),
            queues,
            interrupts: numbers.into_iter().filter_map(cpus).collect(),
        })
    }
}

/// Files below a root.
struct Tree<'a>(&'a Path);

impl Tree<'_> {
    fn at(&self, path: &str) -> PathBuf {
        self.0.join(path)
    }

    fn exists(&self, path: &str) -> bool {
        self.at(path).exists()
    }

    /// The contents of a file without white space around them.
    fn text(&self, path: &str) -> Option<String> {
        std::fs::read_to_string(self.at(path)).ok().map(|text| text.trim().to_owned())
    }

    fn number(&self, path: &str) -> Option<u64> {
        self.text(path)?.parse().ok()
    }

    /// A list of cpus; none if there is no such file or it is empty.
    fn list(&self, path: &str) -> Option<Vec<usize>> {
        cpu_list(&self.text(path)?).filter(|list| !list.is_empty())
    }

    /// A line of `/proc/self/status`.
    fn status(&self, key: &str) -> Option<String> {
        let text = self.text("proc/self/status")?;
        let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
        Some(value.trim().to_owned())
    }

    /// The names in a directory.
    fn names(&self, path: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.at(path)).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
    }

    /// The last name of what a link leads to.
    fn link(&self, path: &str) -> Option<String> {
        let target = std::fs::read_link(self.at(path)).ok()?;
        target.file_name()?.to_str().map(str::to_owned)
    }
}

/// A list as the kernel writes it, `0-3,8`.
fn cpu_list(text: &str) -> Option<Vec<usize>> {
    /// No machine has more; a list that claims so is none.
    const CPUS_MAX: usize = 1 << 16;
    let mut cpus = BTreeSet::new();
    for part in text.trim().split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        if last >= CPUS_MAX {
            return None;
        }
        cpus.extend(first..=last);
    }
    Some(cpus.into_iter().collect())
}

/// Cpus that are there, in the cpuset, and in this process' own mask.
fn usable(tree: &Tree<'_>, online: Option<&[usize]>, cpuset: Option<&[usize]>) -> Vec<usize> {
    let mask = tree.status("Cpus_allowed_list").and_then(|text| cpu_list(&text));
    let lists: Vec<&[usize]> = [mask.as_deref(), cpuset, online].into_iter().flatten().collect();
    let first = lists.first().copied().unwrap_or_default();
    first.iter().copied().filter(|cpu| lists.iter().all(|list| list.contains(cpu))).collect()
}

/// The cpus by core; false if the machine does not tell, and each is taken for a core.
fn cores(tree: &Tree<'_>, cpus: &[usize]) -> (Vec<Vec<usize>>, bool) {
    let mut cores: Vec<Vec<usize>> = Vec::new();
    let mut known = true;
    for cpu in cpus {
        let siblings = tree.list(&format!("sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"));
        known &= siblings.is_some();
        let siblings = siblings.unwrap_or_else(|| vec![*cpu]);
        match cores.iter_mut().find(|core| core.iter().any(|other| siblings.contains(other))) {
            Some(core) => core.push(*cpu),
            None => cores.push(vec![*cpu]),
        }
    }
    (cores, known && !cpus.is_empty())
}

fn nodes(tree: &Tree<'_>) -> Vec<(usize, Vec<usize>)> {
    let base = "sys/devices/system/node";
    let number = |name: &String| name.strip_prefix("node")?.parse::<usize>().ok();
    let mut numbers: Vec<usize> = tree.names(base).iter().filter_map(number).collect();
    numbers.sort_unstable();
    let cpus = |number: usize| Some((number, tree.list(&format!("{base}/node{number}/cpulist"))?));
    numbers.into_iter().filter_map(cpus).collect()
}

/// The interface of the default route.
fn default_route(tree: &Tree<'_>) -> Option<String> {
    let text = tree.text("proc/net/route")?;
    let fields = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let default = |line: &Vec<String>| line.get(1).is_some_and(|to| to == "00000000");
    text.lines().skip(1).map(fields).find(default)?.into_iter().next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_cpus_are_read_as_the_kernel_writes_them() {
        assert_eq!(cpu_list("0-3,8\n"), Some(vec![0, 1, 2, 3, 8]));
        assert_eq!(cpu_list("7"), Some(vec![7]));
        assert_eq!(cpu_list(""), Some(vec![]));
        for bad in ["a", "1-", "0-99999999999", "-", "3-x"] {
            assert_eq!(cpu_list(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_machine_that_tells_nothing_is_unknown() {
        assert_eq!(Machine::read(Path::new("/nowhere/at/all"), None), Machine::default());
    }
}
