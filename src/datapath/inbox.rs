//! Receiving by recvmmsg straight into packets.
//!
//! Owns a stock of empty packets and the headers that point into them. Driven by the socket datapath,
//! which says which socket is to be read; what a short receive leaves unused serves the next one.

use std::os::fd::RawFd;

use super::headers::Headers;
use super::{Batch, Counts};
use crate::packet::{Packet, Pool, PortId};

/// Empty packets ready to receive into.
///
/// The header of the packet at place `p` of the stock is the `p`-th from the end, so that the first
/// header of a receive belongs to the packet on top: datagrams come off in order, and the headers of
/// those below stay as they are.
pub(super) struct Inbox {
    pool: &'static Pool,
    stock: Vec<Packet>,
    headers: Headers,
}

impl Inbox {
    pub(super) fn new(pool: &'static Pool, batch: usize) -> Self {
        Self { pool, stock: Vec::with_capacity(batch), headers: Headers::new(batch) }
    }

    /// Takes packets from the pool until the stock is full; how many there are then.
    #[inline]
    pub(super) fn stock_up(&mut self) -> usize {
        while self.stock.len() < self.headers.len() {
            let Some(mut packet) = self.pool.take() else { break };
            let at = self.headers.len() - 1 - self.stock.len();
            self.headers.receive_into(at, packet.room());
            self.stock.push(packet);
        }
        self.stock.len()
    }

    /// Receives at most `asked` datagrams, no more than are in stock; how many came, or the error
    /// number. Those of no use are dropped and counted.
    pub(super) fn receive(
        &mut self,
        fd: RawFd,
        port: PortId,
        asked: usize,
        batch: &mut Batch,
        counts: &mut Counts,
    ) -> Result<usize, i32> {
        let first = self.headers.len() - self.stock.len();
        counts.syscalls += 1;
        // SAFETY: the headers from `first` on belong to the packets in stock, which nobody else
        // holds and which each got their room back when they were put there.
        let came = unsafe { self.headers.recv(fd, first, asked.min(self.stock.len())) }?;
        for at in first..first + came {
            let (Some(packet), Some(told)) = (self.stock.pop(), self.headers.told(at)) else { break };
            // Filled where it stays: a packet just written is slow to move.
            batch.packets.push(packet);
            told.settle(port, batch, counts);
        }
        Ok(came)
    }
}
