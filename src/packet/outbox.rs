//! What leaves in a turn: the packets decided on, and whatever else the shard originates.

use super::{Egress, Packet, Pool};

/// How a packet came to be in the outbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// A received message on its way.
    Forwarded,
    /// A local reply to a received message, in its own packet.
    Replied,
    /// Anything else: originated by the shard in a packet of its own.
    Originated,
}

/// A packet and where it goes.
#[derive(Debug)]
pub struct Outgoing {
    /// The bytes.
    pub packet: Packet,
    /// The address.
    pub egress: Egress,
    /// Why it leaves.
    pub sent: Sent,
}

/// Everything that leaves in one turn, in order.
///
/// The verdict on a received packet is put in by the worker; the shard originates all else by
/// [`Outbox::take`] and [`Outbox::post`]. Bounded: what does not fit is refused and counted.
#[derive(Debug)]
pub struct Outbox {
    pool: &'static Pool,
    sends: Vec<Outgoing>,
    sends_max: usize,
    originated: u64,
    refused: u64,
}

impl Outbox {
    /// An outbox for at most `sends_max` packets a turn, which takes empty ones from `pool`.
    #[must_use]
    pub fn new(pool: &'static Pool, sends_max: usize) -> Self {
        Self { pool, sends: Vec::with_capacity(sends_max), sends_max, originated: 0, refused: 0 }
    }

    /// An empty packet to originate; none, and a refusal counted, if the pool or the turn is
    /// exhausted.
    pub fn take(&mut self) -> Option<Packet> {
        let packet = if self.sends.len() < self.sends_max { self.pool.take() } else { None };
        if packet.is_none() {
            self.refused += 1;
        }
        packet
    }

    /// Sends `packet`, which the shard originates. False, the packet freed and a refusal counted, if
    /// the turn is full.
    pub fn post(&mut self, packet: Packet, egress: Egress) -> bool {
        if self.sends.len() >= self.sends_max {
            self.refused += 1;
            return false;
        }
        self.originated += 1;
        self.sends.push(Outgoing { packet, egress, sent: Sent::Originated });
        true
    }

    /// Puts in a packet by verdict; the worker keeps room for every packet it decides on. Gives the
    /// packet back if there is none.
    #[inline]
    pub fn decided(&mut self, packet: Packet, egress: Egress, sent: Sent) -> Result<(), Packet> {
        if self.sends.len() >= self.sends_max {
            return Err(packet);
        }
        self.sends.push(Outgoing { packet, egress, sent });
        Ok(())
    }

    /// What is to be sent, in order; the datapath drains it.
    #[inline]
    pub fn sends(&mut self) -> &mut Vec<Outgoing> {
        &mut self.sends
    }

    /// How many packets wait to be sent.
    #[must_use]
    pub fn len(&self) -> usize {
        self.sends.len()
    }

    /// Whether nothing waits to be sent.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sends.is_empty()
    }

    /// Free places in this turn.
    #[must_use]
    pub fn room(&self) -> usize {
        self.sends_max - self.sends.len()
    }

    /// Packets originated since the start.
    #[must_use]
    pub fn originated(&self) -> u64 {
        self.originated
    }

    /// Packets refused since the start, for want of a slot or of room in the turn.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::{PeerId, PoolOptions, PortId};

    fn egress(port: u16) -> Egress {
        Egress { port: PortId(0), peer: PeerId::NONE, to: ([127, 0, 0, 1], port).into() }
    }

    #[test]
    fn several_sends_for_one_packet_and_some_for_none_leave_in_order() {
        let pool = Pool::new(&PoolOptions { slots: 8, threads: 1 }).unwrap();
        let mut out = Outbox::new(pool, 4);
        for port in 1..=2 {
            let mut packet = out.take().unwrap();
            assert!(packet.replace(b"CANCEL"));
            assert!(out.post(packet, egress(port)));
        }
        out.decided(pool.take().unwrap(), egress(3), Sent::Forwarded).unwrap();
        let order: Vec<_> = out.sends().drain(..).map(|s| (s.egress.to.port(), s.sent)).collect();
        assert_eq!(order, [(1, Sent::Originated), (2, Sent::Originated), (3, Sent::Forwarded)]);
        assert_eq!((out.originated(), out.refused()), (2, 0));
    }

    #[test]
    fn an_exhausted_pool_and_a_full_turn_are_counted_refusals() {
        let pool = Pool::new(&PoolOptions { slots: 2, threads: 1 }).unwrap();
        let mut out = Outbox::new(pool, 1);
        let first = out.take().unwrap();
        let second = out.take().unwrap();
        assert!(out.take().is_none());
        assert_eq!(out.refused(), 1);
        assert!(out.post(first, egress(1)));
        assert!(!out.post(second, egress(2)), "the turn holds one");
        assert!(out.decided(pool.take().unwrap(), egress(3), Sent::Replied).is_err());
        assert_eq!((out.originated(), out.refused()), (1, 2));
        out.sends().clear();
        assert_eq!(pool.usage().free, 2, "every slot came back");
    }
}
