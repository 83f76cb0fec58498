//! The file bridge writes every event as a line of JSON, once, also over a killed master.

use std::{collections::BTreeSet, fs};

use drover_tests::{
    fleet::{Fleet, PATIENCE},
    wait,
};
use serde_json::Value;

fn lines(fleet: &Fleet) -> Vec<Value> {
    let content = fs::read_to_string(fleet.path("events.ndjson")).unwrap_or_default();
    // A line that is being written has no end yet.
    let whole = content.rfind('\n').map_or("", |end| &content[..end]);
    whole.lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect()
}

#[test]
fn every_event_is_a_line() {
    let mut fleet = Fleet::new();
    let path = fleet.path("events.ndjson");
    fleet.configure_master(&format!(
        "bridges: [{{name: log, type: file, path: {}}}]\n",
        path.display()
    ));
    fleet.start_master();
    for number in 0..5 {
        let _ = fleet.drover(&["events", "send", "count/up", &format!("n={number}")]).ok();
    }
    fleet.kill_master();
    fleet.start_master();
    let _ = fleet.drover(&["events", "send", "count/end"]).ok();
    wait::until("the last event is in the file", PATIENCE, || {
        lines(&fleet).iter().any(|event| event["tag"] == "count/end")
    });
    let written: Vec<u64> =
        lines(&fleet).iter().filter_map(|event| event["seq"].as_u64()).collect();
    let kept: BTreeSet<u64> =
        fleet.events("*").iter().filter_map(|event| event["seq"].as_u64()).collect();
    let end = *written.last().expect("there are lines");
    assert!(kept.iter().filter(|seq| **seq <= end).all(|seq| written.contains(seq)));
    let ordered: BTreeSet<u64> = written.iter().copied().collect();
    assert_eq!(ordered.len(), written.len(), "a line is there twice");
}

/// `drover bridge status --out json` of one bridge.
fn status(fleet: &Fleet, bridge: &str) -> Value {
    fleet.drover(&["bridge", "status", bridge, "--out", "json"]).json()[bridge].clone()
}

#[test]
fn a_bridge_is_tested_paused_replayed_and_its_dead_letters_are_seen_to() {
    let mut fleet = Fleet::new();
    let path = fleet.path("events.ndjson");
    let form = fleet.path("form.txt");
    fleet.configure_master(&format!(
        "bridges:\n  - {{name: log, type: file, path: {}, filter: 'count/*', batch_delay: 10ms}}\n  \
         - {{name: form, type: file, path: {}, filter: 'count/*', batch_delay: 10ms, \
         template: '{{{{ event.tag }}}} {{{{ event.data.badge }}}}'}}\n",
        path.display(),
        form.display()
    ));
    fleet.start_master();
    let count = |data: &str| drop(fleet.drover(&["events", "send", "count/up", data]).ok());
    count("n=1");
    count("badge=7");
    wait::until("one event has no badge and the other is written", PATIENCE, || {
        status(&fleet, "form")["dead_letters"] == 1 && form.exists()
    });
    assert_eq!(fs::read_to_string(&form).expect("it is there"), "count/up 7\n");
    let letters = fleet.drover(&["bridge", "dead-letters", "list", "form", "--out", "json"]).json();
    let letter = &letters[0];
    assert_eq!((&letter["bridge"], &letter["tag"]), (&"form".into(), &"count/up".into()));
    let id = letter["id"].as_str().expect("a letter has its event's id");
    let shown =
        fleet.drover(&["bridge", "dead-letters", "show", "form", id, "--out", "json"]).json();
    assert_eq!(shown["event"]["data"]["n"], 1);
    assert!(shown["reason"].as_str().is_some_and(|reason| reason.contains("badge")), "{shown}");
    let _ = fleet.drover(&["bridge", "dead-letters", "drop", "form", id]).ok();
    wait::until("it is forgotten", PATIENCE, || status(&fleet, "form")["dead_letters"] == 0);

    // A test goes where the others go, and says so.
    let tested = fleet.drover(&["bridge", "test", "log", "--out", "json"]).json();
    assert_eq!((&tested["bridge"], &tested["verdict"]), (&"log".into(), &"done".into()));
    assert!(lines(&fleet).iter().any(|event| event["tag"] == "drover/bridge/log/test"));
    let refused = fleet.drover(&["bridge", "test", "form"]);
    assert_eq!(refused.status, 1, "{refused:?}");

    // What is paused stays so over a restart, and misses nothing.
    let _ = fleet.drover(&["bridge", "pause", "log"]).ok();
    count("n=2");
    fleet.kill_master();
    fleet.start_master();
    let paused = status(&fleet, "log");
    assert_eq!(paused["state"], "paused");
    assert!(paused["lag"]["events"].as_u64() > Some(0), "{paused}");
    let numbers = |fleet: &Fleet| -> Vec<Value> {
        let own = lines(fleet).into_iter().filter(|event| event["tag"] == "count/up");
        own.map(|event| event["data"]["n"].clone()).collect()
    };
    assert_eq!(numbers(&fleet), [Value::from(1), Value::Null]);
    let _ = fleet.drover(&["bridge", "resume", "log"]).ok();
    wait::until("what waited is written", PATIENCE, || numbers(&fleet).len() == 3);

    // A file has twice what is sent twice: that has to be said.
    let asked = fleet.drover(&["bridge", "replay", "log", "--since", "1"]);
    assert_eq!(asked.status, 1, "{asked:?}");
    let _ = fleet.drover(&["bridge", "replay", "log", "--since", "1", "-y"]).ok();
    wait::until("all is written once more", PATIENCE, || numbers(&fleet).len() == 6);
}
