//! Keys under a passphrase: made here and read by openssl, and the other way round.

use std::os::unix::fs::PermissionsExt;

use insta::assert_snapshot;

use super::{Workshop, enrol};

/// A fleet and a station whose keys have passphrases.
fn encrypted() -> Workshop {
    let workshop = Workshop::new();
    workshop.write("root.pass", "correct horse\n");
    workshop.write("pass", "battery staple\n");
    let root = "--root-passphrase-file root.pass";
    let own = "--passphrase-file pass";
    let made = workshop.enrol(&format!("init-fleet --name acme --dir fleet {own} {root}")).ok();
    assert_eq!(made.stderr, "");
    let station = "init-station --fleet fleet --name line-1 --dir line-1";
    let made = workshop.enrol(&format!("{station} {own} {root}")).ok();
    assert_eq!(made.stderr, "");
    workshop
}

#[test]
fn openssl_reads_encrypted_keys_with_their_passphrases() {
    let workshop = encrypted();
    for (key, certificate, passphrase) in [
        ("fleet/root/root.key", "fleet/root/root.crt", "root.pass"),
        ("fleet/master/fleet-ca.key", "fleet/master/fleet-ca.crt", "pass"),
        ("line-1/ca.key", "line-1/ca.crt", "pass"),
    ] {
        assert!(workshop.read(key).starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----\n"));
        let mode = std::fs::metadata(workshop.path(key)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let line = format!("pkey -in {key} -passin file:{passphrase} -pubout");
        assert_eq!(workshop.openssl(&line).ok().stdout, workshop.certified_key(certificate));
        let parameters = workshop.openssl(&format!("asn1parse -in {key}")).ok().stdout;
        for part in [":PBES2", ":PBKDF2", ":hmacWithSHA256", ":0927C0", ":aes-256-cbc"] {
            assert!(parameters.contains(part), "{part} is not in {parameters}");
        }
    }
    // The master's own key stays plain: it must start unattended.
    assert!(workshop.read("fleet/master/master.key").contains("BEGIN PRIVATE KEY"));
}

#[test]
fn unfinished_bundles_are_listed_without_the_passphrase_and_finished_with_it() {
    let workshop = encrypted();
    let list = "ledger unfinished --station line-1";
    assert_eq!(workshop.enrol(list).ok().stdout, "every bundle is finished\n");
    for (id, serial) in [("rfid-1", "SN1"), ("rfid-2", "SN2")] {
        let issue = format!("issue --station line-1 --id {id} --serial {serial} --out {id}");
        let _ = workshop.enrol(&format!("{issue} --passphrase-file pass")).ok();
    }
    // As a power cut leaves them.
    std::fs::create_dir_all(workshop.path("line-1/unfinished")).unwrap();
    for line in workshop.read("line-1/ledger.ndjson").lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        let id = line["id"].as_str().unwrap();
        let note = serde_json::json!({
            "id": id, "serial": line["serial"], "key": line["key"], "key_on_device": false,
            "masters": [], "out": workshop.path(id),
        });
        workshop.write(&format!("line-1/unfinished/{id}.json"), &note.to_string());
    }
    let revoke = "revoke --station line-1 --id rfid-2 --reason lost --passphrase-file pass";
    let _ = workshop.enrol(revoke).ok();
    let path = workshop.path("rfid-1");
    let begun = format!("`rfid-1` with the serial number `SN1` in {}\n", path.display());
    assert_eq!(workshop.enrol(list).ok().stdout, begun);
    let refused = workshop.enrol(&format!("{list} --finish")).refused(2);
    assert!(refused.contains("`line-1/ca.key` is encrypted"), "{refused}");
    let finished = workshop.enrol(&format!("{list} --finish --passphrase-file pass")).ok();
    assert_eq!(finished.stdout, format!("finished {begun}"));
    assert_eq!(workshop.enrol(list).ok().stdout, "every bundle is finished\n");
}

#[test]
fn a_station_with_a_passphrase_does_all_its_work() {
    let workshop = encrypted();
    let issue = "issue --station line-1 --id rfid-1 --serial SN1 --out rfid-1";
    let _ = workshop.enrol(&format!("{issue} --passphrase-file pass")).ok();
    workshop.verify("rfid-1/pki/idevid.crt");
    let manifest = "manifest --station line-1 --out m.json --passphrase-file pass";
    let _ = workshop.enrol(manifest).ok();
    let _ = workshop.enrol("verify --root fleet/root/root.crt m.json").ok();
    let operator = "operator --fleet fleet --name ann --out ann --passphrase-file pass";
    let _ = workshop.enrol(operator).ok();
    workshop.verify("ann/operator.crt");
}

#[test]
fn a_passphrase_comes_from_a_descriptor() {
    let workshop = encrypted();
    let script = format!(
        "{} issue --station line-1 --id a --serial 1 --out a --passphrase-fd 3 3<pass && \
         {{ cat pass; echo 'another line'; }} | (
             {} issue --station line-1 --id b --serial 2 --out b --passphrase-fd 0 && cat >rest)",
        enrol(),
        enrol()
    );
    let _ = workshop.run("sh", &["-c", &script]).ok();
    workshop.verify("a/pki/idevid.crt");
    workshop.verify("b/pki/idevid.crt");
    // Nothing but the line is taken: scans may follow it.
    assert_eq!(workshop.read("rest"), "another line\n");
}

#[test]
fn a_wrong_passphrase_is_refused_and_not_repeated() {
    let workshop = encrypted();
    workshop.write("wrong", "incorrect donkey\n");
    let issue = "issue --station line-1 --id a --serial 1 --out a";
    let refusal = workshop.enrol(&format!("{issue} --passphrase-file wrong")).refused(2);
    assert_snapshot!(refusal, @r"
    error: `line-1` cannot be used as a station
      caused by: `line-1/ca.key` cannot be decrypted
      caused by: the passphrase is wrong
    ");
    assert!(!workshop.path("a").exists());
}

#[test]
fn a_root_with_a_passphrase_of_its_own_says_how_to_give_it() {
    let workshop = encrypted();
    let station = "init-station --fleet fleet --name line-2 --dir line-2";
    assert_snapshot!(workshop.enrol(&format!("{station} --passphrase-file pass")).refused(1), @"
    error: `fleet/root/root.key` cannot be decrypted
      caused by: the passphrase is wrong
    hint: this is the root's key: where it has a passphrase or a PIN of its own, give that with --root-passphrase-file FILE or --root-passphrase-fd N
    ");
    for verb in [station, "rotate-root --fleet fleet --out o --passphrase-file pass"] {
        let refusal = workshop.enrol(verb).refused(1);
        assert!(refusal.contains("hint: this is the root's key: "), "{verb}: {refusal}");
    }
    // Who gave it one of its own knows.
    let wrong = format!("{station} --passphrase-file pass --root-passphrase-file pass");
    let refusal = workshop.enrol(&wrong).refused(1);
    assert!(!refusal.contains("this is the root's key"), "{refusal}");
    assert!(!workshop.path("line-2").exists());
}

#[test]
fn a_missing_passphrase_says_how_to_give_it() {
    let workshop = encrypted();
    let refusal = workshop.enrol("operator --fleet fleet --name ann --out ann").refused(1);
    assert_snapshot!(refusal, @r"
    error: `fleet/master/fleet-ca.key` is encrypted
      caused by: no passphrase was given for `fleet/master/fleet-ca.key`
    hint: give it with --passphrase-file FILE or --passphrase-fd N, or on a terminal
    ");
    workshop.write("empty", "\n");
    let empty = "operator --fleet fleet --name ann --out ann --passphrase-file empty";
    assert_snapshot!(workshop.enrol(empty).refused(1), @r"
    error: `fleet/master/fleet-ca.key` is encrypted
      caused by: `empty` has no passphrase in its first line
    hint: give it with --passphrase-file FILE or --passphrase-fd N, or on a terminal
    ");
}

#[test]
fn keys_that_openssl_encrypted_are_read() {
    let workshop = Workshop::new();
    workshop.write("pass", "battery staple\n");
    let _ = workshop.enrol("init-fleet --name acme --dir fleet").ok();
    let _ = workshop.enrol("init-station --fleet fleet --name line-1 --dir line-1").ok();
    std::fs::rename(workshop.path("line-1/ca.key"), workshop.path("plain.key")).unwrap();
    for (number, way) in
        ["-v2 aes-256-cbc -iter 100000", "-v2 aes-128-cbc", "-scrypt"].into_iter().enumerate()
    {
        let encrypt =
            format!("pkcs8 -topk8 {way} -in plain.key -out line-1/ca.key -passout file:pass");
        let _ = workshop.openssl(&encrypt).ok();
        let issue =
            format!("issue --station line-1 --id d{number} --serial {number} --out d{number}");
        let _ = workshop.enrol(&format!("{issue} --passphrase-file pass")).ok();
        workshop.verify(&format!("d{number}/pki/idevid.crt"));
    }
    let old = "pkcs8 -topk8 -v1 PBE-SHA1-3DES -in plain.key -out line-1/ca.key -passout file:pass";
    let _ = workshop.openssl(old).ok();
    let issue = "issue --station line-1 --id x --serial x --out x --passphrase-file pass";
    let refusal = workshop.enrol(issue).refused(2);
    assert!(refusal.contains("hint: encrypt it with PBES2"), "{refusal}");
}

#[test]
fn a_passphrase_is_changed() {
    let workshop = encrypted();
    workshop.write("new", "tr0ub4dor\n");
    let change = "passphrase line-1/ca.key --passphrase-file pass --new-passphrase-file new";
    let _ = workshop.enrol(change).ok();
    let _ = workshop.openssl("pkey -in line-1/ca.key -passin file:new -noout").ok();
    assert_ne!(workshop.openssl("pkey -in line-1/ca.key -passin file:pass -noout").status, 0);

    let open = "passphrase line-1/ca.key --passphrase-file new --no-passphrase";
    let warned = workshop.enrol(open).ok().stderr;
    assert_snapshot!(warned, @"warning: `line-1/ca.key` is not encrypted; who reads it can issue certificates");
    let _ = workshop.openssl("pkey -in line-1/ca.key -noout").ok();

    // Nothing was said of a new one, so nothing changes.
    let refusal = workshop.enrol("passphrase line-1/ca.key").refused(2);
    assert!(refusal.contains("no new passphrase was given"), "{refusal}");
}

#[test]
fn without_a_passphrase_and_a_terminal_keys_are_plain_and_a_warning_says_so() {
    let workshop = Workshop::new();
    let warned = workshop.enrol("init-fleet --name acme --dir fleet").ok().stderr;
    assert_snapshot!(warned, @r"
    warning: `fleet/root/root.key` is not encrypted; who reads it can issue certificates
    warning: `fleet/master/fleet-ca.key` is not encrypted; who reads it can issue certificates
    ");
}
