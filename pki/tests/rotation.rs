//! What `drover-enrol` says when authorities change, to the letter, and what openssl says of what it made.

#![expect(clippy::unwrap_used, reason = "a test's helpers fail as the test does")]

use std::fs;
use std::path::Path;
use std::process::Command;

use insta::assert_snapshot;
use tempfile::TempDir;

/// Runs a verb, and gives its status and everything it printed.
fn enrol(directory: &Path, arguments: &str) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_drover-enrol"));
    let output = command.args(arguments.split(' ')).current_dir(directory).output().unwrap();
    let status = output.status.code().unwrap();
    let (out, err) = (String::from_utf8(output.stdout), String::from_utf8(output.stderr));
    format!("status {status}\n{}{}", out.unwrap(), err.unwrap())
}

fn factory() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    for verb in [
        "init-fleet --name acme --dir fleet",
        "init-station --fleet fleet --name line-1 --dir line-1",
        "issue --station line-1 --id rfid-1 --serial SN1 --master 127.0.0.1:1 --out rfid-1",
    ] {
        let said = enrol(directory.path(), verb);
        assert!(said.starts_with("status 0"), "{said}");
    }
    directory
}

fn openssl(directory: &Path, arguments: &str) -> bool {
    let output = Command::new("openssl").args(arguments.split(' ')).current_dir(directory).output();
    output.unwrap().status.success()
}

#[test]
fn a_root_is_rotated_and_the_old_one_dropped() {
    let directory = factory();
    let path = directory.path();
    fs::copy(path.join("fleet/root/root.crt"), path.join("old.crt")).unwrap();
    assert_snapshot!(enrol(path, "rotate-root --fleet fleet --out 1.json"), @r"
    status 0
    made the root `root-2`; `root` is kept in fleet/root/previous
      1.json  root list 1: root, root-2
      certified again by `root-2`: factory-line-1, fleet-ca
    next:
      on the master:
        drover key authorities import 1.json
      on every station:
        drover-enrol follow-roots --station DIR --list 1.json
      put fleet/root back into its safe; when `drover key authorities` says that no device needs `root`:
        drover-enrol rotate-root --fleet fleet --drop root --out FILE
    warning: `fleet/root/root.key` is not encrypted; who reads it can issue certificates
    ");
    assert_snapshot!(enrol(path, "rotate-root --fleet fleet --drop root --out 2.json"), @r"
    status 0
    made root list 2 without `root`: root-2
    next:
      on the master, when no device needs `root`:
        drover key authorities import 2.json
        drover key authorities drop root
      on every station:
        drover-enrol follow-roots --station DIR --list 2.json
    ");
    assert_snapshot!(enrol(path, "verify --root old.crt 1.json 2.json"), @r"
    status 1
    1.json: OK, root list 1 of the fleet `acme`: root, root-2
    2.json: refused: no root that is trusted here signed the root list
    hint: lists are followed one after the other: bring the ones before it too
    error: one file does not verify
    ");
    let shown = enrol(path, "show 1.json");
    for what in [
        "  root list\n",
        "fleet        acme\n",
        "trusts       root-2, SHA-256 ",
        "certifies    factory-line-1, ",
    ] {
        assert!(shown.contains(what), "{shown}");
    }
    assert_snapshot!(enrol(path, "follow-roots --station line-1 --list 2.json"), @r"
    status 1
    error: the root list is refused
      caused by: no root that is trusted here signed the root list
    hint: lists are followed one after the other: bring the ones before it too
    ");
    assert_snapshot!(enrol(path, "follow-roots --station line-1 --list 1.json"), @r"
    status 0
    the station follows root list 1: root, root-2; its own certificate is under the newest of them
    ");
    assert_snapshot!(enrol(path, "follow-roots --station line-1 --list 2.json"), @r"
    status 0
    the station follows root list 2: root-2; its own certificate stays
    ");
    // A device of before, by its own certificate and the station's new one, under the new root alone; and a new one.
    assert!(openssl(
        path,
        "verify -CAfile fleet/root/root.crt -untrusted line-1/ca.crt rfid-1/pki/idevid.crt"
    ));
    assert!(!openssl(
        path,
        "verify -CAfile fleet/root/root.crt -untrusted rfid-1/pki/idevid.crt rfid-1/pki/idevid.crt"
    ));
    let said = enrol(
        path,
        "issue --station line-1 --id rfid-2 --serial SN2 --master 127.0.0.1:1 --out rfid-2",
    );
    assert!(said.starts_with("status 0"), "{said}");
    assert!(openssl(
        path,
        "verify -CAfile rfid-2/pki/root.crt -untrusted rfid-2/pki/idevid.crt rfid-2/pki/idevid.crt"
    ));
    assert_eq!(
        fs::read(path.join("rfid-2/pki/root.crt")).unwrap(),
        fs::read(path.join("fleet/root/root.crt")).unwrap()
    );
}

#[test]
fn a_fleet_ca_is_certified_by_its_request() {
    let directory = factory();
    let path = directory.path();
    assert!(openssl(
        path,
        "req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout k.pem -subj /CN=x -out ca.csr"
    ));
    let said = enrol(path, "certify --fleet fleet --csr ca.csr --out new");
    let said = said.lines().map(|line| line.split(", until ").next().unwrap()).collect::<Vec<_>>();
    assert_snapshot!(said.join("\n"), @r"
    status 0
    certified `fleet-ca-2` by `root`
      new/fleet-ca.crt
    next, on the master:
      drover key authorities import new/fleet-ca.crt
    ");
    assert!(openssl(path, "verify -CAfile fleet/root/root.crt new/fleet-ca.crt"));
    assert_snapshot!(enrol(path, "certify --fleet fleet --csr line-1/ca.crt --out newer"), @r"
    status 2
    error: `line-1/ca.crt` cannot be used
      caused by: is not a certificate signing request (RFC 2986, PEM or DER)
    hint: see what it is with `drover-enrol show`
    ");
}

#[test]
fn two_authorities_of_one_station_are_told_apart() {
    let directory = factory();
    let path = directory.path();
    let _ = enrol(path, "init-station --fleet fleet --name line-1 --dir again");
    let mut issued: Vec<_> = fs::read_dir(path.join("fleet/root/issued"))
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
        .filter(|name| name.starts_with("factory-line-1-"))
        .collect();
    issued.sort_unstable();
    let [one, other] = issued.as_slice() else { panic!("{issued:?}") };

    let said = enrol(path, "rotate-root --fleet fleet --leave-out factory-line-2 --out no.json");
    assert!(said.contains(&format!("the root certified {one}, {other}, fleet-ca\n")), "{said}");
    let said = enrol(path, "rotate-root --fleet fleet --out 1.json");
    assert!(said.contains(&format!("again by `root-2`: {one}, {other}, fleet-ca\n")), "{said}");
    // The laptop that died is left out, and its successor is not.
    let said = enrol(path, &format!("rotate-root --fleet fleet --leave-out {one} --out 2.json"));
    assert!(said.contains("again by `root-3`: factory-line-1, fleet-ca\n"), "{said}");
    assert!(said.contains(&format!("once `root-2` is dropped: {one}\n")), "{said}");
}
