//! `[xdp]` of `tuning/cpus.toml`: the kernel bypass.
//!
//! Checked as far as that goes without asking the kernel: whether an interface is there, has the
//! queues and can do zero-copy is found out at start.

use serde::Deserialize;
use toml::Spanned;

use super::fault::Source;
use super::file::{Number, Text};
use crate::datapath::{XdpMode, XdpOptions, frames_min};

/// Most interfaces.
const INTERFACES_MAX: usize = 16;
/// Longest name of an interface, bytes.
const NAME_MAX: usize = 15;
/// Frames for each queue of an interface, if the file does not say.
const FRAMES_A_QUEUE: u32 = 8_192;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Table {
    interfaces: Spanned<Vec<Text>>,
    queues: Option<Spanned<Vec<Number>>>,
    frames: Option<Number>,
    busy_poll_us: Option<Number>,
    dscp: Option<Number>,
    zero_copy: Option<Text>,
    mode: Option<Text>,
}

/// Checks the table for so many workers.
pub(super) fn check(table: &Table, workers: u16, source: &mut Source) -> XdpOptions {
    let interfaces = interfaces(&table.interfaces, source);
    let queues = match &table.queues {
        Some(list) => queues(list, workers, source),
        None => (0..u32::from(workers)).collect(),
    };
    let mut number = |what: &str, number: &Option<Number>, bounds: std::ops::Range<i64>, default: u32| {
        let value = number.as_ref().and_then(|number| source.within(what, number, bounds));
        value.and_then(|value| u32::try_from(value).ok()).unwrap_or(default)
    };
    let sockets = u32::from(workers) * interfaces.len().max(1) as u32;
    let least = i64::from(frames_min(sockets));
    let options = XdpOptions {
        frames: number("frames", &table.frames, least..(1 << 24) + 1, sockets * FRAMES_A_QUEUE),
        busy_poll_us: number("busy_poll_us", &table.busy_poll_us, 0..1_000_001, 0),
        dscp: number("dscp", &table.dscp, 0..64, 0) as u8,
        zero_copy: true,
        mode: XdpMode::Auto,
        interfaces,
        queues,
    };
    let copies = [("auto", true), ("off", false)];
    let modes = [("auto", XdpMode::Auto), ("native", XdpMode::Native), ("generic", XdpMode::Generic)];
    let zero_copy = table.zero_copy.as_ref().and_then(|word| source.choice("zero_copy", word, &copies));
    let mode = table.mode.as_ref().and_then(|word| source.choice("mode", word, &modes));
    XdpOptions { zero_copy: zero_copy.unwrap_or(true), mode: mode.unwrap_or_default(), ..options }
}

fn interfaces(list: &Spanned<Vec<Text>>, source: &mut Source) -> Vec<String> {
    let count = list.get_ref().len();
    if !(1..=INTERFACES_MAX).contains(&count) {
        source.fault(list.span(), format!("{count} interfaces; 1 to {INTERFACES_MAX} are right"));
    }
    let mut names: Vec<String> = Vec::with_capacity(count);
    for name in list.get_ref() {
        let text = name.get_ref();
        let sound = |byte: u8| byte.is_ascii_graphic() && byte != b'/';
        if !(1..=NAME_MAX).contains(&text.len()) || !text.bytes().all(sound) {
            source.fault(name.span(), format!("`{text}` is no name of an interface; one as in `ip link` is right"));
        } else if names.contains(text) {
            source.fault(name.span(), format!("interface `{text}` stands twice; once is right"));
        }
        names.push(text.clone());
    }
    names
}

/// One queue a worker.
fn queues(list: &Spanned<Vec<Number>>, workers: u16, source: &mut Source) -> Vec<u32> {
    let mut queues: Vec<u32> = Vec::with_capacity(list.get_ref().len());
    for number in list.get_ref() {
        let Some(queue) = source.within("queue", number, 0..1_024) else { continue };
        let queue = queue as u32;
        if queues.contains(&queue) {
            source.fault(
                number.span(),
                format!("queue {queue} stands twice; a queue of its own for each worker is right"),
            );
        }
        queues.push(queue);
    }
    let count = list.get_ref().len();
    if count != usize::from(workers) {
        source.fault(list.span(), format!("{count} queues for {workers} workers; one for each is right"));
    }
    queues
}
