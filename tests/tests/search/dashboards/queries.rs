//! The queries of the committed dashboards, as the searches that Kibana, OpenSearch Dashboards and Grafana send for them.
//! <https://www.elastic.co/docs/reference/query-languages/query-dsl/query-dsl-query-string-query> is what both make of
//! Lucene's syntax.

use std::path::Path;

use drover_tests::parts::search::Server;
use serde_json::{Map, Value, json};

/// One file of `dashboards/`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// Saved objects of Kibana or OpenSearch Dashboards.
    SavedObjects,
    /// A dashboard of Grafana.
    Grafana,
}

/// What a panel asks.
#[derive(Debug)]
pub(crate) struct Query {
    /// The panel's title.
    pub(crate) panel: String,
    /// The fields of a list of events that are shown.
    pub(crate) columns: Vec<String>,
    form: Form,
    search: Value,
    levels: Vec<Level>,
}

/// One aggregation into buckets.
#[derive(Debug)]
struct Level {
    id: String,
    /// Whether its keys are names, and not moments.
    is_named: bool,
}

/// What was found: names from the outside in, and the number (the highest of all moments, or the sum of what is counted).
pub(crate) type Rows = Vec<(Vec<String>, f64)>;

/// Every query of a file.
pub(crate) fn queries(file: &str, form: Form) -> Vec<Query> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../dashboards").join(file);
    let text = std::fs::read_to_string(path).unwrap();
    match form {
        Form::SavedObjects => {
            let objects = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
            objects.filter_map(|object| of_saved_object(&object)).collect()
        }
        Form::Grafana => {
            let board: Value = serde_json::from_str(&text).unwrap();
            let panels = board["panels"].as_array().unwrap();
            panels.iter().flat_map(of_grafana_panel).collect()
        }
    }
}

fn inner(text: &Value) -> Value {
    serde_json::from_str(text.as_str().unwrap()).unwrap()
}

fn of_saved_object(object: &Value) -> Option<Query> {
    let attributes = &object["attributes"];
    let is_search = match object["type"].as_str().unwrap() {
        "visualization" => false,
        "search" => true,
        _ => return None,
    };
    let title = attributes["title"].as_str().unwrap();
    let panel = title.strip_prefix("Drover: ").unwrap().to_owned();
    let source = inner(&attributes["kibanaSavedObjectMeta"]["searchSourceJSON"]);
    let lucene =
        json!({"query_string": {"query": source["query"]["query"], "analyze_wildcard": true}});
    let mut search = json!({
        "size": 0, "track_total_hits": true,
        "query": {"bool": {"must": [lucene], "filter": [range()]}},
    });
    let mut levels = Vec::new();
    if is_search {
        search["size"] = json!(500);
        search["sort"] = attributes["sort"].as_array().unwrap().iter().map(sort).collect();
    } else {
        let state = inner(&attributes["visState"]);
        if state["type"] == "vega" {
            search = of_vega(&inner(&state["params"]["spec"]));
        } else {
            let aggs = state["aggs"].as_array().unwrap();
            let measure = aggs.iter().find(|agg| agg["schema"] == "metric").unwrap();
            let measure = Measure::read(measure, &measure["params"]);
            let buckets = aggs.iter().filter(|agg| agg["schema"] != "metric");
            let buckets: Vec<_> = buckets.map(|agg| (agg, agg["params"].clone())).collect();
            (search["aggs"], levels) = nest(&measure, &buckets);
        }
    }
    let columns = texts(&attributes["columns"]);
    Some(Query { panel, columns, form: Form::SavedObjects, search, levels })
}

fn texts(list: &Value) -> Vec<String> {
    let texts = list.as_array().into_iter().flatten();
    texts.map(|text| text.as_str().unwrap().to_owned()).collect()
}

fn of_grafana_panel(panel: &Value) -> Vec<Query> {
    let targets = panel["targets"].as_array().unwrap().iter();
    let columns = texts(&panel["transformations"][0]["options"]["include"]["names"]);
    let query = |target: &Value| {
        let lucene = json!({"query_string": {"query": target["query"], "analyze_wildcard": true}});
        let mut search = json!({
            "size": 0, "track_total_hits": true, "query": {"bool": {"filter": [range(), lucene]}},
        });
        let measure = &target["metrics"][0];
        let mut levels = Vec::new();
        if measure["type"] == "raw_data" {
            let size: u64 = measure["settings"]["size"].as_str().unwrap().parse().unwrap();
            search["size"] = json!(size);
            search["sort"] = json!([{"@timestamp": {"order": "desc", "unmapped_type": "boolean"}}]);
        } else {
            let buckets = target["bucketAggs"].as_array().unwrap().iter();
            let buckets: Vec<_> = buckets
                .map(|agg| {
                    let mut params = agg["settings"].clone();
                    params["field"] = agg["field"].clone();
                    (agg, params)
                })
                .collect();
            (search["aggs"], levels) = nest(&Measure::read(measure, measure), &buckets);
        }
        let panel = panel["title"].as_str().unwrap().to_owned();
        Query { panel, columns: columns.clone(), form: Form::Grafana, search, levels }
    };
    targets.map(query).collect()
}

fn range() -> Value {
    json!({"range": {"@timestamp": {"gte": "now-24h", "lte": "now"}}})
}

fn sort(by: &Value) -> Value {
    let field = by[0].as_str().unwrap();
    json!({field: {"order": by[1], "unmapped_type": "boolean"}})
}

/// A Vega panel has its search in itself; of the dashboard's filters there are none here.
fn of_vega(spec: &Value) -> Value {
    let mut body = spec["data"]["url"]["body"].clone();
    for clause in ["must", "filter", "must_not"] {
        let clauses = body["query"]["bool"][clause].as_array_mut().unwrap();
        let before = clauses.len();
        clauses.retain(|one| *one != json!(format!("%dashboard_context-{clause}_clause%")));
        assert_eq!(clauses.len() + 1, before, "the dashboard's own filters have their place");
    }
    body
}

/// What is measured in each bucket.
struct Measure {
    id: String,
    /// Nothing where documents are counted.
    agg: Option<Value>,
}

impl Measure {
    fn read(agg: &Value, params: &Value) -> Self {
        let id = agg["id"].as_str().unwrap().to_owned();
        let kind = agg["type"].as_str().unwrap();
        let agg = (kind != "count").then(|| json!({kind: {"field": params["field"]}}));
        Self { id, agg }
    }
}

/// Aggregations within each other, each with the measure beside it, by which terms are ordered.
fn nest(measure: &Measure, buckets: &[(&Value, Value)]) -> (Value, Vec<Level>) {
    let own = || measure.agg.iter().map(|agg| (measure.id.clone(), agg.clone()));
    let mut aggs: Map<String, Value> = own().collect();
    let mut levels = Vec::new();
    for (agg, params) in buckets.iter().rev() {
        let id = agg["id"].as_str().unwrap().to_owned();
        let kind = agg["type"].as_str().unwrap();
        let mut body = bucket(kind, params, measure);
        body["aggs"] = Value::Object(aggs);
        aggs = own().collect();
        aggs.insert(id.clone(), body);
        levels.insert(0, Level { id, is_named: kind == "terms" });
    }
    (Value::Object(aggs), levels)
}

fn bucket(kind: &str, params: &Value, measure: &Measure) -> Value {
    match kind {
        "terms" => {
            // Grafana writes numbers as text.
            let size = params["size"]
                .as_str()
                .map_or(params["size"].clone(), |size| json!(size.parse::<u64>().unwrap()));
            let by = params["orderBy"].as_str().unwrap();
            let is_count = by == "_count" || (measure.agg.is_none() && by == measure.id);
            assert!(is_count || by == measure.id, "nothing to order by: {by}");
            let by = if is_count { "_count" } else { by };
            let mut terms =
                json!({"field": params["field"], "size": size, "order": {by: params["order"]}});
            if let Some(missing) = params.get("missing") {
                terms["missing"] = missing.clone();
            }
            json!({"terms": terms})
        }
        "date_histogram" => {
            assert_eq!(params["interval"], "auto");
            json!({"date_histogram": {
                "field": params["field"], "fixed_interval": "30s", "min_doc_count": 1,
            }})
        }
        "filters" => {
            let filters = params["filters"].as_array().unwrap().iter();
            let filters = filters.map(|filter| {
                let lucene = json!({"query_string": {"query": filter["query"]}});
                (filter["label"].as_str().unwrap().to_owned(), lucene)
            });
            json!({"filters": {"filters": filters.collect::<Map<_, _>>()}})
        }
        _ => panic!("no panel has an aggregation `{kind}`"),
    }
}

impl Query {
    /// Whether it is of a dashboard for Grafana, which asks two things another way.
    pub(crate) fn is_grafana(&self) -> bool {
        self.form == Form::Grafana
    }

    /// What the server finds.
    pub(crate) fn run(&self, server: &Server, index: &str) -> Rows {
        let path = format!("/{index}/_search");
        let answer = server.request("POST", &path, &self.search);
        assert_eq!(answer.status, 200, "{}: {}\n{}", self.panel, answer.body, self.search);
        assert_eq!(answer.body["_shards"]["failed"], 0, "{}: {}", self.panel, answer.body);
        let mut rows = Rows::new();
        if self.search["size"] != 0 {
            for hit in answer.body["hits"]["hits"].as_array().unwrap() {
                let message = hit["_source"]["message"].as_str().unwrap().to_owned();
                rows.push((vec![message], 1.0));
            }
        } else if let Some(minions) = answer.body["aggregations"].get("minions") {
            of_vegas_minions(minions, &mut rows);
        } else {
            let mut found = answer.body["aggregations"].clone();
            found["doc_count"] = answer.body["hits"]["total"]["value"].clone();
            self.add(&found, &self.levels, &mut Vec::new(), &mut rows);
        }
        rows
    }

    fn add(&self, found: &Value, levels: &[Level], names: &mut Vec<String>, rows: &mut Rows) {
        let Some((level, deeper)) = levels.split_first() else {
            let measured = found.get("1").map(|measure| &measure["value"]);
            let value = measured.unwrap_or(&found["doc_count"]).as_f64();
            let Some(value) = value else { return };
            match rows.iter_mut().find(|(others, _)| others == names) {
                Some((_, before)) if measured.is_some() => *before = before.max(value),
                Some((_, before)) => *before += value,
                None => rows.push((names.clone(), value)),
            }
            return;
        };
        let buckets = &found[&level.id]["buckets"];
        // Those of filters have names in place of an order.
        let named = buckets.as_object().into_iter().flat_map(|named| named.values());
        let buckets = buckets.as_array().into_iter().flatten().chain(named);
        for bucket in buckets {
            if level.is_named {
                names.push(bucket["key"].as_str().unwrap().to_owned());
            }
            self.add(bucket, deeper, names, rows);
            if level.is_named {
                names.pop();
            }
        }
    }
}

/// What the Vega panels draw: who was lost after the last sign, or channels and versions.
fn of_vegas_minions(minions: &Value, rows: &mut Rows) {
    for bucket in minions["buckets"].as_array().unwrap() {
        if let Some(sign) = bucket.get("sign") {
            let moment = |of: &Value| of["last"]["value"].as_f64().unwrap_or(0.0);
            if moment(&bucket["lost"]) > moment(sign) {
                let minion = bucket["key"].as_str().unwrap().to_owned();
                rows.push((vec![minion], moment(sign)));
            }
            continue;
        }
        let last = &bucket["last"]["hits"]["hits"][0]["_source"];
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let names = vec![text(&last["labels"]["channel"]), text(&last["agent"]["version"])];
        match rows.iter_mut().find(|(others, _)| *others == names) {
            Some((_, minions)) => *minions += 1.0,
            None => rows.push((names, 1.0)),
        }
    }
}
