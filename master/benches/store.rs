//! What the event store costs, beside the engine itself doing the same by hand in the same run: durable events a second
//! from eight producers, the latency of a lone event, bytes on the disk and bytes written for each byte of event, and the
//! time to open after SIGKILL.
//!
//! The bare loop puts each event under a key of its own and flushes for each hundred. `cargo bench --bench store`.

use std::{
    env, fs,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use drover_master::store::{Batch, Retention, Store};
use drover_proto::event::NewEvent;
use tempfile::TempDir;

const PRODUCERS: u64 = 8;
const WINDOW: u64 = 100;
const BUDGET: f64 = 50_000.0;
const EVENTS: u64 = 1_000_000;
const LONE: u32 = 200;
/// Which child this is, and its directory.
const CHILD: &str = "DROVER_BENCH_CHILD";

/// What was measured of one way to store events.
struct Figures {
    rate: f64,
    stored: f64,
    written: f64,
    opened: Duration,
}

fn main() {
    if let Ok(child) = env::var(CHILD) {
        let (way, directory) = child.split_once(' ').expect("a way and a directory");
        fill(way, Path::new(directory));
        return;
    }
    let [store, bare] = ["store", "bare"].map(measure);
    println!("{EVENTS} events of {} bytes, {PRODUCERS} producers, {WINDOW} at a time", size());
    println!("{:<38}{:>12}{:>12}{:>8}", "", "store", "bare sled", "ratio");
    let row = |what: &str, store: f64, bare: f64| {
        println!("{what:<38}{store:>12.2}{bare:>12.2}{:>8.2}", store / bare);
    };
    row("durable events a second (thousands)", store.rate / 1e3, bare.rate / 1e3);
    row("bytes on the disk for a byte of event", store.stored, bare.stored);
    row("bytes written for a byte of event", store.written, bare.written);
    row("seconds to open after SIGKILL", store.opened.as_secs_f64(), bare.opened.as_secs_f64());
    println!("budget: {:.0} thousand a second", BUDGET / 1e3);
    lone();
}

/// Fills a store in a process of its own, which is then killed, and opens it.
fn measure(way: &str) -> Figures {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let mut child = Command::new(env::current_exe().expect("this program"))
        .env(CHILD, format!("{way} {}", directory.path().display()))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .expect("this program starts");
    let report = wait_for_report(&mut child, &directory);
    let bytes = (EVENTS * size()) as f64;
    let stored = disk_bytes(&directory.path().join("data")) as f64 / bytes;
    let started = now();
    match way {
        "store" => {
            let store = Store::open(&directory.path().join("data"), Retention::default());
            assert_eq!(store.expect("it opens").last_seq(), EVENTS, "every event is there");
        }
        _ => assert_eq!(bare(&directory.path().join("data")).len() as u64, EVENTS),
    }
    let opened = started.elapsed();
    let [took, written] = report;
    Figures { rate: EVENTS as f64 / took, stored, written: written / bytes, opened }
}

/// Seconds that the child took, and bytes that it wrote; then it is killed.
fn wait_for_report(child: &mut Child, directory: &TempDir) -> [f64; 2] {
    let path = directory.path().join("report");
    loop {
        assert!(child.try_wait().expect("a child").is_none(), "the child ended");
        if let Ok(report) = fs::read_to_string(&path)
            && let Some((took, written)) = report.trim_end_matches('.').split_once(' ')
            && report.ends_with('.')
        {
            child.kill().expect("it runs");
            child.wait().expect("it was killed");
            return [took, written].map(|number| number.parse().expect("a number"));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The child: stores everything, tells what it cost, and waits to be killed.
fn fill(way: &str, directory: &Path) {
    let (data, before) = (directory.join("data"), written());
    let started = now();
    let held: Box<dyn std::any::Any> = match way {
        "store" => {
            let runtime = runtime();
            let store = Store::open(&data, Retention::default()).expect("a store");
            runtime.block_on(produce(&store));
            Box::new((runtime, store))
        }
        _ => Box::new(produce_bare(&data)),
    };
    let report = format!("{} {}.", started.elapsed().as_secs_f64(), written() - before);
    fs::write(directory.join("report"), report).expect("the directory is writable");
    // Killed with everything open.
    std::thread::park();
    drop(held);
}

async fn produce(store: &Store) {
    let mut producers = tokio::task::JoinSet::new();
    for producer in 0..PRODUCERS {
        let store = store.clone();
        producers.spawn(async move {
            for round in 0..EVENTS / PRODUCERS / WINDOW {
                let mut batch = Batch::new();
                (0..WINDOW).for_each(|n| batch.event(event(producer, round, n)));
                store.write(batch).await.expect("a store that works");
            }
        });
    }
    producers.join_all().await;
}

fn produce_bare(directory: &Path) -> sled::Db {
    let db = bare(directory);
    let mut seq = 0_u64;
    for round in 0..EVENTS / WINDOW {
        let mut batch = sled::Batch::default();
        for n in 0..WINDOW {
            seq += 1;
            batch.insert(&seq.to_be_bytes(), encoded(&event(round % PRODUCERS, round, n)));
        }
        db.apply_batch(batch).and_then(|()| db.flush()).expect("an engine that works");
    }
    db
}

fn bare(directory: &Path) -> sled::Db {
    let config = sled::Config::new().path(directory).cache_capacity(64 << 20);
    let config = config.mode(sled::Mode::HighThroughput).flush_every_ms(None);
    loop {
        // A killed process lets go of the file a moment later.
        if let Ok(db) = config.open() {
            return db;
        }
        std::thread::yield_now();
    }
}

/// How long one event takes to be durable with nobody beside it.
fn lone() {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let store = Store::open(directory.path(), Retention::default()).expect("a store");
    let mut took: Vec<Duration> = runtime().block_on(async {
        let mut took = Vec::new();
        for n in 0..LONE {
            let started = now();
            store.append(event(0, 0, n.into())).await.expect("a store that works");
            took.push(started.elapsed());
        }
        took
    });
    took.sort_unstable();
    let [middle, late] = [took[took.len() / 2], took[took.len() * 99 / 100]];
    println!("a lone event is durable after {middle:.2?}, 99 of 100 within {late:.2?}");
}

/// An event of about 300 bytes.
fn event(producer: u64, round: u64, n: u64) -> NewEvent {
    let tag = format!("drover/beacon/device-{producer}/load").parse().expect("a tag");
    let minion = format!("device-{producer}").parse().expect("an id");
    let data = serde_json::json!({
        "1m": 0.25 + n as f64, "5m": 0.5, "15m": 0.75, "round": round,
        "note": "a payload that makes the event about as long as the ones that beacons send, with some text in it",
    });
    NewEvent::new(tag, Some(minion), data)
}

fn encoded(event: &NewEvent) -> Vec<u8> {
    let tag = event.tag.as_str();
    let minion = event.minion.as_ref().map(|minion| minion.as_str());
    // As the log has it, with an id and a time.
    rmp_serde::to_vec(&(uuid::Uuid::nil(), 1_795_000_000_000_000_i64, tag, minion, &event.data))
        .expect("JSON has a MessagePack form")
}

fn size() -> u64 {
    encoded(&event(0, 0, 0)).len() as u64
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime")
}

#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
fn now() -> Instant {
    Instant::now()
}

/// Bytes that this process has had written to a disk.
fn written() -> u64 {
    let counters = fs::read_to_string("/proc/self/io").expect("Linux counts");
    let line = counters.lines().find_map(|line| line.strip_prefix("write_bytes: "));
    line.and_then(|number| number.parse().ok()).expect("a count")
}

fn disk_bytes(directory: &Path) -> u64 {
    let entries = fs::read_dir(directory).expect("it is there");
    entries
        .map(|entry| entry.expect("it can be read"))
        // The reserve is no part of what the events take.
        .filter(|entry| entry.file_name() != "reserve")
        .map(|entry| match entry.metadata().expect("it is there") {
            directory if directory.is_dir() => disk_bytes(&entry.path()),
            file => file.len(),
        })
        .sum()
}
