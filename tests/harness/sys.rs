//! The system calls that std lacks: a signal to a process we started, entering a network namespace, and having a cpu to
//! oneself.

#![expect(unsafe_code, reason = "kill(2), setns(2) and sched_setscheduler(2) have no safe form in std")]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use rustix::process::{Pid, WaitId, WaitIdOptions};

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

/// Whether the child `pid`, told to stop, has stopped since it was last asked: till then some of its threads go on.
pub(crate) fn has_stopped(pid: u32) -> io::Result<bool> {
    let pid = libc::pid_t::try_from(pid).ok().and_then(Pid::from_raw).ok_or_else(|| io::Error::other("no process"))?;
    let options = WaitIdOptions::STOPPED | WaitIdOptions::NOHANG;
    Ok(rustix::process::waitid(WaitId::Pid(pid), options)?.is_some())
}

/// Moves the calling thread, and it alone, into the network namespace behind `file`.
pub(crate) fn enter(file: &File) -> io::Result<()> {
    // SAFETY: setns takes a descriptor, open for the length of the call, and a flag.
    let answer = unsafe { libc::setns(file.as_raw_fd(), libc::CLONE_NEWNET) };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Binds the calling thread to a cpu, before all others there but those of a higher priority.
pub(crate) fn occupy(cpu: usize, priority: i32) -> io::Result<()> {
    // SAFETY: a set of zeros is an empty one; the calls read it and the number, and touch no other memory of ours.
    let answer = unsafe {
        let mut cpus: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu, &mut cpus);
        let parameter = libc::sched_param { sched_priority: priority };
        libc::sched_setaffinity(0, size_of_val(&cpus), &raw const cpus)
            | libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const parameter)
    };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
