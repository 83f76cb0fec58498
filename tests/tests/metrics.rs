//! What a master tells of itself: to Prometheus, whose own tool judges it, and to operators, who see first what is
//! wrong.

use std::{collections::BTreeMap, path::Path};

use drover_tests::{
    fleet::{Fleet, PATIENCE, run},
    parts::{free_port, promtool},
    wait,
};

/// The numbers by their names and labels.
type Numbers = BTreeMap<String, f64>;

fn scrape(address: &str) -> (String, Numbers) {
    let url = format!("http://{address}/metrics");
    let text = run(Path::new("curl"), &["-sSf", &url]).ok().stdout;
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let numbers = lines.map(|line| {
        let (name, value) = line.rsplit_once(' ').expect("a name and a value");
        (name.to_owned(), value.parse().expect("a number"))
    });
    let numbers = numbers.collect();
    (text, numbers)
}

#[test]
fn promtool_is_content_and_counters_only_grow() {
    let mut fleet = Fleet::new();
    let address = format!("127.0.0.1:{}", free_port());
    let out = fleet.path("out.ndjson");
    let bridges = format!(
        "[{{name: out, type: file, path: {}, filter: '*'}}, {{name: \"a-b.c\", type: file, path: {}, filter: 'x/*'}}]",
        out.display(),
        fleet.path("other.ndjson").display()
    );
    fleet.write(
        "master/reactor/a.sls",
        "a:\n  runner.pending.deliver:\n    - tgt: {{ data['id'] }}\n",
    );
    fleet.configure_master(&format!(
        "metrics_listen: {address}\nbridges: {bridges}\nreactor: [{{'drover/minion/*/start': [reactor/a.sls]}}]\n"
    ));
    fleet.enrol("rfid-1", &[]);
    fleet.enrol("rfid-2", &[]);
    fleet.bring_up(&["rfid-1"]);
    let (text, before) = scrape(&address);
    assert_eq!(promtool::complaints(&text), "", "{text}");
    assert_eq!(before["drover_sessions"], 1.0);
    assert_eq!(before["drover_minions{status=\"accepted\"}"], 2.0);

    let _ = fleet.drover(&["rfid-1", "test.ping"]).ok();
    let _ = fleet.drover(&["rfid-1", "cmd.run", "false"]);
    let _ = fleet.drover(&["--pending", "--async", "rfid-2", "test.ping"]).ok();
    let _ = fleet.drover(&["events", "send", "site/door"]).ok();
    let counted = |numbers: &Numbers, name: &str| numbers.get(name).copied().unwrap_or_default();
    let after = wait::until_some(
        "everything is counted",
        PATIENCE,
        || {
            let (_, now) = scrape(&address);
            let grown = |name: &str| counted(&now, name) > counted(&before, name);
            (grown("drover_events_total{kind=\"job\"}")
                && grown("drover_events_total{kind=\"custom\"}")
                && grown("drover_jobs_ended_total{state=\"done\"}")
                && grown("drover_bridge_sent_total{bridge=\"out\"}"))
            .then_some(now)
        },
        || scrape(&address).0,
    );
    for (name, value) in before.iter().filter(|(name, _)| name.contains("_total")) {
        assert!(after[name] >= *value, "{name} went from {value} to {}", after[name]);
    }
    assert_eq!(after["drover_jobs_pending"], 1.0);
    assert_eq!(after["drover_jobs_active"], 1.0);
    assert_eq!(after["drover_store_full"], 0.0);
    let (text, again) = scrape(&address);
    assert_eq!(promtool::complaints(&text), "", "{text}");
    let names = |numbers: &Numbers| numbers.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&again), names(&before), "no work makes another number");
    assert!(!text.contains("rfid-"), "no minion is named");
}

#[test]
fn every_metric_stands_in_the_documentation() {
    let mut fleet = Fleet::new();
    let address = format!("127.0.0.1:{}", free_port());
    let out = fleet.path("out.ndjson");
    fleet.write("master/reactor/a.sls", "{}\n");
    fleet.configure_master(&format!(
        "metrics_listen: {address}\nbridges: [{{name: out, type: file, path: {}}}]\n\
         reactor: [{{'site/*': [reactor/a.sls]}}]\n",
        out.display()
    ));
    fleet.start_master();
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/metrics.md");
    let page = std::fs::read_to_string(page).expect("the page is there");
    let (text, _) = scrape(&address);
    let served = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let served: Vec<_> = served.map(|line| line.split(' ').next().expect("a name")).collect();
    for name in &served {
        assert!(page.contains(&format!("`{name}`")), "docs/metrics.md lacks {name}");
    }
    for name in page.split('`').skip(1).step_by(2).filter(|name| name.starts_with("drover_")) {
        let name = name.split('{').next().expect("a name");
        assert!(served.contains(&name), "docs/metrics.md has {name}, which is not served");
    }
}

#[test]
fn a_wrong_address_is_refused_with_its_place() {
    let fleet = Fleet::new();
    fleet.configure_master("metrics_listen: everywhere\n");
    let directory = fleet.path("master");
    let master = drover_tests::process::program("drover-master");
    let started = run(&master, &["-c", directory.to_str().expect("text")]);
    assert_eq!(started.status, 2);
    assert!(started.stderr.contains("master.yml:8:17:"), "{}", started.stderr);
    assert!(started.stderr.contains("such as `127.0.0.1:9510`"), "{}", started.stderr);
}

#[test]
fn status_says_what_is_wrong_and_ends_with_1() {
    let mut fleet = Fleet::connected(&["rfid-1"]);
    let well = fleet.drover(&["status"]).ok().stdout;
    assert!(well.starts_with("all is well\n"), "{well}");
    assert!(well.contains("1 connected of 1 accepted"), "{well}");
    let status = fleet.json(&["status"]);
    assert_eq!(status["healthy"], true, "{status}");
    assert_eq!(status["store"]["state"], "ok", "{status}");
    assert_eq!(status["minions"]["connected"], 1, "{status}");
    assert_eq!(status["listen"], fleet.master_address());
    fleet.stop_master();

    let nowhere = free_port();
    fleet.configure_master(&format!(
        "bridges: [{{name: elk, type: elasticsearch, index: drover-events, hosts: ['http://127.0.0.1:{nowhere}'], filter: '*'}}]\n"
    ));
    fleet.start_master();
    let wrong = wait::until_some(
        "the bridge is down",
        PATIENCE,
        || Some(fleet.drover(&["status"])).filter(|status| status.status == 1),
        || fleet.logs(),
    );
    assert!(wrong.stdout.starts_with("down: bridge `elk`: cannot deliver"), "{}", wrong.stdout);
    let status = fleet.json(&["status"]);
    assert_eq!(status["healthy"], false, "{status}");
    assert_eq!(status["problems"][0]["part"], "bridge/elk", "{status}");
    assert_eq!(status["bridges"]["elk"]["state"], "down", "{status}");
}
