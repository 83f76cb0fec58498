//! Certificates and authorities whose time is over, before a real master and before a real minion.

use std::time::Duration;

use drover_pki::{Profile, profile::Validity};
use drover_tests::{
    fleet::Fleet,
    openssl::{Contact, Shown, authority},
};
use jiff::{SignedDuration, Timestamp};

const DAY: Duration = Duration::from_secs(86_400);

fn days_ago(days: i64) -> Timestamp {
    Timestamp::now() - SignedDuration::from_hours(24 * days)
}

fn over(profile: Profile) -> Profile {
    Profile { validity: Validity::Between(days_ago(3), days_ago(1)), ..profile }
}

fn device() -> Profile {
    Profile::idevid(&"rfid-1".parse().unwrap(), &"SN1".parse().unwrap())
}

#[test]
fn a_device_whose_certificate_or_authority_expired_is_refused() {
    let mut fleet = Fleet::new();
    fleet.configure_master("acceptance: auto\n");
    fleet.start_master();
    let root = authority(&fleet, "factory/root/root");
    let station = authority(&fleet, "stations/line-1/ca");
    let fleet_ca = authority(&fleet, "master/pki/fleet-ca");
    let ended = over(Profile::fleet_ca(&"test".parse().unwrap()));
    let ended = root.create_authority(&ended, days_ago(3)).unwrap();
    let operational = Profile::ldevid(&"rfid-1".parse().unwrap(), None, DAY);
    let then = days_ago(2).as_second().to_string();
    for (name, issuer, profile) in [
        ("birth", &station, over(device())),
        ("operational", &fleet_ca, over(operational.clone())),
        ("of-an-ended-authority", &ended, operational.clone()),
    ] {
        let shown = Shown::issued(&fleet, name, issuer, &profile);
        let found = shown.openssl_finds(&["-purpose", "sslclient"]);
        assert!(found.contains("certificate has expired"), "{name}: {found}");
        assert_eq!(shown.to_master(&fleet), Contact::alert("certificate expired"), "{name}");
        if name == "birth" {
            // Nothing else is wrong with it, but that its authority is younger.
            let found = shown.openssl_finds(&["-attime", &then, "-purpose", "sslclient"]);
            assert!(found.contains("not yet valid") && !found.contains("expired"), "{found}");
        }
    }
    for (name, issuer, profile) in
        [("birth", &station, device()), ("operational", &fleet_ca, operational)]
    {
        let shown = Shown::issued(&fleet, name, issuer, &profile);
        assert_eq!(shown.openssl_finds(&["-purpose", "sslclient"]), "");
        assert_ne!(shown.to_master(&fleet), Contact::alert("certificate expired"), "{name}");
    }
}

#[test]
fn a_master_whose_certificate_expired_is_refused() {
    let mut fleet = Fleet::new();
    fleet.enrol("rfid-1", &[]);
    let fleet_ca = authority(&fleet, "master/pki/fleet-ca");
    let master = Profile::master(&"test".parse().unwrap());
    let expired = Shown::issued(&fleet, "expired", &fleet_ca, &over(master.clone()));
    let found = expired.openssl_finds(&["-purpose", "sslserver"]);
    assert!(found.contains("certificate has expired"), "{found}");
    let mut impostor = expired.in_the_masters_place(&fleet);
    fleet.start_minion("rfid-1");
    assert_eq!(impostor.contact(), Contact::alert("certificate expired"));
    fleet.stop_minion("rfid-1");

    let valid = Shown::issued(&fleet, "valid", &fleet_ca, &master);
    assert_eq!(valid.openssl_finds(&["-purpose", "sslserver"]), "");
    let mut master = valid.in_the_masters_place(&fleet);
    fleet.start_minion("rfid-1");
    assert_eq!(master.contact(), Contact::Greeted);
}
