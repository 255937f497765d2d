//! What the driver of an interface tells of itself.
//!
//! Asked once at start; a driver that does not tell is nothing to complain about.

use std::ffi::CString;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr;

/// `ETHTOOL_GCHANNELS`.
const CHANNELS: u32 = 0x3c;

/// The kernel's `struct ethtool_channels`.
#[derive(Default)]
#[repr(C)]
struct Channels {
    call: u32,
    most: [u32; 4],
    receive: u32,
    send: u32,
    other: u32,
    combined: u32,
}

/// How many queues an interface receives by; none if its driver does not tell.
pub(super) fn queues(name: &str) -> Option<u32> {
    let mut channels = Channels { call: CHANNELS, ..Channels::default() };
    // SAFETY: the kernel's own layout, of as many bytes as this call writes.
    unsafe { ask(name, &mut channels) }.then_some(channels.receive + channels.combined)
}

/// Asks a driver by ethtool; false if it does not answer.
///
/// # Safety
/// `question` begins with the number of a call and has room for all that its answer brings.
pub(super) unsafe fn ask<T: ?Sized>(name: &str, question: &mut T) -> bool {
    let Ok(text) = CString::new(name) else { return false };
    // SAFETY: no pointers are passed.
    let fd = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return false;
    }
    // SAFETY: a descriptor just made, owned by nobody else.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: numbers and bytes only, for which zeros are valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // The last byte stays NUL.
    let room = request.ifr_name.len() - 1;
    for (to, from) in request.ifr_name.iter_mut().take(room).zip(text.as_bytes()) {
        *to = *from as libc::c_char;
    }
    request.ifr_ifru.ifru_data = ptr::from_mut(question).cast();
    // SAFETY: a request that points to the structure of its call, both alive.
    unsafe { libc::ioctl(fd.as_raw_fd(), libc::SIOCETHTOOL as _, &raw mut request) == 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_that_tells_no_queues_or_is_not_there_has_none_known() {
        assert_eq!(queues("lo"), None);
        assert_eq!(queues("a name longer than any"), None);
        assert_eq!(queues("nul\0"), None);
    }
}
