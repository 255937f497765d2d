//! The kernel's programs and maps: bpf(2).
//!
//! Makes maps, loads instructions, attaches a program by a link that goes with its descriptor, and so
//! with the process however that ends. Knows neither what a program does nor what a map holds.

use std::ffi::c_void;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr;

const MAP_CREATE: libc::c_long = 0;
const MAP_UPDATE: libc::c_long = 2;
const PROG_LOAD: libc::c_long = 5;
const LINK_CREATE: libc::c_long = 28;

/// Kind of program and place of attachment: XDP.
const PROG_TYPE_XDP: u32 = 6;
const ATTACH_XDP: u32 = 37;

/// Bytes of the verifier's log that are kept.
const LOG_BYTES: usize = 1 << 16;

/// Kinds of maps.
#[derive(Clone, Copy)]
#[repr(u32)]
pub(super) enum MapKind {
    Hash = 1,
    /// AF_XDP sockets by queue.
    Sockets = 17,
}

/// How a program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Attach {
    /// By the kernel, for any driver.
    Generic = 2,
    /// By the driver.
    Native = 4,
}

/// The arguments of a call: the kernel's union, of which each call uses the beginning.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct Arguments([u8; 144]);

impl Arguments {
    const NONE: Self = Self([0; 144]);

    fn with(mut self, at: usize, value: &[u8]) -> Self {
        if let Some(room) = self.0.get_mut(at..at + value.len()) {
            room.copy_from_slice(value);
        }
        self
    }

    fn number(self, at: usize, value: u32) -> Self {
        self.with(at, &value.to_ne_bytes())
    }

    fn fd(self, at: usize, fd: &OwnedFd) -> Self {
        self.with(at, &fd.as_raw_fd().to_ne_bytes())
    }

    fn pointer<T>(self, at: usize, value: *const T) -> Self {
        self.with(at, &(value as u64).to_ne_bytes())
    }
}

/// # Safety
/// Every pointer in the arguments leads to as much memory as the call reads or writes.
unsafe fn bpf(call: libc::c_long, arguments: &Arguments) -> io::Result<i32> {
    // SAFETY: the arguments and their length; what they point to is the caller's to vouch for.
    let done = unsafe {
        libc::syscall(libc::SYS_bpf, call, ptr::from_ref(arguments).cast::<c_void>(), size_of::<Arguments>())
    };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(done as i32) }
}

/// # Safety
/// As [`bpf`]; the call is one that answers with a new descriptor.
unsafe fn bpf_fd(call: libc::c_long, arguments: &Arguments) -> io::Result<OwnedFd> {
    // SAFETY: as the caller says; the descriptor is new, owned by nobody else.
    unsafe { Ok(OwnedFd::from_raw_fd(bpf(call, arguments)?)) }
}

/// A map of the kernel's.
pub(super) struct Map {
    fd: OwnedFd,
    key: usize,
    value: usize,
}

impl Map {
    /// A map of at most `entries`, with keys and values of so many bytes.
    pub(super) fn new(kind: MapKind, key: usize, value: usize, entries: u32) -> io::Result<Self> {
        let arguments =
            Arguments::NONE.number(0, kind as u32).number(4, key as u32).number(8, value as u32).number(12, entries);
        // SAFETY: no pointers are passed.
        let fd = unsafe { bpf_fd(MAP_CREATE, &arguments) }?;
        Ok(Self { fd, key, value })
    }

    /// Puts an entry in, in place of what was there.
    pub(super) fn put(&self, key: &[u8], value: &[u8]) -> io::Result<()> {
        if key.len() != self.key || value.len() != self.value {
            return Err(io::Error::other("an entry of another length than the map's"));
        }
        let arguments = Arguments::NONE.fd(0, &self.fd).pointer(8, key.as_ptr()).pointer(16, value.as_ptr());
        // SAFETY: key and value have the lengths that the kernel knows of this map.
        unsafe { bpf(MAP_UPDATE, &arguments) }.map(drop)
    }

    pub(super) fn number(&self) -> i32 {
        self.fd.as_raw_fd()
    }
}

/// A loaded program.
pub(super) struct Program(OwnedFd);

/// A program attached to an interface, until this is dropped.
#[derive(Debug)]
pub(super) struct Link {
    _fd: OwnedFd,
}

impl Program {
    /// Loads an XDP program, an instruction a word.
    pub(super) fn load(instructions: &[u64]) -> io::Result<Self> {
        let licence = c"Apache-2.0";
        let arguments = Arguments::NONE
            .number(0, PROG_TYPE_XDP)
            .number(4, instructions.len() as u32)
            .pointer(8, instructions.as_ptr())
            .pointer(16, licence.as_ptr())
            .with(48, b"sipring\0")
            .number(68, ATTACH_XDP);
        // SAFETY: the instructions and the licence outlive the call.
        if let Ok(fd) = unsafe { bpf_fd(PROG_LOAD, &arguments) } {
            return Ok(Self(fd));
        }
        // Once more, for the verifier to say why.
        let mut log = vec![0_u8; LOG_BYTES];
        let asked = arguments.number(24, 1).number(28, LOG_BYTES as u32).pointer(32, log.as_mut_ptr());
        // SAFETY: as above, and the log has the length told.
        match unsafe { bpf_fd(PROG_LOAD, &asked) } {
            Ok(fd) => Ok(Self(fd)),
            Err(error) => {
                let said = log.split(|byte| *byte == 0).next().unwrap_or_default();
                let said = String::from_utf8_lossy(said);
                let last = said.lines().rev().find(|line| !line.is_empty() && !line.starts_with("processed"));
                Err(io::Error::new(error.kind(), format!("{error} {}", last.unwrap_or_default())))
            }
        }
    }

    /// Attaches it to an interface.
    pub(super) fn attach(&self, interface: u32, how: Attach) -> io::Result<Link> {
        let arguments =
            Arguments::NONE.fd(0, &self.0).number(4, interface).number(8, ATTACH_XDP).number(12, how as u32);
        // SAFETY: no pointers are passed.
        Ok(Link { _fd: unsafe { bpf_fd(LINK_CREATE, &arguments) }? })
    }
}
