//! Sending: a turn's packets in one submission.
//!
//! Queues a send a packet or train and reads which of them failed; those are sent again by `gate`, one
//! after the other. Called by the datapath in its `send`. Sends say not to wait, and are never linked,
//! drained or handed to other threads: else the kernel would read packets that are long others'.

use io_uring::{opcode, squeue, types};

use super::Uring;
use super::ring::Tag;
use crate::datapath::sockets::SocketId;
use crate::packet::Outgoing;

/// A send that failed.
pub(super) struct Refused {
    pub(super) id: SocketId,
    pub(super) train: u32,
    pub(super) errno: i32,
}

/// What is in the queue.
#[derive(Clone, Copy, Default)]
pub(super) struct Queued {
    /// Sends.
    sends: usize,
    datagrams: u64,
    /// Sends of more than one, and the datagrams in these.
    trains: u64,
    rode: u64,
}

impl Uring {
    /// Queues the run of one socket.
    #[inline]
    pub(super) fn send_run(&mut self, id: SocketId, sends: &[Outgoing]) {
        let Some(open) = self.gate.sockets.at(id) else {
            self.gate.counts.send_errors.other += self.gate.outward.give_up(id);
            return;
        };
        let (fd, connected) = (types::Fd(open.fd()), open.peer.is_some());
        // An error of one peer fails the next datagram, of whatever peer, and those behind it leave
        // before it is sent again. To one peer that refuses it is all the same; a socket for many
        // keeps the order towards each by sending one after the other.
        if !connected && self.gate.outward.is_run(id) {
            return self.gate.send_run(id, 0, sends);
        }
        while let Some(train) = self.gate.outward.pop(id) {
            let count = self.gate.outward.count(train);
            if count > 1 && self.queued.rode + count > self.headers.len() as u64 {
                self.flush(sends);
            }
            let request = if count == 1 {
                self.datagram(fd, train, connected, sends)
            } else {
                self.train(fd, train, connected, sends)
            };
            let Some(request) = request else {
                self.gate.counts.send_errors.other += count;
                continue;
            };
            // SAFETY: bytes, names and headers stay where they are until `flush` has submitted the request,
            // and not waiting, the kernel is done with them when the submission returns.
            let _ = unsafe { self.ring.push(request.flags(squeue::Flags::SKIP_SUCCESS), Tag::Send { id, train }) };
            self.queued.sends += 1;
            self.queued.datagrams += count;
            if count > 1 {
                self.queued.trains += 1;
                self.queued.rode += count;
                self.gate.note_trains(id, 1);
            }
            if self.ring.is_full() || self.queued.sends == self.names.len() {
                self.flush(sends);
            }
        }
    }

    /// The send of a single datagram.
    #[inline]
    fn datagram(&mut self, fd: types::Fd, train: u32, connected: bool, sends: &[Outgoing]) -> Option<squeue::Entry> {
        let Outgoing { packet, egress, .. } = self.gate.outward.first(train, sends)?;
        let bytes = packet.bytes();
        let mut send = opcode::Send::new(fd, bytes.as_ptr(), bytes.len() as u32).flags(libc::MSG_DONTWAIT);
        if !connected && let Some(name) = self.names.get_mut(self.queued.sends) {
            let len = name.write(egress.to);
            send = send.dest_addr((&raw const *name).cast()).dest_addr_len(len);
        }
        Some(send.build())
    }

    /// The send of several at once.
    fn train(&mut self, fd: types::Fd, train: u32, connected: bool, sends: &[Outgoing]) -> Option<squeue::Entry> {
        let outward = &self.gate.outward;
        let to = (!connected).then_some(outward.first(train, sends)?.egress.to);
        let datagrams = outward.packets(train, sends).map(|outgoing| outgoing.packet.bytes());
        self.headers.send_from(self.queued.sends, self.queued.rode as usize, datagrams, to);
        let header = self.headers.one(self.queued.sends)?;
        Some(opcode::SendMsg::new(fd, header).flags(libc::MSG_DONTWAIT as u32).build())
    }

    /// Submits what is queued; counts what was sent, and sends again what was not for the error of
    /// an earlier one.
    pub(super) fn flush(&mut self, sends: &[Outgoing]) {
        let Queued { sends: queued, mut datagrams, mut trains, mut rode } = std::mem::take(&mut self.queued);
        if queued == 0 {
            return;
        }
        self.gate.counts.syscalls += 1;
        // After a fault the kernel may not see these packets again: nothing is submitted any more.
        let submitted = if self.fault.is_none() { self.ring.submit() } else { Ok(()) };
        if let Err(error) = submitted {
            self.fault = Some(format!("the ring takes no sends: {error}"));
        }
        if self.fault.is_some() {
            self.gate.counts.send_errors.other += datagrams;
            return;
        }
        self.reap();
        for refused in &self.refused {
            let count = self.gate.outward.count(refused.train);
            datagrams -= count;
            trains -= u64::from(count > 1);
            rode -= if count > 1 { count } else { 0 };
        }
        self.gate.counts.sent += datagrams;
        self.gate.counts.trains += trains;
        self.gate.counts.train_datagrams += rode;
        if !self.refused.is_empty() {
            self.send_again(sends);
        }
    }

    #[cold]
    fn send_again(&mut self, sends: &[Outgoing]) {
        // Backwards, since each goes in front of its socket's run.
        for at in (0..self.refused.len()).rev() {
            match self.refused.get(at) {
                Some(Refused { errno: libc::EAGAIN, train, .. }) => {
                    self.gate.counts.send_errors.full += self.gate.outward.count(*train);
                }
                Some(Refused { id, train, .. }) => {
                    self.gate.counts.retried += 1;
                    self.gate.outward.put_back(*id, *train);
                }
                None => {}
            }
        }
        for at in 0..self.refused.len() {
            let Some(id) = self.refused.get(at).map(|refused| refused.id) else { break };
            self.gate.read_returned(id);
            self.gate.send_run(id, 1, sends);
        }
        self.refused.clear();
    }
}
