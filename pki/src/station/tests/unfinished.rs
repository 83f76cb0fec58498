//! Bundles that a power cut, or a card that was pulled out, left in part.

use super::*;

fn note(issued: &Issued, out: PathBuf) -> Unfinished {
    Unfinished {
        id: issued.entry.id.clone(),
        serial: issued.entry.serial.clone(),
        key: issued.entry.key,
        key_on_device: false,
        masters: vec!["10.0.0.1:4510".to_owned()],
        out,
    }
}

#[test]
fn a_bundle_of_a_killed_run_is_finished_whatever_it_had_written() {
    let factory = factory();
    let path = factory.path();
    let whole = station(&factory).issue(&request(&factory, "a", "1"), NOW).unwrap();
    let pki = path.join("a/pki");
    // As it is until the ledger has the certificate.
    fs::rename(pki.join("idevid.key"), pki.join("idevid.next.key")).unwrap();
    fs::remove_file(pki.join("idevid.crt")).unwrap();
    fs::write(pki.join(".drover-half"), "half a file").unwrap();
    let again = station(&factory).issue(&request(&factory, "a", "1"), NOW).unwrap();
    assert_eq!((again.finished_earlier, again.entry), (true, whole.entry));
    let mut left: Vec<_> =
        fs::read_dir(&pki).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["idevid.crt", "idevid.key", "root.crt"]);

    // A key that the ledger does not have was never issued, and another one takes its place.
    fs::create_dir_all(path.join("b/pki")).unwrap();
    let stray = PrivateKey::generate().unwrap();
    fs::write(path.join("b/pki/idevid.next.key"), stray.to_pem().as_bytes()).unwrap();
    let issued = station(&factory).issue(&request(&factory, "b", "2"), NOW).unwrap();
    assert!(!issued.finished_earlier && issued.entry.key != stray.public().digest());
    // A key of somebody else's is not written over.
    fs::create_dir_all(path.join("c/pki")).unwrap();
    fs::write(path.join("c/pki/idevid.key"), stray.to_pem().as_bytes()).unwrap();
    let refusal = station(&factory).issue(&request(&factory, "c", "3"), NOW).unwrap_err();
    assert!(matches!(refusal, StationError::Occupied { .. }), "{refusal}");
}

#[test]
fn a_bundle_that_was_begun_is_found_and_finished() {
    let factory = factory();
    let whole = station(&factory).issue(&request(&factory, "a", "1"), NOW).unwrap();
    assert_eq!(station(&factory).unfinished().unwrap(), []);
    let note = note(&whole, factory.path().join("a"));
    let mut station = station(&factory);
    station.notes.write(&note).unwrap();
    fs::remove_file(factory.path().join("a/pki/idevid.crt")).unwrap();
    fs::remove_file(factory.path().join("a/minion.yml")).unwrap();
    assert_eq!(station.unfinished().unwrap(), std::slice::from_ref(&note));
    let refusal = station
        .issue(&IssueRequest { out: factory.path().join("b"), ..request(&factory, "a", "1") }, NOW)
        .unwrap_err();
    assert!(refusal.hint().unwrap().contains("ledger unfinished --finish"), "{refusal}");
    let finished = station.finish(&note, NOW).unwrap();
    assert_eq!((finished.finished_earlier, finished.entry), (true, whole.entry));
    assert_eq!(station.unfinished().unwrap(), []);
    // Without its key it cannot be, and is not.
    station.notes.write(&note).unwrap();
    fs::remove_dir_all(factory.path().join("a")).unwrap();
    let refusal = station.finish(&note, NOW).unwrap_err();
    assert!(matches!(refusal, StationError::KeyLost { .. }));
    // One whose certificate the ledger does not have was never issued.
    let never = Unfinished { key: crate::KeyDigest::of(b"never"), ..note };
    station.notes.write(&never).unwrap();
    assert_eq!(station.unfinished().unwrap(), []);
}

#[test]
fn a_reissue_that_a_power_cut_stopped_is_finished() {
    let factory = factory();
    let mut station = station(&factory);
    station.issue(&request(&factory, "a", "1"), NOW).unwrap();
    let pki = factory.path().join("a/pki");
    let keep = |name: &str| fs::read(pki.join(name)).unwrap();
    let (old_crt, old_key) = (keep("idevid.crt"), keep("idevid.key"));
    let again =
        IssueRequest { reissue: Some("card lost".parse().unwrap()), ..request(&factory, "a", "1") };
    let second = station.issue(&again, NOW).unwrap();
    let new_key = keep("idevid.key");
    // Each way that the change can stop, from the ledger's line on.
    let states = [
        (Some(&old_crt), &old_key, true),
        (None::<&Vec<u8>>, &old_key, true),
        (None, &new_key, false),
    ];
    for (crt, key, has_next) in states {
        fs::remove_file(pki.join("idevid.crt")).unwrap();
        if let Some(crt) = crt {
            fs::write(pki.join("idevid.crt"), crt).unwrap();
        }
        fs::write(pki.join("idevid.key"), key).unwrap();
        if has_next {
            fs::write(pki.join("idevid.next.key"), &new_key).unwrap();
        }
        let finished = station.issue(&again, NOW).unwrap();
        assert_eq!((finished.finished_earlier, finished.entry), (true, second.entry.clone()));
        let identity = Identity::load(&pki.join("idevid.crt"), &pki.join("idevid.key")).unwrap();
        assert_eq!(identity.key.public().digest(), second.entry.key);
        assert!(!pki.join("idevid.next.key").exists());
    }
}

#[test]
fn a_revoked_device_is_neither_finished_nor_issued_without_a_reason() {
    let factory = factory();
    let whole = station(&factory).issue(&request(&factory, "a", "1"), NOW).unwrap();
    let mut station = station(&factory);
    let note = note(&whole, factory.path().join("a"));
    station.notes.write(&note).unwrap();
    fs::remove_file(factory.path().join("a/pki/idevid.crt")).unwrap();
    let reason = "stolen".parse().unwrap();
    station.revoke(&Revoked::Id(note.id.clone()), &reason, &ann(), NOW).unwrap();

    assert_eq!(station.unfinished().unwrap(), []);
    let refusal = station.finish(&note, NOW).unwrap_err();
    assert!(matches!(refusal, StationError::Revoked { .. }), "{refusal}");
    let refusal = station.issue(&request(&factory, "a", "1"), NOW).unwrap_err();
    assert_snapshot!(refusal, @"the certificate of `a` was revoked at 2027-01-15T08:00:00Z: stolen");
    let reissue = Some("came back".parse().unwrap());
    let again =
        IssueRequest { reissue, out: factory.path().join("b"), ..request(&factory, "a", "1") };
    let again = station.issue(&again, NOW).unwrap();
    assert!(again.reissued && !again.finished_earlier);
    assert!(station.revocation(&note.id).is_none());
}

#[test]
fn finishing_a_bundle_leaves_the_identity_of_another_device_alone() {
    let factory = factory();
    let own = PrivateKey::generate().unwrap().public().clone();
    let key = KeySource::Device(own);
    let csr = IssueRequest { key, ..request(&factory, "a", "1") };
    let begun = station(&factory).issue(&csr, NOW).unwrap();
    let other = station(&factory).issue(&request(&factory, "b", "2"), NOW).unwrap();
    // Its note names a card that was changed meanwhile.
    let note = Unfinished { key_on_device: true, ..note(&begun, factory.path().join("b")) };
    let mut station = station(&factory);
    station.notes.write(&note).unwrap();
    let refusal = station.finish(&note, NOW).unwrap_err();
    assert!(matches!(refusal, StationError::Occupied { .. }), "{refusal}");
    let pki = factory.path().join("b/pki");
    let kept = Identity::load(&pki.join("idevid.crt"), &pki.join("idevid.key")).unwrap();
    assert_eq!(kept.key.public().digest(), other.entry.key);
}
