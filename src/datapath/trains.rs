//! Which packets of a turn leave as one train: datagrams of one size to one peer, the last may be shorter.
//!
//! A plan over lengths, destinations and orders; knows no socket call and no SIP. Driven by `outward`, a turn at a
//! time. Never lets a packet pass an earlier one of equal order to the same destination, and never makes a train that
//! is longer than the kernel takes.

use std::net::{IpAddr, SocketAddr};

use super::sockets::SocketId;
use crate::packet::{DATAGRAM_MAX, HEAD_ROOM};

/// The end of a list; no train, no packet, no lane.
pub(super) const END: u32 = u32::MAX;
/// Datagrams of a train at most: what every kernel takes that has UDP GSO.
const DATAGRAMS_MAX: usize = 64;
/// By how much datagrams of one train may differ before they are padded, bytes.
const SPREAD_MAX: u32 = 64;
/// The shortest filler, bytes: a parameter has a semicolon and a name.
const FILLER_MIN: u32 = 2;
/// The longest.
pub(super) const FILLER_MAX: usize = (SPREAD_MAX + FILLER_MIN) as usize;
/// Trains of one destination that wait for more, each of another size.
const OPEN_MAX: usize = 3;
/// Places of the table that finds the lane of a destination, which has two to be at.
const LANES_SEEN: usize = 64;
/// Places of the table that finds the last train of an order.
const ORDERS_SEEN: usize = 512;
/// Odd, and half of its bits set.
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

const _: () = assert!(FILLER_MAX <= 68 && FILLER_MAX < HEAD_ROOM);

/// What a plan has to know of a packet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    /// Its length, bytes.
    pub(super) len: u32,
    /// Packets of equal order keep their order; one of order 0 keeps its place among all.
    pub(super) order: u64,
    /// It can be padded, by up to [`FILLER_MAX`].
    pub(super) pads: bool,
}

/// Where a packet goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stop {
    pub(super) socket: SocketId,
    /// None: where the socket is connected to.
    pub(super) to: Option<SocketAddr>,
}

/// Packets that leave by one send.
#[derive(Clone, Copy, Debug)]
pub(super) struct Train {
    pub(super) socket: SocketId,
    /// Its first packet; the others follow by [`Trains::behind`].
    pub(super) first: u32,
    /// Packets in it; one is no train yet, and one that has none was given to another.
    pub(super) count: u32,
    last: u32,
    lane: u32,
    longest: u32,
    shortest: u32,
    /// Of its first packet.
    order: u64,
    /// One of its packets is one byte shorter than the longest, less than a filler.
    short_by_one: bool,
    /// One cannot be padded: the longest stays the longest.
    fixed: bool,
    /// The last one is shorter, and unpadded: nothing goes behind it.
    ended: bool,
}

/// The packets of one destination.
#[derive(Clone, Copy, Debug)]
struct Lane {
    stop: Stop,
    /// Longest datagram of a train there.
    limit: u32,
    open: [u32; OPEN_MAX],
    newest: u32,
    /// Nothing goes into an earlier train: a packet without an order is in this one.
    barrier: u32,
    /// The last train that was settled.
    settled: u32,
}

/// The trains of one turn.
pub(super) struct Trains {
    count_max: u32,
    trains: Vec<Train>,
    /// By packet: the next one of its train.
    behind: Vec<u32>,
    lanes: Vec<Lane>,
    /// By hash of a destination: its lane. An entry of an older turn is told by the lane that is there now.
    seen: [u32; LANES_SEEN],
    /// By hash of an order: the last train that it went into, counted from the first turn on. Two that share an entry
    /// keep their order, too.
    orders: Box<[u32; ORDERS_SEEN]>,
    /// The number of this turn's first train in that count.
    base: u32,
}

impl Train {
    /// Whether a packet can go behind its last one, as far as sizes tell.
    #[inline]
    fn takes(&self, load: Load, lane: &Lane, count_max: u32) -> bool {
        let longest = self.longest.max(load.len);
        let room = self.count < count_max
            && longest - self.shortest.min(load.len) <= SPREAD_MAX
            && longest + FILLER_MIN <= lane.limit
            && (self.count + 1) * (longest + FILLER_MIN) <= DATAGRAM_MAX as u32;
        room && match (self.fixed, load.pads) {
            (false, true) => true,
            (true, true) => load.len <= self.longest && load.len + 1 != self.longest,
            (true, false) => load.len == self.longest,
            // The others are padded up to this one.
            (false, false) => load.len >= self.longest + FILLER_MIN || (load.len == self.longest && !self.short_by_one),
        }
    }

    fn put(&mut self, place: u32, load: Load) {
        self.short_by_one = match load.len {
            len if len > self.longest + 1 => false,
            len => self.short_by_one || len.abs_diff(self.longest) == 1,
        };
        self.fixed |= !load.pads;
        self.longest = self.longest.max(load.len);
        self.shortest = self.shortest.min(load.len);
        self.last = place;
        self.count += 1;
    }

    /// Whether a shorter datagram of `len` can be the last.
    fn ends_with(&self, len: u32, lane: &Lane, count_max: u32) -> bool {
        let size = self.longest + FILLER_MIN;
        !self.ended
            && len <= self.longest
            && self.count < count_max
            && size <= lane.limit
            && (self.count + 1) * size <= DATAGRAM_MAX as u32
    }
}

impl Trains {
    /// No more than `count_max` datagrams in a train.
    pub(super) fn new(count_max: usize) -> Self {
        Self {
            count_max: count_max.clamp(1, DATAGRAMS_MAX) as u32,
            trains: Vec::with_capacity(count_max),
            behind: Vec::with_capacity(count_max),
            lanes: Vec::with_capacity(count_max),
            seen: [END; LANES_SEEN],
            orders: Box::new([0; ORDERS_SEEN]),
            base: 1,
        }
    }

    /// Forgets the last turn.
    pub(super) fn clear(&mut self) {
        self.base = self.base.saturating_add(self.trains.len() as u32);
        if self.base > u32::MAX / 2 {
            self.orders.fill(0);
            self.base = 1;
        }
        self.trains.clear();
        self.behind.clear();
        self.lanes.clear();
    }

    /// How many there are, those that were given to others included.
    pub(super) fn len(&self) -> usize {
        self.trains.len()
    }

    #[inline]
    pub(super) fn at(&self, train: u32) -> Option<&Train> {
        self.trains.get(train as usize)
    }

    /// How many datagrams leave by it.
    #[inline]
    pub(super) fn count(&self, train: u32) -> u64 {
        self.at(train).map_or(0, |train| u64::from(train.count))
    }

    /// The packets of a train, by their places.
    #[inline]
    pub(super) fn places(&self, train: u32) -> impl Iterator<Item = u32> + '_ {
        let (first, count) = self.at(train).map_or((END, 0), |train| (train.first, train.count));
        let mut next = first;
        (0..count).map_while(move |_| {
            let place = next;
            next = *self.behind.get(place as usize)?;
            Some(place)
        })
    }

    /// The next packet of the turn, which nothing is planned for.
    #[inline]
    pub(super) fn skip(&mut self) {
        self.behind.push(END);
    }

    /// The next packet of the turn, by itself.
    #[inline]
    pub(super) fn alone(&mut self, socket: SocketId, load: Load) -> u32 {
        self.begin(socket, END, load)
    }

    /// The next packet of the turn, in company if there is any; `limit` tells the longest datagram of a train there.
    #[inline]
    pub(super) fn join(&mut self, stop: Stop, load: Load, limit: impl FnOnce() -> usize) {
        let at = self.lane(stop, limit);
        let Some(lane) = self.lanes.get(at as usize).copied() else { return self.skip() };
        let place = self.behind.len() as u32;
        // The place of the lane goes into it: other destinations of the same order do not matter.
        let hash = (load.order ^ u64::from(at).wrapping_mul(FACTOR)).wrapping_mul(FACTOR) >> 32;
        let entry = hash as usize % ORDERS_SEEN;
        let after = self.orders.get(entry).copied().unwrap_or(END).saturating_sub(self.base).max(lane.barrier);
        let free = |train: &u32| {
            *train != END
                && *train >= after
                && (load.order != 0 || *train == lane.newest)
                && self.at(*train).is_some_and(|train| train.takes(load, &lane, self.count_max))
        };
        let train = match lane.open.iter().copied().find(free) {
            Some(train) => {
                self.append(train, place, load);
                train
            }
            None => self.open(at, &lane, load),
        };
        if let Some(last) = self.orders.get_mut(entry).filter(|_| load.order != 0) {
            *last = self.base + train;
        }
        if let Some(lane) = self.lanes.get_mut(at as usize).filter(|_| load.order == 0) {
            lane.barrier = train;
        }
    }

    fn append(&mut self, train: u32, place: u32, load: Load) {
        self.behind.push(END);
        let Some(train) = self.trains.get_mut(train as usize) else { return };
        if let Some(behind) = self.behind.get_mut(train.last as usize) {
            *behind = place;
        }
        train.put(place, load);
    }

    /// A train that waits for more, in place of a full one or of the oldest.
    fn open(&mut self, at: u32, lane: &Lane, load: Load) -> u32 {
        let train = self.begin(lane.stop.socket, at, load);
        let full = |train: &u32| self.at(*train).is_none_or(|train| train.count >= self.count_max);
        let mut places = 0..OPEN_MAX;
        let free = places.find(|place| lane.open.get(*place).is_none_or(full));
        let oldest = (0..OPEN_MAX).min_by_key(|place| lane.open.get(*place));
        if let Some(lane) = self.lanes.get_mut(at as usize) {
            lane.newest = train;
            let rides = load.len + FILLER_MIN <= lane.limit;
            if let Some(open) = free.or(oldest).filter(|_| rides).and_then(|place| lane.open.get_mut(place)) {
                *open = train;
            }
        }
        train
    }

    fn begin(&mut self, socket: SocketId, lane: u32, load: Load) -> u32 {
        let place = self.behind.len() as u32;
        self.behind.push(END);
        self.trains.push(Train {
            socket,
            first: place,
            count: 1,
            last: place,
            lane,
            longest: load.len,
            shortest: load.len,
            order: load.order,
            short_by_one: false,
            fixed: !load.pads,
            ended: false,
        });
        (self.trains.len() - 1) as u32
    }

    #[inline]
    fn lane(&mut self, stop: Stop, limit: impl FnOnce() -> usize) -> u32 {
        let entry = entry_of(stop);
        let mut free = entry;
        for entry in [entry, entry ^ 1] {
            let at = self.seen.get(entry).copied().unwrap_or(END);
            match self.lanes.get(at as usize) {
                Some(lane) if lane.stop == stop => return at,
                Some(_) => {}
                None => free = entry,
            }
        }
        let at = self.lanes.len() as u32;
        let limit = limit() as u32;
        self.lanes.push(Lane { stop, limit, open: [END; OPEN_MAX], newest: END, barrier: 0, settled: END });
        if let Some(seen) = self.seen.get_mut(free) {
            *seen = at;
        }
        at
    }

    /// Settles the next train, in order, when the turn is complete: a single datagram becomes the end of the train
    /// before it, if it is no longer than that. True if the train is to be sent.
    #[inline]
    pub(super) fn settle(&mut self, at: u32) -> bool {
        let Some(train) = self.at(at).copied() else { return false };
        let Some(lane) = self.lanes.get_mut(train.lane as usize) else { return true };
        let lane = (*lane, std::mem::replace(&mut lane.settled, at)).0;
        let before = lane.settled;
        let Some(ahead) = self.at(before).copied().filter(|_| train.count == 1) else { return true };
        let apart = ahead.order != train.order && ahead.order != 0 && train.order != 0;
        let (first, second) = if ahead.ends_with(train.longest, &lane, self.count_max) {
            (ahead, train)
        } else if ahead.count == 1 && apart && train.ends_with(ahead.longest, &lane, self.count_max) {
            (train, ahead)
        } else {
            return true;
        };
        if let Some(behind) = self.behind.get_mut(first.last as usize) {
            *behind = second.first;
        }
        let joined = Train { last: second.first, count: first.count + 1, ended: true, ..first };
        for (place, train) in [(before, joined), (at, Train { count: 0, ..train })] {
            if let Some(own) = self.trains.get_mut(place as usize) {
                *own = train;
            }
        }
        if let Some(lane) = self.lanes.get_mut(train.lane as usize) {
            lane.settled = before;
        }
        false
    }

    /// The size that all but the last datagram of a train are to have, by their lengths as `len` tells them.
    pub(super) fn size(&self, train: u32, len: impl Fn(u32) -> usize) -> usize {
        let Some(longest) = self.at(train).map(|train| train.longest as usize) else { return 0 };
        let last = self.at(train).map_or(END, |train| train.last);
        let short = self.places(train).any(|place| place != last && len(place) + 1 == longest);
        if short { longest + FILLER_MIN as usize } else { longest }
    }

    /// Takes a train apart: its first packet is left in it, each of the others gets one of its own, the last of which is
    /// the last there is.
    #[cold]
    pub(super) fn part(&mut self, train: u32) -> std::ops::Range<u32> {
        let from = self.trains.len() as u32;
        let Some(whole) = self.at(train).copied() else { return from..from };
        let mut place = whole.first;
        for _ in 1..whole.count {
            place = self.behind.get(place as usize).copied().unwrap_or(END);
            self.trains.push(Train { first: place, last: place, count: 1, ..whole });
        }
        if let Some(left) = self.trains.get_mut(train as usize) {
            (left.last, left.count) = (whole.first, 1);
        }
        from..self.trains.len() as u32
    }
}

/// Where the lane of a destination is looked for: connected sockets do not get into each other's way.
#[inline]
fn entry_of(stop: Stop) -> usize {
    let socket = stop.socket as usize;
    let Some(to) = stop.to else { return socket % LANES_SEEN };
    let ip = match to.ip() {
        IpAddr::V4(ip) => u64::from(ip.to_bits()),
        IpAddr::V6(ip) => (ip.to_bits() as u64) ^ (ip.to_bits() >> 64) as u64,
    };
    let hash = (ip << 16 ^ u64::from(to.port())).wrapping_mul(FACTOR) >> 32;
    (socket + hash as usize) % LANES_SEEN
}

/// What makes a parameter list longer by `len` bytes, 0 or 2 to [`FILLER_MAX`]: a parameter of its own.
#[inline]
pub(super) fn filler(len: usize) -> &'static [u8] {
    const FILLER: [u8; FILLER_MAX] = {
        let mut text = [b'0'; FILLER_MAX];
        [text[0], text[1], text[2]] = *b";x=";
        text
    };
    // An equals sign without a value is no parameter.
    if len == 3 { b";xx" } else { FILLER.get(..len).unwrap_or_default() }
}

#[cfg(test)]
#[path = "trains_tests.rs"]
mod tests;
