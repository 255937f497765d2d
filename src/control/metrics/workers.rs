//! What workers count, by worker.
//!
//! Every counter of the shard and every figure of the ledger becomes a line, zeros included; those
//! added there appear here by themselves, under their own names.

use super::rows::Page;
use crate::control::view::Figures;
use crate::shard::REPLIES;
use crate::worker::BOUNDS_NS;

pub(super) fn tell(page: &mut Page, figures: &[Figures]) {
    for (figures, at) in figures.iter().zip(0_u32..) {
        let worker = at.to_string();
        figures.counters.each(|name, label, value| shard(page, &worker, name, label, value));
        let dropped = figures.counters.books().last().copied().unwrap_or_default();
        shard(page, &worker, "verdict", "drop", dropped);
        figures.ledger.each(|name, value| ledger(page, &worker, name, value));
        if let Some(frames) = &figures.frames {
            let help = "Where the frames of the kernel bypass are; lent, kept and stock of all workers make up all";
            let family = |kind, value| {
                let labels = [("worker", worker.as_str()), ("kind", kind)];
                page.gauge("sipring_frames", help).of(&labels, value as f64);
            };
            frames.each(family);
        }
        let paced = figures.ledger.pace().read();
        let bounds = BOUNDS_NS.iter().map(|bound| *bound as f64 / 1e9).chain([f64::INFINITY]);
        let buckets = bounds.zip(paced.buckets).collect();
        let help = "How long turns took without their wait; one in 64 is timed";
        let family = page.histogram("sipring_turn_duration_seconds", help);
        family.spread(&[("worker", &worker)], buckets, paced.sum_ns as f64 / 1e9);
    }
}

fn shard(page: &mut Page, worker: &str, name: &str, label: &str, value: u64) {
    let code = REPLIES.iter().find(|(_, reason)| *reason == label).map(|(code, _)| code.to_string());
    let (name, help, key, word) = match name {
        "received" => {
            let help = "Packets decided on, those handed over by other workers included";
            ("sipring_packets_decided", help, "", label)
        }
        "verdict" => ("sipring_verdicts", "What became of packets", "verdict", label),
        "drop" => ("sipring_drops", "Packets dropped, by reason", "reason", label),
        "own_reply" => ("sipring_own_replies", "Answers of sipring's own", "code", code.as_deref().unwrap_or(label)),
        _ => ("sipring_tallies", "Things worth counting that are no verdict", "kind", label),
    };
    let labels = [("worker", worker), (key, word)];
    page.counter(name, help).of(if key.is_empty() { &labels[..1] } else { &labels }, value as f64);
}

fn ledger(page: &mut Page, worker: &str, name: &str, value: u64) {
    let worker = ("worker", worker);
    if name == "mail_waiting" {
        let help = "Packets that wait in the worker's mail";
        return page.gauge("sipring_mail_waiting_packets", help).of(&[worker], value as f64);
    }
    if let Some(kind) = name.strip_prefix("send_error_") {
        let help = "Datagrams that the kernel did not take, by kind of error";
        return page.counter("sipring_send_errors", help).of(&[worker, ("kind", kind)], value as f64);
    }
    let help = match name {
        "turns" => "Passes of the worker's loop",
        "datagrams_received" => "Datagrams that came in",
        "datagrams_truncated" => "Datagrams dropped because they were longer than a packet or had no source",
        "datagrams_sent" => "Datagrams that the kernel took",
        "send_retried" => "Sends that failed for an earlier error and were tried again",
        "send_rerouted" => "Datagrams that left from another port than meant",
        "datagrams_fragmented" => "Datagrams longer than an Ethernet frame carries",
        "trains_sent" => "Sends of more than one datagram, by UDP GSO",
        "train_datagrams" => "Of the datagrams sent, those that left in trains",
        "trains_refused" => "Trains that the kernel refused; what was in them was sent one by one",
        "padding_bytes" => "Filler put into Vias, so that datagrams of a train are equally long",
        "icmp_errors" => "ICMP errors that came back",
        "events_lost" => "ICMP errors beyond the room for them",
        "receive_stalls" => "Receives that left datagrams in the kernel for want of a packet",
        "receives_starved" => "Receives of io_uring that ended for want of buffers and were begun again",
        "receives_rearmed" => "Receives of io_uring that ended for another reason and were begun again",
        "connects_failed" => "Connected sockets that could not be opened",
        "system_calls" => "System calls that sent or received",
        "originated" => "Packets that sipring sent of itself",
        "outbox_refused" => "Packets of its own that found no room",
        "slow_received" => "Datagrams that came in by the slow path of the kernel bypass",
        "slow_sent" => "Datagrams that left by the slow path of the kernel bypass",
        "packets_copied" => "Packets to be sent that were copied into a frame",
        "next_hop_unknown" => "Packets that left by the slow path for want of a known next hop",
        "frames_foreign" => "Frames received that were not for sipring",
        "frames_dropped" => "Frames that the kernel dropped for want of a free one or of room in a ring",
        "frames_invalid" => "Frames of sipring's that the kernel refused",
        _ => "A figure of the worker's datapath",
    };
    page.counter(&format!("sipring_{name}"), help).of(&[worker], value as f64);
}
