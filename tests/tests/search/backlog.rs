//! The server is away for long: the fleet does not notice, the master's memory stays bounded, the lag is told, and
//! nothing is lost.

use std::time::{Duration, Instant};

use drover_tests::{
    parts::search::{Server, on_any},
    wait,
};

use super::{
    payloads::simulated,
    pipeline::{Pipeline, is_long},
};

const MIB: u64 = 1024 * 1024;
const MINION: &str = "rfid-1";
/// What the master may hold more than before, whatever lies in the log: the engine's pages (64 MiB), the newest events
/// (16 MiB), the bridge's batches on their way, and what the allocator keeps.
const GROWTH: u64 = 128 * MIB;

#[test]
fn a_server_that_is_away_for_long_slows_nobody_and_loses_nothing() {
    on_any(away);
}

fn away(server: &Server) {
    let events = if is_long() { 200_000 } else { 40_000 };
    let mut pipeline = Pipeline::new(&[server.url()], "backlog", "");
    pipeline.fleet.enrol(MINION, &[]);
    pipeline.fleet.bring_up(&[MINION]);
    let _ = pipeline.every_event_is_there_once(server);
    let ping_before = ping(&pipeline);
    let memory_before = pipeline.fleet.master().memory();

    server.kill();
    let simulated = simulated(&pipeline.fleet, 4, events / 4);
    let mut peak = memory_before;
    wait::until("the log has the events", Duration::from_secs(180), || {
        peak = peak.max(pipeline.fleet.master().memory());
        pipeline.last_seq() >= events as u64
    });
    let ping_away = ping(&pipeline);
    let status = pipeline.wait_status("the status says how far the bridge is behind", |status| {
        status["state"] == "down" && status["lag"]["events"].as_u64() >= Some(events as u64)
    });
    assert!(status["lag"]["bytes"].as_u64() > Some(1_000_000), "{status}");
    assert!(status["lag"]["seconds"].is_number(), "{status}");
    simulated.kill();

    server.start_again(&[]);
    let began = now();
    let lag = |status: &serde_json::Value| status["lag"]["events"].as_u64().unwrap();
    let mut last = lag(&status);
    let mut ping_back = Duration::ZERO;
    wait::until_some(
        "the lag falls to nothing",
        Duration::from_secs(180),
        || {
            peak = peak.max(pipeline.fleet.master().memory());
            if ping_back.is_zero() && last < events as u64 {
                ping_back = ping(&pipeline);
            }
            last = lag(&pipeline.status());
            (last < 100).then_some(())
        },
        String::new,
    );
    let rate = events as f64 / began.elapsed().as_secs_f64();
    let count = pipeline.every_event_is_there_once(server);
    eprintln!(
        "{}: {count} events; {rate:.0} a second when the server was back; ping {ping_before:?}, while it was away \
         {ping_away:?}, while the backlog went {ping_back:?}; the master's memory {} MiB, at most {} MiB",
        server.kind().name(),
        memory_before / MIB,
        peak / MIB
    );
    assert!(peak < memory_before + GROWTH, "from {memory_before} to {peak} bytes");
    assert!(
        ping_away < ping_before * 3 + Duration::from_millis(100),
        "{ping_before:?} {ping_away:?}"
    );
    assert!(
        ping_back < ping_before * 5 + Duration::from_millis(250),
        "{ping_before:?} {ping_back:?}"
    );
}

/// The median time of a whole `drover rfid-1 test.ping`.
fn ping(pipeline: &Pipeline) -> Duration {
    let mut times: Vec<Duration> = (0..9)
        .map(|_| {
            let began = now();
            let _ = pipeline.fleet.drover(&[MINION, "test.ping"]).ok();
            began.elapsed()
        })
        .collect();
    times.sort_unstable();
    times[times.len() / 2]
}

#[expect(clippy::disallowed_methods, reason = "it tells how long it took")]
fn now() -> Instant {
    Instant::now()
}
