use std::{
    env,
    io::{BufRead, BufReader},
    process::{Command, Stdio},
    time::Duration,
};

use drover_proto::{
    id::JobId,
    job::{JobRecord, JobRequest, JobState},
};
use jiff::Timestamp;
use serde_json::json;
use tempfile::TempDir;
use uuid::Uuid;

use super::*;

fn open(directory: &Path) -> Store {
    open_keeping(directory, Retention::default())
}

/// The writer of a dropped store lets go of the directory a moment later.
fn open_keeping(directory: &Path, retention: Retention) -> Store {
    loop {
        match Store::open(directory, retention) {
            Err(OpenError::Start(StartError::InUse { .. })) => thread::yield_now(),
            opened => return opened.unwrap(),
        }
    }
}

fn event(n: u64) -> NewEvent {
    NewEvent::new("drover/test".parse().unwrap(), None, json!({ "n": n }))
}

fn id(text: &str) -> MinionId {
    text.parse().unwrap()
}

fn jid(n: u8) -> JobId {
    format!("202611230237050000{n:02}").parse().unwrap()
}

fn job(n: u8) -> JobRecord {
    let request: JobRequest = serde_json::from_value(
        json!({"tgt": "*", "fun": "test.ping", "arg": [1, null, {"a": true}]}),
    )
    .unwrap();
    JobRecord {
        jid: jid(n),
        request,
        ts: "2026-11-23T02:37:05Z".parse().unwrap(),
        minions: vec![id("a")],
    }
}

async fn all(store: &Store) -> Vec<Arc<Event>> {
    let mut events: Vec<Arc<Event>> = Vec::new();
    loop {
        let after = events.last().map_or(0, |event| event.seq);
        let next = store.events(after, 100).await.unwrap();
        if next.is_empty() {
            return events;
        }
        events.extend(next);
    }
}

#[tokio::test]
async fn what_jobs_gave_back_is_for_nobody_else_on_the_machine() {
    use std::os::unix::fs::PermissionsExt as _;
    let parent = TempDir::new().unwrap();
    let directory = parent.path().join("master/data");
    drop(open(&directory));
    let mode = std::fs::metadata(&directory).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}

#[tokio::test]
async fn events_are_read_on_from_a_seq_also_after_reopening() {
    let directory = TempDir::new().unwrap();
    let store = open(directory.path());
    for n in 1..=1000 {
        store.submit(event(n).into()).await.unwrap();
    }
    assert_eq!(store.append(event(1001)).await.unwrap(), 1001);
    let before = all(&store).await;
    assert_eq!(
        before.iter().map(|event| event.seq).collect::<Vec<_>>(),
        (1..=1001).collect::<Vec<_>>()
    );
    drop(store);

    let store = open(directory.path());
    assert_eq!(store.last_seq(), 1001);
    assert_eq!(all(&store).await, before);
    let some = store.events(777, 1).await.unwrap();
    assert_eq!((some[0].seq, &some[0].data), (778, &json!({"n": 778})));
    assert_eq!(store.append(event(1002)).await.unwrap(), 1002);
    assert_eq!(store.events(1001, 10).await.unwrap()[0].data, json!({"n": 1002}));
}

#[tokio::test]
async fn a_watcher_is_told_of_durable_events() {
    let directory = TempDir::new().unwrap();
    let store = open(directory.path());
    let mut watch = store.watch();
    store.append(event(1)).await.unwrap();
    watch.changed().await.unwrap();
    assert_eq!(*watch.borrow_and_update(), 1);
}

#[tokio::test]
async fn a_registry_entry_is_written_only_over_the_revision_that_was_read() {
    let directory = TempDir::new().unwrap();
    let store = open(directory.path());
    let a = id("a");
    let first = store.put_registry(&a, None, &"one", event(1).into()).await.unwrap();
    assert!(matches!(
        store.put_registry(&a, None, &"two", event(2).into()).await,
        Err(PutError::Conflict)
    ));
    let second = store.put_registry(&a, Some(first), &"three", Batch::new()).await.unwrap();
    assert!(matches!(
        store.put_registry(&a, Some(first), &"four", Batch::new()).await,
        Err(PutError::Conflict)
    ));
    assert_eq!(store.registry::<String>().unwrap(), [(second, "three".to_owned())]);
    assert_eq!(store.last_seq(), 1, "a refused write appends no event");
}

#[tokio::test]
async fn jobs_pending_entries_marks_and_cursors_are_there_after_reopening() {
    let directory = TempDir::new().unwrap();
    let store = open(directory.path());
    let (a, boot) = (id("a"), BootId::new(Uuid::from_u128(7)));
    let now: Timestamp = "2026-11-23T02:37:05Z".parse().unwrap();
    let entry = JobEntry {
        value: Some(json!({"x": [1]})),
        retcode: Some(0),
        ..JobEntry::new(JobState::Done, now)
    };
    let pending = PendingEntry {
        jid: jid(2),
        minion: a.clone(),
        fun: "state.apply".into(),
        arg: vec![json!("rfid")],
        kwarg: serde_json::Map::new(),
        queued: now,
        expires: now,
    };
    let mut batch = Batch::new();
    for n in 1..=3 {
        batch.job(&job(n));
    }
    batch.job_over(&jid(1));
    batch.job_entry(&jid(1), &a, &entry);
    batch.job_entry(&jid(2), &id("b"), &entry);
    batch.pending(&pending);
    batch.outbox(&a, boot, 42);
    batch.cursor("reactor", 7);
    batch.manifest("line-1", 3);
    store.write(batch).await.unwrap();
    drop(store);

    let store = open(directory.path());
    assert_eq!(store.job(&jid(1)).unwrap(), Some(job(1)));
    assert_eq!(store.jobs(None, 2).unwrap(), [job(3), job(2)]);
    assert_eq!(store.jobs(Some(&jid(2)), 9).unwrap(), [job(1)]);
    assert_eq!(store.active_jobs().unwrap(), [jid(2), jid(3)]);
    assert_eq!(store.job_entries(&jid(1)).unwrap(), [(a.clone(), entry)]);
    assert_eq!(store.pending().unwrap(), [pending]);
    assert_eq!(store.outbox(&a, boot).unwrap(), 42);
    assert_eq!(store.outbox(&a, BootId::new(Uuid::from_u128(8))).unwrap(), 0);
    assert_eq!(store.cursor("reactor").unwrap(), Some(7));
    assert_eq!(store.cursor("bridge").unwrap(), None);
    assert_eq!(store.manifest("line-1").unwrap(), 3);
}

#[tokio::test]
async fn retention_removes_the_oldest_events_and_seqs_go_on() {
    let directory = TempDir::new().unwrap();
    let bytes = 64 << 10;
    let store = open_keeping(directory.path(), Retention { bytes, ..Retention::default() });
    store.expire().await.unwrap();
    for n in 1..=5000 {
        store.submit(event(n).into()).await.unwrap();
    }
    for n in 5001..=5010 {
        store.append(event(n)).await.unwrap();
    }
    let newest = all(&store).await;
    assert_eq!(newest[0].seq, store.first_seq().unwrap(), "what is gone is gone at once");
    drop(store);
    let none = Retention { age: Duration::ZERO, bytes, ..Retention::default() };
    let store = open_keeping(directory.path(), none);
    let first = store.first_seq().unwrap();
    assert!(first > 2000, "kept from {first}");
    let kept = all(&store).await;
    assert_eq!((kept[0].seq, kept.last().unwrap().seq), (first, 5010));
    store.append(event(5011)).await.unwrap();
    assert_eq!(store.first_seq().unwrap(), first, "nothing goes before somebody asks");
    while store.expire().await.unwrap() {}
    store.append(event(5012)).await.unwrap();
    store.append(event(5013)).await.unwrap();
    drop(store);
    let store = open(directory.path());
    // What had outlived its age is gone but for the newest value that was there when the last one came.
    assert_eq!((store.first_seq().unwrap(), store.last_seq()), (5012, 5013));
}

#[tokio::test]
async fn what_a_reader_has_not_passed_stays_until_there_is_more_than_that() {
    let directory = TempDir::new().unwrap();
    let (bytes, undelivered) = (16 << 10, 128 << 10);
    let retention = Retention { bytes, undelivered, ..Retention::default() };
    let store = open_keeping(directory.path(), retention);
    let fill = async |count| {
        for n in 0..count {
            let submitted = store.submit(event(n).into()).await.unwrap();
            // Values of a few events, as minions send them.
            if n.is_multiple_of(8) {
                submitted.wait().await.unwrap();
            }
        }
        while store.expire().await.unwrap() {}
    };
    store.hold("bridge/elk").unwrap();
    fill(600).await;
    assert_eq!(store.first_seq().unwrap(), 1, "nothing is delivered yet");

    store.set_cursor("bridge/elk", 500).await.unwrap();
    fill(1).await;
    let first = store.first_seq().unwrap();
    assert!((200..=501).contains(&first), "delivered, and more than is kept: {first}");

    fill(4_000).await;
    let (first, lag) = (store.first_seq().unwrap(), store.lag(500).unwrap());
    assert!(first > 501, "the larger limit ends it");
    assert!((100 << 10..=undelivered).contains(&lag.bytes), "{lag:?}");
    assert_eq!(lag.events, store.last_seq() - first + 1);

    store.release("bridge/elk");
    fill(1).await;
    assert!(store.lag(0).unwrap().bytes <= bytes, "nobody waits any more");
    assert_eq!(store.cursor("bridge/elk").unwrap(), Some(500));
}

#[tokio::test]
async fn a_full_store_refuses_what_can_come_again_and_writes_what_is_its_own() {
    let directory = TempDir::new().unwrap();
    let retention = Retention { reserve: u64::MAX, ..Retention::default() };
    let store = open_keeping(directory.path(), retention);
    let mut state = store.state();
    state.wait_for(|state| matches!(state, StoreState::Full { .. })).await.unwrap();
    assert!(store.is_full());
    assert_eq!(store.take_in(event(1)).await, Err(StoreError::Full));
    assert_eq!(store.append(event(2)).await.unwrap(), 1, "the master's own word");
    store.put_registry(&id("a"), None, &"revoked", Batch::new()).await.unwrap();
    drop(store);

    let store = open(directory.path());
    assert_eq!(all(&store).await.len(), 1, "what was refused is not there");
    assert_eq!(store.take_in(event(3)).await.unwrap(), 2);
    assert_eq!(*store.state().borrow(), StoreState::Open);
}

#[tokio::test]
async fn what_waits_for_the_writer_is_bounded_in_bytes() {
    let directory = TempDir::new().unwrap();
    let store = open(directory.path());
    let large = "x".repeat(QUEUE_BYTES as usize / 8);
    let mut submitted = Vec::new();
    for n in 0..32 {
        let data = json!({"n": n, "large": large});
        let event = NewEvent::new("drover/test".parse().unwrap(), None, data);
        let batch = Batch::from(event);
        let size = batch.size();
        assert!((large.len()..large.len() + 200).contains(&size), "{size}");
        submitted.push(store.submit(batch).await.unwrap());
        assert!(
            submitted.len() - store.last_seq() as usize <= 8,
            "no more than the queue has room for"
        );
    }
    for submitted in submitted {
        submitted.wait().await.unwrap();
    }
    let larger = json!("x".repeat(QUEUE_BYTES as usize + 1));
    let event = NewEvent::new("drover/test".parse().unwrap(), None, larger);
    assert_eq!(
        store.append(event).await.unwrap(),
        33,
        "one that is larger than all is written alone"
    );
}

#[tokio::test]
async fn a_lag_is_what_lies_behind_a_cursor() {
    let directory = TempDir::new().unwrap();
    let store = open(directory.path());
    assert_eq!(store.lag(0).unwrap(), Lag::default());
    let mut batch = Batch::new();
    (1..=40).for_each(|n| batch.event(event(n)));
    store.write(batch).await.unwrap();
    store.append(event(41)).await.unwrap();
    let times: Vec<_> = all(&store).await.iter().map(|event| event.ts).collect();
    let whole = store.lag(0).unwrap();
    assert_eq!((whole.events, whole.oldest), (41, Some(times[0])));
    let usage = store.usage().unwrap();
    assert_eq!((usage.first_seq, usage.last_seq), (1, 41));
    assert_eq!(usage.event_bytes, whole.bytes);
    assert!(usage.bytes > whole.bytes && usage.disk_free > 0, "{usage:?}");

    let half = store.lag(20).unwrap();
    assert_eq!((half.events, half.oldest), (21, Some(times[20])));
    assert!((whole.bytes * 2 / 5..whole.bytes * 3 / 5).contains(&half.bytes), "{half:?}");
    assert_eq!(store.lag(40).unwrap().oldest, Some(times[40]));
    assert_eq!(store.lag(40).unwrap().events, 1);
    for after in [41, 42, u64::MAX] {
        assert_eq!(store.lag(after).unwrap(), Lag::default());
    }
}

#[tokio::test]
async fn a_master_to_which_nothing_happens_forgets_old_events_and_jobs_too() {
    let directory = TempDir::new().unwrap();
    let long = Retention { jobs: Duration::MAX, ..Retention::default() };
    let store = open_keeping(directory.path(), long);
    let mut batch = Batch::new();
    let entry = JobEntry::new(JobState::Done, Timestamp::UNIX_EPOCH);
    let old: Vec<JobId> =
        (1..=3).map(|n| format!("2020010100000000000{n}").parse().unwrap()).collect();
    for jid in &old {
        batch.job(&JobRecord { jid: jid.clone(), ..job(1) });
        batch.job_entry(jid, &id("a"), &entry);
    }
    // The second is still kept for somebody.
    batch.job_over(&old[0]);
    batch.job_over(&old[2]);
    let young = JobRecord { jid: JobId::next(Timestamp::now(), None), ..job(1) };
    batch.job(&young);
    batch.job_over(&young.jid);
    store.write(batch).await.unwrap();
    for n in 1..=3 {
        store.append(event(n)).await.unwrap();
    }
    assert!(!store.expire().await.unwrap(), "nothing is old yet");
    drop(store);

    let (age, jobs) = (Duration::ZERO, Duration::from_secs(3600));
    let short = Retention { age, jobs, ..Retention::default() };
    let store = open_keeping(directory.path(), short);
    let mut passes = 1;
    while store.expire().await.unwrap() {
        passes += 1;
    }
    assert!((2..5).contains(&passes), "{passes} passes");
    let kept: Vec<_> = store.jobs(None, 9).unwrap().into_iter().map(|job| job.jid).collect();
    assert_eq!(kept, [young.jid, old[1].clone()]);
    assert_eq!(store.job_entries(&old[0]).unwrap(), []);
    assert_eq!(store.job_entries(&old[1]).unwrap(), [(id("a"), entry)]);
    assert_eq!((store.first_seq().unwrap(), store.last_seq()), (3, 3));
}

#[tokio::test]
async fn a_clock_that_was_put_forward_by_years_makes_nothing_old_at_once() {
    let directory = TempDir::new().unwrap();
    let engine = Engine::start(directory.path()).unwrap();
    let then = "2016-11-23T02:37:05Z".parse().unwrap();
    let mut offset = 0;
    let chunks = (1..=4).map(|seq| {
        let mut chunk = log::Chunk::new(seq);
        chunk.push(&writer::numbered(event(seq), seq, then));
        let value = chunk.close(offset);
        offset += value.len() as u64;
        Change { key: keys::event(seq), value: Some(value) }
    });
    engine.apply(&chunks.collect::<Vec<_>>()).unwrap();
    engine.flush().unwrap();
    drop(engine);
    let store = open(directory.path());
    while store.expire().await.unwrap() {}
    assert_eq!((store.first_seq().unwrap(), store.last_seq()), (1, 4));
}

#[test]
fn a_store_of_a_newer_format_is_refused() {
    let directory = TempDir::new().unwrap();
    let engine = Engine::start(directory.path()).unwrap();
    let value = Some((FORMAT + 1).to_be_bytes().to_vec());
    engine.apply(&[Change { key: keys::FORMAT.to_vec(), value }]).unwrap();
    engine.flush().unwrap();
    drop(engine);
    let refused = Store::open(directory.path(), Retention::default()).err().unwrap();
    insta::assert_snapshot!(refused, @"the store has format 2, this version reads up to format 1: install the version that wrote it");
}

#[test]
fn a_directory_has_one_store() {
    let directory = TempDir::new().unwrap();
    let _store = open(directory.path());
    let refused = Store::open(directory.path(), Retention::default()).err().unwrap();
    assert!(refused.to_string().ends_with("is in use by another master"), "{refused}");
}

/// The other half of the next test: appends until it is killed, and says which events were acknowledged.
#[test]
#[ignore = "run by a_killed_store_has_every_acknowledged_event in a process of its own"]
fn append_until_killed() {
    let Some(directory) = env::var_os("DROVER_TEST_STORE") else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    let store = open(Path::new(&directory));
    let boot = BootId::new(Uuid::from_u128(1));
    runtime.block_on(async {
        let next = Arc::new(tokio::sync::Mutex::new(store.last_seq()));
        let mut tasks = tokio::task::JoinSet::new();
        for task in 0..4 {
            let (store, next) = (store.clone(), next.clone());
            tasks.spawn(async move {
                loop {
                    let mut last = next.lock().await;
                    let mut batch = Batch::from(event(*last + 1));
                    batch.event(event(*last + 2));
                    *last += 2;
                    batch.outbox(&id("a"), boot, *last);
                    let submitted = store.submit(batch).await.unwrap();
                    drop(last);
                    let appended = submitted.wait().await.unwrap();
                    println!("acknowledged {} by {task}", appended.last);
                }
            });
        }
        tasks.join_next().await;
    });
}

#[tokio::test]
async fn a_killed_store_has_every_acknowledged_event() {
    let directory = TempDir::new().unwrap();
    let mut reached = 0;
    for round in 0..6_u64 {
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["store::tests::append_until_killed", "--exact", "--ignored", "--nocapture"])
            .env("DROVER_TEST_STORE", directory.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let mut last = 0;
        // Killed after another number of acknowledgements each time, at whatever it was doing then.
        let wanted = reached + 50 + round * 333;
        let mut take = |line: String| {
            let word = line
                .strip_prefix("acknowledged ")
                .and_then(|rest| rest.split(' ').next()?.parse().ok());
            last = word.map_or(last, |seq: u64| last.max(seq));
            last
        };
        while lines.next().is_some_and(|line| take(line) < wanted) {}
        child.kill().unwrap();
        for line in lines {
            take(line);
        }
        child.wait().unwrap();
        assert!(last >= wanted, "round {round}: {last} acknowledged");

        let store = open(directory.path());
        let seqs: Vec<_> =
            all(&store).await.iter().map(|event| (event.seq, event.data["n"].as_u64())).collect();
        assert!(
            seqs.len() as u64 >= last,
            "round {round}: {last} acknowledged, {} kept",
            seqs.len()
        );
        assert!(
            seqs.iter().zip(1..).all(|((seq, n), count)| *seq == count && *n == Some(count)),
            "no gap, no double"
        );
        let mark = store.outbox(&id("a"), BootId::new(Uuid::from_u128(1))).unwrap();
        assert_eq!(mark, store.last_seq(), "the mark came with the events");
        reached = store.last_seq();
    }
}
