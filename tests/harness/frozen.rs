//! One thread of another process, held still.

#![expect(unsafe_code, reason = "ptrace has no safe wrapper here")]

use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;

/// A thread that stands still until this goes.
pub(crate) struct Frozen {
    release: Option<Sender<()>>,
    holder: Option<JoinHandle<()>>,
}

/// Freezes the thread of this name.
pub(crate) fn thread(process: u32, name: &str) -> Frozen {
    let tasks = std::fs::read_dir(format!("/proc/{process}/task")).unwrap_or_else(|e| panic!("{process}: {e}"));
    let named = |task: &std::path::PathBuf| {
        std::fs::read_to_string(task.join("comm")).is_ok_and(|comm| comm.trim_end() == name)
    };
    let task = tasks.flatten().map(|task| task.path()).find(named).unwrap_or_else(|| panic!("no thread {name}"));
    let id = task.file_name().and_then(|id| id.to_str()?.parse::<i32>().ok()).unwrap_or_else(|| panic!("{task:?}"));
    let (release, released) = channel();
    let (held, is_held) = channel();
    // Only the thread that seized another may let it go.
    let holder = std::thread::spawn(move || {
        ptrace(libc::PTRACE_SEIZE, id);
        ptrace(libc::PTRACE_INTERRUPT, id);
        let mut status = 0;
        // SAFETY: `status` outlives the call.
        let stopped = unsafe { libc::waitpid(id, &raw mut status, libc::__WALL) };
        assert_eq!(stopped, id, "thread {id} did not stop: {}", std::io::Error::last_os_error());
        let _ = held.send(());
        let _ = released.recv();
        ptrace(libc::PTRACE_DETACH, id);
    });
    assert!(is_held.recv().is_ok(), "thread {name} of {process} could not be held");
    Frozen { release: Some(release), holder: Some(holder) }
}

fn ptrace(request: libc::c_uint, id: i32) {
    let none = std::ptr::null_mut::<libc::c_void>();
    // SAFETY: these requests read and write no memory of this process.
    let done = unsafe { libc::ptrace(request, id, none, none) };
    assert_eq!(done, 0, "ptrace {request} of {id}: {}", std::io::Error::last_os_error());
}

impl Drop for Frozen {
    fn drop(&mut self) {
        drop(self.release.take());
        self.holder.take().into_iter().for_each(|holder| drop(holder.join()));
    }
}
