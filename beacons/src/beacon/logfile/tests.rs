//! Real files in a directory, virtual time.
#![expect(clippy::disallowed_methods, reason = "a test needs some instant to start from")]

use std::{
    cell::Cell,
    fs::{self, File},
    io::Write,
    time::Duration,
};

use serde_json::json;

use super::*;

const SECONDS: Duration = Duration::from_secs(5);

/// A beacon, its files and its clock.
struct Bench {
    beacon: Logfile,
    directory: tempfile::TempDir,
    now: Instant,
    room: Cell<usize>,
}

impl Bench {
    /// `{dir}` in the options is the directory of the files.
    fn new(options: Value) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let beacon = configured(options, directory.path());
        Self { beacon, directory, now: Instant::now(), room: Cell::new(usize::MAX) }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn append(&self, name: &str, text: impl AsRef<[u8]>) {
        let mut file = File::options().append(true).create(true).open(self.path(name)).unwrap();
        file.write_all(text.as_ref()).unwrap();
    }

    fn readings(&mut self) -> Vec<Reading> {
        let mut readings = Vec::new();
        self.now += SECONDS;
        self.beacon
            .look(Look { now: self.now, first: false, room: &self.room }, &mut readings)
            .unwrap();
        readings
    }

    /// What is told at the next look: messages, and what was dropped.
    fn told(&mut self) -> Vec<String> {
        let readings = self.readings().into_iter();
        readings
            .map(|reading| match reading.data["message"].as_str() {
                Some(message) => message.to_owned(),
                None => format!("{}: {}", reading.detail, reading.data),
            })
            .collect()
    }
}

fn configured(mut options: Value, directory: &Path) -> Logfile {
    let directory = directory.to_str().unwrap();
    for file in options["files"].as_array_mut().unwrap() {
        *file = file.as_str().unwrap().replace("{dir}", directory).into();
    }
    let mut read = Options::read("logfile", &options).unwrap();
    let beacon = Logfile::configure(&mut read).unwrap();
    read.finish().unwrap();
    beacon.check("logfile").unwrap();
    beacon
}

fn bench(files: &str) -> Bench {
    Bench::new(json!({"files": [format!("{{dir}}/{files}")]}))
}

#[test]
fn only_what_is_written_after_the_start_is_told_each_line_once() {
    let mut bench = bench("app.log");
    bench.append("app.log", "old\nhalf ");
    assert!(bench.told().is_empty());
    bench.append("app.log", "of an old line\none\ntwo\nthr");
    assert_eq!(bench.told(), ["one", "two"]);
    assert!(bench.told().is_empty());
    bench.append("app.log", "ee\r\n");
    assert_eq!(bench.told(), ["three"]);
}

#[test]
fn from_start_tells_what_is_there() {
    let mut bench = Bench::new(json!({"files": ["{dir}/app.log"], "from": "start"}));
    bench.append("app.log", "one\ntwo\n");
    let readings = bench.readings();
    let offsets: Vec<_> = readings.iter().map(|reading| &reading.data["log"]["offset"]).collect();
    assert_eq!(offsets, [0, 4]);
    assert!(readings.iter().all(|reading| reading.detail.is_empty()));
}

#[test]
fn a_file_that_is_made_later_is_read_from_its_beginning() {
    let mut bench = bench("*.log");
    assert!(bench.told().is_empty());
    bench.append("new.log", "one\n");
    assert_eq!(bench.told(), ["one"]);
}

#[test]
fn nothing_is_lost_or_told_twice_when_a_file_is_renamed_and_made_anew() {
    for pattern in ["app.log", "app.log*"] {
        let mut bench = bench(pattern);
        bench.append("app.log", "old\n");
        bench.told();
        bench.append("app.log", "before\n");
        fs::rename(bench.path("app.log"), bench.path("app.log.1")).unwrap();
        assert_eq!(bench.told(), ["before"], "{pattern}");
        // The program has not noticed yet.
        bench.append("app.log.1", "late\n");
        bench.append("app.log", "new\n");
        assert_eq!(bench.told(), ["late", "new"], "{pattern}");
        fs::remove_file(bench.path("app.log.1")).unwrap();
        assert!(bench.told().is_empty());
        assert_eq!(bench.beacon.tails.len(), 1, "what was removed is let go of");
    }
}

#[test]
fn a_new_file_waits_for_the_end_of_the_one_in_whose_place_it_is() {
    for pattern in ["app.log", "app.log*"] {
        let files = format!("{{dir}}/{pattern}");
        let mut bench = Bench::new(json!({"files": [files], "lines_per_second": 1}));
        bench.append("app.log", "");
        bench.told();
        let lines =
            |from: u32, to: u32| (from..to).map(|line| format!("{line}\n")).collect::<String>();
        bench.append("app.log", lines(0, 30));
        fs::rename(bench.path("app.log"), bench.path("app.log.1")).unwrap();
        bench.append("app.log", lines(30, 40));
        let told: Vec<String> = (0..10).flat_map(|_| bench.told()).collect();
        assert_eq!(told.join("\n") + "\n", lines(0, 40), "{pattern}");
    }
}

#[test]
fn a_file_that_was_rotated_away_is_let_go_of_after_a_minute() {
    let mut bench = bench("app.log");
    bench.append("app.log", "x");
    bench.told();
    bench.append("app.log", "yz\nno end");
    fs::rename(bench.path("app.log"), bench.path("old")).unwrap();
    let told: Vec<String> = (0..20).flat_map(|_| bench.told()).collect();
    assert_eq!(told, ["no end"], "the last line of a file that is over");
    assert!(bench.beacon.tails.is_empty());
}

#[test]
fn a_file_that_was_copied_and_cut_goes_on_from_its_beginning() {
    let mut bench = bench("app.log");
    bench.append("app.log", "2026-11-23 10:00:00 the first line\n");
    bench.told();
    bench.append("app.log", "one\n");
    assert_eq!(bench.told(), ["one"]);
    fs::write(bench.path("app.log"), "two\n").unwrap();
    assert_eq!(bench.told(), ["two"]);
    // Cut, and written past where it was.
    fs::write(bench.path("app.log"), "2026-11-23 11:00:00 another first line\nx\n").unwrap();
    assert_eq!(bench.told(), ["2026-11-23 11:00:00 another first line", "x"]);
}

#[test]
fn the_copy_of_a_rotation_is_read_for_what_had_not_been_read() {
    let mut bench = bench("app.log*");
    bench.append("app.log", "2026-11-23 10:00:00 the first line\n");
    bench.told();
    bench.append("app.log", "unread\n");
    fs::copy(bench.path("app.log"), bench.path("app.log.1")).unwrap();
    fs::write(bench.path("app.log"), "").unwrap();
    assert_eq!(bench.told(), ["unread"]);
    // The look may also fall between the copy and the cut.
    bench.append("app.log", "2026-11-23 11:00:00 again a first line\n");
    fs::copy(bench.path("app.log"), bench.path("app.log.2")).unwrap();
    assert_eq!(bench.told().len(), 1);
    fs::write(bench.path("app.log"), "new\n").unwrap();
    assert_eq!(bench.told(), ["new"]);
}

#[test]
fn what_was_lost_unread_is_told() {
    let mut bench = bench("app.log");
    bench.append("app.log", "");
    bench.told();
    bench.room.set(0);
    bench.append("app.log", "held back\nand this\n");
    assert!(bench.told().is_empty());
    fs::write(bench.path("app.log"), "new\n").unwrap();
    bench.room.set(usize::MAX);
    let file = bench.path("app.log");
    let lost = json!({"file": file, "bytes": 9});
    assert_eq!(
        bench.told(),
        ["held back".to_owned(), "new".to_owned(), format!("dropped: {lost}")]
    );
}

#[test]
fn a_hole_that_cutting_leaves_is_passed_over() {
    let mut bench = bench("app.log");
    bench.append("app.log", "");
    bench.told();
    let file = File::options().write(true).open(bench.path("app.log")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"after the hole\n", 300_000).unwrap();
    assert_eq!(bench.told(), ["after the hole"]);
}

#[test]
fn lines_that_belong_together_are_one_event() {
    let mut bench = Bench::new(json!({"files": ["{dir}/app.log"], "multiline": r"^\s"}));
    bench.append("app.log", "");
    bench.told();
    bench.append("app.log", "ERROR boom\n  at one\n  at two\nnext\n");
    let readings = bench.readings();
    assert_eq!(readings.len(), 1, "`next` may go on");
    let data = &readings[0].data;
    assert_eq!(data["message"], "ERROR boom\n  at one\n  at two");
    assert_eq!(data["log"]["flags"], json!(["multiline"]));
    assert_eq!(bench.told(), ["next"], "nothing followed");
}

#[test]
fn what_the_rate_holds_back_comes_later_in_order() {
    let mut bench = Bench::new(json!({"files": ["{dir}/app.log"], "lines_per_second": 2}));
    bench.append("app.log", "");
    bench.told();
    let lines: Vec<String> = (0..40).map(|line| line.to_string()).collect();
    bench.append("app.log", lines.join("\n") + "\n");
    let looks: Vec<_> = (0..4).map(|_| bench.told()).collect();
    assert_eq!(looks.iter().map(Vec::len).collect::<Vec<_>>(), [20, 10, 10, 0]);
    assert_eq!(looks.concat(), lines);
}

#[test]
fn a_backlog_that_is_too_long_is_passed_over_counted_and_told_once_a_minute() {
    let options = json!({"files": ["{dir}/app.log"], "backlog": "1KiB"});
    let mut bench = Bench::new(options);
    bench.append("app.log", "");
    bench.told();
    let line = |number: usize| format!("{number:099}\n");
    bench.append("app.log", (0..100).map(line).collect::<String>());
    let told = bench.told();
    assert_eq!(told.len(), 11);
    assert_eq!(told[0], line(90).trim_end());
    let file = bench.path("app.log");
    let dropped = json!({"file": file, "lines": 90, "bytes": 9000});
    assert_eq!(told[10], format!("dropped: {dropped}"));
    bench.append("app.log", (0..20).map(line).collect::<String>());
    assert_eq!(bench.told().len(), 10);
    let later: Vec<String> = (0..12).flat_map(|_| bench.told()).collect();
    let dropped = json!({"file": file, "lines": 10, "bytes": 1000});
    assert_eq!(later, [format!("dropped: {dropped}")]);
}

#[test]
fn a_line_of_megabytes_is_cut_once() {
    let mut bench = bench("app.log");
    bench.append("app.log", "");
    bench.told();
    bench.append("app.log", "x".repeat(3 << 20));
    let readings = bench.readings();
    assert_eq!(readings.len(), 1);
    assert_eq!(readings[0].data["message"].as_str().unwrap().len(), 16 << 10);
    assert_eq!(readings[0].data["log"]["flags"], json!(["truncated"]));
    bench.append("app.log", "still the same line\nnext\n");
    assert_eq!(bench.told(), ["next"]);
}

#[test]
fn a_loud_file_does_not_silence_the_others() {
    let mut bench = Bench::new(json!({"files": ["{dir}/*.log"], "lines_per_second": 1}));
    for name in ["a.log", "b.log"] {
        bench.append(name, "");
    }
    bench.told();
    bench.append("a.log", "a\n".repeat(100));
    bench.append("b.log", "b\n");
    let told: Vec<String> = (0..3).flat_map(|_| bench.told()).collect();
    assert!(told.contains(&"b".to_owned()), "{told:?}");
}

#[test]
fn salts_log_tells_a_line_for_each_tag_that_matches_its_beginning() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("auth.log");
    let options = json!([
        {"file": file}, {"tags": {"sshd": {"regex": ".*sshd.*"}, "su": {"regex": "su:"}}},
    ]);
    let mut read = Options::read("log", &options).unwrap();
    let beacon = Logfile::configure_log(&mut read).unwrap();
    let now = Instant::now();
    let mut bench = Bench { beacon, directory, now, room: Cell::new(usize::MAX) };
    bench.append("auth.log", "");
    bench.told();
    bench.append("auth.log", "host sshd: x\nno su: y\n");
    let readings = bench.readings();
    assert_eq!(readings.len(), 1);
    assert_eq!(readings[0].detail, "sshd");
    assert_eq!(readings[0].data, json!({"match": "yes", "raw": "host sshd: x", "error": ""}));
}

#[test]
fn a_file_that_may_not_be_read_is_named() {
    let mut bench = bench("dir.log");
    bench.told();
    fs::create_dir(bench.path("dir.log")).unwrap();
    assert!(bench.told().is_empty(), "a directory is no log");
    assert_eq!(
        SystemError::ReadLog { path: "/x".into(), source: io::ErrorKind::PermissionDenied.into() }
            .to_string(),
        "failed to read the log `/x`"
    );
}

#[test]
fn what_cannot_be_followed_is_refused_with_an_example() {
    let refusal = |options: Value| {
        let mut read = Options::read("logfile", &options).unwrap();
        let beacon = Logfile::configure(&mut read);
        beacon.and_then(|beacon| beacon.check("logfile")).unwrap_err().to_string()
    };
    assert_eq!(
        refusal(json!({})),
        "beacon `logfile` does not say what to watch, add `files: [/run/log/app.log]`"
    );
    assert_eq!(
        refusal(json!({"files": "app.log"})),
        "beacon `logfile` does not say what to watch, add paths that begin with `/`"
    );
    assert_eq!(
        refusal(json!({"files": "/x", "from": "middle"})),
        "option `from` of beacon `logfile` must be `end` or `start`, but is `\"middle\"`"
    );
    assert_eq!(
        refusal(json!({"files": "/x", "backlog": "lots"})),
        "option `backlog` of beacon `logfile` must be a number from 1, of bytes also as `64KiB`, \
         but is `\"lots\"`"
    );
}

#[test]
fn a_file_that_is_rewritten_in_the_same_length_is_read_again() {
    let mut bench = bench("app.log");
    bench.append("app.log", "");
    bench.told();
    bench.append("app.log", "one\ntwo\n");
    assert_eq!(bench.told(), ["one", "two"]);
    fs::write(bench.path("app.log"), "six\nten\n").unwrap();
    // The clock of a file system may be coarse.
    let file = File::options().write(true).open(bench.path("app.log")).unwrap();
    file.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    assert_eq!(bench.told(), ["six", "ten"]);
    assert!(bench.told().is_empty());
}

#[test]
fn a_pipe_that_took_a_files_place_holds_nobody_up() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("app.log");
    let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
    assert!(made.success());
    let (done, is_done) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let opened = Tail::open(path.clone(), path, Start::At(0));
        done.send(opened.map(drop).map_err(|why| why.kind())).unwrap();
    });
    let opened = is_done.recv_timeout(SECONDS).expect("opening it does not wait for a writer");
    assert!(opened.is_err(), "a pipe is no log");
}

#[test]
fn files_that_come_and_go_do_not_use_up_what_a_process_may_open() {
    let mut bench = Bench::new(json!({"files": ["{dir}/*.log"], "lines_per_second": 1}));
    bench.told();
    for round in 0..6 {
        for file in 0..60 {
            bench.append(&format!("{round}-{file}.log"), format!("{round}-{file}\n").repeat(40));
        }
        let mut readings = Vec::new();
        bench.now += SECONDS;
        let look = Look { now: bench.now, first: false, room: &bench.room };
        // It may say that there are too many.
        let _ = bench.beacon.look(look, &mut readings);
        for file in 0..60 {
            fs::remove_file(bench.path(&format!("{round}-{file}.log"))).unwrap();
        }
    }
    assert!(bench.beacon.tails.len() <= 2 * MOST_FILES, "{} files", bench.beacon.tails.len());
}

#[test]
fn one_look_passes_over_a_line_without_an_end_in_bounded_time() {
    const SIZE: u64 = 10 << 30;
    const BACKLOG: u64 = 16 << 20;
    let mut bench = bench("app.log");
    bench.append("app.log", "");
    bench.told();
    let file = File::options().write(true).open(bench.path("app.log")).unwrap();
    // A hole takes no disk. Its end is a line of its own.
    file.set_len(SIZE).unwrap();
    let tail = b"x".repeat(20 << 20);
    std::os::unix::fs::FileExt::write_all_at(&file, &tail, SIZE - tail.len() as u64).unwrap();
    bench.readings();
    let offset = bench.beacon.tails[0].offset();
    let most = SIZE - BACKLOG + MOST_READ + (64 << 10);
    assert!(offset <= most, "it looked {} bytes too far for an end", offset - most);
    bench.append("app.log", "yz\nnext\n");
    let told: Vec<_> = (0..6).flat_map(|_| bench.told()).collect();
    assert_eq!(told.last().map(String::as_str), Some("next"));
    assert_eq!(told.len(), 1, "nothing of the line without an end");
}

#[test]
fn a_record_takes_the_room_of_all_that_is_told_of_it() {
    let fields: String = (0..20).map(|group| format!("(?<g{group}>")).collect();
    let parse = format!("^{fields}.*{}", ")".repeat(20));
    let mut bench = Bench::new(json!({"files": ["{dir}/app.log"], "parse": parse}));
    bench.append("app.log", "");
    bench.told();
    bench.append("app.log", [b"\xff".repeat(2_000), b"\n".to_vec()].concat().repeat(50));
    bench.room.set(256 << 10);
    let told: usize = bench.readings().iter().map(|reading| reading.data.to_string().len()).sum();
    assert!(told <= 256 << 10, "{told} bytes into a room of {}", 256 << 10);
}

#[test]
fn a_record_that_no_outbox_could_take_is_dropped_and_told() {
    let fields: String = (0..40).map(|group| format!("(?<g{group}>")).collect();
    let parse = format!("^{fields}.*{}", ")".repeat(40));
    let mut bench = Bench::new(json!({"files": ["{dir}/app.log"], "parse": parse}));
    bench.append("app.log", "");
    bench.told();
    bench.append("app.log", [b"\xff".repeat(16_000), b"\nnext\n".to_vec()].concat());
    let path = bench.path("app.log");
    let told = bench.told();
    let dropped = json!({"file": path, "lines": 1, "bytes": 16_000});
    assert_eq!(told, ["next".to_owned(), format!("dropped: {dropped}")]);
}
