//! Metrics for Prometheus: one snapshot a scrape, of what workers count and what control knows.
//!
//! Driven by `GET /metrics`. Adds nothing to the hot path: workers write their own counters by plain
//! stores, and everything here reads them.

mod classic;
mod kernel;
mod nodes;
mod rows;
mod workers;

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, text};
use prometheus_client::registry::Registry;

use super::view::{Sight, View};
pub(super) use kernel::Kernel;
use kernel::{Process, Queued};
use rows::Page;

/// Content type of the classic text format.
pub(super) const CLASSIC: &str = "text/plain; version=0.0.4; charset=utf-8";
/// Content type of OpenMetrics.
pub(super) const OPEN: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// All metrics at one moment.
#[derive(Debug)]
pub(super) struct Snapshot(Page);

impl Snapshot {
    pub(super) fn new(view: View, sight: &Sight, started_s: f64, queued: Vec<Queued>) -> Self {
        let mut page = Page::default();
        workers::tell(&mut page, &sight.figures);
        nodes::tell(&mut page, &view, &sight.marks());
        instance(&mut page, &view, sight);
        sockets(&mut page, &queued);
        process(&mut page, &Process::read(), started_s);
        Self(page)
    }
}

/// The text of a snapshot, in OpenMetrics or the classic format.
pub(super) fn write(snapshot: Snapshot, open: bool) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(snapshot));
    let mut written = String::new();
    text::encode(&mut written, &registry)?;
    Ok(if open { written } else { classic::of(&written) })
}

impl Collector for Snapshot {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        self.0.encode(&mut encoder)
    }
}

fn instance(page: &mut Page, view: &View, sight: &Sight) {
    let build = [("version", env!("CARGO_PKG_VERSION")), ("datapath", sight.datapath)];
    page.gauge("sipring_build_info", "Always 1; what runs").of(&build, 1.0);
    page.gauge("sipring_workers", "Workers").of(&[], sight.figures.len() as f64);
    let draining = f64::from(u8::from(view.state.draining));
    page.gauge("sipring_draining", "1 while the whole instance takes no new calls").of(&[], draining);
    let marks = sight.shared.marks.capacity() as f64;
    page.gauge("sipring_marks_max", "Marks that the table can hold, those of answered calls included").of(&[], marks);
    page.gauge("sipring_names", "Host names that control knows").of(&[], view.state.names.count() as f64);
    let reloads = [("taken", view.reloads.taken), ("refused", view.reloads.refused)];
    for (result, count) in reloads {
        page.counter("sipring_reloads", "Reloads of the file, by result").of(&[("result", result)], count as f64);
    }
    let help = "New addresses of nodes' names that made no plan; the old ones stay in use";
    page.counter("sipring_names_refused", help).of(&[], view.reloads.names_refused as f64);
    let (last_s, taken) = view.reloads.last.unwrap_or((0.0, true));
    let help = "When the last reload was tried, seconds since 1970; 0 if there was none";
    page.gauge("sipring_last_reload_timestamp_seconds", help).of(&[], last_s);
    let help = "1 if the last reload was taken, or there was none";
    page.gauge("sipring_last_reload_successful", help).of(&[], f64::from(u8::from(taken)));
    let changes = view.overlay.overrides.len() + view.overlay.added.len();
    page.gauge("sipring_run_time_changes", "Nodes that differ from the file").of(&[], changes as f64);
    let pool = sight.pool.usage();
    page.gauge("sipring_pool_packets", "Packets that the memory holds").of(&[], f64::from(pool.slots));
    let help = "Free packets that no worker keeps to itself";
    page.gauge("sipring_pool_stock_packets", help).of(&[], f64::from(pool.free));
}

fn sockets(page: &mut Page, queued: &[Queued]) {
    for queued in queued {
        let port = [("port", queued.port.as_str())];
        page.gauge("sipring_sockets", "Open sockets").of(&port, queued.sockets as f64);
        let help = "Memory of datagrams that wait in the kernel for a worker";
        page.gauge("sipring_socket_receive_queue_bytes", help).of(&port, queued.receive_bytes as f64);
        let help = "Memory of datagrams that wait in the kernel to be sent";
        page.gauge("sipring_socket_send_queue_bytes", help).of(&port, queued.send_bytes as f64);
        let help = "Datagrams that the kernel dropped because a socket was full";
        page.counter("sipring_socket_drops", help).of(&port, queued.drops as f64);
    }
}

fn process(page: &mut Page, process: &Process, started: f64) {
    page.gauge("process_start_time_seconds", "When it was started, seconds since 1970").of(&[], started);
    page.counter("process_cpu_seconds", "CPU time of all threads").of(&[], process.cpu_s);
    page.gauge("process_resident_memory_bytes", "Resident memory").of(&[], process.resident_bytes);
    page.gauge("process_open_fds", "Open descriptors").of(&[], process.descriptors);
}
