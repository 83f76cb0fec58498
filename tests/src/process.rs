//! Processes of ours: started with their output in a file, ended by their own id and never by name.

use std::{
    ffi::OsStr,
    fs::{self, File},
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};

use crate::wait;

/// Where `cargo` put the programs of this build.
///
/// # Panics
/// When the program is not built: `make test` does that first.
#[must_use]
pub fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test has a program file");
    test.ancestors()
        .skip(1)
        .take(2)
        .map(|dir| dir.join(name))
        .find(|path| path.is_file())
        .unwrap_or_else(|| panic!("`{name}` is not built: run `cargo build --workspace --bins`"))
}

/// A process that runs until it is stopped; dropped, it is killed.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    log: PathBuf,
}

impl Daemon {
    /// Starts it with its standard output and error appended to `log`.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start<S: AsRef<OsStr>>(
        program: &Path,
        arguments: impl IntoIterator<Item = S>,
        log: PathBuf,
    ) -> Self {
        let output = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .unwrap_or_else(|error| panic!("open {}: {error}", log.display()));
        let errors = output.try_clone().expect("a file can be shared");
        let child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .spawn()
            .unwrap_or_else(|error| panic!("start {}: {error}", program.display()));
        Self { child, log }
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has written so far.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        if let Some(id) = id {
            // It may have ended by itself, which the caller sees by waiting.
            let _ = kill_process(id, signal);
        }
    }

    /// SIGKILL, as a power cut would.
    pub fn kill(mut self) {
        self.end();
    }

    /// SIGTERM, and waits for a clean end.
    ///
    /// # Panics
    /// When it does not end within ten seconds, or not with status 0.
    pub fn stop(mut self) {
        self.signal(Signal::TERM);
        let status = wait::until_some(
            "a clean end after SIGTERM",
            Duration::from_secs(10),
            || self.child.try_wait().ok().flatten(),
            || fs::read_to_string(&self.log).unwrap_or_default(),
        );
        assert!(
            status.success(),
            "ended with {:?}, signal {:?} after SIGTERM\n{}",
            status.code(),
            status.signal(),
            self.log()
        );
    }

    /// Resident memory shared out among those who share it (PSS), in bytes.
    ///
    /// # Panics
    /// When the process has ended.
    #[must_use]
    pub fn memory(&self) -> u64 {
        memory_of(self.child.id())
    }

    /// What of it is the process's own, without files such as the program: of those each process that runs it has a
    /// share, which grows as others end.
    ///
    /// # Panics
    /// When the process has ended.
    #[must_use]
    pub fn own_memory(&self) -> u64 {
        rollup(self.child.id(), "Pss_Anon:")
    }

    fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.end();
    }
}

/// The PSS of a process in bytes (`/proc/<pid>/smaps_rollup`).
///
/// # Panics
/// When there is no such process.
#[must_use]
pub fn memory_of(id: u32) -> u64 {
    rollup(id, "Pss:")
}

/// A line of `/proc/<pid>/smaps_rollup`, in bytes.
fn rollup(id: u32, name: &str) -> u64 {
    let rollup = fs::read_to_string(format!("/proc/{id}/smaps_rollup"))
        .unwrap_or_else(|error| panic!("read the memory of process {id}: {error}"));
    rollup
        .lines()
        .find_map(|line| line.strip_prefix(name))
        .and_then(|rest| rest.trim().strip_suffix("kB"))
        .and_then(|kilobytes| kilobytes.trim().parse::<u64>().ok())
        .map(|kilobytes| kilobytes * 1024)
        .unwrap_or_else(|| panic!("smaps_rollup has a line `{name}`"))
}
