//! How fast the Elasticsearch bridge is beside a bare loop that sends the very same batches to the same server in the same
//! run: from the master's log into a data stream, against bodies that lie ready in memory. `DROVER_BENCH_EVENTS` sets how
//! many events (60000), `DROVER_BENCH_ROUNDS` how often each is measured (3), `DROVER_SEARCH_KINDS` which server is started.

use std::{
    collections::VecDeque,
    io::{BufRead, BufReader, Write},
    net::TcpStream,
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use drover_master::{
    bridge::{self, Body, BridgeTask, Documents, Form, Item},
    config::{Acceptance, Config},
    registry::Registry,
    store::{Batch, Retention, Store},
};
use drover_proto::event::NewEvent;
use drover_tests::parts::search::{Kind, Server};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

/// As many events in a batch and batches at once as the bridge has by itself.
const BATCH: usize = 500;
const IN_FLIGHT: usize = 4;
/// The bridge reaches this share of the bare loop's rate.
const BUDGET: f64 = 0.9;

fn main() {
    // `cargo test` runs benches too, to see that they start; the measurement is for `cargo bench`.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let runtime = Runtime::new().expect("a runtime");
    let events = number("DROVER_BENCH_EVENTS", 60_000);
    let store = runtime.block_on(filled(&directory.path().join("store"), events));
    let kind = Kind::chosen().into_iter().find(|kind| kind.has_data_streams());
    let kind = kind.expect("one of the servers has data streams");
    let server = Server::start(kind, directory.path().join("server"), &[]);
    let bodies = runtime.block_on(bodies(&store));
    let packed: usize = bodies.iter().map(Vec::len).sum();
    println!("{}: {events} events, {} bytes each when packed", kind.name(), packed / events);

    // The server compiles itself while it is used first.
    let _ = runtime.block_on(by_bridge(&store, &server, "warm"));
    let _ = bare(&server, &bodies, "warm");
    let (mut bridge, mut loops) = (Vec::new(), Vec::new());
    for round in 0..number("DROVER_BENCH_ROUNDS", 3) {
        // Who is first has no advantage of it: each is, in turn.
        for turn in 0..2 {
            if (round + turn) % 2 == 0 {
                loops.push(bare(&server, &bodies, &round.to_string()));
            } else {
                let round = round.to_string();
                bridge.push(runtime.block_on(by_bridge(&store, &server, &round)));
            }
        }
    }
    let rate = |times: &mut Vec<Duration>| {
        times.sort_unstable();
        events as f64 / times[times.len() / 2].as_secs_f64()
    };
    let (bridge, bare) = (rate(&mut bridge), rate(&mut loops));
    println!("bare bulk loop  {bare:>8.0} events a second");
    println!("bridge          {bridge:>8.0} events a second");
    println!("ratio           {:>8.2}   (budget {BUDGET})", bridge / bare);
}

fn number(name: &str, default: usize) -> usize {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
fn now() -> Instant {
    Instant::now()
}

/// A log with what a fleet tells: beacons mostly, and what its programs say.
async fn filled(directory: &Path, events: usize) -> Store {
    let store = Store::open(directory, Retention::default()).expect("a new store");
    for first in (0..events).step_by(BATCH) {
        let mut batch = Batch::new();
        for number in first..(first + BATCH).min(events) {
            batch.event(event(number));
        }
        store.write(batch).await.expect("a store that works");
    }
    store
}

fn event(number: usize) -> NewEvent {
    let id = format!("device-{}", number % 200);
    let (tag, data) = match number % 4 {
        0 => (
            format!("drover/beacon/{id}/load"),
            json!({"1m": 0.25 + number as f64, "5m": 0.5, "15m": 0.75}),
        ),
        1 => (
            format!("drover/beacon/{id}/diskusage"),
            json!({"mount": "/var", "used_percent": (number % 1000) as f64 / 10.0}),
        ),
        2 => (
            format!("drover/app/{id}/door"),
            json!({"badge": format!("{number:08x}"), "open": true, "antenna": number % 8, "site": "bne"}),
        ),
        _ => (
            format!("drover/beacon/{id}/log"),
            json!({"message": format!("reader {number}: tag seen, rssi -{} dBm", number % 70), "file": "/var/log/rfid"}),
        ),
    };
    let minion = id.parse().expect("an id");
    NewEvent::new(tag.parse().expect("a tag"), Some(minion), data)
}

/// The very bodies that the bridge sends, but for the name of the index.
async fn bodies(store: &Store) -> Vec<Vec<u8>> {
    let documents = Documents::default();
    let mut bodies = Vec::new();
    let mut after = 0;
    loop {
        let events = store.events(after, BATCH).await.expect("a store that works");
        let Some(last) = events.last() else { return bodies };
        after = last.seq;
        let mut lines = Vec::new();
        for event in events {
            let action = json!({"create": {"_id": event.id}});
            lines.extend_from_slice(action.to_string().as_bytes());
            lines.push(b'\n');
            let item = Item { event, grains: Arc::default(), form: Form::Whole, is_retry: false };
            documents.write(&item, &mut lines);
            lines.push(b'\n');
        }
        let body = Body::written("application/x-ndjson", true, |to| to.write_all(&lines));
        bodies.push(body.bytes.to_vec());
    }
}

/// How long a bridge takes for the whole log, its first words to the server included.
async fn by_bridge(store: &Store, server: &Server, round: &str) -> Duration {
    let (last, name) = (store.last_seq(), format!("bridge-{round}"));
    let text = format!(
        "bridges: [{{name: {name}, type: elasticsearch, hosts: ['{}'], index: bench-{name}}}]\n",
        server.url()
    );
    let config = Config::parse(&text, Path::new("/")).expect("a configuration");
    let section = config.bridges.expect("it has bridges");
    let bridge = bridge::read(&section).expect("a bridge").remove(0);
    let (registry, _task) =
        Registry::open(store.clone(), Acceptance::Auto).expect("a store that works");
    let began = now();
    let (_handle, task) = BridgeTask::new(store.clone(), registry, bridge).expect("a bridge");
    let running = tokio::spawn(task.run());
    while store.cursor(&format!("bridge/{name}")).expect("a store that works").unwrap_or(0) < last {
        assert!(!running.is_finished(), "the bridge runs");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let took = began.elapsed();
    running.abort();
    check(server, &format!("bench-{name}"), last);
    took
}

/// How long it takes to send bodies that are made already, and to read the answers and forget them.
fn bare(server: &Server, bodies: &[Vec<u8>], round: &str) -> Duration {
    // The same mapping, from the template that the bridge has put.
    let name = format!("bench-bare-{round}");
    let found = server.get("/_index_template/drover-bench-bridge-warm");
    let mut template = found["index_templates"][0]["index_template"].clone();
    template["index_patterns"] = json!([name]);
    let _ = server.request("PUT", &format!("/_index_template/{name}"), &template).ok();
    let waiting: Mutex<VecDeque<&Vec<u8>>> = Mutex::new(bodies.iter().collect());
    let next = || waiting.lock().expect("nobody panicked").pop_front();
    let began = now();
    std::thread::scope(|scope| {
        for _ in 0..IN_FLIGHT {
            scope.spawn(|| {
                let mut connection = TcpStream::connect(("127.0.0.1", server.port())).expect("a server");
                connection.set_nodelay(true).expect("a socket");
                let mut answers = BufReader::new(connection.try_clone().expect("a socket"));
                while let Some(body) = next() {
                    let head = format!(
                        "POST /{name}/_bulk?filter_path=items.*.status HTTP/1.1\r\nhost: x\r\n\
                         content-type: application/x-ndjson\r\ncontent-encoding: gzip\r\naccept-encoding: gzip\r\n\
                         content-length: {}\r\n\r\n",
                        body.len()
                    );
                    connection.write_all(head.as_bytes()).expect("a server");
                    connection.write_all(body).expect("a server");
                    forget(&mut answers);
                }
            });
        }
    });
    let took = began.elapsed();
    let events = number("DROVER_BENCH_EVENTS", 60_000);
    check(server, &name, events as u64);
    took
}

/// Reads an answer with a length, or in chunks.
fn forget(answers: &mut impl BufRead) {
    let mut line = String::new();
    let mut length = None;
    loop {
        line.clear();
        assert!(answers.read_line(&mut line).expect("an answer") > 0, "the server answers");
        if let Some(status) = line.strip_prefix("HTTP/1.1 ") {
            assert!(status.starts_with("200"), "{status}");
        }
        if let Some(text) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = Some(text.trim().parse().expect("a length"));
        }
        if line == "\r\n" {
            break;
        }
    }
    let mut skip = |bytes: usize| {
        let mut body = vec![0; bytes];
        answers.read_exact(&mut body).expect("an answer");
    };
    match length {
        Some(length) => skip(length),
        None => loop {
            let mut size = String::new();
            answers.read_line(&mut size).expect("an answer");
            let size = usize::from_str_radix(size.trim(), 16).expect("the size of a chunk");
            let mut body = vec![0; size + 2];
            answers.read_exact(&mut body).expect("an answer");
            if size == 0 {
                break;
            }
        },
    }
}

/// All of it is there, and goes.
fn check(server: &Server, index: &str, events: u64) {
    assert_eq!(server.count(index), events, "{index}");
    let backing: Vec<String> =
        server.get(&format!("/_resolve/index/{index}"))["data_streams"][0]["backing_indices"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect();
    assert_eq!(backing.len(), 1, "{index}");
}
