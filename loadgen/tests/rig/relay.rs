//! A relay between a caller and whatever it calls, which does to each datagram what it is told.

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// Which way a datagram goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// From the caller.
    There,
    /// To the caller.
    Back,
}

/// A datagram and where else than usual it goes.
pub(crate) type Datagram = (Option<SocketAddr>, Vec<u8>);

/// Turns a datagram into what leaves in its place.
pub(crate) type Deed = dyn FnMut(Way, &str) -> Vec<Datagram> + Send;

pub(crate) struct Relay {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Relay {
    /// Between callers, who send to `at`, and `to`.
    pub(crate) fn start(
        at: SocketAddr,
        to: SocketAddr,
        deed: impl FnMut(Way, &str) -> Vec<Datagram> + Send + 'static,
    ) -> Self {
        let front = Arc::new(UdpSocket::bind(at).unwrap());
        let back = Arc::new(UdpSocket::bind((at.ip(), 0)).unwrap());
        let deed: Arc<Mutex<Box<Deed>>> = Arc::new(Mutex::new(Box::new(deed)));
        let caller: Arc<Mutex<Option<SocketAddr>>> = Arc::default();
        let stop: Arc<AtomicBool> = Arc::default();
        let threads = [Way::There, Way::Back].map(|way| {
            let (front, back, deed, caller, stop) =
                (front.clone(), back.clone(), deed.clone(), caller.clone(), stop.clone());
            std::thread::spawn(move || {
                let (from, out) = if way == Way::There { (&front, &back) } else { (&back, &front) };
                from.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
                let mut room = [0; 65_536];
                while !stop.load(Ordering::Relaxed) {
                    let Ok((len, source)) = from.recv_from(&mut room) else { continue };
                    if way == Way::There {
                        *caller.lock().unwrap() = Some(source);
                    }
                    let text = std::str::from_utf8(&room[..len]).unwrap();
                    for (elsewhere, bytes) in deed.lock().unwrap()(way, text) {
                        let usual = if way == Way::There { Some(to) } else { *caller.lock().unwrap() };
                        out.send_to(&bytes, elsewhere.or(usual).unwrap()).unwrap();
                    }
                }
            })
        });
        Self { stop, threads: threads.into() }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.drain(..).for_each(|thread| thread.join().unwrap());
    }
}

/// The datagram as it came.
pub(crate) fn pass(text: &str) -> Vec<Datagram> {
    vec![(None, text.as_bytes().to_vec())]
}
