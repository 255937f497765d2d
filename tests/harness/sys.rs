//! The two system calls that std lacks: a signal to a process we started, and entering a network namespace.

#![expect(unsafe_code, reason = "kill(2) and setns(2) have no safe form in std")]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    Hangup,
    Terminate,
    Kill,
    User1,
    Stop,
    Continue,
}

impl Signal {
    fn number(self) -> libc::c_int {
        match self {
            Self::Hangup => libc::SIGHUP,
            Self::Terminate => libc::SIGTERM,
            Self::Kill => libc::SIGKILL,
            Self::User1 => libc::SIGUSR1,
            Self::Stop => libc::SIGSTOP,
            Self::Continue => libc::SIGCONT,
        }
    }
}

/// Sends `signal` to the process `pid`, or to its whole group.
pub(crate) fn send(pid: u32, group: bool, signal: Signal) -> io::Result<()> {
    let pid = libc::pid_t::try_from(pid).map_err(io::Error::other)?;
    if pid <= 1 {
        return Err(io::Error::other("not a process that a test started"));
    }
    // SAFETY: kill takes two numbers and touches no memory of ours.
    let answer = unsafe { libc::kill(if group { -pid } else { pid }, signal.number()) };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Moves the calling thread, and it alone, into the network namespace behind `file`.
pub(crate) fn enter(file: &File) -> io::Result<()> {
    // SAFETY: setns takes a descriptor, open for the length of the call, and a flag.
    let answer = unsafe { libc::setns(file.as_raw_fd(), libc::CLONE_NEWNET) };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
