//! `tuning/cpus.toml`: which cpus run workers, and how large their queues and buffers are.
//!
//! Read and checked once at start; whether a cpu exists is for `serve`, which pins.

use std::fmt;
use std::path::Path;

use serde::Deserialize;
use serde::de::{self, SeqAccess, Visitor};
use toml::Spanned;

use super::fault::{Fault, Faults, Source};
use super::file::{Number, Text};
use super::xdp;
use crate::datapath::{Steered, XdpOptions};

/// Most workers.
pub const WORKERS_MAX: usize = 256;

/// Where workers run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Workers {
    /// One pinned to each of these cpus.
    Pinned(Vec<usize>),
    /// So many, wherever the kernel puts them.
    Free(u16),
}

impl Workers {
    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u16 {
        match self {
            Self::Pinned(cpus) => cpus.len() as u16,
            Self::Free(count) => *count,
        }
    }
}

/// How packets come in and leave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DatapathChoice {
    /// io_uring if the kernel has and allows it, else plain sockets.
    Auto,
    /// io_uring.
    Uring,
    /// Plain sockets.
    Mmsg,
    /// AF_XDP sockets.
    Xdp(XdpOptions),
}

impl DatapathChoice {
    /// Interfaces that workers send by themselves.
    #[must_use]
    pub fn interfaces(&self) -> &[String] {
        if let Self::Xdp(options) = self { &options.interfaces } else { &[] }
    }
}

/// The tuning of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cpus {
    /// How packets come in and leave.
    pub datapath: DatapathChoice,
    /// Where workers run.
    pub workers: Workers,
    /// Packet slots of the pool.
    pub packets: u32,
    /// Packets received or sent by one system call.
    pub batch: usize,
    /// Kernel receive buffer of a socket, bytes.
    pub receive_buffer: usize,
    /// Kernel send buffer of a socket, bytes.
    pub send_buffer: usize,
    /// Connected sockets at most on one worker port.
    pub connected_max: usize,
    /// Datagrams to one peer leave as trains, where the kernel has UDP GSO.
    pub trains: bool,
    /// Packets at most that wait for a worker in its mail.
    pub mail_max: usize,
    /// Requests are handled by their owner only.
    pub owner_handoff: bool,
    /// How datagrams are shared out among the workers; none: the best that the kernel allows.
    pub steering: Option<Steered>,
}

impl Default for Cpus {
    fn default() -> Self {
        Self {
            datapath: DatapathChoice::Auto,
            workers: Workers::Free(1),
            packets: 8_192,
            batch: 64,
            receive_buffer: 8 << 20,
            send_buffer: 8 << 20,
            connected_max: 64,
            trains: true,
            mail_max: 4_096,
            owner_handoff: false,
            steering: None,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    datapath: Option<Text>,
    workers: Option<Spanned<Choice>>,
    packets: Option<Number>,
    batch: Option<Number>,
    receive_buffer: Option<Number>,
    send_buffer: Option<Number>,
    connected_max: Option<Number>,
    trains: Option<bool>,
    mail_max: Option<Number>,
    owner_handoff: Option<bool>,
    steering: Option<Text>,
    xdp: Option<xdp::Table>,
}

/// `workers`: a list of cpus or a count.
enum Choice {
    Cpus(Vec<i64>),
    Count(i64),
}

impl<'de> Deserialize<'de> for Choice {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Choice;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of cpus such as [0, 1], or a count such as 2")
            }

            fn visit_i64<E: de::Error>(self, count: i64) -> Result<Choice, E> {
                Ok(Choice::Count(count))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Choice, A::Error> {
                let mut cpus = Vec::new();
                while let Some(cpu) = list.next_element()? {
                    cpus.push(cpu);
                }
                Ok(Choice::Cpus(cpus))
            }
        }
        deserializer.deserialize_any(Either)
    }
}

impl Cpus {
    /// Reads and checks a file.
    pub(super) fn read(file: &Path) -> Result<(Self, Vec<Fault>), Faults> {
        let mut source = Source::read(file)?;
        let cpus = Self::check(&source.parse()?, &mut source);
        Ok((cpus, source.verdict()?))
    }

    fn check(file: &File, source: &mut Source) -> Self {
        let default = Self::default();
        let ways = [
            ("auto", None),
            ("ebpf", Some(Steered::Ebpf)),
            ("cbpf", Some(Steered::Cbpf)),
            ("tuple", Some(Steered::Tuple)),
        ];
        let steering = file.steering.as_ref().and_then(|word| source.choice("steering", word, &ways)).flatten();
        let mut number = |what: &str, number: &Option<Number>, bounds: std::ops::Range<i64>, default: usize| {
            let value = number.as_ref().and_then(|number| source.within(what, number, bounds));
            value.and_then(|value| usize::try_from(value).ok()).unwrap_or(default)
        };
        let mut cpus = Self {
            datapath: default.datapath,
            packets: number("packets", &file.packets, 256..(1 << 24) + 1, default.packets as usize) as u32,
            batch: number("batch", &file.batch, 1..1_025, default.batch),
            receive_buffer: number(
                "receive_buffer",
                &file.receive_buffer,
                131_072..(1 << 30) + 1,
                default.receive_buffer,
            ),
            // The longest datagram must fit, or it never leaves.
            send_buffer: number("send_buffer", &file.send_buffer, 131_072..(1 << 30) + 1, default.send_buffer),
            connected_max: number("connected_max", &file.connected_max, 0..1_025, default.connected_max),
            trains: file.trains.unwrap_or(default.trains),
            mail_max: number("mail_max", &file.mail_max, 16..(1 << 20) + 1, default.mail_max),
            owner_handoff: file.owner_handoff.unwrap_or(default.owner_handoff),
            steering,
            workers: file.workers.as_ref().map_or(default.workers, |choice| workers(choice, source)),
        };
        if let Some(choice) = datapath(file, cpus.workers.count(), source) {
            cpus.datapath = choice;
        }
        let least = u64::from(cpus.workers.count()) * 2 * cpus.batch as u64;
        if u64::from(cpus.packets) < least {
            let at = file.packets.as_ref().map_or(0..0, Spanned::span);
            let text = format!(
                "{} packets are too few; two batches for each of {} workers, {least}, are the least",
                cpus.packets,
                cpus.workers.count()
            );
            source.fault(at, text);
        }
        cpus
    }
}

/// The datapath chosen; the table of one that is not chosen is checked all the same.
fn datapath(file: &File, workers: u16, source: &mut Source) -> Option<DatapathChoice> {
    let bypass = file.xdp.as_ref().map(|table| xdp::check(table, workers, source));
    let word = file.datapath.as_ref()?;
    let choices = [
        ("auto", Some(DatapathChoice::Auto)),
        ("uring", Some(DatapathChoice::Uring)),
        ("mmsg", Some(DatapathChoice::Mmsg)),
        ("xdp", bypass.map(DatapathChoice::Xdp)),
    ];
    let chosen = source.choice("datapath", word, &choices)?;
    if chosen.is_none() {
        source.fault(
            word.span(),
            "no interfaces to bypass the kernel at; `[xdp]` with `interfaces = [\"eth0\"]` is right",
        );
    }
    chosen
}

fn workers(choice: &Spanned<Choice>, source: &mut Source) -> Workers {
    let bounds = format!("1 to {WORKERS_MAX} are right");
    match choice.get_ref() {
        Choice::Count(count) if (1..=WORKERS_MAX as i64).contains(count) => Workers::Free(*count as u16),
        Choice::Count(count) => {
            source.fault(choice.span(), format!("{count} workers; {bounds}"));
            Workers::Free(1)
        }
        Choice::Cpus(list) if list.is_empty() => Workers::Free(1),
        Choice::Cpus(list) => {
            let mut cpus: Vec<usize> = Vec::with_capacity(list.len());
            for cpu in list {
                match usize::try_from(*cpu) {
                    Ok(cpu) if !cpus.contains(&cpu) => cpus.push(cpu),
                    Ok(cpu) => {
                        source.fault(choice.span(), format!("cpu {cpu} stands twice; one worker a cpu is right"))
                    }
                    Err(_) => source.fault(choice.span(), format!("{cpu} is no cpu; 0 or more is right")),
                }
            }
            if cpus.len() > WORKERS_MAX {
                source.fault(choice.span(), format!("{} workers; {bounds}", cpus.len()));
            }
            Workers::Pinned(cpus)
        }
    }
}
