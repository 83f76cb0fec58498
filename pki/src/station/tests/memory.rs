//! What a station remembers: certificates issued again, refused and revoked.

use super::*;

/// What the ledger has, shortly.
fn events(factory: &TempDir) -> Vec<String> {
    let lines = Ledger::lines(&factory.path().join("station")).unwrap().map(Result::unwrap);
    let told = lines.map(|line| match line.event {
        Event::Issued(line) => format!("issued {}", line.entry.id),
        Event::Reissued(line) => format!("reissued {}", line.entry.id),
        Event::Refused(line) => format!("refused {:?}", line.refusal),
        Event::Revoked(line) => format!("revoked {}", line.id),
        Event::Manifest(line) => format!("manifest {}", line.number),
        Event::RevocationList(line) => format!("list of {}", line.certificates),
        Event::Replaced(line) => format!("replaced after {}", line.number),
        Event::Adopted(line) => format!("adopted {}", line.entry.id),
    });
    told.collect()
}

#[test]
fn a_device_that_is_issued_again_has_one_certificate_that_counts() {
    let factory = factory();
    let again = |serial| IssueRequest {
        reissue: Some("card lost".parse().unwrap()),
        ..request(&factory, "a", serial)
    };
    let mut station = station(&factory);
    let refusal = station.issue(&again("1"), NOW).unwrap_err();
    assert!(matches!(refusal, StationError::NotIssued { .. }));
    let first = station.issue(&request(&factory, "a", "1"), NOW).unwrap();
    let first_der = file::read_certificates(&factory.path().join("a/pki/idevid.crt")).unwrap();
    // Its id with another serial number is another device.
    let refusal = station.issue(&again("2"), NOW).unwrap_err();
    assert!(matches!(refusal, StationError::Seen { what: "the id", .. }));
    // The bundle of the one that is given up is where the new one goes, if so wished.
    let second = station.issue(&again("1"), NOW).unwrap();
    assert!(second.reissued && second.entry.key != first.entry.key);
    let reissue = second.entry.reissue.clone().unwrap();
    assert_eq!((reissue.reason.as_str(), reissue.replaces), ("card lost", first.entry.key));
    let pki = factory.path().join("a/pki");
    let identity = Identity::load(&pki.join("idevid.crt"), &pki.join("idevid.key")).unwrap();
    assert_eq!(identity.key.public().digest(), second.entry.key);
    assert_eq!(station.find(&first.entry.serial).unwrap(), Some(second.entry.clone()));

    let out = factory.path().join("m");
    let exported = station.export(false, &out, &ann(), NOW).unwrap();
    let manifest = Manifest::read_unverified(&fs::read(&out).unwrap()).unwrap();
    assert_eq!((manifest.minions, exported.revoked), (vec![second.entry], 1));
    let list = crate::crl::RevocationList::from_pem(manifest.crl.as_bytes()).unwrap();
    list.verify(station.certificate()).unwrap();
    let revoked =
        list.contents().find(&crate::certificate::Certificate::read(&first_der[0]).unwrap().serial);
    assert_eq!(revoked.unwrap().reason.as_str(), "superseded");
    let expected = ["refused NotIssued", "issued a", "refused IdSeen", "reissued a", "manifest 1"];
    assert_eq!(events(&factory), expected);
}

#[test]
fn refusals_are_in_the_ledger() {
    let factory = factory();
    let key = PrivateKey::generate().unwrap();
    let with_key = |id, serial| IssueRequest {
        key: KeySource::Device(key.public().clone()),
        ..request(&factory, id, serial)
    };
    let mut station = station(&factory);
    station.issue(&with_key("a", "1"), NOW).unwrap();
    station.issue(&request(&factory, "a", "1"), NOW).unwrap_err();
    station.issue(&request(&factory, "b", "1"), NOW).unwrap_err();
    station.issue(&with_key("c", "3"), NOW).unwrap_err();
    let broken = PublicKey::from_csr(b"").unwrap_err();
    let id = "d".parse().unwrap();
    station.refuse(Some(&id), None, RefusalKind::Request, &broken, &ann(), NOW).unwrap();
    assert_eq!(
        events(&factory),
        [
            "issued a",
            "refused SerialSeen",
            "refused SerialSeen",
            "refused KeySeen",
            "refused Request"
        ]
    );
}

#[test]
fn a_revoked_device_is_in_the_list_and_in_every_manifest() {
    let factory = factory();
    let mut station = station(&factory);
    let issued = station.issue(&request(&factory, "a", "1"), NOW).unwrap();
    station.issue(&request(&factory, "b", "2"), NOW).unwrap();
    let reason: Reason = "key compromise".parse().unwrap();
    let serial = Revoked::Serial("1".parse().unwrap());
    let done = station.revoke(&serial, &reason, &ann(), NOW).unwrap();
    assert_eq!((done.id.as_str(), done.before), ("a", false));
    let id = Revoked::Id("a".parse().unwrap());
    assert!(station.revoke(&id, &reason, &ann(), NOW).unwrap().before);
    let unknown = Revoked::Id("c".parse().unwrap());
    let refusal = station.revoke(&unknown, &reason, &ann(), NOW).unwrap_err();
    assert!(matches!(refusal, StationError::NothingToRevoke { .. }));
    assert!(!refusal.hint().unwrap().contains("--reissue"));

    let crl = factory.path().join("crl");
    let first = station.write_list(&crl, &ann(), NOW).unwrap();
    let second = station.write_list(&crl, &ann(), NOW).unwrap();
    assert!(second.number > first.number && second.revoked == 1);
    for name in ["m1", "m2"] {
        let out = factory.path().join(name);
        station.export(false, &out, &ann(), NOW).unwrap();
        let manifest = Manifest::read_unverified(&fs::read(&out).unwrap()).unwrap();
        let [revoked] = manifest.revoked.as_slice() else { panic!("{manifest:?}") };
        assert_eq!((revoked.id.as_str(), revoked.key), ("a", issued.entry.key));
    }
    // It may have another certificate, and that one counts.
    let again = IssueRequest {
        reissue: Some("found again".parse().unwrap()),
        ..request(&factory, "a", "1")
    };
    station.issue(&again, NOW).unwrap();
    station.export(false, &factory.path().join("m3"), &ann(), NOW).unwrap();
    let manifest =
        Manifest::read_unverified(&fs::read(factory.path().join("m3")).unwrap()).unwrap();
    assert_eq!((manifest.minions.len(), manifest.revoked.len()), (1, 0));
}

#[test]
fn an_older_copy_of_the_ledger_does_not_issue() {
    let factory = factory();
    let path = factory.path().join("station");
    let ledger = ["ledger.ndjson", "ledger.head"].map(|name| path.join(name));
    let older = ledger.clone().map(|path| fs::read(path).unwrap());
    let mut open = station(&factory);
    for n in ["1", "2"] {
        open.issue(&request(&factory, n, n), NOW).unwrap();
        open.export(false, &factory.path().join(format!("m{n}")), &ann(), NOW).unwrap();
    }
    drop(open);
    for (path, text) in ledger.iter().zip(&older) {
        fs::write(path, text).unwrap();
    }
    let refusal = Station::open(&path, &NOWHERE, NOW).unwrap_err();
    let source = std::error::Error::source(&refusal).unwrap().to_string();
    assert!(source.ends_with("lines 1 to 3 were cut off the end"), "{source}");
    // Also where the manifest itself was spoilt, since its number is enough.
    fs::write(path.join("manifests/000002.json"), "").unwrap();
    let refusal = Station::open(&path, &NOWHERE, NOW).unwrap_err();
    let source = std::error::Error::source(&refusal).unwrap().to_string();
    assert!(source.ends_with("it was set back: it does not know of manifest 2"), "{source}");
    fs::copy(factory.path().join("m2"), path.join("manifests/000002.json")).unwrap();
    let findings = inspect(&path, NOW).unwrap().ledger.findings;
    assert_eq!(findings[0].to_string(), "lines 1 to 3 were cut off the end");
}

#[test]
fn a_copy_of_the_ledger_from_before_the_latest_manifest_does_not_issue() {
    let factory = factory();
    let path = factory.path().join("station");
    station(&factory).issue(&request(&factory, "a", "1"), NOW).unwrap();
    let ledger = ["ledger.ndjson", "ledger.head"].map(|name| path.join(name));
    let older = ledger.clone().map(|path| fs::read(path).unwrap());
    let mut open = station(&factory);
    open.issue(&request(&factory, "b", "2"), NOW).unwrap();
    open.export(false, &factory.path().join("m1"), &ann(), NOW).unwrap();
    drop(open);
    for (path, text) in ledger.iter().zip(&older) {
        fs::write(path, text).unwrap();
    }
    let refusal = Station::open(&path, &NOWHERE, NOW).unwrap_err();
    let source = std::error::Error::source(&refusal).unwrap().to_string();
    assert!(source.ends_with("line 2 was cut off the end"), "{source}");
}
