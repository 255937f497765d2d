//! sipring: a SIP load balancer. The map, one line a module, floors from the bottom up; imports go
//! down only, and `tests/floors.rs` holds them to it.

/// Floor 1: which node gets a call, and the cookies that keep it there; pure.
#[forbid(unsafe_code)]
pub mod balance;
/// Floor 3: packets in and out: sockets, and a replay in memory.
#[expect(unsafe_code, reason = "system calls on arrays of message headers and error queues")]
pub mod datapath;
/// Floor 0: between threads: letters, state where the newest wins, and who must be woken.
#[forbid(unsafe_code)]
pub mod mail;
/// Floor 0: datagrams in slots with head room, and where they go.
pub mod packet;
/// Floor 3: what one worker owns and decides, without I/O.
#[forbid(unsafe_code)]
pub mod shard;
/// Floor 1: the language SIP, as pure functions on bytes: scan, edit, reply.
#[forbid(unsafe_code)]
pub mod sip;
/// Floor 0: timers, a fixed number of them, in milliseconds.
#[forbid(unsafe_code)]
pub mod wheel;
/// Floor 4: one pinned thread and its turn.
#[forbid(unsafe_code)]
pub mod worker;
