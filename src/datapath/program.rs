//! Programs on their way into the kernel: maps, loading, attaching to groups of sockets.
//!
//! Used when groups are opened, once. What a program does is for whoever emitted it; descriptors are
//! closed when it is attached, since the group holds the program and the program its maps.

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use socket2::Socket;

use crate::bpf::{Classic, Steering};

/// How often a program is loaded at most.
const LOAD_TRIES: u32 = 10;
const MAP_CREATE: i64 = 0;
const MAP_UPDATE: i64 = 2;
const PROGRAM_LOAD: i64 = 5;
const PER_CPU_ARRAY: u32 = 6;
const REUSEPORT_SOCKETS: u32 = 20;
const SK_REUSEPORT: u32 = 21;
/// Bounded loops and the functions that a program calls are for those under this licence only.
const LICENCE: &[u8] = b"GPL\0";

/// Attributes of a map to be made.
#[repr(C)]
#[derive(Default)]
struct MapCreate {
    kind: u32,
    key_bytes: u32,
    value_bytes: u32,
    entries: u32,
    flags: u32,
}

/// Attributes of an entry to be written.
#[repr(C)]
#[derive(Default)]
struct MapUpdate {
    map: u32,
    pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// Attributes of a program to be loaded, as far as they are needed.
#[repr(C)]
#[derive(Default)]
struct ProgramLoad {
    kind: u32,
    steps_count: u32,
    steps: u64,
    licence: u64,
    log_level: u32,
    log_bytes: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
}

/// Attaches the program of `steering` to the group of `sockets`, which stand by worker.
pub(super) fn attach(steering: &Steering, sockets: &[Socket]) -> io::Result<()> {
    let Some(first) = sockets.first() else { return Ok(()) };
    let group = map(REUSEPORT_SOCKETS, 8, sockets.len())?;
    for (worker, socket) in (0_u32..).zip(sockets) {
        let descriptor = socket.as_raw_fd() as u64;
        let update = MapUpdate {
            map: group.as_raw_fd() as u32,
            key: (&raw const worker).addr() as u64,
            value: (&raw const descriptor).addr() as u64,
            ..MapUpdate::default()
        };
        // SAFETY: key and value are alive and as long as the map was made for.
        unsafe { bpf(MAP_UPDATE, &update) }?;
    }
    let scratch = map(PER_CPU_ARRAY, steering.scratch_bytes, 1)?;
    let program = load(steering, &group, &scratch)?;
    let descriptor = program.as_raw_fd();
    // SAFETY: the option takes a descriptor.
    unsafe { set(first, libc::SO_ATTACH_REUSEPORT_EBPF, &descriptor) }
}

/// Attaches a classic program, which answers with places in the order in which the group was bound.
pub(super) fn attach_classic(program: &Classic, sockets: &[Socket]) -> io::Result<()> {
    let Some(first) = sockets.first() else { return Ok(()) };
    let steps = program.steps();
    let whole = libc::sock_fprog {
        len: u16::try_from(steps.len()).unwrap_or(u16::MAX),
        filter: steps.as_ptr().cast_mut().cast(),
    };
    // SAFETY: the instructions are laid out as the kernel's, which only reads them.
    unsafe { set(first, libc::SO_ATTACH_REUSEPORT_CBPF, &whole) }
}

/// Takes a group's program off; it may have none.
pub(super) fn detach(sockets: &[Socket]) {
    if let Some(first) = sockets.first() {
        // SAFETY: the option takes an integer that means nothing.
        let _ = unsafe { set(first, libc::SO_DETACH_REUSEPORT_BPF, &0_i32) };
    }
}

fn map(kind: u32, value_bytes: u32, entries: usize) -> io::Result<OwnedFd> {
    let entries = u32::try_from(entries).unwrap_or(u32::MAX);
    let create = MapCreate { kind, key_bytes: 4, value_bytes, entries, flags: 0 };
    // SAFETY: the attributes point nowhere.
    let fd = unsafe { bpf(MAP_CREATE, &create) }?;
    // SAFETY: the kernel has just opened it for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn load(steering: &Steering, sockets: &OwnedFd, scratch: &OwnedFd) -> io::Result<OwnedFd> {
    let maps = [(steering.sockets, sockets), (steering.scratch, scratch)];
    let descriptor = |wanted| maps.iter().find(|(map, _)| *map == wanted).map(|(_, fd)| fd.as_raw_fd());
    let steps = steering.program.linked(descriptor).ok_or(io::ErrorKind::InvalidInput)?;
    let load = ProgramLoad {
        kind: SK_REUSEPORT,
        steps_count: steps.len() as u32,
        steps: steps.as_ptr().addr() as u64,
        licence: LICENCE.as_ptr().addr() as u64,
        ..ProgramLoad::default()
    };
    let mut tries = 0;
    let fd = loop {
        tries += 1;
        // SAFETY: instructions and licence are alive; there is no log.
        match unsafe { bpf(PROGRAM_LOAD, &load) } {
            // The verifier gives way to a signal that waits for this thread.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && tries < LOAD_TRIES => {}
            loaded => break loaded?,
        }
    };
    // SAFETY: the kernel has just opened it for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// # Safety
/// What `attributes` point to must be alive, and as long as `command` takes it for.
unsafe fn bpf<T>(command: i64, attributes: &T) -> io::Result<RawFd> {
    // SAFETY: the attributes are plain data of the given size; the caller vouches for the rest.
    let done = unsafe { libc::syscall(libc::SYS_bpf, command, &raw const *attributes, mem::size_of::<T>()) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(done as RawFd) }
}

/// # Safety
/// `value` must be what the option takes.
unsafe fn set<T>(socket: &Socket, option: i32, value: &T) -> io::Result<()> {
    let length = mem::size_of::<T>() as libc::socklen_t;
    let value = (&raw const *value).cast();
    // SAFETY: a pointer and the size of what it points to; the caller vouches for its kind.
    let done = unsafe { libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, option, value, length) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
