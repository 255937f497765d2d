//! Next hops that are names: what control found, and what workers ask it for.
//!
//! Control keeps the table by TTL and mails a new one to the workers whenever it changes; a worker
//! that misses a name asks by a bounded queue and never waits.

use std::collections::HashMap;
use std::net::IpAddr;

use crossbeam::queue::ArrayQueue;

/// Longest host name, bytes (RFC 1035 2.3.4).
pub const HOST_MAX: usize = 253;

/// A host name, lower-cased, without allocation.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct HostName {
    len: u8,
    bytes: [u8; HOST_MAX],
}

impl std::fmt::Debug for HostName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl HostName {
    /// Takes a host of a URI; none if it is too long or not a host name at all.
    #[must_use]
    pub fn new(host: &[u8]) -> Option<Self> {
        let host = host.strip_suffix(b".").unwrap_or(host);
        let sound = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
        if host.is_empty() || !host.iter().all(sound) {
            return None;
        }
        let mut bytes = [0; HOST_MAX];
        bytes.get_mut(..host.len())?.copy_from_slice(host);
        bytes.make_ascii_lowercase();
        Some(Self { len: host.len() as u8, bytes })
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.bytes.get(..usize::from(self.len)).and_then(|name| std::str::from_utf8(name).ok()).unwrap_or_default()
    }
}

/// What the table says of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// Its best address.
    Found(IpAddr),
    /// It was looked up and leads to no address that we could send to.
    Nowhere,
    /// Nobody has asked yet.
    Unknown,
}

/// What control knows of names. Immutable; a new one replaces it.
#[derive(Clone, Debug, Default)]
pub struct Names {
    known: HashMap<String, Vec<IpAddr>>,
}

impl Names {
    /// A table of names, lower-cased, with their addresses, best first.
    #[must_use]
    pub fn new(known: HashMap<String, Vec<IpAddr>>) -> Self {
        Self { known }
    }

    /// How many names there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.known.len()
    }

    /// Best address of a name; `v4` and `v6` say which families we can send to.
    #[must_use]
    pub fn find(&self, name: &HostName, v4: bool, v6: bool) -> Lookup {
        let Some(known) = self.known.get(name.as_str()) else { return Lookup::Unknown };
        match known.iter().copied().find(|ip| if ip.is_ipv4() { v4 } else { v6 }) {
            Some(ip) => Lookup::Found(ip),
            None => Lookup::Nowhere,
        }
    }
}

/// Questions from workers to control: bounded, never waited for.
#[derive(Debug)]
pub struct Asks {
    queue: ArrayQueue<HostName>,
}

impl Asks {
    /// A queue of at most `asks_max` names.
    #[must_use]
    pub fn new(asks_max: usize) -> Self {
        Self { queue: ArrayQueue::new(asks_max.max(1)) }
    }

    /// Asks for a name; false if the queue is full.
    #[must_use]
    pub fn ask(&self, name: HostName) -> bool {
        self.queue.push(name).is_ok()
    }

    /// The next question, for control.
    #[must_use]
    pub fn next(&self) -> Option<HostName> {
        self.queue.pop()
    }
}
