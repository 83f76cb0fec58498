//! Durable events a second from eight producers, beside the budget: each producer waits until its hundred events are
//! on the disk before it appends the next hundred, as a session with a full window does.

use std::{path::Path, time::Duration};

use drover_master::store::{Batch, Retention, Store};
use drover_proto::event::NewEvent;

const PRODUCERS: u64 = 8;
const WINDOW: u64 = 100;
const BUDGET: f64 = 50_000.0;

fn main() {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    for rounds in [20, 200] {
        let events = PRODUCERS * WINDOW * rounds;
        let took = runtime.block_on(run(directory.path(), rounds));
        let rate = events as f64 / took.as_secs_f64();
        println!("{events} events in {took:.2?}: {rate:.0} a second (budget {BUDGET:.0})");
    }
}

#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
async fn run(directory: &Path, rounds: u64) -> Duration {
    let store = loop {
        // The writer of the round before lets go of the directory a moment after its store is dropped.
        match Store::open(directory, Retention::default()) {
            Ok(store) => break store,
            Err(_) => tokio::task::yield_now().await,
        }
    };
    let started = std::time::Instant::now();
    let mut producers = tokio::task::JoinSet::new();
    for producer in 0..PRODUCERS {
        let store = store.clone();
        producers.spawn(async move {
            for round in 0..rounds {
                store.write(window(producer, round)).await.expect("a store that works");
            }
        });
    }
    producers.join_all().await;
    started.elapsed()
}

/// A hundred events of about 300 bytes.
fn window(producer: u64, round: u64) -> Batch {
    let mut batch = Batch::new();
    for n in 0..WINDOW {
        let tag = format!("drover/beacon/device-{producer}/load").parse().expect("a tag");
        let minion = format!("device-{producer}").parse().expect("an id");
        let data = serde_json::json!({
            "1m": 0.25 + n as f64, "5m": 0.5, "15m": 0.75, "round": round,
            "note": "a payload that makes the event about as long as the ones that beacons send, with some text in it",
        });
        batch.event(NewEvent::new(tag, Some(minion), data));
    }
    batch
}
