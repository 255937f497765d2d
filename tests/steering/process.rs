//! The same through whole balancers with two workers: inside this process, and in ones of their own
//! that may not load programs.

use std::io::{BufRead, BufReader, Read};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};
use sipring::config::Config;
use sipring::datapath::Steered;
use sipring::serve::{self, Running};
use sipring::shard::Tally;

use super::{PATIENCE, branch, host, request, via};

/// Files of a balancer, and the node behind it.
struct Site {
    dir: PathBuf,
    edge: SocketAddr,
    node_side: SocketAddr,
    node: UdpSocket,
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// Tests that run side by side look for ports in stretches of their own.
static SITES: AtomicUsize = AtomicUsize::new(0);
const STRETCH: usize = 64;

/// So many ports of an address, one after the other, that nobody holds.
fn free_ports(host: IpAddr, count: u16) -> u16 {
    let stretch = SITES.fetch_add(1, Ordering::Relaxed) * STRETCH;
    let mut tries = (20_000..60_000).step_by(usize::from(count)).skip(std::process::id() as usize % 1_000 + stretch);
    let free = |first: &u16| (*first..first + count).all(|port| UdpSocket::bind((host, port)).is_ok());
    tries.find(free).unwrap()
}

impl Site {
    fn new(host: IpAddr, steering: &str) -> Self {
        let first = free_ports(host, 8);
        let [edge, node_side] = [0, 1].map(|more| SocketAddr::new(host, first + more));
        let node = UdpSocket::bind((host, 0)).unwrap();
        node.set_read_timeout(Some(PATIENCE)).unwrap();
        let dir = std::env::temp_dir().join(format!("sipring-steering-{}-{first}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let text = format!(
            "[[listener]]\nname = \"trunk\"\nbind = \"{edge}\"\n[[node_side]]\nbind = \"{node_side}\"\nports = \"{}-{}\"\n\
             [[set]]\nname = \"pbx\"\nslots = 1024\n[[set.node]]\nname = \"n\"\naddress = \"{}\"\n\
             [health]\nprobe = false\n[admin]\nbind = \"off\"\n",
            first + 2,
            first + 5,
            node.local_addr().unwrap()
        );
        std::fs::write(dir.join("sipring.toml"), text).unwrap();
        let tuning = format!("workers = 2\npackets = 1024\nreceive_buffer = 1048576\nsteering = \"{steering}\"\n");
        std::fs::write(dir.join("cpus.toml"), tuning).unwrap();
        Self { dir, edge, node_side, node }
    }

    fn start(&self) -> Running {
        let file = |name| self.dir.join(name);
        serve::start(Config::read(&file("sipring.toml"), Some(&file("cpus.toml"))).unwrap()).unwrap()
    }

    /// Starts one in a process of its own, after `before` in it.
    fn spawn(&self, before: fn() -> std::io::Result<()>) -> Balancer {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sipring"));
        command.args(["run", "-t", "cpus.toml"]).current_dir(&self.dir);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        // SAFETY: what is called between fork and exec makes system calls only.
        unsafe { command.pre_exec(before) };
        let mut child = command.spawn().unwrap();
        let lines = lines([
            Box::new(child.stdout.take().unwrap()) as Box<dyn Read + Send>,
            Box::new(child.stderr.take().unwrap()),
        ]);
        Balancer { child, lines }
    }

    fn client(&self) -> UdpSocket {
        let client = UdpSocket::bind((self.edge.ip(), 0)).unwrap();
        client.connect(self.edge).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client
    }

    /// Sends a request of every call from one socket, and waits until the node has all; their Vias.
    fn pass(&self, client: &UdpSocket, method: &str, calls: std::ops::Range<usize>) -> Vec<String> {
        let mut vias = vec![String::new(); calls.end];
        let mut buffer = [0; 2_048];
        for burst in calls.collect::<Vec<_>>().chunks(32) {
            for call in burst {
                client.send(&request(method, &via(&branch(*call)), *call)).unwrap();
            }
            for _ in burst {
                let length = self.node.recv(&mut buffer).unwrap();
                let text = String::from_utf8_lossy(&buffer[..length]);
                let value = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
                let call: usize = value("Call-ID: ").split('-').next().unwrap().parse().unwrap();
                // Behind what identifies the transaction comes filler, as the datagrams that it rides with need.
                vias[call] = value("Via: ").split(";rport").next().unwrap().to_owned();
            }
        }
        vias
    }
}

/// A balancer in a process of its own.
struct Balancer {
    child: Child,
    lines: Receiver<String>,
}

impl Drop for Balancer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lines(from: [Box<dyn Read + Send>; 2]) -> Receiver<String> {
    let (sender, receiver) = channel();
    for from in from {
        let sender = sender.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(from).lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
    }
    receiver
}

impl Balancer {
    /// The next line that holds `text`.
    fn line(&self, text: &str) -> String {
        let until = Instant::now() + PATIENCE;
        let mut seen = String::new();
        loop {
            match self.lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(line) if line.contains(text) => return line,
                Ok(line) => seen = seen + "\n" + &line,
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => panic!("no `{text}` in{seen}"),
            }
        }
    }

    /// The sum over the workers of one counter, printed anew.
    fn total(&self, counter: &str) -> u64 {
        kill_process(Pid::from_child(&self.child), Signal::USR1).unwrap();
        self.line(&format!("total {counter} ")).rsplit(' ').next().unwrap().parse().unwrap()
    }
}

/// Waits until the workers have counted `count` messages received, and tells how many each has.
fn received(running: &Running, count: u64) -> Vec<u64> {
    let begun = Instant::now();
    loop {
        let each: Vec<u64> = running.counters().iter().map(|figures| figures.counters.books()[0]).collect();
        if each.iter().sum::<u64>() >= count {
            return each;
        }
        assert!(begun.elapsed() < PATIENCE, "{each:?} of {count}");
        std::thread::yield_now();
    }
}

fn astray(running: &Running) -> u64 {
    running.counters().iter().map(|figures| figures.counters.tallied(Tally::NotOwner)).sum()
}

#[test]
fn one_trunk_is_shared_by_two_workers_and_no_transaction_is_split() {
    const CALLS: usize = 2_000;
    for (steering, way) in [("auto", Steered::Ebpf), ("ebpf", Steered::Ebpf), ("cbpf", Steered::Cbpf)] {
        for host in [host(), "::1".parse().unwrap()] {
            let site = Site::new(host, steering);
            let running = site.start();
            assert_eq!(running.steered(), way);
            let client = site.client();
            let vias = site.pass(&client, "INVITE", 0..CALLS);
            assert!(site.pass(&client, "INVITE", 0..CALLS) == vias, "retransmissions have the same Via");
            assert!(site.pass(&client, "CANCEL", 0..CALLS) == vias);
            assert!(site.pass(&client, "ACK", 0..CALLS) == vias);
            let each = received(&running, 4 * CALLS as u64);
            let share = each[0] * 100 / each.iter().sum::<u64>();
            assert!((40..=60).contains(&share), "{each:?}");
            assert_eq!(astray(&running), 0, "of {each:?}");
            running.stop();
            assert!(running.wait());
        }
    }
}

#[test]
fn a_response_from_the_edge_comes_to_the_worker_that_forwarded_the_request() {
    const CALLS: usize = 400;
    for steering in ["ebpf", "cbpf"] {
        let site = Site::new(host(), steering);
        let running = site.start();
        let client = site.client();
        site.node.connect(site.node_side).unwrap();
        let mut buffer = [0; 2_048];
        for call in 0..CALLS {
            let text = String::from_utf8(request("INVITE", &via(&branch(call)), call)).unwrap();
            let text =
                text.replace("sip:bob@example.net SIP", &format!("sip:bob@{} SIP", client.local_addr().unwrap()));
            site.node.send(text.as_bytes()).unwrap();
            let length = client.recv(&mut buffer).unwrap();
            let (_, head) = std::str::from_utf8(&buffer[..length]).unwrap().split_once("\r\n").unwrap();
            client.send(format!("SIP/2.0 486 Busy Here\r\n{head}").as_bytes()).unwrap();
            let length = site.node.recv(&mut buffer).unwrap();
            assert!(buffer[..length].starts_with(b"SIP/2.0 486"));
        }
        let each = received(&running, 2 * CALLS as u64);
        assert!((40..=60).contains(&(each[0] * 100 / each.iter().sum::<u64>())), "{each:?}");
        assert_eq!(astray(&running), 0, "of {each:?}");
        running.stop();
        assert!(running.wait());
    }
}

#[test]
fn without_steering_the_kernel_gives_a_trunk_to_one_worker_and_half_of_it_is_counted_as_astray() {
    let site = Site::new(host(), "tuple");
    let running = site.start();
    assert_eq!(running.steered(), Steered::Tuple);
    let client = site.client();
    site.pass(&client, "INVITE", 0..1_000);
    let each = received(&running, 1_000);
    assert!(each.contains(&0), "{each:?}");
    assert!((400..600).contains(&astray(&running)), "{}", astray(&running));
    running.stop();
    assert!(running.wait());
}

/// Loses the capability to load programs: CAP_BPF, and CAP_SYS_ADMIN that stands in for it.
fn without_capability() -> std::io::Result<()> {
    for capability in [39, 21] {
        // SAFETY: the call takes numbers only.
        if unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) } != 0 {
            return Err(std::io::Error::last_os_error());
        }
    }
    Ok(())
}

/// From here on bpf(2) is not there, as where a container's seccomp profile hides it; with `classic`,
/// classic programs are refused too.
fn forbid(classic: bool) -> std::io::Result<()> {
    let filter = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let refuse = |errno: i32| filter(0x06, 0, 0, libc::SECCOMP_RET_ERRNO | errno as u32);
    let option = if classic { libc::SO_ATTACH_REUSEPORT_CBPF } else { -1 };
    let mut steps = [
        filter(0x20, 0, 0, 0),
        filter(0x15, 3, 0, libc::SYS_bpf as u32),
        filter(0x15, 0, 3, libc::SYS_setsockopt as u32),
        // The third argument: the option.
        filter(0x20, 0, 0, 32),
        filter(0x15, 2, 1, option as u32),
        refuse(libc::ENOSYS),
        filter(0x06, 0, 0, libc::SECCOMP_RET_ALLOW),
        refuse(libc::EPERM),
    ];
    let program = libc::sock_fprog { len: steps.len() as u16, filter: steps.as_mut_ptr() };
    // SAFETY: the program is alive, and the kernel copies it.
    let done = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) == 0
    };
    if done { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

/// What the log says is in force, and how many of 400 messages of one trunk came to another worker.
fn of_child(steering: &str, before: fn() -> std::io::Result<()>) -> (String, u64) {
    let site = Site::new(host(), steering);
    let balancer = site.spawn(before);
    let ready = balancer.line(" event=ready ");
    let way = ready.split("steering=").nth(1).and_then(|rest| rest.split(' ').next()).unwrap().to_owned();
    site.pass(&site.client(), "INVITE", 0..400);
    (way, balancer.total("sipring_tally{kind=\"not_owner\"}"))
}

#[test]
fn a_process_that_may_load_a_program_says_so() {
    assert_eq!(of_child("auto", || Ok(())), ("ebpf".to_owned(), 0));
}

#[test]
fn without_the_capability_the_classic_program_takes_over() {
    assert_eq!(of_child("auto", without_capability), ("cbpf".to_owned(), 0));
}

#[test]
fn where_bpf_is_hidden_the_classic_program_takes_over() {
    assert_eq!(of_child("auto", || forbid(false)), ("cbpf".to_owned(), 0));
}

#[test]
fn where_both_programs_are_refused_the_kernel_chooses_and_all_is_served() {
    let (way, astray) = of_child("auto", || forbid(true));
    assert_eq!(way, "tuple");
    assert!((120..280).contains(&astray), "{astray} of 400 came to a worker that does not own them");
}

#[test]
fn a_program_that_is_wanted_by_name_and_refused_ends_the_start() {
    let site = Site::new(host(), "ebpf");
    let mut balancer = site.spawn(without_capability);
    let line = balancer.line("steering by ebpf");
    assert!(line.contains("Operation not permitted") && line.contains("CAP_BPF"), "{line}");
    assert_eq!(balancer.child.wait().unwrap().code(), Some(1));
}
