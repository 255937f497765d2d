//! What ends a worker's wait from another thread: an eventfd.
//!
//! Made by whoever starts the workers, before their datapaths, so that mail can ring it; a datapath
//! waits on it together with its sockets and silences it. Carries no message.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;

use crate::mail::Wake;

/// Ends the wait of one worker. Clones ring the same one.
#[derive(Clone, Debug)]
pub struct Waker {
    fd: Arc<OwnedFd>,
}

impl Waker {
    /// A waker that has not fired.
    ///
    /// # Errors
    /// When the process has no descriptor left.
    pub fn new() -> io::Result<Self> {
        // SAFETY: no pointers are passed.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a descriptor just made, owned by nobody else.
        Ok(Self { fd: Arc::new(unsafe { OwnedFd::from_raw_fd(fd) }) })
    }

    /// Ends the wait under way, or else the next one.
    pub fn wake(&self) {
        let one: u64 = 1;
        // SAFETY: eight readable bytes. A full counter (EAGAIN) has fired already.
        unsafe { libc::write(self.fd.as_raw_fd(), (&raw const one).cast(), 8) };
    }

    /// Takes back all that was rung; false if nothing was.
    pub(super) fn silence(&self) -> bool {
        let mut rung: u64 = 0;
        // SAFETY: eight writable bytes, a non-blocking descriptor.
        let read = unsafe { libc::read(self.fd.as_raw_fd(), (&raw mut rung).cast(), 8) };
        read == 8
    }

    pub(super) fn fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

impl Wake for Waker {
    fn wake(&self) {
        Waker::wake(self);
    }
}
