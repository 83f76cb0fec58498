//! What `drover-enrol` says, to the letter: results, refusals with their hints, and exit statuses.

#![expect(clippy::unwrap_used, reason = "a test's helpers fail as the test does")]

use std::path::Path;
use std::process::Command;

use insta::assert_snapshot;
use tempfile::TempDir;

/// Runs a verb, and gives its status and everything it printed, times and digests made equal.
fn enrol(directory: &Path, arguments: &str) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_drover-enrol"));
    let output = command.args(arguments.split(' ')).current_dir(directory).output().unwrap();
    let status = output.status.code().unwrap();
    let (out, err) = (String::from_utf8(output.stdout), String::from_utf8(output.stderr));
    let text = format!("status {status}\n{}{}", out.unwrap(), err.unwrap());
    text.lines().map(settled).collect::<Vec<_>>().join("\n")
}

/// A line with what differs from run to run replaced.
fn settled(line: &str) -> String {
    let word = |word: &str| {
        let bare = word.trim_end_matches(',');
        let hex = bare.chars().all(|c| c.is_ascii_hexdigit() || c == ':');
        if hex && bare.len() >= 20 {
            "DIGEST".to_owned()
        } else if bare.len() == 20 && bare.ends_with('Z') && bare.contains('T') {
            word.replace(bare, "TIME")
        } else {
            word.to_owned()
        }
    };
    line.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

fn factory() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    enrol(directory.path(), "init-fleet --name acme --dir fleet");
    enrol(directory.path(), "init-station --fleet fleet --name line-1 --dir line-1");
    directory
}

#[test]
fn a_factory_is_made_once() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    assert_snapshot!(enrol(path, "init-fleet --name acme --dir fleet"), @r"
    status 0
    made the fleet `acme`
      fleet/root  the root: put it in a safe, it makes stations alone
      fleet/master  the pki_dir of the master `acme`
    warning: `root/root.key` is not encrypted; who reads it can issue certificates
    warning: `master/fleet-ca.key` is not encrypted; who reads it can issue certificates
    ");
    assert_snapshot!(enrol(path, "init-fleet --name acme --dir fleet"), @r"
    status 1
    error: there is a fleet in `fleet` already
    hint: its devices trust that root: keep it, or name another directory with --dir
    ");
    assert_snapshot!(enrol(path, "init-station --fleet fleet --name line-1 --dir line-1"), @r"
    status 0
    made the station `line-1` in line-1
    warning: `ca.key` is not encrypted; who reads it can issue certificates
    ");
    assert_snapshot!(enrol(path, "init-station --fleet fleet --name line-1 --dir line-1"), @r"
    status 1
    error: there is a station in `line-1` already
    hint: keep it, or name another directory
    ");
    std::fs::remove_dir_all(path.join("fleet/root")).unwrap();
    assert_snapshot!(enrol(path, "init-station --fleet fleet --name line-2 --dir line-2"), @r"
    status 2
    error: could not read `fleet/root/root.crt`
      caused by: No such file or directory (os error 2)
    hint: bring the root from its safe, or make a fleet with `drover-enrol init-fleet`
    ");
}

#[test]
fn a_device_is_issued_once() {
    let factory = factory();
    let path = factory.path();
    let issue = "issue --station line-1 --master 10.0.0.1:4510";
    assert_snapshot!(enrol(path, &format!("{issue} --id a --serial 1 --grain site=bne --out a")), @r"
    status 0
    issued `a` with the serial number `1` in a
      SHA-256 DIGEST
    ");
    assert_snapshot!(enrol(path, &format!("{issue} --id a --serial 2 --out b")), @r"
    status 1
    error: the id `a` was issued at TIME, to `a` with the serial number `1`
    hint: an id, a serial number and a key are issued once: check the label; a new device gets its own
    ");
    assert_snapshot!(enrol(path, &format!("{issue} --id b --serial 2 --out a")), @r"
    status 1
    error: `a/pki/idevid.crt` exists already
    hint: give each device an --out of its own, or move that file away if its device is gone
    ");
    assert_snapshot!(enrol(path, "issue --station line-1 --id b --serial 2 --out b"), @r"
    status 0
    issued `b` with the serial number `2` in b
      SHA-256 DIGEST
    warning: no --master was given, so minion.yml names one on the device itself; set `master:` in it
    ");
}

#[test]
fn a_wrong_command_line_or_file_has_status_2() {
    let factory = factory();
    let path = factory.path();
    let issue = "issue --station line-1 --out x";
    assert_snapshot!(enrol(path, &format!("{issue} --id a/b --serial 1")), @r"
    status 2
    error: invalid value 'a/b' for '--id <ID>': minion id `a/b` has the character `/`, allowed are A-Z a-z 0-9 . _ -

    For more information, try '--help'.
    ");
    assert_snapshot!(enrol(path, &format!("{issue} --id a --serial S_1")), @r"
    status 2
    error: invalid value 'S_1' for '--serial <SN>': hardware serial number `S_1` has the character `_`, allowed are A-Z a-z 0-9 space ' ( ) + , - . / : =

    For more information, try '--help'.
    ");
    assert_snapshot!(enrol(path, &format!("{issue} --id a --serial 1 --master 10.0.0.1:x")), @r"
    status 2
    error: invalid value '10.0.0.1:x' for '--master <ADDR>': an address is HOST or HOST:PORT, such as 10.0.0.1:4510 or [fd00::1]:4510

    For more information, try '--help'.
    ");
    assert_snapshot!(enrol(path, &format!("{issue} --id a --serial 1 --grain a=1 a=2")), @r"
    status 2
    error: the grain `a` is given twice
    ");
    assert_snapshot!(enrol(path, &format!("{issue} --id a --serial 1 --csr line-1/ca.crt")), @r"
    status 2
    error: `line-1/ca.crt` cannot be used
      caused by: is not a certificate signing request (RFC 2986, PEM or DER)
    hint: see what it is with `drover-enrol show`
    ");
    assert_snapshot!(enrol(path, "issue --station fleet --id a --serial 1 --out x"), @r"
    status 2
    error: `fleet` cannot be used as a station
      caused by: could not read `fleet/ca.crt`
      caused by: No such file or directory (os error 2)
    hint: make one with `drover-enrol init-station`
    ");
    assert!(!path.join("x").exists());
}

#[test]
fn manifests_are_exported_shown_and_verified() {
    let factory = factory();
    let path = factory.path();
    enrol(path, "issue --station line-1 --id a --serial 1 --grain site=bne --out a");
    assert_snapshot!(enrol(path, "manifest --station line-1 --out m"), @r"
    status 0
    manifest 1 of the station `line-1`: 1 device in m
      on the master: drover key import m
    ");
    assert_snapshot!(enrol(path, "manifest --station line-1 --out m"), @r"
    status 1
    error: `m` exists already
    hint: name another file with --out; every manifest is kept under the station's manifests/ too
    ");
    assert_snapshot!(enrol(path, "show m"), @r"
    status 0
    m:
      manifest
        station      line-1
        number       1
        created      TIME
        devices      1
        a            serial 1, key DIGEST site=bne
    ");
    let all = "fleet/root/root.crt fleet/master/fleet-ca.crt fleet/master/master.crt line-1/ca.crt \
               a/pki/idevid.crt m";
    assert_snapshot!(enrol(path, &format!("verify --root fleet/root/root.crt {all}")), @r"
    status 0
    fleet/root/root.crt: OK, a root that is trusted
    fleet/master/fleet-ca.crt: OK, the fleet CA of `acme`, until TIME
    fleet/master/master.crt: OK, the master `acme`, until TIME
    line-1/ca.crt: OK, the factory CA of the station `line-1`
    a/pki/idevid.crt: OK, the minion `a`, IDevID of `line-1`, no expiry
    m: OK, manifest 1 of the station `line-1`, 1 device
    ");
    assert_snapshot!(enrol(path, "verify m"), @r"
    status 2
    error: could not read `root.crt`
      caused by: No such file or directory (os error 2)
    hint: name the fleet's root.crt with --root
    ");
    enrol(path, "init-fleet --name other --dir other");
    assert_snapshot!(enrol(path, "verify --root other/root/root.crt a/pki/idevid.crt m"), @r"
    status 1
    a/pki/idevid.crt: refused: the certificate does not lead to a root that is trusted here
    hint: compare root.crt on both sides: they must be one fleet's
    m: refused: the manifest's station is not one that is trusted here: the certificate does not lead to a root that is trusted here
    error: 2 files do not verify
    ");
}

#[test]
fn show_tells_what_is_in_a_certificate() {
    let factory = factory();
    assert_snapshot!(enrol(factory.path(), "show line-1/ca.crt"), @r"
    status 0
    line-1/ca.crt:
      certificate
        subject      O=acme, OU=Factory CA, CN=line-1
        issuer       O=acme, CN=Drover root CA
        speaks for   urn:drover:ca:factory:line-1
        purpose      clientAuth
        authority    yes
        valid from   TIME
        valid until  no expiry
        serial       DIGEST
        SHA-256      DIGEST
        key          DIGEST
    ");
    assert_snapshot!(enrol(factory.path(), "show line-1/ca.key"), @r"
    status 2
    error: `line-1/ca.key` cannot be used
      caused by: holds no certificate in PEM
    hint: see what it is with `drover-enrol show`
    ");
}

#[test]
fn help_teaches_by_example() {
    let factory = factory();
    let help = enrol(factory.path(), "--help");
    assert!(help.contains("drover-enrol init-fleet   --name acme --dir fleet\n"), "{help}");
    assert!(enrol(factory.path(), "--version").starts_with("status 0\ndrover-enrol "));
    let completions = enrol(factory.path(), "completions bash");
    assert!(completions.contains("init-station"), "{completions}");
}
