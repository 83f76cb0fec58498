//! Manifests: genuine, forged, and signed by somebody else.

use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine};
use insta::assert_snapshot;

use super::*;
use crate::crl::Revocations;
use crate::fingerprint::LineDigest;
use crate::profile::Profile;

const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);

fn now() -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(1_800_000_000))
}

struct Factory {
    root: Authority,
    line: Authority,
    anchors: TrustAnchors,
}

fn factory() -> Factory {
    let root = Authority::create_root(&"acme".parse().unwrap(), NOW).unwrap();
    let line = root.create_factory_ca(&"line-1".parse().unwrap(), NOW).unwrap();
    let anchors = TrustAnchors::new(vec![root.der().clone()]).unwrap();
    Factory { root, line, anchors }
}

fn manifest(line: &Authority, station: &str) -> Manifest {
    let entry = ManifestEntry {
        id: "rfid-1".parse().unwrap(),
        serial: "SN 1".parse().unwrap(),
        key: KeyDigest::of(b"key"),
        certificate: Fingerprint::of(b"certificate"),
        grains: Map::from_iter([("site".to_owned(), Value::from("bne"))]),
        issued: NOW,
        reissue: None,
    };
    Manifest {
        format: Format,
        station: station.parse().unwrap(),
        number: 7,
        all: false,
        created: NOW,
        ledger: ManifestLedger { head: head(12, b"12"), previous: head(9, b"9") },
        minions: vec![entry],
        revoked: vec![],
        crl: list(line).to_pem(),
    }
}

fn head(count: u64, line: &[u8]) -> Head {
    Head { count, head: LineDigest::of(line) }
}

fn list(authority: &Authority) -> RevocationList {
    let contents =
        Revocations { number: 13, this_update: NOW, next_update: Timestamp::MAX, revoked: vec![] };
    RevocationList::sign(authority, &contents).unwrap()
}

fn refusal(factory: &Factory, text: &str) -> ManifestError {
    Manifest::verify(text.as_bytes(), &factory.anchors, now()).unwrap_err()
}

#[test]
fn a_stations_manifest_is_read_as_it_was_signed() {
    let factory = factory();
    let manifest = manifest(&factory.line, "line-1");
    let text = manifest.sign(&factory.line).unwrap();
    let verified = Manifest::verify(text.as_bytes(), &factory.anchors, now()).unwrap();
    assert_eq!(verified.manifest, manifest);
    assert_eq!(verified.authority.key, factory.line.certificate().key);
    assert_eq!(verified.crl.contents().number, 13);
    assert_eq!(Manifest::read_unverified(text.as_bytes()).unwrap(), manifest);
}

#[test]
fn a_changed_manifest_is_refused() {
    let factory = factory();
    let text = manifest(&factory.line, "line-1").sign(&factory.line).unwrap();
    let mut envelope: Value = serde_json::from_str(&text).unwrap();
    let mut changed = manifest(&factory.line, "line-1");
    changed.minions[0].id = "rfid-2".parse().unwrap();
    envelope["payload"] = BASE64_STANDARD.encode(serde_json::to_vec(&changed).unwrap()).into();
    assert_snapshot!(
        refusal(&factory, &envelope.to_string()),
        @"the manifest's signature is not by its station's key: it was changed or forged"
    );
}

#[test]
fn a_manifest_of_another_fleets_station_is_refused() {
    let (ours, theirs) = (factory(), factory());
    let text = manifest(&theirs.line, "line-1").sign(&theirs.line).unwrap();
    assert_snapshot!(refusal(&ours, &text), @"the manifest's station is not one that is trusted here");
}

#[test]
fn a_station_signs_under_its_own_name_alone() {
    let factory = factory();
    let text = manifest(&factory.line, "line-2").sign(&factory.line).unwrap();
    assert_snapshot!(refusal(&factory, &text), @"the manifest of station `line-2` is signed by station `line-1`");
}

#[test]
fn nobody_but_a_station_signs() {
    let factory = factory();
    let fleet_ca = factory.root.create_fleet_ca(&"line-1".parse().unwrap(), NOW).unwrap();
    let device = Profile::idevid(&"line-1".parse().unwrap(), &"SN".parse().unwrap());
    let device = factory
        .line
        .create_authority(&Profile { role: crate::profile::Role::Authority, ..device }, NOW);
    for signer in [&fleet_ca, &device.unwrap(), &factory.root] {
        let text = manifest(&factory.line, "line-1").sign(signer).unwrap();
        assert!(matches!(refusal(&factory, &text), ManifestError::Authority(_)));
    }
}

#[test]
fn other_formats_and_other_files_are_refused() {
    let factory = factory();
    for format in [1, 3] {
        let mut payload = serde_json::to_value(manifest(&factory.line, "line-1")).unwrap();
        payload["format"] = format.into();
        let payload = serde_json::to_vec(&payload).unwrap();
        let text = dsse::seal(PAYLOAD_TYPE, &payload, &[&factory.line]).unwrap();
        let refused = refusal(&factory, &text).to_string();
        let said = format!("the manifest has format {format}, not 2, the one that is known here");
        assert_eq!(refused, said);
    }
    assert_snapshot!(refusal(&factory, "{}"), @"the file is not a manifest");
    assert_snapshot!(refusal(&factory, "\u{7f}ELF"), @"the file is not a manifest");
    let text = manifest(&factory.line, "line-1").sign(&factory.line).unwrap();
    let other = text.replace("drover.manifest", "drover.ledger");
    assert_snapshot!(refusal(&factory, &other), @"the file is signed as `application/vnd.drover.ledger+json`, not as a manifest");
}

#[test]
fn a_truncated_manifest_is_refused() {
    let factory = factory();
    let text = manifest(&factory.line, "line-1").sign(&factory.line).unwrap();
    let whole = text.trim_end().len();
    for length in 0..whole {
        Manifest::verify(&text.as_bytes()[..length], &factory.anchors, now()).unwrap_err();
    }
    let mut envelope: Value = serde_json::from_str(&text).unwrap();
    let payload = BASE64_STANDARD.decode(envelope["payload"].as_str().unwrap()).unwrap();
    for length in 0..payload.len() {
        envelope["payload"] = BASE64_STANDARD.encode(&payload[..length]).into();
        let refused = refusal(&factory, &envelope.to_string());
        assert!(matches!(refused, ManifestError::Forged), "{length}: {refused}");
    }
}

#[test]
fn the_revocation_list_is_by_the_station_that_signs() {
    let factory = factory();
    let other = factory.root.create_factory_ca(&"line-2".parse().unwrap(), NOW).unwrap();
    let namesake = factory.root.create_factory_ca(&"line-1".parse().unwrap(), NOW).unwrap();
    for crl in [list(&other).to_pem(), list(&namesake).to_pem(), String::new()] {
        let manifest = Manifest { crl, ..manifest(&factory.line, "line-1") };
        let refused = refusal(&factory, &manifest.sign(&factory.line).unwrap());
        assert!(matches!(refused, ManifestError::RevocationList(_)), "{refused}");
    }
}

#[test]
fn a_ledger_goes_on_from_what_is_known_of_it_or_was_cut() {
    let ledger = ManifestLedger { head: head(12, b"12"), previous: head(9, b"9") };
    assert!(ledger.goes_on_from(&head(9, b"9")), "the manifest before");
    assert!(ledger.goes_on_from(&head(4, b"4")), "one between is missing");
    assert!(!ledger.goes_on_from(&head(9, b"other")), "lines were changed since");
    assert!(!ledger.goes_on_from(&head(12, b"12")), "lines were cut off since");
    assert!(!ledger.goes_on_from(&head(20, b"20")), "lines were cut off since");
    let first = ManifestLedger { head: head(3, b"3"), previous: Head::empty() };
    assert!(first.goes_on_from(&Head::empty()));
}
