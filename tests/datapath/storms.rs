//! More than the buffers hold, from more sockets than one, while endpoints come and go.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use sipring::datapath::{Batch, Options};
use sipring::packet::PeerId;

use super::rig::*;

over_both! {
    a_burst_longer_than_all_buffers_is_received_whole_and_in_order
    of_two_sockets_that_are_always_full_none_starves
    an_endpoint_that_leaves_and_comes_back_before_the_next_turn_stays_connected
    endpoints_come_and_go_under_load_and_nothing_is_lost_either_way
    after_many_refusals_every_buffer_is_still_received_into
    datagrams_that_are_awaited_one_by_one_are_never_overslept
    every_slot_comes_back_when_the_datapath_goes
}

fn a_burst_longer_than_all_buffers_is_received_whole_and_in_order<B: Backend>() {
    const DATAGRAMS: u32 = 1_200;
    let mut rig = Rig::<B>::with_slots(&Options { batch: 16, ..options(&["127.0.0.1"]) }, 128);
    let (client, _) = peer("127.0.0.1");
    for round in 0..3 {
        for number in 0..DATAGRAMS {
            client.send_to(&number.to_be_bytes(), rig.local(LISTENER)).unwrap();
        }
        rig.batch = Batch::new(32);
        for number in 0..DATAGRAMS {
            if rig.batch.packets.is_empty() {
                rig.recv_until(|batch| !batch.packets.is_empty());
                rig.batch.packets.reverse();
            }
            let packet = rig.batch.packets.pop().unwrap();
            assert_eq!(packet.bytes(), number.to_be_bytes(), "round {round}");
        }
    }
    assert_eq!(rig.path.counts().stalls, 0, "the pool was never empty");
}

fn of_two_sockets_that_are_always_full_none_starves<B: Backend>() {
    let mut rig = Rig::<B>::with_slots(&Options { batch: 8, ..options(&["127.0.0.1"]) }, 128);
    rig.batch = Batch::new(8);
    let (client, _) = peer("127.0.0.1");
    let ports = [LISTENER, WORKER].map(|port| rig.local(port));
    for port in ports {
        (0..400).for_each(|_| assert_eq!(client.send_to(b"x", port).unwrap(), 1));
    }
    let mut came = [0; 2];
    for _ in 0..40 {
        rig.path.recv(&mut rig.batch, Some(PATIENCE)).unwrap();
        for packet in rig.batch.packets.drain(..) {
            let port = usize::from(packet.port == WORKER);
            came[port] += 1;
            client.send_to(b"x", ports[port]).unwrap();
        }
    }
    assert!(came.iter().all(|came| *came >= 64), "of 320 datagrams {came:?}");
}

fn an_endpoint_that_leaves_and_comes_back_before_the_next_turn_stays_connected<B: Backend>() {
    let mut rig = Rig::<B>::at("127.0.0.1");
    let (node, at) = peer("127.0.0.1");
    let local = rig.local(WORKER);
    rig.connect(&[at]);
    rig.path.recv(&mut rig.batch, Some(Duration::ZERO)).unwrap();
    for _ in 0..50 {
        rig.connect(&[]);
        rig.connect(&[at]);
        rig.path.recv(&mut rig.batch, Some(Duration::ZERO)).unwrap();
        assert_eq!(connected_from(local), 1);
        rig.send_one(b"request", WORKER, PeerId(0), at);
        assert_eq!(next(&node), (b"request".to_vec(), local));
        node.send_to(b"response", local).unwrap();
        assert_eq!(rig.recv(1), [(WORKER, at, b"response".to_vec())]);
    }
    assert_eq!(rig.path.counts().connects_failed, 0);
}

/// What `node` answers to all that it has got.
fn answer(node: &UdpSocket) {
    let mut room = [0; 64];
    while let Ok((len, source)) = node.recv_from(&mut room) {
        node.send_to(&room[..len], source).unwrap();
    }
}

fn endpoints_come_and_go_under_load_and_nothing_is_lost_either_way<B: Backend>() {
    const TURNS: u32 = 400;
    let mut rig = Rig::<B>::at("127.0.0.1");
    let nodes: Vec<_> = (0..8).map(|_| peer("127.0.0.1")).collect();
    nodes.iter().for_each(|(node, _)| node.set_nonblocking(true).unwrap());
    let addresses: Vec<SocketAddr> = nodes.iter().map(|node| node.1).collect();
    let mut got = vec![Vec::new(); nodes.len()];
    for turn in 0..TURNS {
        // A window of five that moves on by one each turn.
        let window: Vec<_> = (0..5).map(|at| addresses[(turn as usize + at) % 8]).collect();
        rig.connect(&window);
        for (place, at) in addresses.iter().enumerate() {
            let index = window.iter().position(|known| known == at).map_or(PeerId::NONE, |place| PeerId(place as u16));
            rig.put(&[turn.to_be_bytes(), (place as u32).to_be_bytes()].concat(), WORKER, index, *at);
        }
        rig.send();
        nodes.iter().for_each(|(node, _)| answer(node));
        rig.path.recv(&mut rig.batch, Some(Duration::ZERO)).unwrap();
        take_answers(&mut rig, &addresses, &mut got);
    }
    while got.iter().any(|got| got.len() < TURNS as usize) {
        rig.recv_until(|batch| !batch.packets.is_empty());
        take_answers(&mut rig, &addresses, &mut got);
    }
    for got in &mut got {
        got.sort_unstable();
        assert!(got.iter().copied().eq(0..TURNS), "each once");
    }
    assert_eq!(connected_from(rig.local(WORKER)), 5);
    let counts = rig.path.counts();
    assert_eq!((counts.sent, counts.send_errors.sum(), counts.connects_failed), (u64::from(8 * TURNS), 0, 0));
}

fn take_answers<B: Backend>(rig: &mut Rig<B>, addresses: &[SocketAddr], got: &mut [Vec<u32>]) {
    for packet in rig.batch.packets.drain(..) {
        let number = |at: usize| u32::from_be_bytes(packet.bytes()[at..at + 4].try_into().unwrap());
        let place = number(4) as usize;
        assert_eq!((packet.port, packet.source), (WORKER, addresses[place]));
        got[place].push(number(0));
    }
}

fn after_many_refusals_every_buffer_is_still_received_into<B: Backend>() {
    alone(|| {
        let mut rig = Rig::<B>::with_slots(&Options { batch: 16, ..options(&["127.0.0.1"]) }, 256);
        let (client, _) = peer("127.0.0.1");
        let gone = dead("127.0.0.1");
        rig.connect(&[gone]);
        let ports = [LISTENER, WORKER].map(|port| rig.local(port));
        for number in 0..1_000_u32 {
            rig.put(b"anybody?", LISTENER, PeerId::NONE, gone);
            rig.put(b"anybody?", WORKER, PeerId(0), gone);
            rig.send();
            let port = number as usize % 2;
            client.send_to(&number.to_be_bytes(), ports[port]).unwrap();
            rig.recv_until(|batch| batch.packets.len() == 1 && batch.events.len() == 2);
            rig.batch.clear();
        }
        let before = (rig.path.counts().starved, rig.path.counts().rearmed);
        for number in 0..60_u8 {
            client.send_to(&[number], ports[0]).unwrap();
        }
        assert!(rig.recv(60).iter().map(|(_, _, bytes)| bytes[0]).eq(0..60));
        let counts = rig.path.counts();
        assert_eq!(((counts.starved, counts.rearmed), counts.stalls), (before, 0), "no want of buffers");
        assert_eq!((counts.sent, counts.icmp), (2_000, 2_000));
    });
}

fn datagrams_that_are_awaited_one_by_one_are_never_overslept<B: Backend>() {
    const DATAGRAMS: u32 = 10_000;
    let mut rig = Rig::<B>::at("127.0.0.1");
    let (node, at) = peer("127.0.0.1");
    rig.connect(&[at]);
    let ports = [LISTENER, WORKER].map(|port| rig.local(port));
    let asking = std::thread::spawn(move || {
        for number in 0..DATAGRAMS {
            node.send_to(&number.to_be_bytes(), ports[number as usize % 2]).unwrap();
            assert_eq!(next(&node).0, number.to_be_bytes());
        }
    });
    for number in 0..DATAGRAMS {
        while rig.batch.packets.is_empty() {
            rig.path.recv(&mut rig.batch, None).unwrap();
        }
        let packet = rig.batch.packets.pop().unwrap();
        assert!(rig.batch.packets.is_empty());
        assert_eq!(packet.bytes(), number.to_be_bytes());
        rig.send_one(&number.to_be_bytes(), packet.port, PeerId(0), at);
    }
    asking.join().unwrap();
}

fn every_slot_comes_back_when_the_datapath_goes<B: Backend>() {
    let mut rig = Rig::<B>::at("127.0.0.1");
    let (client, _) = peer("127.0.0.1");
    for _ in 0..100 {
        client.send_to(b"x", rig.local(LISTENER)).unwrap();
    }
    rig.recv(10);
    let (pool, port) = (rig.pool, rig.local(LISTENER));
    drop(rig);
    let usage = pool.usage();
    assert_eq!(usage.free, usage.slots);
    assert!(UdpSocket::bind(port).is_ok(), "its sockets are closed");
}
