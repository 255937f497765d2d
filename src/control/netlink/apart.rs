//! Next hops without control: for a program that drives a datapath itself.
//!
//! Owns the sockets and a runtime of one thread. Driven by whoever waits for changes, on a thread of
//! its own; never writes to the kernel's tables.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

use super::Netlink;
use crate::packet::Hops;

/// What the kernel knows of next hops, read at once and kept current by [`NextHops::changed`].
pub struct NextHops {
    // Dropped before the runtime that it is registered with.
    netlink: Netlink,
    runtime: Runtime,
}

impl NextHops {
    /// Reads links, routes and neighbours, as far as they lie at `interfaces`.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn open(interfaces: &[String]) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let entered = runtime.enter();
        let netlink = Netlink::open(interfaces)?;
        drop(entered);
        Ok(Self { netlink, runtime })
    }

    /// The newest snapshot.
    #[must_use]
    pub fn current(&self) -> Arc<Hops> {
        self.netlink.hops()
    }

    /// Waits for a change, at most so long; the new snapshot, if it differs. Has the kernel make sure
    /// of neighbours that only the datapath sends to.
    pub fn changed(&mut self, limit: Duration) -> Option<Arc<Hops>> {
        let Self { netlink, runtime } = self;
        // Nothing changed in time: neighbours may have grown stale all the same.
        let _ = runtime.block_on(async { tokio::time::timeout(limit, netlink.change()).await });
        netlink.keep_fresh();
        netlink.renewed()
    }
}
