//! A device is issued again, with another key: the card in the field counts no more, and the new one does.

use std::{fs, path::Path, process::Command};

use drover_tests::{
    fleet::{Fleet, Outcome, PATIENCE, run},
    process::program,
    wait,
};
use serde_json::json;

fn enrol(fleet: &Fleet, verb: &str, more: &[&str]) -> Outcome {
    let station = fleet.path("stations/line-1");
    let arguments = [&[verb, "--station", station.to_str().unwrap()], more].concat();
    run(&program("drover-enrol"), &arguments)
}

fn fingerprint(certificate: &Path) -> String {
    let arguments = ["x509", "-noout", "-fingerprint", "-sha256", "-in"];
    let output = Command::new("openssl").args(arguments).arg(certificate).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_new_card_takes_the_place_of_the_one_that_was_lost() {
    let mut fleet = Fleet::connected(&["rfid-1", "rfid-2"]);
    let lost = fleet.minion_dir("rfid-1");
    let (new, address) = (fleet.path("minions/new"), fleet.master_address());
    let device = ["--id", "rfid-1", "--serial", "SN-rfid-1", "--master", &address, "--out"];
    let device = [&device[..], &[new.to_str().unwrap()]].concat();
    let refused = enrol(&fleet, "issue", &device);
    assert!(refused.stderr.contains("was issued at"), "{}", refused.stderr);
    let reissue = [&device[..], &["--reissue", "--reason", "card lost"]].concat();
    let _ = enrol(&fleet, "issue", &reissue).ok();
    let first = fingerprint(&lost.join("pki/idevid.crt"));
    assert_ne!(first, fingerprint(&new.join("pki/idevid.crt")));

    let manifest = fleet.path("again");
    let _ = enrol(&fleet, "manifest", &["--out", manifest.to_str().unwrap()]).ok();
    let import = ["--out", "json", "key", "import", manifest.to_str().unwrap()];
    let told = fleet.drover(&import).ok().json();
    assert_eq!((&told["reissued"], &told["refused"]), (&json!(["rfid-1"]), &json!([])));
    // Again it says the same of what is there, and changes nothing.
    let told = fleet.drover(&import).ok().json();
    assert_eq!((&told["reissued"], &told["known"]), (&json!([]), &json!(["rfid-1"])));

    // Whoever has the old card is cut, and does not come back, by neither of its certificates.
    wait::until("the old card is cut", PATIENCE, || {
        fleet.json(&["presence"])["rfid-1"]["presence"] != "connected"
    });
    fleet.stop_minion("rfid-1");
    fs::rename(&lost, fleet.path("minions/lost")).unwrap();
    fs::rename(&new, &lost).unwrap();
    fleet.start_minion("rfid-1");
    fleet.wait_connected(&["rfid-1"]);
    fleet.stop_minion("rfid-1");
    fs::rename(&lost, &new).unwrap();
    fs::rename(fleet.path("minions/lost"), &lost).unwrap();
    let log = fleet.path("minion-rfid-1.log");
    let from = fs::read_to_string(&log).unwrap().len();
    fleet.start_minion("rfid-1");
    // The master says so once an hour, the device at each start.
    wait::until("the old card is turned away", PATIENCE, || {
        fs::read_to_string(&log).unwrap()[from..].contains("WARN")
            && fleet.logs().contains("factory key is not the one")
    });
    assert_ne!(fleet.json(&["presence"])["rfid-1"]["presence"], "connected");
    let answers = fleet.drover(&["rfid-2", "test.ping"]);
    assert_eq!(answers.status, 0, "{}", answers.stderr);
}

#[test]
fn what_the_station_revokes_is_revoked_by_its_next_manifest() {
    let fleet = Fleet::connected(&["rfid-1", "rfid-2"]);
    let _ = enrol(&fleet, "revoke", &["--id", "rfid-1", "--reason", "key compromise"]).ok();
    fleet.register();
    wait::until("it is cut", PATIENCE, || {
        fleet.json(&["presence"])["rfid-1"]["presence"] != "connected"
    });
    assert_eq!(fleet.json(&["key", "show", "rfid-1"])["status"], "revoked");
    assert_eq!(fleet.json(&["key", "list"])["accepted"], json!(["rfid-2"]));

    // Anybody can read it: openssl refuses the certificate by the station's list.
    let crl = fleet.path("line-1.crl");
    let _ = enrol(&fleet, "crl", &["--out", crl.to_str().unwrap()]).ok();
    let verify = |id: &str| {
        let pki = fleet.minion_dir(id).join("pki");
        let output = Command::new("openssl")
            .args(["verify", "-crl_check", "-CAfile", "root.crt", "-untrusted", "idevid.crt"])
            .arg("-CRLfile")
            .args([crl.to_str().unwrap(), "idevid.crt"])
            .current_dir(pki)
            .output()
            .unwrap();
        (output.status.success(), String::from_utf8(output.stderr).unwrap())
    };
    let (is_good, said) = verify("rfid-1");
    assert!(!is_good && said.contains("certificate revoked"), "{said}");
    assert!(verify("rfid-2").0, "{}", verify("rfid-2").1);
}

#[test]
fn one_deleted_device_comes_back_and_the_others_stay_deleted() {
    let fleet = Fleet::connected(&["rfid-1", "rfid-2"]);
    let certificate = fleet.minion_dir("rfid-1").join("pki/idevid.crt");
    for id in ["rfid-1", "rfid-2"] {
        let _ = fleet.drover(&["key", "delete", id]).ok();
    }
    let manifest = fleet.path("all");
    let manifest = manifest.to_str().unwrap();
    let _ = enrol(&fleet, "manifest", &["--all", "--out", manifest]).ok();
    let import = |more: &[&str]| fleet.drover(&[&["key", "import", manifest][..], more].concat());
    let preview = import(&["--dry-run", "--out", "table"]).ok();
    assert!(preview.stdout.contains("registered: rfid-1, rfid-2\n"), "{}", preview.stdout);
    assert_eq!(import(&["--only", "rfid-3"]).status, 3);
    assert_eq!(import(&["--only", "rfid/1"]).status, 2);
    let _ = import(&["--only", "rfid-1"]).ok();
    assert_eq!(fleet.json(&["key", "list"])["accepted"], json!(["rfid-1"]));
    fleet.wait_connected(&["rfid-1"]);
    // Its certificate is compared with the device's label.
    let shown = fleet.json(&["key", "show", "rfid-1"])["certificate"].to_string();
    let label = fingerprint(&certificate).to_lowercase().replace(':', "");
    assert!(label.contains(shown.trim_matches('"')), "{label} is not {shown}");
    // The rest of the same manifest may follow.
    let _ = import(&[]).ok();
    fleet.wait_connected(&["rfid-1", "rfid-2"]);
}
