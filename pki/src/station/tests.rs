//! A station in a temporary directory, its power cut at every step included.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use insta::assert_snapshot;
use tempfile::TempDir;

use super::*;
use crate::file::Identity;
use crate::fleet::{FleetDirectory, FleetKeys};
use crate::key::PrivateKey;
use crate::manifest::Manifest;
use crate::new_key::NewKey;
use crate::new_station::{self, Founding, NewStationError};
use crate::verify::verify_minion;

mod followed;
mod memory;
mod replacement;
mod unfinished;

const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);
static NOWHERE: PassphraseSource = PassphraseSource::nowhere();

fn factory() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let name = "acme".parse().unwrap();
    let master = "north".parse().unwrap();
    let keys = FleetKeys::unencrypted();
    let fleet = FleetDirectory::create(&path.join("fleet"), &name, &master, &keys, NOW).unwrap();
    let line = "line-1".parse().unwrap();
    let key = NewKey::unencrypted();
    let by = "ann".parse().unwrap();
    let founding = Founding { by: &by, manifests: &[] };
    let station = path.join("station");
    new_station::create(&fleet, &NOWHERE, &line, &key, &founding, &station, NOW).unwrap();
    directory
}

fn station(factory: &TempDir) -> Station {
    Station::open(&factory.path().join("station"), &NOWHERE, NOW).unwrap()
}

fn request(factory: &TempDir, id: &str, serial: &str) -> IssueRequest {
    IssueRequest {
        id: id.parse().unwrap(),
        serial: serial.parse().unwrap(),
        key: KeySource::Station,
        grains: Map::from_iter([("site".to_owned(), Value::from("bne"))]),
        masters: vec!["10.0.0.1:4510".to_owned()],
        out: factory.path().join(id),
        reissue: None,
        by: "ann".parse().unwrap(),
    }
}

fn ann() -> Actor {
    "ann".parse().unwrap()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_bundle_is_what_a_minion_starts_with() {
    let factory = factory();
    let issued = station(&factory).issue(&request(&factory, "a", "1"), NOW).unwrap();
    let out = factory.path().join("a");
    let pki = out.join("pki");
    let identity = Identity::load(&pki.join("idevid.crt"), &pki.join("idevid.key")).unwrap();
    let anchors = file::read_anchors(&pki.join("root.crt")).unwrap();
    assert_eq!(identity.chain.len(), 2);
    let verified =
        verify_minion(&anchors, &identity.chain[0], &identity.chain[1..], unix(NOW)).unwrap();
    assert_eq!(verified.id.as_str(), "a");
    assert_eq!(verified.fingerprint, issued.entry.certificate);
    assert_eq!((mode(&pki), mode(&pki.join("idevid.key"))), (0o700, 0o600));
    assert_snapshot!(fs::read_to_string(out.join("minion.yml")).unwrap(), @r"
    # Written by drover-enrol. The minion's id is its certificate's.
    master: '10.0.0.1:4510'
    ");
}

#[test]
fn a_configuration_that_is_there_is_kept() {
    let factory = factory();
    fs::create_dir(factory.path().join("a")).unwrap();
    fs::write(factory.path().join("a/minion.yml"), "mine").unwrap();
    let issued = station(&factory).issue(&request(&factory, "a", "1"), NOW).unwrap();
    assert!(!issued.wrote_configuration);
    assert_eq!(fs::read_to_string(factory.path().join("a/minion.yml")).unwrap(), "mine");
}

#[test]
fn an_id_or_a_serial_number_seen_twice_is_refused() {
    let factory = factory();
    station(&factory).issue(&request(&factory, "a", "1"), NOW).unwrap();
    // The ledger remembers, in another process too.
    let mut station = station(&factory);
    assert_snapshot!(
        station.issue(&request(&factory, "a", "2"), NOW).unwrap_err(),
        @"the id `a` was issued at 2027-01-15T08:00:00Z, to `a` with the serial number `1`"
    );
    assert_snapshot!(
        station.issue(&request(&factory, "b", "1"), NOW).unwrap_err(),
        @"the serial number `1` was issued at 2027-01-15T08:00:00Z, to `a` with the serial number `1`"
    );
    let again = station.issue(&request(&factory, "a", "1"), NOW).unwrap_err();
    assert!(matches!(again, StationError::Seen { .. }));
    assert!(!factory.path().join("b").exists());
}

#[test]
fn a_key_that_another_id_has_is_refused() {
    let factory = factory();
    let key = PrivateKey::generate().unwrap();
    let with_key = |id, serial| IssueRequest {
        key: KeySource::Device(key.public().clone()),
        ..request(&factory, id, serial)
    };
    let mut station = station(&factory);
    station.issue(&with_key("a", "1"), NOW).unwrap();
    let refusal = station.issue(&with_key("b", "2"), NOW).unwrap_err();
    assert!(matches!(refusal, StationError::Seen { what: "the key", .. }), "{refusal}");
    assert!(!factory.path().join("b").exists());
    // Its id and its serial number stay free.
    station.issue(&request(&factory, "b", "2"), NOW).unwrap();
}

#[test]
fn every_character_of_a_serial_number_goes_into_a_certificate() {
    let factory = factory();
    let serial = "AZaz09 '()+,-./:=";
    let issued = station(&factory).issue(&request(&factory, "a", serial), NOW).unwrap();
    assert_eq!(issued.entry.serial.as_str(), serial);
}

#[test]
fn the_identity_of_another_device_is_not_overwritten() {
    let factory = factory();
    station(&factory).issue(&request(&factory, "a", "1"), NOW).unwrap();
    let elsewhere = IssueRequest { out: factory.path().join("a"), ..request(&factory, "b", "2") };
    let refusal = station(&factory).issue(&elsewhere, NOW).unwrap_err();
    assert!(matches!(refusal, StationError::Occupied { .. }));
    // It was refused before it was issued.
    station(&factory).issue(&request(&factory, "b", "2"), NOW).unwrap();
}

#[test]
fn a_bundle_that_a_power_cut_left_is_finished() {
    let factory = factory();
    let first = station(&factory).issue(&request(&factory, "a", "1"), NOW).unwrap();
    let pki = factory.path().join("a/pki");
    for lost in [&["idevid.crt"][..], &["idevid.crt", "root.crt"]] {
        lost.iter().for_each(|name| fs::remove_file(pki.join(name)).unwrap());
        let again = station(&factory).issue(&request(&factory, "a", "1"), NOW).unwrap();
        assert_eq!((again.finished_earlier, again.entry), (true, first.entry.clone()));
        Identity::load(&pki.join("idevid.crt"), &pki.join("idevid.key")).unwrap();
    }
    // With the key gone too it is no half-written bundle any more.
    fs::remove_dir_all(&pki).unwrap();
    station(&factory).issue(&request(&factory, "a", "1"), NOW).unwrap_err();
}

#[test]
fn a_devices_own_key_stays_on_the_device() {
    let factory = factory();
    let key = PrivateKey::generate().unwrap();
    let request = IssueRequest {
        key: KeySource::Device(key.public().clone()),
        ..request(&factory, "a", "1")
    };
    let issued = station(&factory).issue(&request, NOW).unwrap();
    assert_eq!(issued.entry.key, key.public().digest());
    assert!(!factory.path().join("a/pki/idevid.key").exists());
}

#[test]
fn manifests_are_numbered_and_list_each_device_once() {
    let factory = factory();
    let anchors = file::read_anchors(&factory.path().join("fleet/master/root.crt")).unwrap();
    let ids = |exported: &Exported| -> Vec<String> {
        let text = fs::read(&exported.kept).unwrap();
        let verified = Manifest::verify(&text, &anchors, unix(NOW)).unwrap();
        assert_eq!(verified.manifest.number, exported.number);
        verified.manifest.minions.iter().map(|entry| entry.id.to_string()).collect()
    };
    let out = |name: &str| factory.path().join(name);
    station(&factory).issue(&request(&factory, "a", "1"), NOW).unwrap();
    let first = station(&factory).export(false, &out("1.json"), &ann(), NOW).unwrap();
    assert_eq!((first.number, ids(&first)), (1, vec!["a".to_owned()]));
    assert_eq!(fs::read(out("1.json")).unwrap(), fs::read(&first.kept).unwrap());

    station(&factory).issue(&request(&factory, "b", "2"), NOW).unwrap();
    let second = station(&factory).export(false, &out("2.json"), &ann(), NOW).unwrap();
    assert_eq!((second.number, ids(&second)), (2, vec!["b".to_owned()]));
    let third = station(&factory).export(true, &out("3.json"), &ann(), NOW).unwrap();
    assert_eq!((third.number, ids(&third)), (3, vec!["a".to_owned(), "b".to_owned()]));
    let fourth = station(&factory).export(false, &out("4.json"), &ann(), NOW).unwrap();
    assert_eq!((fourth.number, ids(&fourth)), (4, vec![]));
    // A file in the way is not overwritten, and no number is lost on it.
    let refusal = station(&factory).export(false, &out("4.json"), &ann(), NOW).unwrap_err();
    assert!(matches!(refusal, StationError::File(FileError::Exists { .. })));
    assert_eq!(station(&factory).export(false, &out("5.json"), &ann(), NOW).unwrap().number, 5);
}

#[test]
fn a_manifest_that_cannot_be_written_takes_no_number_and_no_devices_with_it() {
    let factory = factory();
    let path = factory.path();
    let mut station = station(&factory);
    station.issue(&request(&factory, "a", "1"), NOW).unwrap();
    let refusal = station.export(false, &path.join("not/there"), &ann(), NOW).unwrap_err();
    assert!(matches!(refusal, StationError::File(_)), "{refusal}");
    let exported = station.export(false, &path.join("there"), &ann(), NOW).unwrap();
    assert_eq!((exported.number, exported.minions), (1, 1));
}

#[test]
fn a_station_of_another_fleet_is_not_opened() {
    let (ours, theirs) = (factory(), factory());
    let root = ours.path().join("station/root.crt");
    fs::copy(theirs.path().join("station/root.crt"), root).unwrap();
    assert_snapshot!(
        Station::open(&ours.path().join("station"), &NOWHERE, NOW).unwrap_err(),
        @"the station's `ca.crt` does not verify against its `root.crt`"
    );
}

#[test]
fn fleets_and_stations_are_never_overwritten() {
    let factory = factory();
    let path = factory.path();
    let (name, master) = ("acme".parse().unwrap(), "north".parse().unwrap());
    let keys = FleetKeys::unencrypted();
    let refusal = FleetDirectory::create(&path.join("fleet"), &name, &master, &keys, NOW);
    let refusal = refusal.unwrap_err();
    assert!(matches!(refusal, FleetError::Exists { .. }));
    let fleet = FleetDirectory::new(&path.join("fleet"));
    let line = "line-1".parse().unwrap();
    let key = NewKey::unencrypted();
    let by = "ann".parse().unwrap();
    let founding = Founding { by: &by, manifests: &[] };
    let create =
        |path: &Path| new_station::create(&fleet, &NOWHERE, &line, &key, &founding, path, NOW);
    let refusal = create(&path.join("station")).unwrap_err();
    assert!(matches!(refusal, NewStationError::Exists { .. }));
    let refusal = create(&path.join("fleet")).unwrap_err();
    assert!(matches!(refusal, NewStationError::NotEmpty { .. }));
    let ann = "ann".parse().unwrap();
    fleet.create_operator(&ann, &NOWHERE, &path.join("ann"), NOW).unwrap();
    let refusal = fleet.create_operator(&ann, &NOWHERE, &path.join("ann"), NOW).unwrap_err();
    assert!(matches!(refusal, FleetError::Exists { .. }));
    // Nothing is left of what was written aside.
    let hidden = fs::read_dir(path).unwrap().chain(fs::read_dir(path.join("fleet")).unwrap());
    let hidden = hidden
        .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with('.'));
    assert_eq!(hidden.count(), 0);
}
