//! What traffic shows: errors, silence, refusals, and the cap on what follows.

use super::*;

#[test]
fn an_icmp_error_is_settled_by_a_probe_at_once_and_kills_nobody_alone() {
    let mut scene = Scene::new(THREE, HealthPolicy { interval_ms: 60_000, ..fast() });
    scene.pass(30 * S);
    let before = scene.sent_to(A).len();
    scene.account(A).unreachable += 1;
    scene.look();
    assert_eq!(scene.health(A), Health::Probing);
    assert_eq!(scene.refusal("a"), None, "it still takes calls");
    scene.pass(10 * MS);
    assert_eq!(scene.sent_to(A).len(), before + 1);
    assert_eq!(scene.health(A), Health::Up, "settled");
    // A storm of forged errors makes few probes and no harm.
    for _ in 0..200 {
        scene.account(A).unreachable += 50;
        scene.look();
        scene.pass(5 * MS);
        assert_ne!(scene.health(A), Health::Down);
    }
    assert!(scene.sent_to(A).len() - before < 8, "{}", scene.sent_to(A).len() - before);
    scene.does(A, Does::Nothing);
    scene.pass(300 * MS);
    scene.account(A).unreachable += 1;
    scene.look();
    let took = scene.until(S, |scene| scene.health(A) == Health::Down).unwrap();
    assert!(took < 650 * MS, "a dead node is found long before its minute is over: {took}");
}

#[test]
fn silence_to_requests_takes_a_node_out_only_after_enough_of_them_and_long_enough() {
    let silent = HealthPolicy { probe: false, unanswered_requests: 10, unanswered_ms: 2_000, ..fast() };
    let mut scene = Scene::new(THREE, silent);
    scene.account(A).requests += 9;
    scene.pass(60 * S);
    assert_eq!(scene.health(A), Health::Up, "too few");
    scene.account(A).begun += 1;
    scene.pass(S);
    scene.account(A).requests += 50;
    let took = scene.until(3 * S, |scene| scene.health(A) == Health::Down).unwrap();
    assert!((1_900 * MS..2_200 * MS).contains(&took), "{took}");
    assert_eq!(scene.node("a").endpoints[0].cause, "unanswered");
    let back = scene.until(20 * S, |scene| scene.health(A) == Health::Up).unwrap();
    assert!((9 * S..=10 * S).contains(&back), "{back}");
    assert_eq!(scene.node("a").endpoints[0].cause, "elapsed");
    // One packet in between, of whatever kind, and it begins anew.
    for _ in 0..20 {
        scene.account(B).requests += 50;
        scene.account(B).responses[0] += 1;
        scene.pass(900 * MS);
        scene.account(B).requests += 50;
        scene.pass(900 * MS);
        assert_eq!(scene.health(B), Health::Up);
    }
}

#[test]
fn silence_makes_a_probe_before_it_takes_a_node_out() {
    let mut scene = Scene::new(THREE, HealthPolicy { interval_ms: 600_000, ..fast() });
    scene.pass(2 * S);
    scene.does(A, Does::Nothing);
    scene.account(A).requests += 10;
    let took = scene.until(S, |scene| scene.health(A) == Health::Down).unwrap();
    assert!(took < 800 * MS, "{took}");
    assert_eq!(scene.node("a").endpoints[0].cause, "no_answer", "found by probes, not by traffic");
}

#[test]
fn the_cap_binds_what_traffic_shows_and_not_what_probes_do() {
    let mut scene = Scene::new(THREE, HealthPolicy { ejected_max_percent: 50, ..fast() });
    [A, B, C].into_iter().for_each(|addr| scene.account(addr).requests += 100);
    scene.pass(4 * S);
    let down = |scene: &Scene| [A, B, C].iter().filter(|addr| scene.health(addr) == Health::Down).count();
    assert_eq!(down(&scene), 1, "of three nodes, half is one");
    [A, B, C].into_iter().for_each(|addr| scene.does(addr, Does::Nothing));
    scene.pass(2 * S);
    assert_eq!(down(&scene), 3);
    assert!(!scene.status().sets[0].takes_calls);

    let mut scene = Scene::new(THREE, HealthPolicy { ejected_max_percent: 0, ..fast() });
    [A, B, C].into_iter().for_each(|addr| scene.account(addr).requests += 100);
    scene.pass(10 * S);
    assert_eq!(down(&scene), 0, "traffic alone takes nobody out");
    let end = &scene.node("a").endpoints[0];
    assert!(end.ejections == 0 && end.ejections_held > 0);
}

#[test]
fn what_probes_took_out_counts_towards_the_cap() {
    let mut scene = Scene::new(THREE, fast());
    scene.does(A, Does::Nothing);
    scene.pass(2 * S);
    scene.account(B).requests += 100;
    scene.pass(5 * S);
    assert_eq!([A, B].map(|addr| scene.health(addr)), [Health::Down, Health::Up]);
}

#[test]
fn a_503_to_a_call_closes_a_node_only_with_retry_after_or_many_in_a_row() {
    let mut scene = Scene::new(THREE, fast());
    let answer = |scene: &mut Scene, calls: u32, refused: u32| {
        let account = scene.account(A);
        account.calls_answered += calls;
        account.calls_refused += refused;
        account.responses[4] += refused;
        account.responses[1] += calls - refused;
        scene.pass(100 * MS);
    };
    for _ in 0..100 {
        answer(&mut scene, 5, 4);
        assert_eq!(scene.refusal("a"), None, "a carrier's congestion");
    }
    // A row of them, but below the share of the last seconds.
    for _ in 0..30 {
        answer(&mut scene, 20, 0);
    }
    answer(&mut scene, 50, 50);
    assert_eq!(scene.refusal("a"), None);
    scene.pass(20 * S);
    answer(&mut scene, 1, 0);
    (0..12).for_each(|_| answer(&mut scene, 1, 1));
    assert_eq!(scene.refusal("a"), Some(Refusal::Closed));
    assert_eq!(scene.health(A), Health::Up, "what belongs to it still goes there");
    assert_eq!(scene.node("a").endpoints[0].cause, "busy_503");
    let open = scene.until(20 * S, |scene| scene.refusal("a").is_none()).unwrap();
    assert!((9 * S..=10 * S).contains(&open), "{open}");
}

#[test]
fn retry_after_is_honoured_up_to_30_s() {
    for (asked_s, wanted_s) in [(5, 5), (3_600, 30)] {
        let mut scene = Scene::new(THREE, fast());
        scene.pass(S);
        let until_us = scene.now_us + asked_s * S;
        let told = scene.accounts.entry(A.parse().unwrap()).or_default();
        told.1 = until_us;
        (told.0.calls_answered, told.0.calls_refused, told.0.retry_after) = (1, 1, 1);
        scene.look();
        assert_eq!(scene.refusal("a"), Some(Refusal::Closed));
        assert_eq!(scene.node("a").endpoints[0].cause, "retry_after");
        let open = scene.until(40 * S, |scene| scene.refusal("a").is_none()).unwrap();
        assert!(open.abs_diff(wanted_s * S) < 10 * MS, "{open} for {asked_s} s");
    }
}

#[test]
fn what_goes_to_a_dead_node_all_the_same_does_not_keep_it_out_when_it_returns() {
    for interval_ms in [250, 5_000] {
        let mut scene = Scene::new(THREE, HealthPolicy { interval_ms, ..fast() });
        scene.does(A, Does::Nothing);
        for _ in 0..100 {
            scene.account(A).requests += 5;
            scene.pass(100 * MS);
        }
        assert_eq!(scene.health(A), Health::Down);
        scene.does(A, Does::Answer(200));
        let back = scene.until(15 * S, |scene| scene.health(A) == Health::Up).unwrap();
        let probes = u64::from(interval_ms) * MS * 9 / 4;
        assert!(back < probes, "{back} us at {interval_ms} ms");
        scene.pass(5 * S);
        assert_eq!(scene.health(A), Health::Up);
    }
}

#[test]
fn a_set_that_sends_calls_to_the_dead_takes_calls() {
    for (use_all_when_down, wanted) in [(true, true), (false, false)] {
        let mut scene = Scene::new(THREE, fast());
        let mut spec = spec(THREE, fast());
        spec.sets[0].policy.use_all_when_down = use_all_when_down;
        scene.monitors.adopt(plan(spec.clone()), 0);
        [A, B, C].into_iter().for_each(|addr| scene.does(addr, Does::Nothing));
        scene.pass(3 * S);
        assert_eq!(scene.refusal("a"), Some(Refusal::Down));
        assert_eq!(scene.status().sets[0].takes_calls, wanted);
        spec.sets[0].nodes.iter_mut().for_each(|node| node.intent = Intent::Drain);
        scene.monitors.adopt(plan(spec), scene.now_us);
        assert!(!scene.status().sets[0].takes_calls, "nobody is meant to serve");
    }
}
