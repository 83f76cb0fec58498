use std::time::Duration;

use drover_pki::{
    Authority, Profile,
    profile::{BACKDATE, Validity},
};

use super::*;

const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);

fn days(days: i64) -> SignedDuration {
    SignedDuration::from_secs(days * DAY)
}

fn watched(life: i64) -> Watched {
    Watched {
        name: "fleet-ca".to_owned(),
        kind: Kind::FleetCa,
        fingerprint: Fingerprint::of(b"a"),
        issued: NOW,
        expires: Some(NOW + days(life)),
    }
}

/// Everything that is told in a life, with the day before the end on which it is.
fn told(authority: &Watched, life: i64) -> Vec<(i64, Stage)> {
    let (mut told, mut days_left) = (None, Vec::new());
    for day in 0..=life + 100 {
        if let Some(stage) = authority.due(told, NOW + days(day)) {
            days_left.push((life - day, stage));
            told = Some(stage);
        }
    }
    days_left
}

#[test]
fn an_end_is_told_90_30_and_7_days_ahead_and_when_it_is_over_once_each() {
    let expected =
        [(90, Stage::Days90), (30, Stage::Days30), (7, Stage::Days7), (0, Stage::Expired)];
    assert_eq!(told(&watched(3_653), 3_653), expected);
}

#[test]
fn a_master_that_was_off_tells_the_nearest_alone() {
    let authority = watched(3_653);
    let at = |left: i64| NOW + days(3_653 - left);
    assert_eq!(authority.due(None, at(20)), Some(Stage::Days30));
    assert_eq!(authority.due(Some(Stage::Days30), at(20)), None);
    assert_eq!(authority.due(Some(Stage::Days90), at(-5)), Some(Stage::Expired));
    // The clock was put back.
    assert_eq!(authority.due(Some(Stage::Expired), at(20)), None);
}

#[test]
fn a_certificate_of_a_month_is_told_of_in_its_last_quarter_alone() {
    assert_eq!(told(&watched(28), 28), [(7, Stage::Days7), (0, Stage::Expired)]);
    assert_eq!(told(&watched(40), 40)[0], (10, Stage::Days30));
}

#[test]
fn the_next_look_is_when_there_is_something_to_tell() {
    let authority = watched(3_653);
    let at = |left: i64| Some(NOW + days(3_653 - left));
    assert_eq!(authority.next(None), at(90));
    assert_eq!(authority.next(Some(Stage::Days30)), at(7));
    assert_eq!(authority.next(Some(Stage::Expired)), None);
}

#[test]
fn what_has_no_end_is_never_told_of() {
    let forever = Watched { expires: None, ..watched(1) };
    assert_eq!(forever.due(None, Timestamp::MAX), None);
    assert_eq!(forever.next(None), None);
}

#[test]
fn authorities_are_named_and_those_without_an_end_are_known() {
    let fleet = "acme".parse().unwrap();
    let root = Authority::create_root(&fleet, NOW).unwrap();
    let of = |authority: &Authority| Watched::of(authority.certificate()).unwrap();
    let make = |profile: &Profile| of(&root.create_authority(profile, NOW).unwrap());
    let fleet_ca = make(&Profile::fleet_ca(&fleet));
    assert_eq!((fleet_ca.name.as_str(), fleet_ca.kind), ("fleet-ca", Kind::FleetCa));
    let backdate = SignedDuration::try_from(BACKDATE).unwrap();
    assert_eq!(fleet_ca.issued, NOW - backdate);
    assert_eq!(fleet_ca.expires, Some(NOW + days(3_653)));
    assert_eq!(make(&Profile::next_fleet_ca(&fleet, 2)).name, "fleet-ca-2");
    let factory = make(&Profile::factory_ca("acme", &"line-1".parse().unwrap()));
    assert_eq!((factory.name.as_str(), factory.expires), ("factory-ca-line-1", None));
    assert_eq!((of(&root).name.as_str(), of(&root).expires), ("root", None));
    let next = root.create_next_root(drover_pki::PrivateKey::generate().unwrap(), NOW).unwrap();
    assert_eq!(of(&next).name, "root-2");

    let profile = Profile {
        validity: Validity::For(Duration::from_secs(86_400)),
        ..Profile::master(&"north".parse().unwrap())
    };
    let key = drover_pki::PrivateKey::generate().unwrap();
    let leaf = Certificate::read(&root.issue(&profile, &key, NOW).unwrap()).unwrap();
    assert_eq!(Watched::of(&leaf).unwrap().name, "master");
    let minion = Profile::idevid(&"a".parse().unwrap(), &"1".parse().unwrap());
    let leaf = Certificate::read(&root.issue(&minion, &key, NOW).unwrap()).unwrap();
    assert_eq!(Watched::of(&leaf), None);
}

#[test]
fn an_event_says_what_ends_and_what_to_do() {
    let report = watched(100).report(NOW + days(90));
    assert_eq!(
        report,
        json!({
            "name": "fleet-ca",
            "kind": "fleet_ca",
            "fingerprint": Fingerprint::of(b"a").with_colons(),
            "not_after": NOW + days(100),
            "days": 10,
            "expired": false,
            "hint": "roll out a new fleet CA: `drover key authorities request`",
        })
    );
    assert_eq!(watched(100).report(NOW + days(101))["expired"], true);
}
