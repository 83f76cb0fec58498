//! A revoked device: none of its certificates is taken any more, whatever happens to the master, and who checks
//! certificates elsewhere learns it from the list.

use drover_tests::{
    fleet::Fleet,
    openssl::{Contact, Shown},
};
use serde_json::json;

#[test]
fn no_certificate_of_a_revoked_device_is_taken_also_after_a_restart_and_a_power_cut() {
    let mut fleet = Fleet::connected(&["rfid-1", "rfid-2"]);
    let of = |fleet: &Fleet, id| ["idevid", "ldevid"].map(|kind| Shown::of_device(fleet, id, kind));
    let (revoked, kept) = (of(&fleet, "rfid-1"), of(&fleet, "rfid-2"));
    let list = fleet.path("master/pki/crl.pem");
    let check = ["-purpose", "sslclient", "-crl_check", "-CRLfile", list.to_str().unwrap()];
    let contacts =
        |fleet: &Fleet, shown: &[Shown; 2]| shown.each_ref().map(|shown| shown.to_master(fleet));
    let welcome = [Contact::Greeted, Contact::Greeted];
    fleet.stop_minion("rfid-1");
    for shown in [&revoked, &kept] {
        assert_eq!(shown[1].openssl_finds(&check), "");
        assert_eq!(contacts(&fleet, shown), welcome);
    }
    let reason = ["key", "revoke", "rfid-1", "--reason", "key compromise", "-y"];
    let _ = fleet.drover(&reason).ok();
    let is_refused = |fleet: &Fleet, when: &str| {
        assert_eq!(contacts(fleet, &revoked), [Contact::Closed, Contact::Closed], "{when}");
        let found = revoked[1].openssl_finds(&check);
        assert!(found.contains("certificate revoked"), "{when}: {found}");
        // The chain itself is as good as it was.
        assert_eq!(revoked[1].openssl_finds(&["-purpose", "sslclient"]), "", "{when}");
        assert_eq!(kept[1].openssl_finds(&check), "", "{when}");
    };
    is_refused(&fleet, "at once");
    fleet.kill_master();
    fleet.start_master();
    is_refused(&fleet, "after a power cut");
    fleet.stop_master();
    fleet.start_master();
    is_refused(&fleet, "after a restart");
    // Registered again by its station's manifest, it is revoked still.
    fleet.register();
    is_refused(&fleet, "after another manifest");
    assert_eq!(fleet.json(&["key", "list"])["revoked"], json!(["rfid-1"]));
    fleet.wait_connected(&["rfid-2"]);
    assert_eq!(contacts(&fleet, &kept), welcome);
}

#[test]
fn a_power_cut_right_after_the_answer_takes_no_revocation_back() {
    let mut fleet = Fleet::connected(&["rfid-1"]);
    let shown = Shown::of_device(&fleet, "rfid-1", "ldevid");
    fleet.stop_minion("rfid-1");
    assert_eq!(shown.to_master(&fleet), Contact::Greeted);
    let _ = fleet.drover(&["key", "revoke", "rfid-1", "-y"]).ok();
    fleet.kill_master();
    fleet.start_master();
    assert_eq!(shown.to_master(&fleet), Contact::Closed);
}
