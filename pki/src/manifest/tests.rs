//! Manifests: genuine, forged, and signed by somebody else.

use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine};
use insta::assert_snapshot;

use super::*;
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

fn manifest(station: &str) -> Manifest {
    let entry = ManifestEntry {
        id: "rfid-1".parse().unwrap(),
        serial: "SN 1".parse().unwrap(),
        key: KeyDigest::of(b"key"),
        certificate: Fingerprint::of(b"certificate"),
        grains: Map::from_iter([("site".to_owned(), Value::from("bne"))]),
        issued: NOW,
    };
    Manifest::new(station.parse().unwrap(), 7, false, NOW, vec![entry])
}

fn refusal(factory: &Factory, text: &str) -> ManifestError {
    Manifest::verify(text.as_bytes(), &factory.anchors, now()).unwrap_err()
}

#[test]
fn a_stations_manifest_is_read_as_it_was_signed() {
    let factory = factory();
    let text = manifest("line-1").sign(&factory.line).unwrap();
    let verified = Manifest::verify(text.as_bytes(), &factory.anchors, now()).unwrap();
    assert_eq!(verified.manifest, manifest("line-1"));
    assert_eq!(verified.authority.key, factory.line.certificate().key);
    assert_eq!(Manifest::read_unverified(text.as_bytes()).unwrap(), manifest("line-1"));
}

#[test]
fn a_changed_manifest_is_refused() {
    let factory = factory();
    let text = manifest("line-1").sign(&factory.line).unwrap();
    let mut envelope: Value = serde_json::from_str(&text).unwrap();
    let mut changed = manifest("line-1");
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
    let text = manifest("line-1").sign(&theirs.line).unwrap();
    assert_snapshot!(refusal(&ours, &text), @"the manifest's station is not one that is trusted here");
}

#[test]
fn a_station_signs_under_its_own_name_alone() {
    let factory = factory();
    let text = manifest("line-2").sign(&factory.line).unwrap();
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
        let text = manifest("line-1").sign(signer).unwrap();
        assert!(matches!(refusal(&factory, &text), ManifestError::Authority(_)));
    }
}

#[test]
fn a_newer_format_and_other_files_are_refused() {
    let factory = factory();
    let newer = Manifest { format: 2, ..manifest("line-1") };
    let text = newer.sign(&factory.line).unwrap();
    assert_snapshot!(refusal(&factory, &text), @"the manifest has format 2, newer than 1, the latest known here");
    assert_snapshot!(refusal(&factory, "{}"), @"the file is not a manifest");
    assert_snapshot!(refusal(&factory, "\u{7f}ELF"), @"the file is not a manifest");
    let text = manifest("line-1").sign(&factory.line).unwrap();
    let other = text.replace("drover.manifest", "drover.ledger");
    assert_snapshot!(refusal(&factory, &other), @"the file is signed as `application/vnd.drover.ledger+json`, not as a manifest");
}
