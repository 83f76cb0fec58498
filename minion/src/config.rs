//! `minion.yml`: what an operator may set, each with its default. Unknown keys are refused with the nearest known one,
//! and every complaint says file, line and column.

use std::{
    fs, io,
    net::IpAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use drover_states::{
    diagnostic::Diagnostic,
    settings::Settings,
    yaml::{self, Data, Node},
};
use serde_json::{Map, Value};
use thiserror::Error;

/// The directory that is read where no other is named.
pub const DEFAULT_DIRECTORY: &str = "/etc/drover";
/// The port of a master that is named without one.
pub const DEFAULT_PORT: u16 = 4510;

/// One minion's configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// Masters as `host:port`, tried in turn. None only where everything is done masterless.
    pub master: Vec<String>,
    /// `idevid.crt`, `idevid.key`, `ldevid.crt`, `ldevid.key` and `root.crt`.
    pub pki_dir: PathBuf,
    /// The journal, the file cache, the grains and the clock's floor.
    pub data_dir: PathBuf,
    /// Sockets.
    pub run_dir: PathBuf,
    /// Configured grains.
    pub grains: Map<String, Value>,
    /// The container engine's address.
    pub docker: String,
    /// How often the minion says that it lives.
    pub heartbeat: Duration,
    /// Beacons, in Salt's form.
    pub beacons: Value,
    /// How much is logged, as `tracing` reads it.
    pub log_level: String,
    /// How long a function may run where the job does not say.
    pub job_timeout: Duration,
    /// How long a state run may take at least: pulls over slow links take their time.
    pub state_timeout: Duration,
    /// How many jobs run at a time, state runs aside.
    pub job_slots: usize,
    /// How much of a job's output is kept, in bytes.
    pub output_limit: usize,
    /// How much the outbox holds, in bytes.
    pub outbox_limit: usize,
    /// How much the file cache holds, in bytes.
    pub cache_limit: u64,
    /// Events a second that one local program may send.
    pub app_event_rate: u32,
    /// Where `call --local` finds states.
    pub file_roots: Vec<(String, Vec<PathBuf>)>,
    /// Where `call --local` finds pillar.
    pub pillar_roots: Vec<(String, Vec<PathBuf>)>,
}

/// Why a configuration cannot be used.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file is not there, or cannot be read.
    #[error("cannot read `{path}`")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It says something that it should not.
    #[error("{}", .0)]
    Wrong(Box<Diagnostic>),
}

impl Config {
    /// Reads `minion.yml` in `directory`. Relative paths in it start there.
    ///
    /// # Errors
    /// When there is none, or something in it is wrong.
    pub fn load(directory: &Path) -> Result<Self, ConfigError> {
        let path = directory.join("minion.yml");
        let text = fs::read_to_string(&path)
            .map_err(|source| ConfigError::Read { path: path.clone(), source })?;
        Self::parse(&text, directory).map_err(|wrong| {
            ConfigError::Wrong(Box::new(wrong.in_file(path.display().to_string())))
        })
    }

    /// Reads the text of a `minion.yml` that stands in `directory`.
    ///
    /// # Errors
    /// When something in it is wrong.
    pub fn parse(text: &str, directory: &Path) -> Result<Self, Diagnostic> {
        let root = yaml::load_nodes(text)?;
        let mut settings = Settings::new(text, root.as_ref())?;
        let installed = directory == Path::new(DEFAULT_DIRECTORY);
        let moved = |system: &str, own: &str| {
            if installed { PathBuf::from(system) } else { directory.join(own) }
        };
        let config = Self {
            master: settings.take("master", masters)?.unwrap_or_default(),
            pki_dir: settings.path("pki_dir", directory)?.unwrap_or_else(|| directory.join("pki")),
            data_dir: settings
                .path("data_dir", directory)?
                .unwrap_or_else(|| moved("/var/lib/drover/minion", "data")),
            run_dir: settings
                .path("run_dir", directory)?
                .unwrap_or_else(|| moved("/run/drover/minion", "run")),
            grains: settings.take("grains", map)?.unwrap_or_default(),
            docker: settings
                .text("docker")?
                .unwrap_or_else(|| "unix:///var/run/docker.sock".to_owned()),
            heartbeat: settings.duration("heartbeat")?.unwrap_or(Duration::from_secs(30)),
            beacons: settings.take("beacons", |node| Ok(node.to_value()))?.unwrap_or_default(),
            log_level: settings.text("log_level")?.unwrap_or_else(|| "info".to_owned()),
            job_timeout: settings.duration("job_timeout")?.unwrap_or(Duration::from_secs(300)),
            state_timeout: settings.duration("state_timeout")?.unwrap_or(Duration::from_secs(3600)),
            job_slots: settings.count("job_slots")?.unwrap_or(16),
            output_limit: memory(settings.size("output_limit")?, 1 << 20),
            outbox_limit: memory(settings.size("outbox_limit")?, 4 << 20),
            cache_limit: settings.size("cache_limit")?.unwrap_or(256 << 20),
            app_event_rate: settings.count("app_event_rate")?.unwrap_or(100),
            file_roots: settings
                .take("file_roots", |node| roots(node, directory))?
                .unwrap_or_default(),
            pillar_roots: settings
                .take("pillar_roots", |node| roots(node, directory))?
                .unwrap_or_default(),
        };
        settings.finish()?;
        Ok(config)
    }
}

/// A size in memory.
fn memory(size: Option<u64>, default: usize) -> usize {
    size.map_or(default, |size| usize::try_from(size).unwrap_or(usize::MAX))
}

/// One master, or a list of them.
fn masters(node: &Node) -> Result<Vec<String>, &'static str> {
    const WANTED: &str = "the address of a master as `host:port`, or a list of them";
    let one = |node: &Node| node.as_str().and_then(master_address).ok_or(WANTED);
    match &node.data {
        Data::Sequence(items) if !items.is_empty() => items.iter().map(one).collect(),
        Data::Scalar(_) => Ok(vec![one(node)?]),
        Data::Sequence(_) | Data::Mapping(_) => Err(WANTED),
    }
}

/// `host`, `host:port`, `[v6]:port` or a bare IPv6 address, as `host:port`.
fn master_address(text: &str) -> Option<String> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(match address {
            IpAddr::V4(v4) => format!("{v4}:{DEFAULT_PORT}"),
            IpAddr::V6(v6) => format!("[{v6}]:{DEFAULT_PORT}"),
        });
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !host.ends_with(':') && !port.ends_with(']') => {
            (host, port.parse().ok().filter(|port| *port != 0)?)
        }
        Some(_) | None => (text, DEFAULT_PORT),
    };
    let is_host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(v6) => v6.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            !host.is_empty()
                && host
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
        }
    };
    is_host.then(|| format!("{host}:{port}"))
}

fn map(node: &Node) -> Result<Map<String, Value>, &'static str> {
    match node.to_value() {
        Value::Object(map) => Ok(map),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            Err("a map")
        }
    }
}

/// `{base: [states]}`: environments, each with its directories.
fn roots(node: &Node, directory: &Path) -> Result<Vec<(String, Vec<PathBuf>)>, &'static str> {
    const WANTED: &str = "a map of environments, each with a list of directories";
    let Data::Mapping(environments) = &node.data else { return Err(WANTED) };
    let path = |node: &Node| node.as_str().map(|path| directory.join(path)).ok_or(WANTED);
    environments
        .iter()
        .map(|environment| {
            let paths = match &environment.node.data {
                Data::Sequence(items) => items.iter().map(path).collect::<Result<_, _>>()?,
                Data::Scalar(_) => vec![path(&environment.node)?],
                Data::Mapping(_) => return Err(WANTED),
            };
            Ok((environment.key.clone(), paths))
        })
        .collect()
}

#[cfg(test)]
mod tests;
