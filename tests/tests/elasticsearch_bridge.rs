//! Every event reaches a real Elasticsearch once: over payloads of changing kinds, a killed server and a killed master.

use std::{collections::BTreeSet, time::Duration};

use drover_tests::{
    fleet::{Fleet, PATIENCE},
    parts::Elasticsearch,
    wait,
};

/// All documents of the index, by a search that sees everything indexed so far.
fn documents(node: &Elasticsearch) -> Vec<serde_json::Value> {
    let _ = node.request("POST", "/drover-events*/_refresh", "");
    let found = node.request(
        "POST",
        "/drover-events*/_search",
        r#"{"size": 10000, "sort": [{"seq": "asc"}], "query": {"match_all": {}}}"#,
    );
    found["hits"]["hits"].as_array().cloned().unwrap_or_default()
}

fn sequence(fleet: &Fleet) -> BTreeSet<u64> {
    fleet.events("*").iter().filter_map(|event| event["seq"].as_u64()).collect()
}

fn arrived(node: &Elasticsearch) -> Vec<u64> {
    documents(node).iter().filter_map(|hit| hit["_source"]["seq"].as_u64()).collect()
}

#[test]
fn events_reach_elasticsearch_once_whatever_is_killed() {
    let mut fleet = Fleet::new();
    // Declared after the fleet, so it ends before the directory that it lies in goes.
    let node = Elasticsearch::start(fleet.path("elasticsearch"), &[]);
    fleet.configure_master(&format!(
        "bridges: [{{name: elk, type: elasticsearch, hosts: ['{}'], index: drover-events}}]\n",
        node.url()
    ));
    fleet.enrol("rfid-1", &[]);
    fleet.configure_minion("rfid-1", "heartbeat: 1s\nbeacons: {load: [{interval: 1}]}\n");
    fleet.start_master();
    fleet.register();
    fleet.start_minion("rfid-1");
    let _ = fleet.wait_events("drover/beacon/rfid-1/*", 3);

    // A payload field that is a boolean now, a number later and then a map.
    let _ = fleet.drover(&["events", "send", "shape/one", "value=true"]).ok();
    let _ = fleet.drover(&["events", "send", "shape/two", "value=7"]).ok();
    let _ = fleet.drover(&["events", "send", "shape/three", "value={deep: [1, x]}"]).ok();
    wait::until("the three shapes arrive", PATIENCE, || {
        let found = documents(&node);
        ["shape/one", "shape/two", "shape/three"]
            .iter()
            .all(|tag| found.iter().any(|hit| hit["_source"]["tag"] == *tag))
    });

    node.kill();
    let _ = fleet.drover(&["events", "send", "while/away", "n=1"]).ok();
    // The fleet does not wait for the server.
    let _ = fleet.drover(&["rfid-1", "test.ping"]).ok();
    node.start_again(&[]);
    wait::until("what happened meanwhile arrives", Duration::from_secs(60), || {
        documents(&node).iter().any(|hit| hit["_source"]["tag"] == "while/away")
    });

    fleet.kill_master();
    fleet.start_master();
    fleet.stop_minion("rfid-1");
    let _ = fleet.drover(&["events", "send", "the/end"]).ok();
    let end = fleet.wait_events("the/end", 1)[0]["seq"].as_u64().expect("a number");
    wait::until("the end arrives", Duration::from_secs(60), || arrived(&node).contains(&end));

    let kept = sequence(&fleet);
    let got = arrived(&node);
    let unique: BTreeSet<u64> = got.iter().copied().collect();
    assert_eq!(unique.len(), got.len(), "an event is there twice");
    let missing: Vec<_> = kept.iter().filter(|seq| **seq <= end && !unique.contains(seq)).collect();
    assert!(missing.is_empty(), "events {missing:?} did not arrive");
    for hit in documents(&node) {
        assert_eq!(hit["_id"], hit["_source"]["id"], "the event's id is the document's");
    }
}
