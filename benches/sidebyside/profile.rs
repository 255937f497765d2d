//! Where a message's time goes: samples of the cpu clock by perf, told apart by the source file that they fell in.
//!
//! A sample in the program belongs to the innermost of our own source files that was inlined there; what the compiler's
//! library does for a file counts as that file's. Everything of the kernel is one part, with its busiest functions named.

use std::collections::HashMap;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::far::{Flow, Pace};
use crate::harness::TempDir;
use crate::harness::sys::{self, Signal};
use crate::scene::{Scene, Times};
use crate::subject::Subject;

/// Samples a second.
const RATE: &str = "4999";
/// Functions of the kernel that are named.
const NAMED: usize = 12;
/// Parts by what stands in the path of a source file; the first that fits.
const PARTS: [(&str, &str); 9] = [
    ("src/datapath/address.rs", "addresses"),
    ("src/packet/hops.rs", "addresses"),
    ("src/wheel.rs", "timers and clock"),
    ("src/worker/pace.rs", "timers and clock"),
    ("src/sip/", "SIP work"),
    ("src/shard/", "SIP work"),
    ("src/balance/", "SIP work"),
    ("src/", "packets: datapath, worker, pool"),
    ("benches/sidebyside/bare/", "packets: the bare forwarder"),
];
const KERNEL: &str = "kernel";
const CLOCK: &str = "timers and clock";
const LIBRARIES: &str = "libraries";

/// A subject's parts, us a message, and the kernel's busiest functions with their share of all.
pub(crate) struct Profile {
    pub(crate) subject: Subject,
    pub(crate) us: f64,
    pub(crate) parts: Vec<(String, f64)>,
    pub(crate) functions: Vec<(String, f64)>,
}

/// A sample: where it fell, in which function of which file.
struct Sample {
    at: u64,
    function: String,
    file: String,
}

pub(crate) fn take(
    scene: &Scene,
    script: &Path,
    subject: Subject,
    pace: Pace,
    times: Times,
) -> Result<Profile, String> {
    let running = subject.start(scene, script)?;
    let dir = TempDir::new("perf");
    let data = dir.path().join("data");
    let program = fs::read_link(format!("/proc/{}/exe", running.id)).map_err(|error| error.to_string())?;
    let base = base(running.id, &program).ok_or("the program's place in memory is not known")?;
    let mut perf = Command::new("chrt");
    // Before the subject, or it would not get to write; it ends when it is told, or when the subject does.
    perf.args(["-r", "60", "perf", "record", "-q", "-e", "cpu-clock", "-F", RATE, "-o"]).arg(&data);
    perf.args(["-p", &running.id.to_string()]).stdout(Stdio::null());
    let mut recording = perf.stderr(Stdio::null()).spawn().map_err(|error| format!("perf: {error}"))?;
    let row = scene.measure(&running, pace, Flow::Calls, times);
    // While the subject lives: perf that is told nothing looks for the end of a dead one on and on.
    sys::send(recording.id(), false, Signal::Terminate).map_err(|error| error.to_string())?;
    recording.wait().map_err(|error| error.to_string())?;
    scene.end(running);
    let samples = samples(&data)?;
    let own: Vec<u64> =
        samples.iter().filter(|sample| Path::new(&sample.file) == program).map(|sample| sample.at - base).collect();
    let files = files(&program, &own)?;
    let (mut parts, mut functions) = (HashMap::<String, usize>::new(), HashMap::<String, usize>::new());
    for sample in &samples {
        let part = if sample.file.starts_with("[vdso") {
            CLOCK
        } else if sample.file.starts_with('[') {
            *functions.entry(sample.function.clone()).or_default() += 1;
            KERNEL
        } else {
            let files = files.get(&sample.at.wrapping_sub(base)).map(Vec::as_slice).unwrap_or_default();
            part(files)
        };
        *parts.entry(part.to_owned()).or_default() += 1;
    }
    let all = samples.len() as f64;
    let sorted = |counts: HashMap<String, usize>, unit: f64| {
        let mut sorted: Vec<(String, f64)> =
            counts.into_iter().map(|(name, count)| (name, count as f64 / all * unit)).collect();
        sorted.sort_by(|(_, one), (_, other)| other.total_cmp(one));
        sorted
    };
    let mut functions = sorted(functions, 1.0);
    functions.truncate(NAMED);
    Ok(Profile { subject, us: row.us(), parts: sorted(parts, row.us()), functions })
}

/// What a place in the program belongs to, by the files inlined there, innermost first.
fn part(files: &[String]) -> &'static str {
    let of = |file: &String| PARTS.into_iter().find(|(path, _)| file.contains(path) && !file.contains("/rustc/"));
    files.iter().filter(|file| !file.contains("/registry/")).find_map(of).map_or(LIBRARIES, |(_, part)| part)
}

/// Where a program begins in a process's memory.
fn base(id: u32, program: &Path) -> Option<u64> {
    let maps = fs::read_to_string(format!("/proc/{id}/maps")).ok()?;
    let line = maps.lines().find(|line| line.ends_with(&program.display().to_string()))?;
    u64::from_str_radix(line.split('-').next()?, 16).ok()
}

fn samples(data: &Path) -> Result<Vec<Sample>, String> {
    let output = Command::new("perf").arg("script").arg("-i").arg(data).args(["-F", "ip,sym,dso"]).output();
    let text = String::from_utf8_lossy(&output.map_err(|error| format!("perf: {error}"))?.stdout).into_owned();
    let sample = |line: &str| {
        let (at, rest) = line.trim_start().split_once(' ')?;
        let (function, file) = rest.rsplit_once(" (")?;
        let file = file.trim_end().trim_end_matches(')').to_owned();
        Some(Sample { at: u64::from_str_radix(at, 16).ok()?, function: function.to_owned(), file })
    };
    let samples: Vec<Sample> = text.lines().filter_map(sample).collect();
    if samples.is_empty() { Err("perf has no samples".to_owned()) } else { Ok(samples) }
}

/// The source files inlined at each address of a program, innermost first.
fn files(program: &Path, addresses: &[u64]) -> Result<HashMap<u64, Vec<String>>, String> {
    let mut unique = addresses.to_vec();
    unique.sort_unstable();
    unique.dedup();
    let told = |error: std::io::Error| format!("addr2line: {error}");
    let mut command = Command::new("addr2line");
    command.args(["-a", "-i", "-e"]).arg(program).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut reader = command.spawn().map_err(told)?;
    let mut input = reader.stdin.take().ok_or("addr2line takes nothing")?;
    let asked = unique.clone();
    let writer = std::thread::spawn(move || asked.iter().try_for_each(|at| writeln!(input, "{at:#x}")));
    let output = reader.wait_with_output().map_err(told)?;
    let _ = writer.join();
    let (mut files, mut at) = (HashMap::<u64, Vec<String>>::new(), 0);
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        match line.strip_prefix("0x").and_then(|hex| u64::from_str_radix(hex, 16).ok()) {
            Some(address) => at = address,
            None => files.entry(at).or_default().push(line.to_owned()),
        }
    }
    Ok(files)
}
