//! AF_XDP without anything around it: frames, the four rings of a socket, and a program that redirects every UDP datagram
//! of IPv4 in one piece. For the far side and for the bare forwarder, in networks of their own.

#![expect(unsafe_code, reason = "memory shared with the kernel, and its calls")]

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering, fence};
use std::time::Duration;

use sipring::bpf::{Assembler, If, Map, Op, Reg, Size};

/// Bytes of a frame, and of those what is kept free before a datagram besides the kernel's own 256.
pub(crate) const FRAME: usize = 4_096;
const HEAD_ROOM: u32 = 448;
/// Frames that the kernel may fill, of each socket, and entries of every ring.
pub(crate) const FILLED: u32 = 512;
const ENTRIES: u32 = 2_048;
const SEND_BUDGET: i32 = 9;
const NEED_WAKEUP: u32 = 1;
/// Binds while the last owner of a queue is not gone yet.
const BINDS_MAX: u32 = 1_000;
const CALLS_MAX: u32 = 128;
/// How long the kernel may look for frames in one call; any number turns that on.
const BUSY_US: libc::c_int = 1_000;

/// Memory of the kernel's or of our own, until this goes: a queue stays busy as long as its rings are mapped.
struct Mapping {
    base: *mut u8,
    bytes: usize,
}

// SAFETY: the mapping is nobody else's.
unsafe impl Send for Mapping {}

impl Mapping {
    fn new(bytes: usize, fd: RawFd, page: i64) -> io::Result<Self> {
        let kind = if fd < 0 { libc::MAP_PRIVATE | libc::MAP_ANONYMOUS } else { libc::MAP_SHARED };
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a fresh mapping, no address asked for.
        let map = unsafe { libc::mmap(ptr::null_mut(), bytes, access, kind | libc::MAP_POPULATE, fd, page) };
        if map == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(Self { base: map.cast(), bytes }) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped by `new` with this length, and gone with whoever used it.
        unsafe { libc::munmap(self.base.cast(), self.bytes) };
    }
}

/// Frames, and which of them are free.
pub(crate) struct Frames {
    area: Mapping,
    count: u32,
    pub(crate) free: Vec<u64>,
}

impl Frames {
    pub(crate) fn new(count: u32) -> io::Result<Self> {
        let area = Mapping::new(count as usize * FRAME, -1, 0)?;
        Ok(Self { area, count, free: (0..u64::from(count)).rev().map(|at| at * FRAME as u64).collect() })
    }

    /// The whole frame that address `at` lies in, and where in it that is.
    #[inline]
    pub(crate) fn around(&mut self, at: u64) -> (&mut [u8], usize) {
        let (first, within) = (at as usize & !(FRAME - 1), at as usize & (FRAME - 1));
        // SAFETY: the kernel names frames of the area only, and uses none that it has handed over.
        (unsafe { std::slice::from_raw_parts_mut(self.area.base.add(first), FRAME) }, within)
    }

    /// `len` bytes from address `at` on.
    #[inline]
    pub(crate) fn bytes(&self, at: u64, len: usize) -> &[u8] {
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts(self.area.base.add(at as usize), len) }
    }

    #[inline]
    pub(crate) fn give_back(&mut self, at: u64) {
        self.free.push(at & !(FRAME as u64 - 1));
    }
}

/// One ring, whichever side writes it.
pub(crate) struct Ring<T> {
    producer: *const AtomicU32,
    consumer: *const AtomicU32,
    flags: *const AtomicU32,
    entries: *mut T,
    next: u32,
    _mapping: Mapping,
}

// SAFETY: the pointers lead into a mapping of its own; the other side is the kernel.
unsafe impl<T: Send> Send for Ring<T> {}

impl<T: Copy> Ring<T> {
    fn map(fd: RawFd, page: i64, at: &libc::xdp_ring_offset) -> io::Result<Self> {
        let mapping = Mapping::new(at.desc as usize + ENTRIES as usize * size_of::<T>(), fd, page)?;
        let base = mapping.base;
        // SAFETY: the kernel's offsets lie within the mapping.
        unsafe {
            Ok(Self {
                producer: base.add(at.producer as usize).cast(),
                consumer: base.add(at.consumer as usize).cast(),
                flags: base.add(at.flags as usize).cast(),
                entries: base.add(at.desc as usize).cast(),
                next: 0,
                _mapping: mapping,
            })
        }
    }

    /// Entries that the kernel has written and we have not taken.
    #[inline]
    pub(crate) fn filled(&self) -> u32 {
        // SAFETY: inside the mapping.
        unsafe { (*self.producer).load(Ordering::Acquire) }.wrapping_sub(self.next)
    }

    /// Places that we may write to.
    #[inline]
    pub(crate) fn room(&self) -> u32 {
        // SAFETY: as above.
        ENTRIES - self.next.wrapping_sub(unsafe { (*self.consumer).load(Ordering::Acquire) })
    }

    #[inline]
    pub(crate) fn take(&mut self) -> T {
        // SAFETY: masked, so inside the ring; the kernel has published it.
        let entry = unsafe { *self.entries.add((self.next & (ENTRIES - 1)) as usize) };
        self.next = self.next.wrapping_add(1);
        entry
    }

    #[inline]
    pub(crate) fn put(&mut self, entry: T) {
        // SAFETY: masked, so inside the ring; the kernel reads nothing that is not published.
        unsafe { *self.entries.add((self.next & (ENTRIES - 1)) as usize) = entry };
        self.next = self.next.wrapping_add(1);
    }

    /// Gives places back that were taken.
    #[inline]
    pub(crate) fn release(&self) {
        // SAFETY: inside the mapping.
        unsafe { (*self.consumer).store(self.next, Ordering::Release) };
    }

    /// Publishes what was put; whether the kernel wants to be called for it.
    #[inline]
    pub(crate) fn submit(&self) -> bool {
        // SAFETY: inside the mapping.
        unsafe {
            (*self.producer).store(self.next, Ordering::Release);
            fence(Ordering::SeqCst);
            (*self.flags).load(Ordering::Relaxed) & NEED_WAKEUP != 0
        }
    }

    #[inline]
    fn pending(&self) -> bool {
        // SAFETY: inside the mapping.
        unsafe { (*self.consumer).load(Ordering::Acquire) != self.next }
    }
}

/// A socket of queue 0 of an interface.
pub(crate) struct Xsk {
    fd: OwnedFd,
    pub(crate) receive: Ring<libc::xdp_desc>,
    pub(crate) send: Ring<libc::xdp_desc>,
    pub(crate) fill: Ring<u64>,
    pub(crate) completion: Ring<u64>,
    _program: [OwnedFd; 3],
}

impl Xsk {
    /// Over `frames`, which the first socket registers and the others share by it.
    pub(crate) fn open(interface: u32, frames: &mut Frames, first: Option<&Self>) -> io::Result<Self> {
        // SAFETY: no pointers are passed.
        let fd = owned(unsafe { libc::socket(libc::AF_XDP, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) })?;
        let raw = fd.as_raw_fd();
        if first.is_none() {
            // SAFETY: numbers only, for which zeros are valid.
            let mut area: libc::xdp_umem_reg = unsafe { std::mem::zeroed() };
            area.addr = frames.area.base as u64;
            area.len = u64::from(frames.count) * FRAME as u64;
            area.chunk_size = FRAME as u32;
            area.headroom = HEAD_ROOM;
            set(raw, libc::XDP_UMEM_REG, &area)?;
        }
        for ring in [libc::XDP_RX_RING, libc::XDP_TX_RING, libc::XDP_UMEM_FILL_RING, libc::XDP_UMEM_COMPLETION_RING] {
            set(raw, ring, &ENTRIES)?;
        }
        // Newer kernels only.
        let _ = set(raw, SEND_BUDGET, &1_024_u32);
        bind(raw, interface, first)?;
        // SAFETY: as above.
        let mut at: libc::xdp_mmap_offsets = unsafe { std::mem::zeroed() };
        let mut len = size_of_val(&at) as libc::socklen_t;
        // SAFETY: room for the offsets, and their length.
        check(unsafe {
            libc::getsockopt(raw, libc::SOL_XDP, libc::XDP_MMAP_OFFSETS, (&raw mut at).cast(), &raw mut len)
        })?;
        let mut this = Self {
            receive: Ring::map(raw, 0, &at.rx)?,
            send: Ring::map(raw, 0x8000_0000, &at.tx)?,
            fill: Ring::map(raw, 0x1_0000_0000, &at.fr)?,
            completion: Ring::map(raw, 0x1_8000_0000, &at.cr)?,
            _program: program(interface, raw)?,
            fd,
        };
        for _ in 0..FILLED {
            let Some(frame) = frames.free.pop() else { break };
            this.fill.put(frame);
        }
        this.fill.submit();
        Ok(this)
    }

    pub(crate) fn fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    /// Lets the kernel serve the queue inside our calls.
    pub(crate) fn poll_busily(&self) -> io::Result<()> {
        for (option, value) in
            [(libc::SO_PREFER_BUSY_POLL, 1), (libc::SO_BUSY_POLL, BUSY_US), (libc::SO_BUSY_POLL_BUDGET, 64)]
        {
            let len = size_of_val(&value) as libc::socklen_t;
            // SAFETY: a number and its length.
            check(unsafe { libc::setsockopt(self.fd(), libc::SOL_SOCKET, option, (&raw const value).cast(), len) })?;
        }
        Ok(())
    }

    /// Has the kernel look for frames.
    #[inline]
    pub(crate) fn look(&self) {
        // SAFETY: no room is passed.
        unsafe {
            libc::recvfrom(self.fd(), ptr::null_mut(), 0, libc::MSG_DONTWAIT, ptr::null_mut(), ptr::null_mut());
        };
    }

    /// Has the kernel send what was put.
    #[inline]
    pub(crate) fn push(&mut self) {
        if !self.send.submit() {
            return;
        }
        for _ in 0..CALLS_MAX {
            // SAFETY: no bytes are passed.
            unsafe { libc::sendto(self.fd(), ptr::null(), 0, libc::MSG_DONTWAIT, ptr::null(), 0) };
            if !self.send.pending() {
                break;
            }
        }
    }

    /// Takes back frames that have left.
    #[inline]
    pub(crate) fn complete(&mut self, frames: &mut Frames) {
        let left = self.completion.filled();
        (0..left).for_each(|_| frames.give_back(self.completion.take()));
        if left > 0 {
            self.completion.release();
        }
    }

    /// Lends the kernel as many frames as it has filled.
    #[inline]
    pub(crate) fn refill(&mut self, count: u32, frames: &mut Frames) {
        for _ in 0..count {
            let Some(frame) = frames.free.pop() else { break };
            self.fill.put(frame);
        }
        if count > 0 && self.fill.submit() {
            self.look();
        }
    }
}

fn owned(fd: i32) -> io::Result<OwnedFd> {
    check(fd)?;
    // SAFETY: a descriptor just made, owned by nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn check(answer: i32) -> io::Result<()> {
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn set<T>(fd: RawFd, option: i32, value: &T) -> io::Result<()> {
    let len = size_of::<T>() as libc::socklen_t;
    // SAFETY: a value and its length.
    check(unsafe { libc::setsockopt(fd, libc::SOL_XDP, option, ptr::from_ref(value).cast(), len) })
}

fn bind(fd: RawFd, interface: u32, first: Option<&Xsk>) -> io::Result<()> {
    let address = libc::sockaddr_xdp {
        sxdp_family: libc::AF_XDP as u16,
        // One that shares inherits the flags, and must not name them.
        sxdp_flags: if first.is_some() { libc::XDP_SHARED_UMEM } else { libc::XDP_COPY | libc::XDP_USE_NEED_WAKEUP },
        sxdp_ifindex: interface,
        sxdp_queue_id: 0,
        sxdp_shared_umem_fd: first.map_or(0, |first| first.fd() as u32),
    };
    for _ in 0..BINDS_MAX {
        // SAFETY: an address and its length.
        let bound = check(unsafe { libc::bind(fd, (&raw const address).cast(), size_of_val(&address) as u32) });
        match bound {
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
                std::thread::sleep(Duration::from_millis(3));
            }
            bound => return bound,
        }
    }
    Err(io::Error::other("the queue stays busy"))
}

/// Redirects UDP of an interface to a socket, until what this gives is closed.
fn program(interface: u32, socket: RawFd) -> io::Result<[OwnedFd; 3]> {
    const SOCKETS: Map = Map(0);
    const PASS: i32 = 2;
    const REDIRECT: i32 = 51;
    let mut code = Assembler::default();
    let pass = code.label();
    let order = |number: u16| i32::from(number.to_be());
    code.alu(Op::Move, Reg::R6, Reg::R1);
    code.load(Size::Four, Reg::R2, Reg::R6, 0);
    code.load(Size::Four, Reg::R3, Reg::R6, 4);
    code.alu(Op::Move, Reg::R4, Reg::R2);
    code.alu(Op::Add, Reg::R4, 42);
    code.jump(If::Above, Reg::R4, Reg::R3, pass);
    for (size, at, mask, wanted) in [
        (Size::Two, 12, None, order(0x0800)),
        (Size::One, 14, None, 0x45),
        (Size::One, 23, None, 17),
        (Size::Two, 20, Some(order(0x3fff)), 0),
    ] {
        code.load(size, Reg::R5, Reg::R2, at);
        if let Some(mask) = mask {
            code.alu(Op::And, Reg::R5, mask);
        }
        code.jump(If::Differs, Reg::R5, wanted, pass);
    }
    code.map(Reg::R1, SOCKETS);
    code.load(Size::Four, Reg::R2, Reg::R6, 16);
    code.alu(Op::Move, Reg::R3, PASS);
    code.call(REDIRECT);
    code.exit();
    code.bind(pass);
    code.alu(Op::Move, Reg::R0, PASS);
    code.exit();

    let sockets = bpf(0, &[(0, 17), (4, 4), (8, 4), (12, 1)], &[])?;
    let (key, value) = (0_u32, socket);
    let entry = [(8, (&raw const key) as u64), (16, (&raw const value) as u64)];
    // Not a descriptor, but 0, is what an update answers.
    bpf_call(2, &[(0, sockets.as_raw_fd() as u32)], &entry)?;
    let steps = code.finish().and_then(|program| program.linked(|_| Some(sockets.as_raw_fd())));
    let steps = steps.ok_or_else(|| io::Error::other("a program without end"))?;
    let text = [(8, steps.as_ptr() as u64), (16, c"Apache-2.0".as_ptr() as u64)];
    let program = bpf(5, &[(0, 6), (4, steps.len() as u32), (68, 37)], &text)?;
    let link = bpf(28, &[(0, program.as_raw_fd() as u32), (4, interface), (8, 37), (12, 4)], &[])?;
    Ok([sockets, program, link])
}

/// A call of bpf(2) that answers with a descriptor: numbers of four and of eight bytes by place.
fn bpf(call: i64, small: &[(usize, u32)], large: &[(usize, u64)]) -> io::Result<OwnedFd> {
    owned(bpf_call(call, small, large)?)
}

fn bpf_call(call: i64, small: &[(usize, u32)], large: &[(usize, u64)]) -> io::Result<i32> {
    let mut arguments = [0_u8; 144];
    small.iter().for_each(|(at, number)| arguments[*at..at + 4].copy_from_slice(&number.to_ne_bytes()));
    large.iter().for_each(|(at, number)| arguments[*at..at + 8].copy_from_slice(&number.to_ne_bytes()));
    // SAFETY: the arguments and their length; pointers among them lead to what outlives the call.
    let answer = unsafe { libc::syscall(libc::SYS_bpf, call, arguments.as_ptr(), arguments.len()) } as i32;
    check(answer).map(|()| answer)
}

/// Ethernet, IPv4 and UDP headers from one address to another.
pub(crate) const HEADERS: usize = 42;

#[derive(Clone, Copy)]
pub(crate) struct Headers {
    bytes: [u8; HEADERS],
    /// Sum of the IPv4 header without its length.
    sum: u32,
}

impl Headers {
    pub(crate) fn new(macs: ([u8; 6], [u8; 6]), from: std::net::SocketAddrV4, to: std::net::SocketAddrV4) -> Self {
        let mut bytes = [0; HEADERS];
        bytes[..6].copy_from_slice(&macs.1);
        bytes[6..12].copy_from_slice(&macs.0);
        bytes[12..14].copy_from_slice(&[8, 0]);
        bytes[14] = 0x45;
        (bytes[22], bytes[23]) = (64, 17);
        bytes[26..30].copy_from_slice(&from.ip().octets());
        bytes[30..34].copy_from_slice(&to.ip().octets());
        bytes[34..36].copy_from_slice(&from.port().to_be_bytes());
        bytes[36..38].copy_from_slice(&to.port().to_be_bytes());
        let words = bytes[14..34].chunks_exact(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
        let sum = words.sum();
        Self { bytes, sum }
    }

    /// Writes them before `len` bytes of payload. Without a sum of the payload, which IPv4 does not ask for.
    #[inline]
    pub(crate) fn write(&self, to: &mut [u8], len: usize) {
        let to = &mut to[..HEADERS];
        to.copy_from_slice(&self.bytes);
        let total = (len + 28) as u16;
        to[16..18].copy_from_slice(&total.to_be_bytes());
        to[38..40].copy_from_slice(&(total - 20).to_be_bytes());
        let sum = self.sum + u32::from(total);
        let sum = (sum & 0xffff) + (sum >> 16);
        to[24..26].copy_from_slice(&(!((sum + (sum >> 16)) as u16)).to_be_bytes());
    }
}
