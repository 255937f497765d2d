//! Options that say how a process runs, whatever it does.
//!
//! Part of the command line: workers, datapath, timers, what is printed. Starts nothing.

use std::net::IpAddr;
use std::time::Duration;

use clap::Args;

use crate::plan::{Carrier, Interfaces, Plan};

/// How it runs.
#[derive(Clone, Debug, Args)]
pub struct RunningArgs {
    /// Worker threads, pinned nowhere
    #[arg(long, value_name = "THREADS", default_value_t = 1, conflicts_with = "cpus")]
    pub workers: usize,
    /// Cpus by number, one worker pinned to each
    #[arg(long, value_name = "CPU", value_delimiter = ',')]
    pub cpus: Vec<usize>,
    /// What carries packets
    #[arg(long, value_enum, default_value_t)]
    pub datapath: Carrier,
    /// Interfaces to bypass the kernel at, with --datapath xdp; several times or with commas
    #[arg(long, value_name = "NAME", value_delimiter = ',', required_if_eq("datapath", "xdp"))]
    pub interface: Vec<String>,
    /// Queue of the interfaces; what comes by others takes the kernel's way
    #[arg(long, value_name = "NUMBER", default_value_t = 0, requires = "interface")]
    pub queue: u32,
    /// How long to look for frames before sleeping, microseconds
    #[arg(long, value_name = "US", default_value_t = 0, requires = "interface")]
    pub busy_poll_us: u32,
    /// Calls of one worker under way at once, both sides counted; more are held back
    #[arg(long, value_name = "CALLS", default_value_t = 200_000)]
    pub concurrent_max: usize,
    /// Address to write into Via and Contact in place of the one bound (behind NAT)
    #[arg(long, value_name = "IP")]
    pub transport_ip: Option<IpAddr>,
    /// Timer T1, milliseconds
    #[arg(long, value_name = "MS", default_value_t = 500)]
    pub t1_ms: u64,
    /// Timer T2, milliseconds
    #[arg(long, value_name = "MS", default_value_t = 4_000)]
    pub t2_ms: u64,
    /// Leave out the checks of what comes back
    #[arg(long)]
    pub no_checks: bool,
    /// Never sleep: answers are seen a little earlier, for the whole of a cpu
    #[arg(long)]
    pub spin: bool,
    /// Datagrams received or sent by one system call
    #[arg(long, value_name = "PACKETS", default_value_t = 64)]
    pub batch: usize,
    /// Kernel buffers of a socket, bytes
    #[arg(long, value_name = "BYTES", default_value_t = 8 << 20)]
    pub buffers: usize,
    /// Print the result as JSON, one line
    #[arg(long)]
    pub json: bool,
    /// No live line
    #[arg(long)]
    pub quiet: bool,
}

impl RunningArgs {
    pub(super) fn cpus(&self) -> Result<Vec<Option<usize>>, String> {
        match (self.cpus.as_slice(), self.workers) {
            ([], 0) => Err("0 workers do nothing; 1 or more is right".to_owned()),
            ([], workers) => Ok(vec![None; workers]),
            (cpus, _) => Ok(cpus.iter().copied().map(Some).collect()),
        }
    }

    pub(super) fn complete(&self, plan: &mut Plan) -> Result<(), String> {
        plan.cpus = self.cpus()?;
        plan.carrier = self.datapath;
        plan.interfaces =
            Interfaces { names: self.interface.clone(), queue: self.queue, busy_poll_us: self.busy_poll_us };
        plan.concurrent_max = self.concurrent_max;
        plan.transport_ip = self.transport_ip;
        plan.t1 = Duration::from_millis(self.t1_ms);
        plan.t2 = Duration::from_millis(self.t2_ms);
        plan.checks = !self.no_checks;
        plan.spin = self.spin;
        plan.batch = self.batch;
        plan.buffers = self.buffers;
        Ok(())
    }
}
