//! Authorities that end are told of ahead, once.

use std::{fs, time::Duration};

use drover_pki::{
    Authority, PrivateKey, Profile,
    file::{read_certificates, read_key},
    pem_text::encode_certificates,
    profile::Validity,
};
use drover_tests::fleet::Fleet;
use jiff::Timestamp;

/// Gives the master a fleet CA that was made years ago and ends in so many days.
fn fleet_ca_that_ends(fleet: &Fleet, days: u64) {
    let root = |kind: &str| fleet.path(&format!("factory/root/root.{kind}"));
    let certificate = read_certificates(&root("crt")).unwrap().swap_remove(0);
    let root = Authority::new(certificate, read_key(&root("key")).unwrap()).unwrap();
    let day = Duration::from_secs(86_400);
    let now = Timestamp::now();
    let profile = Profile {
        validity: Validity::Between(now - day * 3_000, now + day * u32::try_from(days).unwrap()),
        ..Profile::fleet_ca(&"test".parse().unwrap())
    };
    let key = PrivateKey::generate().unwrap();
    let text = encode_certificates(&[root.issue(&profile, &key, now).unwrap()]);
    fs::write(fleet.path("master/pki/fleet-ca.crt"), text).unwrap();
    fs::write(fleet.path("master/pki/fleet-ca.key"), key.to_pem().as_bytes()).unwrap();
}

#[test]
fn a_fleet_ca_that_ends_soon_is_told_of_once_and_what_has_no_end_never() {
    let mut fleet = Fleet::new();
    fleet_ca_that_ends(&fleet, 20);
    fleet.enrol("rfid-1", &[]);
    fleet.start_master();
    fleet.register();
    let told = fleet.wait_events("drover/authority/*/expires", 1);
    let data = &told[0]["data"];
    assert_eq!(told[0]["tag"], "drover/authority/fleet-ca/expires");
    assert_eq!(
        (data["days"].as_i64(), data["expired"].as_bool()),
        (Some(19), Some(false)),
        "{data}"
    );
    assert!(data["hint"].as_str().unwrap().contains("drover key authorities"), "{data}");
    assert!(fleet.logs().contains("an authority expires"), "{}", fleet.logs());

    fleet.kill_master();
    fleet.start_master();
    // Whatever it tells, it tells as it starts.
    let _ = fleet.wait_events("drover/authority/*/expires", 1);
    fleet.enrol("rfid-2", &[]);
    fleet.register();
    assert_eq!(fleet.events("drover/authority/*/expires").len(), 1);

    // Nearer to the end, once more.
    fleet.stop_master();
    fleet_ca_that_ends(&fleet, 5);
    fleet.start_master();
    let told = fleet.wait_events("drover/authority/*/expires", 2);
    assert_eq!(told[1]["data"]["days"], 4);
}
