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
      fleet/root  the root: put it in a safe, it makes authorities alone
      fleet/master  the pki_dir of the master `acme`
    warning: `fleet/root/root.key` is not encrypted; who reads it can issue certificates
    warning: `fleet/master/fleet-ca.key` is not encrypted; who reads it can issue certificates
    ");
    assert_snapshot!(enrol(path, "init-fleet --name acme --dir fleet"), @r"
    status 1
    error: there is a fleet in `fleet` already
    hint: its devices trust that root: keep it, or name another directory with --dir
    ");
    assert_snapshot!(enrol(path, "init-station --fleet fleet --name line-1 --dir line-1"), @r"
    status 0
    made the station `line-1` in line-1
    warning: `line-1/ca.key` is not encrypted; who reads it can issue certificates
    ");
    assert_snapshot!(enrol(path, "init-station --fleet fleet --name line-1 --dir line-1"), @r"
    status 1
    error: there is a station in `line-1` already
    hint: keep it, or name another directory
    ");
    assert_snapshot!(enrol(path, "init-station --fleet fleet --name line-1 --dir twin"), @r"
    status 0
    made the station `line-1` in twin
    warning: `twin/ca.key` is not encrypted; who reads it can issue certificates
    warning: the root certified a station `line-1` before: give two lines two names, and make one that died again with --replace, so that it knows its devices
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
    hint: an id, a serial number and a key are issued once: check the label; a device that needs another certificate gets one with --reissue and --reason
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
    warning: neither --master nor the station's settings name one, so a new minion.yml names one on the device itself; set `master:` in it
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
    hint: name a station's directory, or make one with `drover-enrol init-station`
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
        ledger       1 line, the last one DIGEST
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
fn a_device_gets_another_certificate_and_loses_it() {
    let factory = factory();
    let path = factory.path();
    let issue = "issue --station line-1 --id a --serial 1 --master m --by ann";
    enrol(path, &format!("{issue} --out a"));
    assert_snapshot!(enrol(path, &format!("{issue} --out a --reissue")), @"
    status 2
    error: the following required arguments were not provided:
      --reason <TEXT>

    Usage: drover-enrol issue --station <DIR> --serial <SN> --out <DIR> --reissue --reason <TEXT> --id <ID> --master <ADDR> --by <NAME>

    For more information, try '--help'.
    ");
    assert_snapshot!(enrol(path, &format!("{issue} --out a --reissue --reason lost")), @r"
    status 0
    re-issued `a` with the serial number `1` in a
      SHA-256 DIGEST
    ");
    assert_snapshot!(enrol(path, "issue --station line-1 --id b --serial 2 --reissue --reason x --out b"), @r"
    status 1
    error: nothing was issued here for the serial number `2`
    hint: check the label; `drover-enrol ledger show` lists what was issued, and a first certificate is issued without --reissue
    ");
    assert_snapshot!(enrol(path, "revoke --station line-1 --serial 1 --reason stolen --by bob"), @r"
    status 0
    revoked `a` with the serial number `1`
      for the master: drover-enrol manifest --station line-1 --out FILE; at once: drover key revoke a
    ");
    assert_snapshot!(enrol(path, "revoke --station line-1 --id a --reason stolen --by bob"), @r"
    status 0
    was revoked before: `a` with the serial number `1`
      for the master: drover-enrol manifest --station line-1 --out FILE; at once: drover key revoke a
    ");
    assert_snapshot!(enrol(path, "crl --station line-1 --out l.crl --by bob"), @r"
    status 0
    revocation list 5 of the station `line-1`: 2 certificates in l.crl, until TIME
    ");
    enrol(path, "manifest --station line-1 --out m --by bob");
    assert_snapshot!(enrol(path, "show m"), @r"
    status 0
    m:
      manifest
        station      line-1
        number       1
        created      TIME
        ledger       5 lines, the last one DIGEST
        devices      1
        a            serial 1, key DIGEST re-issued: lost
        revoked      1
        a            stolen
    ");
    assert_snapshot!(enrol(path, "ledger show --station line-1 --id a"), @r"
    status 0
    LINE  TIME                  BY   EVENT     ID  SERIAL
    1     TIME  ann  issued    a   1       SHA-256 DIGEST
    2     TIME  ann  reissued  a   1       lost; SHA-256 DIGEST
    4     TIME  bob  revoked   a   1       stolen
    ");
    let all = enrol(path, "ledger show --station line-1 --json");
    assert_eq!(all.matches("\"previous\"").count(), 6, "{all}");
}

#[test]
fn a_ledger_that_somebody_was_at_is_not_issued_from() {
    let factory = factory();
    let path = factory.path();
    for n in 1..=3 {
        enrol(path, &format!("issue --station line-1 --id d{n} --serial {n} --out d{n}"));
    }
    assert_snapshot!(enrol(path, "ledger verify --station line-1"), @r"
    status 0
    line-1/ledger.ndjson: OK, 3 lines of the station `line-1`
      head DIGEST
    ");
    let ledger = path.join("line-1/ledger.ndjson");
    let text = std::fs::read_to_string(&ledger).unwrap();
    std::fs::write(&ledger, text.replace("\"serial\":\"2\"", "\"serial\":\"4\"")).unwrap();
    assert_snapshot!(enrol(path, "ledger verify --station line-1"), @r"
    status 1
    line-1/ledger.ndjson: line 2 was changed
    error: `line-1/ledger.ndjson` does not verify
    hint: nothing is issued from it: find out who did it, then put `ledger.ndjson` and `ledger.head` back together from a copy, or make the station again from its manifests with `drover-enrol init-station --replace`
    ");
    assert_snapshot!(enrol(path, "issue --station line-1 --id e --serial 9 --out e"), @r"
    status 1
    error: the station's ledger cannot be used
      caused by: `line-1/ledger.ndjson` does not verify: line 2 was changed
    hint: nothing is issued from it: find out who did it, then put `ledger.ndjson` and `ledger.head` back together from a copy, or make the station again from its manifests with `drover-enrol init-station --replace`
    ");
    assert!(!path.join("e").exists());
    let tail = text.lines().next().unwrap().to_owned() + "\n";
    std::fs::write(&ledger, tail).unwrap();
    let told = enrol(path, "ledger verify --station line-1");
    assert!(
        told.starts_with("status 1\nline-1/ledger.ndjson: lines 2 to 3 were cut off the end\n")
    );
    std::fs::remove_file(&ledger).unwrap();
    assert_snapshot!(enrol(path, "ledger verify --station line-1"), @"
    status 1
    error: the station's ledger cannot be used
      caused by: there is no ledger in `line-1`
    hint: name a station's directory; if this is one, somebody took its ledger: put `ledger.ndjson` and `ledger.head` back from a copy, or make the station again from its manifests with `drover-enrol init-station --replace`
    ");
    std::fs::write(&ledger, text).unwrap();
    assert!(enrol(path, "ledger verify --station line-1").starts_with("status 0"));
}

#[test]
fn a_station_that_is_gone_is_made_again_from_its_manifests() {
    let factory = factory();
    let path = factory.path();
    for n in 1..=3 {
        enrol(path, &format!("issue --station line-1 --id d{n} --serial {n} --out d{n}"));
        enrol(path, &format!("manifest --station line-1 --out m{n}"));
    }
    std::fs::rename(path.join("line-1"), path.join("dead")).unwrap();
    let init = "init-station --fleet fleet --name line-1 --dir line-1 --replace";
    assert_snapshot!(enrol(path, &format!("{init} m3 m1")), @r"
    status 1
    error: the station cannot be made again from these manifests
      caused by: of the station `line-1` manifest 2 is missing
    hint: the master keeps every manifest that it imported: `drover key manifest line-1 --all --dir DIR` gives them back; or begin at one that was made with --all
    ");
    assert!(!path.join("line-1").exists());
    assert_snapshot!(enrol(path, &format!("{init} m3 m1 m2")), @r"
    status 0
    made the station `line-1` in line-1
      it knows 3 devices of the station before it
    warning: `line-1/ca.key` is not encrypted; who reads it can issue certificates
    ");
    assert_snapshot!(enrol(path, "issue --station line-1 --id d4 --serial 2 --out d4"), @r"
    status 1
    error: the serial number `2` was issued at TIME, to `d2` with the serial number `2`
    hint: an id, a serial number and a key are issued once: check the label; a device that needs another certificate gets one with --reissue and --reason
    ");
    enrol(path, "issue --station line-1 --id d4 --serial 4 --master m --out d4");
    assert_snapshot!(enrol(path, "manifest --station line-1 --out m4"), @r"
    status 0
    manifest 4 of the station `line-1`: 1 device in m4
      on the master: drover key import m4
    ");
    assert_snapshot!(enrol(path, "revoke --station line-1 --id d1 --reason x"), @r"
    status 1
    error: the certificate of `d1` was issued by the station before this one
    hint: revoke it on the master: `drover key revoke`
    ");
    assert!(enrol(path, "ledger verify --station line-1").starts_with("status 0"));
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
    hint: certificates, signing requests, manifests and root lists are shown
    ");
}

#[test]
fn a_device_that_the_station_does_not_know_is_neither_shown_nor_revoked() {
    let factory = factory();
    let path = factory.path();
    enrol(path, "issue --station line-1 --id a --serial 1 --master m:1 --out a");
    assert_snapshot!(enrol(path, "ledger show --station line-1 --id NOPE"), @"
    status 3
    error: the ledger in `line-1` has no line about the id `NOPE`
    hint: check the label; without --id and --serial all lines are shown
    ");
    assert_snapshot!(enrol(path, "ledger show --station line-1 --id a --serial 2 --json"), @"
    status 3
    []
    error: the ledger in `line-1` has no line about the id `a` with the serial number `2`
    hint: check the label; without --id and --serial all lines are shown
    ");
    assert_snapshot!(enrol(path, "revoke --station line-1 --serial 2 --reason lost"), @"
    status 1
    error: nothing was issued here for the serial number `2`, so there is nothing to revoke
    hint: check the label; `drover-enrol ledger show` lists what this station issued, and `drover key revoke` revokes on the master what another one did
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

#[test]
fn a_wrong_directory_is_refused_with_a_hint() {
    let factory = factory();
    let path = factory.path();
    enrol(path, "init-station --request --name line-2 --dir line-2");
    enrol(path, "rotate-root --fleet fleet --out roots.json");
    let hints = [
        "rotate-root --fleet WRONG --out o",
        "rotate-root --fleet WRONG --leave-out x --out o",
        "rotate-root --fleet WRONG --drop root --out o",
        "certify --fleet WRONG --csr line-2/ca.csr --out o",
        "certify-station --fleet WRONG --csr line-2/ca.csr --name line-2 --out o",
        "operator --fleet WRONG --name ann --out o",
        "follow-roots --station WRONG --list roots.json",
        "label --station WRONG --id a",
        "ledger verify --station WRONG",
        "ledger show --station WRONG",
        "ledger unfinished --station WRONG",
        "ledger unfinished --station WRONG --finish",
        "crl --station WRONG --out o",
        "revoke --station WRONG --id a --reason lost",
    ]
    .map(|verb| {
        let said = enrol(path, verb);
        assert!(said.starts_with("status 2\nerror: "), "{verb}: {said}");
        let hint = said.lines().last().unwrap();
        format!("{}\n  {hint}", verb.split_once(" --").unwrap().0)
    });
    assert_snapshot!(hints.join("\n"), @"
    rotate-root
      hint: bring the root from its safe; --fleet names the directory above it
    rotate-root
      hint: bring the root from its safe; --fleet names the directory above it
    rotate-root
      hint: bring the root from its safe; --fleet names the directory above it
    certify
      hint: bring the root from its safe; --fleet names the directory above it
    certify-station
      hint: bring the root from its safe, or make a fleet with `drover-enrol init-fleet`
    operator
      hint: --fleet names the directory that `drover-enrol init-fleet` made
    follow-roots
      hint: --station names the directory that `drover-enrol init-station` made
    label
      hint: name a station's directory; if this is one, somebody took its ledger: put `ledger.ndjson` and `ledger.head` back from a copy, or make the station again from its manifests with `drover-enrol init-station --replace`
    ledger verify
      hint: name a station's directory, or make one with `drover-enrol init-station`
    ledger show
      hint: name a station's directory; if this is one, somebody took its ledger: put `ledger.ndjson` and `ledger.head` back from a copy, or make the station again from its manifests with `drover-enrol init-station --replace`
    ledger unfinished
      hint: name a station's directory; if this is one, somebody took its ledger: put `ledger.ndjson` and `ledger.head` back from a copy, or make the station again from its manifests with `drover-enrol init-station --replace`
    ledger unfinished
      hint: name a station's directory, or make one with `drover-enrol init-station`
    crl
      hint: name a station's directory, or make one with `drover-enrol init-station`
    revoke
      hint: name a station's directory, or make one with `drover-enrol init-station`
    ");
    assert_snapshot!(enrol(path, "rotate-root --fleet fleet --leave-out line-1 --out o"), @"
    status 2
    error: there is no authority `line-1`; the root certified factory-line-1, fleet-ca
    hint: name one of these with --leave-out; one that an earlier version certified is made known with --authority
    ");
    assert_snapshot!(enrol(path, "rotate-root --fleet fleet --drop root-7 --out o"), @"
    status 2
    error: there is no root `root-7` in the newest list; it has root, root-2
    hint: name one of these with --drop
    ");
    assert!(!path.join("o").exists() && !path.join("WRONG").exists());
}
