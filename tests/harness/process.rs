//! A child process whose lines can be waited for and which dies with its owner.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::sys::{self, Signal};

/// Which of its two outputs a line came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Output {
    Out,
    Err,
}

#[derive(Default)]
struct Lines {
    seen: Mutex<Vec<(Output, String)>>,
    grown: Condvar,
}

pub(crate) struct Process {
    name: String,
    child: Child,
    group: bool,
    lines: Arc<Lines>,
    readers: Vec<JoinHandle<()>>,
    status: Option<ExitStatus>,
}

impl Process {
    /// Starts `command`; `group`: it leads a process group, and signals go to all of that.
    pub(crate) fn start(name: &str, command: &mut Command, group: bool) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        if group {
            std::os::unix::process::CommandExt::process_group(command, 0);
        }
        let mut child = command.spawn().unwrap_or_else(|e| {
            panic!(
                "cannot start {name} ({}): {e}; tests/run installs what the tests need",
                command.get_program().display()
            )
        });
        let lines = Arc::new(Lines::default());
        let mut readers = Vec::new();
        if let Some(out) = child.stdout.take() {
            readers.push(read(out, Output::Out, Arc::clone(&lines)));
        }
        if let Some(err) = child.stderr.take() {
            readers.push(read(err, Output::Err, Arc::clone(&lines)));
        }
        Self { name: name.to_owned(), child, group, lines, readers, status: None }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        sys::send(self.id(), self.group, signal).unwrap_or_else(|e| panic!("cannot signal {}: {e}", self.name));
    }

    /// How many lines there are: the place to wait from for lines to come.
    pub(crate) fn mark(&self) -> usize {
        self.lines.seen.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// The lines from `mark` on.
    pub(crate) fn lines(&self, mark: usize) -> Vec<(Output, String)> {
        let seen = self.lines.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.get(mark..).unwrap_or_default().to_vec()
    }

    /// The first line from `mark` on that `wanted` takes, and the place behind it.
    pub(crate) fn wait_line(
        &self,
        mark: usize,
        limit: Duration,
        wanted: impl Fn(Output, &str) -> bool,
    ) -> Option<(usize, String)> {
        let end = Instant::now() + limit;
        let mut next = mark;
        let mut seen = self.lines.seen.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            while let Some((output, line)) = seen.get(next) {
                next += 1;
                if wanted(*output, line) {
                    return Some((next, line.clone()));
                }
            }
            let left = end.checked_duration_since(Instant::now())?;
            seen = self.lines.grown.wait_timeout(seen, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Its exit status once it has ended, its lines complete; None while it runs.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        if self.status.is_none() {
            self.status = self.child.try_wait().unwrap_or_else(|e| panic!("cannot wait for {}: {e}", self.name));
            if self.status.is_some() {
                self.readers.drain(..).for_each(|reader| drop(reader.join()));
            }
        }
        self.status
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        super::wait_until(limit, || self.ended().is_some());
        self.status
    }

    /// Everything it said, for a failure's message.
    pub(crate) fn said(&self) -> String {
        let lines = self.lines(0);
        let skipped = lines.len().saturating_sub(60);
        let tail: Vec<String> = lines.into_iter().skip(skipped).map(|(_, line)| format!("  {line}")).collect();
        format!("{} said:\n{}", self.name, tail.join("\n"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.ended().is_none() || self.group {
            let _ = sys::send(self.id(), self.group, Signal::Kill);
            let _ = self.child.wait();
        }
        if std::thread::panicking() {
            eprintln!("{}", self.said());
        }
    }
}

fn read(source: impl Read + Send + 'static, output: Output, lines: Arc<Lines>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        for line in BufReader::new(source).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line).trim_end().to_owned();
            lines.seen.lock().unwrap_or_else(PoisonError::into_inner).push((output, line));
            lines.grown.notify_all();
        }
    })
}
