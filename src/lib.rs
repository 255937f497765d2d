//! sipring: a SIP load balancer. The map, one line a module, floors from the bottom up; imports go
//! down only, and `tests/floors.rs` holds them to it.

/// Floor 0: datagrams in slots with head room, and where they go.
pub mod packet;
