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
