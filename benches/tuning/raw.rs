//! Plain sockets with options that the datapath does not set, and what measures them.

use std::io;
use std::mem;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::Variant;

/// Cpu time of this thread.
pub(crate) fn cpu_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the time is alive.
    let read = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    assert_eq!(read, 0);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Asks for huge pages between two addresses of one mapping, rounded inwards.
pub(crate) fn advise_huge(first: usize, last: usize) {
    const HUGE: usize = 2 << 20;
    let (from, to) = (first.next_multiple_of(HUGE), last / HUGE * HUGE);
    // SAFETY: within one mapping of the pool; the advice changes no contents.
    let advised = unsafe { libc::madvise(std::ptr::with_exposed_provenance_mut(from), to - from, libc::MADV_HUGEPAGE) };
    assert_eq!(advised, 0, "{}", io::Error::last_os_error());
}

fn set(socket: &UdpSocket, level: i32, option: i32, value: i32) {
    let length = mem::size_of_val(&value) as libc::socklen_t;
    // SAFETY: a pointer to an integer and its length.
    let done = unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const value).cast(), length) };
    assert_eq!(done, 0, "{}", io::Error::last_os_error());
}

/// What of a burst is lost with a receive buffer of so many bytes.
pub(crate) fn bursts() -> Vec<Variant<'static>> {
    const BURST: usize = 20_000;
    let lost = |bytes: i32| -> Variant<'static> {
        let run = move || {
            let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
            set(&receiver, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, bytes);
            receiver.set_nonblocking(true).unwrap();
            let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
            sender.connect(receiver.local_addr().unwrap()).unwrap();
            for _ in 0..BURST {
                sender.send(&[b'x'; 400]).unwrap();
            }
            let mut buffer = [0; 512];
            let kept = std::iter::from_fn(|| receiver.recv(&mut buffer).ok()).count();
            vec![(BURST - kept) as f64]
        };
        (format!("{bytes} bytes"), Box::new(run))
    };
    [212_992, 1 << 20, 4 << 20, 8 << 20, 16 << 20].map(lost).into()
}

/// Two network namespaces and a veth between them; this thread is in the first.
pub(crate) struct Veth {
    here: std::fs::File,
    there: std::fs::File,
}

const NAME: &str = "st26bench";
const HERE: &str = "10.26.0.1";
const THERE: &str = "10.26.0.2";

impl Drop for Veth {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", NAME]).status();
    }
}

impl Veth {
    pub(crate) fn new() -> Option<Self> {
        // SAFETY: only this thread leaves the network that it was in.
        if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
            return None;
        }
        let set_up = format!(
            "ip netns del {NAME} 2>/dev/null; set -e; ip netns add {NAME}; ip link add st26v type veth peer name st26w netns {NAME}
             ip addr add {HERE}/24 dev st26v; ip link set st26v up
             ip -n {NAME} addr add {THERE}/24 dev st26w; ip -n {NAME} link set st26w up
             ethtool -K st26v gro on; ip netns exec {NAME} ethtool -K st26w gro on"
        );
        let done = Command::new("sh").args(["-c", &set_up]).status().ok()?;
        let open = |path: &str| std::fs::File::open(path).ok();
        let here = open("/proc/thread-self/ns/net").filter(|_| done.success())?;
        Some(Self { here, there: open(&format!("/run/netns/{NAME}"))? })
    }

    /// A socket on the other side.
    fn there(&self) -> UdpSocket {
        enter(&self.there);
        let socket = UdpSocket::bind((THERE, 0)).unwrap();
        enter(&self.here);
        socket
    }

    fn here() -> UdpSocket {
        UdpSocket::bind((HERE, 0)).unwrap()
    }
}

fn enter(namespace: &std::fs::File) {
    // SAFETY: only this thread changes its network.
    let entered = unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) };
    assert_eq!(entered, 0, "{}", io::Error::last_os_error());
}

const WIDTH: usize = 64;

/// Headers for 64 datagrams of given lengths, to or from one connected socket.
struct Headers {
    headers: Vec<libc::mmsghdr>,
    _parts: Vec<libc::iovec>,
    _bytes: Vec<u8>,
}

impl Headers {
    fn new(lengths: impl Iterator<Item = usize>, room: usize) -> Self {
        let mut bytes = vec![b'x'; WIDTH * room];
        let place =
            |(part, length): (&mut [u8], usize)| libc::iovec { iov_base: part.as_mut_ptr().cast(), iov_len: length };
        let mut parts: Vec<_> = bytes.chunks_mut(room).zip(lengths).map(place).collect();
        let header = |part: &mut libc::iovec| {
            // SAFETY: all zeros is an empty header.
            let mut header: libc::mmsghdr = unsafe { mem::zeroed() };
            header.msg_hdr.msg_iov = &raw mut *part;
            header.msg_hdr.msg_iovlen = 1;
            header
        };
        let headers = parts.iter_mut().map(header).collect();
        Self { headers, _parts: parts, _bytes: bytes }
    }

    fn send(&mut self, socket: &UdpSocket) -> usize {
        let (at, count) = (self.headers.as_mut_ptr(), self.headers.len() as u32);
        // SAFETY: the headers point to memory that lives as long as they do.
        let sent = unsafe { libc::sendmmsg(socket.as_raw_fd(), at, count, libc::MSG_DONTWAIT) };
        usize::try_from(sent).unwrap_or(0)
    }

    /// Bytes of what came, and how many headers it took.
    fn receive(&mut self, socket: &UdpSocket) -> usize {
        let (at, count) = (self.headers.as_mut_ptr(), self.headers.len() as u32);
        // SAFETY: as above.
        let came = unsafe { libc::recvmmsg(socket.as_raw_fd(), at, count, libc::MSG_DONTWAIT, std::ptr::null_mut()) };
        let came = usize::try_from(came).unwrap_or(0);
        self.headers[..came].iter().map(|header| header.msg_len as usize).sum()
    }
}

/// Sends 64 and receives them, with and without UDP GRO; of one length, and of such as SIP has.
pub(crate) fn receive_offload(veth: &Veth) -> Vec<Variant<'_>> {
    let mixed = |n: usize| 400 + n * 37 % 25;
    let variant = |name: &str, offload: bool, length: fn(usize) -> usize| -> Variant<'_> {
        let (sender, receiver) = (Veth::here(), veth.there());
        sender.connect(receiver.local_addr().unwrap()).unwrap();
        receiver.connect(sender.local_addr().unwrap()).unwrap();
        set(&receiver, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, 8 << 20);
        if offload {
            set(&receiver, libc::SOL_UDP, libc::UDP_GRO, 1);
        }
        let mut out = Headers::new((0..WIDTH).map(length), 512);
        let mut inward = Headers::new(std::iter::repeat_n(65_535, WIDTH), 65_536);
        let total: usize = (0..WIDTH).map(length).sum();
        let run = move || {
            const TURNS: usize = 512;
            let begun = cpu_ns();
            for _ in 0..TURNS {
                assert_eq!(out.send(&sender), WIDTH);
                let until = Instant::now() + Duration::from_secs(5);
                let mut came = 0;
                while came < total {
                    came += inward.receive(&receiver);
                    assert!(Instant::now() < until, "{came} of {total} bytes came");
                }
            }
            vec![(cpu_ns() - begun) as f64 / (TURNS * WIDTH) as f64]
        };
        (name.to_owned(), Box::new(run))
    };
    vec![
        variant("off, equal lengths", false, |_| 400),
        variant("on, equal lengths", true, |_| 400),
        variant("off, lengths of 400 to 424", false, mixed),
        variant("on, lengths of 400 to 424", true, mixed),
    ]
}

/// A datagram there and back, the echo busy-polling for so many microseconds, or asleep.
pub(crate) fn busy_poll(veth: &Veth) -> Vec<Variant<'_>> {
    let variant = |micros: i32| -> Variant<'_> {
        let name = if micros == 0 { "asleep".to_owned() } else { format!("SO_BUSY_POLL {micros} us") };
        (name, Box::new(move || echoed(veth, micros)))
    };
    [0, 50, 200].map(variant).into()
}

fn echoed(veth: &Veth, micros: i32) -> Vec<f64> {
    const TRIPS: u64 = 4_000;
    let (client, echo) = (Veth::here(), veth.there());
    let to: SocketAddr = echo.local_addr().unwrap();
    client.connect(to).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    echo.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    if micros > 0 {
        set(&echo, libc::SOL_SOCKET, libc::SO_BUSY_POLL, micros);
    }
    let stop = Arc::new(AtomicBool::new(false));
    let spent = Arc::new(AtomicU64::new(0));
    let (stopped, cpu) = (stop.clone(), spent.clone());
    let other = core_affinity::get_core_ids().unwrap_or_default().get(1).copied();
    let thread = std::thread::spawn(move || {
        other.map(core_affinity::set_for_current);
        let mut buffer = [0; 512];
        let begun = cpu_ns();
        while !stopped.load(Ordering::Acquire) {
            if let Ok((length, from)) = echo.recv_from(&mut buffer) {
                echo.send_to(&buffer[..length], from).unwrap();
            }
        }
        cpu.store(cpu_ns() - begun, Ordering::Release);
    });
    let mut buffer = [0; 512];
    let begun = Instant::now();
    for _ in 0..TRIPS {
        client.send(&[b'x'; 400]).unwrap();
        client.recv(&mut buffer).unwrap();
    }
    let wall = begun.elapsed();
    stop.store(true, Ordering::Release);
    client.send(b"end").unwrap();
    thread.join().unwrap();
    vec![wall.as_nanos() as f64 / TRIPS as f64, spent.load(Ordering::Acquire) as f64 / TRIPS as f64]
}
