//! The admin side over HTTP, on a thread and runtime of its own.
//!
//! Owns the listening socket and its limits; asks control's loop by letters and reads what workers
//! count. However many clients there are, and however slow, neither control nor a worker waits for
//! one of them.

mod answer;
mod guard;
mod look;
mod routes;
mod sets;

use std::collections::VecDeque;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpStream;
use tokio::sync::{mpsc as letters, oneshot};
use tokio::task::{AbortHandle, JoinSet};

use super::metrics::Kernel;
use super::view::{Sight, View, unix_s};
use super::{Letter, Refusal, Reply, STOPPED};

/// Connections at once; one more ends the oldest.
const CONNECTIONS_MAX: usize = 64;
/// How long a request's head may take.
const HEAD_TIME: Duration = Duration::from_secs(5);
/// How long all of a connection may take: one request and its answer.
const CONNECTION_TIME: Duration = Duration::from_secs(60);
/// Bytes that a request's head may have.
const HEAD_MAX: usize = 16 << 10;
/// Header fields that a request may have.
const FIELDS_MAX: usize = 64;
/// How long control's loop may take to tell what it knows.
const VIEW_TIME: Duration = Duration::from_secs(2);
/// How long to wait after a connection could not be accepted, for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Where the admin side listens, and whom it answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AdminOptions {
    /// Where it listens; none: it is off.
    pub bind: Option<SocketAddr>,
    /// What it asks for; none: nothing.
    pub token: Option<Token>,
}

/// A secret word; never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(Arc<str>);

impl Token {
    /// The token of this word.
    #[must_use]
    pub fn new(word: &str) -> Self {
        Self(word.into())
    }

    /// The word itself, for whoever must present it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Whether `word` is it; takes as long for every wrong word of its length.
    #[must_use]
    pub fn is(&self, word: &[u8]) -> bool {
        let own = self.0.as_bytes();
        let differs = own.iter().zip(word).fold(0, |differs, (own, other)| differs | (own ^ other));
        own.len() == word.len() && std::hint::black_box(differs) == 0
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(..)")
    }
}

/// Takes the port before anything else is started.
pub(super) fn listen(options: &AdminOptions) -> Result<Option<TcpListener>, String> {
    let Some(bind) = options.bind else { return Ok(None) };
    let listener = TcpListener::bind(bind).and_then(|listener| listener.set_nonblocking(true).map(|()| listener));
    listener.map(Some).map_err(|error| {
        format!("admin: cannot listen on {bind}: {error}; another `bind` in [admin], or `bind = \"off\"`, is right")
    })
}

/// What every request is answered from.
pub(super) struct Desk {
    /// Weak: whoever owns control may go, and then control ends.
    pub(super) letters: letters::WeakUnboundedSender<Letter>,
    pub(super) token: Option<Token>,
}

/// The same once there are workers to look at.
struct Office {
    desk: Desk,
    sight: Sight,
    /// When the process began to serve, seconds since 1970.
    started_s: f64,
    kernel: std::sync::Mutex<Kernel>,
}

impl Desk {
    /// Starts the thread. It answers once it has been given sight of the workers, and ends when control has.
    pub(super) fn open(
        self,
        listener: TcpListener,
        seen: oneshot::Receiver<Sight>,
        ended: oneshot::Receiver<()>,
    ) -> Result<JoinHandle<()>, String> {
        let failed = |error| format!("the admin thread cannot be started: {error}");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let body = move || {
            runtime.block_on(async move {
                let Ok(sight) = seen.await else { return };
                let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
                let started_s = unix_s() - sight.origin.elapsed().as_secs_f64();
                let office = Arc::new(Office { desk: self, kernel: Kernel::default().into(), sight, started_s });
                tokio::select! {
                    () = accept(listener, routes::router(office)) => {}
                    _ = ended => {}
                }
            });
        };
        std::thread::Builder::new().name("admin".to_owned()).spawn(body).map_err(failed)
    }
}

impl Office {
    /// What control's loop knows; none if it does not answer.
    async fn view(&self) -> Option<View> {
        let (reply, replied) = oneshot::channel();
        self.desk.letters.upgrade()?.send(Letter::View(reply)).ok()?;
        tokio::time::timeout(VIEW_TIME, replied).await.ok()?.ok()
    }

    /// Asks for a change, and waits until it is in force.
    async fn change(&self, letter: impl FnOnce(Reply) -> Letter) -> Result<(), Refusal> {
        let stopped = || Refusal::Conflict(STOPPED.to_owned());
        let (reply, replied) = oneshot::channel();
        let letters = self.desk.letters.upgrade().ok_or_else(stopped)?;
        letters.send(letter(reply)).map_err(|_| stopped())?;
        drop(letters);
        replied.await.unwrap_or_else(|_| Err(stopped()))
    }

    fn tell(&self, letter: Letter) -> bool {
        self.desk.letters.upgrade().is_some_and(|letters| letters.send(letter).is_ok())
    }
}

async fn accept(listener: tokio::net::TcpListener, router: Router) {
    let mut connections = JoinSet::new();
    let mut open: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    open.retain(|connection| !connection.is_finished());
                    if open.len() >= CONNECTIONS_MAX && let Some(oldest) = open.pop_front() {
                        oldest.abort();
                    }
                    open.push_back(connections.spawn(serve(stream, router.clone())));
                }
                Err(error) => {
                    tracing::debug!(%error, "admin_accept_failed");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            _ = connections.join_next(), if !connections.is_empty() => {}
        }
    }
}

/// One connection: one request and its answer.
async fn serve(stream: TcpStream, router: Router) {
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIME).keep_alive(false);
    builder.max_buf_size(HEAD_MAX).max_headers(FIELDS_MAX);
    let connection = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    // What goes wrong on a connection is the client's business.
    let _ = tokio::time::timeout(CONNECTION_TIME, connection).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_very_token_is_the_token_and_it_is_never_shown() {
        let token = Token::new("0123456789abcdef");
        assert!(token.is(b"0123456789abcdef"));
        for wrong in [&b""[..], b"0123456789abcde", b"0123456789abcdef0", b"0123456789abcdeF", b"1123456789abcdef"] {
            assert!(!token.is(wrong));
        }
        assert_eq!(format!("{token:?}"), "Token(..)");
    }
}
