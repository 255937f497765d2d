//! Answering sides of tests: a run of the load generator, or a bare server of OPTIONS.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use sipring_load::crew::{self, Running};
use sipring_load::plan::Plan;
use sipring_load::report::Report;

/// Answering nodes in a run of their own.
pub(crate) struct Answering(Running);

impl Answering {
    pub(crate) fn start(at: &[SocketAddr], plan: Plan) -> Self {
        Self(crew::start(&Plan { answer_at: at.to_vec(), ..plan }).unwrap())
    }

    pub(crate) fn stop(self) -> Report {
        self.0.stop();
        self.0.wait().unwrap()
    }
}

/// Answers requests with what `answer` makes of them, one after the other.
pub(crate) struct Server {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub(crate) fn start(at: SocketAddr, mut answer: impl FnMut(&str) -> Option<String> + Send + 'static) -> Self {
        let socket = UdpSocket::bind(at).unwrap_or_else(|error| panic!("{at}: {error}"));
        socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let stop: Arc<AtomicBool> = Arc::default();
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let mut room = [0; 65_536];
            while !stopped.load(Ordering::Relaxed) {
                let Ok((len, source)) = socket.recv_from(&mut room) else { continue };
                if let Some(response) = answer(std::str::from_utf8(&room[..len]).unwrap()) {
                    socket.send_to(response.as_bytes(), source).unwrap();
                }
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
    }
}

/// A response with what a request has that it must copy, and further header lines.
pub(crate) fn respond(request: &str, status: &str, extra: &str) -> String {
    let mut response = format!("SIP/2.0 {status}\r\n");
    for line in request.split("\r\n").skip(1).take_while(|line| !line.is_empty()) {
        let name = line.split(':').next().unwrap();
        match name {
            "Via" | "From" | "Call-ID" | "CSeq" => response += &format!("{line}\r\n"),
            "To" if !line.contains("tag=") => response += &format!("{line};tag=server\r\n"),
            "To" => response += &format!("{line}\r\n"),
            _ => {}
        }
    }
    format!("{response}{extra}Content-Length: 0\r\n\r\n")
}
