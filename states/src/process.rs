//! One shell command of a job, a state or a condition, in a process group of its own, with bounded output and bounded
//! time. Whoever drops it while it runs ends the whole group: nothing is left behind that it did not detach itself.

use std::{
    ffi::OsString,
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process_group};
use thiserror::Error;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    net::unix::pipe,
    process::{Child, Command},
    time::timeout,
};

use crate::accounts::Account;

/// A command's time where nobody says otherwise.
pub const TIME: Duration = Duration::from_secs(300);
/// What is kept of its output where nobody says otherwise, in bytes.
const OUTPUT_LIMIT: usize = 1 << 20;
/// How long a group that was asked to end has before it is killed.
const GRACE: Duration = Duration::from_secs(2);
/// How long after the command's end its output is still read, where something that it detached holds the pipe.
const DRAIN: Duration = Duration::from_secs(1);

/// A command and its surroundings.
#[derive(Debug, Clone)]
pub struct ShellCommand {
    /// The line that the shell reads.
    pub command: String,
    /// The shell's program.
    pub shell: PathBuf,
    /// Where none is named: the account's home, or `/`, as service users have homes that are not there.
    pub cwd: Option<PathBuf>,
    /// Beside the environment of this process.
    pub env: Vec<(OsString, OsString)>,
    /// What it reads; without, nothing.
    pub stdin: Option<String>,
    /// Who runs it; without, who runs this process.
    pub account: Option<Account>,
    /// How long it may take.
    pub time: Duration,
    /// How much of its output is kept, in bytes; two streams have half of it each.
    pub output_limit: usize,
}

/// What a command left.
#[derive(Debug)]
pub struct Finished {
    /// The shell's.
    pub pid: u32,
    /// Its exit status; as a shell has it, 128 and the signal's number where one ended it.
    pub retcode: i32,
    /// Its output, without the line ends at the end.
    pub stdout: String,
    /// Its error output; empty where it went into `stdout`.
    pub stderr: String,
    /// Whether its time ran out, and the group was ended.
    pub timed_out: bool,
}

/// Where the command's error output goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stderr {
    /// Into one stream with the output, in the order written.
    Merged,
    /// Beside it.
    Apart,
}

/// A command that could not be started or followed.
#[derive(Debug, Error)]
pub enum CommandError {
    /// There is no such shell or directory, or this process may not use it.
    #[error("cannot run `{shell}` in `{cwd}`")]
    Spawn {
        /// The shell's program.
        shell: PathBuf,
        /// The directory.
        cwd: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Its pipes failed.
    #[error("cannot follow the command")]
    Follow(#[source] io::Error),
}

impl ShellCommand {
    /// A line for `/bin/sh`, with 300 s and 1 MiB of output.
    #[must_use]
    pub fn new(command: impl Into<String>) -> Self {
        Self {
            command: command.into(),
            shell: "/bin/sh".into(),
            cwd: None,
            env: Vec::new(),
            stdin: None,
            account: None,
            time: TIME,
            output_limit: OUTPUT_LIMIT,
        }
    }

    /// Runs it to its end, or to the end of its time.
    ///
    /// # Errors
    /// When it cannot be started or followed; how it ended is in [`Finished`].
    pub async fn run(self, stderr: Stderr) -> Result<Finished, CommandError> {
        let (out, out_writer) = pipe_pair()?;
        let (err, err_writer) = match stderr {
            Stderr::Merged => (None, out_writer.try_clone().map_err(CommandError::Follow)?),
            Stderr::Apart => {
                let (reader, writer) = pipe_pair()?;
                (Some(reader), writer)
            }
        };
        let mut child = self.spawn(out_writer, err_writer)?;
        let pid = child.id().unwrap_or_default();
        let group = Group::of(pid);
        // One return carries both.
        let limit = match stderr {
            Stderr::Merged => self.output_limit,
            Stderr::Apart => self.output_limit / 2,
        };
        let (mut stdout, mut stderr) = (Captured::new(limit), Captured::new(limit));
        let ended = {
            let follow = follow(&mut child, self.stdin, out, err, &mut stdout, &mut stderr);
            timeout(self.time, follow).await
        };
        let (status, timed_out) = match ended {
            Ok(status) => (status.map_err(CommandError::Follow)?, false),
            Err(_) => (group.end(&mut child).await.map_err(CommandError::Follow)?, true),
        };
        group.release();
        Ok(Finished {
            pid,
            retcode: retcode(status),
            stdout: stdout.into_text(),
            stderr: stderr.into_text(),
            timed_out,
        })
    }

    fn spawn(&self, stdout: OwnedFd, stderr: OwnedFd) -> Result<Child, CommandError> {
        let cwd = self.directory();
        let mut command = Command::new(&self.shell);
        command
            .arg("-c")
            .arg(&self.command)
            .current_dir(cwd)
            .stdin(if self.stdin.is_some() { Stdio::piped() } else { Stdio::null() })
            .stdout(Stdio::from(stdout))
            .stderr(Stdio::from(stderr))
            .process_group(0)
            .kill_on_drop(true);
        if let Some(account) = &self.account {
            command
                .uid(account.uid)
                .gid(account.gid)
                .env("HOME", &account.home)
                .env("USER", &account.name)
                .env("LOGNAME", &account.name);
        }
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command.spawn().map_err(|source| CommandError::Spawn {
            shell: self.shell.clone(),
            cwd: cwd.to_owned(),
            source,
        })
    }

    fn directory(&self) -> &Path {
        let home = || self.account.as_ref().map(|account| account.home.as_path());
        let named = self.cwd.as_deref().or_else(|| home().filter(|home| home.is_dir()));
        named.unwrap_or(Path::new("/"))
    }
}

/// Feeds and reads the command until it has ended and its pipes are empty.
async fn follow(
    child: &mut Child,
    stdin: Option<String>,
    out: pipe::Receiver,
    err: Option<pipe::Receiver>,
    stdout: &mut Captured,
    stderr: &mut Captured,
) -> io::Result<ExitStatus> {
    let pipe = child.stdin.take();
    let feed = async {
        if let (Some(mut pipe), Some(text)) = (pipe, stdin) {
            // A command that does not read its input is none of our business.
            let _ = pipe.write_all(text.as_bytes()).await;
        }
    };
    let read = async {
        let apart = async {
            if let Some(err) = err {
                stderr.read(err).await;
            }
        };
        tokio::join!(feed, stdout.read(out), apart);
    };
    tokio::pin!(read);
    let status = tokio::select! {
        status = child.wait() => status?,
        () = &mut read => return child.wait().await,
    };
    // What it detached may hold the pipes for ever.
    let _ = timeout(DRAIN, read).await;
    Ok(status)
}

fn pipe_pair() -> Result<(pipe::Receiver, OwnedFd), CommandError> {
    let (reader, writer) = io::pipe().map_err(CommandError::Follow)?;
    let reader = pipe::Receiver::from_owned_fd(reader.into()).map_err(CommandError::Follow)?;
    Ok((reader, writer.into()))
}

/// The first bytes of an output, and how many more there were.
#[derive(Debug)]
struct Captured {
    bytes: Vec<u8>,
    limit: usize,
    beyond: u64,
}

impl Captured {
    const fn new(limit: usize) -> Self {
        Self { bytes: Vec::new(), limit, beyond: 0 }
    }

    async fn read(&mut self, mut from: impl AsyncRead + Unpin) {
        let mut buffer = vec![0; 16 << 10];
        while let Ok(read @ 1..) = from.read(&mut buffer).await {
            let kept = read.min(self.limit - self.bytes.len());
            self.bytes.extend_from_slice(&buffer[..kept]);
            self.beyond += (read - kept) as u64;
        }
    }

    fn into_text(mut self) -> String {
        let mut text = String::from_utf8_lossy(&self.bytes).into_owned();
        // Bytes that are no UTF-8 grow to three each.
        if text.len() > self.limit {
            let end = text.floor_char_boundary(self.limit);
            self.beyond += (text.len() - end) as u64;
            text.truncate(end);
        }
        if self.beyond > 0 {
            text.push_str(&format!(
                "\n[output cut at {} bytes, {} more were dropped]",
                self.limit, self.beyond
            ));
        }
        text.truncate(text.trim_end_matches(['\r', '\n']).len());
        text
    }
}

/// The process group of a command; killed when dropped before it is released.
struct Group(Option<Pid>);

impl Group {
    fn of(pid: u32) -> Self {
        Self(i32::try_from(pid).ok().and_then(Pid::from_raw))
    }

    /// Asks the group to end, and makes it.
    async fn end(&self, child: &mut Child) -> io::Result<ExitStatus> {
        self.signal(Signal::TERM);
        let ended = timeout(GRACE, child.wait()).await;
        // Whatever of the group is still there, also when its leader has gone.
        self.signal(Signal::KILL);
        match ended {
            Ok(status) => status,
            Err(_) => child.wait().await,
        }
    }

    fn signal(&self, signal: Signal) {
        if let Some(group) = self.0 {
            // It fails only when the group has ended already.
            let _ = kill_process_group(group, signal);
        }
    }

    /// The command has ended by itself: what it detached may live.
    fn release(mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

fn retcode(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt as _;
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(text: &str) -> ShellCommand {
        ShellCommand { time: Duration::from_secs(20), ..ShellCommand::new(text) }
    }

    fn run(command: ShellCommand, stderr: Stderr) -> Finished {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(command.run(stderr)).unwrap()
    }

    #[test]
    fn both_outputs_keep_their_order_in_one_stream() {
        let finished = run(command("echo a; echo b >&2; echo c; exit 3"), Stderr::Merged);
        assert_eq!((finished.stdout.as_str(), finished.retcode), ("a\nb\nc", 3));
        let apart = run(command("echo a; echo b >&2"), Stderr::Apart);
        assert_eq!((apart.stdout.as_str(), apart.stderr.as_str()), ("a", "b"));
    }

    #[test]
    fn output_over_the_limit_is_cut_and_marked() {
        let mut long = command("head -c 100000 /dev/zero | tr '\\0' x");
        long.output_limit = 10;
        let finished = run(long, Stderr::Merged);
        assert_eq!(
            finished.stdout,
            "xxxxxxxxxx\n[output cut at 10 bytes, 99990 more were dropped]"
        );
        assert_eq!(finished.retcode, 0);
    }

    #[test]
    fn bytes_that_are_no_text_stay_within_the_limit() {
        let mut binary = command("head -c 900 /dev/zero | tr '\\0' '\\377'");
        binary.output_limit = 1000;
        let text = run(binary, Stderr::Merged).stdout;
        assert!(text.starts_with('\u{fffd}') && text.len() < 1100, "{} bytes", text.len());
    }

    #[test]
    fn a_command_that_takes_too_long_is_ended_with_its_children() {
        let mut slow = command("sleep 1000 & echo $!; wait");
        slow.time = Duration::from_millis(300);
        let finished = run(slow, Stderr::Merged);
        assert!(finished.timed_out);
        let child = finished.stdout.trim().to_owned();
        assert!(gone(&child), "{child}");
    }

    #[test]
    fn a_command_that_is_dropped_takes_its_group_with_it() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut slow = command(&format!("sleep 1000 & echo $! > {}; wait", file.path().display()));
        slow.time = Duration::from_secs(1000);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let child = runtime.block_on(async {
            let written = async {
                loop {
                    let text = std::fs::read_to_string(file.path()).unwrap();
                    if text.ends_with('\n') {
                        return text.trim().to_owned();
                    }
                    tokio::task::yield_now().await;
                }
            };
            tokio::select! {
                _ = slow.run(Stderr::Merged) => panic!("it ended"),
                child = written => child,
            }
        });
        assert!(gone(&child), "{child}");
    }

    #[test]
    fn something_detached_does_not_hold_up_the_return() {
        let finished = run(command("setsid sleep 5 & echo started"), Stderr::Merged);
        assert_eq!(finished.stdout, "started");
        assert!(!finished.timed_out);
    }

    #[test]
    fn input_reaches_the_command() {
        let mut cat = command("cat");
        cat.stdin = Some("hello".into());
        assert_eq!(run(cat, Stderr::Merged).stdout, "hello");
    }

    /// A killed process may stay as a zombie until its parent has looked.
    fn gone(pid: &str) -> bool {
        (0..1_000_000).any(|_| {
            std::fs::read_to_string(format!("/proc/{pid}/stat"))
                .map_or(true, |stat| stat.contains(") Z "))
        })
    }
}
