//! Endpoints that this worker avoids for a moment because an ICMP error came back.
//!
//! One error may be forged, so it decides nothing: the worker prefers other nodes for 250 ms, and
//! control's probes settle whether the node is down.

use std::net::SocketAddr;

/// How long an endpoint is avoided after an error, milliseconds.
pub const AVOID_MS: u64 = 250;

/// The endpoints avoided at the moment; bounded, the oldest gives way.
#[derive(Debug)]
pub(super) struct Avoided {
    until_ms: Vec<(SocketAddr, u64)>,
    max: usize,
}

impl Avoided {
    pub(super) fn new(max: usize) -> Self {
        Self { until_ms: Vec::with_capacity(max), max }
    }

    /// Avoids an endpoint from now on. True if it was not avoided already.
    pub(super) fn add(&mut self, to: SocketAddr, now_ms: u64) -> bool {
        if let Some((_, until_ms)) = self.until_ms.iter_mut().find(|(addr, _)| *addr == to) {
            *until_ms = now_ms + AVOID_MS;
            return false;
        }
        if self.until_ms.len() >= self.max && !self.until_ms.is_empty() {
            self.until_ms.remove(0);
        }
        self.until_ms.push((to, now_ms + AVOID_MS));
        true
    }

    #[inline]
    pub(super) fn contains(&self, to: SocketAddr) -> bool {
        !self.until_ms.is_empty() && self.until_ms.iter().any(|(addr, _)| *addr == to)
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.until_ms.is_empty()
    }

    /// Forgets what is over.
    pub(super) fn expire(&mut self, now_ms: u64) {
        self.until_ms.retain(|(_, until_ms)| *until_ms > now_ms);
    }

    /// When the next one is over.
    pub(super) fn next_ms(&self) -> Option<u64> {
        self.until_ms.iter().map(|(_, until_ms)| *until_ms).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_avoided_for_250_ms_after_the_last_error() {
        let mut avoided = Avoided::new(2);
        let at = |port: u16| SocketAddr::from(([192, 0, 2, 1], port));
        assert!(avoided.add(at(1), 0));
        assert!(!avoided.add(at(1), 100));
        avoided.expire(349);
        assert!(avoided.contains(at(1)));
        assert_eq!(avoided.next_ms(), Some(350));
        avoided.expire(350);
        assert!(!avoided.contains(at(1)));
        for port in 1..=3 {
            avoided.add(at(port), 400);
        }
        assert!(!avoided.contains(at(1)) && avoided.contains(at(2)) && avoided.contains(at(3)));
    }
}
