//! A station's authority, in a thief's hands, that makes a master or an operator. In X.509 alone an operator by a station
//! is as good as one by the fleet CA: openssl takes it.

use std::fs;

use drover_pki::{Profile, certificate::Purposes};
use drover_tests::{
    fleet::{Fleet, run},
    openssl::{Contact, Shown, authority},
    parts::free_port,
    process::program,
};
use jiff::Timestamp;

#[test]
fn no_minion_takes_a_master_that_a_station_made() {
    let mut fleet = Fleet::new();
    fleet.enrol("rfid-1", &[]);
    let station = authority(&fleet, "stations/line-1/ca");
    let fleet_ca = authority(&fleet, "master/pki/fleet-ca");
    let master = Profile::master(&"test".parse().unwrap());
    let as_client = Profile { purposes: Some(Purposes::CLIENT), ..master.clone() };
    let beyond = Profile::fleet_ca(&"test".parse().unwrap());
    let beyond = station.create_authority(&beyond, Timestamp::now()).unwrap();
    let behind = [beyond.der().clone(), station.der().clone()];
    let device = Profile::idevid(&"test".parse().unwrap(), &"SN1".parse().unwrap());
    let device = Profile { purposes: Some(Purposes::SERVER), ..device };
    let issued = |name: &str, profile| Shown::issued(&fleet, name, &station, profile);
    for (name, shown, openssl) in [
        ("a master", issued("master", &master), "unsuitable certificate purpose"),
        ("a master for clients", issued("client", &as_client), "unsuitable certificate purpose"),
        ("a device for servers", issued("device", &device), "unsuitable certificate purpose"),
        (
            "a master by an authority of its own",
            Shown::issued(&fleet, "beyond", &beyond, &master).with(&fleet, "beyond", &behind),
            "path length constraint exceeded",
        ),
        (
            "a master, shown with the fleet CA",
            issued("with", &master).with(
                &fleet,
                "with",
                &[fleet_ca.der().clone(), station.der().clone()],
            ),
            "unsuitable certificate purpose",
        ),
        ("a device of the fleet CA", Shown::issued(&fleet, "of-fleet-ca", &fleet_ca, &device), ""),
        ("a master of the fleet CA", Shown::issued(&fleet, "right", &fleet_ca, &master), ""),
    ] {
        let found = shown.openssl_finds(&["-purpose", "sslserver"]);
        assert!(found.contains(openssl) && found.is_empty() == openssl.is_empty(), "{found}");
        let mut server = shown.in_the_masters_place(&fleet);
        fleet.start_minion("rfid-1");
        let contact = server.contact();
        if name == "a master of the fleet CA" {
            assert_eq!(contact, Contact::Greeted);
        } else {
            assert!(matches!(contact, Contact::Alert(_)), "{name}: {contact:?}");
        }
        fleet.kill_minion("rfid-1");
    }
    // Whoever looks why the device has no connection is told that an authority's key is in the wrong hands.
    let log = fs::read_to_string(fleet.path("minion-rfid-1.log")).unwrap();
    for why in ["has clientAuth and cannot issue for serverAuth", "expected is a master"] {
        assert!(log.contains(why), "{log}");
    }
}

#[test]
fn nobody_takes_an_operator_that_a_station_made() {
    let mut fleet = Fleet::new();
    fleet.configure_master(&format!("acceptance: auto\nest_listen: 127.0.0.1:{}\n", free_port()));
    fleet.start_master();
    let station = authority(&fleet, "stations/line-1/ca");
    let fleet_ca = authority(&fleet, "master/pki/fleet-ca");
    let operator = Profile::operator(&"ann".parse().unwrap());
    let stolen = Shown::issued(&fleet, "stolen", &station, &operator);
    let right = Shown::issued(&fleet, "right", &fleet_ca, &operator);
    let verify = |shown: &Shown| {
        let [root, chain] = [shown.root(), shown.chain()].map(|path| path.to_str().unwrap());
        run(&program("drover-enrol"), &["verify", "--root", root, chain])
    };
    for shown in [&stolen, &right] {
        assert_eq!(shown.openssl_finds(&["-purpose", "sslclient"]), "");
        // No operator is a device.
        assert_eq!(shown.to_master(&fleet), Contact::alert("certificate unknown"));
    }
    let refused = verify(&stolen);
    assert_eq!(refused.status, 1, "{refused:?}");
    let why = "`urn:drover:ca:factory:line-1` may not issue `urn:drover:operator:ann`";
    assert!((refused.stdout.clone() + &refused.stderr).contains(why), "{refused:?}");
    let _ = verify(&right).ok();
}
