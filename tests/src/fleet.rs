//! A fleet: a factory, a master and minions, as `drover-enrol`, `drover-master`, `drover-minion` and `drover` make it.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use serde_json::Value;
use tempfile::TempDir;

use crate::{
    parts::free_port,
    process::{Daemon, program},
    wait,
};

/// How long the harness waits for what should take a moment.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A factory, a master and any number of minions, in one directory under the system's temporary one.
#[derive(Debug)]
pub struct Fleet {
    dir: TempDir,
    port: u16,
    master: Option<Daemon>,
    minions: BTreeMap<String, Daemon>,
    agent: PathBuf,
    environment: Vec<String>,
}

/// What a command printed and how it ended.
#[derive(Debug)]
pub struct Outcome {
    /// Its exit status.
    pub status: i32,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Outcome {
    /// Its standard output as one JSON value.
    ///
    /// # Panics
    /// When it is not JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| {
            panic!("not JSON: {error}\nstdout: {}\nstderr: {}", self.stdout, self.stderr)
        })
    }

    /// Itself, if it succeeded.
    ///
    /// # Panics
    /// When it did not.
    #[must_use]
    pub fn ok(self) -> Self {
        assert_eq!(self.status, 0, "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self
    }
}

impl Fleet {
    /// A factory with one station, `line-1`, and a master's directory with an empty state tree. Nothing runs yet.
    ///
    /// # Panics
    /// When the factory cannot be made.
    #[must_use]
    pub fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("drover-").tempdir().expect("a directory");
        let fleet = Self {
            dir,
            port: free_port(),
            master: None,
            minions: BTreeMap::new(),
            agent: program("drover-minion"),
            environment: Vec::new(),
        };
        let factory = fleet.path("factory");
        fleet.enrol_tool(&["init-fleet", "--name", "test", "--dir", text(&factory)]);
        fleet.new_station("line-1");
        for part in ["states", "pillar", "reactor"] {
            fs::create_dir_all(fleet.path("master").join(part)).expect("the directory is writable");
        }
        copy_dir(&factory.join("master"), &fleet.path("master/pki"));
        fleet.configure_master("");
        fleet
    }

    /// A path in the fleet's directory.
    #[must_use]
    pub fn path(&self, relative: &str) -> PathBuf {
        self.dir.path().join(relative)
    }

    /// `127.0.0.1:PORT` of the master.
    #[must_use]
    pub fn master_address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Writes master.yml, with these lines at its end.
    pub fn configure_master(&self, more: &str) {
        let own = format!(
            "name: test\nlisten: {}\npki_dir: pki\ndata_dir: data\nrun_dir: run\n\
             file_roots: {{base: [states]}}\npillar_roots: {{base: [pillar]}}\n",
            self.master_address()
        );
        self.write("master/master.yml", &format!("{own}{more}"));
    }

    /// Writes a file in the fleet's directory.
    ///
    /// # Panics
    /// When it cannot.
    pub fn write(&self, relative: &str, content: &str) {
        let path = self.path(relative);
        let parent = path.parent().expect("a relative path has a parent");
        fs::create_dir_all(parent).expect("the directory is writable");
        fs::write(&path, content)
            .unwrap_or_else(|error| panic!("write {}: {error}", path.display()));
    }

    /// Another enrolment station.
    pub fn new_station(&self, name: &str) {
        self.enrol_tool(&[
            "init-station",
            "--fleet",
            text(&self.path("factory")),
            "--name",
            name,
            "--dir",
            text(&self.path(&format!("stations/{name}"))),
        ]);
    }

    /// Issues a device's identity at station `line-1`; `grains` are enrolled ones, `K=V`.
    pub fn enrol(&self, id: &str, grains: &[&str]) {
        let address = self.master_address();
        let station = self.path("stations/line-1");
        let out = self.minion_dir(id);
        let serial = format!("SN-{id}");
        let mut arguments = vec!["issue", "--station", text(&station), "--id", id];
        arguments.extend(["--serial", &serial, "--master", &address, "--out", text(&out)]);
        for grain in grains {
            arguments.extend(["--grain", grain]);
        }
        self.enrol_tool(&arguments);
    }

    /// Exports the station's manifest and imports it at the running master.
    pub fn register(&self) {
        let manifest = self.path("manifest");
        let _ = fs::remove_file(&manifest);
        let station = self.path("stations/line-1");
        self.enrol_tool(&["manifest", "--station", text(&station), "--out", text(&manifest)]);
        let _ = self.drover(&["key", "import", text(&manifest)]).ok();
    }

    /// A fleet of these minions, registered and connected.
    #[must_use]
    pub fn connected(ids: &[&str]) -> Self {
        let mut fleet = Self::new();
        for id in ids {
            fleet.enrol(id, &[]);
        }
        fleet.bring_up(ids);
        fleet
    }

    /// Starts the master, registers what is enrolled, starts these minions and waits until they are connected.
    pub fn bring_up(&mut self, ids: &[&str]) {
        self.start_master();
        self.register();
        for id in ids {
            self.start_minion(id);
        }
        self.wait_connected(ids);
    }

    /// The minion's configuration directory.
    #[must_use]
    pub fn minion_dir(&self, id: &str) -> PathBuf {
        self.path(&format!("minions/{id}"))
    }

    /// Writes minion.yml, with these lines at its end.
    pub fn configure_minion(&self, id: &str, more: &str) {
        let own = format!(
            "master: {}\npki_dir: pki\ndata_dir: data\nrun_dir: run\n",
            self.master_address()
        );
        self.write(&format!("minions/{id}/minion.yml"), &format!("{own}{more}"));
    }

    /// Gives the master an environment variable, `NAME=VALUE`, each time that it is started.
    pub fn set_master_environment(&mut self, variable: &str) {
        self.environment.push(variable.to_owned());
    }

    /// Starts the master and waits until its API answers.
    pub fn start_master(&mut self) {
        let dir = self.path("master");
        let (env, master) = (Path::new("env"), program("drover-master"));
        let arguments = self.environment.iter().map(String::as_str);
        let arguments = arguments.chain([text(&master), "-c", text(&dir)]);
        let daemon = Daemon::start(env, arguments, self.path("master.log"));
        let master = self.master.insert(daemon);
        let dir = dir.clone();
        wait::until_some(
            "the master's API answers",
            PATIENCE,
            || {
                assert!(master.runs(), "the master ended:\n{}", master.log());
                (run(&program("drover"), &["-c", text(&dir), "minions", "--out", "json"]).status
                    == 0)
                    .then_some(())
            },
            || fs::read_to_string(self.dir.path().join("master.log")).unwrap_or_default(),
        );
    }

    /// The running master.
    ///
    /// # Panics
    /// When it does not run.
    #[must_use]
    pub fn master(&mut self) -> &mut Daemon {
        self.master.as_mut().expect("the master was started")
    }

    /// SIGKILL to the master.
    pub fn kill_master(&mut self) {
        self.master.take().expect("the master was started").kill();
    }

    /// SIGTERM to the master.
    pub fn stop_master(&mut self) {
        self.master.take().expect("the master was started").stop();
    }

    /// Runs this build of the agent from now on.
    pub fn use_agent(&mut self, program: PathBuf) {
        self.agent = program;
    }

    /// Starts a minion. It is connected when [`Fleet::wait_connected`] says so.
    pub fn start_minion(&mut self, id: &str) {
        let dir = self.minion_dir(id);
        let log = self.path(&format!("minion-{id}.log"));
        let daemon = Daemon::start(&self.agent, ["-c", text(&dir)], log);
        self.minions.insert(id.to_owned(), daemon);
    }

    /// A running minion.
    ///
    /// # Panics
    /// When it was not started.
    #[must_use]
    pub fn minion(&mut self, id: &str) -> &mut Daemon {
        self.minions.get_mut(id).expect("the minion was started")
    }

    /// SIGKILL to a minion.
    pub fn kill_minion(&mut self, id: &str) {
        self.minions.remove(id).expect("the minion was started").kill();
    }

    /// SIGTERM to a minion.
    pub fn stop_minion(&mut self, id: &str) {
        self.minions.remove(id).expect("the minion was started").stop();
    }

    /// Waits until the master calls these minions connected.
    pub fn wait_connected(&self, ids: &[&str]) {
        self.wait_presence(ids, "connected");
    }

    /// Waits until the master says this of these minions' presence.
    pub fn wait_presence(&self, ids: &[&str], presence: &str) {
        wait::until_some(
            &format!("{ids:?} are {presence}"),
            PATIENCE,
            || {
                let known = self.drover(&["presence", "--out", "json"]).json();
                ids.iter().all(|id| known[id]["presence"] == presence).then_some(())
            },
            || self.logs(),
        );
    }

    /// Runs `drover` against this master.
    #[must_use]
    pub fn drover(&self, arguments: &[&str]) -> Outcome {
        let dir = self.path("master");
        let mut all = vec!["-c", text(&dir)];
        all.extend(arguments);
        run(&program("drover"), &all)
    }

    /// Runs `drover … --out json` and gives its JSON, whatever its exit status.
    #[must_use]
    pub fn json(&self, arguments: &[&str]) -> Value {
        let mut all = vec!["--out", "json"];
        all.extend(arguments);
        self.drover(&all).json()
    }

    /// The kept events whose tag matches.
    ///
    /// # Panics
    /// When a line is not JSON.
    #[must_use]
    pub fn events(&self, tag: &str) -> Vec<Value> {
        let outcome = self.drover(&["events", "--tag", tag, "--out", "json"]).ok();
        outcome
            .stdout
            .lines()
            .map(|line| serde_json::from_str(line).expect("an event a line"))
            .collect()
    }

    /// Waits until the store has at least `count` events whose tag matches, and gives them.
    #[must_use]
    pub fn wait_events(&self, tag: &str, count: usize) -> Vec<Value> {
        wait::until_some(
            &format!("{count} events {tag}"),
            PATIENCE,
            || Some(self.events(tag)).filter(|events| events.len() >= count),
            || self.logs(),
        )
    }

    /// What all processes have written, for a failed test's message.
    #[must_use]
    pub fn logs(&self) -> String {
        let mut logs = String::new();
        for entry in fs::read_dir(self.dir.path()).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.extension().is_some_and(|extension| extension == "log") {
                let content = fs::read_to_string(&path).unwrap_or_default();
                let lines: Vec<&str> = content.lines().collect();
                let tail = lines[lines.len().saturating_sub(40)..].join("\n");
                logs.push_str(&format!("--- {}\n{tail}\n", path.display()));
            }
        }
        logs
    }

    fn enrol_tool(&self, arguments: &[&str]) {
        let _ = run(&program("drover-enrol"), arguments).ok();
    }
}

impl Default for Fleet {
    fn default() -> Self {
        Self::new()
    }
}

/// Runs a program to its end.
///
/// # Panics
/// When it cannot be started or is ended by a signal.
#[must_use]
pub fn run(program: &Path, arguments: &[&str]) -> Outcome {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .unwrap_or_else(|error| panic!("run {}: {error}", program.display()));
    Outcome {
        status: output.status.code().expect("it ends by itself"),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("the harness's paths are text")
}

fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("the directory is writable");
    for entry in fs::read_dir(from).expect("the directory is there").flatten() {
        fs::copy(entry.path(), to.join(entry.file_name())).expect("files can be copied");
    }
}
