//! How fast a list is issued, as an operator runs it: the real program on one core, with its files on a real disk.
//! `DROVER_BENCH_DEVICES` sets for how many devices (1000).

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

/// Devices a minute on one core.
const BUDGET: f64 = 1000.0;
/// For how many devices system calls are counted, which slows each of them down.
const TRACED: usize = 20;

fn main() {
    // `cargo test` runs benches too, to see that they start; the measurement is for `cargo bench`.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let devices = std::env::var("DROVER_BENCH_DEVICES").unwrap_or_else(|_| "1000".to_owned());
    let devices: usize = devices.parse().expect("a number of devices");
    println!("{:<58} {:>14}   {:>14}", "", "measured", "budget");
    let factory = Factory::new();

    let time = factory.batch(&[], devices);
    let rate = devices as f64 / time.as_secs_f64() * 60.0;
    let what = format!("batch of {devices}, on one core: devices a minute");
    line(&what, &format!("{rate:.0}"), &format!("≥ {BUDGET:.0}"));
    let share = |bytes: u64| format!("{:.1} kB", bytes as f64 / devices as f64 / 1e3);
    line("  its bundle, for each device", &share(size(&factory.path("out"))), "");
    line("  its label, in three forms", &share(size(&factory.path("line-1/labels"))), "");
    line("  its line in the ledger", &share(size(&factory.path("line-1/ledger.ndjson"))), "");

    // The same list again: what is done is found out and skipped.
    let again = factory.batch(&[], devices);
    line("  run again, all of it skipped", &format!("{:.2} s", again.as_secs_f64()), "");

    let trace = factory.path("trace");
    let strace = ["strace", "-f", "-c", "-e", "trace=fsync,fdatasync", "-o"];
    if run("strace", &["-V"]).is_some_and(|output| output.status.success()) {
        let tracer = [&strace[..], &[text(&trace)]].concat();
        factory.batch_from(&tracer, devices, TRACED);
        let synced = synced(&fs::read_to_string(&trace).expect("strace has written its summary"));
        line("  fsyncs, for each device", &format!("{:.1}", synced as f64 / TRACED as f64), "");
    }
}

struct Factory(tempfile::TempDir);

impl Factory {
    fn new() -> Self {
        // Beside what is built: the system's temporary directory may be memory.
        let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
        let factory = Self(directory);
        factory.enrol(&[], &["init-fleet", "--name", "acme", "--dir", "fleet"]);
        let station = ["init-station", "--fleet", "fleet", "--name", "line-1", "--dir", "line-1"];
        let settings = ["--id-template", "rfid-{serial}", "--master", "10.0.0.1:4510"];
        factory.enrol(&[], &[&station[..], &settings].concat());
        factory
    }

    fn path(&self, relative: &str) -> PathBuf {
        self.0.path().join(relative)
    }

    fn batch(&self, before: &[&str], devices: usize) -> Duration {
        self.batch_from(before, 0, devices)
    }

    /// Issues a list, and says how long that took.
    fn batch_from(&self, before: &[&str], from: usize, devices: usize) -> Duration {
        let rows = (from..from + devices).map(|number| format!("SN{number:08},bne,R2\n"));
        let list = format!("serial,site,model\n{}", rows.collect::<String>());
        fs::write(self.path("devices.csv"), list).expect("the directory is writable");
        let began = now();
        let batch = ["batch", "--station", "line-1", "--csv", "devices.csv", "--out", "out"];
        self.enrol(before, &batch);
        began.elapsed()
    }

    fn enrol(&self, before: &[&str], arguments: &[&str]) {
        // One core, so that the number says what a small laptop does.
        let one_core = ["taskset", "-c", "0"];
        let is_there = run("taskset", &["--version"]).is_some();
        let bound = if is_there { &one_core[..] } else { &[] };
        let words = [bound, before, &[env!("CARGO_BIN_EXE_drover-enrol")], arguments].concat();
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).current_dir(self.0.path()).stdin(Stdio::null());
        let output = command.output().expect("the program starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

/// A program's output, if it is there.
fn run(program: &str, arguments: &[&str]) -> Option<Output> {
    Command::new(program).args(arguments).output().ok()
}

/// The calls in a summary of `strace -c`, whose rows are: % time, seconds, usecs/call, calls, (errors,) syscall.
fn synced(summary: &str) -> u64 {
    let rows = summary.lines().map(|row| row.split_whitespace().collect::<Vec<_>>());
    let calls = rows.filter(|row| matches!(row.last(), Some(&("fsync" | "fdatasync"))));
    calls.map(|row| row[3].parse::<u64>().unwrap_or(0)).sum()
}

/// The bytes in a file, or in all files below a directory.
fn size(path: &Path) -> u64 {
    if path.is_file() {
        return fs::metadata(path).map_or(0, |metadata| metadata.len());
    }
    let entries = fs::read_dir(path).expect("the directory can be read");
    entries.map(|entry| size(&entry.expect("an entry").path())).sum()
}

fn line(what: &str, measured: &str, budget: &str) {
    println!("{what:<58} {measured:>14}   {budget:>14}");
}

fn text(path: &Path) -> &str {
    path.to_str().expect("paths of tests are text")
}

#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
fn now() -> Instant {
    Instant::now()
}
