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
        let possible = || Uring::probe();
        match wanted {
            DatapathChoice::Mmsg => Ok(Self::Mmsg),
            DatapathChoice::Uring => possible().map(|()| Self::Uring).map_err(|error| {
                format!("`datapath = \"uring\"` cannot be had: {error}; `auto` takes `mmsg` in its place")
            }),
            DatapathChoice::Auto => Ok(possible().map_or_else(
                |why| {
                    tracing::warn!(datapath = Self::Mmsg.name(), %why, "datapath_degraded");
                    Self::Mmsg
                },
                |()| Self::Uring,
            )),
        }
    }

    /// Its name in the file and in the log.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Uring => "uring",
            Self::Mmsg => "mmsg",
        }
    }
}
