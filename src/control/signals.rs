//! The process's signals, as words of control.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// SIGHUP: read the configuration again.
    Reload,
    /// SIGUSR1: print the counters.
    Print,
    /// SIGTERM or SIGINT: drain; the second time: stop.
    End,
}

/// The signals that control answers, or none of them.
pub(super) struct Signals(Option<[(Signal, Asked); 4]>);

impl Signals {
    /// Takes the process's signals if `wanted`; in a process of which sipring is only a part they
    /// are left alone.
    pub(super) fn new(wanted: bool) -> io::Result<Self> {
        if !wanted {
            return Ok(Self(None));
        }
        Ok(Self(Some([
            (signal(SignalKind::hangup())?, Asked::Reload),
            (signal(SignalKind::user_defined1())?, Asked::Print),
            (signal(SignalKind::terminate())?, Asked::End),
            (signal(SignalKind::interrupt())?, Asked::End),
        ])))
    }

    /// The next one.
    pub(super) async fn next(&mut self) -> Asked {
        std::future::poll_fn(|context| {
            for (signal, asked) in self.0.iter_mut().flatten() {
                if signal.poll_recv(context).is_ready() {
                    return std::task::Poll::Ready(*asked);
                }
            }
            std::task::Poll::Pending
        })
        .await
    }
}
