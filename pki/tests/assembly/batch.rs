//! Lists of devices.

use std::fs;
use std::process::Command;

use insta::assert_snapshot;

use super::{Factory, names};

const BATCH: &str = "batch --station line-1 --csv devices.csv --out out";

#[test]
fn a_list_is_issued_once_and_may_be_run_again() {
    let factory = Factory::new();
    factory.write("devices.csv", "\u{feff}serial,id,site\r\nSN1,,bne\r\nSN2,gate-2,\"Syd, N\"\r\n");
    assert_snapshot!(factory.enrol(BATCH), @r"
    status 0
    issued 2 devices
      bundles in out
      labels in line-1/labels
    ");
    assert_eq!(names(&factory.path("out")), ["gate-2", "rfid-SN1"]);
    assert_eq!(names(&factory.path("line-1/labels")).len(), 6);
    factory.enrol("verify out/gate-2/pki/idevid.crt out/rfid-SN1/pki/idevid.crt").ok();
    let lines = factory.ledger();

    factory.write("devices.csv", "serial,id,site\nSN1,,bne\nSN2,gate-2,\"Syd, N\"\nSN3,,bne\n");
    assert_snapshot!(factory.enrol(BATCH), @r"
    status 0
    issued 1 device; skipped 2, issued alike before
      bundles in out
      labels in line-1/labels
    ");
    assert_eq!(factory.ledger(), lines + 1);
    assert_snapshot!(factory.enrol(BATCH), @r"
    status 0
    issued 0 devices; skipped 3, issued alike before
    ");
    assert_eq!(factory.ledger(), lines + 1);
}

#[test]
fn a_wrong_list_issues_nothing() {
    let factory = Factory::new();
    factory.write("devices.csv", "serial,id,site\nSN1,a,bne\nS_2,b,bne\nSN3,a,bne\nSN4,c\n");
    let lines = factory.ledger();
    assert_snapshot!(factory.enrol(BATCH), @r"
    status 2

    error: `devices.csv` has wrong lines, and nothing was issued
      line 3, column 1 (`serial`): hardware serial number `S_2` has the character `_`, allowed are A-Z a-z 0-9 space ' ( ) + , - . / : =
          S_2,b,bne
      line 4, column 2 (`id`): the id `a` stands on line 2 already
          SN3,a,bne
      line 5: the row has 2 values, the header has 3
          SN4,c
    hint: put the list right and run the command again
    ");
    assert!(!factory.path("out").exists());
    assert_eq!(factory.ledger(), lines);
}

#[test]
fn a_list_that_contradicts_the_ledger_or_a_directory_issues_nothing() {
    let factory = Factory::new();
    factory.write("devices.csv", "serial,id,site\nSN1,a,bne\nSN2,b,bne\n");
    factory.enrol(BATCH).ok();
    let lines = factory.ledger();
    fs::rename(factory.path("out/b"), factory.path("out/e")).unwrap();
    factory.write(
        "devices.csv",
        "serial,id,site\nSN0,z,bne\nSN1,a,syd\nSN1x,b,bne\nSN2,c,bne\nSN5,e,bne\n",
    );
    assert_snapshot!(factory.enrol(BATCH), @r"
    status 2

    error: `devices.csv` has wrong lines, and nothing was issued
      line 3: `a` was issued at TIME with other grains: site=bne; `drover-enrol issue --reissue` gives this one device another certificate with others
          SN1,a,syd
      line 4, column 2 (`id`): the id `b` was issued at TIME, for the serial number `SN2`
          SN1x,b,bne
      line 5, column 1 (`serial`): the serial number `SN2` was issued at TIME, to `b`
          SN2,c,bne
      line 6: `out/e` holds the identity of another device: CN=b, serialNumber=SN2
          SN5,e,bne
    hint: put the list right and run the command again
    ");
    assert_eq!(factory.ledger(), lines);
    assert!(!factory.path("out/z").exists());
}

#[test]
fn the_result_as_json_keeps_its_names() {
    let factory = Factory::new();
    factory.write("devices.csv", "serial\nSN1\n");
    let done = factory.enrol(&format!("{BATCH} --json")).ok().json();
    let device = &done["devices"][0];
    assert_eq!(device["line"], 2);
    assert_eq!(device["status"], "issued");
    assert_eq!((&device["id"], &device["serial"]), (&"rfid-SN1".into(), &"SN1".into()));
    assert_eq!(device["out"], "out/rfid-SN1");
    for digest in ["key", "certificate"] {
        assert_eq!(device[digest].as_str().unwrap().len(), 64);
    }
    for (name, count) in
        [("issued", 1), ("reissued", 0), ("finished", 0), ("skipped", 0), ("remaining", 0)]
    {
        assert_eq!(done[name], count, "{name}");
    }
    factory.write("devices.csv", "serial,site\nSN1,\"a\nb\"\n\nSN1\n");
    let refused = factory.enrol(&format!("{BATCH} --json"));
    assert_eq!(refused.status, 2);
    let wrong = &refused.json()["wrong"];
    assert_eq!((&wrong[0]["line"], &wrong[0]["column"]), (&2.into(), &2.into()));
    assert_eq!(wrong[0]["name"], "site");
    assert_eq!((&wrong[1]["line"], &wrong[1]["column"]), (&5.into(), &serde_json::Value::Null));
}

#[test]
fn keys_that_devices_made_are_certified_from_a_list() {
    let factory = Factory::new();
    fs::create_dir(factory.path("requests")).unwrap();
    for name in ["1", "2"] {
        let openssl = |line: &str| {
            let mut openssl = Command::new("openssl");
            openssl.args(line.split(' ')).current_dir(factory.path("requests"));
            assert!(openssl.output().unwrap().status.success(), "{line}");
        };
        openssl(&format!("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out {name}.key"));
        openssl(&format!("req -new -key {name}.key -subj / -out {name}.csr"));
    }
    factory.write("requests/list.csv", "serial,csr\nSN1,1.csr\nSN2,none.csr\nSN3,list.csv\n");
    let batch = "batch --station line-1 --csv requests/list.csv --out out";
    assert_snapshot!(factory.enrol(batch), @r"
    status 2

    error: `requests/list.csv` has wrong lines, and nothing was issued
      line 3: could not read `requests/none.csr`: No such file or directory (os error 2)
          SN2,none.csr
      line 4, column 2 (`csr`): `requests/list.csv` is no signing request that can be used: is not a certificate signing request (RFC 2986, PEM or DER)
          SN3,list.csv
    hint: put the list right and run the command again
    ");
    factory.write("requests/list.csv", "serial,csr\nSN1,1.csr\n");
    factory.enrol(batch).ok();
    assert_eq!(names(&factory.path("out/rfid-SN1/pki")), ["idevid.crt", "root.crt"]);
    // Another key for the same device is not alike.
    factory.write("requests/list.csv", "serial,csr\nSN1,2.csr\n");
    let refused = factory.enrol(batch);
    assert!(refused.err.contains("`rfid-SN1` was issued at TIME for another key"), "{refused}");
}

#[test]
fn devices_are_issued_again_with_a_reason_and_once() {
    let factory = Factory::new();
    factory.write("devices.csv", "serial\nSN1\nSN2\n");
    factory.enrol(BATCH).ok();
    let first = factory.read("out/rfid-SN1/pki/idevid.crt");
    let again = format!("{BATCH} --reissue --reason recall");
    assert_eq!(factory.enrol(&format!("{BATCH} --reissue")).status, 2);
    assert_snapshot!(factory.enrol(&again), @r"
    status 0
    issued 0 devices; issued 2 again
      bundles in out
      labels in line-1/labels
    ");
    assert_ne!(factory.read("out/rfid-SN1/pki/idevid.crt"), first);
    assert_snapshot!(factory.enrol(&again), @r"
    status 0
    issued 0 devices; skipped 2, issued alike before
    ");
}

#[test]
fn a_directory_whose_parent_is_missing_is_told_before_anything_is_issued() {
    let factory = Factory::new();
    factory.write("devices.csv", "serial\nSN1\n");
    let lines = factory.ledger();
    let batch = "batch --station line-1 --csv devices.csv --out";
    assert_snapshot!(factory.enrol(&format!("{batch} card/etc")), @r"
    status 2

    error: `card` is not there
    hint: put in the card, or make the directory
    ");
    assert_snapshot!(factory.enrol(&format!("{batch} {{name}}")), @r"
    status 2

    error: invalid value '{name}' for '--out <OUT>': `{name}` is not known here, `{id}` and `{serial}` are

    For more information, try '--help'.
    ");
    assert_eq!(factory.ledger(), lines);
    factory.enrol(&format!("{batch} x-{{serial}}/etc")).ok();
    assert!(factory.path("x-SN1/etc/pki/idevid.crt").exists());
}

#[test]
fn no_serial_number_leads_out_of_the_directory() {
    let factory = Factory::new();
    let serials = ["..", "../../x", "/x", "a/../../b"];
    let rows: Vec<_> =
        serials.iter().enumerate().map(|(at, serial)| format!("{serial},d{at}\n")).collect();
    factory.write("devices.csv", format!("serial,id\n{}", rows.concat()));
    let before = names(factory.0.path());
    factory.enrol("batch --station line-1 --csv devices.csv --out out/{serial}").ok();
    assert_eq!(names(factory.0.path()), [&["devices.csv", "fleet", "line-1", "out"][..]].concat());
    assert_eq!(before.len() + 1, 4);
    assert_eq!(names(&factory.path("out")).len(), serials.len());
}

#[test]
fn a_revoked_device_is_not_skipped_as_if_it_were_good() {
    let factory = Factory::new();
    factory.write("devices.csv", "serial\nSN1\nSN2\n");
    factory.enrol(BATCH).ok();
    factory.enrol("revoke --station line-1 --serial SN2 --reason stolen").ok();
    assert_snapshot!(factory.enrol(BATCH), @r"
    status 2

    error: `devices.csv` has a wrong line, and nothing was issued
      line 3: the certificate of `rfid-SN2` was revoked at TIME: stolen
          SN2
    hint: put the list right and run the command again
    ");
    // Asked for, it gets another certificate, and so does the device that has one.
    let again = "batch --station line-1 --csv devices.csv --out again --reissue --reason back";
    assert_eq!(factory.enrol(&format!("{again} --json")).ok().json()["reissued"], 2);
}

#[test]
fn two_devices_that_would_go_into_one_directory_are_refused_before_any_is_issued() {
    let factory = Factory::new();
    factory.write("devices.csv", "serial,id\n11,a\n1,a1\n");
    let lines = factory.ledger();
    let batch = "batch --station line-1 --csv devices.csv --out";
    assert_snapshot!(factory.enrol(&format!("{batch} out/{{id}}{{serial}}")), @r"
    status 2

    error: `devices.csv` has a wrong line, and nothing was issued
      line 3: the bundle goes to `out/a11`, and so does that of line 2
          1,a1
    hint: put the list right and run the command again
    ");
    assert_eq!(factory.ledger(), lines);
    factory.enrol(&format!("{batch} out/{{id}}/{{serial}}")).ok();
}

#[test]
fn two_devices_that_a_card_with_fat_has_one_directory_for_are_refused_before_any_is_issued() {
    let factory = Factory::new();
    factory.write("devices.csv", "serial,id\nab1,gate-a\nAB1,gate-b\nSN3,Gate-A\n");
    let lines = factory.ledger();
    let batch = "batch --station line-1 --csv devices.csv --out";
    assert_snapshot!(factory.enrol(&format!("{batch} out")), @"
    status 2

    error: `devices.csv` has a wrong line, and nothing was issued
      line 4: the bundle goes to `out/Gate-A`, and that of line 2 to `out/gate-a`: FAT, which tells no capitals from small letters, has one directory for both
          SN3,Gate-A
    hint: put the list right and run the command again
    ");
    assert_snapshot!(factory.enrol(&format!("{batch} out/{{serial}}/etc")), @"
    status 2

    error: `devices.csv` has a wrong line, and nothing was issued
      line 3: the bundle goes to `out/AB1/etc`, and that of line 2 to `out/ab1/etc`: FAT, which tells no capitals from small letters, has one directory for both
          AB1,gate-b
    hint: put the list right and run the command again
    ");
    assert_eq!(factory.ledger(), lines);
    // What tells them apart otherwise is enough.
    factory.enrol(&format!("{batch} out/{{serial}}-{{id}}")).ok();
}
