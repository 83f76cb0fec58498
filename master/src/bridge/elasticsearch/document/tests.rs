use std::sync::Arc;

use drover_proto::event::Event;
use insta::assert_snapshot;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{super::fields::TypedFields, *};

const TS: &str = "2026-11-23T02:37:05.5Z";

fn item(tag: &str, data: Value) -> Item {
    let tag: drover_proto::event::Tag = tag.parse().unwrap();
    let minion = tag.as_str().contains("rfid-1").then(|| "rfid-1".parse().unwrap());
    let ts = TS.parse().unwrap();
    let event = Event { id: Uuid::nil(), seq: 7, ts, at: None, tag, minion, data };
    Item { event: Arc::new(event), grains: Arc::default(), form: Form::Whole, is_retry: false }
}

fn written(documents: &Documents, item: &Item) -> Value {
    let mut body = Vec::new();
    documents.write(item, &mut body);
    assert!(!body.contains(&b'\n'));
    serde_json::from_slice(&body).unwrap()
}

fn document(tag: &str, data: Value) -> Value {
    written(&Documents::default(), &item(tag, data))
}

fn at(moment: &str) -> Value {
    let mut item = item("drover/app/rfid-1/door", Value::Null);
    Arc::get_mut(&mut item.event).unwrap().at = Some(moment.parse().unwrap());
    written(&Documents::default(), &item)
}

#[test]
fn grains_whose_labels_have_one_name_are_one_label() {
    let mut item = item("a", Value::Null);
    let grains = json!({"os.family": "debian", "os_family": "debian"});
    item.grains = Arc::new(grains.as_object().unwrap().clone());
    let mut body = Vec::new();
    Documents::default().write(&item, &mut body);
    let text = String::from_utf8(body).unwrap();
    assert_eq!(text.matches("\"os_family\"").count(), 1, "{text}");
}

#[test]
fn a_jobs_return_has_its_outcome() {
    let data = json!({
        "id": "rfid-1", "jid": "20261123023705000123", "fun": "state.apply", "fun_args": [],
        "return": {
            "test_|-a_|-a_|-nop": {"result": true, "__run_num__": 0, "duration": 1.5},
            "test_|-b_|-b_|-nop": {"result": false, "__run_num__": 1, "duration": 2.25},
        },
        "retcode": 2, "success": false, "user": "root",
    });
    let mut item = item("drover/job/20261123023705000123/ret/rfid-1", data);
    item.grains = Arc::new(
        json!({"role": ["rfid", "door"], "site": "bne", "cpus": 4}).as_object().unwrap().clone(),
    );
    Arc::get_mut(&mut item.event).unwrap().at = Some("2026-11-23T02:37:04Z".parse().unwrap());
    let document = written(&Documents::default(), &item);
    assert_snapshot!(serde_json::to_string_pretty(&document).unwrap(), @r#"
    {
      "@timestamp": "2026-11-23T02:37:04Z",
      "event": {
        "id": "00000000-0000-0000-0000-000000000000",
        "ingested": "2026-11-23T02:37:05.5Z",
        "kind": "event",
        "category": [
          "process"
        ],
        "action": "ret",
        "dataset": "drover.job",
        "module": "drover",
        "outcome": "failure",
        "duration": 3750000
      },
      "host": {
        "name": "rfid-1",
        "id": "rfid-1"
      },
      "labels": {
        "role": [
          "rfid",
          "door"
        ],
        "site": "bne",
        "cpus": "4"
      },
      "message": "state.apply on rfid-1 failed with status 2",
      "user": {
        "name": "root"
      },
      "tags": [
        "drover"
      ],
      "ecs": {
        "version": "8.17.0"
      },
      "drover": {
        "tag": "drover/job/20261123023705000123/ret/rfid-1",
        "minion": "rfid-1",
        "seq": 7,
        "at": "2026-11-23T02:37:04Z",
        "jid": "20261123023705000123",
        "fun": "state.apply",
        "retcode": 2,
        "success": false,
        "data": {
          "fun_args": [],
          "return": {
            "test_|-a_|-a_|-nop": {
              "result": true,
              "__run_num__": 0,
              "duration": 1.5
            },
            "test_|-b_|-b_|-nop": {
              "result": false,
              "__run_num__": 1,
              "duration": 2.25
            }
          }
        }
      }
    }
    "#);
}

#[test]
fn the_numbers_of_beacons_have_types() {
    let load = document(
        "drover/beacon/rfid-1/load_fast/",
        json!({"1m": 0.2, "5m": 0.18, "15m": 1, "x": 1}),
    );
    assert_eq!(load["drover"]["metrics"], json!({"load": {"1m": 0.2, "5m": 0.18, "15m": 1.0}}));
    assert_eq!(load["drover"]["data"], json!({"x": 1}));
    assert_eq!(load["drover"]["beacon"], "load_fast");
    assert_eq!(load["event"]["kind"], "metric");
    assert_eq!(load["event"]["action"], "load_fast");
    let memory = document("drover/beacon/rfid-1/memusage/", json!({"memusage": 64.1}));
    assert_eq!(memory["drover"]["metrics"], json!({"memory": {"used_percent": 64.1}}));
    assert!(memory["drover"].get("data").is_none());
    let disk =
        document("drover/beacon/rfid-1/diskusage/", json!({"mount": "/", "diskusage": 85.2}));
    assert_eq!(disk["drover"]["metrics"], json!({"disk": {"mount": "/", "used_percent": 85.2}}));
    let hot =
        document("drover/beacon/rfid-1/board/", json!({"celsius": 80.5, "sensor": "cpu-thermal"}));
    assert_eq!(
        hot["drover"]["metrics"],
        json!({"temperature": {"sensor": "cpu-thermal", "celsius": 80.5}})
    );
    let warm = document("drover/app/rfid-1/temperature", json!({"celsius": 51, "sensor": "cpu"}));
    assert_eq!(
        warm["drover"]["metrics"],
        json!({"temperature": {"sensor": "cpu", "celsius": 51.0}})
    );
    let text = document("drover/beacon/rfid-1/memusage/", json!({"memusage": "64 %"}));
    assert!(text["drover"].get("metrics").is_none());
    assert_eq!(text["drover"]["data"], json!({"memusage": "64 %"}));
}

#[test]
fn a_line_of_a_log_is_the_message() {
    let log =
        json!({"level": "error", "offset": 7, "file": {"path": "/log"}, "flags": ["multiline"]});
    let line = document(
        "drover/beacon/rfid-1/logfile/",
        json!({"message": "10:02 ERROR no tag", "log": log, "fields": {"code": "42"}}),
    );
    assert_eq!(line["message"], "10:02 ERROR no tag");
    assert_eq!(line["log"], log);
    assert_eq!(line["drover"]["data"], json!({"fields": {"code": "42"}}));
    let entry = document(
        "drover/beacon/rfid-1/journald/",
        json!({
            "message": "Failed password", "process": {"pid": 42, "name": "sshd"}, "systemd": {"unit": "ssh.service"},
            "log": {"level": "error", "syslog": {"priority": 3, "appname": "sshd"}},
        }),
    );
    assert_eq!(entry["process"], json!({"pid": 42, "name": "sshd"}));
    assert_eq!(entry["log"]["syslog"], json!({"priority": 3, "appname": "sshd"}));
    assert_eq!(entry["drover"]["data"], json!({"systemd": {"unit": "ssh.service"}}));
    let other = document("drover/app/rfid-1/log", json!({"message": 7, "log": {"who": "else"}}));
    assert_eq!(other["drover"]["data"], json!({"message": 7, "log": {"who": "else"}}));
}

#[test]
fn a_minion_that_connects_tells_its_agents_version() {
    let start = document("drover/minion/rfid-1/start", json!({"version": "0.1.0", "boot": "b"}));
    assert_eq!(start["agent"], json!({"version": "0.1.0"}));
    assert_eq!(start["drover"]["data"], json!({"boot": "b"}));
    let other = document("drover/app/rfid-1/start", json!({"version": "0.1.0"}));
    assert!(other.get("agent").is_none());
}

#[test]
fn what_happened_is_said_in_a_sentence() {
    let sentences = [
        (
            "drover/minion/rfid-1/start",
            json!({"id": "rfid-1", "address": "10.0.0.7", "version": "0.1.0"}),
        ),
        ("drover/minion/rfid-1/stop", json!({"id": "rfid-1"})),
        ("drover/minion/rfid-1/outbox/dropped", json!({"count": 3, "returns": 1})),
        (
            "drover/presence/rfid-1/stale",
            json!({"since": TS, "last_seen": TS, "reason": "no heartbeat"}),
        ),
        ("drover/presence/rfid-1/lost", json!({"since": TS, "last_seen": TS})),
        ("drover/presence/rfid-1/back", json!({"since": TS, "from": "lost", "away": 125})),
        (
            "drover/job/20261123023705000123/new",
            json!({"fun": "test.ping", "minions": ["a", "b"], "user": "root"}),
        ),
        (
            "drover/job/20261123023705000123/ret/rfid-1",
            json!({"fun": "test.ping", "retcode": 0, "success": true}),
        ),
        (
            "drover/job/20261123023705000123/prog/rfid-1",
            json!({"id": "rfid-1", "data": {"__id__": "nginx", "comment": "installed"}}),
        ),
        ("drover/pending/rfid-1/timed_out", json!({"id": "rfid-1", "fun": "state.apply"})),
        (
            "drover/key/rfid-1/rejected",
            json!({"id": "rfid-1", "status": "rejected", "reason": "sold"}),
        ),
        ("drover/key/rfid-1/clone", json!({"id": "rfid-1", "sign": "boots"})),
        ("drover/beacon/rfid-1/load/", json!({"1m": 0.2, "5m": 0.18, "15m": 0.12})),
        ("drover/beacon/rfid-1/load/suppressed", json!({"suppressed": 12})),
        ("drover/app/rfid-1/door/open", json!({"badge": 4711})),
        ("drover/app/rfid-1/door/open", json!({"message": "the door opens"})),
        (
            "drover/reactor/ran",
            json!({"rule": "update", "event": {"id": Uuid::nil(), "tag": "drover/x"}}),
        ),
        ("drover/reactor/error", json!({"rule": "update", "message": "no such file"})),
        ("drover/bridge/elk/down", json!({"reason": "cannot reach `http://es`"})),
        ("drover/bridge/elk/index_removed", json!({"index": "x"})),
        ("drover/authority/fleet/expires", json!({"name": "fleet", "not_after": TS})),
        ("drover/station/line-1/revoked", json!({"station": "line-1", "reason": "stolen"})),
        ("drover/master/renewed", json!({"name": "m"})),
        ("acme/till/open", json!({"amount": 3})),
    ];
    let said =
        sentences.map(|(tag, data)| document(tag, data)["message"].as_str().unwrap().to_owned());
    assert_snapshot!(said.join("\n"), @r#"
    rfid-1 is connected from 10.0.0.7, version 0.1.0
    rfid-1 is disconnected
    rfid-1: outbox/dropped
    rfid-1 is stale: no heartbeat
    rfid-1 is lost, last seen 2026-11-23T02:37:05.5Z
    rfid-1 is back after 125 s
    test.ping for 2 minions
    test.ping on rfid-1 succeeded
    rfid-1: nginx: installed
    state.apply for rfid-1: timed out
    the key of rfid-1 is rejected: sold
    two machines have the identity of rfid-1
    rfid-1: load 0.2, 0.18, 0.12
    rfid-1: 12 readings of load were held back
    rfid-1: door/open
    the door opens
    rule update ran for drover/x
    rule update cannot be used: no such file
    the bridge elk cannot deliver: cannot reach `http://es`
    the bridge elk: index removed
    the authority fleet ends at 2026-11-23T02:37:05.5Z
    station line-1: revoked: stolen
    the master: renewed
    acme/till/open
    "#);
}

#[test]
fn each_kind_of_event_is_classified() {
    let classified = |tag: &str| {
        let event = document(tag, Value::Null)["event"].take();
        [event["kind"].clone(), event["dataset"].clone(), event["action"].clone()]
    };
    assert_eq!(classified("drover/presence/rfid-1/lost"), ["state", "drover.presence", "lost"]);
    assert_eq!(classified("drover/key/rfid-1/clone"), ["alert", "drover.key", "clone"]);
    assert_eq!(classified("drover/app/rfid-1/door/open"), ["event", "drover.app", "open"]);
    assert_eq!(classified("drover/bridge/elk/missed"), ["alert", "drover.bridge", "missed"]);
    assert_eq!(classified("drover/reactor/ran"), ["event", "drover.reactor", "ran"]);
    assert_eq!(
        classified("drover/minion/rfid-1/outbox/dropped"),
        ["event", "drover.minion", "dropped"]
    );
    assert_eq!(classified("acme/till"), ["event", "drover.custom", "till"]);
    assert_eq!(
        classified("drover/beacon/rfid-1/load/suppressed"),
        ["event", "drover.beacon", "suppressed"]
    );
}

#[test]
fn a_device_whose_clock_is_wrong_does_not_move_the_event() {
    for (moment, timestamp, clock) in [
        ("2026-11-23T01:37:05Z", "2026-11-23T01:37:05Z", None),
        ("2026-11-23T02:42:00Z", "2026-11-23T02:42:00Z", None),
        ("1970-01-01T00:00:07Z", TS, Some("unset")),
        ("9999-12-30T00:00:00Z", TS, Some("implausible")),
        ("2024-11-23T00:00:00Z", TS, Some("implausible")),
        ("-000044-03-15T12:00:00Z", TS, Some("unset")),
    ] {
        let document = at(moment);
        assert_eq!(document["@timestamp"], timestamp);
        assert_eq!(document["drover"]["at"], moment);
        assert_eq!(document["drover"].get("clock").and_then(Value::as_str), clock);
    }
}

#[test]
fn what_was_cut_is_marked_and_kept_as_text() {
    let deep = (0..40).fold(json!(1), |inner, _| json!({"k": inner}));
    let cut = document("drover/app/rfid-1/deep", json!({"deep": deep, "n": 1}));
    let drover = &cut["drover"];
    assert_eq!(drover["cut"], true);
    assert_eq!(drover["cut_fields"].as_array().unwrap().len(), 1);
    assert_eq!(drover["data"]["n"], 1);
    let text: Value = serde_json::from_str(drover["data_text"].as_str().unwrap()).unwrap();
    assert_eq!(text["deep"], deep);

    let mut refused = item("drover/beacon/rfid-1/memusage/", json!({"memusage": 64.1}));
    refused.form = Form::Text;
    let text = written(&Documents::default(), &refused);
    assert_eq!(text["drover"]["data_text"], r#"{"memusage":64.1}"#);
    assert!(text["drover"].get("data").is_none() && text["drover"].get("metrics").is_none());

    let huge = document("drover/app/rfid-1/huge", json!({"text": "x".repeat(3 << 20)}));
    assert_eq!(huge["drover"]["cut_fields"], json!(["drover.data", "drover.data_text"]));
    assert!(huge.to_string().len() < (1 << 20) + 2000);
}

#[test]
fn a_payload_that_is_no_map_is_a_value() {
    assert_eq!(document("acme/x", json!([1, "x"]))["drover"]["data"], json!({"value": [1, "x"]}));
    assert_eq!(document("acme/x", json!(7.5))["drover"]["data"], json!({"value": 7.5}));
    assert!(document("acme/x", Value::Null)["drover"].get("data").is_none());
    assert!(document("acme/x", json!({}))["drover"].get("data").is_none());
}

#[test]
fn chosen_values_of_applications_have_types() {
    let node =
        drover_states::yaml::load_nodes("'drover/app/*/door/*': {count: long}\n").unwrap().unwrap();
    let documents = Documents::new(TypedFields::read(&node).unwrap());
    let typed =
        written(&documents, &item("drover/app/rfid-1/door/open", json!({"count": 3, "by": 7})));
    assert_eq!(typed["drover"]["fields"], json!({"count": 3}));
    assert_eq!(typed["drover"]["data"], json!({"by": 7}));
    let unfit =
        written(&documents, &item("drover/app/rfid-1/door/open", json!({"count": "three"})));
    assert!(unfit["drover"].get("fields").is_none());
    assert_eq!(unfit["drover"]["data"], json!({"count": "three"}));
    assert_eq!(unfit["drover"]["cut_fields"], json!(["drover.fields.count"]));
}
