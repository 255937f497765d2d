//! Whose cpu time it was: processes put on a cpu, and what the scheduler says of them.

use std::process::Command;

/// How a process gets its cpu.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rank {
    /// Before all others there.
    Fifo,
    /// The same, in turns with each other: for several processes that must not starve each other.
    RoundRobin,
}

/// Puts the process `leader` and its group on the first cpu. Those begun meanwhile are found by looking again.
pub(crate) fn seat(leader: u32, rank: Rank) {
    let mut placed = Vec::new();
    while placed != group(leader) {
        placed = group(leader);
        for id in &placed {
            let id = id.to_string();
            tell("taskset", &["-a", "-c", "-p", "0", &id]);
            tell("chrt", &["-a", if rank == Rank::Fifo { "-f" } else { "-r" }, "-p", "50", &id]);
        }
    }
}

/// A process and all others of its group.
pub(crate) fn group(leader: u32) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let of_group = |id: &u32| {
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        let behind_name = stat.rsplit(')').next().unwrap_or_default();
        *id == leader || behind_name.split_whitespace().nth(2) == Some(&leader.to_string())
    };
    ids.filter(of_group).collect()
}

/// Time on a cpu of all threads of these processes, ns, by the scheduler's own account.
pub(crate) fn cpu(ids: &[u32]) -> u64 {
    let tasks = |id: &u32| std::fs::read_dir(format!("/proc/{id}/task")).into_iter().flatten().flatten();
    let spent = |task: std::fs::DirEntry| {
        let text = std::fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
        text.split(' ').next().and_then(|number| number.parse::<u64>().ok()).unwrap_or_default()
    };
    ids.iter().flat_map(tasks).map(spent).sum()
}

/// Time that the first cpu was not idle, ns.
pub(crate) fn core_busy() -> u64 {
    let text = std::fs::read_to_string("/proc/stat").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("cpu0 ")).unwrap();
    let ticks: Vec<u64> = line.split_whitespace().map(|ticks| ticks.parse().unwrap()).collect();
    // User, nice, system, irq, softirq; in hundredths of a second.
    (ticks[0] + ticks[1] + ticks[2] + ticks[5] + ticks[6]) * 10_000_000
}

fn tell(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap_or_else(|e| panic!("{program}: {e}"));
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}
