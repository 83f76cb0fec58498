//! A minion that falls silent is stale, then lost; one that returns is back. All three are events.

use drover_tests::fleet::Fleet;
use rustix::process::Signal;

fn fleet() -> Fleet {
    let mut fleet = Fleet::new();
    fleet.configure_master("presence_grace: 2s\n");
    fleet.enrol("rfid-1", &[]);
    fleet.configure_minion("rfid-1", "heartbeat: 500ms\n");
    fleet.bring_up(&["rfid-1"]);
    fleet
}

#[test]
fn a_killed_minion_is_stale_then_lost_and_back_when_it_returns() {
    let mut fleet = fleet();
    fleet.kill_minion("rfid-1");
    let _ = fleet.wait_events("drover/presence/rfid-1/stale", 1);
    let _ = fleet.wait_events("drover/presence/rfid-1/lost", 1);
    fleet.wait_presence(&["rfid-1"], "lost");
    fleet.start_minion("rfid-1");
    let _ = fleet.wait_events("drover/presence/rfid-1/back", 1);
    fleet.wait_connected(&["rfid-1"]);
}

#[test]
fn a_minion_that_hangs_is_stale_though_its_connection_stands() {
    let mut fleet = fleet();
    fleet.minion("rfid-1").signal(Signal::STOP);
    let _ = fleet.wait_events("drover/presence/rfid-1/stale", 1);
    fleet.minion("rfid-1").signal(Signal::CONT);
    fleet.wait_connected(&["rfid-1"]);
}
