//! The minion for a 32-bit ARM device, under qemu: it connects, answers and applies a file state.

use std::{fs, path::PathBuf};

use drover_tests::{
    fleet::Fleet,
    process::{Daemon, program},
};

/// The program that `tests/parts/arm-minion` built, beside the build directory of this test.
fn arm_minion() -> PathBuf {
    let debug = program("drover-minion");
    let target = debug.parent().and_then(|dir| dir.parent()).expect("target/debug/drover-minion");
    let path = target.join("armv7-unknown-linux-gnueabihf/debug/drover-minion");
    assert!(path.is_file(), "{} is not there: run tests/parts/arm-minion", path.display());
    path
}

#[test]
fn a_32_bit_arm_minion_connects_answers_and_applies_a_file_state() {
    let mut fleet = Fleet::new();
    let file = fleet.path("written-on-arm");
    fleet.write(
        "master/states/arm.sls",
        &format!(
            "arm:\n  file.managed:\n    - name: {}\n    - contents: {{{{ grains['cpuarch'] }}}}\n",
            file.display()
        ),
    );
    fleet.enrol("arm-1", &[]);
    fleet.start_master();
    fleet.register();
    let arguments = [
        "-L",
        "/usr/arm-linux-gnueabihf",
        arm_minion().to_str().unwrap(),
        "-c",
        fleet.minion_dir("arm-1").to_str().unwrap(),
    ]
    .map(str::to_owned);
    let mut minion =
        Daemon::start("/usr/bin/qemu-arm-static".as_ref(), arguments, fleet.path("arm.log"));
    fleet.wait_connected(&["arm-1"]);
    assert_eq!(fleet.json(&["arm-1", "test.ping"]), serde_json::json!({"arm-1": true}));
    let _ = fleet.drover(&["arm-1", "state.apply", "arm"]).ok();
    let content = fs::read_to_string(&file).unwrap();
    assert!(content.starts_with("armv"), "qemu's ARM calls itself {content}");
    assert!(minion.runs());
    minion.stop();
}
