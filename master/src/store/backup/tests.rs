use std::collections::BTreeMap;

use drover_proto::event::{Event, NewEvent};
use jiff::Timestamp;
use serde_json::json;

use super::{
    super::{Batch, Previous, Restoring, Retention, Since},
    *,
};

fn event(tag: &str, number: u64) -> NewEvent {
    let data = json!({ "number": number, "text": "x".repeat(300) });
    NewEvent::new(tag.parse().unwrap(), None, data)
}

fn open(directory: &std::path::Path) -> Store {
    Store::open(directory, Retention::default()).unwrap()
}

/// Opens a store whose last handle was dropped a moment ago.
async fn open_again(directory: &std::path::Path) -> Store {
    loop {
        match Store::open(directory, Retention::default()) {
            Ok(store) => break store,
            Err(_) => tokio::task::yield_now().await,
        }
    }
}

async fn all(store: &Store) -> Vec<Event> {
    let (mut events, mut after) = (Vec::new(), 0);
    loop {
        let some = store.events(after, 512).await.unwrap();
        let Some(last) = some.last() else { return events };
        after = last.seq;
        events.extend(some.iter().map(|event| Event::clone(event)));
    }
}

/// Takes a whole copy on a thread that may block.
async fn take(mut copy: Copy) -> (Vec<Vec<u8>>, u64) {
    let taking = move || {
        let mut parts = Vec::new();
        while let Some(part) = copy.next_part().unwrap() {
            parts.push(part);
        }
        (parts, copy.last_seq().unwrap())
    };
    tokio::task::spawn_blocking(taking).await.unwrap()
}

/// Numbers that a restore leaves out here.
const SKIPPED: u64 = 1_000_000;

fn restore(parts: &[Vec<u8>], last: u64) -> (tempfile::TempDir, u64) {
    let mut check = CopyCheck::default();
    let directory = tempfile::tempdir().unwrap();
    let mut restoring = Restoring::begin(directory.path()).unwrap();
    for part in parts {
        check.handle_part(part).unwrap();
        restoring.handle_part(part).unwrap();
    }
    check.finish().unwrap();
    let told = NewEvent::new("drover/master/restored".parse().unwrap(), None, json!({}));
    let seq = restoring.finish(told, last + SKIPPED, Timestamp::UNIX_EPOCH).unwrap();
    (directory, seq)
}

#[tokio::test]
async fn a_copy_of_a_quiet_store_is_that_store() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    for number in 0..3_000 {
        let mut batch = Batch::from(event("site/a", number));
        batch.cursor(&format!("reader-{}", number % 7), number);
        store.submit(batch).await.unwrap();
    }
    store.set_cursor("last", 5).await.unwrap();
    let (parts, last) = take(store.copy().await.unwrap()).await;
    assert_eq!(last, 3_000);
    let (copied, seq) = restore(&parts, last);
    assert_eq!(seq, last + SKIPPED + 1);

    let again = open_again(copied.path()).await;
    assert_eq!(again.last_seq(), seq);
    let (before, mut after) = (all(&store).await, all(&again).await);
    let told = after.pop().unwrap();
    assert_eq!((told.tag.as_str(), told.seq), ("drover/master/restored", seq));
    assert_eq!(after, before);
    assert_eq!(again.cursor("reader-3").unwrap(), store.cursor("reader-3").unwrap());
    assert_eq!(again.cursor("last").unwrap(), Some(5));
    assert_eq!(again.append(event("site/b", 1)).await.unwrap(), seq + 1);

    // Nobody has missed what was never there, nor is behind by it.
    assert_eq!(again.missing(last, seq), None);
    assert_eq!(again.missing(last - 2, seq).map(|missing| missing.count), Some(2));
    assert_eq!(again.lag(last).unwrap().events, 2);
    assert_eq!(again.lag(last - 5).unwrap().events, 7);
    assert_eq!(again.lag(last + 7).unwrap().events, 2);
    assert_eq!(again.lag(0).unwrap().events, last + 2);
    assert!(again.lag(last - 1).unwrap().bytes < 2_000, "{:?}", again.lag(last - 1));
}

/// Each round counts all counters up by one, in one batch, so that any moment of the store shows them equal.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_of_a_store_that_is_written_to_is_the_store_at_one_moment() {
    const COUNTERS: u64 = 400;
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let round = async |number: u64| {
        let mut batch = Batch::from(event("site/round", number));
        for counter in 0..COUNTERS {
            // Those of every third round are removed again.
            let name = format!("counter-{counter:04}");
            if number.is_multiple_of(3) {
                batch.sighting_over(&name.parse().unwrap());
            } else {
                batch.sighting(&name.parse().unwrap(), &(number, "y".repeat(200)));
            }
        }
        store.submit(batch).await.unwrap().wait().await.unwrap()
    };
    for number in 1..=20 {
        round(number).await;
    }
    let mut copied = 0;
    let copy = store.copy().await.unwrap();
    let taking = tokio::spawn(take(copy));
    let mut number = 20;
    while !taking.is_finished() {
        number += 1;
        copied += 1;
        round(number).await;
    }
    let (parts, last) = taking.await.unwrap();
    assert!(copied > 0, "something was written meanwhile");
    let (restored, _) = restore(&parts, last);
    let again = open_again(restored.path()).await;
    let events = all(&again).await;
    assert_eq!(events.len() as u64, last + 1, "every event up to the end, and the one that tells");
    assert!(last >= 20);
    let counters: BTreeMap<_, (u64, String)> = again.sightings().unwrap().into_iter().collect();
    if last.is_multiple_of(3) {
        assert!(counters.is_empty());
    } else {
        assert_eq!(counters.len() as u64, COUNTERS);
        assert!(counters.values().all(|(number, _)| *number == last), "one moment: {last}");
    }
}

#[tokio::test]
async fn a_copy_that_nobody_takes_fails_and_the_writer_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let mut copy = store.copy().await.unwrap();
    let large = "z".repeat(1 << 20);
    for number in 0..=(WAITING >> 20) {
        let data = json!({ "number": number, "text": large });
        store.append(NewEvent::new("site/a".parse().unwrap(), None, data)).await.unwrap();
    }
    let failed = tokio::task::spawn_blocking(move || {
        loop {
            match copy.next_part() {
                Ok(Some(_)) => {}
                Ok(None) => panic!("it is not whole"),
                Err(error) => break error,
            }
        }
    });
    assert!(matches!(failed.await.unwrap(), CopyError::TooSlow));
    store.append(event("site/b", 0)).await.unwrap();
    // The next one is taken by somebody who is there.
    let (_, last) = take(store.copy().await.unwrap()).await;
    assert_eq!(last, store.last_seq());
}

#[tokio::test]
async fn a_copy_that_is_given_up_is_no_matter_to_the_writer() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    drop(store.copy().await.unwrap());
    for number in 0..10 {
        store.append(event("site/a", number)).await.unwrap();
    }
    let (_, last) = take(store.copy().await.unwrap()).await;
    assert_eq!(last, 10);
}

#[test]
fn a_damaged_part_is_refused_and_no_panic() {
    let mut part = Vec::new();
    encode(&mut part, b"ckey", Some(b"value"));
    encode(&mut part, b"cgone", None);
    assert_eq!(decode(&part).unwrap().len(), 2);
    for length in (1..part.len()).filter(|length| *length != 17) {
        assert_eq!(decode(&part[..length]), Err(BrokenCopy::Damaged), "{length} bytes");
    }
    let mut check = CopyCheck::default();
    check.handle_part(&part).unwrap();
    assert_eq!(check.finish(), Err(BrokenCopy::Unmarked));
}

#[tokio::test]
async fn what_a_store_has_since_is_told_before_it_is_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    for tag in [
        "site/a",
        "drover/key/rfid-2/revoked",
        "drover/key/rfid-3/renewed",
        "drover/authority/fleet-ca-2/added",
        "site/b",
    ] {
        store.append(event(tag, 0)).await.unwrap();
    }
    assert!(Previous::open(directory.path()).is_err(), "a master runs on it");
    drop(store);
    let previous = loop {
        match Previous::open(directory.path()) {
            Ok(previous) => break previous,
            Err(_) => tokio::task::yield_now().await,
        }
    };
    assert_eq!(previous.last_seq(), Some(5));
    let changes = vec!["rfid-2 was revoked".to_owned(), "fleet-ca-2 was added".to_owned()];
    assert_eq!(previous.since(1), Some(Since { events: 4, changes }));
    assert!(Store::open(directory.path(), Retention::default()).is_err(), "it is locked");
}
