//! Manifests that somebody made, changed, cut or brings again.

use std::fs;

use drover_tests::{
    fleet::{Fleet, Outcome, run},
    process::program,
};
use serde_json::json;

fn import(fleet: &Fleet, manifest: &[u8]) -> Outcome {
    let path = fleet.path("given");
    fs::write(&path, manifest).unwrap();
    fleet.drover(&["--out", "json", "key", "import", path.to_str().unwrap()])
}

fn is_refused(fleet: &Fleet, manifest: &[u8]) {
    let outcome = import(fleet, manifest);
    assert_eq!(outcome.status, 2, "a wrong file: {}", outcome.stderr);
    assert_eq!(fleet.json(&["key", "list"])["accepted"], json!([]));
}

#[test]
fn a_forged_a_changed_and_a_truncated_manifest_register_nobody() {
    let mut fleet = Fleet::new();
    fleet.start_master();
    fleet.enrol("rfid-1", &["site=bne"]);
    let (station, manifest) = (fleet.path("stations/line-1"), fleet.path("manifest"));
    let export = ["manifest", "--station", station.to_str().unwrap(), "--out"];
    let export = [&export[..], &[manifest.to_str().unwrap()]].concat();
    let _ = run(&program("drover-enrol"), &export).ok();
    let genuine = fs::read_to_string(&manifest).unwrap();

    // Another fleet's station, of the same name.
    let theirs = Fleet::new();
    theirs.enrol("rfid-1", &[]);
    let (station, forged) = (theirs.path("stations/line-1"), theirs.path("manifest"));
    let export = ["manifest", "--station", station.to_str().unwrap(), "--out"];
    let _ =
        run(&program("drover-enrol"), &[&export[..], &[forged.to_str().unwrap()]].concat()).ok();
    is_refused(&fleet, &fs::read(&forged).unwrap());

    // Its payload under our station's signature, and one letter changed.
    let field = |text: &str, name: &str| {
        let value: serde_json::Value = serde_json::from_str(text).unwrap();
        value[name].as_str().unwrap().to_owned()
    };
    let other = field(&fs::read_to_string(&forged).unwrap(), "payload");
    is_refused(&fleet, genuine.replace(&field(&genuine, "payload"), &other).as_bytes());
    let payload = field(&genuine, "payload");
    let middle = payload.len() / 2;
    let letter = if payload[middle..].starts_with('A') { "B" } else { "A" };
    let changed = format!("{}{letter}{}", &payload[..middle], &payload[middle + 1..]);
    is_refused(&fleet, genuine.replace(&payload, &changed).as_bytes());

    // Cut, at a few places and within what is signed.
    for part in [0, 1, 7, 20, 39] {
        is_refused(&fleet, &genuine.as_bytes()[..genuine.len() * part / 40]);
    }
    let cut = &payload[..payload.len() / 8 * 4];
    is_refused(&fleet, genuine.replace(&payload, cut).as_bytes());

    let told = import(&fleet, genuine.as_bytes()).ok().json();
    assert_eq!(told["registered"], json!(["rfid-1"]));
}

#[test]
fn a_manifest_that_is_brought_again_brings_nobody_back() {
    let mut fleet = Fleet::new();
    fleet.start_master();
    let mut manifests = Vec::new();
    for id in ["rfid-1", "rfid-2", "rfid-3"] {
        fleet.enrol(id, &[]);
        fleet.register();
        manifests.push(fs::read(fleet.path("manifest")).unwrap());
    }
    let known = import(&fleet, &manifests[2]).ok().json();
    assert_eq!((&known["registered"], &known["known"]), (&json!([]), &json!(["rfid-3"])));

    let _ = fleet.drover(&["key", "revoke", "rfid-1", "--reason", "stolen"]).ok();
    let _ = fleet.drover(&["key", "delete", "rfid-2", "-y"]).ok();
    for manifest in &manifests {
        let _ = import(&fleet, manifest);
    }
    let list = fleet.json(&["key", "list"]);
    assert_eq!(list["accepted"], json!(["rfid-3"]));
    assert_eq!(list["revoked"], json!(["rfid-1"]));
}
