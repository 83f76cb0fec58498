//! Operational certificates: got at first contact, renewed without a pause, lost and got again; and the master's own.

use std::{collections::BTreeSet, fs, path::Path, process::Command, time::Duration};

use drover_pki::{
    Authority, PrivateKey, Profile, file, pem_text::encode_certificates, profile::Validity,
};
use drover_tests::{
    fleet::{Fleet, PATIENCE, run},
    openssl::Shown,
    wait,
};
use jiff::{SignedDuration, Timestamp};

/// A fleet whose certificates live for seconds, and one minion of it that is connected.
fn fleet(settings: &str) -> Fleet {
    let mut fleet = Fleet::new();
    fleet.configure_master(settings);
    fleet.enrol("rfid-1", &[]);
    fleet.configure_minion("rfid-1", "heartbeat: 1s\n");
    fleet.bring_up(&["rfid-1"]);
    fleet
}

fn fleet_ca(fleet: &Fleet) -> Authority {
    let pki = fleet.path("master/pki");
    let chain = file::read_certificates(&pki.join("fleet-ca.crt")).unwrap();
    let key = file::read_key(&pki.join("fleet-ca.key")).unwrap();
    Authority::new(chain.into_iter().next().unwrap(), key).unwrap()
}

fn last_expiry(fleet: &Fleet, tag: &str) -> Timestamp {
    let renewed = fleet.events(tag).pop().expect("a certificate was issued");
    renewed["data"]["expires"].as_str().unwrap().parse().unwrap()
}

/// A certificate is good for the whole second in which it ends.
fn wait_past(expires: Timestamp) {
    let end = expires + SignedDuration::from_millis(1_100);
    wait::until("the certificate has expired", PATIENCE, || Timestamp::now() > end);
}

fn openssl_verifies(fleet: &Fleet, leaf: &Path, purpose: &str) {
    let pki = fleet.path("master/pki");
    let (root, ca) = (pki.join("root.crt"), pki.join("fleet-ca.crt"));
    let verified = Command::new("openssl")
        .args(["verify", "-purpose", purpose, "-CAfile"])
        .args([&root, Path::new("-untrusted"), &ca, leaf])
        .output()
        .unwrap();
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));
}

#[test]
fn a_device_gets_its_operational_certificate_at_first_contact() {
    let fleet = fleet("");
    let renewed = fleet.wait_events("drover/key/rfid-1/renewed", 1);
    assert_eq!(renewed[0]["data"]["by"], "birth");
    let leaf = fleet.minion_dir("rfid-1").join("pki/ldevid.crt");
    openssl_verifies(&fleet, &leaf, "sslclient");
    let text = run(
        Path::new("openssl"),
        &[
            "x509",
            "-noout",
            "-subject",
            "-nameopt",
            "RFC2253",
            "-enddate",
            "-fingerprint",
            "-sha256",
            "-in",
            leaf.to_str().unwrap(),
        ],
    );
    let shown = text.ok().stdout;
    let fingerprint = renewed[0]["data"]["fingerprint"].as_str().unwrap().to_uppercase();
    assert!(shown.contains(&fingerprint), "{shown}{fingerprint}");
    assert!(shown.contains("CN=rfid-1") && shown.contains("serialNumber=SN-rfid-1"), "{shown}");
    wait::until("the registry has it in use", PATIENCE, || {
        let known = &fleet.json(&["key", "show", "rfid-1"])["operational"];
        known["used"] == true && known["serial"] == renewed[0]["data"]["serial"]
    });
    // In the session in which it asked it was not connected.
    let kinds = |tag| fleet.events(tag).len();
    assert_eq!((kinds("drover/minion/rfid-1/start"), kinds("drover/minion/rfid-1/stop")), (1, 0));
    let _ = fleet.drover(&["rfid-1", "test.ping"]).ok();
}

#[test]
fn a_running_job_does_not_notice_that_the_certificate_is_renewed() {
    let fleet = fleet("ldevid_validity: 3s\n");
    let (begun, go) = (fleet.path("begun"), fleet.path("go"));
    let command = format!(
        "echo ran >> {}; while [ ! -e {} ]; do sleep 0.1; done; echo finished",
        begun.display(),
        go.display()
    );
    let started = fleet.json(&["--async", "rfid-1", "cmd.run", &command]);
    let jid = started["jid"].as_str().unwrap().to_owned();
    wait::until("the command runs", PATIENCE, || begun.exists());
    let before = fleet.events("drover/key/rfid-1/renewed").len();
    let renewed = fleet.wait_events("drover/key/rfid-1/renewed", before + 3);
    fs::write(&go, "").unwrap();
    wait::until("the return is in the store", PATIENCE, || {
        fleet.json(&["jobs", "show", &jid])["minions"]["rfid-1"]["return"] == "finished"
    });
    assert_eq!(fs::read_to_string(&begun).unwrap(), "ran\n");
    assert_eq!(fleet.events(&format!("drover/job/{jid}/ret/rfid-1")).len(), 1);
    assert_eq!(fleet.events("drover/presence/rfid-1/*"), Vec::<serde_json::Value>::new());
    let serials: BTreeSet<_> =
        renewed.iter().map(|event| event["data"]["serial"].to_string()).collect();
    assert_eq!(serials.len(), renewed.len());
    assert_eq!(renewed.last().unwrap()["data"]["by"], "operational");
}

#[test]
fn a_certificate_that_expired_400_days_ago_is_got_again() {
    let mut fleet = fleet("");
    fleet.stop_minion("rfid-1");
    let key = PrivateKey::generate().unwrap();
    let day = |ago: i64| Timestamp::now() - SignedDuration::from_hours(24 * ago);
    let profile = Profile {
        validity: Validity::Between(day(430), day(400)),
        ..Profile::ldevid(&"rfid-1".parse().unwrap(), None, Duration::ZERO)
    };
    let ca = fleet_ca(&fleet);
    let leaf = ca.issue(&profile, &key, day(430)).unwrap();
    let pki = fleet.minion_dir("rfid-1").join("pki");
    fs::write(pki.join("ldevid.crt"), encode_certificates(&[leaf, ca.der().clone()])).unwrap();
    fs::write(pki.join("ldevid.key"), key.to_pem().as_bytes()).unwrap();
    let shown = Shown::of_device(&fleet, "rfid-1", "ldevid");
    let found = shown.openssl_finds(&["-purpose", "sslclient"]);
    assert!(found.contains("certificate has expired"), "{found}");
    let before = fleet.events("drover/key/rfid-1/renewed").len();
    fleet.start_minion("rfid-1");
    let renewed = fleet.wait_events("drover/key/rfid-1/renewed", before + 1);
    assert_eq!(renewed.last().unwrap()["data"]["by"], "birth");
    fleet.wait_connected(&["rfid-1"]);
    let _ = fleet.drover(&["rfid-1", "test.ping"]).ok();
}

#[test]
fn a_device_that_was_off_for_longer_than_its_certificate_lives_comes_back() {
    let mut fleet = fleet("ldevid_validity: 3s\n");
    fleet.kill_minion("rfid-1");
    wait_past(last_expiry(&fleet, "drover/key/rfid-1/renewed"));
    fleet.wait_presence(&["rfid-1"], "stale");
    fleet.start_minion("rfid-1");
    fleet.wait_connected(&["rfid-1"]);
    let renewed = fleet.events("drover/key/rfid-1/renewed");
    let births = renewed.iter().filter(|event| event["data"]["by"] == "birth").count();
    assert!(births >= 2, "{renewed:#?}\n{}", fleet.logs());
}

#[test]
fn a_revoked_device_gets_no_certificate_with_any_that_it_has() {
    let mut fleet = fleet("ldevid_validity: 3s\n");
    let _ = fleet.drover(&["key", "revoke", "rfid-1", "-y"]).ok();
    let issued = fleet.events("drover/key/rfid-1/renewed").len();
    let log = fleet.path("minion-rfid-1.log");
    let turned_away = |from: usize| {
        let told = fs::read_to_string(&log).unwrap();
        told[from..].contains("it does not accept this minion yet, or no longer")
    };
    wait::until("the operational certificate is refused", PATIENCE, || turned_away(0));
    fleet.stop_minion("rfid-1");
    fs::remove_file(fleet.minion_dir("rfid-1").join("pki/ldevid.crt")).unwrap();
    let from = fs::read_to_string(&log).unwrap().len();
    fleet.start_minion("rfid-1");
    wait::until("the birth certificate is refused", PATIENCE, || turned_away(from));
    assert_eq!(fleet.events("drover/key/rfid-1/renewed").len(), issued);
}

#[test]
fn a_device_that_waits_to_be_accepted_goes_on_by_itself() {
    let mut fleet = Fleet::new();
    fleet.configure_master("acceptance: manual\n");
    fleet.enrol("rfid-1", &[]);
    fleet.start_master();
    fleet.start_minion("rfid-1");
    let _ = fleet.wait_events("drover/key/rfid-1/pending", 1);
    let _ = fleet.drover(&["key", "accept", "rfid-1"]).ok();
    fleet.wait_connected(&["rfid-1"]);
    assert_eq!(fleet.events("drover/key/rfid-1/renewed").len(), 1);
}

#[test]
fn a_master_without_a_fleet_ca_takes_birth_certificates_for_everything() {
    let mut fleet = Fleet::new();
    fs::remove_file(fleet.path("master/pki/fleet-ca.key")).unwrap();
    fleet.enrol("rfid-1", &[]);
    fleet.bring_up(&["rfid-1"]);
    let _ = fleet.drover(&["rfid-1", "test.ping"]).ok();
    assert!(fleet.logs().contains("no operational certificates are issued"), "{}", fleet.logs());
    assert!(!fleet.minion_dir("rfid-1").join("pki/ldevid.crt").exists());
}

#[test]
fn a_master_that_is_killed_again_and_again_leaves_every_device_an_identity() {
    let mut fleet = Fleet::new();
    fleet.configure_master("ldevid_validity: 3s\nmaster_validity: 3s\n");
    let ids = ["a", "b", "c", "d"];
    for id in ids {
        fleet.enrol(id, &[]);
        fleet.configure_minion(id, "heartbeat: 1s\n");
    }
    fleet.bring_up(&ids);
    for round in 1..=4 {
        // Some are asking at any moment.
        let _ = fleet.wait_events("drover/key/*/renewed", round * 8);
        fleet.kill_master();
        fleet.start_master();
    }
    fleet.wait_connected(&ids);
    let pings = fleet.json(&["*", "test.ping"]);
    assert_eq!(pings.as_object().unwrap().len(), ids.len(), "{pings}");
}

#[test]
fn the_master_renews_its_own_certificate_and_nobody_notices() {
    let mut fleet = fleet("master_validity: 3s\n");
    let certificate = fleet.path("master/pki/master.crt");
    let renewed = fleet.wait_events("drover/master/renewed", 3);
    openssl_verifies(&fleet, &certificate, "sslserver");
    let fingerprints: BTreeSet<_> =
        renewed.iter().map(|event| event["data"]["fingerprint"].to_string()).collect();
    assert_eq!(fingerprints.len(), renewed.len());
    assert_eq!(fleet.events("drover/minion/rfid-1/start").len(), 1, "no connection was dropped");

    // A newcomer is shown the one that is on the disk.
    fleet.stop_minion("rfid-1");
    fleet.start_minion("rfid-1");
    let _ = fleet.wait_events("drover/minion/rfid-1/start", 2);

    // Off for longer than it lives.
    let expires = last_expiry(&fleet, "drover/master/renewed");
    fleet.stop_master();
    wait_past(expires);
    fleet.start_master();
    fleet.wait_connected(&["rfid-1"]);
}
