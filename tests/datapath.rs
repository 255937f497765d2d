//! The datapaths over real sockets, each behaviour over each of them, through their public trait.
//!
//! What must hold on every machine is tested on loopback; what needs a path, routers or neighbours
//! that do not answer is in `paths`, in network namespaces, and only as root.

#![expect(unsafe_code, reason = "a counting allocator, and namespaces of threads")]
#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a failed step fails the test")]

#[path = "datapath/allocations.rs"]
mod allocations;
#[path = "datapath/paths.rs"]
mod paths;
#[path = "datapath/rig.rs"]
mod rig;
#[path = "datapath/storms.rs"]
mod storms;
#[path = "datapath/trains.rs"]
mod trains;
#[path = "datapath/troubles.rs"]
mod troubles;

use std::thread;
use std::time::Duration;

use rig::*;
use sipring::datapath::{Batch, Options, Waker};
use sipring::packet::{Event, LocalPort, PeerId, Pool, PoolOptions, PortId, PortRole, Trouble, WorkerId};

over_both! {
    datagrams_of_both_families_cross_both_kinds_of_port_with_their_source
    a_connected_socket_and_the_unconnected_one_of_its_port_are_one_port
    endpoints_beyond_the_most_connected_and_of_another_family_are_sent_to_unconnected
    endpoints_change_at_run_time_and_those_that_stay_keep_their_sockets
    while_endpoints_change_nothing_is_lost_and_every_source_is_the_observed_one
    a_port_that_the_worker_does_not_hold_is_replaced_by_its_own_lowest_of_the_family
    a_turn_costs_a_system_call_a_socket_and_keeps_the_order_towards_each_peer
    more_packets_in_a_turn_than_a_batch_holds_all_leave_in_order
    workers_share_a_listener_and_each_datagram_reaches_one_of_them_once
    an_address_that_cannot_be_bound_is_named_with_advice_and_a_shared_port_is_found_by_the_probe
    large_datagrams_cross_whole_and_are_counted_and_longer_ones_are_refused
    with_no_free_slot_datagrams_wait_in_the_kernel_and_receives_do_not_spin
    a_wake_ends_the_wait_that_is_under_way_or_else_the_next_one_and_only_one
    letters_wake_a_worker_that_waits_on_its_sockets_and_none_is_overslept
    a_socket_that_is_always_full_does_not_starve_the_others
}

fn datagrams_of_both_families_cross_both_kinds_of_port_with_their_source<B: Backend>() {
    for ip in LOOPBACKS {
        let mut rig = Rig::<B>::at(ip);
        let (client, at) = peer(ip);
        for port in [LISTENER, WORKER] {
            client.send_to(b"in", rig.local(port)).unwrap();
            assert_eq!(rig.recv(1), [(port, at, b"in".to_vec())]);
            rig.send_one(b"out", port, PeerId::NONE, at);
            assert_eq!(next(&client), (b"out".to_vec(), rig.local(port)));
        }
        client.send_to(b"", rig.local(LISTENER)).unwrap();
        assert_eq!(rig.recv(1), [(LISTENER, at, Vec::new())], "an empty one is a datagram too");
    }
}

fn a_connected_socket_and_the_unconnected_one_of_its_port_are_one_port<B: Backend>() {
    for ip in LOOPBACKS {
        let mut rig = Rig::<B>::at(ip);
        let ((node, node_at), (stranger, stranger_at)) = (peer(ip), peer(ip));
        rig.connect(&[node_at]);
        let local = rig.local(WORKER);
        assert_eq!(connected_from(local), 1);
        rig.send_one(b"request", WORKER, PeerId(0), node_at);
        assert_eq!(next(&node), (b"request".to_vec(), local));
        node.send_to(b"response", local).unwrap();
        assert_eq!(rig.recv(1), [(WORKER, node_at, b"response".to_vec())]);
        stranger.send_to(b"other port", local).unwrap();
        assert_eq!(rig.recv(1), [(WORKER, stranger_at, b"other port".to_vec())]);
        rig.send_one(b"unconnected", WORKER, PeerId::NONE, node_at);
        assert_eq!(next(&node), (b"unconnected".to_vec(), local));
        rig.send_one(b"from the listener", LISTENER, PeerId(0), node_at);
        assert_eq!(next(&node), (b"from the listener".to_vec(), rig.local(LISTENER)));
        assert_eq!(rig.path.counts().rerouted, 0);
    }
}

fn endpoints_beyond_the_most_connected_and_of_another_family_are_sent_to_unconnected<B: Backend>() {
    let mut options = options(&LOOPBACKS);
    options.connected_max = 2;
    let mut rig = Rig::<B>::new(&options);
    let nodes: Vec<_> = LOOPBACKS.iter().flat_map(|ip| (0..4).map(|_| peer(ip))).collect();
    let mut addresses: Vec<_> = nodes.iter().map(|node| node.1).collect();
    addresses.push(addresses[0]);
    rig.connect(&addresses);
    for (port, place) in [(1, 0), (3, 4)] {
        let local = rig.local(PortId(port));
        assert_eq!(connected_from(local), 2);
        for (index, (node, at)) in nodes.iter().enumerate().skip(place).take(4) {
            rig.send_one(b"x", PortId(port), PeerId(index as u16), *at);
            assert_eq!(next(node), (b"x".to_vec(), local));
        }
    }
    rig.connect(&addresses[..1]);
    rig.path.recv(&mut rig.batch, Some(Duration::ZERO)).unwrap();
    rig.send_one(b"y", PortId(1), PeerId(8), addresses[0]);
    assert_eq!(next(&nodes[0].0).0, b"y", "an index that is gone");
    assert_eq!(rig.path.counts().connects_failed, 0);
}

fn endpoints_change_at_run_time_and_those_that_stay_keep_their_sockets<B: Backend>() {
    let mut rig = Rig::<B>::at("127.0.0.1");
    let nodes: Vec<_> = (0..3).map(|_| peer("127.0.0.1")).collect();
    let [first, second, third] = [nodes[0].1, nodes[1].1, nodes[2].1];
    let local = rig.local(WORKER);
    rig.connect(&[first, second]);
    nodes[0].0.send_to(b"to one that leaves", local).unwrap();
    nodes[1].0.send_to(b"to one that stays", local).unwrap();
    rig.connect(&[third, second]);
    let mut came = rig.recv(2);
    came.sort_by_key(|(_, _, bytes)| bytes.clone());
    assert_eq!(came[0], (WORKER, first, b"to one that leaves".to_vec()), "read before it is closed");
    assert_eq!(came[1], (WORKER, second, b"to one that stays".to_vec()));
    assert_eq!(connected_from(local), 2);
    // By an index of the old list, of the new one, and of neither.
    for (index, to) in [(0, 0), (1, 1), (0, 2), (7, 2)] {
        rig.send_one(b"x", WORKER, PeerId(index), nodes[to].1);
        assert_eq!(next(&nodes[to].0), (b"x".to_vec(), local));
    }
    rig.connect(&[]);
    rig.path.recv(&mut rig.batch, Some(Duration::ZERO)).unwrap();
    assert_eq!(connected_from(local), 0);
    nodes[1].0.send_to(b"after", local).unwrap();
    assert_eq!(rig.recv(1), [(WORKER, second, b"after".to_vec())]);
}

fn while_endpoints_change_nothing_is_lost_and_every_source_is_the_observed_one<B: Backend>() {
    const DATAGRAMS: u32 = 4_000;
    let mut rig = Rig::<B>::at("127.0.0.1");
    let local = rig.local(WORKER);
    let (stranger, stranger_at) = peer("127.0.0.1");
    let (node, node_at) = peer("127.0.0.1");
    let sender = thread::spawn(move || {
        for number in 0..DATAGRAMS {
            stranger.send_to(&number.to_be_bytes(), local).unwrap();
            if number % 64 == 63 {
                // Closed loop: no more than the receive buffer holds.
                next(&stranger);
            }
        }
    });
    let mut seen = vec![false; DATAGRAMS as usize];
    let mut windows = 0;
    for round in 0.. {
        let left = seen.iter().filter(|seen| !**seen).count();
        if left == 0 {
            break;
        }
        assert!(round < 100_000, "{left} were lost");
        rig.connect(if round % 2 == 0 { std::slice::from_ref(&node_at) } else { &[] });
        rig.path.recv(&mut rig.batch, Some(Duration::from_millis(1))).unwrap();
        for packet in rig.batch.packets.drain(..) {
            assert_eq!((packet.port, packet.source), (WORKER, stranger_at));
            let number = u32::from_be_bytes(packet.bytes().try_into().unwrap());
            assert!(!std::mem::replace(&mut seen[number as usize], true));
        }
        while seen.iter().take((windows + 1) * 64).skip(windows * 64).all(|seen| *seen) && windows * 64 < seen.len() {
            windows += 1;
            rig.send_one(b"go", WORKER, PeerId::NONE, stranger_at);
        }
    }
    sender.join().unwrap();
    drop(node);
}

fn a_port_that_the_worker_does_not_hold_is_replaced_by_its_own_lowest_of_the_family<B: Backend>() {
    let worker_port = |index| LocalPort { bind: dead("127.0.0.1"), role: PortRole::Worker { index } };
    let ports: Vec<_> = [3, 2, 1, 0].map(worker_port).to_vec();
    let mut rig = Rig::<B>::new(&Options { ports, worker: WorkerId(1), workers: 2, ..options(&[]) });
    let held: Vec<_> = (0..4).map(|port| rig.path.local(PortId(port)).is_some()).collect();
    assert_eq!(held, [true, false, true, false], "indices 3 and 1");
    let lowest = rig.local(PortId(2));
    let (node, at) = peer("127.0.0.1");
    rig.connect(&[at]);
    for (port, from, rerouted) in [(0, rig.local(PortId(0)), 0), (1, lowest, 1), (2, lowest, 1), (9, lowest, 2)] {
        rig.send_one(b"x", PortId(port), PeerId(0), at);
        assert_eq!(next(&node), (b"x".to_vec(), from));
        assert_eq!(rig.path.counts().rerouted, rerouted);
    }
    rig.send_one(b"x", PortId(2), PeerId::NONE, "[::1]:9".parse().unwrap());
    assert_eq!(rig.path.counts().send_errors.no_port, 1);
}

fn a_turn_costs_a_system_call_a_socket_and_keeps_the_order_towards_each_peer<B: Backend>() {
    let mut rig = Rig::<B>::at("127.0.0.1");
    let nodes: Vec<_> = (0..4).map(|_| peer("127.0.0.1")).collect();
    let connected: Vec<_> = nodes.iter().take(3).map(|node| node.1).collect();
    rig.connect(&connected);
    rig.path.recv(&mut rig.batch, Some(Duration::ZERO)).unwrap();
    let before = rig.path.counts().syscalls;
    for number in 0..60u8 {
        let to = usize::from(number) % 4;
        let index = if to < 3 { PeerId(to as u16) } else { PeerId::NONE };
        rig.put(&[number], WORKER, index, nodes[to].1);
    }
    rig.send();
    assert_eq!(rig.path.counts().syscalls - before, B::CALLS_TO_FOUR);
    let before = rig.path.counts().syscalls;
    for (place, (node, _)) in nodes.iter().enumerate() {
        for number in (place as u8..60).step_by(4) {
            assert_eq!(next(node).0, [number]);
        }
    }
    for number in 0..200u8 {
        nodes[3].0.send_to(&[number], rig.local(LISTENER)).unwrap();
    }
    let came = rig.recv(200);
    assert!(came.iter().map(|(_, _, bytes)| bytes[0]).eq(0..200), "in order of arrival, across batches");
    let calls = rig.path.counts().syscalls - before;
    assert!(B::CALLS_FOR_200.contains(&calls), "{calls} calls");
}

fn more_packets_in_a_turn_than_a_batch_holds_all_leave_in_order<B: Backend>() {
    let mut rig = Rig::<B>::new(&Options { batch: 8, ..options(&["127.0.0.1"]) });
    let (node, at) = peer("127.0.0.1");
    for number in 0..100u8 {
        rig.put(&[number], WORKER, PeerId::NONE, at);
    }
    rig.send();
    assert!((0..100u8).all(|number| next(&node).0 == [number]));
    assert_eq!(rig.path.counts().syscalls, 13);
}

fn workers_share_a_listener_and_each_datagram_reaches_one_of_them_once<B: Backend>() {
    alone(|| {
        let (probe, bind) = peer("127.0.0.1");
        drop(probe);
        let ports = vec![LocalPort { bind, role: PortRole::Listener }];
        let rig = |worker| {
            Rig::<B>::new(&Options { ports: ports.clone(), worker: WorkerId(worker), workers: 2, ..options(&[]) })
        };
        let mut rigs = [rig(0), rig(1)];
        let clients: Vec<_> = (0..64).map(|_| peer("127.0.0.1")).collect();
        for (client, _) in &clients {
            client.send_to(b"x", bind).unwrap();
        }
        let mut sources = Vec::new();
        for rig in &mut rigs {
            let before = sources.len();
            while rig.path.recv(&mut rig.batch, Some(Duration::ZERO)).is_ok() && !rig.batch.packets.is_empty() {
                sources.extend(rig.batch.packets.drain(..).map(|packet| packet.source));
            }
            assert!(sources.len() > before, "each gets a share");
        }
        sources.sort();
        let mut expected: Vec<_> = clients.iter().map(|client| client.1).collect();
        expected.sort();
        assert_eq!(sources, expected);
    });
}

fn an_address_that_cannot_be_bound_is_named_with_advice_and_a_shared_port_is_found_by_the_probe<B: Backend>() {
    alone(|| {
        let (holder, bind) = peer("127.0.0.1");
        let ports = vec![LocalPort { bind, role: PortRole::Worker { index: 0 } }];
        let pool = Pool::new(&PoolOptions { slots: 1, threads: 1 }).unwrap();
        let open = || B::open(&Options { ports: ports.clone(), ..options(&[]) }, pool, Waker::new().unwrap());
        let error = open().unwrap_err().to_string();
        assert!(error.starts_with(&format!("cannot bind udp {bind} (worker port 0): ")), "{error}");
        assert!(error.contains("another process holds it"), "{error}");
        drop(holder);
        sipring::datapath::probe(&ports).unwrap();
        let other = open().unwrap();
        assert!(open().is_ok(), "one group");
        assert!(sipring::datapath::probe(&ports).unwrap_err().to_string().contains(&bind.to_string()));
        drop(other);
        let foreign = LocalPort { bind: "192.0.2.1:5060".parse().unwrap(), role: PortRole::Listener };
        let error = sipring::datapath::probe(&[foreign]).unwrap_err().to_string();
        assert!(error.contains("no interface of this machine has that address"), "{error}");
    });
}

fn large_datagrams_cross_whole_and_are_counted_and_longer_ones_are_refused<B: Backend>() {
    for (ip, longest) in [("127.0.0.1", 65_507), ("::1", 65_527)] {
        let mut rig = Rig::<B>::at(ip);
        let (node, at) = peer(ip);
        rig.connect(&[at]);
        let lengths = [1_300, 1_452, 1_472, 1_473, 5_000, 20_000, 65_000, 65_507];
        for (length, (port, index)) in
            lengths.iter().flat_map(|l| [(l, (LISTENER, PeerId::NONE)), (l, (WORKER, PeerId(0)))])
        {
            let bytes: Vec<_> = (0..*length).map(|at| (at % 251) as u8).collect();
            rig.send_one(&bytes, port, index, at);
            let (back, from) = next(&node);
            assert_eq!((&back, from), (&bytes, rig.local(port)));
            node.send_to(&back, from).unwrap();
            assert_eq!(rig.recv(1), [(port, at, bytes)]);
        }
        let fragmented = if ip == "::1" { 12 } else { 10 };
        assert_eq!(rig.path.counts().fragmented, fragmented);
        for (port, index) in [(LISTENER, PeerId::NONE), (WORKER, PeerId(0))] {
            rig.put(&vec![7; longest + 1], port, index, at);
            rig.put(b"behind it", port, index, at);
            rig.send();
            assert_eq!(next(&node).0, b"behind it");
            assert_eq!(rig.events(1), [Event { port, to: at, trouble: Trouble::TooLong }]);
        }
        assert_eq!(rig.path.counts().send_errors.too_long, 2);
        assert_eq!(rig.path.counts().send_errors.sum(), 2);
    }
}

fn with_no_free_slot_datagrams_wait_in_the_kernel_and_receives_do_not_spin<B: Backend>() {
    let mut rig = Rig::<B>::with_slots(&options(&["127.0.0.1"]), 8);
    let (client, _) = peer("127.0.0.1");
    for number in 0..20u8 {
        client.send_to(&[number], rig.local(LISTENER)).unwrap();
    }
    rig.recv_until(|batch| batch.packets.len() == 8);
    let mut held: Vec<_> = rig.batch.packets.drain(..).collect();
    let stalls = rig.path.counts().stalls;
    let syscalls = rig.path.counts().syscalls;
    rig.path.recv(&mut rig.batch, None).unwrap();
    assert!(rig.batch.is_empty());
    let done = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let timer = std::sync::Arc::clone(&done);
    thread::spawn(move || {
        thread::sleep(Duration::from_millis(100));
        timer.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    while !done.load(std::sync::atomic::Ordering::Relaxed) {
        rig.path.recv(&mut rig.batch, None).unwrap();
        assert!(rig.batch.is_empty());
    }
    let stalled = rig.path.counts().stalls - stalls;
    assert!((1..=500).contains(&stalled), "{stalled} receives in 100 ms");
    assert_eq!(rig.path.counts().syscalls, syscalls, "none of them read");
    let waker = rig.path.waker();
    waker.wake();
    rig.path.recv(&mut rig.batch, None).unwrap();
    let mut numbers: Vec<u8> = Vec::new();
    while numbers.len() < 20 {
        numbers.extend(held.drain(..).map(|packet| packet.bytes()[0]));
        rig.recv_until(|batch| !batch.packets.is_empty() || numbers.len() == 20);
        held.append(&mut rig.batch.packets);
        if numbers.len() + held.len() == 20 {
            numbers.extend(held.drain(..).map(|packet| packet.bytes()[0]));
        }
    }
    assert!(numbers.iter().copied().eq(0..20), "none lost, in order: {numbers:?}");
}

fn a_wake_ends_the_wait_that_is_under_way_or_else_the_next_one_and_only_one<B: Backend>() {
    let mut rig = Rig::<B>::at("127.0.0.1");
    let waker = rig.path.waker();
    waker.wake();
    waker.wake();
    rig.path.recv(&mut rig.batch, None).unwrap();
    assert!(rig.batch.is_empty());
    let (ready, started) = std::sync::mpsc::channel();
    let other = thread::spawn(move || {
        started.recv().unwrap();
        waker.wake();
    });
    ready.send(()).unwrap();
    rig.path.recv(&mut rig.batch, None).unwrap();
    assert!(rig.batch.is_empty(), "a wait without end ended");
    other.join().unwrap();
    // Taken back by the receive before: this one has to wait for its datagram.
    let (client, _) = peer("127.0.0.1");
    let to = rig.local(LISTENER);
    let sender = thread::spawn(move || client.send_to(b"x", to).unwrap());
    rig.path.recv(&mut rig.batch, None).unwrap();
    assert_eq!(rig.batch.packets.len(), 1);
    sender.join().unwrap();
    let (client, _) = peer("127.0.0.1");
    client.send_to(b"y", to).unwrap();
    rig.batch.clear();
    rig.path.recv(&mut rig.batch, Some(Duration::MAX)).unwrap();
    assert_eq!(rig.batch.packets.len(), 1, "no time is too long to wait");
}

fn letters_wake_a_worker_that_waits_on_its_sockets_and_none_is_overslept<B: Backend>() {
    use sipring::mail::{Bell, Mailbox};
    const LETTERS: u32 = 5_000;
    let mut rig = Rig::<B>::at("127.0.0.1");
    let bell = Bell::new(rig.path.waker());
    let mailbox = std::sync::Arc::new(Mailbox::new(4, bell.clone()));
    let (taken, answers) = std::sync::mpsc::channel();
    let letters = std::sync::Arc::clone(&mailbox);
    let writer = thread::spawn(move || {
        for number in 0..LETTERS {
            letters.push(number).unwrap();
            letters.ring();
            // The next one only when this one was read: an overslept letter would end it all.
            assert_eq!(answers.recv_timeout(PATIENCE).unwrap(), number);
        }
    });
    for expected in 0..LETTERS {
        let letter = loop {
            if let Some(letter) = mailbox.pop() {
                break letter;
            }
            if bell.sleep(|| mailbox.is_empty()) {
                rig.path.recv(&mut rig.batch, None).unwrap();
                bell.rise();
            }
        };
        assert_eq!(letter, expected);
        taken.send(letter).unwrap();
    }
    writer.join().unwrap();
}

fn a_socket_that_is_always_full_does_not_starve_the_others<B: Backend>() {
    let mut rig = Rig::<B>::new(&Options { batch: 4, ..options(&["127.0.0.1"]) });
    rig.batch = Batch::new(4);
    let (client, _) = peer("127.0.0.1");
    for number in 0..200u8 {
        client.send_to(&[number], rig.local(LISTENER)).unwrap();
    }
    rig.path.recv(&mut rig.batch, None).unwrap();
    client.send_to(b"quiet", rig.local(WORKER)).unwrap();
    let mut turns = 0;
    while !rig.batch.packets.drain(..).any(|packet| packet.port == WORKER) {
        turns += 1;
        rig.path.recv(&mut rig.batch, Some(Duration::ZERO)).unwrap();
    }
    assert!(turns <= 12, "{turns} turns, of 50 that the other socket fills");
    assert_eq!(rig.pool.usage().slots, 512);
}
