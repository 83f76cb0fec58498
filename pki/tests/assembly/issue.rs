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
