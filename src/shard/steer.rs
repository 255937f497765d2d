//! Programs that let the kernel give a datagram to the worker that owns it.
//!
//! Emitted here because they must compute what `owner` and `via` compute; loaded and attached by the
//! datapath. A program may guess wrong or not at all: then the kernel's own choice holds, and whoever
//! gets the message knows its owner.

mod classic;
mod kernel;

use super::site::Site;
use crate::bpf::{Map, Steering};

const SOCKETS: Map = Map(0);
const SCRATCH: Map = Map(1);

/// What a program must know of an instance.
#[derive(Clone, Copy, Debug)]
struct Facts {
    seed: u32,
    slots: u16,
    workers: u16,
}

/// The programs that find the owners of `site`, the same for all of its listeners.
#[must_use]
pub fn steering(site: &Site) -> Option<Steering> {
    let facts = Facts { seed: site.owner_seed(), slots: site.slots().max(1), workers: site.options.workers.max(1) };
    Some(Steering {
        program: kernel::program(facts)?,
        sockets: SOCKETS,
        scratch: SCRATCH,
        scratch_bytes: kernel::SCRATCH_BYTES as u32,
        classic: classic::program(facts)?,
    })
}
