//! One device: its directory, and the agent as a process that can be killed.

use std::{
    fs,
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use serde_json::Value;
use tempfile::TempDir;

use crate::master::{BOUND, Fleet};

pub(crate) struct Device {
    directory: TempDir,
    agent: std::cell::RefCell<Option<Child>>,
}

impl Device {
    /// A device of that fleet, and its agent with a master on that port.
    pub(crate) fn start(fleet: &Fleet, id: &str, port: u16, more: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let pki = directory.path().join("pki");
        fs::create_dir(&pki).unwrap();
        fleet.enrol(id, &pki);
        let yml = format!(
            "master: 127.0.0.1:{port}\ngrains: {{site: bne}}\nheartbeat: 1s\nlog_level: debug\n{more}"
        );
        fs::write(directory.path().join("minion.yml"), yml).unwrap();
        let mut device = Self { directory, agent: None.into() };
        device.restart();
        device
    }

    /// Another port of the master, from the next start on.
    pub(crate) fn set_master(&self, port: u16) {
        let path = self.path("minion.yml");
        let text = fs::read_to_string(&path).unwrap();
        let (_, rest) = text.split_once('\n').unwrap();
        fs::write(path, format!("master: 127.0.0.1:{port}\n{rest}")).unwrap();
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn restart(&mut self) {
        let log = fs::File::options().create(true).append(true).open(self.path("log")).unwrap();
        let agent = self.command().stderr(Stdio::from(log)).spawn().unwrap();
        *self.agent.get_mut() = Some(agent);
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        let mut agent = self.agent.get_mut().take().unwrap();
        agent.kill().unwrap();
        assert_eq!(agent.wait().unwrap().signal(), Some(9));
    }

    /// The agent's process.
    pub(crate) fn pid(&self) -> String {
        self.agent.borrow().as_ref().unwrap().id().to_string()
    }

    /// SIGTERM, and a clean end.
    pub(crate) fn stop(&self) {
        let mut agent = self.signal();
        assert_eq!(agent.wait().unwrap().code(), Some(0));
    }

    /// SIGTERM; gives how the agent ended.
    pub(crate) fn terminate(&self) -> impl Future<Output = ExitStatus> + use<> {
        let mut agent = self.signal();
        async move {
            loop {
                match agent.try_wait().unwrap() {
                    Some(status) => return status,
                    None => tokio::task::yield_now().await,
                }
            }
        }
    }

    /// Runs one function by hand, and gives what it returned.
    pub(crate) fn call(&self, arguments: &[&str]) -> Value {
        let output = self.command().arg("call").args(arguments).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{told}{}", String::from_utf8_lossy(&output.stdout));
        let mut returned: Value = serde_json::from_slice(&output.stdout).unwrap();
        returned["local"].take()
    }

    fn signal(&self) -> Child {
        let agent = self.agent.borrow_mut().take().unwrap();
        let pid = rustix::process::Pid::from_child(&agent);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        agent
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_drover-minion"));
        command.arg("-c").arg(self.directory.path());
        command
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        if let Some(mut agent) = self.agent.get_mut().take() {
            let _ = agent.kill();
            let _ = agent.wait();
        }
        if std::thread::panicking() {
            let log = fs::read_to_string(self.path("log")).unwrap_or_default();
            eprintln!("the agent's log:\n{log}");
        }
    }
}

/// Waits for a condition, with a bound.
pub(crate) async fn until(condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(BOUND, wait).await.expect("it happens within the bound");
}

/// A killed process may stay as a zombie until its parent has looked.
pub(crate) fn is_gone(pid: &str) -> bool {
    let stat = Path::new("/proc").join(pid).join("stat");
    fs::read_to_string(stat).map_or(true, |stat| stat.contains(") Z "))
}
