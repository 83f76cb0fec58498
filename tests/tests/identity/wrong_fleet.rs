//! Another fleet's device at our master, and another fleet's master before our device. Both fleets have one name, and
//! both stations too: what tells them apart is the root.

use drover_tests::{
    fleet::{Fleet, PATIENCE},
    openssl::{Contact, Shown, authority},
    wait,
};
use serde_json::json;

#[test]
fn another_fleets_device_gets_nowhere_whatever_it_shows_with_its_certificate() {
    let mut ours = Fleet::new();
    ours.configure_master("acceptance: auto\n");
    ours.enrol("rfid-1", &[]);
    ours.start_master();
    let theirs = Fleet::new();
    theirs.enrol("rfid-2", &[]);
    let der = |fleet: &Fleet, name: &str| authority(fleet, name).der().clone();
    let (station, root) = ("stations/line-1/ca", "factory/root/root");
    let device = Shown::of_device(&theirs, "rfid-2", "idevid");
    let chains = [
        ("its own station's", vec![der(&theirs, station)]),
        ("its own root as well", vec![der(&theirs, station), der(&theirs, root)]),
        ("our station's, of the same name", vec![der(&ours, station)]),
        ("both roots", vec![der(&theirs, station), der(&theirs, root), der(&ours, root)]),
        ("nothing", vec![]),
    ];
    for (shown, chain) in chains {
        let device = device.with(&ours, "theirs", &chain);
        let found = device.openssl_finds(&["-purpose", "sslclient"]);
        assert!(found.contains("error"), "{shown}: {found}");
        assert_eq!(device.to_master(&ours), Contact::alert("unknown ca"), "{shown}");
    }
    assert_eq!(ours.json(&["minions"]), json!({}));
    // Of this fleet, it is welcome.
    let device = Shown::of_device(&ours, "rfid-1", "idevid");
    assert_eq!(device.openssl_finds(&["-purpose", "sslclient"]), "");
    assert_eq!(device.to_master(&ours), Contact::Greeted);
}

#[test]
fn a_device_turns_its_back_on_another_fleets_master() {
    let mut theirs = Fleet::new();
    theirs.configure_master("acceptance: auto\n");
    theirs.start_master();
    let mut ours = Fleet::new();
    ours.enrol("rfid-1", &[]);
    let address = theirs.master_address();
    let at = |address: &str| format!("master: {address}\npki_dir: pki\ndata_dir: data\n");
    ours.write("minions/rfid-1/minion.yml", &at(&address));
    let master = theirs.path("master/pki");
    let master = Shown::files(&ours, &master.join("master.crt"), &master.join("master.key"));
    let found = master.openssl_finds(&["-purpose", "sslserver"]);
    assert!(found.contains("unable to get local issuer certificate"), "{found}");
    ours.start_minion("rfid-1");
    wait::until("the master is refused", PATIENCE, || {
        ours.logs().contains("the master's certificate is not accepted here")
    });
    assert_eq!(theirs.json(&["key", "list"])["pending"], json!([]));
    ours.stop_minion("rfid-1");

    ours.write("minions/rfid-1/minion.yml", &at(&ours.master_address()));
    ours.bring_up(&["rfid-1"]);
}
