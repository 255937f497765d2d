//! Probes: when they leave, what answers count, how many make a state.

use super::*;

#[test]
fn a_probe_is_sent_at_once_and_after_50_and_100_ms_and_fails_after_200() {
    let mut scene = Scene::new(THREE, HealthPolicy { misses: 1, ..fast() });
    scene.does(A, Does::Nothing);
    scene.until(S, |scene| scene.health(A) == Health::Down).unwrap();
    let sent = scene.sent_to(A);
    let [(first, token), (second, again), (third, more)] = sent[..] else { panic!("{sent:?}") };
    assert_eq!((second - first, third - first), (50 * MS, 100 * MS));
    assert_eq!((again, more), (token, token), "a retransmission is one");
    assert!((199 * MS..=201 * MS).contains(&(scene.now_us - first)), "{}", scene.now_us - first);
    assert_eq!(scene.node("a").endpoints[0].probes, 1);
}

#[test]
fn a_silent_node_is_down_within_a_second_at_250_ms_whenever_it_dies() {
    for offset_ms in (0..260).step_by(7) {
        let mut scene = Scene::new(THREE, fast());
        scene.pass(2 * S + offset_ms * MS);
        assert_eq!(scene.health(A), Health::Up);
        scene.does(A, Does::Nothing);
        let took = scene.until(2 * S, |scene| scene.health(A) == Health::Down).unwrap();
        assert!(took < 900 * MS, "{took} us after {offset_ms} ms");
        assert_eq!((scene.refusal("a"), scene.refusal("b")), (Some(Refusal::Down), None));
        assert_eq!(scene.node("a").endpoints[0].cause, "no_answer");
    }
}

#[test]
fn five_percent_loss_takes_nobody_down_in_ten_minutes() {
    let mut scene = Scene::new(THREE, fast());
    [A, B, C].into_iter().for_each(|addr| scene.does(addr, Does::Lose(0.05)));
    let mut doubts = 0;
    for _ in 0..600_000 {
        scene.pass(MS);
        let healths = [A, B, C].map(|addr| scene.health(addr));
        assert!(!healths.contains(&Health::Down), "at {} us", scene.now_us);
        doubts += u32::from(healths.contains(&Health::Probing));
    }
    let failed: u64 = ["a", "b", "c"].iter().map(|name| scene.node(name).endpoints[0].probes_failed).sum();
    assert!(doubts > 0 && failed > 0, "the loss was felt");
}

#[test]
fn a_node_that_comes_back_must_answer_more_than_once() {
    let mut scene = Scene::new(THREE, fast());
    scene.does(A, Does::Nothing);
    scene.until(2 * S, |scene| scene.health(A) == Health::Down).unwrap();
    let asked = scene.sent_to(A).len();
    scene.pass(10 * S);
    assert!(scene.sent_to(A).len() - asked > 90, "a node that is down is probed on");
    scene.does(A, Does::Answer(200));
    let a: SocketAddr = A.parse().unwrap();
    scene.until(S, |scene| scene.coming.iter().any(|(_, from, ..)| *from == a)).unwrap();
    scene.pass(5 * MS);
    assert_eq!(scene.health(A), Health::Down, "one answer");
    scene.until(S, |scene| scene.health(A) == Health::Up).unwrap();
    assert_eq!(scene.node("a").endpoints[0].cause, "answered");
}

#[test]
fn a_node_that_answers_every_other_probe_does_not_flap() {
    let mut scene = Scene::new(THREE, fast());
    for turn in 0..200 {
        scene.does(A, if turn % 2 == 0 { Does::Nothing } else { Does::Answer(200) });
        scene.pass(230 * MS);
        assert_ne!(scene.health(A), Health::Down, "in turn {turn}");
    }
}

#[test]
fn any_final_response_but_503_is_a_sign_of_life() {
    for code in [200, 202, 301, 404, 405, 481, 500, 603] {
        let mut scene = Scene::new(THREE, fast());
        scene.does(A, Does::Answer(code));
        scene.pass(5 * S);
        assert_eq!(scene.health(A), Health::Up, "{code}");
    }
    let mut scene = Scene::new(THREE, fast());
    scene.does(A, Does::Answer(503));
    let took = scene.until(2 * S, |scene| scene.health(A) == Health::Down).unwrap();
    assert!(took < S, "{took}");
    assert_eq!(scene.node("a").endpoints[0].cause, "refused_503");
}

#[test]
fn an_answer_counts_by_its_token_and_its_source() {
    let mut scene = Scene::new(THREE, fast());
    scene.does(A, Does::Nothing);
    scene.until(S, |scene| !scene.sent_to(A).is_empty()).unwrap();
    let (_, token) = scene.sent_to(A)[0];
    let (a, b): (SocketAddr, SocketAddr) = (A.parse().unwrap(), B.parse().unwrap());
    assert!(!scene.monitors.answered(scene.now_us, b, token, 200), "another node");
    assert!(!scene.monitors.answered(scene.now_us, "10.0.0.1:5061".parse().unwrap(), token, 200), "another port");
    scene.monitors.answered(scene.now_us, a, Token(token.0 ^ 1), 200);
    scene.until(2 * S, |scene| scene.health(A) == Health::Down).unwrap();
    let (_, last) = *scene.sent_to(A).last().unwrap();
    assert_ne!(last, token, "every probe has its own");
}

#[test]
fn an_answer_that_comes_too_late_is_counted_and_saves_nobody() {
    let mut scene = Scene::new(THREE, HealthPolicy { misses: 1, ..fast() });
    scene.does(A, Does::Nothing);
    scene.until(S, |scene| scene.health(A) == Health::Down).unwrap();
    let (_, token) = *scene.sent_to(A).last().unwrap();
    assert!(scene.monitors.answered(scene.now_us, A.parse().unwrap(), token, 200));
    assert_eq!(scene.health(A), Health::Down);
    assert_eq!(scene.node("a").endpoints[0].probes_late, 1);
}

#[test]
fn a_control_thread_that_was_not_there_blames_nobody() {
    let mut scene = Scene::new(THREE, fast());
    scene.pass(2 * S);
    for _ in 0..20 {
        // Begins probes whose answers are lost, and is away until long after their time.
        [A, B, C].into_iter().for_each(|addr| scene.does(addr, Does::Nothing));
        let sent = scene.sent.len();
        scene.until(S, |scene| scene.sent.len() > sent).unwrap();
        scene.now_us += 3 * S;
        [A, B, C].into_iter().for_each(|addr| scene.does(addr, Does::Answer(200)));
        scene.pass(10 * MS);
        assert!([A, B, C].iter().all(|addr| scene.health(addr) != Health::Down));
    }
}

#[test]
fn many_nodes_are_not_probed_in_step() {
    let names: Vec<(String, String)> = (0..200).map(|n| (format!("n{n}"), format!("10.1.0.{n}:5060"))).collect();
    let addrs: Vec<[&str; 1]> = names.iter().map(|(_, addr)| [addr.as_str()]).collect();
    let nodes: Vec<(&str, &[&str])> =
        names.iter().zip(&addrs).map(|((name, _), addr)| (name.as_str(), &addr[..])).collect();
    let mut scene = Scene::new(&nodes, HealthPolicy { interval_ms: 1_000, ..fast() });
    scene.pass(60 * S);
    assert!((200 * 58..200 * 62).contains(&scene.sent.len()), "{}", scene.sent.len());
    let mut by_10_ms: HashMap<u64, usize> = HashMap::new();
    scene.sent.iter().for_each(|(at_us, ..)| *by_10_ms.entry(at_us / (10 * MS)).or_default() += 1);
    let most = by_10_ms.values().max().unwrap();
    assert!(*most < 15, "{most} of 200 within 10 ms");
}

#[test]
fn a_starved_machine_on_which_everybody_is_late_loses_no_node() {
    // Control gets to run for an instant now and then, and what nodes answer is there two instants later.
    let mut scene = Scene::new(THREE, fast());
    for turn in 0..2_000_u64 {
        scene.now_us += (700 + turn * 7 % 400) * MS;
        scene.turn();
        let now_us = scene.now_us;
        scene
            .coming
            .iter_mut()
            .filter(|(at_us, ..)| *at_us == now_us + MS)
            .for_each(|(at_us, ..)| *at_us += 1_200 * MS);
        assert!([A, B, C].iter().all(|addr| scene.health(addr) != Health::Down), "in turn {turn}");
    }
    [A, B, C].into_iter().for_each(|addr| scene.does(addr, Does::Nothing));
    for turn in 0..60_u64 {
        scene.now_us += (700 + turn * 7 % 400) * MS;
        scene.turn();
    }
    assert!([A, B, C].iter().all(|addr| scene.health(addr) == Health::Down), "the dead are found all the same");
}

#[test]
fn what_is_new_is_probed_within_a_second_and_one_that_was_added_at_once() {
    let slow = HealthPolicy { interval_ms: 600_000, ..fast() };
    let mut scene = Scene::new(THREE, slow);
    scene.does(A, Does::Nothing);
    scene.pass(S);
    assert!([A, B, C].iter().all(|addr| !scene.sent_to(addr).is_empty()), "however long the interval is");
    scene.until(S, |scene| scene.health(A) == Health::Down).unwrap();
    let more: &[(&str, &[&str])] = &[("a", &[A]), ("b", &[B]), ("c", &[C]), ("d", &["10.0.0.4:5060"])];
    let to_b = scene.sent_to(B).len();
    scene.monitors.adopt(plan(spec(more, slow)), scene.now_us);
    scene.pass(MS);
    assert_eq!(scene.sent_to("10.0.0.4:5060").len(), 1);
    scene.pass(10 * S);
    assert_eq!(scene.sent_to(B).len(), to_b, "who is known keeps its interval");
}

#[test]
fn probes_that_are_over_were_answered_or_failed() {
    let mut scene = Scene::new(THREE, fast());
    scene.does(B, Does::Answer(503));
    scene.pass(10 * S);
    scene.does(A, Does::Nothing);
    scene.pass(10 * S);
    for name in ["a", "b", "c"] {
        let end = &scene.node(name).endpoints[0];
        let over = end.probes_answered + end.probes_failed;
        assert!(over <= end.probes && over + 1 >= end.probes, "{end:?}");
    }
    let of = |name: &str| (scene.node(name).endpoints[0].probes_answered, scene.node(name).endpoints[0].probes_failed);
    assert!(of("a").0 > 30 && of("a").1 > 30 && of("b").0 == 0 && of("c").1 == 0);
}
