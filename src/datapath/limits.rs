//! How long a datagram of a train may be: one that its path carries in one piece.
//!
//! Taken from what an Ethernet path carries until the kernel refuses a train; then learned, for that destination.
//! Used by the datapaths over sockets; asks the kernel nothing by itself.

use std::net::IpAddr;

use super::{UNFRAGMENTED_V4, UNFRAGMENTED_V6};

/// Destinations behind narrow paths that are remembered; of more, those learned first are learned again.
const NARROW_MAX: usize = 64;

/// What a refused train teaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lesson {
    /// Datagrams longer than this are not for trains to that destination.
    Narrow(usize),
    /// Trains do not leave by that socket: the kernel or the device has no means for them.
    Never,
    /// None by itself.
    Unclear,
}

/// Whether an error is about the train, and trying it again is of no use.
pub(super) fn is_about_trains(errno: i32) -> bool {
    matches!(errno, libc::EMSGSIZE | libc::EINVAL | libc::EIO | libc::ENOPROTOOPT | libc::EOPNOTSUPP)
}

/// What to learn from a train of datagrams of `size` that was refused for `errno`, when the kernel knows that the path
/// carries `path` in one piece.
pub(super) fn lesson(errno: i32, size: usize, path: Option<usize>) -> Lesson {
    let narrow = path.filter(|path| *path < size);
    match (errno, narrow) {
        (libc::EMSGSIZE, narrow) => Lesson::Narrow(narrow.unwrap_or(size.saturating_sub(1))),
        // What some kernels answer for the same.
        (libc::EINVAL, Some(narrow)) => Lesson::Narrow(narrow),
        (errno, _) if is_about_trains(errno) => Lesson::Never,
        _ => Lesson::Unclear,
    }
}

/// The limits of all destinations.
#[derive(Debug, Default)]
pub(super) struct Limits {
    narrow: Vec<(IpAddr, usize)>,
    oldest: usize,
}

impl Limits {
    /// The longest datagram of a train to `to`.
    #[inline]
    pub(super) fn of(&self, to: IpAddr) -> usize {
        let narrow = self.narrow.iter().find(|(ip, _)| *ip == to);
        let usual = if to.is_ipv4() { UNFRAGMENTED_V4 } else { UNFRAGMENTED_V6 };
        narrow.map_or(usual, |(_, limit)| *limit)
    }

    /// From now on it is `limit`, if that is less.
    pub(super) fn learn(&mut self, to: IpAddr, limit: usize) {
        let limit = limit.min(self.of(to));
        if let Some((_, known)) = self.narrow.iter_mut().find(|(ip, _)| *ip == to) {
            *known = limit;
        } else if self.narrow.len() < NARROW_MAX {
            self.narrow.push((to, limit));
        } else if let Some(oldest) = self.narrow.get_mut(self.oldest) {
            *oldest = (to, limit);
            self.oldest = (self.oldest + 1) % NARROW_MAX;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_train_teaches_what_its_error_says() {
        assert_eq!(lesson(libc::EMSGSIZE, 1_400, Some(1_252)), Lesson::Narrow(1_252));
        assert_eq!(lesson(libc::EMSGSIZE, 1_400, Some(1_472)), Lesson::Narrow(1_399), "the kernel should know");
        assert_eq!(lesson(libc::EMSGSIZE, 1_400, None), Lesson::Narrow(1_399));
        assert_eq!(lesson(libc::EINVAL, 1_400, Some(1_252)), Lesson::Narrow(1_252), "an older kernel");
        assert_eq!(lesson(libc::EINVAL, 1_400, Some(1_472)), Lesson::Never);
        assert_eq!(lesson(libc::EIO, 400, Some(1_472)), Lesson::Never, "a device that makes no checksums");
        assert_eq!(lesson(libc::ENOPROTOOPT, 400, None), Lesson::Never);
        assert_eq!(lesson(libc::EPERM, 400, Some(1_472)), Lesson::Unclear);
    }

    #[test]
    fn limits_are_those_of_ethernet_until_less_is_learned() {
        let mut limits = Limits::default();
        let ip = |number: u8| IpAddr::from([192, 0, 2, number]);
        assert_eq!((limits.of(ip(1)), limits.of("2001:db8::1".parse().unwrap())), (1_472, 1_452));
        limits.learn(ip(1), 1_252);
        limits.learn(ip(1), 1_400);
        assert_eq!((limits.of(ip(1)), limits.of(ip(2))), (1_252, 1_472));
        for number in 2..=65 {
            limits.learn(ip(number), 1_000);
        }
        assert_eq!((limits.of(ip(1)), limits.of(ip(2)), limits.of(ip(65))), (1_472, 1_000, 1_000));
        limits.learn(ip(66), 900);
        assert_eq!((limits.of(ip(2)), limits.of(ip(3)), limits.of(ip(66))), (1_472, 1_000, 900));
    }
}
