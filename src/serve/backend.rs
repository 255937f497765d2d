//! Which datapath the workers get: chosen once, before they start.
//!
//! Asked by `serve`; says in the log why it is another one than the best.

use crate::config::DatapathChoice;
use crate::datapath::{Uring, probe_trains};

/// A datapath.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Backend {
    /// io_uring.
    Uring,
    /// recvmmsg and sendmmsg.
    Mmsg,
    /// AF_XDP, only if asked for by name.
    Xdp,
}

impl Backend {
    /// What the file asks for, as far as the kernel allows.
    pub(super) fn choose(wanted: &DatapathChoice) -> Result<Self, String> {
        let possible = || Uring::probe().map_err(|error| error.to_string());
        match wanted {
            DatapathChoice::Mmsg => Ok(Self::Mmsg),
            DatapathChoice::Xdp(_) => Ok(Self::Xdp),
            DatapathChoice::Uring => possible().map(|()| Self::Uring).map_err(|why| refused(&why)),
            DatapathChoice::Auto => Ok(possible().map_or_else(|why| Self::degraded(&why), |()| Self::Uring)),
        }
    }

    /// What is taken when workers could not have it after all; an error if the file insists.
    pub(super) fn instead(wanted: &DatapathChoice, why: &str) -> Result<Self, String> {
        match wanted {
            DatapathChoice::Auto => Ok(Self::degraded(why)),
            DatapathChoice::Uring => Err(refused(why)),
            DatapathChoice::Mmsg | DatapathChoice::Xdp(_) => Err(why.to_owned()),
        }
    }

    /// Whether it sends trains, where the file wishes them; says so if the kernel has no means for them.
    pub(super) fn sends_trains(self, wanted: bool) -> bool {
        if !wanted || self == Self::Xdp {
            return false;
        }
        let possible = probe_trains();
        if let Err(error) = &possible {
            tracing::warn!(%error, lacking = "UDP GSO (UDP_SEGMENT), Linux 4.18", "trains_impossible");
        }
        possible.is_ok()
    }

    fn degraded(why: &str) -> Self {
        tracing::warn!(datapath = Self::Mmsg.name(), why, "datapath_degraded");
        Self::Mmsg
    }

    /// Its name in the file and in the log.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Uring => "uring",
            Self::Mmsg => "mmsg",
            Self::Xdp => "xdp",
        }
    }
}

fn refused(why: &str) -> String {
    format!("`datapath = \"uring\"` cannot be had: {why}; `auto` takes `mmsg` in its place")
}
