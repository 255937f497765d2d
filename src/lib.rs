//! sipring: a SIP load balancer. The map, one line a module, floors from the bottom up; imports go
//! down only, and `tests/floors.rs` holds them to it.

/// Floor 1: which node gets a call, and the cookies that keep it there; pure.
#[forbid(unsafe_code)]
pub mod balance;
/// Floor 0: programs that the kernel runs, put together without a toolchain; pure.
#[forbid(unsafe_code)]
pub mod bpf;
/// Floor 6: from files to what the floors below are given, checked once.
#[forbid(unsafe_code)]
pub mod config;
/// Floor 5: the thread that decides what workers are told: plans, names, draining.
#[forbid(unsafe_code)]
pub mod control;
/// Floor 3: packets in and out: sockets, by io_uring or in batches, and a replay in memory.
#[expect(unsafe_code, reason = "system calls on arrays of message headers, rings and error queues")]
pub mod datapath;
/// Floor 0: between threads: letters, state where the newest wins, and who must be woken.
#[forbid(unsafe_code)]
pub mod mail;
/// Floor 0: datagrams in slots with head room, and where they go.
pub mod packet;
/// Floor 0: whether this processor runs this build.
#[forbid(unsafe_code)]
pub mod processor;
/// Floor 7: start, reload, stop; in a process of its own or inside another.
#[forbid(unsafe_code)]
pub mod serve;
/// Floor 3: what one worker owns and decides, without I/O.
#[forbid(unsafe_code)]
pub mod shard;
/// Floor 1: the language SIP, as pure functions on bytes: scan, edit, reply.
#[forbid(unsafe_code)]
pub mod sip;
/// Floor 0: timers, a fixed number of them, in milliseconds.
#[forbid(unsafe_code)]
pub mod wheel;
/// Floor 4: one pinned thread and its turn: recv, mail, handle, expire, send.
#[forbid(unsafe_code)]
pub mod worker;
