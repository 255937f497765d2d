//! What a far side receives and sends by.
//!
//! Owns nothing. Sockets and AF_XDP are doors; what drives them knows neither.

use std::net::SocketAddr;

/// A datagram that came.
#[derive(Clone, Copy)]
pub(crate) struct Came<'a> {
    /// Which of the door's addresses it came to.
    pub(crate) at: usize,
    pub(crate) from: SocketAddr,
    pub(crate) bytes: &'a [u8],
}

/// Where datagrams come in and leave, at one address or many. Used from one thread.
pub(crate) trait Door {
    /// Takes what is there, without waiting; how many datagrams that are.
    fn receive(&mut self) -> usize;

    /// How many the kernel joined those into.
    fn trains(&self) -> u64;

    /// One of those, until the next are taken.
    fn came(&self, nth: usize) -> Came<'_>;

    /// Has a datagram sent by the next flush.
    fn post(&mut self, at: usize, to: SocketAddr, datagram: &[u8]);

    /// Sends what was posted.
    fn flush(&mut self);
}
