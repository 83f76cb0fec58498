//! Certificates for another purpose than their holder's, for none or for more than one. openssl takes an absent or a
//! wider extendedKeyUsage; Drover wants exactly what the kind of peer has.

use std::time::Duration;

use drover_pki::{Profile, certificate::Purposes};
use drover_tests::{
    fleet::Fleet,
    openssl::{Contact, Shown, authority},
};

const CODE: Purposes = Purposes { client: false, server: false, other: true };
const CLIENT_AND_CODE: Purposes = Purposes { client: true, server: false, other: true };

#[test]
fn a_device_with_another_purpose_none_or_two_is_refused() {
    let mut fleet = Fleet::new();
    fleet.configure_master("acceptance: auto\n");
    fleet.start_master();
    let (id, serial) = ("rfid-1".parse().unwrap(), "SN1".parse().unwrap());
    let issuers = [
        ("birth", authority(&fleet, "stations/line-1/ca"), Profile::idevid(&id, &serial)),
        (
            "operational",
            authority(&fleet, "master/pki/fleet-ca"),
            Profile::ldevid(&id, None, Duration::from_secs(60)),
        ),
    ];
    for (kind, issuer, profile) in &issuers {
        for (name, purposes, openssl_refuses) in [
            ("server", Some(Purposes::SERVER), true),
            ("code", Some(CODE), true),
            ("none", None, false),
            ("both", Some(Purposes::BOTH), false),
            ("client-and-code", Some(CLIENT_AND_CODE), false),
        ] {
            let name = format!("{kind}-{name}");
            let shown =
                Shown::issued(&fleet, &name, issuer, &Profile { purposes, ..profile.clone() });
            let found = shown.openssl_finds(&["-purpose", "sslclient"]);
            let is_refused = found.contains("unsuitable certificate purpose");
            assert_eq!(is_refused, openssl_refuses, "{name}: {found}");
            let contact = shown.to_master(&fleet);
            assert_eq!(contact, Contact::alert("unsupported certificate"), "{name}");
        }
    }
    let (_, station, device) = &issuers[0];
    let shown = Shown::issued(&fleet, "right", station, device);
    assert_eq!(shown.openssl_finds(&["-purpose", "sslclient"]), "");
    assert_eq!(shown.to_master(&fleet), Contact::Greeted);
}

#[test]
fn a_master_with_another_purpose_none_or_two_is_refused() {
    let mut fleet = Fleet::new();
    fleet.enrol("rfid-1", &[]);
    let fleet_ca = authority(&fleet, "master/pki/fleet-ca");
    let master = Profile::master(&"test".parse().unwrap());
    let refused = Contact::alert("unsupported certificate");
    for (name, purposes, openssl_refuses, contact) in [
        ("client", Some(Purposes::CLIENT), true, &refused),
        ("none", None, false, &refused),
        ("both", Some(Purposes::BOTH), false, &refused),
        ("right", Some(Purposes::SERVER), false, &Contact::Greeted),
    ] {
        let shown = Shown::issued(&fleet, name, &fleet_ca, &Profile { purposes, ..master.clone() });
        let found = shown.openssl_finds(&["-purpose", "sslserver"]);
        let is_refused = found.contains("unsuitable certificate purpose");
        assert_eq!(is_refused, openssl_refuses, "{name}: {found}");
        let mut server = shown.in_the_masters_place(&fleet);
        fleet.start_minion("rfid-1");
        assert_eq!(server.contact(), *contact, "{name}\n{}", fleet.logs());
        fleet.kill_minion("rfid-1");
    }
}
