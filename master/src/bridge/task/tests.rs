use std::{num::NonZeroU32, path::PathBuf};

use drover_proto::event::Event;
use serde_json::json;
use tempfile::TempDir;
use tokio::task::JoinHandle;

use super::*;
use crate::{
    bridge::{
        feed::Limits,
        filter::Filter,
        handle::{NothingToReplay, TestVerdict},
        sample::Sample,
        sink::{
            Failure, News,
            scripted::{Reply, Scripted},
        },
    },
    config::{Acceptance, Config},
    store::Retention,
};

struct Setup {
    directory: TempDir,
    store: Store,
    registry: Registry,
    sink: Arc<Scripted>,
    is_enabled: bool,
    rate: Option<NonZeroU32>,
}

impl Setup {
    fn new() -> Self {
        Self::with(Retention::default())
    }

    fn with(retention: Retention) -> Self {
        let directory = TempDir::new().unwrap();
        let store = Store::open(&directory.path().join("data"), retention).unwrap();
        let (registry, _task) = Registry::open(store.clone(), Acceptance::Auto).unwrap();
        let sink = Arc::new(Scripted::new(3));
        Self { directory, store, registry, sink, is_enabled: true, rate: None }
    }

    fn bridge(&self) -> Bridge {
        Bridge {
            name: "elk".into(),
            is_enabled: self.is_enabled,
            sink: Sink::Scripted(self.sink.clone()),
            filter: Filter::default(),
            sample: Sample::default(),
            rate: self.rate,
            grains: Vec::new(),
            limits: Limits { events: 4, bytes: 1 << 20, delay: Duration::from_millis(5) },
        }
    }

    fn start(&self) -> (BridgeHandle, JoinHandle<Result<(), BridgeStopped>>) {
        self.start_with(self.bridge())
    }

    fn start_with(&self, bridge: Bridge) -> (BridgeHandle, JoinHandle<Result<(), BridgeStopped>>) {
        let (handle, task) =
            BridgeTask::new(self.store.clone(), self.registry.clone(), bridge).unwrap();
        (handle, tokio::spawn(task.run()))
    }

    /// A bridge to `events.ndjson`, as the configuration has it.
    fn file(&self) -> Bridge {
        let text = "bridges: [{name: log, type: file, path: events.ndjson, batch_delay: 10ms}]\n";
        let config = Config::parse(text, self.directory.path()).unwrap();
        super::super::read(config.bridges.as_ref().unwrap()).unwrap().remove(0)
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("events.ndjson")
    }

    fn lines(&self) -> Vec<u64> {
        let text = std::fs::read_to_string(self.path()).unwrap();
        text.lines().map(|line| serde_json::from_str::<Event>(line).unwrap().seq).collect()
    }

    async fn send(&self, tag: &str, data: Value) -> u64 {
        self.store.append(NewEvent::new(tag.parse().unwrap(), None, data)).await.unwrap()
    }

    async fn send_many(&self, count: u64) -> u64 {
        let mut last = 0;
        for n in 0..count {
            last = self.send("a/b", json!({"n": n})).await;
        }
        last
    }

    /// How often the sink took each event of the log that the bridge did not make itself.
    async fn taken(&self) -> Vec<u32> {
        let events = self.store.events(0, 10_000).await.unwrap();
        let script = self.sink.script();
        let own = events.iter().filter(|event| !event.tag.matches("drover/bridge/*"));
        own.map(|event| script.taken.get(&event.seq).map_or(0, |(times, _)| *times)).collect()
    }

    async fn told(&self) -> Vec<String> {
        let events = self.store.events(0, 10_000).await.unwrap();
        let tags = events.iter().map(|event| event.tag.as_str());
        tags.filter_map(|tag| tag.strip_prefix("drover/bridge/elk/")).map(str::to_owned).collect()
    }
}

/// Waits until the bridge shows what is wanted.
async fn until(handle: &BridgeHandle, wanted: impl Fn(&Progress) -> bool) {
    let mut progress = handle.progress.clone();
    let shown = progress.wait_for(|progress| wanted(progress));
    tokio::time::timeout(Duration::from_secs(60), shown).await.unwrap().unwrap();
}

async fn settled(handle: &BridgeHandle, seq: u64) {
    until(handle, |progress| progress.settled >= seq).await;
}

#[tokio::test]
async fn events_arrive_once_over_outages_busy_answers_and_small_batches() {
    let setup = Setup::new();
    let replies = [Reply::Half, Reply::Fail(Failure::Away), Reply::Half, Reply::Half];
    setup.sink.script().replies.extend(replies);
    setup.sink.script().most = Some(3);
    let last = setup.send_many(60).await;
    let (handle, task) = setup.start();
    settled(&handle, last).await;
    assert!(setup.taken().await.iter().all(|times| *times == 1), "each once");
    assert!((2..=3).contains(&setup.sink.script().open.1), "several at a time");
    let status = handle.status().unwrap();
    assert_eq!((status.state, status.server.as_deref()), (BridgeState::Up, Some("a script")));
    assert!(status.retries > 0 && status.sent >= last && status.rate > 0.0, "{status:?}");
    task.abort();
}

#[tokio::test]
async fn a_bridge_goes_on_where_it_ended_and_says_what_may_have_been_sent() {
    let setup = Setup::new();
    let last = setup.send_many(10).await;
    let (handle, task) = setup.start();
    settled(&handle, last).await;
    task.abort();
    assert!(task.await.is_err());
    // Killed before its cursor moved past the fifth.
    setup.store.set_cursor("bridge/elk", 5).await.unwrap();
    setup.sink.script().taken.clear();
    let (handle, _task) = setup.start();
    let new = setup.send("a/b", Value::Null).await;
    settled(&handle, new).await;
    let script = setup.sink.script();
    let retries: Vec<_> =
        script.taken.iter().map(|(seq, (_, item))| (*seq, item.is_retry)).collect();
    let expected: Vec<_> = (6..=new).map(|seq| (seq, seq <= last)).collect();
    assert_eq!(retries, expected);
}

#[tokio::test]
async fn a_down_and_an_up_are_told_and_do_not_feed_themselves() {
    let setup = Setup::new();
    setup.sink.script().replies.extend([Reply::Fail(Failure::Away); 2]);
    let seq = setup.send("a/b", Value::Null).await;
    let (handle, _task) = setup.start();
    settled(&handle, seq).await;
    assert_eq!(setup.told().await, ["down"], "the up waits for its minute");
    let status = handle.status().unwrap();
    assert_eq!(status.state, BridgeState::Up);
    assert!(status.last_error.is_some_and(|error| error.contains("Away")));
}

#[tokio::test]
async fn one_that_is_turned_away_is_paused_until_it_is_resumed() {
    let setup = Setup::new();
    setup.sink.script().replies.extend([Reply::Fail(Failure::Denied)]);
    let seq = setup.send("a/b", Value::Null).await;
    let (handle, _task) = setup.start();
    until(&handle, |progress| progress.state == BridgeState::Paused).await;
    assert!(handle.status().unwrap().complaint().is_some_and(|why| why.contains("Denied")));
    handle.pause(false).await.unwrap();
    settled(&handle, seq).await;
    assert_eq!(handle.status().unwrap().state, BridgeState::Up);
    assert_eq!(setup.told().await, ["paused"]);
}

#[tokio::test]
async fn what_an_operator_paused_stays_so_over_a_restart() {
    let setup = Setup::new();
    let (handle, task) = setup.start();
    handle.pause(true).await.unwrap();
    let seq = setup.send("a/b", Value::Null).await;
    task.abort();
    assert!(task.await.is_err());
    let (handle, _task) = setup.start();
    let status = handle.status().unwrap();
    assert_eq!((status.state, status.complaint()), (BridgeState::Paused, None));
    assert!(status.lag.events > 0);
    handle.pause(false).await.unwrap();
    settled(&handle, seq).await;
    assert_eq!(setup.taken().await, [1]);
    assert_eq!(setup.told().await, ["paused", "resumed"]);
}

#[tokio::test]
async fn a_refused_event_is_a_dead_letter_and_goes_when_it_is_taken_after_all() {
    let setup = Setup::new();
    setup.sink.script().refuses = Some(("odd/shape", false));
    let text = setup.send("odd/shape", json!({"x": [1]})).await;
    let (handle, task) = setup.start();
    settled(&handle, text).await;
    assert_eq!(setup.taken().await, [1], "as text");
    setup.sink.script().refuses = Some(("never/ever", true));
    let dead = setup.send("never/ever", json!({"x": 1})).await;
    let last = setup.send("a/end", Value::Null).await;
    settled(&handle, last).await;
    until(&handle, |progress| progress.dead_letters == 1).await;
    task.abort();
    assert!(task.await.is_err());

    let (handle, _task) = setup.start();
    let letters = handle.dead_letters().unwrap();
    assert_eq!((letters.len(), letters[0].seq), (1, dead));
    assert_eq!((&*letters[0].tag, &*letters[0].reason), ("never/ever", "not like this"));
    let event = handle.dead_letter_event(dead).await.unwrap().unwrap();
    assert_eq!((event.id, &event.data), (letters[0].id.unwrap(), &json!({"x": 1})));
    // Refused once more, it stays.
    assert_eq!(handle.revive(vec![dead, 99]).await.unwrap(), 1);
    let end = setup.send("a/end", Value::Null).await;
    settled(&handle, end).await;
    assert_eq!(handle.dead_letters().unwrap().len(), 1);
    setup.sink.script().refuses = None;
    assert_eq!(handle.revive(vec![dead]).await.unwrap(), 1);
    until(&handle, |progress| progress.dead_letters == 0).await;
    assert_eq!(setup.sink.script().taken[&dead].0, 1);
    let end = setup.send("a/end", Value::Null).await;
    settled(&handle, end).await;
    assert!(handle.dead_letters().unwrap().is_empty());
}

#[tokio::test]
async fn a_dead_letter_that_told_of_dead_letters_is_not_told_of() {
    let setup = Setup::new();
    setup.sink.script().refuses = Some(("drover/bridge/elk/dead_letters", true));
    let own = setup.send("drover/bridge/elk/dead_letters", json!({"count": 1})).await;
    let (handle, _task) = setup.start();
    settled(&handle, own).await;
    until(&handle, |progress| progress.dead_letters == 1).await;
    let end = setup.send("a/end", Value::Null).await;
    settled(&handle, end).await;
    assert_eq!(setup.told().await, ["dead_letters"], "the one that was there");
}

#[tokio::test]
async fn dead_letters_can_be_forgotten() {
    let setup = Setup::new();
    setup.sink.script().refuses = Some(("never/ever", true));
    let dead = setup.send("never/ever", Value::Null).await;
    let (handle, _task) = setup.start();
    until(&handle, |progress| progress.dead_letters == 1).await;
    assert_eq!(handle.forget(vec![dead, dead]).await.unwrap(), 1);
    let end = setup.send("a/end", Value::Null).await;
    settled(&handle, end).await;
    assert!(handle.dead_letters().unwrap().is_empty());
    assert_eq!(setup.told().await, ["dead_letters"]);
}

#[tokio::test]
async fn a_replay_sends_again_what_the_log_has_and_never_jumps_ahead() {
    let setup = Setup::new();
    let last = setup.send_many(10).await;
    let (handle, _task) = setup.start();
    settled(&handle, last).await;
    assert_eq!(handle.replay(last + 5).await.unwrap(), Err(NothingToReplay { at: last }));
    assert_eq!(handle.replay(6).await.unwrap(), Ok(4));
    let end = setup.send("a/end", Value::Null).await;
    settled(&handle, end).await;
    assert_eq!(setup.taken().await, [1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 1]);
}

#[tokio::test]
async fn a_test_says_what_came_back_and_moves_no_cursor() {
    let setup = Setup::new();
    let (handle, _task) = setup.start();
    let tested = handle.test().await.unwrap();
    assert_eq!((tested.verdict, tested.reason), (TestVerdict::Done, None));
    let item = setup.sink.script().taken[&0].1.clone();
    assert_eq!(item.event.tag.as_str(), "drover/bridge/elk/test");
    setup.sink.script().always = Some(Failure::Denied);
    let tested = handle.test().await.unwrap();
    assert_eq!(tested.verdict, TestVerdict::Failed);
    assert!(tested.reason.is_some_and(|reason| reason.contains("Denied")));
    assert_eq!(handle.status().unwrap().seq, 0);
}

#[tokio::test]
async fn a_bridge_that_is_not_enabled_sends_nothing_and_can_be_tested() {
    let setup = Setup { is_enabled: false, ..Setup::new() };
    setup.send("a/b", Value::Null).await;
    let (handle, _task) = setup.start();
    assert_eq!(handle.test().await.unwrap().verdict, TestVerdict::Done);
    assert_eq!(handle.status().unwrap().state, BridgeState::Stopped);
    assert_eq!(setup.taken().await, [0]);
}

#[tokio::test]
async fn upkeep_is_done_with_nothing_on_its_way_and_its_news_is_told() {
    let setup = Setup::new();
    setup.sink.script().news = Some(News { what: "rolled", data: json!({"index": "e"}) });
    let last = setup.send_many(40).await;
    let (handle, _task) = setup.start();
    settled(&handle, last).await;
    assert_eq!(setup.told().await, ["rolled"]);
    assert!(setup.taken().await.iter().all(|times| *times == 1));
}

#[tokio::test]
async fn a_sink_that_panics_has_failed_and_its_events_are_sent_again() {
    let setup = Setup::new();
    setup.sink.script().replies.extend([Reply::Panic; 2]);
    let (handle, task) = setup.start();
    let tested = handle.test().await.unwrap();
    assert_eq!(tested.verdict, TestVerdict::Failed);
    assert_eq!(tested.reason.as_deref(), Some("the bridge's sink panicked: a bug"));
    let seq = setup.send("a/b", Value::Null).await;
    settled(&handle, seq).await;
    assert!(setup.sink.script().taken[&seq].1.is_retry, "it may have been stored");
    assert_eq!(setup.taken().await, [1]);
    let error = handle.status().unwrap().last_error;
    assert!(error.is_some_and(|error| error.contains("the bridge's sink panicked: a bug")));
    assert!(!task.is_finished());
}

#[tokio::test]
async fn a_panic_in_its_upkeep_does_not_end_a_bridge() {
    let setup = Setup::new();
    setup.sink.script().has_bug = true;
    setup.sink.script().news = Some(News { what: "rolled", data: Value::Null });
    let (handle, _task) = setup.start();
    until(&handle, |progress| {
        let error = progress.last_error.as_ref();
        error.is_some_and(|(_, error)| error.ends_with("panicked: a bug in its upkeep"))
    })
    .await;
    let seq = setup.send("a/b", Value::Null).await;
    settled(&handle, seq).await;
}

#[tokio::test]
async fn what_the_log_forgot_before_it_was_sent_is_told_with_its_count() {
    let short = Retention { bytes: 20_000, undelivered: 20_000, ..Retention::default() };
    let setup = Setup::with(short);
    setup.store.set_cursor("bridge/elk", 1).await.unwrap();
    let (handle, task) =
        BridgeTask::new(setup.store.clone(), setup.registry.clone(), setup.bridge()).unwrap();
    // More than the store keeps in memory beside the log.
    let mut batch = crate::store::Batch::new();
    for _ in 0..1_000 {
        batch.event(NewEvent::new("a/b".parse().unwrap(), None, json!("x".repeat(10_000))));
    }
    setup.store.write(batch).await.unwrap();
    while setup.store.expire().await.unwrap() {}
    let first = setup.store.first_seq().unwrap();
    assert!(first > 2, "the log has forgotten some");
    let _task = tokio::spawn(task.run());
    settled(&handle, 1_000).await;
    setup.send("a/end", Value::Null).await;
    let events = setup.store.events(1_000, 10).await.unwrap();
    assert_eq!(events[0].tag.as_str(), "drover/bridge/elk/missed");
    let (from, to, count) = (&events[0].data["from"], &events[0].data["to"], first - 2);
    assert_eq!((from, to, &events[0].data["count"]), (&json!(2), &json!(first - 1), &json!(count)));
    assert_eq!(setup.sink.script().taken.keys().next(), Some(&first));
}

#[tokio::test]
async fn a_file_has_every_line_once_wherever_the_master_was_killed() {
    let setup = Setup::new();
    setup.send_many(20).await;
    let (handle, task) = setup.start_with(setup.file());
    settled(&handle, 20).await;
    task.abort();
    assert!(task.await.is_err());
    let whole = std::fs::read(setup.path()).unwrap();
    for cursor in [0, 7, 19, 20] {
        // The lines were written, the cursor had not moved that far, and the last line is torn.
        let torn = whole.len() - 10;
        std::fs::write(setup.path(), &whole[..torn]).unwrap();
        setup.store.set_cursor("bridge/log", cursor.min(19)).await.unwrap();
        let (handle, task) = setup.start_with(setup.file());
        settled(&handle, 20).await;
        task.abort();
        assert!(task.await.is_err());
        assert_eq!(setup.lines(), (1..=20).collect::<Vec<_>>(), "the cursor was at {cursor}");
    }
}

#[tokio::test]
async fn a_file_of_another_log_keeps_nothing_back() {
    let setup = Setup::new();
    let other = Event {
        id: Uuid::from_u128(1),
        seq: 1_000,
        ts: Timestamp::UNIX_EPOCH,
        at: None,
        tag: "old/log".parse().unwrap(),
        minion: None,
        data: Value::Null,
    };
    std::fs::write(setup.path(), format!("{}\n", serde_json::to_string(&other).unwrap())).unwrap();
    let seq = setup.send("a/b", Value::Null).await;
    let (handle, _task) = setup.start_with(setup.file());
    settled(&handle, seq).await;
    assert_eq!(setup.lines(), [1_000, 1]);
}

#[tokio::test]
async fn a_test_is_sent_amid_a_backlog_and_alone_where_the_order_counts() {
    let mut setup = Setup::new();
    setup.sink = Arc::new(Scripted::new(1));
    let last = setup.send_many(400).await;
    let (handle, task) = setup.start();
    assert_eq!(handle.test().await.unwrap().verdict, TestVerdict::Done);
    assert!(setup.sink.script().taken.len() < 200, "there is always another batch");
    settled(&handle, last).await;
    assert_eq!(setup.sink.script().open.1, 1, "one at a time");
    task.abort();
}

#[tokio::test]
async fn a_dead_letter_that_is_replayed_twice_goes_once_and_stays_away_when_dropped_meanwhile() {
    let setup = Setup::new();
    setup.sink.script().refuses = Some(("never/ever", true));
    let dead = setup.send("never/ever", Value::Null).await;
    let other = setup.send("never/ever", Value::Null).await;
    let (handle, _task) = setup.start();
    until(&handle, |progress| progress.dead_letters == 2).await;
    assert_eq!(handle.revive(vec![dead, other, dead]).await.unwrap(), 2);
    // On its way, or about to go.
    assert_eq!(handle.forget(vec![dead]).await.unwrap(), 1);
    let end = setup.send("a/end", Value::Null).await;
    settled(&handle, end).await;
    setup.sink.script().refuses = None;
    while handle.revive(vec![other]).await.unwrap() == 0 {}
    until(&handle, |progress| progress.dead_letters == 0).await;
    assert_eq!(setup.taken().await, [0, 1, 1]);
    // The cursor that passes this one is written with what became of the letters.
    let end = setup.send("a/end", Value::Null).await;
    settled(&handle, end).await;
    assert!(handle.dead_letters().unwrap().is_empty());
}
