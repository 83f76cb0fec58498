//! The two local sockets, used by the programs in `examples/` with libzmq itself: a device's program sends an event,
//! a consumer on the master's machine reads it.

use std::path::Path;

use drover_tests::{
    fleet::{Fleet, PATIENCE, run},
    parts::script,
    process::Daemon,
    wait,
};
use serde_json::json;

fn example(name: &str) -> String {
    format!("{}/../examples/{name}", env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn a_devices_own_program_sends_an_event_that_a_consumer_reads() {
    let python = script("python", &[]);
    let fleet = Fleet::connected(&["rfid-1"]);

    let bus = fleet.path("master/run/events.ipc");
    let consumer = Daemon::start(
        Path::new(&python),
        [&example("subscribe.py"), bus.to_str().unwrap(), "drover/app/"],
        fleet.path("consumer.log"),
    );
    let socket = fleet.path("minions/rfid-1/run/events.ipc");
    // A subscription takes effect a moment after it is made, and PUB keeps nothing for later: so send until it is seen.
    let mut sent = 0;
    wait::until("the consumer prints the event", PATIENCE, || {
        sent += 1;
        let arguments = [
            &example("send_event.py"),
            socket.to_str().unwrap(),
            "door/open",
            r#"{"badge": 4711}"#,
        ];
        let _ = run(Path::new(&python), &arguments).ok();
        consumer.log().contains("drover/app/rfid-1/door/open")
    });
    let events = fleet.wait_events("drover/app/rfid-1/door/open", sent);
    assert_eq!(events[0]["data"], json!({"badge": 4711}), "exactly the data that was sent");
    assert_eq!(events[0]["minion"], "rfid-1");
    let line = consumer.log();
    let printed = line.split_once(' ').expect("a tag and an event").1.lines().next().unwrap();
    let printed: serde_json::Value =
        serde_json::from_str(printed).expect("the example prints JSON");
    for field in ["id", "seq", "ts", "tag", "minion", "data"] {
        assert!(printed.get(field).is_some(), "`{field}` is not in {printed}");
    }
}

#[test]
fn an_event_sent_while_the_master_is_away_arrives_later() {
    let python = script("python", &[]);
    let mut fleet = Fleet::connected(&["rfid-1"]);
    fleet.kill_master();
    let socket = fleet.path("minions/rfid-1/run/events.ipc");
    let arguments = [&example("send_event.py"), socket.to_str().unwrap(), "tank/empty", "{}"];
    let _ = run(Path::new(&python), &arguments).ok();
    fleet.start_master();
    let events = fleet.wait_events("drover/app/rfid-1/tank/empty", 1);
    assert_eq!(events.len(), 1);
}

#[test]
fn a_program_that_ends_at_once_waits_for_an_agent_that_takes_its_event_later() {
    let python = script("python", &[]);
    let mut fleet = Fleet::connected(&["rfid-1"]);
    fleet.stop_minion("rfid-1");
    let socket = fleet.path("minions/rfid-1/run/events.ipc");
    let _program = Daemon::start(
        Path::new(&python),
        [&example("send_event.py"), socket.to_str().unwrap(), "door/open", "{}"],
        fleet.path("program.log"),
    );
    fleet.start_minion("rfid-1");
    let _ = fleet.wait_events("drover/app/rfid-1/door/open", 1);
}

#[test]
fn a_socket_lies_in_a_directory_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let fleet = Fleet::connected(&["rfid-1"]);
    let mode = fleet.path("minions/rfid-1/run").metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}
