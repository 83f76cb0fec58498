use std::{
    fs,
    io::{Read as _, Write as _},
    path::Path,
    sync::Arc,
};

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
    FileSink::new(path.to_owned(), Shape::default(), None)
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

/// Of files of about four lines, so many of which are kept.
fn rotating(path: &Path, keep: u32, compress: bool) -> FileSink {
    let rotation = Rotation { max_bytes: 1_200, keep, compress };
    FileSink::new(path.to_owned(), Shape::default(), Some(rotation))
}

/// Delivers, and packs before the next step.
async fn write(sink: &FileSink, seqs: std::ops::RangeInclusive<u64>) {
    let line = |item: Item| Line { id: item.event.id, text: sink.shape.text(&item).unwrap() };
    let lines: Vec<_> = items(seqs).into_iter().map(line).collect();
    if let Some(packing) = sink.on_file(move |writer| writer.append(&lines)).await.unwrap() {
        packing.run().unwrap();
    }
}

/// The events of all files, oldest first, whatever they are packed in.
fn all_seqs(path: &Path) -> Vec<u64> {
    let mut text = String::new();
    for number in (1..20).rev() {
        for form in rotation::existing(path, number) {
            let mut file = fs::File::open(form.place(path, number)).unwrap();
            match form {
                rotation::Form::Plain => file.read_to_string(&mut text).unwrap(),
                rotation::Form::Packed => {
                    flate2::read::GzDecoder::new(file).read_to_string(&mut text).unwrap()
                }
            };
        }
    }
    text.push_str(&fs::read_to_string(path).unwrap_or_default());
    text.lines().map(|line| serde_json::from_str::<Event>(line).unwrap().seq).collect()
}

#[tokio::test]
async fn a_full_file_is_put_aside_and_packed_and_the_oldest_goes() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("events.ndjson");
    let sink = rotating(&path, 3, true);
    for seq in 1..=40 {
        write(&sink, seq..=seq).await;
    }
    let names: std::collections::BTreeSet<_> =
        fs::read_dir(directory.path()).unwrap().map(|file| file.unwrap().file_name()).collect();
    let expected = ["", ".1.gz", ".2.gz", ".3.gz"].map(|end| format!("events.ndjson{end}").into());
    assert_eq!(names, expected.into());
    let seqs = all_seqs(&path);
    assert_eq!(seqs, (seqs[0]..=40).collect::<Vec<_>>(), "in order and without a gap");
    assert!(seqs.len() >= 12);
}

#[tokio::test]
async fn a_rotation_that_a_crash_ended_anywhere_loses_and_doubles_nothing() {
    for compress in [false, true] {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("events.ndjson");
        let rotation = Rotation { max_bytes: 1_200, keep: 9, compress };
        write(&rotating(&path, 9, compress), 1..=8).await;
        // Put aside, and killed before the next line was written and before the cursor moved.
        rotation.rotate(&path).unwrap();
        rotation.pack(&path).unwrap();
        write(&rotating(&path, 9, compress), 5..=9).await;
        assert_eq!(all_seqs(&path), (1..=9).collect::<Vec<_>>());
        // Killed in the middle of giving numbers: the first is free.
        write(&rotating(&path, 9, compress), 10..=14).await;
        rotation.rotate(&path).unwrap();
        for form in rotation::existing(&path, 1) {
            fs::rename(form.place(&path, 1), form.place(&path, 7)).unwrap();
        }
        write(&rotating(&path, 9, compress), 15..=19).await;
        write(&rotating(&path, 9, compress), 20..=24).await;
        let mut seqs = all_seqs(&path);
        seqs.sort_unstable();
        assert_eq!(seqs, (1..=24).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn a_file_that_none_is_kept_of_begins_anew() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("events.ndjson");
    let sink = rotating(&path, 0, true);
    for seq in 1..=20 {
        write(&sink, seq..=seq).await;
    }
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    assert_eq!(seqs(&path).last(), Some(&20));
}

#[tokio::test]
async fn events_are_not_every_users_to_read() {
    use std::os::unix::fs::PermissionsExt;

    let directory = TempDir::new().unwrap();
    let path = directory.path().join("events.ndjson");
    write(&rotating(&path, 3, true), 1..=8).await;
    write(&rotating(&path, 3, true), 9..=9).await;
    let mut files = 0;
    for file in fs::read_dir(directory.path()).unwrap() {
        let mode = file.unwrap().metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o007, 0, "{mode:o}");
        files += 1;
    }
    assert_eq!(files, 2);
}

#[tokio::test]
#[expect(clippy::await_holding_lock, reason = "whoever holds it stands for the disk")]
async fn a_disk_that_hangs_keeps_one_thread() {
    let directory = TempDir::new().unwrap();
    let sink = sink(&directory.path().join("events.ndjson"));
    let writer = sink.writer.clone();
    let hanging = writer.lock().unwrap();
    for _ in 0..3 {
        let given_up = std::time::Duration::from_millis(20);
        tokio::time::timeout(given_up, sink.deliver(&items(1..=1))).await.unwrap_err();
    }
    // Ours, the sink's, and that of the thread which waits.
    assert_eq!(Arc::strong_count(&writer), 3);
    drop(hanging);
    sink.deliver(&items(2..=2)).await.unwrap();
}
