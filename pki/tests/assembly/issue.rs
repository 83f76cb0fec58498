//! One device, with everything on the command line.

use std::fs;

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
    assert_snapshot!(ended.err, @"warning: the bundle was begun with other grains, which stay: site=bne; with --reissue the device gets others");
}

#[test]
fn a_device_gets_the_stations_masters_and_the_loss_of_its_grains_is_told() {
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
    assert_snapshot!(again.err, @"warning: the device had other grains before: site=bne; now it has none");
}
