use std::{collections::BTreeMap, path::Path, sync::Arc};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::StatusCode,
    routing::{post, put},
};
use drover_proto::event::Event;
use tempfile::TempDir;
use tokio::{
    net::TcpListener,
    sync::{Mutex, watch as channel},
};

use super::*;
use crate::{config::Config, store::Retention};

/// As much of Elasticsearch as the bridge uses, with the moods of one.
#[derive(Clone, Default)]
struct Server(Arc<Mutex<Moods>>);

#[derive(Default)]
struct Moods {
    /// Documents by id.
    documents: BTreeMap<String, Value>,
    templates: Vec<Value>,
    /// Knows neither `flattened` nor its like.
    is_old: bool,
    /// Answers 503 so many times.
    away: u32,
    /// Answers 429 for each second document so many times.
    busy: u32,
    /// Answers 413 to more documents than this.
    most: Option<usize>,
    /// Refuses documents whose tag is this: as they are, and as text.
    refuses: Option<(&'static str, bool)>,
}

async fn put_template(State(server): State<Server>, body: String) -> (StatusCode, String) {
    let mut moods = server.0.lock().await;
    if moods.away > 0 {
        moods.away -= 1;
        return (StatusCode::SERVICE_UNAVAILABLE, "starting".into());
    }
    let template: Value = serde_json::from_str(&body).unwrap();
    let kind = template["template"]["mappings"]["properties"]["data"]["type"].clone();
    moods.templates.push(template);
    if moods.is_old && kind != "object" {
        let reason =
            format!("No handler for type [{}] declared on field [data]", kind.as_str().unwrap());
        let error = json!({"error": {"type": "mapper_parsing_exception", "reason": reason}});
        return (StatusCode::BAD_REQUEST, error.to_string());
    }
    (StatusCode::OK, "{}".into())
}

async fn bulk(State(server): State<Server>, body: Bytes) -> (StatusCode, String) {
    let mut moods = server.0.lock().await;
    let lines: Vec<Value> = body
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect();
    let pairs: Vec<_> = lines.chunks(2).collect();
    if moods.most.is_some_and(|most| pairs.len() > most) {
        return (StatusCode::PAYLOAD_TOO_LARGE, String::new());
    }
    let is_busy = moods.busy > 0;
    moods.busy = moods.busy.saturating_sub(1);
    let mut items = Vec::new();
    for (number, pair) in pairs.into_iter().enumerate() {
        let id = pair[0]["create"]["_id"].as_str().unwrap().to_owned();
        let is_text = pair[1].get("data_json").is_some();
        let status = match moods.refuses {
            Some((tag, also_text)) if pair[1]["tag"] == tag && (also_text || !is_text) => 400,
            _ if is_busy && number % 2 == 1 => 429,
            _ if moods.documents.contains_key(&id) => 409,
            _ => 201,
        };
        if status == 201 {
            moods.documents.insert(id, pair[1].clone());
        }
        items.push(json!({"create": {"status": status, "error": {"type": "t", "reason": "r"}}}));
    }
    (StatusCode::OK, json!({"items": items}).to_string())
}

struct Setup {
    directory: TempDir,
    store: Store,
    server: Server,
    config: String,
}

impl Setup {
    async fn new() -> Self {
        let directory = TempDir::new().unwrap();
        let store = Store::open(&directory.path().join("data"), Retention::default()).unwrap();
        let server = Server::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let app = Router::new()
            .route("/_index_template/{name}", put(put_template))
            .route("/_bulk", post(bulk))
            .with_state(server.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        // The first host is nobody.
        let config = format!(
            "bridges: [{{name: elk, type: elasticsearch, hosts: ['http://127.0.0.1:1', 'http://127.0.0.1:{port}'], \
             index: drover-events, batch_delay: 10ms}}]\n"
        );
        Self { directory, store, server, config }
    }

    fn file(mut self) -> Self {
        self.config =
            "bridges: [{name: log, type: file, path: events.ndjson, batch_delay: 10ms}]\n".into();
        self
    }

    fn start(&self) -> (BridgeHandle, tokio::task::JoinHandle<Result<(), BridgeStopped>>) {
        let config = Config::parse(&self.config, self.directory.path()).unwrap();
        let bridge = super::super::read(config.bridges.as_ref().unwrap()).unwrap().remove(0);
        let (handle, task) = BridgeTask::new(self.store.clone(), bridge).unwrap();
        (handle, tokio::spawn(task.run()))
    }

    async fn send(&self, tag: &str, data: Value) -> u64 {
        self.store.append(NewEvent::new(tag.parse().unwrap(), None, data)).await.unwrap()
    }

    /// Waits until the bridge is done with everything up to an event.
    async fn settled(&self, handle: &BridgeHandle, seq: u64) {
        let mut progress: channel::Receiver<_> = handle.progress();
        progress.wait_for(|progress| progress.settled >= seq).await.unwrap();
    }

    fn lines(&self) -> Vec<u64> {
        let text = std::fs::read_to_string(self.path()).unwrap();
        text.lines().map(|line| serde_json::from_str::<Event>(line).unwrap().seq).collect()
    }

    fn path(&self) -> std::path::PathBuf {
        Path::new(self.directory.path()).join("events.ndjson")
    }
}

#[tokio::test]
async fn events_arrive_once_over_an_outage_and_a_busy_server() {
    let setup = Setup::new().await;
    setup.server.0.lock().await.busy = 2;
    for n in 0..20 {
        setup.send("a/b", json!({"n": n})).await;
    }
    let (handle, task) = setup.start();
    setup.settled(&handle, 20).await;
    task.abort();
    // Killed before its cursor moved: everything is sent again, and nothing is doubled.
    setup.store.set_cursor("bridge/elk", 0).await.unwrap();
    let (handle, _task) = setup.start();
    let last = setup.send("a/end", Value::Null).await;
    setup.settled(&handle, last).await;
    let moods = setup.server.0.lock().await;
    let a: Vec<_> = moods.documents.values().filter(|document| document["tag"] == "a/b").collect();
    assert_eq!(a.len(), 20);
    assert_eq!(moods.documents.values().filter(|document| document["tag"] == "a/end").count(), 1);
    let document = a.first().unwrap();
    assert_eq!(document["@timestamp"], document["ts"]);
    assert_eq!(moods.templates[0]["index_patterns"], json!(["drover-events"]));
}

#[tokio::test]
async fn a_down_and_an_up_are_told_and_do_not_feed_themselves() {
    let setup = Setup::new().await;
    setup.server.0.lock().await.away = 2;
    let seq = setup.send("a/b", Value::Null).await;
    let (handle, _task) = setup.start();
    setup.settled(&handle, seq).await;
    let events = setup.store.events(0, 100).await.unwrap();
    let tags: Vec<_> = events.iter().map(|event| event.tag.as_str()).collect();
    assert_eq!(tags, ["a/b", "drover/bridge/elk/down"], "the up waits for its minute");
    let status = handle.status();
    assert!(status.up);
    assert!(status.last_error.is_some_and(|error| error.contains("127.0.0.1")));
}

#[tokio::test]
async fn a_refused_shape_goes_as_text_and_what_is_refused_twice_is_a_dead_letter() {
    let setup = Setup::new().await;
    setup.server.0.lock().await.refuses = Some(("odd/shape", false));
    let seq = setup.send("odd/shape", json!({"x": [1]})).await;
    let (handle, _task) = setup.start();
    setup.settled(&handle, seq).await;
    {
        let mut moods = setup.server.0.lock().await;
        assert!(moods.documents.values().any(|document| document["data_json"] == "{\"x\":[1]}"));
        moods.refuses = Some(("never/ever", true));
    }
    let dead = setup.send("never/ever", Value::Null).await;
    let last = setup.send("a/end", Value::Null).await;
    setup.settled(&handle, last).await;
    let letters = handle.dead_letters().unwrap();
    assert_eq!(letters.iter().map(|letter| letter.seq).collect::<Vec<_>>(), [dead]);
    assert_eq!((letters[0].tag.as_str(), letters[0].reason.as_str()), ("never/ever", "t: r"));
    assert_eq!(handle.status().dead_letters, 1);
}

#[tokio::test]
async fn a_server_without_flattened_gets_what_it_knows() {
    let setup = Setup::new().await;
    setup.server.0.lock().await.is_old = true;
    let seq = setup.send("a/b", Value::Null).await;
    let (handle, _task) = setup.start();
    setup.settled(&handle, seq).await;
    let moods = setup.server.0.lock().await;
    let kinds: Vec<_> = moods
        .templates
        .iter()
        .map(|template| template["template"]["mappings"]["properties"]["data"]["type"].clone())
        .collect();
    assert_eq!(kinds, ["flattened", "flat_object", "object"]);
}

#[tokio::test]
async fn a_batch_that_is_too_large_is_sent_in_parts() {
    let setup = Setup::new().await;
    setup.server.0.lock().await.most = Some(3);
    let mut last = 0;
    for n in 0..20 {
        last = setup.send("a/b", json!({"n": n})).await;
    }
    let (handle, _task) = setup.start();
    setup.settled(&handle, last).await;
    let moods = setup.server.0.lock().await;
    assert_eq!(moods.documents.values().filter(|document| document["tag"] == "a/b").count(), 20);
}

#[tokio::test]
async fn a_file_has_every_line_once_wherever_the_master_was_killed() {
    let setup = Setup::new().await.file();
    for n in 0..20 {
        setup.send("a/b", json!({"n": n})).await;
    }
    let (handle, task) = setup.start();
    setup.settled(&handle, 20).await;
    task.abort();
    let whole = std::fs::read(setup.path()).unwrap();
    for cursor in [0, 7, 19, 20] {
        // The lines were written, the cursor had not moved that far, and the last line is torn.
        let torn = whole.len() - 10;
        std::fs::write(setup.path(), &whole[..torn]).unwrap();
        setup.store.set_cursor("bridge/log", cursor.min(19)).await.unwrap();
        let (handle, task) = setup.start();
        setup.settled(&handle, 20).await;
        task.abort();
        assert!(task.await.is_err());
        assert_eq!(setup.lines(), (1..=20).collect::<Vec<_>>(), "the cursor was at {cursor}");
    }
}

#[tokio::test]
async fn a_file_of_another_log_keeps_nothing_back() {
    let setup = Setup::new().await.file();
    let other = Event {
        id: uuid::Uuid::from_u128(1),
        seq: 1_000,
        ts: Timestamp::UNIX_EPOCH,
        at: None,
        tag: "old/log".parse().unwrap(),
        minion: None,
        data: Value::Null,
    };
    std::fs::write(setup.path(), format!("{}\n", serde_json::to_string(&other).unwrap())).unwrap();
    let seq = setup.send("a/b", Value::Null).await;
    let (handle, _task) = setup.start();
    setup.settled(&handle, seq).await;
    assert_eq!(setup.lines(), [1_000, 1]);
}
