//! Reloads, probing switched off, and what workers are told.

use super::*;

#[test]
fn without_probes_nothing_is_sent_and_nobody_is_down() {
    let mut scene = Scene::new(THREE, HealthPolicy { probe: false, ..fast() });
    scene.does(A, Does::Nothing);
    scene.account(A).unreachable += 10;
    scene.pass(60 * S);
    assert!(scene.sent.is_empty());
    assert_eq!(scene.health(A), Health::Up);
}

#[test]
fn a_reload_keeps_what_is_known_of_addresses_and_forgets_the_others() {
    let mut scene = Scene::new(THREE, fast());
    scene.does(A, Does::Nothing);
    scene.pass(3 * S);
    let probes = scene.node("b").endpoints[0].probes;
    // A moves to another address, B keeps its own under new numbers, D is new.
    let moved: &[(&str, &[&str])] = &[("d", &["10.0.0.4:5060"]), ("a", &["10.0.0.9:5060"]), ("b", &[B]), ("old", &[A])];
    scene.monitors.adopt(plan(spec(moved, fast())), scene.now_us);
    assert_eq!(scene.health(A), Health::Down, "that address is still dead");
    assert_eq!((scene.refusal("old"), scene.refusal("a")), (Some(Refusal::Down), None));
    assert_eq!(scene.node("b").endpoints[0].probes, probes);
    scene.pass(3 * S);
    assert!(
        ["a", "b", "d"].iter().all(|name| scene.refusal(name).is_none() && scene.node(name).endpoints[0].probes > 5)
    );
    let sent = scene.sent_to(C).len();
    scene.pass(3 * S);
    assert_eq!(scene.sent_to(C).len(), sent, "nobody asks for a node that is gone");
}

#[test]
fn a_reload_applies_other_numbers_and_stops_probing_what_is_stopped() {
    let mut scene = Scene::new(THREE, fast());
    scene.does(A, Does::Nothing);
    scene.pass(3 * S);
    let mut stopped = spec(THREE, HealthPolicy { interval_ms: 1_000, ..fast() });
    stopped.sets[0].nodes[0].intent = Intent::Stop;
    scene.monitors.adopt(plan(stopped), scene.now_us);
    let (to_a, to_b) = (scene.sent_to(A).len(), scene.sent_to(B).len());
    scene.pass(20 * S);
    assert_eq!(scene.sent_to(A).len(), to_a, "a stopped node is sent nothing at all");
    assert!((18..=22).contains(&(scene.sent_to(B).len() - to_b)), "{}", scene.sent_to(B).len() - to_b);
}

#[test]
fn workers_are_told_only_what_changed() {
    let mut scene = Scene::new(THREE, fast());
    assert!(scene.monitors.news().is_some(), "the first");
    scene.pass(10 * S);
    assert!(scene.monitors.news().is_none());
    scene.does(A, Does::Nothing);
    scene.pass(S);
    assert!(scene.monitors.news().is_some());
    scene.pass(10 * S);
    assert!(scene.monitors.news().is_none());
}
