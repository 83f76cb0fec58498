//! A station is stolen: what is signed with its authority from then on is refused.

use std::fs;

use drover_tests::fleet::{Fleet, PATIENCE, run};
use drover_tests::{process::program, wait};
use serde_json::json;

#[test]
fn a_stolen_stations_new_devices_and_manifests_are_refused_and_the_others_stay() {
    let mut fleet = Fleet::connected(&["rfid-1"]);
    let reason = ["--reason", "laptop stolen"];
    let revoke = ["--out", "json", "key", "revoke", "--station", "line-1"];
    // A slip of the pen would be for good, and leave the thief his station.
    let slip = fleet.drover(&["key", "revoke", "--station", "line1"]);
    assert_eq!(slip.status, 3, "{}", slip.stderr);
    assert!(fleet.json(&["key", "stations"])["line1"].is_null());
    let told = fleet.drover(&[&revoke[..], &reason[..]].concat()).ok().json();
    assert_eq!((&told["kept"], &told["revoked"]), (&json!(["rfid-1"]), &json!([])));

    fleet.enrol("thief-1", &[]);
    let (station, manifest) = (fleet.path("stations/line-1"), fleet.path("stolen"));
    let (station, manifest) = (station.to_str().unwrap(), manifest.to_str().unwrap());
    let _ =
        run(&program("drover-enrol"), &["manifest", "--station", station, "--out", manifest]).ok();
    let refused = fleet.drover(&["key", "import", manifest]);
    assert_eq!(refused.status, 1, "{}", refused.stdout);
    assert!(refused.stderr.contains("station `line-1` is revoked since"), "{}", refused.stderr);
    fleet.start_minion("thief-1");
    wait::until("it is turned away", PATIENCE, || fleet.logs().contains("its station is revoked"));
    assert!(!fleet.json(&["key", "list"]).to_string().contains("thief"));
    let stations = fleet.json(&["key", "stations"]);
    assert_eq!(stations["line-1"]["devices"], json!({ "accepted": 1 }));
    assert_eq!(stations["line-1"]["reason"], "laptop stolen");

    let _ = fleet.drover(&[&revoke[..], &["--devices"], &reason[..]].concat()).ok();
    wait::until("the others are cut too", PATIENCE, || {
        fleet.json(&["presence"])["rfid-1"]["presence"] != "connected"
    });
    assert_eq!(fleet.json(&["key", "show", "rfid-1"])["status"], "revoked");
}

#[test]
fn imported_manifests_are_given_back_as_they_came() {
    let mut fleet = Fleet::new();
    fleet.start_master();
    for id in ["rfid-1", "rfid-2"] {
        fleet.enrol(id, &[]);
        fleet.register();
    }
    let last = fs::read(fleet.path("manifest")).unwrap();
    let out = fleet.path("back");
    let _ =
        fleet.drover(&["key", "manifest", "line-1", "--all", "--dir", out.to_str().unwrap()]).ok();
    assert_eq!(fs::read_dir(&out).unwrap().count(), 2);
    assert_eq!(fs::read(out.join("line-1-000002.json")).unwrap(), last);
    assert_eq!(
        fleet.drover(&["key", "manifest", "line-1", "9", "-o", out.to_str().unwrap()]).status,
        3
    );
}
