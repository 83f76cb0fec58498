//! Revocation lists, with openssl as who reads them: at once, over a restart, renewed in time, without a key, and a
//! station's.

use std::{fs, path::Path, time::Duration};

use drover_tests::{
    fleet::{Fleet, Outcome, PATIENCE, run},
    process::program,
    wait,
};

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn openssl(arguments: &[&str]) -> Outcome {
    run(Path::new("openssl"), arguments)
}

/// What openssl reads in `crl.pem`, once it has verified it: the number, and all of it as text.
fn list(fleet: &Fleet) -> (u64, String) {
    let (list, issuer) = (fleet.path("master/pki/crl.pem"), fleet.path("master/pki/fleet-ca.crt"));
    let arguments = ["crl", "-in", text(&list), "-CAfile", text(&issuer), "-noout", "-text"];
    let outcome = openssl(&arguments).ok();
    assert!(outcome.stderr.contains("verify OK"), "{outcome:?}");
    let number = outcome.stdout.split("X509v3 CRL Number:").nth(1).unwrap();
    let number = number.split_whitespace().next().unwrap();
    let number = match number.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).unwrap(),
        None => number.parse().unwrap(),
    };
    (number, outcome.stdout)
}

/// The serial number of the operational certificate that a minion has.
fn serial(fleet: &Fleet, id: &str) -> String {
    let certificate = fleet.minion_dir(id).join("pki/ldevid.crt");
    let outcome = openssl(&["x509", "-noout", "-serial", "-in", text(&certificate)]).ok();
    outcome.stdout.trim().trim_start_matches("serial=").to_owned()
}

#[test]
fn a_revoked_operational_certificate_is_in_the_list_at_once_and_over_a_restart() {
    let mut fleet = Fleet::connected(&["rfid-1", "rfid-2"]);
    let (revoked, kept) = (serial(&fleet, "rfid-1"), serial(&fleet, "rfid-2"));
    let (first, before) = list(&fleet);
    assert!(before.contains("No Revoked Certificates"), "{before}");
    let _ = fleet.drover(&["key", "revoke", "rfid-1", "-y", "--reason", "superseded"]).ok();
    let (second, after) = list(&fleet);
    assert!(second > first && after.contains(&revoked) && !after.contains(&kept), "{after}");
    assert!(after.contains("Superseded"), "{after}");

    // Neither a power cut nor a lost file takes anything back, and no number comes twice.
    fleet.kill_master();
    fs::remove_file(fleet.path("master/pki/crl.pem")).unwrap();
    fleet.start_master();
    let (third, after) = list(&fleet);
    assert!(third > second && after.contains(&revoked), "{after}");
    let shown = fleet.json(&["key", "crl"]);
    assert_eq!(shown[0]["number"], third);
    assert_eq!(shown[0]["revoked"][0]["serial"], revoked.to_lowercase());
    let file = fleet.path("written.pem");
    let _ = fleet.drover(&["key", "crl", "--file", text(&file)]).ok();
    assert_eq!(fs::read(file).unwrap(), fs::read(fleet.path("master/pki/crl.pem")).unwrap());
}

#[test]
fn the_list_is_renewed_before_it_ends() {
    let mut fleet = Fleet::new();
    fleet.configure_master("crl_validity: 4s\n");
    fleet.start_master();
    let (first, _) = list(&fleet);
    wait::until("it is renewed twice", PATIENCE, || list(&fleet).0 >= first + 2);
    let list = &fleet.json(&["key", "crl"])[0];
    let time = |field: &str| list[field].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    assert_eq!(time("next_update").duration_since(time("this_update")).as_secs(), 4);
    assert!(time("next_update") > jiff::Timestamp::now());
}

#[test]
fn a_master_without_its_authoritys_key_says_so_and_revokes_all_the_same() {
    let mut fleet = Fleet::new();
    fs::remove_file(fleet.path("master/pki/fleet-ca.key")).unwrap();
    fleet.enrol("rfid-1", &[]);
    fleet.bring_up(&["rfid-1"]);
    let outcome = fleet.drover(&["key", "crl"]);
    assert_eq!((outcome.status, outcome.stdout.as_str()), (3, ""));
    assert!(outcome.stderr.contains("fleet-ca.key"), "{}", outcome.stderr);
    assert_eq!(fleet.json(&["key", "crl"]), serde_json::json!([]));
    let _ = fleet.drover(&["key", "revoke", "rfid-1", "-y"]).ok();
    wait::until("the connection is cut", Duration::from_secs(5), || {
        fleet.json(&["presence"])["rfid-1"]["presence"] != "connected"
    });
}

#[test]
fn a_stations_list_comes_with_its_manifest() {
    let mut fleet = Fleet::new();
    fleet.enrol("rfid-1", &[]);
    fleet.start_master();
    let none = fleet.drover(&["key", "crl", "--station", "line-1"]);
    assert_eq!(none.status, 3, "{none:?}");
    fleet.register();
    let old = fleet.minion_dir("rfid-1").join("pki/idevid.crt");
    let old = openssl(&["x509", "-noout", "-serial", "-in", text(&old)]).ok().stdout;
    let old = old.trim().trim_start_matches("serial=");

    let (station, out) = (fleet.path("stations/line-1"), fleet.path("again"));
    let issue = ["issue", "--station", text(&station), "--id", "rfid-1", "--serial", "SN-rfid-1"];
    let again = ["--reissue", "--reason", "its board was changed", "--out", text(&out)];
    let _ = run(&program("drover-enrol"), &[&issue[..], &again].concat()).ok();
    let _ = fleet.drover(&["key", "delete", "rfid-1", "-y"]);
    fleet.register();
    let list = fleet.path("station.pem");
    let printed = fleet.drover(&["key", "crl", "--station", "line-1"]).ok().stdout;
    fs::write(&list, printed).unwrap();
    let issuer = station.join("ca.crt");
    let arguments = ["crl", "-in", text(&list), "-CAfile", text(&issuer), "-noout", "-text"];
    let outcome = openssl(&arguments).ok();
    assert!(outcome.stderr.contains("verify OK") && outcome.stdout.contains(old), "{outcome:?}");
}
