//! Datagrams to one peer that leave as trains: what arrives, in which order, and what is counted. On loopback.

use std::net::{SocketAddr, UdpSocket};

use sipring::datapath::Options;
use sipring::packet::{Egress, Event, PeerId, PortId, Sent, Trouble};

use super::rig::*;

over_both! {
    requests_to_nodes_leave_in_trains_and_each_arrives_as_it_was_but_for_the_filler
    requests_to_one_client_leave_in_trains_from_the_listener
    what_cannot_be_padded_rides_with_its_equals_and_is_not_changed
    messages_of_a_call_arrive_in_order_whatever_they_ride_with
    without_the_option_no_train_leaves
    a_message_without_head_room_leaves_unpadded
    a_train_that_meets_an_old_refusal_is_sent_again_whole
    trains_to_the_dead_take_nothing_from_the_living
    a_batch_bounds_what_one_call_sends
    after_the_first_turns_nothing_is_allocated_for_trains
}

/// A datagram with a place for filler, told apart by its number; `len` bytes long in all.
pub(crate) fn message(call: u64, number: usize, len: usize) -> Vec<u8> {
    let mut text = format!("MESSAGE {call} {number}\r\nVia: here;rport\r\n\r\n").into_bytes();
    text.resize(len.max(text.len()), b'.');
    text
}

/// Where filler may go in it.
fn pad_at(message: &[u8]) -> u16 {
    let at = message.windows(6).position(|window| window == b";rport").unwrap();
    at as u16 + 6
}

/// A message as it was before it was padded.
pub(crate) fn stripped(message: &[u8]) -> Vec<u8> {
    let at = usize::from(pad_at(message));
    let filler = message[at..].iter().take_while(|byte| **byte != b'\r').count();
    let value = &message[at..at + filler];
    assert!(filler == 0 || value.starts_with(b";x") && filler >= 2 && !value.ends_with(b"="), "{value:?}");
    [&message[..at], &message[at + filler..]].concat()
}

/// Call and number.
pub(crate) fn told(message: &[u8]) -> (u64, usize) {
    let line = std::str::from_utf8(message.split(|byte| *byte == b'\r').next().unwrap()).unwrap();
    let mut words = line.split(' ').skip(1);
    (words.next().unwrap().parse().unwrap(), words.next().unwrap().parse().unwrap())
}

impl<B: Backend> Rig<B> {
    pub(crate) fn trains(ip: &str) -> Self {
        Self::new(&Options { trains: true, ..options(&[ip]) })
    }

    /// Puts a message of a call into the outbox, to be padded or not.
    pub(crate) fn put_message(&mut self, bytes: &[u8], pads: bool, egress: Egress) {
        let mut packet = self.path.take().unwrap();
        assert!(packet.replace(bytes));
        packet.order = told(bytes).0;
        packet.pad_at = if pads { pad_at(bytes) } else { 0 };
        self.out.decided(packet, egress, Sent::Forwarded).unwrap();
    }
}

/// What arrived at a peer, stripped: each of `sent` once, and those of a call in order.
pub(crate) fn check(peer: &UdpSocket, sent: &[Vec<u8>]) {
    let mut got: Vec<Vec<u8>> = sent.iter().map(|_| stripped(&next(peer).0)).collect();
    for (at, message) in got.iter().enumerate() {
        let (call, number) = told(message);
        let earlier = got[at + 1..].iter().map(|other| told(other)).filter(|other| other.0 == call);
        earlier.for_each(|other| assert!(other.1 > number, "{number} of call {call} came before {}", other.1));
    }
    let mut sent = sent.to_vec();
    sent.sort();
    got.sort();
    assert!(got == sent, "each arrives once, unharmed");
}

/// Lengths as those of INVITE, ACK and BYE.
fn len(number: usize) -> usize {
    [650, 380, 420][number % 3] + number * 7 % 31
}

fn to_node(peer: u16, to: SocketAddr) -> Egress {
    Egress { port: WORKER, peer: PeerId(peer), to }
}

fn requests_to_nodes_leave_in_trains_and_each_arrives_as_it_was_but_for_the_filler<B: Backend>() {
    for ip in LOOPBACKS {
        let mut rig = Rig::<B>::trains(ip);
        let nodes: Vec<_> = (0..3).map(|_| peer(ip)).collect();
        rig.connect(&nodes.iter().map(|node| node.1).collect::<Vec<_>>());
        let mut sent = vec![Vec::new(); 3];
        for number in 0..180 {
            let (place, message) = (number % 3, message(number as u64 + 1, number, len(number / 3)));
            rig.put_message(&message, true, to_node(place as u16, nodes[place].1));
            sent[place].push(message);
        }
        rig.send();
        nodes.iter().zip(&sent).for_each(|((node, _), sent)| check(node, sent));
        let counts = *rig.path.counts();
        assert_eq!((counts.sent, counts.send_errors.sum(), counts.trains_refused), (180, 0, 0));
        assert!((9..=18).contains(&counts.trains), "three kinds to each of three nodes: {counts:?}");
        assert!(counts.train_datagrams > 170, "{counts:?}");
        assert!((1..180 * 66).contains(&counts.padding_bytes), "{}", counts.padding_bytes);
    }
}

fn requests_to_one_client_leave_in_trains_from_the_listener<B: Backend>() {
    for ip in LOOPBACKS {
        let mut rig = Rig::<B>::trains(ip);
        let ((trunk, at), (phone, phone_at)) = (peer(ip), peer(ip));
        let mut sent = [Vec::new(), Vec::new()];
        for number in 0..60 {
            let (to, place) = if number % 10 == 9 { (phone_at, 1) } else { (at, 0) };
            let message = message(number as u64 + 1, number, len(number));
            rig.put_message(&message, true, Egress { port: LISTENER, peer: PeerId::NONE, to });
            sent[place].push(message);
        }
        rig.send();
        check(&trunk, &sent[0]);
        check(&phone, &sent[1]);
        let counts = *rig.path.counts();
        assert_eq!((counts.sent, counts.send_errors.sum()), (60, 0));
        assert!(counts.trains <= 12 && counts.train_datagrams > 50, "three kinds to each of two: {counts:?}");
    }
}

fn what_cannot_be_padded_rides_with_its_equals_and_is_not_changed<B: Backend>() {
    let mut rig = Rig::<B>::trains("127.0.0.1");
    let (client, at) = peer("127.0.0.1");
    let egress = Egress { port: LISTENER, peer: PeerId::NONE, to: at };
    let mut sent = Vec::new();
    for number in 0..40 {
        let message = message(number as u64 + 1, number, [900, 500][number % 2]);
        rig.put_message(&message, false, egress);
        sent.push(message);
    }
    rig.send();
    let mut got: Vec<_> = sent.iter().map(|_| next(&client).0).collect();
    got.sort();
    sent.sort();
    assert!(got == sent);
    let counts = *rig.path.counts();
    assert_eq!((counts.trains, counts.train_datagrams, counts.padding_bytes), (2, 40, 0));
}

fn messages_of_a_call_arrive_in_order_whatever_they_ride_with<B: Backend>() {
    for port in [LISTENER, WORKER] {
        let mut rig = Rig::<B>::trains("127.0.0.1");
        let (node, at) = peer("127.0.0.1");
        rig.connect(&[at]);
        let mut sent = Vec::new();
        for number in 0..80 {
            let message = message(number as u64 * 7 % 5 + 1, number, len(number * 11));
            rig.put_message(&message, number % 5 != 0, Egress { port, peer: PeerId(0), to: at });
            sent.push(message);
        }
        rig.send();
        check(&node, &sent);
        let counts = *rig.path.counts();
        assert!(counts.trains > 0 && counts.train_datagrams > 40, "{counts:?}");
    }
}

fn without_the_option_no_train_leaves<B: Backend>() {
    let mut rig = Rig::<B>::at("127.0.0.1");
    let (node, at) = peer("127.0.0.1");
    rig.connect(&[at]);
    let sent: Vec<_> = (0..50).map(|number| message(number as u64 + 1, number, len(number))).collect();
    sent.iter().for_each(|message| rig.put_message(message, true, to_node(0, at)));
    rig.send();
    assert!(sent.iter().all(|message| next(&node).0 == *message), "as they are, one after the other");
    let counts = *rig.path.counts();
    assert_eq!((counts.sent, counts.trains, counts.train_datagrams, counts.padding_bytes), (50, 0, 0, 0));
}

fn a_message_without_head_room_leaves_unpadded<B: Backend>() {
    let mut rig = Rig::<B>::trains("127.0.0.1");
    let (node, at) = peer("127.0.0.1");
    rig.connect(&[at]);
    let sent: Vec<_> = [400, 460, 410].into_iter().zip(1..).map(|(len, n)| message(n as u64, n, len)).collect();
    for message in &sent {
        let mut packet = rig.path.take().unwrap();
        assert!(packet.replace(message));
        let by = packet.head_room() - 20;
        assert!(packet.grow_front(by as isize));
        packet.bytes_mut()[..by].fill(b'-');
        packet.order = told(message).0;
        packet.pad_at = pad_at(message) + by as u16;
        rig.out.decided(packet, to_node(0, at), Sent::Forwarded).unwrap();
    }
    rig.send();
    let mut lens: Vec<_> = sent.iter().map(|_| next(&node).0.len()).collect();
    lens.sort_unstable();
    assert_eq!(lens, [400, 410, 460].map(|len| len + 620));
    assert_eq!(rig.path.counts().padding_bytes, 0);
}

fn a_train_that_meets_an_old_refusal_is_sent_again_whole<B: Backend>() {
    alone(|| {
        for ip in LOOPBACKS {
            let mut rig = Rig::<B>::trains(ip);
            let (node, at) = rig.peer_that_was_away(ip);
            let sent: Vec<_> = (0..20).map(|number| message(number as u64 + 1, number, 400 + number)).collect();
            sent.iter().for_each(|message| rig.put_message(message, true, to_node(0, at)));
            rig.send();
            check(&node, &sent);
            let counts = *rig.path.counts();
            assert_eq!((counts.sent, counts.retried, counts.send_errors.sum()), (21, 1, 0));
            assert_eq!((counts.trains, counts.train_datagrams, counts.trains_refused), (1, 20, 0));
            assert_eq!(rig.events(1), [Event { port: WORKER, to: at, trouble: Trouble::Unreachable }]);
        }
    });
}

fn trains_to_the_dead_take_nothing_from_the_living<B: Backend>() {
    alone(|| {
        for ip in LOOPBACKS {
            let mut rig = Rig::<B>::trains(ip);
            let gone = [dead(ip), dead(ip)];
            let (alive, alive_at) = peer(ip);
            for turn in 0..10 {
                let mut sent = Vec::new();
                for number in 0..60 {
                    let message = message(number as u64 / 2 + 1, turn * 60 + number, len(number));
                    let to = if number % 3 == 0 { alive_at } else { gone[number % 3 - 1] };
                    if to == alive_at {
                        sent.push(message.clone());
                    }
                    rig.put_message(&message, true, Egress { port: LISTENER, peer: PeerId::NONE, to });
                }
                rig.send();
                check(&alive, &sent);
            }
            let counts = *rig.path.counts();
            assert_eq!((counts.sent, counts.send_errors.sum()), (600, 0), "{counts:?}");
            assert!(counts.trains >= 30 && counts.retried > 0, "{counts:?}");
            let mut events = rig.events(2);
            events.sort_by_key(|event| event.to != gone[0]);
            let unreachable = |to| Event { port: PortId(0), to, trouble: Trouble::Unreachable };
            assert_eq!(events, gone.map(unreachable));
        }
    });
}

fn a_batch_bounds_what_one_call_sends<B: Backend>() {
    let mut rig = Rig::<B>::new(&Options { batch: 8, trains: true, ..options(&["127.0.0.1"]) });
    let (node, at) = peer("127.0.0.1");
    let sent: Vec<_> = (0..100).map(|number| message(number as u64 + 1, number, 400)).collect();
    sent.iter().for_each(|message| rig.put_message(message, true, Egress { port: WORKER, peer: PeerId::NONE, to: at }));
    rig.send();
    check(&node, &sent);
    let counts = *rig.path.counts();
    assert_eq!((counts.syscalls, counts.trains), (13, 13));
}

fn after_the_first_turns_nothing_is_allocated_for_trains<B: Backend>() {
    let mut rig = Rig::<B>::trains("127.0.0.1");
    let nodes: Vec<_> = (0..3).map(|_| peer("127.0.0.1")).collect();
    rig.connect(&nodes.iter().map(|node| node.1).collect::<Vec<_>>());
    let messages: Vec<_> = (0..60).map(|number| message(number as u64 + 1, number, len(number / 3))).collect();
    let turn = |rig: &mut Rig<B>| {
        for (number, message) in messages.iter().enumerate() {
            rig.put_message(message, true, to_node(number as u16 % 3, nodes[number % 3].1));
        }
        rig.send();
        let mut room = [0; 1_000];
        for number in 0..60usize {
            nodes[number % 3].0.recv_from(&mut room).unwrap();
        }
    };
    turn(&mut rig);
    turn(&mut rig);
    let before = super::allocations::allocations();
    (0..20).for_each(|_| turn(&mut rig));
    assert_eq!(super::allocations::allocations() - before, 0);
    assert_eq!(rig.path.counts().train_datagrams, 22 * 60);
}
