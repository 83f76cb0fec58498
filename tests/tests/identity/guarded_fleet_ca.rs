//! The authority whose key is online, guarded by a passphrase or in a token: the master opens it with what it is given,
//! and without it lets minions in all the same.

use std::{fs, path::Path, process::Command};

use drover_tests::{
    fleet::{Fleet, PATIENCE, run},
    process::program,
    wait,
};

const MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";
const KEY: &str = "master/pki/fleet-ca.key";

/// A fleet with one device enrolled; nothing runs yet.
fn fleet() -> Fleet {
    let fleet = Fleet::new();
    fleet.enrol("rfid-1", &[]);
    fleet.write("master/fleet-ca.pass", "battery staple\n");
    fleet
}

fn encrypt(fleet: &Fleet) {
    let (key, passphrase) = (fleet.path(KEY), fleet.path("master/fleet-ca.pass"));
    let arguments = ["passphrase", key.to_str().unwrap(), "--new-passphrase-file"];
    let arguments = [&arguments[..], &[passphrase.to_str().unwrap()]].concat();
    let _ = run(&program("drover-enrol"), &arguments).ok();
    assert!(fs::read_to_string(key).unwrap().starts_with("-----BEGIN ENCRYPTED PRIVATE KEY"));
}

/// Puts the fleet CA's key into a token of SoftHSM, and a URI in its place.
fn put_into_token(fleet: &mut Fleet) {
    let tokens = fleet.path("tokens");
    fs::create_dir(&tokens).unwrap();
    let configuration =
        format!("directories.tokendir = {}\nobjectstore.backend = file\n", tokens.display());
    fleet.write("softhsm2.conf", &configuration);
    let variable = format!("SOFTHSM2_CONF={}", fleet.path("softhsm2.conf").display());
    let key = fleet.path(KEY).display().to_string();
    let make = ["--init-token", "--free", "--label", "online", "--so-pin", "12345678"];
    let import = ["--import", &key, "--token", "online", "--label", "fleet-ca", "--id", "01"];
    for arguments in [&make[..], &import] {
        let arguments = [&[&variable, "softhsm2-util"], arguments, &["--pin", "battery staple"]];
        let _ = run(Path::new("env"), &arguments.concat()).ok();
    }
    fleet.write(KEY, &format!("pkcs11:token=online;object=fleet-ca?module-path={MODULE}\n"));
    fleet.set_master_environment(&variable);
}

/// Waits until the device has its operational certificate, and has openssl verify it.
fn has_operational_certificate(fleet: &Fleet) {
    let renewed = fleet.wait_events("drover/key/rfid-1/renewed", 1);
    assert_eq!(renewed[0]["data"]["by"], "birth");
    let leaf = fleet.minion_dir("rfid-1").join("pki/ldevid.crt");
    wait::until("the certificate is on the device's disk", PATIENCE, || leaf.exists());
    openssl_verifies(fleet, &["-purpose", "sslclient"], &leaf);
}

fn openssl_verifies(fleet: &Fleet, options: &[&str], leaf: &Path) {
    let pki = fleet.path("master/pki");
    let verified = Command::new("openssl")
        .arg("verify")
        .args(options)
        .args([Path::new("-CAfile"), &pki.join("root.crt"), Path::new("-untrusted")])
        .args([&pki.join("fleet-ca.crt"), leaf])
        .output()
        .unwrap();
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));
}

#[test]
fn an_encrypted_fleet_ca_issues_with_its_passphrase() {
    let mut fleet = fleet();
    encrypt(&fleet);
    fleet.configure_master("passphrase_file: fleet-ca.pass\n");
    fleet.bring_up(&["rfid-1"]);
    has_operational_certificate(&fleet);
}

#[test]
fn a_fleet_ca_in_a_token_issues_and_revokes_with_its_pin() {
    let mut fleet = fleet();
    put_into_token(&mut fleet);
    fleet.configure_master("passphrase_file: fleet-ca.pass\n");
    fleet.bring_up(&["rfid-1"]);
    has_operational_certificate(&fleet);
    let _ = fleet.drover(&["key", "revoke", "rfid-1", "-y"]).ok();
    let list = fleet.path("master/pki/crl.pem");
    let shows_one = || {
        let shown =
            run(Path::new("openssl"), &["crl", "-noout", "-text", "-in", list.to_str().unwrap()]);
        shown.stdout.contains("Serial Number:")
    };
    wait::until("the revocation list names it", PATIENCE, shows_one);
    let ca = fleet.path("master/pki/fleet-ca.crt");
    let arguments = ["crl", "-noout", "-verify", "-CAfile", ca.to_str().unwrap(), "-in"];
    let arguments = [&arguments[..], &[list.to_str().unwrap()]].concat();
    let verified = run(Path::new("openssl"), &arguments).ok();
    assert!(verified.stderr.contains("verify OK"), "{}", verified.stderr);
}

#[test]
fn a_master_without_the_passphrase_lets_minions_in_and_issues_nothing() {
    let mut fleet = fleet();
    encrypt(&fleet);
    fleet.bring_up(&["rfid-1"]);
    let log = fleet.logs();
    assert!(log.contains("is encrypted"), "{log}");
    assert!(!log.contains("battery staple"), "{log}");
    let _ = fleet.drover(&["rfid-1", "test.ping"]).ok();
    assert!(!fleet.minion_dir("rfid-1").join("pki/ldevid.crt").exists());
}
