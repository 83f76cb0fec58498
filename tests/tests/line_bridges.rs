//! Bridges to receivers that read lines, messages or frames: real ones, which are killed under load as the master is.
//! Afterwards every event is there; twice only those that were on their way when something died.

#![allow(clippy::unwrap_used, reason = "a scenario that cannot be set up has failed")]

use std::{
    collections::BTreeMap,
    fs,
    net::TcpStream,
    path::{Path, PathBuf},
    time::Duration,
};

use drover_tests::{
    fleet::{Fleet, PATIENCE},
    local_bus::Program,
    parts::{
        certificates::{Authority, Certificate},
        free_port,
        lumberjack::{LumberjackReceiver, Reception},
        script,
    },
    process::Daemon,
    wait,
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

/// How long everything that is under way may take to arrive, also after the longest pause.
const ARRIVAL: Duration = Duration::from_secs(60);
/// Events that are sent before each kill.
const BURST: usize = 300;
/// Events that are on their way at once.
const BATCH: usize = 50;

/// A fleet whose master has one bridge, `own`.
fn fleet(bridge: &str) -> Fleet {
    let mut fleet = Fleet::new();
    fleet.configure_master(&format!(
        "bridges:\n  - {{name: own, batch_events: {BATCH}, filter: 'storm/*', {bridge}}}\n"
    ));
    fleet.start_master();
    fleet
}

/// Sends a burst, and returns in the middle of what follows it.
fn burst(fleet: &Fleet, round: usize) {
    let mut program = Program::connect(&fleet.path("master/run/inject.ipc"));
    for number in 0..BURST {
        program.send(&format!("storm/{round}"), &json!({"n": number}));
    }
    // Each round at another moment.
    let _ = fleet.wait_events(&format!("storm/{round}"), 1 + round * BURST / 6);
}

/// Kills the master, a receiver or both in bursts; `receiver` is told when to end it and when to begin again.
fn storm(fleet: &mut Fleet, rounds: usize, mut receiver: impl FnMut(bool)) {
    for round in 0..rounds {
        burst(fleet, round);
        let (master, other) = (round % 3 != 1, round % 3 != 0);
        if other {
            receiver(false);
        }
        if master {
            fleet.kill_master();
        }
        if other {
            receiver(true);
        }
        if master {
            fleet.start_master();
        }
    }
}

/// Waits until every event that the master kept has arrived, by its id; returns how often each did.
fn all_arrive(fleet: &Fleet, arrived: impl Fn() -> Vec<String>) -> BTreeMap<String, usize> {
    let mut program = Program::connect(&fleet.path("master/run/inject.ipc"));
    program.send("storm/end", &json!({"n": 0}));
    let _ = fleet.wait_events("storm/end", 1);
    let kept: Vec<String> = fleet
        .events("storm/*")
        .iter()
        .map(|event| event["id"].as_str().unwrap().to_owned())
        .collect();
    assert!(kept.len() > BURST, "the kills fell into bursts");
    let count = || {
        let mut count = BTreeMap::new();
        for id in arrived() {
            *count.entry(id).or_insert(0) += 1;
        }
        count
    };
    wait::until_some(
        "every event arrives",
        ARRIVAL,
        || {
            let count = count();
            kept.iter().all(|id| count.contains_key(id)).then_some(count)
        },
        || {
            let count = count();
            let missing = kept.iter().filter(|id| !count.contains_key(*id)).count();
            format!("{missing} of {} are missing\n{}", kept.len(), fleet.logs())
        },
    )
}

/// Twice came no more than what was on its way at a kill.
fn few_came_twice(count: &BTreeMap<String, usize>, kills: usize) {
    let twice: usize = count.values().map(|times| times - 1).sum();
    assert!(twice <= kills * BATCH, "{twice} came twice after {kills} kills");
    eprintln!("{} events after {kills} kills, {twice} came twice", count.len());
}

fn ids(events: &[Value]) -> Vec<String> {
    events.iter().map(|event| event["id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_beats_input_over_tls_has_every_event() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new(directory.path(), "logs-ca");
    let client = authority.client("master");
    let reception = Reception {
        tls: Some(authority.server("logs")),
        client_ca: Some(authority.file()),
        ..Reception::default()
    };
    let mut receiver = LumberjackReceiver::start(directory.path().join("receiver"), reception);
    let mut fleet = fleet(&format!(
        "type: logstash, protocol: lumberjack, hosts: '{}', {}",
        receiver.address(),
        tls(&authority, Some(&client)),
    ));
    storm(&mut fleet, 6, |runs| if runs { receiver.start_again() } else { receiver.kill() });
    let count = all_arrive(&fleet, || ids(&receiver.events()));
    few_came_twice(&count, 6);
    let event = receiver.events().remove(0);
    assert_eq!(event["@metadata"]["_id"], event["id"]);
    assert_eq!(event["@timestamp"], event["ts"]);
}

#[test]
fn a_beats_input_that_is_slow_is_sent_nothing_twice() {
    let directory = tempfile::tempdir().unwrap();
    let reception = Reception { pause: Duration::from_secs(4), ..Reception::default() };
    let receiver = LumberjackReceiver::start(directory.path().join("receiver"), reception);
    let fleet = fleet(&format!(
        "type: logstash, protocol: lumberjack, ack_timeout: 3500ms, hosts: '{}'",
        receiver.address()
    ));
    let mut program = Program::connect(&fleet.path("master/run/inject.ipc"));
    for number in 0..=BATCH {
        program.send("storm/0", &json!({"n": number}));
    }
    wait::until("both batches are there", PATIENCE, || receiver.events().len() > BATCH);
    let settled = || fleet.json(&["bridge", "status"])["own"]["sent"] == json!(BATCH + 1);
    wait::until("both are acknowledged", PATIENCE, settled);
    assert_eq!(receiver.events().len(), BATCH + 1, "something came twice");
}

/// Lines of JSON that a small program of its own reads, each connection to its end.
struct Lines {
    directory: PathBuf,
    port: u16,
    daemon: Option<Daemon>,
}

const LINES: &str = "import os, socketserver, sys
class Lines(socketserver.BaseRequestHandler):
    def handle(self):
        file, rest = os.open(sys.argv[2], os.O_WRONLY | os.O_APPEND | os.O_CREAT), b''
        while part := self.request.recv(65536):
            whole, end, rest = (rest + part).rpartition(b'\\n')
            os.write(file, whole + end)
socketserver.TCPServer.allow_reuse_address = True
socketserver.TCPServer(('127.0.0.1', int(sys.argv[1])), Lines).serve_forever()";

impl Lines {
    fn start(directory: &Path) -> Self {
        let mut lines = Self { directory: directory.to_owned(), port: free_port(), daemon: None };
        lines.run(true);
        lines
    }

    fn run(&mut self, runs: bool) {
        match self.daemon.take() {
            Some(daemon) => daemon.kill(),
            None if runs => {}
            None => return,
        }
        if runs {
            let (port, path) = (self.port.to_string(), self.path());
            let arguments = ["-c", LINES, &port, path.to_str().unwrap()];
            let log = self.directory.join("lines.log");
            let daemon = Daemon::start(Path::new("python3"), arguments, log);
            listens(self.port);
            self.daemon = Some(daemon);
        }
    }

    fn path(&self) -> PathBuf {
        self.directory.join("lines.ndjson")
    }

    fn events(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.path()).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect()
    }
}

fn listens(port: u16) {
    wait::until("the receiver listens", PATIENCE, || {
        TcpStream::connect(("127.0.0.1", port)).is_ok()
    });
}

#[test]
fn a_receiver_of_lines_has_every_event() {
    let directory = tempfile::tempdir().unwrap();
    let mut receiver = Lines::start(directory.path());
    let mut fleet = fleet(&format!("type: logstash, hosts: '127.0.0.1:{}'", receiver.port));
    storm(&mut fleet, 6, |runs| receiver.run(runs));
    let count = all_arrive(&fleet, || ids(&receiver.events()));
    few_came_twice(&count, 6);
}

/// rsyslog, receiving over TLS.
struct Rsyslog {
    directory: PathBuf,
    port: u16,
    daemon: Option<Daemon>,
}

impl Rsyslog {
    fn start(directory: &Path, authority: &Authority) -> Self {
        let Certificate { cert, key } = authority.server("rsyslog");
        let port = free_port();
        let configuration = format!(
            "global(workDirectory=\"{directory}\" maxMessageSize=\"64k\"\n\
             \u{20} defaultNetstreamDriverCAFile=\"{ca}\" defaultNetstreamDriverCertFile=\"{cert}\"\n\
             \u{20} defaultNetstreamDriverKeyFile=\"{key}\")\n\
             module(load=\"imtcp\" streamDriver.name=\"gtls\" streamDriver.mode=\"1\" \
             streamDriver.authMode=\"x509/certvalid\")\n\
             input(type=\"imtcp\" address=\"127.0.0.1\" port=\"{port}\" ruleset=\"drover\")\n\
             template(name=\"line\" type=\"string\" \
             string=\"%pri% %hostname% %msgid% %structured-data% %msg%\\n\")\n\
             ruleset(name=\"drover\") {{ action(type=\"omfile\" file=\"{directory}/out\" template=\"line\") }}\n",
            directory = directory.display(),
            ca = authority.file().display(),
            cert = cert.display(),
            key = key.display(),
        );
        fs::write(directory.join("rsyslog.conf"), configuration).unwrap();
        let mut rsyslog = Self { directory: directory.to_owned(), port, daemon: None };
        rsyslog.run(true);
        rsyslog
    }

    /// Ended, it is told to: what it has read and not written is in its memory alone.
    fn run(&mut self, runs: bool) {
        if let Some(daemon) = self.daemon.take() {
            daemon.stop();
        }
        if runs {
            let program = PathBuf::from(script("rsyslog", &["build"]));
            let file = |name| self.directory.join(name).into_os_string();
            let arguments =
                ["-n".into(), "-f".into(), file("rsyslog.conf"), "-i".into(), file("rsyslog.pid")];
            self.daemon =
                Some(Daemon::start(&program, arguments, self.directory.join("rsyslog.log")));
            listens(self.port);
        }
    }

    fn lines(&self) -> Vec<String> {
        let text = fs::read_to_string(self.directory.join("out")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }
}

fn tls(authority: &Authority, client: Option<&Certificate>) -> String {
    let ca = format!("ca: {}", authority.file().display());
    client.map_or(ca.clone(), |client| {
        format!("{ca}, cert: {}, key: {}", client.cert.display(), client.key.display())
    })
}

#[test]
fn rsyslog_over_tls_has_every_event() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new(directory.path(), "logs-ca");
    let client = authority.client("master");
    let mut rsyslog = Rsyslog::start(directory.path(), &authority);
    let mut fleet = fleet(&format!(
        "type: syslog, hosts: '127.0.0.1:{}', {}, template: 'Nr. {{{{ event.data.n }}}} ✓'",
        rsyslog.port,
        tls(&authority, Some(&client)),
    ));
    storm(&mut fleet, 6, |runs| rsyslog.run(runs));
    let id = |line: &String| {
        line.split("id=\"").nth(1).and_then(|rest| rest.get(..36)).map(str::to_owned)
    };
    let count = all_arrive(&fleet, || rsyslog.lines().iter().filter_map(id).collect());
    few_came_twice(&count, 6);
    let line = rsyslog.lines().remove(0);
    assert!(line.starts_with("30 ") && line.contains(" storm/0 [drover@32473 id="), "{line}");
    assert!(line.ends_with(" \u{feff}Nr. 0 ✓"), "{line}");
}

/// The number of the process of this kind that runs for a bridge.
fn child(fleet: &Fleet) -> Option<Pid> {
    let text = fs::read_to_string(fleet.path("child.pid")).ok()?;
    Pid::from_raw(text.trim().parse().ok()?)
}

#[test]
fn a_program_has_every_event_whoever_is_killed() {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/bridge_exec.py");
    let mut fleet = Fleet::new();
    let (csv, pid) = (fleet.path("events.csv"), fleet.path("child.pid"));
    let command =
        json!(["sh", "-c", "echo $$ > \"$2\"; exec python3 \"$0\" \"$1\"", example, csv, pid]);
    fleet.configure_master(&format!(
        "bridges:\n  - {{name: own, batch_events: {BATCH}, filter: 'storm/*', type: exec, command: {command}}}\n"
    ));
    fleet.start_master();
    for round in 0..6 {
        burst(&fleet, round);
        if round % 3 != 0
            && let Some(pid) = child(&fleet)
        {
            // It may have ended with its master.
            let _ = kill_process(pid, Signal::KILL);
        }
        if round % 3 != 1 {
            fleet.kill_master();
            fleet.start_master();
        }
    }
    let rows = || -> Vec<String> {
        let text = fs::read_to_string(&csv).unwrap_or_default();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().map(|line| line.split(',').next().unwrap().to_owned()).collect()
    };
    let count = all_arrive(&fleet, rows);
    assert!(count.values().all(|times| *times == 1), "the example writes each event once");
    let running = child(&fleet).expect("the program runs");
    fleet.stop_master();
    let gone = || {
        !Path::new(&format!("/proc/{running}/stat", running = running.as_raw_nonzero())).exists()
    };
    wait::until("the program ends with the master", PATIENCE, gone);
}
