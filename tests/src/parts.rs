//! The real parts around Drover: a Docker Engine for each device, a registry, Elasticsearch. Each is started by a
//! script in `tests/parts/`, on loopback, in a directory of the test, and ended when dropped.

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::Command,
};

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
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("parts").join(name);
    let output = Command::new(&path)
        .args(arguments)
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

/// An Elasticsearch node.
#[derive(Debug)]
pub struct Elasticsearch {
    dir: PathBuf,
    port: u16,
}

impl Elasticsearch {
    /// Starts it on a free port with its data in `dir`.
    #[must_use]
    pub fn start(dir: PathBuf, settings: &[&str]) -> Self {
        let node = Self { dir, port: free_port() };
        node.start_again(settings);
        node
    }

    /// Starts it after [`Elasticsearch::kill`], on the same port and data.
    pub fn start_again(&self, settings: &[&str]) {
        let port = self.port.to_string();
        let mut arguments = vec!["start", port.as_str(), text(&self.dir)];
        arguments.extend(settings);
        script("elasticsearch", &arguments);
    }

    /// SIGKILL.
    pub fn kill(&self) {
        script("elasticsearch", &["stop", "--kill", text(&self.dir)]);
    }

    /// `http://127.0.0.1:PORT`, as `hosts` of a bridge takes it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Sends a request and gives the answer's JSON.
    ///
    /// # Panics
    /// When there is no answer, or one that is not JSON.
    #[must_use]
    pub fn request(&self, method: &str, path: &str, body: &str) -> serde_json::Value {
        let url = format!("{}{path}", self.url());
        let output = Command::new("curl")
            .args(["--silent", "--max-time", "30", "-X", method, "-H"])
            .args(["content-type: application/json", "--data-binary", body, &url])
            .output()
            .expect("curl is installed");
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
            panic!("{method} {url}: {error}: {}", String::from_utf8_lossy(&output.stdout))
        })
    }
}

impl Drop for Elasticsearch {
    fn drop(&mut self) {
        script("elasticsearch", &["stop", text(&self.dir)]);
    }
}
