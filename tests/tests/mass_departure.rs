//! A network that fails takes a whole fleet away in one moment. The master has to tell of each device, and to be there
//! for those that are left.

use std::time::Duration;

use drover_tests::{
    fleet::{Fleet, PATIENCE},
    process::{Daemon, program},
    wait,
};
use rustix::process::Signal;

/// So many ends at once, each handled within the one before, were too deep for a stack.
const DEVICES: usize = 2_500;

#[test]
fn a_fleet_that_goes_in_one_moment_does_not_take_the_master_along() {
    let mut fleet = Fleet::new();
    fleet.configure_master("acceptance: auto\n");
    fleet.enrol("honest-1", &[]);
    fleet.start_master();
    fleet.start_minion("honest-1");
    fleet.wait_connected(&["honest-1"]);
    let (pki, root) = (fleet.path("master/pki"), fleet.path("factory/root/root.crt"));
    let (address, count) = (fleet.master_address(), DEVICES.to_string());
    let arguments: [&std::ffi::OsStr; 8] = [
        "--fleet-ca".as_ref(),
        pki.as_ref(),
        "--root".as_ref(),
        root.as_ref(),
        "--master".as_ref(),
        address.as_ref(),
        "--count".as_ref(),
        count.as_ref(),
    ];
    let devices = Daemon::start(&program("drover-sim"), arguments, fleet.path("sim.log"));
    wait::until_some(
        "the fleet is there",
        Duration::from_secs(120),
        || devices.log().contains(&format!("connected {DEVICES} of")).then_some(()),
        || devices.log(),
    );
    // The master looks away, so that it meets all of the ends at once.
    fleet.master().signal(Signal::STOP);
    devices.kill();
    fleet.master().signal(Signal::CONT);
    let _ = fleet.wait_events("drover/minion/sim-*/stop", DEVICES);
    assert!(fleet.master().runs(), "{}", fleet.logs());
    wait::until("the honest minion is served", PATIENCE, || {
        fleet.drover(&["honest-1", "test.ping"]).status == 0
    });
}
