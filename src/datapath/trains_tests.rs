//! What a plan of trains must hold, whatever the packets; and what it must gain.

use proptest::prelude::*;

use super::*;

const LIMIT: u32 = 1_472;

#[derive(Clone, Copy, Debug)]
struct Sent {
    stop: Stop,
    load: Load,
}

fn connected(socket: SocketId) -> Stop {
    Stop { socket, to: None }
}

fn to(socket: SocketId, port: u16) -> Stop {
    Stop { socket, to: Some(([192, 0, 2, 1], port).into()) }
}

fn request(len: u32, order: u64) -> Load {
    Load { len, order, pads: true }
}

fn response(len: u32, order: u64) -> Load {
    Load { len, order, pads: false }
}

/// Plans a turn; each train as the places and the lengths of its datagrams, in order of leaving.
fn plan(trains: &mut Trains, turn: &[Sent]) -> Vec<Vec<(u32, u32)>> {
    trains.clear();
    for Sent { stop, load } in turn {
        trains.join(*stop, *load, || LIMIT as usize);
    }
    let settled: Vec<u32> = (0..trains.len() as u32).filter(|train| trains.settle(*train)).collect();
    let len = |place: u32| turn[place as usize].load.len as usize;
    let cars = |train: u32| {
        let (size, count) = (trains.size(train, len) as u32, trains.count(train) as usize);
        let padded = |(nth, place)| if nth + 1 < count { (place, size) } else { (place, len(place) as u32) };
        trains.places(train).enumerate().map(padded).collect()
    };
    settled.into_iter().map(cars).collect()
}

fn planned(stop: Stop, loads: &[Load]) -> Vec<Vec<(u32, u32)>> {
    let turn: Vec<_> = loads.iter().map(|load| Sent { stop, load: *load }).collect();
    plan(&mut Trains::new(64), &turn)
}

fn check(turn: &[Sent], trains: &[Vec<(u32, u32)>], count_max: usize) {
    let of = |place: u32| turn[place as usize];
    let mut left: Vec<u32> = trains.iter().flatten().map(|(place, _)| *place).collect();
    let order = left.clone();
    left.sort_unstable();
    assert!(left.iter().copied().eq(0..turn.len() as u32), "each once: {trains:?}");
    for (nth, place) in order.iter().enumerate() {
        let sent = of(*place);
        for behind in &order[nth + 1..] {
            let other = of(*behind);
            let tied = other.load.order == sent.load.order || other.load.order == 0 || sent.load.order == 0;
            assert!(sent.stop != other.stop || !tied || behind > place, "{place} left before {behind}: {trains:?}");
        }
    }
    for train in trains {
        let Some(((last, last_len), before)) = train.split_last() else { panic!("an empty train") };
        let Some((_, size)) = before.first() else { continue };
        assert!(train.len() <= count_max && *size <= LIMIT && last_len <= size, "{train:?}");
        assert!(train.iter().map(|(_, len)| len).sum::<u32>() <= DATAGRAM_MAX as u32, "{train:?}");
        assert_eq!(of(*last).load.len, *last_len, "nobody asks the last to be longer");
        for (place, len) in before {
            let sent = of(*place);
            assert_eq!((len, sent.stop), (size, of(*last).stop));
            let filled = (len - sent.load.len) as usize;
            assert!(filled == 0 || sent.load.pads && filler(filled).len() == filled, "{filled} in {place}: {train:?}");
        }
    }
}

fn anything() -> impl Strategy<Value = Sent> {
    let near = |center: u32| center..center + 12;
    let len = prop_oneof![near(380), near(430), near(650), near(1_462), 20..1_600u32, Just(30_000), Just(65_507)];
    let stop = prop_oneof![
        (0..3u32).prop_map(connected),
        (3..5u32, 5060..5064u16).prop_map(|(socket, port)| to(socket, port)),
        (3..4u32, 10_000..10_200u16).prop_map(|(socket, port)| to(socket, port)),
    ];
    let order = prop_oneof![Just(0), 1..4u64, any::<u64>()];
    (stop, len, order, prop::bool::weighted(0.7))
        .prop_map(|(stop, len, order, pads)| Sent { stop, load: Load { len, order, pads } })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]
    #[test]
    fn each_leaves_once_in_order_and_no_train_is_more_than_the_kernel_takes(
        turns in prop::collection::vec(prop::collection::vec(anything(), 0..150), 1..4),
        count_max in prop_oneof![Just(1usize), Just(3), Just(64), Just(1_024)],
    ) {
        let mut trains = Trains::new(count_max);
        for turn in turns {
            let planned = plan(&mut trains, &turn);
            check(&turn, &planned, count_max.min(64));
        }
    }

    #[test]
    fn a_train_that_is_taken_apart_leaves_one_by_one_in_order(
        turn in prop::collection::vec(anything(), 1..100), at: prop::sample::Index,
    ) {
        let mut trains = Trains::new(64);
        let planned = plan(&mut trains, &turn);
        let whole = (0..trains.len() as u32).filter(|train| trains.count(*train) > 0).nth(at.index(planned.len())).unwrap();
        let places: Vec<u32> = trains.places(whole).collect();
        let others = trains.part(whole);
        let parts: Vec<Vec<u32>> =
            std::iter::once(whole).chain(others).map(|train| trains.places(train).collect()).collect();
        prop_assert!(parts.iter().all(|part| part.len() == 1));
        prop_assert_eq!(parts.concat(), places);
    }
}

#[test]
fn requests_of_three_kinds_to_one_node_make_three_trains() {
    let loads: Vec<_> =
        (0..30u64).map(|n| request([650, 380, 520][n as usize % 3] + (n * 7 % 31) as u32, n + 1)).collect();
    let trains = planned(connected(0), &loads);
    assert_eq!(trains.len(), 3);
    assert!(trains.iter().all(|train| train.len() == 10));
}

#[test]
fn sixty_five_equal_ones_are_a_train_and_one_more() {
    let loads: Vec<_> = (0..65).map(|n| request(400, n + 1)).collect();
    let trains = planned(connected(0), &loads);
    assert_eq!(trains.iter().map(Vec::len).collect::<Vec<_>>(), [64, 1]);
    let loads: Vec<_> = (0..46).map(|n| request(1_460, n + 1)).collect();
    let trains = planned(connected(0), &loads);
    assert_eq!(trains.iter().map(Vec::len).collect::<Vec<_>>(), [44, 2], "no more bytes than a datagram has");
}

#[test]
fn what_a_filler_is_too_long_for_makes_all_others_longer() {
    let lens = |loads: &[Load]| planned(connected(0), loads).concat().iter().map(|(_, len)| *len).collect::<Vec<_>>();
    assert_eq!(lens(&[request(400, 1), request(401, 2), request(390, 3)]), [403, 403, 390]);
    assert_eq!(lens(&[request(400, 1), request(402, 2), request(390, 3)]), [402, 402, 390]);
    assert_eq!(lens(&[request(400, 1), request(401, 2)]), [403, 401], "the last may be shorter");
}

#[test]
fn a_later_message_of_a_call_never_rides_ahead_of_an_earlier_one() {
    // An ACK; an INVITE of another call and of this one; a second ACK that would fit the first train.
    let loads = [request(380, 7), request(380, 8), request(650, 7), request(650, 9), request(380, 7), request(380, 8)];
    let trains = planned(connected(0), &loads);
    let places: Vec<Vec<u32>> = trains.iter().map(|train| train.iter().map(|(place, _)| *place).collect()).collect();
    assert_eq!(places, [vec![0, 1, 5], vec![2, 3, 4]], "the end of a train may be shorter");
}

#[test]
fn responses_ride_with_their_equals_and_a_shorter_one_behind() {
    let places = |loads: &[Load]| {
        let trains = planned(to(0, 5060), loads);
        trains.iter().map(|train| train.iter().map(|(place, _)| *place).collect()).collect::<Vec<Vec<u32>>>()
    };
    let equal = [response(900, 1), response(300, 2), response(900, 3), response(300, 4), response(300, 5)];
    assert_eq!(places(&equal), [vec![0, 2], vec![1, 3, 4]]);
    assert_eq!(places(&[response(900, 1), response(300, 2)]), [vec![0, 1]]);
    assert_eq!(places(&[response(300, 1), response(900, 2)]), [vec![1, 0]], "two calls may change places");
    assert_eq!(places(&[response(300, 1), response(900, 1)]), [vec![0], vec![1]], "one call keeps its order");
    assert_eq!(places(&[response(300, 0), response(900, 2)]), [vec![0], vec![1]], "so does what has none");
}

#[test]
fn destinations_of_one_socket_have_trains_of_their_own() {
    let turn: Vec<_> =
        (0..40).map(|n| Sent { stop: to(0, 5060 + n % 4), load: request(400, u64::from(n) + 1) }).collect();
    let trains = plan(&mut Trains::new(64), &turn);
    check(&turn, &trains, 64);
    assert_eq!(trains.len(), 4);
}

#[test]
fn orders_are_told_apart_after_any_number_of_turns() {
    let mut trains = Trains::new(64);
    trains.base = u32::MAX / 2 - 3;
    for _ in 0..20 {
        let turn: Vec<_> =
            (0..6).map(|n| Sent { stop: connected(0), load: request([380, 650][n % 2], [7, 8][n / 3]) }).collect();
        let planned = plan(&mut trains, &turn);
        check(&turn, &planned, 64);
        assert!(planned.len() < turn.len());
    }
    assert!(trains.base < 1_000);
}

#[test]
fn every_filler_is_one_parameter() {
    for len in 2..=FILLER_MAX {
        let text = std::str::from_utf8(filler(len)).unwrap();
        let parameter = text.strip_prefix(';').unwrap();
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, "0"));
        let token = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
        assert!(text.len() == len && token(name) && token(value), "{text}");
    }
    assert!(filler(0).is_empty() && filler(FILLER_MAX + 1).is_empty());
}
