//! What control groups leave a process: cpu time, cpus, memory.
//!
//! Both versions; of a group and those above it the least holds. Read for `machine` only.

use super::Tree;

/// The limits that hold for this process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Limits {
    /// Thousandths of a cpu.
    pub(super) quota: Option<u64>,
    pub(super) cpus: Option<Vec<usize>>,
    /// Bytes.
    pub(super) memory: Option<u64>,
}

pub(super) fn read(tree: &Tree<'_>) -> Limits {
    let groups = tree.text("proc/self/cgroup").unwrap_or_default();
    let mut limits = Limits::default();
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        if controllers.is_empty() {
            for place in places(tree, "", path) {
                let quota = tree.text(&format!("{place}/cpu.max")).and_then(|text| quota(&text));
                limits.add(quota, tree.list(&format!("{place}/cpuset.cpus.effective")), {
                    tree.number(&format!("{place}/memory.max"))
                });
            }
            continue;
        }
        // Version 1: every controller has a tree of its own, by its name or by those of several.
        for controller in controllers.split(',') {
            let own = if tree.exists(&format!("sys/fs/cgroup/{controllers}")) { controllers } else { controller };
            for place in places(tree, own, path) {
                match controller {
                    "cpu" => limits.add(quota_v1(tree, &place), None, None),
                    "cpuset" => limits.add(None, tree.list(&format!("{place}/cpuset.effective_cpus")), None),
                    "memory" => limits.add(None, None, tree.number(&format!("{place}/memory.limit_in_bytes"))),
                    _ => {}
                }
            }
        }
    }
    limits
}

impl Limits {
    fn add(&mut self, quota: Option<u64>, cpus: Option<Vec<usize>>, memory: Option<u64>) {
        self.quota = self.quota.into_iter().chain(quota).min();
        self.memory = self.memory.into_iter().chain(memory).min();
        self.cpus = match (self.cpus.take(), cpus) {
            (Some(own), Some(more)) => Some(own.into_iter().filter(|cpu| more.contains(cpu)).collect()),
            (own, more) => own.or(more),
        };
    }
}

/// The directories of a group and of those above it. In a container the group's own path may lead
/// outside: then its root is what is seen.
fn places(tree: &Tree<'_>, hierarchy: &str, path: &str) -> Vec<String> {
    let base = if hierarchy.is_empty() { "sys/fs/cgroup".to_owned() } else { format!("sys/fs/cgroup/{hierarchy}") };
    let mut path = path.trim_matches('/').to_owned();
    let mut places = Vec::new();
    while !path.is_empty() {
        let place = format!("{base}/{path}");
        if !path.split('/').any(|part| part == "..") && tree.exists(&place) {
            places.push(place);
        }
        path = path.rsplit_once('/').map_or_else(String::new, |(above, _)| above.to_owned());
    }
    places.push(base);
    places
}

/// `150000 100000`, or `max 100000`.
fn quota(text: &str) -> Option<u64> {
    let (quota, period) = text.split_once(' ')?;
    thousandths(quota.parse().ok()?, period.trim().parse().ok()?)
}

fn quota_v1(tree: &Tree<'_>, place: &str) -> Option<u64> {
    let [quota, period] = ["quota", "period"].map(|name| tree.number(&format!("{place}/cpu.cfs_{name}_us")));
    thousandths(quota?, period?)
}

fn thousandths(quota: u64, period: u64) -> Option<u64> {
    quota.checked_mul(1_000)?.checked_div(period).filter(|quota| *quota > 0)
}
