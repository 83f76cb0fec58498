//! A station whose laptop died.

use super::*;

/// A station made again from manifests; the one before it is gone.
pub(super) fn replace(factory: &TempDir, manifests: &[&str]) -> Result<usize, NewStationError> {
    let path = factory.path().join("station");
    let _ = fs::rename(&path, factory.path().join("gone"));
    let manifests: Vec<_> =
        manifests.iter().map(|name| fs::read(factory.path().join(name)).unwrap()).collect();
    let by = ann();
    let founding = Founding { by: &by, manifests: &manifests };
    let fleet = FleetDirectory::new(&factory.path().join("fleet"));
    let (line, key) = ("line-1".parse().unwrap(), NewKey::unencrypted());
    new_station::create(&fleet, &NOWHERE, &line, &key, &founding, &path, NOW)
}

#[test]
fn a_replaced_station_goes_on_where_the_one_before_it_ended() {
    let factory = factory();
    let mut before = station(&factory);
    for n in ["1", "2", "3"] {
        before.issue(&request(&factory, n, n), NOW).unwrap();
        before.export(n == "2", &factory.path().join(format!("m{n}")), &ann(), NOW).unwrap();
    }
    let again =
        IssueRequest { reissue: Some("card lost".parse().unwrap()), ..request(&factory, "3", "3") };
    before.issue(&again, NOW).unwrap();
    let reason: Reason = "stolen".parse().unwrap();
    before.revoke(&Revoked::Id("1".parse().unwrap()), &reason, &ann(), NOW).unwrap();
    before.export(false, &factory.path().join("m4"), &ann(), NOW).unwrap();
    drop(before);

    for (given, missing) in [(&["m4", "m1"][..], "2 to 3 are"), (&["m4", "m2"], "3 is")] {
        let refusal = replace(&factory, given).unwrap_err();
        let source = std::error::Error::source(&refusal).unwrap().to_string();
        assert!(source.ends_with(&format!("{missing} missing")), "{source}");
        assert!(refusal.hint().unwrap().contains("drover key manifest line-1 --all"));
    }
    // Manifest 2 has everything, so what is before it is not needed.
    assert_eq!(replace(&factory, &["m3", "m2", "m4", "m3"]).unwrap(), 3);
    let mut after = station(&factory);
    for (id, serial) in [("1", "9"), ("9", "2"), ("3", "3")] {
        let refusal = after.issue(&request(&factory, id, serial), NOW).unwrap_err();
        assert!(matches!(refusal, StationError::Seen { .. }), "{refusal}");
    }
    let adopted = after.revoke(&Revoked::Id("2".parse().unwrap()), &reason, &ann(), NOW);
    assert!(matches!(adopted, Err(StationError::Adopted { .. })));
    let again = IssueRequest { out: factory.path().join("again"), ..again };
    let second = after.issue(&again, NOW).unwrap();
    assert!(second.reissued);
    let fifth = after.export(false, &factory.path().join("m5"), &ann(), NOW).unwrap();
    assert_eq!((fifth.number, fifth.minions, fifth.revoked), (5, 1, 0));
    let manifest = Manifest::read_unverified(&fs::read(&fifth.kept).unwrap()).unwrap();
    assert_eq!(manifest.revoked.len(), 1, "who was revoked before stays so");
    assert_eq!(manifest.ledger.previous, crate::ledger::Head::empty());
    drop(after);
    assert_eq!(inspect(&factory.path().join("station"), NOW).unwrap().ledger.findings, []);
    // And so does the one after it.
    fs::remove_dir_all(factory.path().join("gone")).unwrap();
    assert_eq!(replace(&factory, &["m2", "m3", "m4", "m5"]).unwrap(), 3);
    assert_eq!(
        station(&factory).export(false, &factory.path().join("m6"), &ann(), NOW).unwrap().number,
        6
    );
}

#[test]
fn a_station_is_replaced_by_its_own_genuine_manifests_alone() {
    let (ours, theirs) = (factory(), factory());
    for factory in [&ours, &theirs] {
        let mut station = station(factory);
        station.issue(&request(factory, "1", "1"), NOW).unwrap();
        station.export(false, &factory.path().join("m1"), &ann(), NOW).unwrap();
    }
    let source = |refusal: NewStationError| {
        let NewStationError::Replacement(error) = refusal else { panic!("{refusal}") };
        error
    };
    fs::copy(theirs.path().join("m1"), ours.path().join("theirs")).unwrap();
    let refusal = source(replace(&ours, &["theirs"]).unwrap_err());
    assert!(matches!(refusal, ReplacementError::Manifest { place: 1, .. }), "{refusal}");
    // A station with the same name, made in its place: two manifests with one number.
    replace(&ours, &[]).unwrap();
    let mut twin = station(&ours);
    twin.issue(&request(&ours, "2", "2"), NOW).unwrap();
    twin.export(false, &ours.path().join("twin"), &ann(), NOW).unwrap();
    drop(twin);
    fs::remove_dir_all(ours.path().join("gone")).unwrap();
    let refusal = source(replace(&ours, &["m1", "twin"]).unwrap_err());
    assert!(matches!(refusal, ReplacementError::Twice { number: 1 }), "{refusal}");
}
