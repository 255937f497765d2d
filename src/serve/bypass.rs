//! The kernel bypass of all workers: its memory by NUMA node, its programs, a lane for each.
//!
//! Opened once by the crew, before its workers, and kept as long as they run.

use std::path::Path;

use core_affinity::CoreId;

use super::crew::pin;
use crate::config::{Config, DatapathChoice};
use crate::control::Frames;
use crate::datapath::{Bypass, Lane, XdpOptions};
use crate::packet::{Pool, PoolOptions, PortRole};

/// What is a worker's own of it.
pub(super) struct Own {
    pub(super) lane: Lane,
    pub(super) options: XdpOptions,
    pub(super) frames: Frames,
}

/// Opens it for workers on `cpus`, if the file asks for it: the programs, and what each worker gets.
pub(super) fn open(config: &Config, cpus: &[Option<CoreId>]) -> Result<(Option<Bypass>, Vec<Option<Own>>), String> {
    let DatapathChoice::Xdp(options) = &config.cpus.datapath else {
        return Ok((None, cpus.iter().map(|_| None).collect()));
    };
    let regions = regions(options, cpus)?;
    let homes: Vec<&'static Pool> = regions.iter().map(|(_, pool)| *pool).collect();
    let ports: Vec<_> = config.ports.iter().map(|port| port.local.bind).collect();
    let (bypass, lanes) = Bypass::open(options, &ports, &homes).map_err(|error| error.to_string())?;
    if config.cpus.owner_handoff && cpus.len() > 1 {
        warn_of_handing_over(&bypass, config, options);
    }
    let seen = |place: usize| homes.iter().take(place).zip(homes.get(place)).any(|(a, b)| std::ptr::eq(*a, *b));
    let own = lanes.into_iter().zip(homes.iter().copied()).enumerate().map(|(place, (lane, home))| {
        let frames = Frames { whereabouts: lane.whereabouts(), region: (!seen(place)).then_some(home) };
        Some(Own { lane, options: options.clone(), frames })
    });
    Ok((Some(bypass), own.collect()))
}

/// Where requests and responses are handled by their owner: which responses no rule of the NIC brings to it.
fn warn_of_handing_over(bypass: &Bypass, config: &Config, options: &XdpOptions) {
    let queue = |index: u16| options.queues.get(usize::from(index % config.shard.workers.max(1))).copied();
    let held = config.ports.iter().filter_map(|port| match port.local.role {
        PortRole::Worker { index } => Some((port.local.bind, queue(index)?)),
        PortRole::Listener => None,
    });
    let missing = bypass.without_rule(&held.collect::<Vec<_>>());
    if !missing.is_empty() {
        let ports: Vec<String> = missing.iter().map(ToString::to_string).collect();
        let advice = "responses to them come to any queue and are handed over; rules of the NIC bring them to their \
                      worker's, and `tuning/apply.sh -i INTERFACE --xdp` writes them";
        tracing::warn!(ports = ports.join(","), advice, "worker_ports_without_rule");
    }
}

/// By worker: its NUMA node, and the frames there, as many for each worker.
fn regions(options: &XdpOptions, cpus: &[Option<CoreId>]) -> Result<Vec<(usize, &'static Pool)>, String> {
    let nodes: Vec<usize> = cpus.iter().map(|cpu| cpu.map_or(0, node)).collect();
    let mut regions: Vec<(usize, &'static Pool)> = Vec::with_capacity(cpus.len());
    for (node, cpu) in nodes.iter().zip(cpus) {
        let pool = match regions.iter().find(|(other, _)| other == node) {
            Some((_, pool)) => pool,
            None => {
                let threads = nodes.iter().filter(|other| *other == node).count();
                let slots = (u64::from(options.frames) * threads as u64 / cpus.len() as u64) as u32;
                region(&PoolOptions { slots, threads: threads as u16 }, *cpu)?
            }
        };
        regions.push((*node, pool));
    }
    Ok(regions)
}

/// A region touched first by a thread on `cpu`, so that its memory is that cpu's.
fn region(options: &PoolOptions, cpu: Option<CoreId>) -> Result<&'static Pool, String> {
    let make = || {
        pin(cpu)?;
        Pool::frames(options).map_err(|error| format!("no memory for {} frames: {error}", options.slots))
    };
    let failed = |_| Err("the thread that makes the frames failed".to_owned());
    std::thread::scope(|scope| scope.spawn(make).join().unwrap_or_else(failed))
}

/// The NUMA node of a cpu; 0 where the kernel tells none.
fn node(cpu: CoreId) -> usize {
    let dir = Path::new("/sys/devices/system/cpu").join(format!("cpu{}", cpu.id));
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.find_map(|name| name.strip_prefix("node")?.parse().ok()).unwrap_or(0)
}
