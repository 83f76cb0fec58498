//! A device is revoked while it is connected, however far its connection has come: it is cut within a second.

use std::time::Duration;

use drover_tests::{
    fleet::Fleet,
    openssl::{Contact, Shown, Stranger, zmtp_greeting, zmtp_ready},
    wait,
};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

const SECOND: Duration = Duration::from_secs(1);

/// Connections with a device's certificates, none of which has come to a session: one that the master has greeted, and
/// one that has opened ZMTP and owes its first message. The master waits for longer than a second for what they owe.
fn strangers(fleet: &Fleet, id: &str) -> Vec<Stranger> {
    let mut strangers =
        Vec::from(["idevid", "ldevid"].map(|kind| Shown::of_device(fleet, id, kind).dial(fleet)));
    for stranger in &mut strangers {
        assert_eq!(stranger.contact(), Contact::Greeted);
    }
    strangers[1].say(&[zmtp_greeting(), zmtp_ready(id)].concat());
    strangers
}

fn told_at(event: &Value) -> Timestamp {
    event["ts"].as_str().unwrap().parse().unwrap()
}

#[test]
fn every_connection_of_a_revoked_device_is_cut_within_a_second() {
    let mut fleet = Fleet::connected(&["rfid-1", "rfid-2"]);
    let (mut revoked, mut kept) = (strangers(&fleet, "rfid-1"), strangers(&fleet, "rfid-2"));
    let _ = fleet.drover(&["key", "revoke", "rfid-1", "--reason", "stolen", "-y"]).ok();
    wait::until("its connections are cut", SECOND, || {
        let is_cut = fleet.minion("rfid-1").log().contains("the connection to the master ended");
        is_cut && revoked.iter_mut().all(|stranger| !stranger.is_open())
    });
    assert!(kept[1].is_open(), "others stay");
    let at = told_at(&fleet.wait_events("drover/key/rfid-1/revoked", 1)[0]);
    let stopped = told_at(&fleet.wait_events("drover/minion/rfid-1/stop", 1)[0]);
    assert!(at.duration_until(stopped) < SignedDuration::from_secs(1), "{at} {stopped}");
    assert_eq!(fleet.events("drover/minion/rfid-2/stop"), Vec::<Value>::new());
    assert_eq!(fleet.json(&["presence"])["rfid-2"]["presence"], "connected");
    // A target never selects it.
    assert_eq!(fleet.drover(&["rfid-1", "test.ping"]).status, 3);
}
