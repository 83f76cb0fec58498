//! What a fleet does is seen: every query of every committed dashboard finds the events of a master with two devices,
//! a job that fails, a rule that runs, a bridge that is down and a device that falls silent. And the worked example of
//! `docs/pipeline.md`, from a line in a device's log to the dashboard.

use std::{fs, path::Path};

use drover_tests::{
    parts::{
        free_port,
        search::{Server, on_each},
    },
    wait,
};
use serde_json::json;

use self::queries::{Form, Query, Rows, queries};
use super::pipeline::{ARRIVAL, Pipeline};

mod queries;

const FILES: [(&str, Form); 4] = [
    ("kibana.ndjson", Form::SavedObjects),
    ("opensearch-dashboards.ndjson", Form::SavedObjects),
    ("grafana-elasticsearch.json", Form::Grafana),
    ("grafana-opensearch.json", Form::Grafana),
];
/// The line of the worked example.
const LINE: &str = "2026-11-23 10:00:00 ERROR [door-2] no tag within 5 s";

#[test]
fn every_query_of_every_dashboard_finds_its_events() {
    on_each(|server| {
        let pipeline = fleet_that_did_everything(server);
        let _ = pipeline.every_event_is_there_once(server);
        let index = pipeline.pattern();
        for (file, form) in FILES {
            let queries = queries(file, form);
            assert_eq!(queries.len(), 19, "{file}");
            for query in queries {
                let rows = query.run(server, &index);
                eprintln!("{file}: {}: {rows:?}", query.panel);
                check(&query, &rows);
                for column in &query.columns {
                    let known = server.get(&format!("/{index}/_field_caps?fields={column}"));
                    assert!(known["fields"][column].is_object(), "{file}: no field {column}");
                }
            }
        }
    });
}

/// What the scenario must look like in a panel.
fn check(query: &Query, rows: &Rows) {
    let panel = query.panel.as_str();
    let number = |names: &[&str]| {
        let row = rows.iter().find(|(others, _)| others == names);
        row.unwrap_or_else(|| panic!("{panel}: no {names:?} in {rows:?}")).1
    };
    let version = env!("CARGO_PKG_VERSION");
    match panel {
        "Minions heard of" => assert_eq!(number(&[]), 2.0),
        "Minions lost" | "Failed returns of jobs" => assert_eq!(number(&[]), 1.0, "{panel}"),
        // The rule that cannot be used, and the bridge that is down.
        "Alerts" => assert!(number(&[]) >= 2.0),
        "Fleet liveness" => assert!((1.0..=2.0).contains(&number(&[]))),
        "Minions that connect, fall silent and return" => {
            assert_eq!(number(&["start"]), 2.0);
            assert_eq!(number(&["lost"]), 1.0);
        }
        "Flatliners" if query.is_grafana() => {
            let minions: Vec<_> = rows.iter().map(|(names, _)| names[0].as_str()).collect();
            assert_eq!(minions, ["rfid-2", "rfid-1"]);
        }
        "Flatliners" => {
            assert!(number(&["rfid-2"]) > 1e12);
            assert_eq!(rows.len(), 1);
        }
        "Where each minion stands" => {
            assert!(number(&["rfid-1", "start"]) < number(&["rfid-2", "lost"]));
            assert_eq!(rows.len(), 2);
        }
        "Versions by channel" => {
            assert_eq!(number(&["stable", version]), 1.0);
            assert_eq!(number(&["beta", version]), 1.0);
            assert_eq!(rows.len(), 2);
        }
        "Job outcomes" => {
            assert_eq!(number(&["success"]), 2.0);
            assert_eq!(number(&["failure"]), 1.0);
        }
        "Job outcomes by function" => {
            assert_eq!(number(&["test.ping", "success"]), 2.0);
            assert_eq!(number(&["cmd.run", "failure"]), 1.0);
            assert_eq!(rows.len(), 2);
        }
        "Reactor activity" => {
            assert!(number(&["ran"]) >= 2.0);
            assert!(number(&["error"]) >= 1.0);
        }
        "Rules of the reactor" => {
            let ran = rows.iter().find(|(names, _)| names[1] == "ran");
            assert!(ran.unwrap().1 >= 2.0, "{rows:?}");
        }
        "Load" => assert!(number(&["rfid-1"]) >= 0.0),
        "Memory" => assert!((0.1..100.0).contains(&number(&["rfid-1"]))),
        "Disks" => assert!((0.1..=100.0).contains(&number(&["rfid-1", "/"]))),
        "Temperature" => assert_eq!(number(&["rfid-1"]), 51.2),
        "Bridge health" => assert!(number(&["drover/bridge/gone/down"]) > 1e12),
        "Recent problems" => {
            assert_eq!(number(&["no tag within 5 s"]), 1.0);
            assert_eq!(number(&["cmd.run on rfid-1 failed with status 1"]), 1.0);
            assert!(rows.iter().any(|(names, _)| names[0].starts_with("rfid-2 is lost")));
        }
        _ => panic!("nothing is known of the panel `{panel}`"),
    }
}

/// One device that works, and one that fell silent.
fn fleet_that_did_everything(server: &Server) -> Pipeline {
    let mut pipeline = Pipeline::new(&[server.url()], "dashboards", "");
    let fleet = &mut pipeline.fleet;
    let bridges = format!(
        "bridges:\n  - {{name: elk, type: elasticsearch, hosts: ['{}'], index: {}, grains: [channel]}}\n  \
         - {{name: gone, type: elasticsearch, hosts: ['http://127.0.0.1:{}'], index: gone}}\n",
        server.url(),
        pipeline.index,
        free_port()
    );
    fleet.configure_master(&format!(
        "{bridges}presence_grace: 2s\n\
         reactor:\n  - 'drover/minion/*/start': [reactor/hello.sls]\n  - 'site/wrong': [reactor/wrong.sls]\n"
    ));
    fleet
        .write("master/reactor/hello.sls", "hello:\n  runner.event.send:\n    - tag: site/hello\n");
    fleet.write("master/reactor/wrong.sls", "wrong:\n  runner.no.such:\n    - tag: site/wrong\n");
    fleet.enrol("rfid-1", &["channel=stable"]);
    fleet.enrol("rfid-2", &["channel=beta"]);
    let (sensor, log) = (fleet.path("board"), fleet.path("app.log"));
    fs::write(&sensor, "51249\n").unwrap();
    fs::write(&log, "").unwrap();
    let logs = page_block("minion.yml").replace("/run/log/app.log", log.to_str().unwrap());
    fleet.configure_minion(
        "rfid-1",
        &format!(
            "heartbeat: 500ms\n{logs}  load: [{{interval: 1}}]\n  memusage: [{{interval: 1}}]\n  \
             diskusage: [{{/: 0.1%}}, {{interval: 1}}]\n  \
             temperature: [{{interval: 1}}, {{sensors: {{board: {}}}}}]\n",
            sensor.display()
        ),
    );
    fleet.configure_minion("rfid-2", "heartbeat: 500ms\n");
    fleet.bring_up(&["rfid-1", "rfid-2"]);
    fs::write(&log, format!("{LINE}\n")).unwrap();
    let _ = fleet.drover(&["*", "test.ping"]).ok();
    let _ = fleet.drover(&["rfid-1", "cmd.run", "false"]);
    let _ = fleet.drover(&["events", "send", "site/wrong"]).ok();
    fleet.kill_minion("rfid-2");
    for tag in [
        "drover/beacon/rfid-1/load/",
        "drover/beacon/rfid-1/memusage/",
        "drover/beacon/rfid-1/diskusage/",
        "drover/beacon/rfid-1/temperature/",
        "drover/beacon/rfid-1/logfile/",
        "drover/job/*/ret/rfid-2",
        "drover/reactor/error",
        "drover/bridge/gone/down",
        "drover/presence/rfid-2/lost",
    ] {
        let _ = fleet.wait_events(tag, 1);
    }
    pipeline
}

#[test]
fn a_line_in_a_devices_log_is_found_by_the_query_of_the_page() {
    on_each(|server| {
        let mut pipeline = Pipeline::new(&[server.url()], "worked", "");
        let fleet = &mut pipeline.fleet;
        let bridge = page_block("master.yml").replace("http://127.0.0.1:9200", &server.url());
        let bridge = bridge.replace("drover-events", &pipeline.index);
        fleet.configure_master(&bridge);
        fleet.enrol("rfid-1", &["site=bne", "channel=stable"]);
        let log = fleet.path("app.log");
        fs::write(&log, "").unwrap();
        let beacon = page_block("minion.yml").replace("/run/log/app.log", log.to_str().unwrap());
        fleet.configure_minion("rfid-1", &beacon);
        fleet.bring_up(&["rfid-1"]);
        fs::write(&log, format!("{LINE}\n")).unwrap();
        let events = fleet.wait_events("drover/beacon/*/logfile/", 1);
        assert_eq!(events[0]["data"]["fields"], json!({"thread": "door-2"}));
        let query = serde_json::from_str(&page_block("_search")).unwrap();
        let found = wait::until_some(
            "the line is found",
            ARRIVAL,
            || {
                let _ = server.count(&pipeline.pattern());
                let path = format!("/{}/_search", pipeline.pattern());
                let answer = server.request("POST", &path, &query);
                Some(answer.body["hits"]["hits"][0]["_source"].clone()).filter(|hit| !hit.is_null())
            },
            || pipeline.fleet.logs(),
        );
        assert_eq!(found["message"], "no tag within 5 s");
        assert_eq!(found["log"]["level"], "error");
        assert_eq!(found["host"]["id"], "rfid-1");
        assert_eq!(found["labels"], json!({"site": "bne", "channel": "stable"}));
        assert_eq!(found["drover"]["data"]["fields"]["thread"], "door-2");
    });
}

/// The block in `docs/pipeline.md` that follows the line which ends with this name.
fn page_block(name: &str) -> String {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/pipeline.md");
    let page = fs::read_to_string(page).unwrap();
    let mut lines = page.lines().skip_while(|line| !line.ends_with(&format!("`{name}`:")));
    let block = lines.by_ref().skip_while(|line| !line.starts_with("```")).skip(1);
    block.take_while(|line| !line.starts_with("```")).map(|line| format!("{line}\n")).collect()
}
