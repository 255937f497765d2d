//! The two queues shared with the kernel, and what is written on a request to know its completion.
//!
//! Owns the rings' memory and their flags; pushes and enters for the datapath, which says what is
//! asked for. Knows no socket and no packet.

use std::io;
use std::time::Duration;

use io_uring::types::{SubmitArgs, Timespec};
use io_uring::{EnterFlags, IoUring, cqueue, squeue};

use crate::datapath::sockets::SocketId;
use crate::packet::PortId;

/// Submissions without any progress before the ring counts as broken.
const TRIES_MAX: u32 = 1_000;

/// The longest wait: the kernel refuses what does not fit its clock.
const WAIT_MAX: Duration = Duration::from_secs(86_400);

/// What a completion is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tag {
    /// The waker fired.
    Waker,
    /// Something came, or the receiving of a socket ended.
    Receive { id: SocketId, port: PortId, generation: u16 },
    /// A receive that was to end had ended already, or could not be ended.
    Cancel { id: SocketId, generation: u16 },
    /// A train, or a packet by itself, was not sent.
    Send { id: SocketId, train: u32 },
}

/// Bits of a socket's place in a tag.
const ID_BITS: u32 = 24;

impl Tag {
    pub(super) fn pack(self) -> u64 {
        let (kind, id, rest) = match self {
            Self::Waker => (0_u64, 0, 0),
            Self::Receive { id, port, generation } => (1, id, u32::from(port.0) << 16 | u32::from(generation)),
            Self::Cancel { id, generation } => (2, id, u32::from(generation)),
            Self::Send { id, train } => (3, id, train),
        };
        (kind << ID_BITS | u64::from(id)) << 32 | u64::from(rest)
    }

    #[inline]
    pub(super) fn unpack(packed: u64) -> Self {
        let id = (packed >> 32) as SocketId & ((1 << ID_BITS) - 1);
        let rest = packed as u32;
        match packed >> (32 + ID_BITS) {
            1 => Self::Receive { id, port: PortId((rest >> 16) as u16), generation: rest as u16 },
            2 => Self::Cancel { id, generation: rest as u16 },
            3 => Self::Send { id, train: rest },
            _ => Self::Waker,
        }
    }
}

/// A pair of queues.
pub(super) struct Ring {
    io: IoUring,
    /// Flags of a call that waits.
    waiting: EnterFlags,
}

impl Ring {
    /// Queues for so many requests and completions. For the calling thread alone.
    ///
    /// What arrives is taken from the sockets when this thread asks, not before: what waits in them
    /// could be had by another process that gets the sockets.
    pub(super) fn new(requests: usize, completions: usize) -> io::Result<Self> {
        let mut builder = IoUring::builder();
        builder.setup_single_issuer().setup_defer_taskrun().setup_taskrun_flag().setup_submit_all().setup_clamp();
        builder.setup_cqsize(u32::try_from(completions.next_power_of_two()).unwrap_or(u32::MAX));
        let io = builder.build(u32::try_from(requests.next_power_of_two()).unwrap_or(u32::MAX))?;
        let mut waiting = EnterFlags::GETEVENTS | EnterFlags::EXT_ARG;
        if io.params().is_feature_no_iowait() {
            // A worker that waits for packets is idle, and not to be shown as waiting for a disk.
            waiting |= EnterFlags::NO_IOWAIT;
        }
        Ok(Self { io, waiting })
    }

    pub(super) fn io(&self) -> &IoUring {
        &self.io
    }

    /// Queues a request. False if there is no room.
    ///
    /// # Safety
    /// What it points to stays valid until the kernel has taken it, and what it lets the kernel
    /// write to until it has completed.
    #[inline]
    pub(super) unsafe fn push(&mut self, request: squeue::Entry, tag: Tag) -> bool {
        // SAFETY: passed on.
        unsafe { self.io.submission().push(&request.user_data(tag.pack())) }.is_ok()
    }

    /// Requests that the kernel has not taken yet.
    #[inline]
    pub(super) fn queued(&mut self) -> usize {
        self.io.submission().len()
    }

    #[inline]
    pub(super) fn is_full(&mut self) -> bool {
        self.io.submission().is_full()
    }

    /// Whether a call that does not wait would bring anything.
    #[inline]
    pub(super) fn has_work(&mut self) -> bool {
        let requests = self.io.submission();
        let work = !requests.is_empty() || requests.taskrun() || requests.cq_overflow();
        drop(requests);
        work || !self.io.completion().is_empty()
    }

    /// Hands over what is queued and lets completions happen; waits for one at most `wait`.
    pub(super) fn enter(&mut self, wait: Option<Duration>) -> io::Result<()> {
        let queued = self.queued() as u32;
        let submitter = self.io.submitter();
        let entered = if wait == Some(Duration::ZERO) {
            // SAFETY: no argument; what is queued was vouched for when it was.
            unsafe { submitter.enter::<libc::sigset_t>(queued, 0, EnterFlags::GETEVENTS.bits(), None) }
        } else {
            let time = wait.map(|wait| Timespec::from(wait.min(WAIT_MAX)));
            let mut args = SubmitArgs::new();
            if let Some(time) = &time {
                args = args.timespec(time);
            }
            // SAFETY: the argument and the time that it points to are on this frame.
            unsafe { submitter.enter(queued, 1, self.waiting.bits(), Some(&args)) }
        };
        passing(entered)
    }

    /// Hands over all that is queued. What the kernel can do without waiting is done then, and what
    /// it failed to do can be read.
    pub(super) fn submit(&mut self) -> io::Result<()> {
        let mut tries = 0;
        loop {
            let requests = self.io.submission();
            let queued = requests.len();
            if queued == 0 {
                return Ok(());
            }
            // What came meanwhile is taken along, so that the next receive has it without a call.
            let come = requests.taskrun();
            drop(requests);
            let flags = if come { EnterFlags::GETEVENTS } else { EnterFlags::empty() };
            // SAFETY: as above.
            let entered = unsafe { self.io.submitter().enter::<libc::sigset_t>(queued as u32, 0, flags.bits(), None) };
            passing(entered)?;
            tries += 1;
            if tries == TRIES_MAX {
                return Err(io::Error::other("the kernel takes no requests from the ring"));
            }
        }
    }

    /// The completions that are there.
    #[inline]
    pub(super) fn completions(&mut self) -> impl Iterator<Item = (Tag, i32, u32)> + '_ {
        self.io.completion().map(|done: cqueue::Entry| (Tag::unpack(done.user_data()), done.result(), done.flags()))
    }
}

/// What a call was ended by and may be tried again after is no error.
fn passing(entered: io::Result<usize>) -> io::Result<()> {
    match entered {
        Ok(_) => Ok(()),
        Err(error) => match error.raw_os_error() {
            Some(libc::ETIME | libc::EINTR | libc::EAGAIN | libc::EBUSY | libc::ENOMEM) => Ok(()),
            _ => Err(error),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_read_as_it_was_written() {
        for tag in [
            Tag::Waker,
            Tag::Receive { id: 0, port: PortId(0), generation: 0 },
            Tag::Receive { id: (1 << ID_BITS) - 1, port: PortId(u16::MAX), generation: u16::MAX },
            Tag::Cancel { id: 7, generation: 9 },
            Tag::Send { id: 70_000, train: u32::MAX },
        ] {
            assert_eq!(Tag::unpack(tag.pack()), tag);
        }
    }
}
