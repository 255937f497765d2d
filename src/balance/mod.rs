//! Who gets the call: nodes, sets, the table from key to node, cookies, and the plan of all of them.
//!
//! Pure functions of their inputs: `config` describes a plan, `control` builds and mails it, shards
//! ask it once a request. Never reads a clock, a file or a random source, and knows no SIP.

mod base32;
mod check;
mod cookie;
mod explain;
mod index;
mod key;
mod node;
mod pick;
mod plan;
mod raw;
mod rule;
mod score;
mod set;
mod short;
mod table;
mod twin;
mod vitals;
mod watch;
mod wide;

pub use cookie::{
    Binding, COOKIE_MAX, Cookie, CookieFault, CookieKey, CookieKeys, CookieTarget, KeysError, MARK, PortTag, Role,
    Signed, has_mark,
};
pub use explain::{Explanation, explain};
pub use key::{Key, Secrets};
pub use node::{Endpoint, Health, Intent, MarkIx, Node, NodeId, NodeIx, Refusal};
pub use pick::pick;
pub use plan::{NODES_MAX, NodeSpec, Plan, PlanError, PlanSpec, Sender, SetSpec};
pub use rule::{HostMatch, Rule};
pub use set::{
    ContactMode, KeyBy, Keys, LostDialog, METHODS, NodeSet, PathMode, SetIx, SetPolicy, SourceForm, SourceHeader,
};
pub use table::{RANKS, Ranked, SLOTS, Table};
pub use vitals::Vitals;
pub use watch::HealthPolicy;
pub(crate) use wide::WIDE_MAX;
pub use wide::Wide;
