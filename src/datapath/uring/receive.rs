//! Receiving: which sockets the ring receives by, and what it brought.
//!
//! Begins the receives, ends those of sockets that leave, and begins anew what ended. Called by the
//! datapath in its `recv`, never while sends are queued: a send takes the errors that wait at a
//! socket, and a receive begun before they are read would spin.

use std::io;
use std::time::Duration;

use io_uring::{cqueue, opcode, types};

use super::Uring;
use super::ring::Tag;
use super::stock::{GROUP, Stock};
use crate::datapath::sockets::SocketId;
use crate::datapath::{Batch, poll};
use crate::packet::PortId;

/// Times that the end of the receives is waited for, at the end of all.
const FAREWELLS_MAX: u32 = 50;

/// One completion of a receive.
pub(super) struct Came {
    pub(super) id: SocketId,
    pub(super) port: PortId,
    pub(super) generation: u16,
    pub(super) result: i32,
    pub(super) flags: u32,
}

impl Uring {
    /// Hands up what came, as far as there is room.
    #[inline]
    pub(super) fn deliver(&mut self, batch: &mut Batch) {
        while batch.room() > 0
            && let Some(came) = self.came.pop_front()
        {
            // A failure may name a buffer, by an error of the kernel, that it goes on using.
            if came.result >= 0
                && let Some(number) = cqueue::buffer_select(came.flags)
            {
                self.hand(&came, number, batch);
            }
            if !cqueue::more(came.flags) {
                self.ended(&came);
            }
        }
    }

    #[inline]
    fn hand(&mut self, came: &Came, number: u16, batch: &mut Batch) {
        if let Some(open) = self.gate.sockets.at(came.id) {
            open.fed = true;
        }
        let Some(packet) = self.stock.filled(number) else { return };
        // Filled where it stays: a packet just written is slow to move.
        batch.packets.push(packet);
        let told = batch.packets.last_mut().and_then(|packet| Stock::told(packet, came.result, &self.header));
        match told {
            Some(told) => told.settle(came.port, batch, &mut self.gate.counts),
            // Less than the kernel writes of every datagram.
            None => drop(batch.packets.pop()),
        }
    }

    /// A receive has ended: for want of buffers, by an ICMP error, an empty datagram, or because it
    /// was to end.
    #[cold]
    fn ended(&mut self, came: &Came) {
        let Some(open) = self.gate.sockets.at(came.id).filter(|open| open.generation == came.generation) else {
            return;
        };
        open.armed = false;
        let list = if open.fed { &mut self.unarmed } else { &mut self.starved };
        list.push_back(came.id);
        let counts = &mut self.gate.counts;
        let kind = if came.result == -libc::ENOBUFS { &mut counts.starved } else { &mut counts.rearmed };
        *kind += u64::from(!open.leaving);
        match -came.result {
            libc::ENOBUFS | libc::EAGAIN | libc::ECANCELED => {}
            errno @ (libc::EBADF | libc::ENOTSOCK | libc::EFAULT | libc::EINVAL) => {
                let error = io::Error::from_raw_os_error(errno);
                self.fault = Some(format!("a socket cannot be received by: {error}"));
            }
            ..=0 => {}
            // Somebody's ICMP error, which the queue tells more of; datagrams wait behind it.
            _ => drop(self.gate.read_returned(came.id)),
        }
    }

    /// Queues what has to be asked for: buffers are given, receives begun and ended. False if there
    /// is a receive to begin and no buffer for it.
    pub(super) fn prepare(&mut self) -> io::Result<bool> {
        if let Some(fault) = &self.fault {
            return Err(io::Error::other(fault.clone()));
        }
        let buffers = self.stock.fill();
        if !self.waker_armed {
            self.arm_waker()?;
        }
        if !self.leaving.is_empty() {
            self.cancel_leaving()?;
        }
        if self.starved.is_empty() && self.unarmed.is_empty() {
            return Ok(true);
        }
        if buffers {
            self.arm()?;
        }
        Ok(buffers)
    }

    fn arm_waker(&mut self) -> io::Result<()> {
        self.make_room()?;
        let request = opcode::PollAdd::new(types::Fd(self.waker.fd()), libc::POLLIN as u32).multi(true).build();
        // SAFETY: it points to nothing.
        self.waker_armed = unsafe { self.ring.push(request, Tag::Waker) };
        Ok(())
    }

    /// Begins to receive by all sockets that are not received by.
    fn arm(&mut self) -> io::Result<()> {
        while let Some(id) = self.starved.pop_front().or_else(|| self.unarmed.pop_front()) {
            self.make_room()?;
            let Some(open) = self.gate.sockets.at(id).filter(|open| !open.armed) else { continue };
            let mut flags = 0;
            if open.leaving {
                // Without waiting for more than is there: it ends when the socket is read empty.
                flags = libc::MSG_DONTWAIT as u32;
                if !poll::is_readable(open.fd()) {
                    self.gate.sockets.close(id);
                    continue;
                }
            }
            let tag = Tag::Receive { id, port: open.port, generation: open.generation };
            let request = opcode::RecvMsgMulti::new(types::Fd(open.fd()), &raw const *self.header, GROUP);
            (open.armed, open.fed) = (true, false);
            // SAFETY: the header lives as long as the ring, and so do the slots of the packets that
            // the kernel may fill: they are in stock until it says that it has.
            let _ = unsafe { self.ring.push(request.flags(flags).build(), tag) };
        }
        Ok(())
    }

    /// Ends the receives of sockets that leave. What had come by then is still handed up.
    #[cold]
    fn cancel_leaving(&mut self) -> io::Result<()> {
        while let Some(id) = self.leaving.pop_front() {
            self.make_room()?;
            let Some(open) = self.gate.sockets.at(id).filter(|open| open.leaving && open.armed) else { continue };
            let generation = open.generation;
            let receive = Tag::Receive { id, port: open.port, generation };
            let request = opcode::AsyncCancel::new(receive.pack()).build();
            let request = request.flags(io_uring::squeue::Flags::SKIP_SUCCESS);
            // SAFETY: it points to nothing.
            let _ = unsafe { self.ring.push(request, Tag::Cancel { id, generation }) };
        }
        Ok(())
    }

    fn make_room(&mut self) -> io::Result<()> {
        if self.ring.is_full() { self.enter(Some(Duration::ZERO)) } else { Ok(()) }
    }

    /// Ends all receives, and drops what they bring.
    pub(super) fn end(&mut self, patience: Duration) {
        let mut asked = false;
        for _ in 0..FAREWELLS_MAX {
            if !asked {
                let request = opcode::AsyncCancel2::new(types::CancelBuilder::any()).build();
                // SAFETY: it points to nothing.
                asked = unsafe { self.ring.push(request, Tag::Waker) };
            }
            if self.enter(Some(patience)).is_err() {
                return;
            }
            for came in self.came.drain(..).filter(|came| !cqueue::more(came.flags)) {
                if let Some(open) = self.gate.sockets.at(came.id) {
                    open.armed = false;
                }
            }
            if asked && !self.gate.sockets.any_armed() {
                return;
            }
        }
    }
}
