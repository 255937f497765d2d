//! ICMP errors and refused sends, on loopback.

use std::net::SocketAddr;

use sipring::packet::{Event, PeerId, PortId, Trouble};

use super::rig::*;

over_both! {
    a_refused_send_is_an_event_naming_port_and_peer_from_every_kind_of_socket
    a_refusal_pending_on_a_shared_socket_loses_no_datagram_for_another_peer
    datagrams_behind_a_pending_refusal_are_received_in_the_same_turn
    the_send_that_meets_an_old_refusal_is_sent_again_and_arrives
    a_burst_to_a_dead_node_is_counted_exactly_and_told_once
    a_destination_that_no_datagram_can_have_is_counted_and_harms_no_other
}

fn unreachable(port: PortId, to: SocketAddr) -> Event {
    Event { port, to, trouble: Trouble::Unreachable }
}

fn a_refused_send_is_an_event_naming_port_and_peer_from_every_kind_of_socket<B: Backend>() {
    alone(|| {
        for ip in LOOPBACKS {
            let mut rig = Rig::<B>::at(ip);
            let gone = dead(ip);
            rig.connect(&[gone]);
            for (port, index) in [(LISTENER, PeerId::NONE), (WORKER, PeerId::NONE), (WORKER, PeerId(0))] {
                rig.send_one(b"anybody?", port, index, gone);
                assert_eq!(rig.events(1), [unreachable(port, gone)]);
            }
            let counts = rig.path.counts();
            assert_eq!((counts.sent, counts.send_errors.sum(), counts.icmp), (3, 0, 3));
        }
    });
}

fn a_refusal_pending_on_a_shared_socket_loses_no_datagram_for_another_peer<B: Backend>() {
    alone(|| {
        for ip in LOOPBACKS {
            let mut rig = Rig::<B>::at(ip);
            let gone = [dead(ip), dead(ip)];
            let (alive, alive_at) = peer(ip);
            for number in 0..50u8 {
                rig.put(b"anybody?", LISTENER, PeerId::NONE, gone[usize::from(number) % 2]);
                rig.put(&[number], LISTENER, PeerId::NONE, alive_at);
            }
            rig.send();
            assert!((0..50u8).all(|number| next(&alive).0 == [number]));
            let counts = *rig.path.counts();
            assert_eq!((counts.sent, counts.send_errors.sum()), (100, 0));
            assert!(counts.syscalls >= 50, "pending errors did fail sends: {counts:?}");
            let mut events = rig.events(2);
            events.sort_by_key(|event| event.to != gone[0]);
            assert_eq!(events, gone.map(|to| unreachable(LISTENER, to)), "told once a turn each");
        }
    });
}

fn datagrams_behind_a_pending_refusal_are_received_in_the_same_turn<B: Backend>() {
    alone(|| {
        for ip in LOOPBACKS {
            let mut rig = Rig::<B>::at(ip);
            let (client, client_at) = peer(ip);
            let gone = dead(ip);
            client.send_to(b"behind", rig.local(LISTENER)).unwrap();
            rig.send_one(b"anybody?", LISTENER, PeerId::NONE, gone);
            rig.path.recv(&mut rig.batch, Some(PATIENCE)).unwrap();
            assert_eq!(rig.batch.events, [unreachable(LISTENER, gone)]);
            assert_eq!(rig.batch.packets.len(), 1);
            assert_eq!(rig.batch.packets[0].source, client_at);
        }
    });
}

fn the_send_that_meets_an_old_refusal_is_sent_again_and_arrives<B: Backend>() {
    alone(|| {
        for ip in LOOPBACKS {
            let mut rig = Rig::<B>::at(ip);
            let (node, at) = rig.peer_that_was_away(ip);
            rig.send_one(b"restarted", WORKER, PeerId(0), at);
            assert_eq!(next(&node).0, b"restarted");
            let counts = rig.path.counts();
            assert_eq!((counts.sent, counts.retried, counts.send_errors.sum()), (2, 1, 0));
            assert_eq!(rig.events(1), [unreachable(WORKER, at)]);
        }
    });
}

fn a_burst_to_a_dead_node_is_counted_exactly_and_told_once<B: Backend>() {
    alone(|| {
        let mut rig = Rig::<B>::at("127.0.0.1");
        let gone = dead("127.0.0.1");
        rig.connect(&[gone]);
        for number in 0..100u8 {
            rig.put(&[number], WORKER, PeerId(0), gone);
        }
        rig.send();
        assert_eq!(rig.path.counts().sent, 100, "each failed once for the one before it, then left");
        assert_eq!(rig.events(1), [unreachable(WORKER, gone)]);
    });
}

fn a_destination_that_no_datagram_can_have_is_counted_and_harms_no_other<B: Backend>() {
    alone(|| {
        let mut rig = Rig::<B>::at("127.0.0.1");
        let (node, at) = peer("127.0.0.1");
        rig.put(b"to port 0", LISTENER, PeerId::NONE, "127.0.0.1:0".parse().unwrap());
        rig.put(b"broadcast", LISTENER, PeerId::NONE, "255.255.255.255:5060".parse().unwrap());
        rig.put(b"fine", LISTENER, PeerId::NONE, at);
        rig.send();
        assert_eq!(next(&node).0, b"fine");
        let counts = rig.path.counts();
        assert_eq!((counts.sent, counts.send_errors.other + counts.send_errors.unreachable), (1, 2));
    });
}
