//! The committed dashboards have the form that Kibana, OpenSearch Dashboards and Grafana document, are what
//! `dashboards/build` makes of their source, and ask Prometheus for what the master serves. That their queries find
//! something is shown with the real servers, in `search/dashboards.rs`.
//!
//! Forms: <https://www.elastic.co/docs/api/doc/kibana/operation/operation-post-saved-objects-import>,
//! <https://docs.opensearch.org/latest/dashboards/management/saved-objects/> and
//! <https://grafana.com/docs/grafana/latest/dashboards/build-dashboards/view-dashboard-json-model/>.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use drover_tests::parts::promtool;
use serde_json::{Value, json};

const SAVED_OBJECTS: [&str; 2] = ["kibana.ndjson", "opensearch-dashboards.ndjson"];
const BOARDS: [(&str, &str, &str); 3] = [
    ("grafana-elasticsearch.json", "elasticsearch", "DS_DROVER"),
    ("grafana-opensearch.json", "grafana-opensearch-datasource", "DS_DROVER"),
    ("grafana-prometheus.json", "prometheus", "DS_PROMETHEUS"),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn file(name: &str) -> String {
    let path = root().join("dashboards").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn objects(name: &str) -> Vec<Value> {
    file(name).lines().map(|line| serde_json::from_str(line).expect("an object a line")).collect()
}

fn board(name: &str) -> Value {
    serde_json::from_str(&file(name)).expect("a dashboard is JSON")
}

fn array(value: &Value) -> &Vec<Value> {
    value.as_array().unwrap_or_else(|| panic!("{value} is no list"))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text"))
}

/// JSON in a text.
fn inner(value: &Value) -> Value {
    serde_json::from_str(text(value)).unwrap_or_else(|error| panic!("{value}: {error}"))
}

#[test]
fn the_files_are_what_their_source_makes() {
    let made = tempfile::tempdir().expect("a directory");
    let build = root().join("dashboards/build");
    let built = Command::new("python3").arg(build).arg(made.path()).status();
    assert!(built.expect("python3 is installed").success());
    let mut count = 0;
    for entry in fs::read_dir(made.path()).expect("the directory is there") {
        let path = entry.expect("it can be listed").path();
        let name = path.file_name().and_then(|name| name.to_str()).expect("names are text");
        let made = fs::read_to_string(&path).expect("it is text");
        assert!(made == file(name), "{name} is not what `dashboards/build` makes: run it");
        count += 1;
    }
    assert_eq!(count, SAVED_OBJECTS.len() + BOARDS.len());
}

#[test]
fn saved_objects_have_their_form_and_refer_to_each_other() {
    for name in SAVED_OBJECTS {
        let objects = objects(name);
        let ids: BTreeSet<_> =
            objects.iter().map(|object| (text(&object["type"]), text(&object["id"]))).collect();
        assert_eq!(ids.len(), objects.len(), "{name}: each id once");
        for object in &objects {
            let keys: BTreeSet<_> =
                object.as_object().expect("a map").keys().map(String::as_str).collect();
            let versions = if name == "kibana.ndjson" {
                vec!["coreMigrationVersion", "typeMigrationVersion"]
            } else {
                vec!["migrationVersion"]
            };
            let expected = ["type", "id", "attributes", "references"].into_iter().chain(versions);
            assert_eq!(keys, expected.collect(), "{name}");
            for reference in array(&object["references"]) {
                let target = (text(&reference["type"]), text(&reference["id"]));
                assert!(ids.contains(&target), "{name}: {target:?} is not in the file");
            }
            let named = |reference: &str| {
                let references = array(&object["references"]).iter();
                references.filter(|one| one["name"] == reference).count() == 1
            };
            let attributes = &object["attributes"];
            assert!(!text(&attributes["title"]).is_empty());
            match text(&object["type"]) {
                "index-pattern" => assert_eq!(attributes["timeFieldName"], "@timestamp"),
                "search" => {
                    let source = source(attributes);
                    assert!(named(text(&source["indexRefName"])));
                    assert!(array(&attributes["columns"]).iter().all(Value::is_string));
                    assert_eq!(attributes["sort"], json!([["@timestamp", "desc"]]));
                }
                "visualization" => {
                    let source = source(attributes);
                    let state = inner(&attributes["visState"]);
                    assert_eq!(state["title"], attributes["title"]);
                    if state["type"] == "vega" {
                        assert_eq!(array(&object["references"]).len(), 0);
                        check_vega(&inner(&state["params"]["spec"]));
                    } else {
                        assert!(named(text(&source["indexRefName"])));
                        check_aggregations(&state);
                    }
                    assert!(inner(&attributes["uiStateJSON"]).is_object());
                }
                "dashboard" => {
                    let panels = inner(&attributes["panelsJSON"]);
                    let places = array(&panels).iter().map(|panel| {
                        let at = text(&panel["panelIndex"]);
                        assert_eq!(panel["gridData"]["i"], at);
                        let reference = text(&panel["panelRefName"]);
                        let full = format!("{at}:{reference}");
                        assert!(named(reference) || named(&full), "{name}: {reference}");
                        &panel["gridData"]
                    });
                    check_places(name, places, 48);
                    assert_eq!(array(&panels).len(), array(&object["references"]).len());
                    assert_eq!(array(&panels).len(), objects.len() - 2, "every panel is shown");
                    assert!(inner(&attributes["optionsJSON"]).is_object());
                    assert_eq!(attributes["timeRestore"], true);
                    let _ = source(attributes);
                }
                other => panic!("{name}: an object of type `{other}`"),
            }
        }
    }
}

/// `searchSourceJSON`: a query in a language that both products know, and filters.
fn source(attributes: &Value) -> Value {
    let source = inner(&attributes["kibanaSavedObjectMeta"]["searchSourceJSON"]);
    assert!(["lucene", "kuery"].contains(&text(&source["query"]["language"])));
    assert!(source["query"]["query"].is_string() && source["filter"].is_array());
    source
}

/// Vega-Lite with a search as its data.
fn check_vega(spec: &Value) {
    assert!(text(&spec["$schema"]).starts_with("https://vega.github.io/schema/vega-lite/v"));
    assert_eq!(spec["data"]["format"]["property"], "aggregations.minions.buckets");
    assert_eq!(spec["data"]["url"]["body"]["size"], 0);
    assert!(spec["mark"].is_string() || spec["mark"]["type"].is_string());
    assert!(spec["encoding"].is_object());
}

/// Every kind of visualization wants its aggregations under the names that its editor gives them.
fn check_aggregations(state: &Value) {
    let (schemas, wanted): (&[&str], &[&str]) = match text(&state["type"]) {
        "metric" => (&["metric"], &["metric", "type"]),
        "table" => (&["metric", "bucket"], &["perPage", "totalFunc"]),
        "line" | "histogram" => (
            &["metric", "group", "segment"],
            &["categoryAxes", "valueAxes", "seriesParams", "thresholdLine"],
        ),
        other => panic!("a visualization of type `{other}`"),
    };
    for name in wanted {
        assert!(!state["params"][name].is_null(), "{}: no `{name}`", state["title"]);
    }
    let mut ids = BTreeSet::new();
    for agg in array(&state["aggs"]) {
        assert!(ids.insert(text(&agg["id"])), "{}: an id twice", state["title"]);
        assert!(schemas.contains(&text(&agg["schema"])), "{agg}");
        assert_eq!(agg["enabled"], true);
        assert!(agg["type"] == "count" || agg["params"]["field"].is_string(), "{agg}");
    }
    for agg in array(&state["aggs"]).iter().filter(|agg| agg["type"] == "terms") {
        assert!(ids.contains(text(&agg["params"]["orderBy"])), "{agg}");
        assert!(agg["params"]["size"].as_u64() > Some(0), "{agg}");
    }
    for series in state["params"]["seriesParams"].as_array().into_iter().flatten() {
        assert!(ids.contains(text(&series["data"]["id"])));
        assert_eq!(series["valueAxis"], state["params"]["valueAxes"][0]["id"]);
    }
}

/// Within the grid, and none over another.
fn check_places<'a>(name: &str, places: impl Iterator<Item = &'a Value>, width: u64) {
    let mut taken = BTreeSet::new();
    for place in places {
        let side = |key: &str| place[key].as_u64().unwrap_or_else(|| panic!("{name}: {place}"));
        let (x, y, w, h) = (side("x"), side("y"), side("w"), side("h"));
        assert!(w > 0 && h > 0 && x + w <= width, "{name}: {place}");
        for cell in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
            assert!(taken.insert(cell), "{name}: {place} lies over another");
        }
    }
}

#[test]
fn grafanas_dashboards_have_their_form() {
    let mut uids = BTreeSet::new();
    for (name, plugin, variable) in BOARDS {
        let board = board(name);
        assert!(uids.insert(text(&board["uid"]).to_owned()) && text(&board["uid"]).len() <= 40);
        assert!(board["schemaVersion"].as_u64() >= Some(36) && board.get("id").is_none());
        let input = &board["__inputs"][0];
        assert_eq!((text(&input["name"]), text(&input["pluginId"])), (variable, plugin));
        assert_eq!(input["type"], "datasource");
        let requires = array(&board["__requires"]);
        let requires = |kind: &str, id: &str| {
            requires.iter().any(|one| one["type"] == kind && one["id"] == id)
        };
        assert!(requires("grafana", "grafana") && requires("datasource", plugin));
        let source = json!({"type": plugin, "uid": format!("${{{variable}}}")});
        let panels = array(&board["panels"]);
        check_places(name, panels.iter().map(|panel| &panel["gridPos"]), 24);
        let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_u64()).collect();
        assert_eq!(ids.len(), panels.len(), "{name}: each id once");
        for panel in panels {
            assert!(["stat", "timeseries", "table"].contains(&text(&panel["type"])));
            assert!(requires("panel", text(&panel["type"])));
            assert_eq!(panel["datasource"], source);
            assert!(panel["fieldConfig"]["defaults"].is_object());
            assert!(panel["fieldConfig"]["overrides"].is_array());
            assert!(!text(&panel["description"]).is_empty());
            let mut references = BTreeSet::new();
            for target in array(&panel["targets"]) {
                assert!(references.insert(text(&target["refId"])));
                assert_eq!(target["datasource"], source);
                if plugin != "prometheus" {
                    check_elasticsearch_query(target);
                }
            }
            assert!(!references.is_empty());
        }
        for variable in array(&board["templating"]["list"]) {
            assert_eq!(variable["datasource"], source);
        }
    }
}

/// By Grafana's schema of `ElasticsearchDataQuery`, which the data source of OpenSearch took over.
fn check_elasticsearch_query(target: &Value) {
    assert_eq!(target["timeField"], "@timestamp");
    assert!(!text(&target["query"]).is_empty());
    let metric = &target["metrics"][0];
    let kinds = ["count", "max", "cardinality", "raw_data"];
    assert!(kinds.contains(&text(&metric["type"])), "{metric}");
    assert!(["count", "raw_data"].contains(&text(&metric["type"])) || metric["field"].is_string());
    let buckets = array(&target["bucketAggs"]);
    assert_eq!(buckets.is_empty(), metric["type"] == "raw_data");
    let mut ids = BTreeSet::from([text(&metric["id"])]);
    for (at, bucket) in buckets.iter().enumerate() {
        assert!(ids.insert(text(&bucket["id"])));
        let kind = text(&bucket["type"]);
        assert!(["terms", "date_histogram", "filters"].contains(&kind), "{kind}");
        // Series are drawn over the innermost buckets.
        assert!(kind != "date_histogram" || at + 1 == buckets.len());
        let settings = bucket["settings"].as_object().expect("settings are a map");
        let is_text = |value: &Value| value.is_string() || kind == "filters";
        assert!(settings.values().all(is_text), "numbers of settings are texts: {settings:?}");
    }
}

/// Every expression on the board, with values where Grafana has variables.
fn expressions() -> Vec<(String, String)> {
    let board = board("grafana-prometheus.json");
    let mut expressions = Vec::new();
    for panel in array(&board["panels"]) {
        for target in array(&panel["targets"]) {
            let expr = text(&target["expr"]);
            let expr = expr.replace("$instance", ".*").replace("$__rate_interval", "5m");
            assert!(!expr.contains('$'), "a variable that nobody sets: {expr}");
            expressions.push((text(&panel["title"]).to_owned(), expr));
        }
    }
    expressions
}

#[test]
fn prometheus_takes_every_expression_of_its_board() {
    let rules: Vec<_> = expressions()
        .into_iter()
        .enumerate()
        .map(|(at, (_, expr))| json!({"record": format!("board:{at}"), "expr": expr}))
        .collect();
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("board.rules.yml");
    // JSON is YAML.
    let rules = json!({"groups": [{"name": "board", "rules": rules}]});
    fs::write(&path, rules.to_string()).expect("the directory is writable");
    promtool::run(&["check", "rules"], &path).unwrap_or_else(|said| panic!("{said}"));
}

#[test]
fn alerts_fire_when_they_should() {
    let directory = root().join("dashboards/prometheus");
    for (verb, name) in [("check", "drover.rules.yml"), ("test", "drover.test.yml")] {
        promtool::run(&[verb, "rules"], &directory.join(name))
            .unwrap_or_else(|said| panic!("{name}: {said}"));
    }
    let (rules, tests) = (file("prometheus/drover.rules.yml"), file("prometheus/drover.test.yml"));
    let alerts = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: "));
    for alert in alerts {
        let fires = tests.lines().any(|line| line.trim() == format!("alertname: {alert}"));
        assert!(fires, "{alert} is shown to fire by no test");
    }
}

#[test]
fn only_metrics_that_the_master_serves_are_asked_for() {
    let page = fs::read_to_string(root().join("docs/metrics.md")).expect("the page is there");
    let mut asked: BTreeMap<String, String> = BTreeMap::new();
    let rules = file("prometheus/drover.rules.yml");
    let exprs = rules.lines().filter_map(|line| line.trim().strip_prefix("expr: "));
    let exprs = exprs.map(|expr| ("an alert".to_owned(), expr.to_owned()));
    for (place, expr) in expressions().into_iter().chain(exprs) {
        let words = expr.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        for word in words.filter(|word| word.starts_with("drover_") || word.starts_with("process_"))
        {
            asked.insert(word.to_owned(), place.clone());
        }
    }
    assert!(asked.len() > 20, "{asked:?}");
    for (name, place) in asked {
        // That the page names exactly what is served is shown in `metrics.rs`.
        assert!(page.contains(&format!("`{name}`")), "{place}: the master serves no {name}");
    }
}

#[test]
fn every_panel_stands_in_the_documentation() {
    let page = fs::read_to_string(root().join("docs/dashboards.md")).expect("the page is there");
    let source: Value = serde_json::from_str(&file("panels.json")).expect("JSON");
    for panel in array(&source["events"]).iter().chain(array(&source["metrics"])) {
        let title = text(&panel["title"]);
        assert!(page.contains(&format!("| {title} |")), "docs/dashboards.md lacks `{title}`");
    }
    let rules = file("prometheus/drover.rules.yml");
    for alert in rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")) {
        assert!(page.contains(&format!("`{alert}`")), "docs/dashboards.md lacks `{alert}`");
    }
}
