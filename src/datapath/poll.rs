//! Waiting for sockets: epoll.
//!
//! Owns the epoll descriptor; used by the socket datapath, which gives each socket a number and is
//! told which are ready. Level-triggered, so that what was not read is told again; reads nothing.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use super::errors;

/// Sockets told of by one wait.
const READY_MAX: usize = 64;

/// An epoll descriptor and what it last told.
pub(super) struct Poll {
    fd: OwnedFd,
    ready: Vec<libc::epoll_event>,
    /// The kernel, or a seccomp filter, knows no wait but of whole milliseconds.
    coarse: bool,
}

impl Poll {
    pub(super) fn new() -> io::Result<Self> {
        // SAFETY: no pointers are passed.
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a descriptor just made, owned by nobody else.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self { fd, ready: Vec::with_capacity(READY_MAX), coarse: false })
    }

    /// Watches `fd` under `number` from now until it is closed.
    pub(super) fn watch(&self, fd: RawFd, number: u32) -> io::Result<()> {
        let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: u64::from(number) };
        // SAFETY: a valid event, which the kernel copies.
        let added = unsafe { libc::epoll_ctl(self.fd.as_raw_fd(), libc::EPOLL_CTL_ADD, fd, &raw mut event) };
        if added < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Waits; the numbers of what is ready, and whether errors wait there. A signal ends the wait
    /// early, with nothing.
    pub(super) fn wait(&mut self, wait: Option<Duration>) -> io::Result<impl Iterator<Item = (u32, bool)> + '_> {
        self.ready.clear();
        let mut told = if self.coarse { -1 } else { self.wait_exactly(wait) };
        if self.coarse {
            // SAFETY: the vector has room for READY_MAX events.
            told = unsafe {
                libc::epoll_wait(self.fd.as_raw_fd(), self.ready.as_mut_ptr(), READY_MAX as i32, milliseconds(wait))
            };
        }
        match usize::try_from(told) {
            // SAFETY: the kernel wrote `told` events, at most READY_MAX.
            Ok(told) => unsafe { self.ready.set_len(told) },
            Err(_) if errors::errno() == libc::EINTR => {}
            Err(_) => return Err(io::Error::last_os_error()),
        }
        Ok(self.ready.iter().map(|event| (event.u64 as u32, event.events & libc::EPOLLERR as u32 != 0)))
    }

    /// Waits to the nanosecond; notes if that cannot be had (Linux before 5.11, older seccomp profiles).
    fn wait_exactly(&mut self, wait: Option<Duration>) -> i32 {
        let time = wait.map(|wait| libc::timespec {
            tv_sec: wait.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: wait.subsec_nanos().into(),
        });
        let time: *const libc::timespec = time.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
        // SAFETY: the vector has room for READY_MAX events; the time outlives the call; no signal mask.
        let told = unsafe {
            libc::syscall(
                libc::SYS_epoll_pwait2,
                self.fd.as_raw_fd(),
                self.ready.as_mut_ptr(),
                READY_MAX as i32,
                time,
                std::ptr::null::<libc::sigset_t>(),
                0usize,
            )
        };
        self.coarse = told < 0 && matches!(errors::errno(), libc::ENOSYS | libc::EPERM);
        told as i32
    }
}

/// Waits for `fd` alone, whatever else is ready.
pub(super) fn wait_for(fd: RawFd, wait: Duration) {
    let mut watched = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    // SAFETY: one valid entry. Whatever ends the wait, the caller looks again.
    unsafe { libc::poll(&raw mut watched, 1, milliseconds(Some(wait))) };
}

/// Whether a datagram waits at `fd`.
pub(super) fn is_readable(fd: RawFd) -> bool {
    let mut watched = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    // SAFETY: one valid entry.
    unsafe { libc::poll(&raw mut watched, 1, 0) };
    watched.revents & libc::POLLIN != 0
}

/// Rounded up: a wait that ends too early would be followed by many of zero.
fn milliseconds(wait: Option<Duration>) -> i32 {
    wait.map_or(-1, |wait| i32::try_from(wait.as_nanos().div_ceil(1_000_000)).unwrap_or(i32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_shorter_than_the_clock_tick_is_not_no_wait() {
        assert_eq!(milliseconds(None), -1);
        assert_eq!(milliseconds(Some(Duration::ZERO)), 0);
        assert_eq!(milliseconds(Some(Duration::from_nanos(1))), 1);
        assert_eq!(milliseconds(Some(Duration::from_micros(1_001))), 2);
        assert_eq!(milliseconds(Some(Duration::MAX)), i32::MAX);
    }
}
