//! The flows: which messages a call consists of, and who sends them.
//!
//! Words only, shared by the command line, the agents and the report. Decides nothing.

use sipring::sip::Method;

/// What a call consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Flow {
    /// OPTIONS, 200.
    Options,
    /// REGISTER, 401, REGISTER with credentials, 200.
    Register,
    /// INVITE, 180, 200, ACK; the caller hangs up.
    Call,
    /// INVITE, 180, 486, ACK.
    Busy,
    /// INVITE, 180, CANCEL, 200, 487, ACK.
    Cancel,
    /// INVITE, 180, 200, ACK; the callee hangs up.
    NodeHangup,
    /// As call, begun at the nodes.
    NodeCall,
    /// As call, with an INVITE within the dialog by either side.
    Reinvite,
}

impl Flow {
    pub const ALL: [Self; 8] = [
        Self::Options,
        Self::Register,
        Self::Call,
        Self::Busy,
        Self::Cancel,
        Self::NodeHangup,
        Self::NodeCall,
        Self::Reinvite,
    ];

    /// What the command line and the report call it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Options => "options",
            Self::Register => "register",
            Self::Call => "call",
            Self::Busy => "busy",
            Self::Cancel => "cancel",
            Self::NodeHangup => "node-hangup",
            Self::NodeCall => "node-call",
            Self::Reinvite => "reinvite",
        }
    }

    /// The user of the request-URI, by which an answering side knows what to do.
    #[must_use]
    pub const fn user(self) -> &'static str {
        match self {
            Self::NodeCall => "call",
            Self::Options => "options",
            Self::Register => "",
            Self::Call | Self::Busy | Self::Cancel | Self::NodeHangup | Self::Reinvite => self.name(),
        }
    }

    /// The flow that a request-URI's user asks for.
    #[must_use]
    pub fn by_user(user: &[u8]) -> Option<Self> {
        [Self::Call, Self::Busy, Self::Cancel, Self::NodeHangup, Self::Reinvite]
            .into_iter()
            .find(|flow| flow.user().as_bytes() == user)
    }

    /// The first request.
    #[must_use]
    pub const fn method(self) -> Method {
        match self {
            Self::Options => Method::Options,
            Self::Register => Method::Register,
            Self::Call | Self::Busy | Self::Cancel | Self::NodeHangup | Self::NodeCall | Self::Reinvite => {
                Method::Invite
            }
        }
    }
}
