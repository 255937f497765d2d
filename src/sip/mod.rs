//! The language SIP as far as routing needs it: what a datagram says, and how to change it.
//!
//! Pure functions on bytes, driven by the shard: scan a datagram once, look into single values
//! where a decision needs them, gather changes and apply them in place, or write a response. Never
//! allocates, never reads a clock, never keeps anything from one message to the next.

mod address;
mod broad;
mod copy;
pub mod edit;
pub mod fault;
mod field;
pub mod hex;
mod host;
mod key;
mod known;
mod lane;
mod lines;
pub mod message;
pub mod names;
pub mod reply;
pub mod scan;
mod sight;
mod sixteen;
mod start;
pub mod text;
pub mod uri;
pub mod values;
mod via;
mod view;

pub use edit::{Applied, Edit, EditError, SPLICES_MAX, SpliceId, TEXT_MAX};
pub use fault::Fault;
pub use lane::{first_of, holds, last_but_one, places, same_from};
pub use message::{Address, CSeq, Line, Lines, Message, Number, Rport, Span, Start, Via};
pub use names::{Header, Method, WATCH_MAX, Watch};
pub use reply::Reply;
pub use scan::{scan, scan_in};
pub use text::Text;
pub use uri::{NameAddr, Scheme, Uri};
pub use values::{HeaderLine, Headers, Value, Values, headers, values, via, via_below};
