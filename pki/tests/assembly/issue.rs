//! One device, with everything on the command line.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::Command;

use insta::assert_snapshot;

use super::Factory;

#[test]
fn a_bundle_that_is_finished_keeps_its_grains_and_says_so() {
    let factory = Factory::new();
    let issue = |site| {
        format!(
            "issue --station line-1 --id a --serial 1 --grain site={site} --master m:1 --out out/a"
        )
    };
    factory.enrol(&issue("bne")).ok();
    // As a power cut leaves it.
    let pki = factory.path("out/a/pki");
    fs::rename(pki.join("idevid.key"), pki.join("idevid.next.key")).unwrap();
    fs::remove_file(pki.join("idevid.crt")).unwrap();
    let ended = factory.enrol(&issue("syd")).ok();
    assert!(ended.out.starts_with("finished `a`"), "{ended}");
    assert_snapshot!(ended.err, @"warning: the bundle was begun with other grains, which stay: site=bne; with --reissue and --grain the device gets others");
}

#[test]
fn a_device_gets_the_stations_masters() {
    let factory = Factory::new();
    fs::write(factory.path("line-1/station.json"), r#"{"format":1,"masters":["m:1","n:2"]}"#)
        .unwrap();
    let issue = "issue --station line-1 --id a --serial 1";
    let first = factory.enrol(&format!("{issue} --grain site=bne --out a")).ok();
    assert_eq!(first.err, "");
    let written =
        |bundle: &str| fs::read_to_string(factory.path(bundle).join("minion.yml")).unwrap();
    assert!(written("a").contains("master: ['m:1', 'n:2']"), "{}", written("a"));
    let again = format!("{issue} --master o:3 --reissue --reason lost --out b");
    let again = factory.enrol(&again).ok();
    assert!(written("b").contains("master: 'o:3'"), "{}", written("b"));
    assert_eq!(again.err, "");
}

#[test]
fn a_device_that_is_issued_again_keeps_the_grains_that_are_not_given_anew() {
    let factory = Factory::with("--id-template r-{serial} --master m:1 --grain model=R1");
    let grains = || {
        let ledger = factory.read("line-1/ledger.ndjson");
        let line: serde_json::Value = serde_json::from_str(ledger.lines().last().unwrap()).unwrap();
        line["grains"].to_string()
    };
    let issue = "issue --station line-1 --serial SN1";
    let first = "--grain site=bne --grain lot=0012 --grain model=R2";
    factory.enrol(&format!("{issue} {first} --out a")).ok();
    let again = factory.enrol(&format!("{issue} --reissue --reason lost --grain lot=7 --out b"));
    assert_eq!(again.ok().err, "");
    assert_eq!(grains(), r#"{"lot":"7","model":"R2","site":"bne"}"#);

    let station = "station --station line-1 --out c --grain rack=4";
    let ended = factory.enrol_with(station, b"reissue lost card\nSN1\n").ok();
    assert!(ended.out.contains("issued again and read back"), "{ended}");
    assert_eq!(grains(), r#"{"lot":"7","model":"R2","rack":"4","site":"bne"}"#);

    factory.write("devices.csv", "serial,site,lot\nSN1,syd,\n");
    let batch = "batch --station line-1 --csv devices.csv --out d --reissue --reason recall";
    let done = factory.enrol(batch).ok();
    assert!(done.out.starts_with("issued 0 devices; issued 1 again\n"), "{done}");
    assert_eq!(grains(), r#"{"lot":"7","model":"R2","rack":"4","site":"syd"}"#);
    let done = factory.enrol(batch).ok();
    assert!(done.out.starts_with("issued 0 devices; skipped 1"), "{done}");
}

#[test]
fn one_device_is_issued_by_the_stations_settings_as_a_list_is() {
    let factory = Factory::with(
        "--id-template r-{serial} --master 10.0.0.1:4510 --grain site=bne --grain model=R1",
    );
    let issue = "issue --station line-1";
    let first = factory.enrol(&format!("{issue} --serial SN1 --out a")).ok();
    assert!(first.out.starts_with("issued `r-SN1` with the serial number `SN1` in a\n"), "{first}");
    assert_eq!(first.err, "");
    assert!(factory.read("a/minion.yml").contains("master: '10.0.0.1:4510'"));
    // A list that has it finds it issued alike.
    factory.write("devices.csv", "serial\nSN1\n");
    let list = factory.enrol("batch --station line-1 --csv devices.csv --out out").ok();
    assert!(list.out.starts_with("issued 0 devices; skipped 1"), "{list}");

    let other = "--id gate-2 --master 10.0.0.2:4510 --grain model=R2 --grain lot=7";
    factory.enrol(&format!("{issue} --serial SN2 {other} --out b")).ok();
    assert!(factory.read("b/minion.yml").contains("master: '10.0.0.2:4510'"));
    factory.enrol("manifest --station line-1 --out m").ok();
    let shown = factory.enrol("show m").ok().out;
    let shown = |id: &str| shown.lines().find(|line| line.contains(id)).unwrap();
    assert!(shown("r-SN1").ends_with(", model=R1, site=bne"), "{}", shown("r-SN1"));
    assert!(shown("gate-2").ends_with(", lot=7, model=R2, site=bne"), "{}", shown("gate-2"));
}

#[test]
fn a_device_without_an_id_needs_a_template_that_makes_one() {
    let factory = Factory::with("");
    let issue = "issue --station line-1 --serial SN1/2 --out a";
    assert_snapshot!(factory.enrol(issue), @r#"
    status 2

    error: no --id was given, and the station in `line-1` has no template
    hint: give --id, or add `"id_template": "rfid-{serial}"` to its station.json
    "#);
    factory.write("line-1/station.json", r#"{"format": 1, "id_template": "r-{serial}"}"#);
    assert_snapshot!(factory.enrol(issue), @"
    status 2

    error: the template `r-{serial}` makes no id of the serial number `SN1/2`: minion id `r-SN1/2` has the character `/`, allowed are A-Z a-z 0-9 . _ -
    hint: is it the right serial number? if it is, give --id
    ");
    assert!(!factory.path("a").exists());
}

#[test]
fn who_did_it_is_the_users_number_where_nobody_is_logged_in() {
    let factory = Factory::new();
    let by = |serial: &str, name: Option<(&str, &str)>| {
        let out = factory.path(serial);
        let mut command = Command::new(env!("CARGO_BIN_EXE_drover-enrol"));
        command.args(["issue", "--station", "line-1", "--serial", serial, "--out"]).arg(out);
        let output = command.current_dir(factory.path("")).env_clear().envs(name).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let ledger = factory.read("line-1/ledger.ndjson");
        let line: serde_json::Value = serde_json::from_str(ledger.lines().last().unwrap()).unwrap();
        line["by"].as_str().unwrap().to_owned()
    };
    let number = fs::metadata(factory.path("line-1/ca.key")).unwrap().uid();
    assert_eq!(by("1", None), format!("uid {number}"));
    assert_eq!(by("2", Some(("LOGNAME", "ann"))), "ann");
    assert_eq!(by("3", Some(("USER", ""))), format!("uid {number}"));
}
