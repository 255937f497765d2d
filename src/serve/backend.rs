//! Which datapath the workers get: chosen once, before they start.
//!
//! Asked by `serve`; says in the log why it is another one than the best.

use crate::config::DatapathChoice;
use crate::datapath::Uring;

/// A datapath over kernel sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Backend {
    /// io_uring.
    Uring,
    /// recvmmsg and sendmmsg.
    Mmsg,
}

impl Backend {
    /// What the file asks for, as far as the kernel allows.
    pub(super) fn choose(wanted: DatapathChoice) -> Result<Self, String> {
        let possible = || Uring::probe().map_err(|error| error.to_string());
        match wanted {
            DatapathChoice::Mmsg => Ok(Self::Mmsg),
            DatapathChoice::Uring => possible().map(|()| Self::Uring).map_err(|why| refused(&why)),
            DatapathChoice::Auto => Ok(possible().map_or_else(|why| Self::degraded(&why), |()| Self::Uring)),
        }
    }

    /// What is taken when workers could not have io_uring after all; an error if the file insists.
    pub(super) fn instead(wanted: DatapathChoice, why: &str) -> Result<Self, String> {
        if wanted == DatapathChoice::Auto { Ok(Self::degraded(why)) } else { Err(refused(why)) }
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
        }
    }
}

fn refused(why: &str) -> String {
    format!("`datapath = \"uring\"` cannot be had: {why}; `auto` takes `mmsg` in its place")
}
