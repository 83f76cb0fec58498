//! Certificates with another device's name: by the same station for another key, beside the holder's own name, or where
//! the name does not count. openssl knows nothing of who may have which name.

use drover_pki::{Profile, file, profile::Subject};
use drover_tests::{
    fleet::Fleet,
    openssl::{Contact, Shown, authority},
};
use jiff::Timestamp;
use serde_json::{Value, json};

fn device(id: &str) -> Profile {
    Profile::idevid(&id.parse().unwrap(), &"SN1".parse().unwrap())
}

#[test]
fn another_devices_name_is_of_no_use_without_its_key() {
    let fleet = Fleet::connected(&["rfid-1", "rfid-2"]);
    let station = authority(&fleet, "stations/line-1/ca");
    let known = fleet.json(&["key", "show", "rfid-1"]);
    let is_as_before = |now: Value| {
        ["status", "key", "station", "serial"].iter().all(|field| now[field] == known[field])
    };
    let with = |uris: &[&str]| Profile {
        uris: uris.iter().map(|&uri| uri.to_owned()).collect(),
        ..device("rfid-2")
    };
    let (own, anothers) = ("urn:drover:minion:rfid-2", "urn:drover:minion:rfid-1");
    for (name, profile, contact) in [
        // Authentic, for a station may say so; the registry knows the device by another key.
        ("its-name", device("rfid-1"), Contact::Closed),
        ("two-names", with(&[own, anothers]), Contact::alert("certificate unknown")),
        ("two-others", with(&[anothers, own]), Contact::alert("certificate unknown")),
        (
            "a-second-spelling",
            with(&[own, "URN:Drover:minion:rfid-1"]),
            Contact::alert("certificate unknown"),
        ),
        (
            "a-path",
            with(&["urn:drover:minion:rfid-1/rfid-2"]),
            Contact::alert("certificate unknown"),
        ),
        ("no-name", with(&[]), Contact::alert("certificate unknown")),
    ] {
        let shown = Shown::issued(&fleet, name, &station, &profile);
        assert_eq!(shown.openssl_finds(&["-purpose", "sslclient"]), "", "{name}");
        assert_eq!(shown.to_master(&fleet), contact, "{name}\n{}", fleet.logs());
    }
    assert!(fleet.logs().contains("factory key is not the one"), "{}", fleet.logs());
    assert!(is_as_before(fleet.json(&["key", "show", "rfid-1"])));
    assert_eq!(fleet.json(&["*", "test.ping"]), json!({ "rfid-1": true, "rfid-2": true }));
}

#[test]
fn another_devices_name_in_the_subject_says_nothing() {
    let fleet = Fleet::connected(&["rfid-1", "rfid-2"]);
    let station = authority(&fleet, "stations/line-1/ca");
    let key = file::read_key(&fleet.minion_dir("rfid-2").join("pki/idevid.key")).unwrap();
    let subject = Subject { common_name: Some("rfid-1".to_owned()), ..Subject::default() };
    let posing = Profile { subject, ..device("rfid-2") };
    let posing = station.issue(&posing, key.public(), Timestamp::now()).unwrap();
    let chain = [posing, station.der().clone()];
    let shown = Shown::written(&fleet, "subject", &chain, &key.to_pem());
    assert_eq!(shown.openssl_finds(&["-purpose", "sslclient"]), "");
    // It is taken for `rfid-2`, whose key it has: as `rfid-1` it would be refused.
    assert_eq!(shown.to_master(&fleet), Contact::Greeted);
    let _ = fleet.drover(&["key", "reject", "rfid-2", "-y"]).ok();
    assert_eq!(shown.to_master(&fleet), Contact::Closed);
    assert_eq!(fleet.json(&["presence"])["rfid-1"]["presence"], "connected");
}
