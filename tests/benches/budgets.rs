//! Every budget beside what is measured here, with real processes on loopback. On a shared machine only ratios are
//! stable, so all of it is measured in one run. `DROVER_BENCH_IDLE` sets for how many seconds a minion idles (60),
//! `DROVER_BENCH_MINIONS` the sizes of the simulated fleets (`1000,4000`).

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use drover_tests::{
    fleet::Fleet,
    process::{Daemon, memory_of, program},
    wait,
};

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
const PATIENCE: Duration = Duration::from_secs(120);

fn main() {
    // `cargo test` runs benches too, to see that they start; the measurement is for `cargo bench`.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    println!("{:<58} {:>14}   {:>14}", "", "measured", "budget");
    one_minion();
    for count in sizes() {
        simulated(count);
    }
}

fn sizes() -> Vec<usize> {
    let sizes = std::env::var("DROVER_BENCH_MINIONS").unwrap_or_else(|_| "1000,4000".to_owned());
    sizes.split(',').map(|size| size.parse().expect("a number of minions")).collect()
}

fn line(what: &str, measured: &str, budget: &str) {
    println!("{what:<58} {measured:>14}   {budget:>14}");
}

#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
fn now() -> Instant {
    Instant::now()
}

fn timed(mut work: impl FnMut()) -> Duration {
    let began = now();
    work();
    began.elapsed()
}

/// The median of so many runs.
fn median(runs: usize, mut work: impl FnMut()) -> Duration {
    let mut times: Vec<Duration> = (0..runs).map(|_| timed(&mut work)).collect();
    times.sort_unstable();
    times[runs / 2]
}

fn milliseconds(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1e3)
}

fn seconds(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / MIB as f64)
}

/// One real minion: what it costs to idle, and what an operator waits for it.
fn one_minion() {
    let agent = device_build();
    let size = fs::metadata(&agent).expect("the minion is built").len();
    let mut fleet = Fleet::new();
    fleet.use_agent(agent);
    let states: String = (0..15)
        .map(|number| {
            let path = fleet.path(&format!("managed/{number}"));
            format!(
                "file-{number}:\n  file.managed:\n    - name: {}\n    - makedirs: True\n    \
                 - contents: content of {number} on {{{{ grains['id'] }}}}\n",
                path.display()
            )
        })
        .collect();
    fleet.write("master/states/fifteen.sls", &states);
    fleet.enrol("bench-1", &["role=bench"]);
    fleet.bring_up(&["bench-1"]);

    let ping = median(31, || {
        let _ = fleet.drover(&["bench-1", "test.ping"]).ok();
    });
    line("drover ID test.ping, whole process (median of 31)", &milliseconds(ping), "25 ms");

    let _ = fleet.drover(&["bench-1", "state.apply", "fifteen"]).ok();
    let apply = median(11, || {
        let _ = fleet.drover(&["bench-1", "state.apply", "fifteen"]).ok();
    });
    line(
        "state.apply without a change, 15 states, less a ping",
        &milliseconds(apply.saturating_sub(ping)),
        "40 ms",
    );

    let idle = std::env::var("DROVER_BENCH_IDLE").map_or(60, |text| text.parse().expect("seconds"));
    let id = fleet.minion("bench-1").id();
    let before = (processor_time(id), bytes_written(id));
    // Not a wait for a condition: idling is what is measured.
    std::thread::sleep(Duration::from_secs(idle));
    let (processor, written) = (processor_time(id) - before.0, bytes_written(id) - before.1);
    line("minion, stripped device build: size", &mebibytes(size), "12 MiB");
    line("minion idle: memory (PSS)", &mebibytes(memory_of(id)), "10 MiB");
    line(
        &format!("minion idle: CPU over {idle} s"),
        &format!("{:.3} %", processor.as_secs_f64() / idle as f64 * 100.0),
        "0.1 %",
    );
    line(&format!("minion idle: bytes written over {idle} s"), &written.to_string(), "0");
}

/// The agent as devices get it (`[profile.device]`), beside the release build.
fn device_build() -> PathBuf {
    let release = program("drover-minion");
    let target = release.parent().and_then(Path::parent).expect("target/release/drover-minion");
    let device = target.join("device/drover-minion");
    assert!(device.is_file(), "{} is not built: `make bench` does it", device.display());
    device
}

/// User and system time of a process (`/proc/<pid>/stat`, fields 14 and 15, in hundredths of a second).
fn processor_time(id: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).expect("the process runs");
    let after_name = stat.rsplit_once(')').expect("a name in parentheses").1;
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    let ticks: u64 = [11, 12].iter().map(|&at| fields[at].parse::<u64>().expect("ticks")).sum();
    Duration::from_millis(ticks * 10)
}

/// What a process has written to disks (`/proc/<pid>/io`).
fn bytes_written(id: u32) -> u64 {
    let io = fs::read_to_string(format!("/proc/{id}/io")).expect("the process runs");
    io.lines()
        .find_map(|line| line.strip_prefix("write_bytes: "))
        .and_then(|bytes| bytes.parse().ok())
        .expect("io has a line `write_bytes`")
}

/// A simulated fleet on one master.
fn simulated(count: usize) {
    let mut fleet = Fleet::new();
    // A real fleet comes from as many addresses as it has devices; this one is behind one.
    fleet.configure_master("acceptance: auto\nhandshakes: 8192\nhandshakes_per_address: 8192\n");
    fleet.start_master();
    let empty = fleet.master().memory();
    let mut simulator = Simulator::start(&fleet, count);
    simulator.connected(count);
    let memory = settled(fleet.master());
    line(
        &format!("master: memory a minion, {count} connected"),
        &format!("{:.1} kB", memory.saturating_sub(empty) as f64 / 1e3 / count as f64),
        "40 kB",
    );

    let everyone = || {
        let outcome = fleet.drover(&["*", "test.ping", "--timeout", "30", "--out", "json"]).ok();
        let answered = outcome.json().as_object().map_or(0, serde_json::Map::len);
        assert_eq!(answered, count, "all answer");
    };
    everyone();
    let ping = median(3, everyone);
    line(&format!("drover '*' test.ping, {count} minions"), &seconds(ping), "1 s at 5,000");

    fleet.kill_master();
    simulator.lost();
    let back = timed(|| {
        fleet.start_master();
        simulator.connected(count);
    });
    line(
        &format!("{count} minions back after a killed master starts"),
        &seconds(back),
        "4 s at 5,000",
    );
}

/// The memory once it no longer changes: the last sessions end their opening.
fn settled(master: &Daemon) -> u64 {
    let mut last = master.memory();
    wait::until("the master's memory settles", PATIENCE, || {
        std::thread::sleep(Duration::from_secs(1));
        let memory = master.memory();
        let steady = memory.abs_diff(last) < 256 * KIB;
        last = memory;
        steady
    });
    last
}

struct Simulator {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Simulator {
    fn start(fleet: &Fleet, count: usize) -> Self {
        let arguments = [
            "--fleet-ca".to_owned(),
            text(&fleet.path("master/pki")),
            "--root".to_owned(),
            text(&fleet.path("factory/root/root.crt")),
            "--master".to_owned(),
            fleet.master_address(),
            "--count".to_owned(),
            count.to_string(),
            "--retry".to_owned(),
            "100".to_owned(),
        ];
        let mut child = Command::new(program("drover-sim"))
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the simulator starts");
        let output = BufReader::new(child.stdout.take().expect("its output is a pipe"));
        Self { child, output }
    }

    fn connected(&mut self, count: usize) {
        let line = self.until("connected");
        assert!(line.contains(&count.to_string()), "{line}");
    }

    fn lost(&mut self) {
        let _ = self.until("lost");
    }

    fn until(&mut self, word: &str) -> String {
        let mut line = String::new();
        loop {
            line.clear();
            let read = self.output.read_line(&mut line).expect("its output is text");
            assert!(read > 0, "the simulator ended");
            if line.starts_with(word) {
                return line;
            }
        }
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn text(path: &Path) -> String {
    path.to_str().expect("the harness's paths are text").to_owned()
}
