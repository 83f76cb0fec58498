//! The assembly line's verbs as people use them: lists, the prompt loop, labels, and what a station is
//! told once.

#![expect(clippy::unwrap_used, reason = "a test's helpers fail as the test does")]

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

mod batch;
mod issue;
mod label;
mod settings;
mod station;

/// A factory in a directory of its own, with a station.
struct Factory(TempDir);

/// How a program ended.
struct Ended {
    status: i32,
    out: String,
    err: String,
}

impl Factory {
    /// With a template for ids.
    fn new() -> Self {
        Self::with("--id-template rfid-{serial} --master 10.0.0.1:4510")
    }

    fn with(settings: &str) -> Self {
        let factory = Self(tempfile::tempdir().unwrap());
        factory.enrol("init-fleet --name acme --dir fleet").ok();
        let station = "init-station --fleet fleet --name line-1 --dir line-1";
        factory.enrol(format!("{station} {settings}").trim_end()).ok();
        factory
    }

    fn path(&self, relative: &str) -> PathBuf {
        self.0.path().join(relative)
    }

    fn write(&self, relative: &str, text: impl AsRef<[u8]>) {
        fs::write(self.path(relative), text).unwrap();
    }

    fn read(&self, relative: &str) -> String {
        fs::read_to_string(self.path(relative)).unwrap()
    }

    fn enrol(&self, line: &str) -> Ended {
        self.enrol_with(line, b"")
    }

    /// Runs `drover-enrol` in the factory with this on its standard input.
    fn enrol_with(&self, line: &str, input: &[u8]) -> Ended {
        let mut command = Command::new(env!("CARGO_BIN_EXE_drover-enrol"));
        command.args(line.split(' ')).current_dir(self.0.path()).env("SUDO_USER", "ann");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // A program that ends before it reads is seen by how it ends.
        let _ = child.stdin.take().unwrap().write_all(input);
        let output = child.wait_with_output().unwrap();
        let text = |bytes: &[u8]| {
            let text = String::from_utf8(bytes.to_vec()).unwrap();
            text.lines().map(settled).collect::<Vec<_>>().join("\n")
        };
        let status = output.status.code().unwrap();
        Ended { status, out: text(&output.stdout), err: text(&output.stderr) }
    }

    /// How many lines the ledger has.
    fn ledger(&self) -> usize {
        self.read("line-1/ledger.ndjson").lines().count()
    }
}

impl Ended {
    #[track_caller]
    fn ok(self) -> Self {
        assert_eq!(self.status, 0, "{self}");
        self
    }

    fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap()
    }
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "status {}\n{}\n{}", self.status, self.out, self.err)
    }
}

/// A line with what differs from run to run replaced.
fn settled(line: &str) -> String {
    let word = |word: &str| {
        let bare = word.trim_end_matches([',', ':']);
        if bare.len() == 20 && bare.ends_with('Z') && bare.contains('T') {
            word.replace(bare, "TIME")
        } else {
            word.to_owned()
        }
    };
    line.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort_unstable();
    names
}
