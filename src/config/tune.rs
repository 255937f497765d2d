//! `sipring tune`: from a machine to a commented `cpus.toml`, each setting with its reason.
//!
//! Pure: told what the machine has, gives the text. Only what differs from machine to machine is
//! set; what `tuning/README.md` measured as best everywhere is the default already.

use std::fmt::{self, Write};

use super::Cpus;
use super::cpus::WORKERS_MAX;
use super::machine::{Interface, Machine};

/// Packets for each worker: at 100,000 messages a second, what comes in within 80 ms.
const PACKETS_EACH: u64 = 8_192;
/// Memory that a packet takes, bytes.
const PACKET_BYTES: u64 = 8_192;
/// Part of the memory that packets may take.
const PACKETS_SHARE: u64 = 8;
/// From so many cores on, one is left to everything else.
const CORES_TO_SPARE: usize = 3;

/// Where workers are put.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Choice {
    /// Cpus to pin to; empty: not pinned.
    cpus: Vec<usize>,
    count: usize,
    /// Why, a sentence each.
    reasons: Vec<String>,
}

/// The file for `machine`.
#[must_use]
pub fn tuned(machine: &Machine) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = write(&mut text, machine, &choose(machine));
    text
}

fn choose(machine: &Machine) -> Choice {
    let mut reasons = Vec::new();
    if machine.cpus.is_empty() {
        reasons.push("Which cpus there are could not be read: one worker, not pinned.".to_owned());
        return Choice { cpus: Vec::new(), count: 1, reasons };
    }
    let mut cores = near(machine, &mut reasons);
    if machine.has_threads() {
        reasons.push("One worker a core, on its first thread: two threads of a core share its caches.".to_owned());
    } else if !machine.cores_known {
        reasons.push("Which cpus share a core is not told: each is taken for a core of its own.".to_owned());
    }
    if cores.len() >= CORES_TO_SPARE {
        let spared = cores.remove(0);
        reasons.push(format!("Cpu {} is left to interrupts, the control thread and everything else.", listed(&spared)));
    } else if cores.len() > 1 {
        reasons.push("Both are used: to leave one of two idle would cost half of what they carry.".to_owned());
    }
    if cores.len() > WORKERS_MAX {
        reasons.push(format!("No more than {WORKERS_MAX} workers."));
        cores.truncate(WORKERS_MAX);
    }
    let Some(quota) = machine.quota.filter(|quota| *quota < cores.len() as u64 * 1_000) else {
        let cpus: Vec<usize> = cores.iter().filter_map(|core| core.first().copied()).collect();
        return Choice { count: cpus.len(), cpus, reasons };
    };
    // More workers than cpus of time would all be stopped for the rest of the period.
    let count = (quota / 1_000).max(1) as usize;
    let reasons = vec![
        format!(
            "Cpu time is limited to {} cpus: as many workers as fit, since more would be stopped together.",
            Decimal(quota)
        ),
        "Not pinned: others on these cpus may be pinned alike, and the kernel finds a free one.".to_owned(),
    ];
    Choice { cpus: Vec::new(), count, reasons }
}

/// The cores of the memory node that the interface is attached to, or all.
fn near(machine: &Machine, reasons: &mut Vec<String>) -> Vec<Vec<usize>> {
    let all = machine.cores.clone();
    let Some((interface, node)) = machine.interface.as_ref().and_then(|own| Some((own, own.node?))) else {
        if machine.nodes.len() > 1 {
            reasons.push(format!(
                "{} memory nodes; which one the interface is attached to is not told: `--interface` names another.",
                machine.nodes.len()
            ));
        }
        return all;
    };
    if machine.nodes.len() < 2 {
        return all;
    }
    let there = machine.nodes.iter().find(|(number, _)| *number == node).map(|(_, cpus)| cpus.as_slice());
    let there = there.unwrap_or_default();
    let near: Vec<Vec<usize>> = all.iter().filter(|core| core.iter().any(|cpu| there.contains(cpu))).cloned().collect();
    if near.is_empty() {
        reasons.push(format!("{} is attached to memory node {node}, of which no cpu is allowed.", interface.name));
        return all;
    }
    reasons.push(format!(
        "{} is attached to memory node {node}: its cpus reach packets without crossing to another.",
        interface.name
    ));
    near
}

fn write(text: &mut String, machine: &Machine, choice: &Choice) -> fmt::Result {
    writeln!(text, "# Written by `sipring tune` for this machine; README.md beside cpus.toml explains all keys.")?;
    writeln!(text, "#")?;
    found(text, machine)?;
    writeln!(text)?;
    choice.reasons.iter().try_for_each(|reason| writeln!(text, "# {reason}"))?;
    if choice.cpus.is_empty() {
        writeln!(text, "workers = {}", choice.count)?;
    } else {
        let cpus: Vec<String> = choice.cpus.iter().map(ToString::to_string).collect();
        writeln!(text, "workers = [{}]", cpus.join(", "))?;
    }
    writeln!(text, "# `node_side.ports` in sipring.toml: a multiple of {} ports spreads them evenly.", choice.count)?;
    writeln!(text)?;
    packets(text, machine, choice.count)?;
    writeln!(text)?;
    buffers(text, machine)?;
    writeln!(text)?;
    steering(text, machine, choice.count)
}

/// What was read, so that whoever reads the file knows what it was written for.
fn found(text: &mut String, machine: &Machine) -> fmt::Result {
    let unknown = || "unknown".to_owned();
    writeln!(text, "# kernel     {}", machine.kernel.clone().unwrap_or_else(unknown))?;
    let cpus = if machine.cpus.is_empty() { unknown() } else { listed(&machine.cpus) };
    let cpuset = if machine.cpuset { ", by a cpuset" } else { "" };
    writeln!(text, "# cpus       {cpus} may be used{cpuset}; {} cores", machine.cores.len())?;
    for (number, cpus) in &machine.nodes {
        writeln!(text, "# node {number}     cpus {}", listed(cpus))?;
    }
    if let Some(quota) = machine.quota {
        writeln!(text, "# quota      {} cpus of time", Decimal(quota))?;
    }
    if let Some(memory) = machine.memory {
        writeln!(text, "# memory     {} MB", memory >> 20)?;
    }
    if let Some(interface) = &machine.interface {
        writeln!(text, "# interface  {}", told(interface))?;
        for (number, cpus) in &interface.interrupts {
            writeln!(text, "#            interrupt {number} on cpus {}", listed(cpus))?;
        }
    }
    let io_uring = match machine.io_uring_disabled {
        Some(0) => "allowed by kernel.io_uring_disabled; a container's seccomp profile may still forbid it",
        Some(_) => "forbidden by kernel.io_uring_disabled",
        None => "unknown",
    };
    writeln!(text, "# io_uring   {io_uring}")
}

fn told(interface: &Interface) -> String {
    let driver = interface.driver.as_ref().map(|driver| format!(", driver {driver}")).unwrap_or_default();
    let node = interface.node.map(|node| format!(", memory node {node}")).unwrap_or_default();
    format!("{}{driver}{node}, {} receive queues", interface.name, interface.queues)
}

fn packets(text: &mut String, machine: &Machine, workers: usize) -> fmt::Result {
    let least = (workers * 2 * Cpus::default().batch).max(256) as u64;
    let wanted = PACKETS_EACH * workers as u64;
    let room = machine.memory.map_or(wanted, |memory| memory / PACKETS_SHARE / PACKET_BYTES);
    let packets = wanted.min(room).max(least);
    writeln!(
        text,
        "# {} MB, {} packets for each worker: what comes in while it is held up.",
        (packets * PACKET_BYTES) >> 20,
        { packets / workers as u64 }
    )?;
    if packets < wanted {
        writeln!(text, "# Memory is short: no more than an eighth of it.")?;
    }
    writeln!(text, "packets = {packets}")?;
    writeln!(text, "# Packets a system call: more than this gained nothing.")?;
    writeln!(text, "batch = {}", Cpus::default().batch)
}

fn buffers(text: &mut String, machine: &Machine) -> fmt::Result {
    let asked = Cpus::default().receive_buffer as u64;
    writeln!(
        text,
        "# What survives while a worker does not run: 8 MB hold 13,000 messages of 400 bytes, Linux' default 330."
    )?;
    match machine.buffers_max {
        _ if machine.may_force_buffers() => {
            writeln!(text, "# CAP_NET_ADMIN was there: the system's limit does not bind, if sipring has it too.")?;
        }
        [Some(receive), Some(send)] if receive >= asked && send >= asked => {
            writeln!(text, "# net.core.rmem_max and wmem_max allow it.")?;
        }
        [receive, send] => {
            let told = |limit: Option<u64>| limit.map_or_else(|| "unknown".to_owned(), |limit| limit.to_string());
            writeln!(
                text,
                "# net.core.rmem_max is {}, wmem_max {}: sipring takes what it gets, and warns. CAP_NET_ADMIN, or\n\
                 # tuning/apply.sh, is right.",
                told(receive),
                told(send)
            )?;
        }
    }
    writeln!(text, "receive_buffer = {asked}\nsend_buffer = {asked}")
}

fn steering(text: &mut String, machine: &Machine, workers: usize) -> fmt::Result {
    match (workers, machine.may_load_programs()) {
        (0 | 1, _) => writeln!(text, "# One worker: nothing to share out."),
        (_, true) => writeln!(text, "# CAP_BPF was there: with it, auto means ebpf."),
        (_, false) => writeln!(text, "# No CAP_BPF: auto means cbpf, which looks less closely."),
    }?;
    writeln!(text, "steering = \"auto\"")
}

/// Cpus as the kernel lists them, `0-3,8`.
fn listed(cpus: &[usize]) -> String {
    let mut text = String::new();
    let mut cpus = cpus.iter().copied().peekable();
    while let Some(first) = cpus.next() {
        let mut last = first;
        while let Some(next) = cpus.next_if_eq(&(last + 1)) {
            last = next;
        }
        let comma = if text.is_empty() { "" } else { "," };
        let _ = if first == last { write!(text, "{comma}{first}") } else { write!(text, "{comma}{first}-{last}") };
    }
    text
}

/// Thousandths as a decimal.
struct Decimal(u64);

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{}.{:03}", self.0 / 1_000, self.0 % 1_000);
        f.write_str(text.trim_end_matches('0').trim_end_matches('.'))
    }
}
