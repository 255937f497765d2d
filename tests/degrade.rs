//! Where io_uring is forbidden, as in containers, sipring runs without it and says so; or it refuses,
//! if the file insists.
#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, reason = "a test")]
#![expect(unsafe_code, reason = "a seccomp filter, installed between fork and exec")]

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

const SETUP: libc::c_long = libc::SYS_io_uring_setup;
const ENTER: libc::c_long = libc::SYS_io_uring_enter;
const REGISTER: libc::c_long = libc::SYS_io_uring_register;
/// The capability to exceed the limit of locked memory.
const CAP_IPC_LOCK: libc::c_ulong = 14;

fn step(code: u32, jt: u8, jf: u8, k: u32) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt, jf, k }
}

/// Goes on if the word at `place` of what the filter sees is `wanted`, else past so many steps.
fn only(place: u32, wanted: u32, past: u8) -> [libc::sock_filter; 2] {
    let load = step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, place);
    [load, step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, past, wanted)]
}

/// Answers `errno`, or lets the call pass.
fn answer(errno: i32) -> [libc::sock_filter; 2] {
    [libc::SECCOMP_RET_ERRNO | errno as u32, libc::SECCOMP_RET_ALLOW]
        .map(|k| step(libc::BPF_RET | libc::BPF_K, 0, 0, k))
}

/// Lets every system call of this process pass but one, which answers EPERM.
fn forbid(call: libc::c_long) -> std::io::Result<()> {
    // The number of the call is the first word.
    let [load, is_it] = only(0, call as u32, 1);
    let [refuse, pass] = answer(libc::EPERM);
    install(&[load, is_it, refuse, pass])
}

/// As a kernel that does not know UDP GSO.
fn forbid_trains() -> std::io::Result<()> {
    let [load, is_it] = only(0, libc::SYS_setsockopt as u32, 5);
    let [load_level, is_level] = only(24, libc::SOL_UDP as u32, 3);
    let [load_name, is_name] = only(32, libc::UDP_SEGMENT as u32, 1);
    let [refuse, pass] = answer(libc::ENOPROTOOPT);
    install(&[load, is_it, load_level, is_level, load_name, is_name, refuse, pass])
}

fn install(filter: &[libc::sock_filter]) -> std::io::Result<()> {
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
    // SAFETY: plain numbers, and a program that lives as long as the call.
    let installed = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) == 0
    };
    if installed { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

/// What a process is denied.
#[derive(Clone, Copy)]
enum Denied {
    Nothing,
    /// A system call.
    Call(libc::c_long),
    /// UDP GSO.
    Trains,
    /// Memory for rings beyond so many bytes, and the capability to exceed that.
    Memory(u64),
}

fn deny(denied: Denied) -> std::io::Result<()> {
    match denied {
        Denied::Nothing => Ok(()),
        Denied::Call(call) => forbid(call),
        Denied::Trains => forbid_trains(),
        Denied::Memory(bytes) => {
            let limit = libc::rlimit { rlim_cur: bytes, rlim_max: bytes };
            // SAFETY: a limit of this process, and a capability that what it executes will not have.
            let denied = unsafe {
                libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const limit) == 0
                    && libc::prctl(libc::PR_CAPBSET_DROP, CAP_IPC_LOCK, 0, 0, 0) == 0
            };
            if denied { Ok(()) } else { Err(std::io::Error::last_os_error()) }
        }
    }
}

/// Starts `sipring run` with `tuning`, without what is denied; its log up to the line that it is
/// ready by, or all of it and the exit code.
fn start(host: u8, tuning: &str, denied: Denied) -> (Vec<String>, Option<i32>) {
    let pid = std::process::id();
    let dir: PathBuf = std::env::temp_dir().join(format!("sipring-degrade-{pid}-{host}"));
    std::fs::create_dir_all(&dir).unwrap();
    let bind = format!("127.{}.{}.{host}", 192 + (pid >> 8 & 0x1f), pid & 0xff);
    let text = format!(
        "[[listener]]\nname = \"edge\"\nbind = \"{bind}:5060\"\n[[node_side]]\nbind = \"{bind}:5062\"\n\
         ports = \"5070-5073\"\n[[set]]\nname = \"pbx\"\nslots = 1024\n[[set.node]]\nname = \"pbx1\"\n\
         address = \"{bind}:5080\"\n[admin]\nbind = \"off\"\n"
    );
    std::fs::write(dir.join("sipring.toml"), text).unwrap();
    std::fs::write(dir.join("cpus.toml"), tuning).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_sipring"));
    command.args(["run", "-t", "cpus.toml"]).current_dir(&dir).env("NO_COLOR", "1");
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    // SAFETY: system calls alone, on memory of the child's own.
    unsafe { command.pre_exec(move || deny(denied)) };
    let mut child = command.spawn().unwrap();
    let mut log = Vec::new();
    for line in BufReader::new(child.stderr.take().unwrap()).lines() {
        let line = line.unwrap();
        let ready = line.contains(" event=ready ");
        log.push(line);
        if ready {
            kill_process(Pid::from_child(&child), Signal::KILL).unwrap();
        }
    }
    let status = child.wait().unwrap();
    std::fs::remove_dir_all(&dir).unwrap();
    (log, status.code())
}

fn ready(log: &[String]) -> &str {
    log.iter().find(|line| line.contains(" event=ready ")).unwrap_or_else(|| panic!("not ready: {log:#?}"))
}

#[test]
fn where_nothing_is_forbidden_auto_takes_uring_and_the_ready_line_names_it() {
    for (host, tuning) in [(1, ""), (2, "datapath = \"auto\"\n"), (3, "datapath = \"uring\"\nworkers = 2\n")] {
        let (log, _) = start(host, tuning, Denied::Nothing);
        assert!(ready(&log).contains("datapath=uring"), "{log:#?}");
        assert!(!log.iter().any(|line| line.contains("datapath_degraded")), "{log:#?}");
    }
    let (log, _) = start(4, "datapath = \"mmsg\"\n", Denied::Nothing);
    assert!(ready(&log).contains("datapath=mmsg"), "{log:#?}");
    assert!(!log.iter().any(|line| line.contains("datapath_degraded")), "chosen, not degraded: {log:#?}");
}

#[test]
fn where_any_call_of_io_uring_is_forbidden_auto_takes_mmsg_and_one_line_says_why() {
    for (host, call) in [(11, SETUP), (12, ENTER), (13, REGISTER)] {
        let (log, _) = start(host, "datapath = \"auto\"\n", Denied::Call(call));
        assert!(ready(&log).contains("datapath=mmsg"), "{log:#?}");
        let degraded: Vec<_> = log.iter().filter(|line| line.contains("datapath_degraded")).collect();
        let [line] = degraded.as_slice() else { panic!("one line, not {degraded:#?}") };
        assert!(line.contains("io_uring is forbidden to this process"), "{line}");
    }
}

#[test]
fn where_workers_get_less_memory_for_rings_than_they_need_auto_takes_mmsg() {
    let needs = "workers = 4\nbatch = 1024\n";
    // Enough for a try, and for one worker; for none; and for all.
    for (host, bytes, wanted) in [(31, 400 << 10, "mmsg"), (32, 4 << 10, "mmsg"), (33, 4 << 20, "uring")] {
        let (log, _) = start(host, needs, Denied::Memory(bytes));
        assert!(ready(&log).contains(&format!("datapath={wanted}")), "{bytes} bytes: {log:#?}");
        let degraded: Vec<_> = log.iter().filter(|line| line.contains("datapath_degraded")).collect();
        assert_eq!(degraded.len(), usize::from(wanted == "mmsg"), "{log:#?}");
        assert!(degraded.iter().all(|line| line.contains("LimitMEMLOCK")), "{log:#?}");
    }
}

#[test]
fn where_io_uring_is_forbidden_a_file_that_wants_it_is_refused() {
    let (log, code) = start(21, "datapath = \"uring\"\n", Denied::Call(SETUP));
    assert_eq!(code, Some(1), "{log:#?}");
    let said = log.last().unwrap();
    assert!(said.starts_with("`datapath = \"uring\"` cannot be had: io_uring is forbidden to this process"), "{said}");
    assert!(said.ends_with("`auto` takes `mmsg` in its place"), "{said}");
}

#[test]
fn where_the_kernel_has_no_udp_gso_one_line_says_so_and_without_trains_none_does() {
    for (host, datapath) in [(41, "uring"), (42, "mmsg")] {
        let tuning = format!("datapath = \"{datapath}\"\nworkers = 2\n");
        let (log, _) = start(host, &tuning, Denied::Nothing);
        assert!(ready(&log).contains("trains=true"), "{log:#?}");
        let (log, _) = start(host, &tuning, Denied::Trains);
        assert!(ready(&log).contains("trains=false"), "{log:#?}");
        let told: Vec<_> = log.iter().filter(|line| line.contains("event=trains_impossible")).collect();
        let [line] = told.as_slice() else { panic!("one line, not {told:#?}") };
        assert!(line.contains("level=warn") && line.contains("Protocol not available"), "{line}");
        let (log, _) = start(host, &format!("{tuning}trains = false\n"), Denied::Trains);
        assert!(ready(&log).contains("trains=false"), "{log:#?}");
        assert!(!log.iter().any(|line| line.contains("trains_impossible")), "{log:#?}");
    }
}
