//! The balancer as a process: started from its own command line, told by signals, read by its log and counters.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::TempDir;
use super::http::{Admin, DEFAULT_ADMIN};
use super::namespace::Place;
use super::process::{Output, Process};
use super::spec::Spec;
use super::sys::Signal;

const LIMIT: Duration = Duration::from_secs(10);

/// Counter lines `sipring_NAME{labels} VALUE` by what stands before the value.
pub(crate) type Counters = BTreeMap<String, u64>;

pub(crate) struct Balancer {
    dir: TempDir,
    place: Place,
    process: Option<Process>,
}

/// The binary under test: `SIPRING_BIN`, else the one cargo built beside an integration test.
pub(crate) fn binary() -> PathBuf {
    std::env::var_os("SIPRING_BIN")
        .or_else(|| option_env!("CARGO_BIN_EXE_sipring").map(Into::into))
        .map(PathBuf::from)
        .unwrap_or_else(|| panic!("set SIPRING_BIN to the sipring binary (tests/prove does)"))
}

impl Balancer {
    /// Writes the files and waits until it serves.
    pub(crate) fn start(place: &Place, spec: &Spec) -> Self {
        let mut balancer = Self { dir: TempDir::new("balancer"), place: place.clone(), process: None };
        balancer.start_again(spec);
        balancer
    }

    /// Starts it anew in the same directory, with the same cluster secret.
    pub(crate) fn start_again(&mut self, spec: &Spec) {
        self.process = None;
        self.write(&spec.sipring_toml());
        let cpus = self.dir.path().join("cpus.toml");
        std::fs::write(&cpus, spec.cpus_toml()).unwrap_or_else(|e| panic!("{}: {e}", cpus.display()));
        let mut command = self.place.command(binary());
        command.arg("run").arg("-c").arg(self.config()).arg("-t").arg(cpus).env("NO_COLOR", "1");
        let mut process = Process::start("sipring", &mut command, false);
        let says = |process: &Process| {
            let word = |line: &str| ["event=ready ", "\"event\":\"ready\""].iter().any(|event| line.contains(event));
            let ready = |(from, line): &(Output, String)| *from == Output::Err && word(line);
            process.lines(0).into_iter().find(ready).map(|(_, line)| line)
        };
        super::wait_until(LIMIT, || process.ended().is_some() || says(&process).is_some());
        let Some(ready) = says(&process) else { panic!("sipring did not say that it is ready; {}", process.said()) };
        let wanted = spec.datapath.replace("auto", "");
        let told = [format!("datapath={wanted}"), format!("\"datapath\":\"{wanted}")];
        assert!(told.iter().any(|told| ready.contains(told)), "over {}, not {ready}", spec.datapath);
        self.process = Some(process);
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.dir.path().join("sipring.toml")
    }

    /// Its admin side, at the address that it has by default.
    pub(crate) fn admin(&self) -> Admin {
        Admin::new(&self.place, DEFAULT_ADMIN)
    }

    /// A command of sipring beside it, with its config: what it said, and its exit code.
    pub(crate) fn command(&self, arguments: &[&str]) -> (i32, String, String) {
        let mut command = self.place.command(binary());
        let output = command.args(arguments).current_dir(self.dir.path()).output();
        let output = output.unwrap_or_else(|e| panic!("sipring {arguments:?}: {e}"));
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
    }

    /// Replaces the config file, by rename, as a careful operator does.
    pub(crate) fn write(&self, text: &str) {
        let new = self.dir.path().join("sipring.toml.new");
        std::fs::write(&new, text).unwrap_or_else(|e| panic!("{}: {e}", new.display()));
        std::fs::rename(&new, self.config()).unwrap_or_else(|e| panic!("{}: {e}", new.display()));
    }

    pub(crate) fn process(&mut self) -> &mut Process {
        self.process.as_mut().unwrap_or_else(|| panic!("sipring is not running"))
    }

    /// kill -9: nothing is said, nothing is saved.
    pub(crate) fn kill(&mut self) {
        self.process().signal(Signal::Kill);
        assert!(self.process().wait(LIMIT).is_some(), "sipring outlived kill -9");
        self.process = None;
    }

    /// Writes `text` as the config, sends SIGHUP, and returns the log line that tells what became of it.
    pub(crate) fn reload_text(&mut self, text: &str) -> String {
        self.write(text);
        let process = self.process();
        let mark = process.mark();
        process.signal(Signal::Hangup);
        let told = process.wait_line(mark, LIMIT, |output, line| {
            let line = line.to_lowercase();
            output == Output::Err && (line.contains("reload") || line.contains("refused"))
        });
        let Some((_, line)) = told else { panic!("no log line tells of the reload; {}", process.said()) };
        line
    }

    /// A reload that must be taken.
    pub(crate) fn reload(&mut self, spec: &Spec) {
        let line = self.reload_text(&spec.sipring_toml());
        assert!(!line.to_lowercase().contains("refused"), "the reload was refused: {line}");
    }

    /// All counters as they are now: what is printed between one SIGUSR1 and the next. Both printings are
    /// read to their ends, so that the tail of the second is not taken for the head of a later one.
    pub(crate) fn counters(&mut self) -> Counters {
        let process = self.process();
        let mark = process.mark();
        process.signal(Signal::User1);
        let first = process.wait_line(mark, LIMIT, |output, line| output == Output::Out && counter(line).is_some());
        let Some((from, first)) = first else { panic!("no counters on SIGUSR1; {}", process.said()) };
        let name = counter(&first).map(|(name, _)| name);
        process.signal(Signal::User1);
        let again = process.wait_line(from, LIMIT, |output, line| {
            output == Output::Out && counter(line).map(|(name, _)| name) == name
        });
        let Some((to, _)) = again else { panic!("no counters on the second SIGUSR1; {}", process.said()) };
        let printed: Vec<_> = process.lines(mark).into_iter().take(to - 1 - mark).collect();
        let name_of = |line: &str| line.rsplit_once(' ').map(|(name, _)| name.to_owned());
        let last = printed.iter().rev().find(|(output, _)| *output == Output::Out).and_then(|(_, line)| name_of(line));
        let end = process.wait_line(to, LIMIT, |output, line| output == Output::Out && name_of(line) == last);
        assert!(end.is_some(), "the second printing has no end; {}", process.said());
        counters(printed.into_iter())
    }

    /// SIGTERM, without waiting for its end.
    pub(crate) fn terminate(&mut self) {
        self.process().signal(Signal::Terminate);
    }

    /// Waits for the end that SIGTERM asked for; the counters it printed last, after a clean exit.
    pub(crate) fn ended(&mut self, limit: Duration) -> Counters {
        let process = self.process();
        let status = process.wait(limit);
        assert!(status.is_some_and(|s| s.success()), "no clean exit within {limit:?} ({status:?}); {}", process.said());
        counters(process.lines(0).into_iter())
    }
}

fn counters(lines: impl Iterator<Item = (Output, String)>) -> Counters {
    lines
        .filter(|(output, _)| *output == Output::Out)
        .filter_map(|(_, line)| counter(&line).map(|(name, value)| (name.to_owned(), value)))
        .collect()
}

fn counter(line: &str) -> Option<(&str, u64)> {
    let (name, value) = line.rsplit_once(' ')?;
    Some((name.strip_prefix("sipring_").map(|_| name)?, value.parse().ok()?))
}

/// The sum of all counters whose name and labels contain every one of `words`.
pub(crate) fn sum(counters: &Counters, words: &[&str]) -> u64 {
    counters.iter().filter(|(name, _)| words.iter().all(|word| name.contains(word))).map(|(_, value)| value).sum()
}
