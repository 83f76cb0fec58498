use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Mutex as Lock, MutexGuard},
};

use drover_states::yaml;
use jiff::SignedDuration;

use super::*;
use crate::bridge::{
    elasticsearch::ElasticsearchSink,
    http::fake::{answering, says},
    sink::{Quiet, item},
};

const JSON: &str = "content-type: application/json\r\n";

/// When the first of [`item`]s' events and indices are made, in seconds.
const NOON: i64 = 1_795_401_425;

/// A node with one data stream, or with daily indices, and the documents' ids in each index.
#[derive(Debug, Default)]
struct Node {
    stream: Vec<String>,
    stored: BTreeMap<String, BTreeSet<String>>,
    has_template: bool,
    /// The beginning of a request that it has no time for, once, after so many others.
    busy: Option<(&'static str, usize)>,
    /// An index that it does not give away.
    kept: String,
    /// How many seconds its clock is behind.
    behind: i64,
}

impl Node {
    fn answer(&mut self, request: &str) -> (&'static str, Value) {
        if let Some((begin, others)) = &mut self.busy
            && request.starts_with(*begin)
        {
            if *others == 0 {
                self.busy = None;
                let error = json!({"type": "busy_exception", "reason": "busy"});
                return ("429 Too Many Requests", json!({"error": error}));
            }
            *others -= 1;
        }
        let (head, body) = request.split_once("\r\n\r\n").unwrap();
        let (method, rest) = head.split_once(' ').unwrap();
        let path = rest.split([' ', '?']).next().unwrap();
        let ok = |said| ("200 OK", said);
        match (method, path) {
            ("GET", "/") => ok(json!({"cluster_uuid": "A", "version": {"number": "8.19.21"}})),
            ("GET", path) if path.starts_with("/_index_template/") && !self.has_template => {
                ("404 Not Found", json!({}))
            }
            ("PUT", path) if path.starts_with("/_index_template/") => {
                self.has_template = true;
                ok(json!({"acknowledged": true}))
            }
            ("GET", path) if path.starts_with("/_resolve/index/") => {
                let stream = json!({"name": "e", "backing_indices": self.stream});
                let streams = if self.stream.is_empty() { vec![] } else { vec![stream] };
                ok(json!({"data_streams": streams}))
            }
            ("GET", path) if path.starts_with("/_cat/indices/") => {
                let line = |(at, name): (usize, &String)| {
                    let created = (NOON - self.behind + i64::try_from(at).unwrap()) * 1000;
                    let created = created.to_string();
                    json!({"index": name, "pri.store.size": "5000000", "docs.count": "5", "creation.date": created})
                };
                ok(self.stored.keys().enumerate().map(line).collect())
            }
            ("GET", path) if path.ends_with("/_mapping") => {
                let ours = |name: &String| {
                    (name.clone(), json!({"mappings": {"_meta": {"drover_template": 1}}}))
                };
                ok(self.stored.keys().map(ours).collect())
            }
            ("GET", path) if path.ends_with("/_settings") => ("404 Not Found", json!({})),
            ("POST", "/e/_rollover") => {
                self.roll();
                ok(json!({"new_index": self.stream.last()}))
            }
            ("POST", "/_mget") => {
                let asked: Value = serde_json::from_str(body).unwrap();
                let found = |doc: &Value| {
                    let ids = self.stored.get(doc["_index"].as_str().unwrap());
                    let found = ids.is_some_and(|ids| ids.contains(doc["_id"].as_str().unwrap()));
                    json!({"_id": doc["_id"], "found": found})
                };
                let docs: Vec<_> = asked["docs"].as_array().unwrap().iter().map(found).collect();
                ok(json!({"docs": docs}))
            }
            ("POST", "/_bulk") => {
                let created: Vec<_> =
                    body.lines().step_by(2).map(|line| self.create(line)).collect();
                ok(json!({"items": created}))
            }
            ("DELETE", path) if path[1..] == self.kept => {
                let error = json!({"type": "snapshot_in_progress_exception", "reason": path});
                ("400 Bad Request", json!({"error": error}))
            }
            ("DELETE", path) => {
                self.stored.remove(&path[1..]);
                self.stream.retain(|name| *name != path[1..]);
                ok(json!({"acknowledged": true}))
            }
            _ => ok(json!({})),
        }
    }

    fn create(&mut self, line: &str) -> Value {
        let action: Value = serde_json::from_str(line).unwrap();
        let name = action["create"]["_index"].as_str().unwrap();
        assert!(self.has_template, "without it the server would map every field of `{name}`");
        let index = if name == "e" {
            if self.stream.is_empty() {
                self.roll();
            }
            self.stream.last().unwrap().clone()
        } else {
            name.to_owned()
        };
        let id = action["create"]["_id"].as_str().unwrap().to_owned();
        let is_new = self.stored.entry(index).or_default().insert(id);
        json!({"create": {"status": if is_new { 201 } else { 409 }}})
    }

    fn roll(&mut self) {
        let name = format!(".ds-e-2026.11.23-{:06}", self.stream.len() + 1);
        self.stored.insert(name.clone(), BTreeSet::new());
        self.stream.push(name);
    }

    /// How many documents there are of an event.
    fn copies(&self, item: &Item) -> usize {
        let id = item.event.id.to_string();
        self.stored.values().filter(|ids| ids.contains(&id)).count()
    }
}

#[derive(Debug, Default, Clone)]
struct Shared(Arc<Lock<Node>>);

impl Shared {
    fn node(&self) -> MutexGuard<'_, Node> {
        self.0.lock().unwrap()
    }

    async fn sink(&self, settings: &str) -> ElasticsearchSink {
        let node = self.clone();
        let (address, _) = answering(move |request| {
            let (status, said) = node.node().answer(request);
            says(status, JSON, said.to_string())
        })
        .await;
        let text = format!("hosts: 'http://{address}'\nindex: e\ncompression: false\n{settings}");
        let root = yaml::load_nodes(&text).unwrap();
        let mut settings = Settings::new(Path::new("/"), &text, root.as_ref()).unwrap();
        let sink = ElasticsearchSink::read(&mut settings).unwrap();
        settings.finish().unwrap();
        sink
    }
}

fn again(item: &Item) -> Item {
    Item { is_retry: true, ..item.clone() }
}

const QUIET: Quiet = Quiet { since_ambiguous: None };

#[tokio::test]
async fn a_retry_is_stored_once_although_what_followed_a_rollover_failed() {
    let node = Shared::default();
    let sink = node.sink("retention: {max_bytes: 20MiB}\n").await;
    let one = item(1, "a", json!({}));
    sink.deliver(std::slice::from_ref(&one)).await.unwrap();
    // The first listing is for the plan, the second to see the new index.
    node.node().busy = Some(("GET /_cat/indices", 1));
    let told: Vec<_> = sink.upkeep(QUIET).await.into_iter().map(|news| news.what).collect();
    assert_eq!(told, ["rolled", "retention_failed"]);
    sink.deliver(&[again(&one)]).await.unwrap();
    assert_eq!(node.node().copies(&one), 1);
}

#[tokio::test]
async fn a_retry_is_stored_once_although_somebody_else_rolled_over() {
    let node = Shared::default();
    let sink = node.sink("").await;
    let (one, two) = (item(1, "a", json!({})), item(2, "a", json!({})));
    sink.deliver(std::slice::from_ref(&one)).await.unwrap();
    node.node().roll();
    sink.deliver(&[again(&one), again(&two)]).await.unwrap();
    let node = node.node();
    assert_eq!((node.copies(&one), node.copies(&two)), (1, 1));
}

#[tokio::test]
async fn a_retry_is_stored_once_although_the_masters_clock_is_an_hour_ahead() {
    let node = Shared::default();
    node.node().behind = 3600;
    let sink = node.sink("retention: external\n").await;
    let one = item(1, "a", json!({}));
    sink.deliver(std::slice::from_ref(&one)).await.unwrap();
    node.node().roll();
    sink.deliver(&[again(&one)]).await.unwrap();
    assert_eq!(node.node().copies(&one), 1);
}

#[tokio::test]
async fn a_template_that_somebody_removed_is_put_again_before_the_index_of_a_new_day() {
    let node = Shared::default();
    let sink = node.sink("daily: true\n").await;
    sink.deliver(&[item(1, "a", json!({}))]).await.unwrap();
    node.node().has_template = false;
    let mut tomorrow = item(2, "a", json!({}));
    let event = Arc::get_mut(&mut tomorrow.event).unwrap();
    event.ts += SignedDuration::from_hours(24);
    sink.deliver(&[tomorrow]).await.unwrap();
    assert!(node.node().has_template);
}

#[tokio::test]
async fn a_stream_and_a_template_that_somebody_removed_are_noticed() {
    let node = Shared::default();
    let sink = node.sink("").await;
    sink.deliver(&[item(1, "a", json!({}))]).await.unwrap();
    *node.node() = Node::default();
    // A minute later.
    sink.destination.found.lock().await.as_mut().unwrap().at -= BELIEVED;
    sink.deliver(&[item(2, "a", json!({}))]).await.unwrap();
    assert!(node.node().has_template);
}

#[tokio::test]
async fn an_index_that_cannot_be_removed_keeps_neither_the_others_nor_a_rollover_back() {
    let node = Shared::default();
    for _ in 0..4 {
        node.node().roll();
    }
    node.node().kept = ".ds-e-2026.11.23-000001".to_owned();
    let sink = node.sink("retention: {max_bytes: 11MiB}\n").await;
    sink.deliver(&[item(1, "a", json!({}))]).await.unwrap();
    let told = sink.upkeep(QUIET).await;
    let words: Vec<_> = told.iter().map(|news| news.what).collect();
    assert_eq!(words, ["index_removed", "rolled", "retention_failed"]);
    assert!(told[2].data["reason"].as_str().unwrap().contains("snapshot_in_progress"), "{told:?}");
}
