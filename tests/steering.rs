//! One address and port that sends everything: the kernel gives each message to the worker that owns
//! it, whichever of the two programs does it, and loses none that they do not understand.

#![expect(unsafe_code, reason = "capabilities and calls taken from a child")]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::disallowed_methods, reason = "a test")]

#[path = "steering/process.rs"]
mod process;
mod rig;

use std::net::{IpAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use sipring::datapath::{Batch, Datapath, Groups, Mmsg, Options, Steered, Waker};
use sipring::packet::{LocalPort, Pool, PoolOptions, PortId, PortRole, WorkerId};
use sipring::shard::{Site, steering};
use sipring::sip::{Watch, scan};

const PATIENCE: Duration = Duration::from_secs(20);
const PROGRAMS: [Steered; 2] = [Steered::Ebpf, Steered::Cbpf];

/// An address that no other test uses, in this run or another.
fn host() -> IpAddr {
    static NEXT: AtomicU8 = AtomicU8::new(0);
    let pid = std::process::id();
    [127, 26, (pid >> 4) as u8, ((pid as u8) << 4) | NEXT.fetch_add(1, Ordering::Relaxed)].into()
}

/// A listener that workers share, each of which only receives, and one client.
struct Bench {
    site: Arc<Site>,
    paths: Vec<Mmsg>,
    batch: Batch,
    client: UdpSocket,
    groups: Arc<Groups>,
}

impl Bench {
    fn new(host: IpAddr, workers: u16, wanted: &[Steered]) -> Self {
        let mut parts = rig::Parts::default();
        parts.options.workers = workers;
        let site = rig::site(&parts);
        let bind = UdpSocket::bind((host, 0)).unwrap().local_addr().unwrap();
        let mut options = Options {
            ports: vec![LocalPort { bind, role: PortRole::Listener }],
            workers,
            receive_buffer: 4 << 20,
            ..Options::default()
        };
        let groups = Arc::new(Groups::open(&options, &steering(&site).unwrap(), wanted).unwrap());
        options.groups = Some(groups.clone());
        let pool = Pool::new(&PoolOptions { slots: 1_024, threads: workers }).unwrap();
        let open = |worker| {
            let options = Options { worker: WorkerId(worker), ..options.clone() };
            Mmsg::open(&options, pool, Waker::new().unwrap()).unwrap()
        };
        let paths: Vec<_> = (0..workers).map(open).collect();
        let client = UdpSocket::bind((host, 0)).unwrap();
        client.connect(paths[0].local(PortId(0)).unwrap()).unwrap();
        Self { site, paths, batch: Batch::new(64), client, groups }
    }

    /// Sends all, and tells which worker got each; `None` for what was lost.
    fn shoot(&mut self, messages: &[Vec<u8>]) -> Vec<Option<u16>> {
        let mut at = vec![None; messages.len()];
        for (burst, messages) in messages.chunks(64).enumerate() {
            let from = burst * 64;
            for (message, number) in messages.iter().zip(from as u32..) {
                self.client.send(&[&message[..], &number.to_be_bytes()].concat()).unwrap();
            }
            let begun = Instant::now();
            let mut left = messages.len();
            while left > 0 && begun.elapsed() < PATIENCE {
                for (path, worker) in self.paths.iter_mut().zip(0..) {
                    path.recv(&mut self.batch, Some(Duration::ZERO)).unwrap();
                    for packet in self.batch.packets.drain(..) {
                        let number = u32::from_be_bytes(*packet.bytes().last_chunk().unwrap());
                        at[number as usize] = Some(worker);
                        left -= 1;
                    }
                }
            }
        }
        at
    }

    /// The worker that a request belongs to, as the workers see it.
    fn owner(&self, message: &[u8]) -> u16 {
        let scanned = scan(message, &Watch::NONE);
        assert_eq!(scanned.fault, None, "{}", String::from_utf8_lossy(message));
        self.site.owner(self.site.slot_of(message, &scanned)).0
    }

    /// How many of the messages came to another worker than their owner; none may be lost.
    fn astray(&mut self, messages: &[Vec<u8>]) -> usize {
        let at = self.shoot(messages);
        assert!(at.iter().all(Option::is_some), "none is lost");
        messages.iter().zip(&at).filter(|(message, at)| **at != Some(self.owner(message))).count()
    }
}

fn request(method: &str, via: &str, call: usize) -> Vec<u8> {
    format!(
        "{method} sip:bob@example.net SIP/2.0\r\n{via}\r\nMax-Forwards: 70\r\nFrom: <sip:a@example.net>;tag=a8f2c1\r\n\
         To: <sip:bob@example.net>\r\nCall-ID: {call}-28371@192.0.2.10\r\nCSeq: 1 {method}\r\nContent-Length: 0\r\n\r\n"
    )
    .into_bytes()
}

fn via(branch: &str) -> String {
    format!("Via: SIP/2.0/UDP 192.0.2.10:5060;rport;branch={branch}")
}

/// A branch as SIPp numbers them, one of many random ones, or one of a proxy's.
fn branch(call: usize) -> String {
    let stirred = (call as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    match call % 3 {
        0 => format!("z9hG4bK-28371-{call}-0"),
        1 => format!("z9hG4bKPj{stirred:016x}.{:x}", stirred.rotate_left(29)),
        _ => format!("z9hG4bK{call:x}"),
    }
}

#[test]
fn all_messages_of_a_transaction_from_one_address_and_port_come_to_its_owner_and_all_owners_get_their_share() {
    const CALLS: usize = 25_000;
    for way in PROGRAMS {
        for host in [host(), "::1".parse().unwrap()] {
            let mut bench = Bench::new(host, 2, &[way]);
            assert_eq!(bench.groups.steered(), way);
            let mut got = [0_u32; 2];
            // The retransmission last, long after the transaction.
            for method in ["INVITE", "CANCEL", "ACK", "INVITE"] {
                let messages: Vec<_> = (0..CALLS).map(|call| request(method, &via(&branch(call)), call)).collect();
                let at = bench.shoot(&messages);
                for (message, at) in messages.iter().zip(at) {
                    let at = at.unwrap_or_else(|| panic!("lost: {}", String::from_utf8_lossy(message)));
                    assert_eq!(at, bench.owner(message), "{}", String::from_utf8_lossy(message));
                    got[usize::from(at)] += 1;
                }
            }
            println!("{} {host}: {got:?}", way.label());
            let share = got[0] * 100 / (got[0] + got[1]);
            assert!((40..=60).contains(&share), "{got:?}");
        }
    }
}

/// What stands between the request line and Max-Forwards, and whether both programs find its branch.
const ODD: &[(&str, [bool; 2])] = &[
    ("Via: SIP/2.0/UDP h;branch={}", [true, true]),
    ("v: SIP/2.0/UDP h;branch={}", [true, true]),
    ("V:SIP/2.0/UDP h;BRANCH={};rport", [true, true]),
    ("VIA \t: SIP / 2.0 / UDP h ;branch={} ;rport", [true, true]),
    ("Via: SIP/2.0/UDP h;rport\r\n ;branch={}", [true, true]),
    ("Via: SIP/2.0/UDP h;branch={}\r\n\t;rport", [true, true]),
    ("Via: SIP/2.0/UDP h;branch={} ", [true, true]),
    ("Via: SIP/2.0/UDP [2001:db8::7]:5060;rport;received=2001:db8::8;branch={}", [true, true]),
    (
        "Subject: hi\r\nX-Long: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\nVia: SIP/2.0/UDP h;branch={}",
        [true, true],
    ),
    ("Vary: a\r\nVersion: 1\r\nViaduct: x;y=z\r\nVia: SIP/2.0/UDP h;branch={}", [true, true]),
    ("Via: SIP/2.0/UDP branch.example;branch={}", [true, true]),
    ("Via: SIP/2.0/UDP h;branch={}, SIP/2.0/UDP i;branch=z9hG4bKsame", [true, true]),
    ("Via: SIP/2.0/UDP h;branch={}\r\nVia: SIP/2.0/UDP i;branch=z9hG4bKsame", [true, true]),
    ("Via: SIP/2.0/UDP h;x-y=z;branch={}aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", [true, true]),
    ("Via: SIP/2.0/UDP h;branch={}.aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", [true, false]),
    // Escapes, quotes and white space around it; a value without the cookie; none at all.
    ("Via: SIP/2.0/UDP h;branch={}%41'`~", [true, true]),
    ("Via: SIP/2.0/UDP h;branch=\"{}\"", [true, false]),
    ("Via: SIP/2.0/UDP h;x=\";branch=z9hG4bKno\";branch={}", [false, false]),
    ("Via: SIP/2.0/UDP h;\r\n Branch = {} ;rport", [false, true]),
    ("Via: SIP/2.0/UDP h;branch=q{}", [true, false]),
    ("Via: SIP/2.0/UDP h", [false, false]),
    ("Via: SIP/2.0/UDP h\r\nVia: SIP/2.0/UDP i;branch={}", [false, false]),
    (
        "Via: SIP/2.0/UDP h;branch={}aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        [false, false],
    ),
];

#[test]
fn vias_written_in_other_ways_are_found_or_left_to_the_kernel_and_never_lost() {
    const COUNT: usize = 500;
    for (way, place) in PROGRAMS.into_iter().zip(0..) {
        let mut bench = Bench::new(host(), 2, &[way]);
        for (form, found) in ODD {
            let text = |call: usize| {
                let cookie = if form.contains("=q") { "" } else { "z9hG4bK" };
                request("INVITE", &form.replace("{}", &format!("{cookie}{:x}", call * 7_919)), call)
            };
            let messages: Vec<_> = (0..COUNT).map(text).collect();
            let astray = bench.astray(&messages);
            println!("{} {form}: {astray} astray", way.label());
            assert!(!found[place] || astray == 0, "{} {form}: {astray} astray", way.label());
        }
    }
}

#[test]
fn a_branch_beyond_what_is_scanned_is_left_to_the_kernel() {
    for way in PROGRAMS {
        let mut bench = Bench::new(host(), 2, &[way]);
        // Across the end of what is scanned, and far behind it.
        for padding in (380..560).chain([1_300, 4_000]) {
            let padding = "y".repeat(padding);
            let text = |call| request("INVITE", &format!("X: {padding}\r\n{}", via(&branch(call))), call);
            bench.astray(&(0..16).map(text).collect::<Vec<_>>());
        }
    }
}

#[test]
fn messages_that_came_in_fragments_are_steered_too() {
    for way in PROGRAMS {
        let mut bench = Bench::new(host(), 2, &[way]);
        // Longer than the loopback carries in one piece.
        let text = |call| [request("INVITE", &via(&branch(call)), call), vec![b'x'; 65_000]].concat();
        assert_eq!(bench.astray(&(0..32).map(text).collect::<Vec<_>>()), 0);
    }
}

#[test]
fn responses_come_to_the_worker_whose_slot_our_branch_names() {
    for way in PROGRAMS {
        for workers in [2_u16, 3] {
            let mut bench = Bench::new(host(), workers, &[way]);
            let text = |number: usize| {
                let via =
                    format!("Via: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK0r{number:04x}8001{:024x}", number * 77);
                let rest = "Via: SIP/2.0/UDP h;branch=z9hG4bKx\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:a@b>;tag=2\r\n\
                            Call-ID: 1@2\r\nCSeq: 1 INVITE\r\nContent-Length: 0\r\n\r\n";
                format!("SIP/2.0 200 OK\r\n{via}{number:08x};rport\r\n{rest}").into_bytes()
            };
            let numbers = || (0..1_024).chain([0x8fff, 0xabcd, 0xffff]);
            let at = bench.shoot(&numbers().map(text).collect::<Vec<_>>());
            for (number, at) in numbers().zip(at) {
                assert_eq!(at, Some((number % usize::from(workers)) as u16), "{} slot {number}", way.label());
            }
        }
    }
}

#[test]
fn what_is_no_message_still_arrives() {
    for way in PROGRAMS {
        let mut bench = Bench::new(host(), 2, &[way]);
        let mut seed = 1_u64;
        let mut noise = |length: usize| {
            let mut byte = || {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                b"\r\nVv:ia;,=branch z9hG4bK0r\xff\0"[(seed >> 33) as usize % 26]
            };
            (0..length).map(|_| byte()).collect::<Vec<_>>()
        };
        let mut messages: Vec<_> = (0..1_400).map(&mut noise).collect();
        messages.extend((0..2_000).map(|n| noise(60 + n % 700)));
        messages.extend(["\r\n\r\n", "\0", "SIP/2.0 200 OK\r\n", "INVITE", "\r\nVia:"].map(|text| text.into()));
        assert!(bench.shoot(&messages).iter().all(Option::is_some));
        let whole = request("INVITE", &via("z9hG4bKcut"), 1);
        let cut: Vec<_> = (0..whole.len()).map(|length| whole[..length].to_vec()).collect();
        assert!(bench.shoot(&cut).iter().all(Option::is_some));
    }
}

#[test]
fn with_one_worker_nothing_is_attached_and_without_a_program_the_kernel_chooses() {
    let bench = Bench::new(host(), 1, &PROGRAMS);
    assert_eq!(bench.groups.steered(), Steered::Tuple);
    let mut bench = Bench::new(host(), 2, &[Steered::Tuple]);
    let messages: Vec<_> = (0..200).map(|call| request("INVITE", &via(&branch(call)), call)).collect();
    let at = bench.shoot(&messages);
    assert!(at[0].is_some() && at.iter().all(|worker| *worker == at[0]), "one 5-tuple, one worker");
}

#[test]
fn every_worker_of_several_is_reached_and_gets_its_own_messages() {
    for way in PROGRAMS {
        for workers in [3_u16, 4] {
            let mut bench = Bench::new(host(), workers, &[way]);
            let messages: Vec<_> = (0..2_000).map(|call| request("OPTIONS", &via(&branch(call)), call)).collect();
            let at = bench.shoot(&messages);
            assert!((0..workers).all(|worker| at.contains(&Some(worker))));
            assert_eq!(bench.astray(&messages), 0);
        }
    }
}
