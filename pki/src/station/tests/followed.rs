//! A station whose fleet has another root now.

use super::*;
use crate::ledger::Finding;
use crate::safe::{Safe, follow};

fn findings(factory: &TempDir) -> Vec<Finding> {
    inspect(&factory.path().join("station"), NOW).unwrap().ledger.findings
}

#[test]
fn copies_of_manifests_outlive_the_root_that_they_were_signed_under() {
    let factory = factory();
    let manifest = |station: &mut Station, n: &str| {
        station.issue(&request(&factory, n, n), NOW).unwrap();
        station.export(n == "2", &factory.path().join(format!("m{n}")), &ann(), NOW).unwrap();
    };
    let mut before = station(&factory);
    manifest(&mut before, "1");
    manifest(&mut before, "2");
    drop(before);

    let safe = Safe::new(&factory.path().join("fleet"));
    let out = |name| factory.path().join(name);
    let one = safe.rotate(&[], &out("1.json"), &NOWHERE, &NewKey::unencrypted(), NOW).unwrap();
    let two = safe.drop_root("root", &out("2.json"), &NOWHERE, NOW).unwrap();
    for list in [&one, &two] {
        follow(&factory.path().join("station"), &list.signed.text).unwrap();
        assert_eq!(findings(&factory), []);
    }
    manifest(&mut station(&factory), "3");
    assert_eq!(findings(&factory), []);

    // One that somebody was at is found all the same, and so is a number in another one's place.
    let copies = factory.path().join("station/manifests");
    let whole = fs::read_to_string(copies.join("000001.json")).unwrap();
    fs::write(
        copies.join("000001.json"),
        whole.replacen("\"payload\": \"ey", "\"payload\": \"eX", 1),
    )
    .unwrap();
    assert_eq!(findings(&factory), [Finding::Manifest { number: 1 }]);
    fs::write(copies.join("000001.json"), whole).unwrap();

    // The station that is made again in its place has copies that another key signed, under the old root.
    replacement::replace(&factory, &["m2", "m3"]).unwrap();
    assert_eq!(findings(&factory), []);
    manifest(&mut station(&factory), "4");
    assert_eq!(findings(&factory), []);
    // What another key signed is no manifest of its own.
    fs::copy(copies.join("000003.json"), copies.join("000004.json")).unwrap();
    assert_eq!(findings(&factory), [Finding::Manifest { number: 4 }]);
}
