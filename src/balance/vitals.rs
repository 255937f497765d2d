//! What control tells of the nodes' health: of each endpoint, and which half of a pair is the one.
//!
//! Made by `control` for one plan and mailed together with it, since another plan numbers its
//! endpoints otherwise; read by shards once a request. Observes and decides nothing.

use crate::packet::PeerId;

use super::{Health, MarkIx};

const HEALTH: u8 = 3;
const PROBING: u8 = 1;
const DOWN: u8 = 2;
const STANDBY: u8 = 4;
const PASSED_OVER: u8 = 8;

const SECOND: u8 = 1;
const CLOSED: u8 = 2;

/// Health of the endpoints of one plan, by [`PeerId`], and standing of its nodes, by [`MarkIx`]. What
/// is not in it is up, open and reached at its primary.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Vitals {
    ends: Vec<u8>,
    nodes: Vec<u8>,
}

impl Vitals {
    /// Vitals of that many endpoints, by these.
    #[must_use]
    pub fn of_endpoints(health: impl IntoIterator<Item = Health>) -> Self {
        let mut vitals = Self::default();
        for (health, peer) in health.into_iter().zip(0..) {
            vitals.observe(PeerId(peer), health, false);
        }
        vitals
    }

    /// Notes an endpoint's health, and whether it answers that its other half is the one to ask.
    pub fn observe(&mut self, peer: PeerId, health: Health, standby: bool) {
        let health = match health {
            Health::Up => 0,
            Health::Probing => PROBING,
            Health::Down => DOWN,
        };
        let standby = if standby { STANDBY } else { 0 };
        note(&mut self.ends, peer.0, |end| end & PASSED_OVER | health | standby);
    }

    /// Notes that calls of a pair go to its backup, `primary` being passed over.
    pub fn prefer_backup(&mut self, mark: MarkIx, primary: PeerId) {
        note(&mut self.nodes, mark.0, |node| node | SECOND);
        note(&mut self.ends, primary.0, |end| end | PASSED_OVER);
    }

    /// Notes that a node takes no new calls for a while.
    pub fn close(&mut self, mark: MarkIx) {
        note(&mut self.nodes, mark.0, |node| node | CLOSED);
    }

    /// Health of an endpoint.
    #[inline]
    #[must_use]
    pub fn of(&self, peer: PeerId) -> Health {
        match self.end(peer) & HEALTH {
            0 => Health::Up,
            PROBING => Health::Probing,
            _ => Health::Down,
        }
    }

    /// Whether an endpoint is alive and says that the other half of its pair takes the calls.
    #[inline]
    #[must_use]
    pub fn stands_by(&self, peer: PeerId) -> bool {
        self.end(peer) & STANDBY != 0
    }

    /// Whether nothing at all is held against an endpoint: it is up, and no pair passes it over.
    #[inline]
    #[must_use]
    pub fn untroubled(&self, peer: PeerId) -> bool {
        self.end(peer) == 0
    }

    /// Whether calls of a pair go to its backup.
    #[inline]
    #[must_use]
    pub fn at_backup(&self, mark: MarkIx) -> bool {
        self.node(mark) & SECOND != 0
    }

    /// Whether a node takes no new calls for a while.
    #[inline]
    #[must_use]
    pub fn is_closed(&self, mark: MarkIx) -> bool {
        self.node(mark) & CLOSED != 0
    }

    #[inline]
    fn end(&self, peer: PeerId) -> u8 {
        self.ends.get(usize::from(peer.0)).copied().unwrap_or(0)
    }

    #[inline]
    fn node(&self, mark: MarkIx) -> u8 {
        self.nodes.get(usize::from(mark.0)).copied().unwrap_or(0)
    }
}

fn note(list: &mut Vec<u8>, at: u16, change: impl FnOnce(u8) -> u8) {
    let at = usize::from(at);
    if list.len() <= at {
        list.resize(at + 1, 0);
    }
    if let Some(place) = list.get_mut(at) {
        *place = change(*place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_never_noted_is_up_open_and_at_its_primary() {
        let vitals = Vitals::default();
        assert!(vitals.untroubled(PeerId(7)) && vitals.of(PeerId(7)) == Health::Up);
        assert!(!vitals.at_backup(MarkIx(7)) && !vitals.is_closed(MarkIx(7)));
    }

    #[test]
    fn every_note_stands_for_itself() {
        let mut vitals = Vitals::of_endpoints([Health::Up, Health::Probing, Health::Down]);
        vitals.observe(PeerId(3), Health::Up, true);
        vitals.prefer_backup(MarkIx(2), PeerId(0));
        vitals.close(MarkIx(3));
        let healths = [0, 1, 2, 3].map(|peer| vitals.of(PeerId(peer)));
        assert_eq!(healths, [Health::Up, Health::Probing, Health::Down, Health::Up]);
        assert_eq!([0, 1, 2, 3].map(|peer| vitals.stands_by(PeerId(peer))), [false, false, false, true]);
        assert!((0..4).all(|peer| !vitals.untroubled(PeerId(peer))), "0 is up, but passed over");
        assert_eq!([1, 2, 3].map(|mark| vitals.at_backup(MarkIx(mark))), [false, true, false]);
        assert_eq!([1, 2, 3].map(|mark| vitals.is_closed(MarkIx(mark))), [false, false, true]);
        vitals.observe(PeerId(0), Health::Down, false);
        assert!(vitals.of(PeerId(0)) == Health::Down && !vitals.untroubled(PeerId(0)));
        vitals.observe(PeerId(0), Health::Up, false);
        assert!(!vitals.untroubled(PeerId(0)), "still passed over");
    }
}
