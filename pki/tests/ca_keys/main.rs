//! How authorities' keys are kept, tried with the real `drover-enrol`, `openssl`, SoftHSM and a
//! pseudo-terminal.

#![expect(clippy::unwrap_used, reason = "a test's helpers fail as the test does")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

mod passphrases;
mod terminal;
mod tokens;
mod two_halves;

/// A directory in which programs run.
struct Workshop {
    dir: TempDir,
}

/// How a program ended.
#[derive(Debug)]
struct Ended {
    status: i32,
    stdout: String,
    stderr: String,
}

impl Ended {
    fn of(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self {
            status: output.status.code().unwrap_or(-1),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
        }
    }

    #[track_caller]
    fn ok(self) -> Self {
        assert_eq!(self.status, 0, "{}{}", self.stdout, self.stderr);
        self
    }

    /// What it printed, where it had to fail.
    #[track_caller]
    fn refused(self, status: i32) -> String {
        assert_eq!(self.status, status, "{}{}", self.stdout, self.stderr);
        self.stderr
    }
}

impl Workshop {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Ended {
        let output = Command::new(program)
            .args(arguments)
            .current_dir(self.dir.path())
            .env("SOFTHSM2_CONF", self.path("softhsm2.conf"))
            .env_remove("DROVER_PKCS11_MODULE")
            .stdin(Stdio::null())
            .output();
        Ended::of(&output.unwrap_or_else(|error| panic!("{program}: {error}")))
    }

    /// Runs `drover-enrol`, without a terminal.
    fn enrol(&self, line: &str) -> Ended {
        let arguments: Vec<_> = line.split_whitespace().collect();
        self.run(enrol(), &arguments)
    }

    fn openssl(&self, line: &str) -> Ended {
        let arguments: Vec<_> = line.split_whitespace().collect();
        self.run("openssl", &arguments)
    }

    /// The public key of a certificate, in PEM.
    fn certified_key(&self, certificate: &str) -> String {
        self.openssl(&format!("x509 -noout -pubkey -in {certificate}")).ok().stdout
    }

    /// Has openssl verify a certificate and those that follow it in its file.
    fn verify(&self, certificate: &str) {
        let line = format!(
            "verify -x509_strict -CAfile fleet/root/root.crt -untrusted {certificate} {certificate}"
        );
        let _ = self.openssl(&line).ok();
    }
}

fn enrol() -> &'static str {
    env!("CARGO_BIN_EXE_drover-enrol")
}

fn exists(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}
