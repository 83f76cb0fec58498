//! Runs a command of a state or a condition: in a process group of its own that ends as a whole, with
//! bounded output and time.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::accounts::User;

/// A command's captured output, each stream; what is beyond is read and dropped.
const MAX_OUTPUT: usize = 1 << 20;
/// A command that has ended may leave children behind that hold its pipes: so long they are read.
const LINGER: Duration = Duration::from_secs(1);

/// What to run.
#[derive(Debug, Clone)]
pub(crate) struct Invocation {
    pub(crate) shell: PathBuf,
    pub(crate) command: String,
    pub(crate) cwd: Option<PathBuf>,
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) user: Option<User>,
    pub(crate) timeout: Option<Duration>,
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Output {
    pub(crate) pid: u32,
    /// `None` when a signal ended it.
    pub(crate) retcode: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) timed_out: bool,
}

/// Why it could not be run.
#[derive(Debug, thiserror::Error)]
#[error("cannot run `{command}`")]
pub(crate) struct RunError {
    command: String,
    #[source]
    pub(crate) source: std::io::Error,
}

impl Invocation {
    /// A line for `/bin/sh`.
    pub(crate) fn shell(command: impl Into<String>) -> Self {
        Self {
            shell: PathBuf::from("/bin/sh"),
            command: command.into(),
            cwd: None,
            env: BTreeMap::new(),
            user: None,
            timeout: None,
        }
    }
}

/// Kills the group when the run is dropped: a cancelled job leaves nothing running.
struct Group(Option<Pid>);

impl Group {
    fn kill(&mut self) {
        if let Some(pid) = self.0.take() {
            // It may have ended by itself just now.
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Runs it to its end, or to its timeout.
pub(crate) async fn run(invocation: &Invocation) -> Result<Output, RunError> {
    let failed = |source| RunError { command: invocation.command.clone(), source };
    let mut command = tokio::process::Command::new(&invocation.shell);
    command.arg("-c").arg(&invocation.command).envs(&invocation.env);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.process_group(0);
    if let Some(cwd) = &invocation.cwd {
        command.current_dir(cwd);
    }
    if let Some(user) = &invocation.user {
        command.uid(user.uid).gid(user.gid).env("HOME", &user.home);
        command.env("USER", &user.name).env("LOGNAME", &user.name);
        if invocation.cwd.is_none() {
            // Service users have homes that are not there.
            let home = user.home.as_path();
            command.current_dir(if home.is_dir() { home } else { Path::new("/") });
        }
    }
    let mut child = command.spawn().map_err(failed)?;
    let pid = child.id().unwrap_or_default();
    let mut group = Group(i32::try_from(pid).ok().and_then(Pid::from_raw));
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let mut timed_out = false;
    let status = {
        let streams = (child.stdout.take(), child.stderr.take());
        let reading = async {
            tokio::join!(drain(streams.0, &mut stdout), drain(streams.1, &mut stderr));
        };
        tokio::pin!(reading);
        let limit = invocation.timeout.unwrap_or(Duration::MAX);
        let waiting = tokio::time::timeout(limit, async {
            tokio::select! {
                status = child.wait() => (status, false),
                () = &mut reading => (child.wait().await, true),
            }
        });
        let (status, is_read) = match waiting.await {
            Ok((status, is_read)) => (status.map_err(failed)?, is_read),
            Err(_) => {
                timed_out = true;
                group.kill();
                (child.wait().await.map_err(failed)?, false)
            }
        };
        if !is_read {
            let _ = tokio::time::timeout(LINGER, reading).await;
        }
        status
    };
    // What it started on purpose in the background lives on.
    group.0 = None;
    let text = |bytes: Vec<u8>| {
        let mut text = String::from_utf8_lossy(&bytes).trim_end_matches('\n').to_owned();
        if bytes.len() >= MAX_OUTPUT {
            text.push_str("\n[output cut at 1 MiB]");
        }
        text
    };
    Ok(Output {
        pid,
        retcode: status.code().filter(|_| !timed_out),
        stdout: text(stdout),
        stderr: text(stderr),
        timed_out,
    })
}

/// Reads to the end, keeping the beginning.
async fn drain(stream: Option<impl AsyncRead + Unpin>, kept: &mut Vec<u8>) {
    let Some(mut stream) = stream else { return };
    let mut buffer = vec![0; 16 << 10];
    while let Ok(read) = stream.read(&mut buffer).await {
        if read == 0 {
            return;
        }
        let room = MAX_OUTPUT - kept.len();
        kept.extend_from_slice(&buffer[..read.min(room)]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn timeout_kills_the_whole_group() {
        let directory = tempfile::tempdir().unwrap();
        let pid_file = directory.path().join("pid");
        let line = format!("sleep 300 & echo $! > {}; wait", pid_file.display());
        let mut invocation = Invocation::shell(line);
        invocation.timeout = Some(Duration::from_millis(300));
        let output = run(&invocation).await.unwrap();
        assert!(output.timed_out);
        assert_eq!(output.retcode, None);
        let child: i32 = std::fs::read_to_string(pid_file).unwrap().trim().parse().unwrap();
        let status = std::fs::read_to_string(format!("/proc/{child}/status")).unwrap_or_default();
        assert!(status.is_empty() || status.contains("Z (zombie)"), "{status}");
    }

    #[tokio::test]
    async fn output_is_cut_at_its_bound() {
        let output =
            run(&Invocation::shell("head -c 3000000 /dev/zero | tr '\\0' x")).await.unwrap();
        assert_eq!(output.retcode, Some(0));
        assert_eq!(output.stdout.len(), MAX_OUTPUT + "\n[output cut at 1 MiB]".len());
    }
}
