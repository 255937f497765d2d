//! Which half of a primary/backup pair takes the calls.
//!
//! A pure decision over two monitors: stay while it can, switch when the half in use is out and the
//! other has proved itself.

use std::net::SocketAddr;

use crate::balance::HealthPolicy;

use super::cause::Cause;
use super::monitor::Monitor;

/// The halves of a pair, in the order of the file.
pub(super) struct Halves<'a> {
    pub(super) primary: &'a Monitor,
    pub(super) backup: &'a Monitor,
}

/// Where the calls of a pair go; by address, so that another order in the file moves nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pair {
    pub(super) active: SocketAddr,
    pub(super) cause: Cause,
    pub(super) since_us: u64,
    /// How often they have gone over to another half.
    pub(super) switches: u64,
}

/// Whether the calls should go to the other half, and why. `at_backup`: they go to the backup now.
pub(super) fn decide(halves: &Halves<'_>, at_backup: bool, policy: &HealthPolicy) -> Option<Cause> {
    let (active, other) = if at_backup { (halves.backup, halves.primary) } else { (halves.primary, halves.backup) };
    if !other.outward().takes_calls() {
        return None;
    }
    if !active.outward().takes_calls() && other.has_proved(policy.answers) {
        return Some(Cause::OtherHalf);
    }
    let home = at_backup && policy.homing > 0 && policy.probe && other.has_proved(policy.homing);
    home.then_some(Cause::Homing)
}
