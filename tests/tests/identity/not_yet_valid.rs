//! Certificates and authorities whose time has not come. A device's own clock may be behind, so a master's certificate
//! that is early says what time it is (`wrong_clock.rs`); the master's clock is right.

use std::time::Duration;

use drover_pki::{Profile, profile::Validity};
use drover_tests::{
    fleet::Fleet,
    openssl::{Contact, Shown, authority},
};
use jiff::Timestamp;

const DAY: Duration = Duration::from_secs(86_400);

fn early(profile: Profile) -> Profile {
    let now = Timestamp::now();
    Profile { validity: Validity::Between(now + DAY, now + DAY * 30), ..profile }
}

#[test]
fn a_device_whose_certificate_or_authority_is_early_is_refused() {
    let mut fleet = Fleet::new();
    fleet.configure_master("acceptance: auto\n");
    fleet.start_master();
    let root = authority(&fleet, "factory/root/root");
    let station = authority(&fleet, "stations/line-1/ca");
    let fleet_ca = authority(&fleet, "master/pki/fleet-ca");
    let to_come = early(Profile::fleet_ca(&"test".parse().unwrap()));
    let to_come = root.create_authority(&to_come, Timestamp::now()).unwrap();
    let birth = Profile::idevid(&"rfid-1".parse().unwrap(), &"SN1".parse().unwrap());
    let operational = Profile::ldevid(&"rfid-1".parse().unwrap(), None, DAY * 30);
    let then = (Timestamp::now() + DAY * 2).as_second().to_string();
    for (name, issuer, profile) in [
        ("birth", &station, early(birth.clone())),
        ("operational", &fleet_ca, early(operational.clone())),
        ("of-an-early-authority", &to_come, operational),
    ] {
        let shown = Shown::issued(&fleet, name, issuer, &profile);
        let found = shown.openssl_finds(&["-purpose", "sslclient"]);
        assert!(found.contains("is not yet valid"), "{name}: {found}");
        // TLS has one alert for both ends of validity (RFC 8446 §6.2).
        assert_eq!(shown.to_master(&fleet), Contact::alert("certificate expired"), "{name}");
        // Nothing else is wrong with it.
        let later = ["-attime", &then, "-purpose", "sslclient"];
        assert_eq!(shown.openssl_finds(&later), "", "{name}");
    }
    let shown = Shown::issued(&fleet, "in-time", &station, &birth);
    assert_eq!(shown.openssl_finds(&["-purpose", "sslclient"]), "");
    assert_eq!(shown.to_master(&fleet), Contact::Greeted);
}
