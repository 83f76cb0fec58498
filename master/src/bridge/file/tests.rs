use std::{fs, io::Write as _, path::Path, sync::Arc};

use drover_proto::event::Event;
use jiff::Timestamp;
use serde_json::json;
use tempfile::TempDir;
use uuid::Uuid;

use super::*;
use crate::bridge::sink::Form;

fn item(seq: u64) -> Item {
    let event = Event {
        id: Uuid::from_u128(seq.into()),
        seq,
        ts: Timestamp::UNIX_EPOCH,
        at: None,
        tag: "a/b".parse().unwrap(),
        minion: None,
        data: json!({"text": "x".repeat(200)}),
    };
    Item { event: Arc::new(event), grains: Arc::default(), form: Form::Whole, is_retry: false }
}

fn items(seqs: std::ops::RangeInclusive<u64>) -> Vec<Item> {
    seqs.map(item).collect()
}

fn sink(path: &Path) -> FileSink {
    FileSink::new(path.to_owned(), Shape::default())
}

fn seqs(path: &Path) -> Vec<u64> {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'));
    text.lines().map(|line| serde_json::from_str::<Event>(line).unwrap().seq).collect()
}

#[tokio::test]
async fn a_file_cut_anywhere_has_every_line_once_after_the_next_try() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("new/events.ndjson");
    sink(&path).deliver(&items(1..=3)).await.unwrap();
    let whole = fs::read(&path).unwrap();
    for length in 0..=whole.len() {
        fs::write(&path, &whole[..length]).unwrap();
        let sink = sink(&path);
        // Those before the cut were delivered before, those after it are sent for the first time.
        let before = u64::try_from(length * 3 / whole.len()).unwrap();
        sink.deliver(&items(before.max(1)..=4)).await.unwrap();
        sink.deliver(&items(5..=5)).await.unwrap();
        assert_eq!(seqs(&path), [1, 2, 3, 4, 5], "cut at {length}");
    }
}

#[tokio::test]
async fn a_rotated_and_a_removed_file_begin_anew() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("events.ndjson");
    let sink = sink(&path);
    sink.deliver(&items(1..=1)).await.unwrap();
    fs::rename(&path, directory.path().join("events.old")).unwrap();
    sink.deliver(&items(2..=2)).await.unwrap();
    assert_eq!(seqs(&path), [2]);
    fs::remove_file(&path).unwrap();
    sink.deliver(&items(3..=3)).await.unwrap();
    assert_eq!(seqs(&path), [3]);
}

#[tokio::test]
async fn lines_of_somebody_else_are_kept() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("events.ndjson");
    fs::write(&path, "# a header without an end").unwrap();
    sink(&path).deliver(&items(1..=1)).await.unwrap();
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.starts_with("# a header without an end\n{\"id\":\""), "{text}");
}

#[tokio::test]
async fn a_full_disk_is_an_error() {
    let error = sink(Path::new("/dev/full")).deliver(&items(1..=1)).await.unwrap_err();
    assert!(matches!(error, FileError::Write { .. }), "{error}");
}

#[tokio::test]
async fn lines_are_found_over_many_blocks_and_behind_a_long_one() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("events.ndjson");
    let mut batch = items(1..=5_000);
    let mut long = Event::clone(&batch[4_990].event);
    long.data = json!("y".repeat(900 << 10));
    batch[4_990].event = Arc::new(long);
    sink(&path).deliver(&batch).await.unwrap();
    let mut torn = fs::OpenOptions::new().append(true).open(&path).unwrap();
    torn.write_all(b"{\"id\":\"0000").unwrap();
    sink(&path).deliver(&batch).await.unwrap();
    assert_eq!(seqs(&path), (1..=5_000).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_is_replayed_is_written_again() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("events.ndjson");
    let sink = sink(&path);
    sink.deliver(&items(1..=3)).await.unwrap();
    sink.handle_replay();
    sink.deliver(&items(2..=3)).await.unwrap();
    assert_eq!(seqs(&path), [1, 2, 3, 2, 3]);
}

#[tokio::test]
async fn an_event_whose_template_fails_is_refused_and_holds_up_nobody() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("events.txt");
    let text = "path: events.txt\ntemplate: '{{ event.seq }} {% if event.seq == 2 %}{{ event.data.none }}{% endif %}'\n";
    let root = drover_states::yaml::load_nodes(text).unwrap();
    let mut settings = Settings::new(directory.path(), text, root.as_ref()).unwrap();
    let sink = FileSink::read(&mut settings).unwrap();
    let verdicts = sink.deliver(&items(1..=3)).await.unwrap();
    assert!(matches!(&verdicts[1], Verdict::Refused(reason) if reason.contains("event.data.none")));
    assert_eq!(fs::read_to_string(path).unwrap(), "1 \n3 \n");
}
