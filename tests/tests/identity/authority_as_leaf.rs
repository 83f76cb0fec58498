//! An authority that comes as a peer: a station's, the master's, and a device's certificate that says it is one. openssl
//! takes an authority for a client or a server; Drover does not.

use drover_pki::{Profile, certificate::Purposes, profile::Role};
use drover_tests::{
    fleet::Fleet,
    openssl::{Contact, Shown, authority},
};

#[test]
fn an_authority_is_no_device() {
    let mut fleet = Fleet::new();
    fleet.configure_master("acceptance: auto\n");
    fleet.start_master();
    let station = authority(&fleet, "stations/line-1/ca");
    let fleet_ca = authority(&fleet, "master/pki/fleet-ca");
    let device = Profile::idevid(&"rfid-1".parse().unwrap(), &"SN1".parse().unwrap());
    let posing = Profile { role: Role::Authority, ..device.clone() };
    let own = |name: &str| {
        let file = |kind: &str| fleet.path(&format!("{name}.{kind}"));
        Shown::files(&fleet, &file("crt"), &file("key"))
    };
    for (name, shown) in [
        ("a station", own("stations/line-1/ca")),
        ("the fleet CA", own("master/pki/fleet-ca")),
        ("the root", own("factory/root/root")),
        ("of a station", Shown::issued(&fleet, "of-a-station", &station, &posing)),
        ("of the fleet CA", Shown::issued(&fleet, "of-the-fleet-ca", &fleet_ca, &posing)),
    ] {
        // The path length counts what stands between, and this stands at the end.
        assert_eq!(shown.openssl_finds(&["-purpose", "sslclient"]), "", "{name}");
        let contact = shown.to_master(&fleet);
        assert!(matches!(contact, Contact::Alert(_)), "{name}: {contact:?}");
    }
    let shown = Shown::issued(&fleet, "right", &station, &device);
    assert_eq!(shown.openssl_finds(&["-purpose", "sslclient"]), "");
    assert_eq!(shown.to_master(&fleet), Contact::Greeted);
}

#[test]
fn an_authority_is_no_master() {
    let mut fleet = Fleet::new();
    fleet.enrol("rfid-1", &[]);
    let root = authority(&fleet, "factory/root/root");
    let own = ["crt", "key"].map(|kind| fleet.path(&format!("master/pki/fleet-ca.{kind}")));
    let own = Shown::files(&fleet, &own[0], &own[1]);
    let master = Profile::master(&"test".parse().unwrap());
    let posing = Profile { role: Role::Authority, ..master.clone() };
    let of_the_root = Shown::issued(&fleet, "of-the-root", &root, &posing);
    let leaf_of_the_root = Shown::issued(&fleet, "leaf-of-the-root", &root, &master);
    let fleet_ca = authority(&fleet, "master/pki/fleet-ca");
    let right = Shown::issued(&fleet, "right", &fleet_ca, &master);
    assert_eq!(master.purposes, Some(Purposes::SERVER));
    for (name, shown, is_welcome) in [
        ("the fleet CA", own, false),
        ("an authority of the root", of_the_root, false),
        // No authority stands between.
        ("a leaf of the root", leaf_of_the_root, false),
        ("of the fleet CA", right, true),
    ] {
        assert_eq!(shown.openssl_finds(&["-purpose", "sslserver"]), "", "{name}");
        let mut server = shown.in_the_masters_place(&fleet);
        fleet.start_minion("rfid-1");
        let contact = server.contact();
        assert_eq!(contact == Contact::Greeted, is_welcome, "{name}: {contact:?}");
        assert_eq!(matches!(contact, Contact::Alert(_)), !is_welcome, "{name}: {contact:?}");
        fleet.kill_minion("rfid-1");
    }
}
