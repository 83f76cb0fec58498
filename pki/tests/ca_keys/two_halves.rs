//! A station made in two halves: its key never leaves it, and the root's key never leaves its safe.

use insta::assert_snapshot;

use super::Workshop;

const REQUEST: &str = "init-station --request --name line-1 --dir line-1";
const CERTIFY: &str =
    "certify-station --fleet fleet --csr line-1/ca.csr --name line-1 --out back.pem";
const COMPLETE: &str = "init-station --complete back.pem --dir line-1";

fn with_fleet() -> Workshop {
    let workshop = Workshop::new();
    let _ = workshop.enrol("init-fleet --name acme --dir fleet").ok();
    workshop
}

#[test]
fn a_station_is_certified_without_its_key_or_the_roots_leaving_home() {
    let workshop = with_fleet();
    let requested = workshop.enrol(REQUEST).ok().stdout;
    let _ = workshop.openssl("req -verify -noout -in line-1/ca.csr").ok();
    let certified = workshop.enrol(CERTIFY).ok().stdout;
    // Both sides show the key, so that people can compare.
    let key = |text: &str| {
        let digest = text.lines().find_map(|line| line.strip_prefix("  for the key "));
        digest.unwrap().to_owned()
    };
    assert_eq!(key(&requested), key(&certified));
    let completed = workshop.enrol(COMPLETE).ok().stdout;
    let root = |text: &str| text.rsplit_once("SHA-256 ").unwrap().1[..95].to_owned();
    assert_eq!(root(&certified), root(&completed));
    workshop.verify("line-1/ca.crt");
    let _ = workshop.enrol("issue --station line-1 --id a --serial 1 --out a").ok();
    workshop.verify("a/pki/idevid.crt");
}

#[test]
fn each_half_may_be_done_again() {
    let workshop = with_fleet();
    let _ = workshop.enrol(REQUEST).ok();
    let (request, key) = (workshop.read("line-1/ca.csr"), workshop.read("line-1/ca.key"));
    let again = workshop.enrol(REQUEST).ok().stdout;
    assert!(again.contains("is there already"), "{again}");
    assert_eq!((workshop.read("line-1/ca.csr"), workshop.read("line-1/ca.key")), (request, key));
    let _ = workshop.enrol(CERTIFY).ok();
    // The power went before the certificate was written.
    std::fs::copy(workshop.path("fleet/root/root.crt"), workshop.path("line-1/root.crt")).unwrap();
    let _ = workshop.enrol(COMPLETE).ok();
    let again = workshop.enrol(COMPLETE).ok().stdout;
    assert!(again.contains("was complete before"), "{again}");
    let refusal = workshop.enrol(REQUEST).refused(1);
    assert_snapshot!(refusal, @r"
    error: there is a station in `line-1` already
    hint: keep it, or name another directory
    ");
}

#[test]
fn a_power_cut_before_the_certificate_leaves_a_station_that_can_be_completed() {
    let workshop = with_fleet();
    let _ = workshop.enrol(REQUEST).ok();
    let _ = workshop.enrol(CERTIFY).ok();
    let _ = workshop.enrol(COMPLETE).ok();
    // The certificate is written last: everything else may be there without it.
    std::fs::remove_file(workshop.path("line-1/ca.crt")).unwrap();
    let refusal = workshop.enrol("issue --station line-1 --id a --serial 1 --out a").refused(2);
    assert!(refusal.contains("`line-1` cannot be used as a station"), "{refusal}");
    let _ = workshop.enrol(COMPLETE).ok();
    let _ = workshop.enrol("issue --station line-1 --id a --serial 1 --out a").ok();
    workshop.verify("a/pki/idevid.crt");
    let _ = workshop.enrol("ledger verify --station line-1").ok();
}

#[test]
fn a_certificate_of_another_stations_key_is_refused() {
    let workshop = with_fleet();
    let _ = workshop.enrol(REQUEST).ok();
    let _ = workshop.enrol("init-station --request --name line-2 --dir line-2").ok();
    let other = CERTIFY.replace("line-1", "line-2");
    let _ = workshop.enrol(&other).ok();
    assert_snapshot!(workshop.enrol(COMPLETE).refused(1), @r"
    error: the certificate is of another station's key
    hint: certify this station's own ca.csr where the root is
    ");
    assert!(!workshop.path("line-1/ca.crt").exists());
}

#[test]
fn what_is_no_factory_authority_completes_no_station() {
    let workshop = with_fleet();
    let _ = workshop.enrol(REQUEST).ok();
    let fleet_ca = workshop.read("fleet/master/fleet-ca.crt");
    let root = workshop.read("fleet/root/root.crt");
    workshop.write("back.pem", &format!("{fleet_ca}{root}"));
    let refusal = workshop.enrol(COMPLETE).refused(1);
    assert!(refusal.contains("does not verify"), "{refusal}");
    workshop.write("back.pem", &root);
    assert_snapshot!(workshop.enrol(COMPLETE).refused(2), @r"
    error: the file holds 1 certificates and not two, the station's and the root's
    hint: give the file that `drover-enrol certify-station` wrote
    ");
    workshop.write("line-1/ca.csr", "nothing");
    let refusal = workshop.enrol(CERTIFY).refused(2);
    assert!(refusal.contains("is not a certificate signing request"), "{refusal}");
}

#[test]
fn a_passphrase_guards_both_halves() {
    let workshop = Workshop::new();
    workshop.write("root.pass", "horse");
    workshop.write("pass", "staple");
    let fleet = "init-fleet --name acme --dir fleet --passphrase-file root.pass";
    let _ = workshop.enrol(fleet).ok();
    let _ = workshop.enrol(&format!("{REQUEST} --passphrase-file pass")).ok();
    let _ = workshop.enrol(&format!("{CERTIFY} --passphrase-file root.pass")).ok();
    let _ = workshop.enrol(COMPLETE).refused(1);
    let _ = workshop.enrol(&format!("{COMPLETE} --passphrase-file pass")).ok();
    workshop.verify("line-1/ca.crt");
}
