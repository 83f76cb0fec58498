//! What an operator and a script see: JSON shapes and exit statuses of the `drover` command, on a fleet without Docker.

use drover_tests::fleet::Fleet;
use serde_json::json;

fn two_minions() -> Fleet {
    let mut fleet = Fleet::new();
    fleet.enrol("rfid-1", &["role=rfid", "site=bne"]);
    fleet.enrol("gate-1", &["role=gate", "site=bne"]);
    fleet.enrol("never-1", &["role=rfid"]);
    fleet.bring_up(&["rfid-1", "gate-1"]);
    fleet
}

#[test]
fn targets_select_as_salt_selects() {
    let fleet = two_minions();
    let both = json!({"rfid-1": true, "gate-1": true});
    let rfid = json!({"rfid-1": true});
    for (target, expected) in [
        (vec!["-E", "(rfid|gate)-1$"], &both),
        (vec!["-L", "rfid-1,gate-1"], &both),
        (vec!["-L", "rfid-1"], &rfid),
        (vec!["rfid-?"], &rfid),
        (vec!["-C", "G@site:bne and not gate-*"], &rfid),
        (vec!["-C", "( rfid-* or gate-* ) and G@site:bne"], &both),
        (vec!["-C", "G@role:gate or rfid-1 and G@site:bne"], &both),
    ] {
        let mut arguments = vec!["--out", "json"];
        arguments.extend(&target);
        arguments.push("test.ping");
        let outcome = fleet.drover(&arguments);
        let mut got = outcome.json();
        // The one that never connected matches some of these, and is named on standard error alone.
        assert!(got.get("never-1").is_none(), "{target:?}: {got}");
        got.sort_all_objects();
        let mut expected = expected.clone();
        expected.sort_all_objects();
        assert_eq!(got, expected, "{target:?}\n{}", outcome.stderr);
    }
}

#[test]
fn a_minion_that_does_not_answer_is_missing_and_named_and_the_status_is_1() {
    let fleet = two_minions();
    let outcome = fleet.drover(&["--out", "json", "-G", "role:rfid", "test.ping"]);
    assert_eq!(outcome.status, 1, "{}", outcome.stderr);
    assert_eq!(outcome.json(), json!({"rfid-1": true}));
    assert!(outcome.stderr.contains("never-1"), "{}", outcome.stderr);
}

#[test]
fn nothing_matched_is_an_empty_object_and_status_3() {
    let fleet = two_minions();
    let outcome = fleet.drover(&["--out", "json", "nobody-*", "test.ping"]);
    assert_eq!((outcome.status, outcome.json()), (3, json!({})));
}

#[test]
fn what_is_not_there_is_status_3_and_said() {
    let mut fleet = Fleet::new();
    fleet.start_master();
    for question in [
        &["jobs", "show", "20260101000000000000"][..],
        &["pending", "show", "nobody"],
        &["key", "show", "nobody"],
        &["minions", "nobody"],
        &["presence", "nobody"],
    ] {
        let outcome = fleet.drover(question);
        assert_eq!(outcome.status, 3, "{question:?}: {}", outcome.stderr);
        assert!(!outcome.stderr.is_empty(), "{question:?}");
    }
}

#[test]
fn an_import_tells_which_device_it_refuses() {
    let mut fleet = Fleet::new();
    fleet.enrol("rfid-1", &[]);
    fleet.start_master();
    fleet.register();
    let _ = fleet.drover(&["key", "delete", "rfid-1"]).ok();
    let manifest = fleet.path("manifest");
    let manifest = manifest.to_str().expect("a path of letters");
    let outcome = fleet.drover(&["key", "import", manifest, "--out", "json"]);
    assert_eq!(outcome.status, 1, "{}", outcome.stderr);
    assert_eq!(outcome.json()["refused"][0]["id"], "rfid-1");
    assert_eq!(outcome.json()["registered"], json!([]));
}

#[test]
fn a_wrong_expression_is_status_2_and_says_where() {
    let fleet = two_minions();
    let outcome = fleet.drover(&["-C", "( rfid-*", "test.ping"]);
    assert_eq!(outcome.status, 2, "{}", outcome.stderr);
    assert!(outcome.stderr.contains('('), "{}", outcome.stderr);
    let outcome = fleet.drover(&["-C", "Q@x", "test.ping"]);
    assert_eq!(outcome.status, 2, "{}", outcome.stderr);
}

#[test]
fn arguments_are_yaml_as_salts_are() {
    let fleet = two_minions();
    let outcome = fleet.drover(&["--out", "json", "-L", "rfid-1", "test.echo", "[1, yes, x]"]).ok();
    assert_eq!(outcome.json(), json!({"rfid-1": [1, true, "x"]}));
}

#[test]
fn functions_answer_and_unknown_ones_say_so() {
    let fleet = two_minions();
    let role = fleet.json(&["-L", "rfid-1", "grains.get", "role"]);
    assert_eq!(role, json!({"rfid-1": "rfid"}));
    let items = fleet.json(&["-L", "rfid-1", "grains.items"]);
    assert_eq!(items["rfid-1"]["id"], "rfid-1");
    let output = fleet.json(&["-L", "rfid-1", "cmd.run", "echo one; echo two"]);
    assert_eq!(output, json!({"rfid-1": "one\ntwo"}));
    let functions = fleet.json(&["-L", "rfid-1", "sys.list_functions"]);
    let functions = functions["rfid-1"].as_array().unwrap();
    for function in
        ["test.ping", "cmd.run", "state.apply", "state.highstate", "docker.ps", "sys.doc"]
    {
        assert!(functions.contains(&json!(function)), "{function} is not in {functions:?}");
    }
    let outcome = fleet.drover(&["-L", "rfid-1", "test.pong"]);
    assert_eq!(outcome.status, 1);
    assert!(
        format!("{}{}", outcome.stdout, outcome.stderr).contains("'test.pong' is not available")
    );
    let outcome = fleet.drover(&["-L", "rfid-1", "cmd.run", "exit 3"]);
    assert_eq!(outcome.status, 1, "a command that failed is a failure");
}

#[test]
fn an_async_job_can_be_looked_up_and_waited_for() {
    let fleet = two_minions();
    let started = fleet.json(&["--async", "rfid-1", "test.echo", "later"]);
    assert_eq!(started["minions"], json!(["rfid-1"]));
    let jid = started["jid"].as_str().expect("a jid").to_owned();
    assert_eq!(jid.len(), 20);
    let _ = fleet.drover(&["jobs", "wait", &jid]).ok();
    let job = fleet.json(&["jobs", "show", &jid]);
    assert_eq!(job["fun"], "test.echo");
    assert_eq!(job["tgt"], "rfid-1");
    assert_eq!(job["tgt_type"], "glob");
    assert_eq!(job["minions"]["rfid-1"]["state"], "done");
    assert_eq!(job["minions"]["rfid-1"]["return"], "later");
    assert_eq!(job["minions"]["rfid-1"]["retcode"], 0);
}

#[test]
fn a_function_that_says_it_runs_is_waited_for_beyond_the_timeout() {
    let fleet = two_minions();
    let outcome =
        fleet.drover(&["--out", "json", "--timeout", "1", "rfid-1", "test.sleep", "3"]).ok();
    assert_eq!(outcome.json(), json!({"rfid-1": true}));
}

#[test]
fn the_registry_says_what_it_knows() {
    let fleet = two_minions();
    let minions = fleet.json(&["minions"]);
    let rfid = &minions["rfid-1"];
    assert_eq!(rfid["status"], "accepted");
    assert_eq!(rfid["presence"], "connected");
    assert_eq!(minions["never-1"]["status"], "accepted");
    assert_ne!(minions["never-1"]["presence"], "connected");
    for field in ["since", "last_seen", "address", "grains", "enrolled"] {
        assert!(rfid.get(field).is_some(), "`{field}` is not in {rfid}");
    }
    let keys = fleet.json(&["key", "list"]);
    let mut accepted: Vec<&str> =
        keys["accepted"].as_array().unwrap().iter().filter_map(|id| id.as_str()).collect();
    accepted.sort_unstable();
    assert_eq!(accepted, ["gate-1", "never-1", "rfid-1"]);
    for list in ["pending", "rejected", "revoked"] {
        assert_eq!(keys[list], json!([]));
    }
}

#[test]
fn every_event_has_its_place_and_the_start_of_a_minion_is_one() {
    let fleet = two_minions();
    let starts = fleet.wait_events("drover/minion/*/start", 2);
    let start = &starts[0];
    for field in ["id", "seq", "ts", "tag", "minion", "data"] {
        assert!(start.get(field).is_some(), "`{field}` is not in {start}");
    }
    assert_eq!(start["data"]["id"], start["minion"]);
    let _ = fleet.drover(&["events", "send", "site/opened", "door=3"]).ok();
    let sent = fleet.wait_events("site/opened", 1);
    assert_eq!(sent[0]["data"]["door"], 3);
}
