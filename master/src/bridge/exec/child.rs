//! A program that is given events: its process, its three pipes, and its end. It is its own process group, and nothing of
//! the group outlives the bridge.

use std::{
    io,
    path::PathBuf,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process_group};
use thiserror::Error;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    process::{Child as Process, ChildStdin, ChildStdout, Command},
    time::timeout,
};

use super::{
    acks::{Acks, ViolationError},
    diagnostics,
};

/// What of the master's environment a program gets: nothing that could be a secret.
const INHERITED: [&str; 9] =
    ["PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR"];
/// A program that has closed its pipes is about to end.
const LAST_MOMENT: Duration = Duration::from_secs(1);

/// A program and what it is started with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Recipe {
    /// The bridge's name.
    pub(super) bridge: String,
    pub(super) program: PathBuf,
    pub(super) arguments: Vec<String>,
    pub(super) environment: Vec<(String, String)>,
    pub(super) directory: PathBuf,
    /// How long it may acknowledge nothing.
    pub(super) patience: Duration,
}

/// What is wrong with a program. It is killed, and started anew for the events that it did not acknowledge.
#[derive(Debug, Error)]
pub enum ExecError {
    /// It cannot be started.
    #[error("cannot start `{}`: it must be an executable file that the master's user may run", program.display())]
    Start {
        /// The program.
        program: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It ended, or it closed its standard output.
    #[error("the program {} with {outstanding} events not acknowledged", ending(*status))]
    Ended {
        /// How, if it did.
        status: Option<ExitStatus>,
        /// What was left.
        outstanding: usize,
    },
    /// It reads no more.
    #[error("the program closed its standard input with {outstanding} events not acknowledged")]
    Deaf {
        /// What was left.
        outstanding: usize,
    },
    /// It lives and says nothing.
    #[error("the program acknowledged none of {outstanding} events within {} s (`ack_timeout`)", patience.as_secs_f64())]
    Silent {
        /// What was left.
        outstanding: usize,
        /// How long it was given.
        patience: Duration,
    },
    /// It lives, and has been given more time than this.
    #[error("the program has yet to acknowledge {outstanding} events")]
    Busy {
        /// What is left.
        outstanding: usize,
    },
    /// It says what it may not.
    #[error(transparent)]
    Violation(#[from] ViolationError),
    /// Its pipes.
    #[error("cannot talk to the program")]
    Pipe(#[source] io::Error),
}

fn ending(status: Option<ExitStatus>) -> String {
    status.map_or_else(|| "closed its standard output".into(), |status| format!("ended ({status})"))
}

/// A program that runs.
#[derive(Debug)]
pub(super) struct Child {
    process: Process,
    group: Option<Pid>,
    /// None once the program closed it.
    stdin: Option<ChildStdin>,
    stdout: ChildStdout,
    /// The lines of the present batch, and how much of them has gone.
    lines: Vec<u8>,
    written: usize,
    pub(super) acks: Acks,
    patience: Duration,
}

impl Child {
    /// Starts a program.
    pub(super) fn start(recipe: &Recipe) -> Result<Self, ExecError> {
        let failed = |source| ExecError::Start { program: recipe.program.clone(), source };
        let inherited =
            INHERITED.into_iter().filter_map(|name| Some((name, std::env::var_os(name)?)));
        let mut process = Command::new(&recipe.program)
            .args(&recipe.arguments)
            .env_clear()
            .envs(inherited)
            .env("DROVER_BRIDGE", &recipe.bridge)
            .envs(recipe.environment.iter().map(|(name, value)| (name, value)))
            .current_dir(&recipe.directory)
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        let stdin = process.stdin.take();
        let stdout = process.stdout.take().expect("its standard output is a pipe");
        let stderr = process.stderr.take().expect("its standard error is a pipe");
        tokio::spawn(diagnostics::log(recipe.bridge.clone(), stderr));
        let id = process.id().and_then(|id| i32::try_from(id).ok());
        Ok(Self {
            group: id.and_then(Pid::from_raw),
            process,
            stdin,
            stdout,
            lines: Vec::new(),
            written: 0,
            acks: Acks::default(),
            patience: recipe.patience,
        })
    }

    /// Itself, if it runs and reads, and if what it has yet to acknowledge is still wanted.
    pub(super) fn goes_on_with(mut self, seqs: &[u64]) -> Option<Self> {
        let is_running = self.stdin.is_some() && matches!(self.process.try_wait(), Ok(None));
        (is_running && self.acks.awaits_only(seqs)).then_some(self)
    }

    /// Takes up a batch, of lines with their events' numbers. The one before must be answered.
    pub(super) fn begin(&mut self, batch: impl IntoIterator<Item = (u64, Vec<u8>)>) {
        debug_assert!(self.written == self.lines.len(), "an answered batch was written");
        self.lines.clear();
        self.written = 0;
        let lines = &mut self.lines;
        let places: Vec<_> = batch
            .into_iter()
            .map(|(seq, line)| {
                lines.extend_from_slice(&line);
                lines.push(b'\n');
                (seq, lines.len())
            })
            .collect();
        self.acks.begin(places);
    }

    /// Writes and reads until the batch is answered. May be dropped at any point and called again.
    pub(super) async fn answer(&mut self) -> Result<(), ExecError> {
        while !self.acks.is_complete() {
            let outstanding = self.acks.outstanding();
            let patience = self.patience;
            let progress = timeout(patience, self.progress()).await;
            progress.map_err(|_| ExecError::Silent { outstanding, patience })??;
        }
        Ok(())
    }

    /// Until something is acknowledged.
    async fn progress(&mut self) -> Result<(), ExecError> {
        let mut bytes = [0; 8192];
        loop {
            let rest = &self.lines[self.written..];
            let writing = async {
                match &mut self.stdin {
                    Some(stdin) if !rest.is_empty() => stdin.write(rest).await,
                    Some(_) | None => std::future::pending().await,
                }
            };
            tokio::select! {
                written = writing => match written {
                    Ok(count) => {
                        self.written += count;
                        self.acks.handle_written(count);
                    }
                    // What it acknowledged before it closed is read first.
                    Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                        self.stdin = None;
                        return self.last_words().await;
                    }
                    Err(error) => return Err(ExecError::Pipe(error)),
                },
                read = self.stdout.read(&mut bytes) => match read.map_err(ExecError::Pipe)? {
                    0 => return Err(self.ended().await),
                    count => if self.acks.handle_bytes(&bytes[..count])? {
                        return Ok(());
                    },
                },
            }
        }
    }

    /// What it printed before it stopped reading.
    async fn last_words(&mut self) -> Result<(), ExecError> {
        let mut bytes = [0; 8192];
        let read = async {
            loop {
                match self.stdout.read(&mut bytes).await.map_err(ExecError::Pipe)? {
                    0 => return Ok(true),
                    count => drop(self.acks.handle_bytes(&bytes[..count])?),
                }
            }
        };
        match timeout(LAST_MOMENT, read).await {
            Ok(Ok(_)) => Err(self.ended().await),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(ExecError::Deaf { outstanding: self.acks.outstanding() }),
        }
    }

    async fn ended(&mut self) -> ExecError {
        let status = timeout(LAST_MOMENT, self.process.wait()).await;
        let status = status.ok().and_then(Result::ok);
        ExecError::Ended { status, outstanding: self.acks.outstanding() }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if let Some(group) = self.group {
            // It may be gone already, which is as well.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}
