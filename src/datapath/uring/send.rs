//! Sending: a turn's packets in one submission.
//!
//! Queues a send a packet and reads which of them failed; those are sent again by `gate`, one after
//! the other. Called by the datapath in its `send`. Sends say not to wait, and are never linked,
//! drained or handed to other threads: else the kernel would read packets that are long others'.

use io_uring::{opcode, squeue, types};

use super::Uring;
use super::ring::Tag;
use crate::datapath::sockets::SocketId;
use crate::packet::Outgoing;

/// A send that failed.
pub(super) struct Refused {
    pub(super) id: SocketId,
    pub(super) place: u32,
    pub(super) errno: i32,
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
        while let Some(place) = self.gate.outward.pop(id) {
            let Some(Outgoing { packet, egress, .. }) = sends.get(place as usize) else { continue };
            let bytes = packet.bytes();
            let mut send = opcode::Send::new(fd, bytes.as_ptr(), bytes.len() as u32).flags(libc::MSG_DONTWAIT);
            if !connected && let Some(name) = self.names.get_mut(self.queued as usize) {
                let len = name.write(egress.to);
                send = send.dest_addr((&raw const *name).cast()).dest_addr_len(len);
            }
            let request = send.build().flags(squeue::Flags::SKIP_SUCCESS);
            // SAFETY: bytes and name stay where they are until `flush` has submitted the request,
            // and not waiting, the kernel is done with them when the submission returns.
            let _ = unsafe { self.ring.push(request, Tag::Send { id, place }) };
            self.queued += 1;
            if self.ring.is_full() || self.queued as usize == self.names.len() {
                self.flush(sends);
            }
        }
    }

    /// Submits what is queued; counts what was sent, and sends again what was not for the error of
    /// an earlier one.
    pub(super) fn flush(&mut self, sends: &[Outgoing]) {
        let queued = std::mem::take(&mut self.queued);
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
            self.gate.counts.send_errors.other += queued;
            return;
        }
        self.reap();
        self.gate.counts.sent += queued - self.refused.len() as u64;
        if !self.refused.is_empty() {
            self.send_again(sends);
        }
    }

    #[cold]
    fn send_again(&mut self, sends: &[Outgoing]) {
        // Backwards, since each goes in front of its socket's run.
        for at in (0..self.refused.len()).rev() {
            match self.refused.get(at) {
                Some(Refused { errno: libc::EAGAIN, .. }) => self.gate.counts.send_errors.full += 1,
                Some(Refused { id, place, .. }) => {
                    self.gate.counts.retried += 1;
                    self.gate.outward.put_back(*id, *place);
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
