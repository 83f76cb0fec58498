//! What a device's programs may send, and worse: it arrives or is a dead letter with its reason, the next event goes on,
//! and no payload changes the mapping.

use drover_tests::{
    fleet::{Fleet, run},
    local_bus::Program,
    parts::search::{Server, on_each},
    process::{Daemon, program},
    wait,
};
use serde_json::{Value, json};

use super::pipeline::{ARRIVAL, Pipeline};

const MINION: &str = "rfid-1";

fn packed_value(value: &Value) -> Vec<u8> {
    rmp_serde::to_vec_named(value).unwrap()
}

/// MessagePack that no JSON library writes, by name.
fn packed() -> Vec<(&'static str, Vec<u8>)> {
    let map = |value: &[u8]| [&[0x81, 0xa1, b'v'], value].concat();
    let nested = |depth: usize| {
        let mut bytes = b"\x81\xa1v".repeat(depth);
        bytes.push(0xc0);
        bytes
    };
    let long = |bytes: u32| {
        let head = [&[0xdb], &bytes.to_be_bytes()[..]].concat();
        map(&[head, vec![b'x'; bytes as usize]].concat())
    };
    vec![
        ("bin", map(&[0xc4, 4, 0xff, 0xfe, 0x00, 0x80])),
        ("not-utf8", map(&[0xa3, 0xff, 0xc3, 0x28])),
        ("nested-20", nested(20)),
        ("nested-50", nested(50)),
        ("nested-1000", nested(1000)),
        ("long-33k", long(33_000)),
        ("long-200k", long(200_000)),
        ("long-1m", long(1 << 20)),
        ("not-a-number", map(&[0xcb, 0x7f, 0xf8, 0, 0, 0, 0, 0, 0])),
        ("cut-off", b"\x81\xa1".to_vec()),
    ]
}

/// Values that are JSON and yet hard on an index.
fn values() -> Vec<(&'static str, Value)> {
    vec![
        ("id", json!({"_id": "mine", "_index": "other", "_source": {"_id": 1}, "_type": "x"})),
        ("dots", json!({"a.b": 1, "a": {"b.c": 2}, ".": 3, "..": 4, "a..b": 5, ".a": 6, "a.": 7})),
        ("empty-key", json!({"": 1, " ": {"": 2}})),
        (
            "year-1970",
            json!({"date": "1970-01-01T00:00:00Z", "@timestamp": "1970-01-01T00:00:00Z"}),
        ),
        (
            "year-9999",
            json!({"date": "9999-12-31T23:59:59Z", "@timestamp": "9999-12-31T23:59:59Z"}),
        ),
        ("year-292278995", json!({"@timestamp": "+292278995-01-01T00:00:00Z"})),
        ("boolean", json!({"value": true})),
        ("number", json!({"value": 7})),
        ("map", json!({"value": {"deep": [1, "x", {"y": null}]}})),
        ("huge-number", json!({"value": u64::MAX, "tiny": 5e-324, "large": 1.7e308})),
        ("null", Value::Null),
        ("list", json!([1, [2, [3, {"a": []}]], "x", null])),
        ("text", json!("no map at all")),
        ("controls", json!({"text": "\u{0}\u{1b}[31m\u{2028}\u{fffe}\u{10ffff}"})),
        (
            "reserved",
            json!({"drover": {"seq": "x"}, "event": 7, "host": [], "labels": "no", "tags": {}}),
        ),
        (
            "wide",
            json!(
                (0..5000).map(|n| (format!("k{n}"), json!(n))).collect::<serde_json::Map<_, _>>()
            ),
        ),
        ("long-key", json!({"k".repeat(40_000): 1})),
    ]
}

#[test]
fn a_hostile_payload_arrives_or_is_a_dead_letter_and_the_next_event_goes_on() {
    on_each(|server| {
        let mut pipeline = Pipeline::new(&[server.url()], "hostile", ", batch_delay: 50ms");
        pipeline.fleet.enrol(MINION, &[]);
        pipeline.fleet.bring_up(&[MINION]);
        // The bus cuts off a program that sends what is too large, so each payload has a program of its own.
        let bus = pipeline.fleet.path("minions/rfid-1/run/events.ipc");
        let mut programs = Vec::new();
        let mut push = |name: &str, data: Vec<u8>| {
            let mut program = Program::connect(&bus);
            program.send_raw(name.as_bytes(), data);
            programs.push(program);
        };
        for (name, bytes) in packed() {
            push(&format!("hostile/{name}"), bytes);
        }
        for (name, value) in values() {
            push(&format!("hostile/{name}"), packed_value(&value));
        }
        let taken =
            ["bin", "not-utf8", "nested-50", "long-200k", "id", "dots", "year-9999", "wide"];
        for name in taken {
            let _ = pipeline.fleet.wait_events(&format!("drover/app/rfid-1/hostile/{name}"), 1);
        }
        push("the/last", packed_value(&json!({})));
        let _ = pipeline.fleet.wait_events("drover/app/rfid-1/the/last", 1);
        // What the bus refuses on the device is counted there; whatever the master has is dealt with.
        send_through_the_api(&pipeline);
        arrived_or_said_why(&pipeline, server);
    });
}

/// What the local bus would refuse: through the master's own API, as a neighbour's program on its machine might.
fn send_through_the_api(pipeline: &Pipeline) {
    let nested = |depth| format!("{}1{}", "{\"v\":".repeat(depth), "}".repeat(depth));
    for (name, data) in [
        ("nested-100", nested(100)),
        ("nested-1000", nested(1000)),
        ("long-1m", json!({"text": "x".repeat(1 << 20)}).to_string()),
        ("long-words-1m", json!({"text": "word ".repeat(200_000)}).to_string()),
    ] {
        let body = format!("{{\"tag\": \"api/{name}\", \"data\": {data}}}");
        pipeline.fleet.write("body.json", &body);
        let body = format!("@{}", pipeline.fleet.path("body.json").display());
        let socket = pipeline.fleet.path("master/run/api.sock");
        let socket = socket.to_str().unwrap();
        let arguments =
            ["--silent", "--unix-socket", socket, "-H", "content-type: application/json"];
        let request = ["--data-binary", &body, "http://drover/v1/events"];
        let all = [&arguments[..], &request].concat();
        // It may well be refused here: then it is nobody's event.
        let _ = run(std::path::Path::new("/usr/bin/curl"), &all);
    }
}

/// Every event of the log is a document or a dead letter with a reason.
fn arrived_or_said_why(pipeline: &Pipeline, server: &Server) {
    let end = pipeline.last_event();
    let kept = pipeline.kept(end);
    let left = || {
        let there = server.ids(&pipeline.pattern());
        let letters = pipeline.fleet.json(&["bridge", "dead-letters", "list", "elk"]);
        let letters = letters.as_array().cloned().unwrap_or_default();
        for letter in &letters {
            let said = letter["reason"].as_str().unwrap_or_default();
            assert!(!said.is_empty(), "a dead letter without a reason: {letter}");
        }
        let is_settled = |id: &str| {
            there.iter().any(|other| other == id) || letters.iter().any(|letter| letter["id"] == id)
        };
        kept.iter()
            .filter(|(id, _)| !is_settled(id))
            .map(|(_, tag)| tag.clone())
            .collect::<Vec<_>>()
    };
    wait::until_some(
        "every event is a document or a dead letter",
        ARRIVAL,
        || left().is_empty().then_some(()),
        || format!("left: {:?}\n{}\n{}", left(), pipeline.status(), pipeline.fleet.logs()),
    );
    let letters = pipeline.fleet.json(&["bridge", "dead-letters", "list", "elk"]);
    eprintln!("{}: {} events, dead letters {letters}", server.kind().name(), kept.len());
    let mut unique = server.ids(&pipeline.pattern());
    let all = unique.len();
    unique.sort_unstable();
    unique.dedup();
    assert_eq!(unique.len(), all, "a document is there twice");
}

#[test]
fn ten_thousand_keys_leave_the_mapping_as_it_was() {
    on_each(|server| {
        let pipeline = Pipeline::started(&[server.url()], "keys", "");
        pipeline.send("before/it", "n=1");
        wait::until("the first events arrive", ARRIVAL, || server.count(&pipeline.pattern()) > 0);
        let mapping = || server.get(&format!("/{}/_mapping", pipeline.pattern()));
        let before = mapping();
        let _fleet = simulated(&pipeline.fleet, 4, 2_500);
        pipeline.wait_log(10_000);
        let count = pipeline.every_event_is_there_once(server);
        assert!(count > 10_000, "{count}");
        assert_eq!(mapping(), before, "the mapping changed");
        // And each is found by its own key.
        let documents = server.count(&pipeline.pattern());
        assert!(documents >= 10_000, "{documents}");
    });
}

/// Simulated minions, each of which sends so many events with a key of its own in each.
pub(crate) fn simulated(fleet: &Fleet, minions: usize, events: usize) -> Daemon {
    let pki = fleet.path("master/pki");
    let root = pki.join("root.crt");
    let (minions, events) = (minions.to_string(), events.to_string());
    let arguments = [
        "--fleet-ca",
        pki.to_str().unwrap(),
        "--root",
        root.to_str().unwrap(),
        "--master",
        &fleet.master_address(),
        "--count",
        &minions,
        "--events",
        &events,
    ];
    Daemon::start(&program("drover-sim"), arguments, fleet.path("sim.log"))
}
