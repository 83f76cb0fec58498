//! The real parts around Drover: a Docker Engine for each device, a registry, search servers, brokers and receivers.
//! Each listens on loopback, has all that is its own in a directory of the test, and ends when dropped. What takes more
//! than a command line to start is started by a script in `tests/parts/`.

use std::{
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::Command,
};

use crate::{fleet::PATIENCE, process::Daemon, wait};

pub mod certificates;
pub mod lumberjack;
pub mod mosquitto;
pub mod nginx;
pub mod promtool;
pub mod proxy;
pub mod search;

/// A TCP port of loopback that was free a moment ago.
///
/// # Panics
/// When loopback has no free port.
#[must_use]
pub fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("loopback has a free port");
    listener.local_addr().expect("a bound socket has an address").port()
}

/// Runs a script of `tests/parts/` and gives what it printed.
///
/// # Panics
/// When it fails: with what it wrote to standard error.
pub fn script(name: &str, arguments: &[&str]) -> String {
    script_with(name, arguments, &[])
}

/// The same, with variables in its environment.
///
/// # Panics
/// When it fails: with what it wrote to standard error.
pub fn script_with(name: &str, arguments: &[&str], environment: &[(&str, &str)]) -> String {
    let path = script_path(name);
    let output = Command::new(&path)
        .args(arguments)
        .envs(environment.iter().copied())
        .output()
        .unwrap_or_else(|error| panic!("run {}: {error}", path.display()));
    assert!(
        output.status.success(),
        "tests/parts/{name} {arguments:?} ended with {}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn script_path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("parts").join(name)
}

/// Waits until something listens on a port of loopback; a process that ends before has failed.
fn wait_listening(what: &str, port: u16, process: &mut Daemon) {
    wait::until(&format!("{what} listens on port {port}"), PATIENCE, || {
        assert!(process.runs(), "{what} ended:\n{}", process.log());
        TcpStream::connect(("127.0.0.1", port)).is_ok()
    });
}

fn text(path: &Path) -> &str {
    path.to_str().expect("the harness's paths are text")
}

/// A Docker Engine of its own.
#[derive(Debug)]
pub struct DockerEngine {
    dir: PathBuf,
}

impl DockerEngine {
    /// Starts it with all that it has in `dir`. `name` keeps it apart from other engines on this machine.
    #[must_use]
    pub fn start(dir: PathBuf, name: &str) -> Self {
        std::fs::create_dir_all(&dir).expect("the test's directory is writable");
        script("docker-engine", &["start", text(&dir), name]);
        Self { dir }
    }

    /// Its socket, as `docker:` in minion.yml takes it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("unix://{}/docker.sock", self.dir.display())
    }

    /// Asks it with Docker's own client.
    ///
    /// # Panics
    /// When the client fails.
    #[must_use]
    pub fn docker(&self, arguments: &[&str]) -> String {
        let output = Command::new("docker")
            .env("PATH", debian_first())
            .arg("-H")
            .arg(self.url())
            .args(arguments)
            .output()
            .expect("Docker's client is installed");
        assert!(
            output.status.success(),
            "docker {arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }
}

/// Debian's own client before a newer one, which may not speak to Debian's engine.
fn debian_first() -> String {
    format!("/usr/sbin:/usr/bin:/bin:{}", std::env::var("PATH").unwrap_or_default())
}

impl Drop for DockerEngine {
    fn drop(&mut self) {
        script("docker-engine", &["stop", text(&self.dir)]);
    }
}

/// A registry without authentication.
#[derive(Debug)]
pub struct Registry {
    dir: PathBuf,
    port: u16,
}

impl Registry {
    /// Starts it on a free port with its data in `dir`.
    #[must_use]
    pub fn start(dir: PathBuf) -> Self {
        std::fs::create_dir_all(&dir).expect("the test's directory is writable");
        let port = free_port();
        script("registry", &["start", text(&dir), &port.to_string()]);
        Self { dir, port }
    }

    /// `127.0.0.1:PORT`, as it stands before an image's name.
    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        script("registry", &["stop", text(&self.dir)]);
    }
}
