//! Primary and backup: when calls go to the other half, and when they stay.

use super::*;

#[test]
fn a_pair_goes_to_its_backup_when_the_primary_dies_and_the_backup_takes_over() {
    let mut scene = Scene::new(PAIR, fast());
    scene.does(B, Does::Answer(503));
    scene.pass(5 * S);
    assert_eq!((scene.active("p"), scene.health(B)), (A.to_owned(), Health::Up));
    assert!(scene.node("p").endpoints[1].standby, "its 503 means alive, not primary");
    scene.does(A, Does::Nothing);
    scene.pass(3 * S);
    assert_eq!(scene.refusal("p"), Some(Refusal::Down), "nobody of the pair takes calls yet");
    assert_eq!(scene.node("p").active, A.parse().ok());
    scene.does(B, Does::Answer(200));
    let took = scene.until(2 * S, |scene| scene.refusal("p").is_none()).unwrap();
    assert!(took < S, "{took}");
    assert_eq!((scene.active("p"), scene.node("p").active), (B.to_owned(), B.parse().ok()));
    assert_eq!(scene.node("p").active_cause, Some("no_answer"));
    assert_eq!(scene.refusal("c"), None);
}

#[test]
fn a_pair_whose_halves_change_roles_at_once_is_switched_within_the_misses() {
    let mut scene = Scene::new(PAIR, fast());
    scene.does(B, Does::Answer(503));
    scene.pass(5 * S);
    scene.does(A, Does::Nothing);
    scene.does(B, Does::Answer(200));
    let took = scene.until(2 * S, |scene| scene.node("p").active == B.parse().ok()).unwrap();
    assert!(took < S, "{took}");
    scene.does(A, Does::Answer(503));
    scene.pass(10 * S);
    assert_eq!(scene.active("p"), B, "the old primary is the backup now");
    scene.does(A, Does::Answer(200));
    scene.does(B, Does::Answer(503));
    scene.until(2 * S, |scene| scene.node("p").active == A.parse().ok()).unwrap();
}

#[test]
fn while_both_halves_answer_a_pair_stays_where_it_is() {
    let mut scene = Scene::new(PAIR, fast());
    for away in [A, B, A] {
        scene.does(away, Does::Nothing);
        scene.pass(3 * S);
        scene.does(away, Does::Answer(200));
        let active = scene.active("p");
        assert_ne!(active, away);
        for _ in 0..600 {
            scene.pass(100 * MS);
            assert_eq!(scene.active("p"), active, "both answer");
        }
    }
}

#[test]
fn one_lost_probe_switches_no_pair() {
    let mut scene = Scene::new(PAIR, fast());
    for _ in 0..40 {
        scene.pass(900 * MS);
        scene.does(A, Does::Nothing);
        scene.pass(300 * MS);
        assert_eq!(scene.active("p"), A);
        scene.does(A, Does::Answer(200));
    }
}

#[test]
fn homing_returns_to_the_primary_after_so_many_good_probes() {
    let mut scene = Scene::new(PAIR, HealthPolicy { homing: 20, ..fast() });
    scene.does(A, Does::Nothing);
    scene.until(2 * S, |scene| scene.node("p").active == B.parse().ok()).unwrap();
    scene.does(A, Does::Answer(200));
    let took = scene.until(20 * S, |scene| scene.active("p") == A).unwrap();
    assert!((4_500 * MS..5_700 * MS).contains(&took), "{took}");
    assert_eq!(scene.node("p").active_cause, Some("homing"));
    assert_eq!(scene.node("p").active, A.parse().ok());
}

const ALONE: &[(&str, &[&str])] = &[("p", &[A, B])];

/// The endpoint answers a call by 503, and asks to be left alone for 20 s.
fn refuse(scene: &mut Scene, addr: &str) {
    let until_us = scene.now_us + 20 * S;
    let told = scene.accounts.entry(addr.parse().unwrap()).or_default();
    told.1 = until_us;
    told.0.calls_answered += 1;
    told.0.calls_refused += 1;
    told.0.retry_after += 1;
    scene.look();
}

#[test]
fn a_half_that_wants_no_calls_hands_them_to_the_other_and_closes_no_pair() {
    let mut scene = Scene::new(ALONE, fast());
    scene.pass(5 * S);
    refuse(&mut scene, A);
    assert_eq!((scene.refusal("p"), scene.active("p")), (None, B.to_owned()));
    let node = scene.node("p");
    assert_eq!((node.active, node.active_cause, node.switches), (B.parse().ok(), Some("retry_after"), Some(1)));
    assert!(node.endpoints[0].closed && scene.status().sets[0].takes_calls);
    refuse(&mut scene, B);
    assert_eq!(scene.refusal("p"), None, "one of them has to take the calls");
    assert_eq!(scene.node("p").endpoints[1].ejections_held, 1);
    scene.pass(30 * S);
    assert_eq!((scene.refusal("p"), scene.active("p")), (None, B.to_owned()), "both take calls: it stays");
    // The same by refusals one after the other.
    for _ in 0..12 {
        let account = scene.account(B);
        account.calls_answered += 1;
        account.calls_refused += 1;
        scene.pass(100 * MS);
        assert_eq!(scene.refusal("p"), None);
    }
    assert_eq!((scene.active("p"), scene.node("p").active_cause), (A.to_owned(), Some("busy_503")));
}

#[test]
fn a_half_is_not_closed_while_the_other_cannot_take_over() {
    for does in [Does::Answer(503), Does::Nothing] {
        let mut scene = Scene::new(ALONE, fast());
        scene.does(B, does);
        scene.pass(5 * S);
        refuse(&mut scene, A);
        assert_eq!((scene.refusal("p"), scene.active("p")), (None, A.to_owned()), "{does:?}");
        let end = &scene.node("p").endpoints[0];
        assert_eq!((end.closed, end.ejections, end.ejections_held), (false, 0, 1));
    }
    // It lives, but has not proved itself yet.
    let mut scene = Scene::new(ALONE, fast());
    scene.pass(5 * S);
    scene.does(B, Does::Nothing);
    scene.until(S, |scene| scene.health(B) == Health::Probing).unwrap();
    refuse(&mut scene, A);
    assert_eq!((scene.refusal("p"), scene.active("p")), (None, A.to_owned()));
}

#[test]
fn a_pair_that_the_cap_lets_go_opens_when_its_other_half_takes_over() {
    let mut scene = Scene::new(PAIR, fast());
    scene.does(B, Does::Answer(503));
    scene.pass(5 * S);
    refuse(&mut scene, A);
    assert_eq!(scene.refusal("p"), Some(Refusal::Closed), "another node is left");
    scene.does(B, Does::Answer(200));
    let took = scene.until(5 * S, |scene| scene.refusal("p").is_none()).unwrap();
    assert!(took < S, "{took}");
    assert_eq!(scene.active("p"), B);
}

#[test]
fn closing_the_half_that_takes_no_calls_closes_no_pair() {
    let mut scene = Scene::new(ALONE, fast());
    scene.pass(5 * S);
    refuse(&mut scene, B);
    assert!(scene.node("p").endpoints[1].closed);
    assert_eq!((scene.refusal("p"), scene.active("p")), (None, A.to_owned()));
    refuse(&mut scene, A);
    assert_eq!((scene.refusal("p"), scene.active("p")), (None, A.to_owned()), "nobody could take over");
}

#[test]
fn a_silent_half_leaves_its_calls_to_the_other_at_once_even_without_probes() {
    let silent = HealthPolicy { probe: false, unanswered_requests: 10, unanswered_ms: 2_000, ..fast() };
    let mut scene = Scene::new(ALONE, silent);
    scene.account(A).requests += 50;
    scene.pass(3 * S);
    assert_eq!((scene.health(A), scene.refusal("p"), scene.active("p")), (Health::Down, None, B.to_owned()));
}
