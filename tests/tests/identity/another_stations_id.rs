//! Two stations issue one id. The device that was registered first has it; openssl, which knows no registry, takes both.

use drover_tests::{
    fleet::{Fleet, run},
    openssl::{Contact, Shown},
    process::program,
};
use serde_json::{Value, json};

#[test]
fn an_id_that_another_station_registered_is_refused_with_its_manifest_and_at_the_door() {
    let mut fleet = Fleet::connected(&["rfid-1"]);
    fleet.new_station("line-2");
    let known = fleet.json(&["key", "show", "rfid-1"]);
    let is_as_before = |now: Value| {
        ["status", "key", "station", "serial"].iter().all(|field| now[field] == known[field])
    };
    let (station, bundle) = (fleet.path("stations/line-2"), fleet.minion_dir("second"));
    let [station, bundle] = [&station, &bundle].map(|path| path.to_str().unwrap().to_owned());
    let enrol = |verb: &str, more: &[&str]| {
        let arguments = [&[verb, "--station", &station], more].concat();
        run(&program("drover-enrol"), &arguments).ok()
    };
    let address = fleet.master_address();
    let device = ["--id", "rfid-1", "--serial", "SN-2", "--master", &address, "--out", &bundle];
    let _ = enrol("issue", &device);
    let other = ["--id", "rfid-2", "--serial", "SN-3", "--master", &address, "--out"];
    let right = fleet.minion_dir("rfid-2");
    let _ = enrol("issue", &[&other[..], &[right.to_str().unwrap()]].concat());

    let shown = Shown::of_device(&fleet, "second", "idevid");
    assert_eq!(shown.openssl_finds(&["-purpose", "sslclient"]), "");
    assert_eq!(shown.to_master(&fleet), Contact::Closed);
    let manifest = fleet.path("second.json");
    let manifest = manifest.to_str().unwrap();
    let _ = enrol("manifest", &["--out", manifest]);
    let told = fleet.drover(&["--out", "json", "key", "import", manifest]).json();
    // What is right in it is taken.
    assert_eq!(told["registered"], json!(["rfid-2"]), "{told}");
    assert!(told["refused"].to_string().contains("rfid-1"), "{told}");
    assert_eq!(shown.to_master(&fleet), Contact::Closed);
    assert!(is_as_before(fleet.json(&["key", "show", "rfid-1"])));

    fleet.start_minion("rfid-2");
    fleet.wait_connected(&["rfid-1", "rfid-2"]);
    assert_eq!(fleet.json(&["*", "test.ping"]), json!({ "rfid-1": true, "rfid-2": true }));
}
