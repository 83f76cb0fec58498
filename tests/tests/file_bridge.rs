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
