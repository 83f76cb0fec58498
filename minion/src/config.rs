//! `minion.yml`: what an operator may set, each with its default. Unknown keys are refused with the nearest known one,
//! and every complaint says file, line and column.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use drover_proto::tunnel::DEFAULT_PORT;
use drover_states::{
    diagnostic::Diagnostic,
    settings::{self, Settings},
    yaml::{self, Data, Node},
};
use serde_json::{Map, Value};

pub use drover_states::settings::{ConfigError, DEFAULT_DIRECTORY, log_level};

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

impl Config {
    /// Reads `minion.yml` in `directory`. Relative paths in it start there.
    ///
    /// # Errors
    /// When there is none, or something in it is wrong.
    pub fn load(directory: &Path) -> Result<Self, ConfigError> {
        settings::load(directory, "minion.yml", Self::parse)
    }

    /// Reads the text of a `minion.yml` that stands in `directory`.
    ///
    /// # Errors
    /// When something in it is wrong.
    pub fn parse(text: &str, directory: &Path) -> Result<Self, Diagnostic> {
        let root = yaml::load_nodes(text)?;
        let mut settings = Settings::new(directory, text, root.as_ref())?;
        let config = Self {
            master: settings.take("master", masters)?.unwrap_or_default(),
            pki_dir: settings.place("pki_dir", "/etc/drover/pki", "pki")?,
            data_dir: settings.place("data_dir", "/var/lib/drover/minion", "data")?,
            run_dir: settings.place("run_dir", "/run/drover/minion", "run")?,
            grains: settings.take("grains", map)?.unwrap_or_default(),
            docker: settings
                .text("docker")?
                .unwrap_or_else(|| "unix:///var/run/docker.sock".to_owned()),
            heartbeat: settings.duration("heartbeat")?.unwrap_or(Duration::from_secs(30)),
            beacons: settings.take("beacons", |node| Ok(node.to_value()))?.unwrap_or_default(),
            log_level: settings.log_level("log_level")?.unwrap_or_else(|| "info".to_owned()),
            job_timeout: settings.duration("job_timeout")?.unwrap_or(Duration::from_secs(300)),
            state_timeout: settings.duration("state_timeout")?.unwrap_or(Duration::from_secs(3600)),
            job_slots: settings.count("job_slots")?.unwrap_or(16),
            output_limit: memory(settings.size("output_limit")?, 1 << 20),
            outbox_limit: memory(settings.size("outbox_limit")?, 4 << 20),
            cache_limit: settings.size("cache_limit")?.unwrap_or(256 << 20),
            app_event_rate: settings.count("app_event_rate")?.unwrap_or(100),
            file_roots: settings.roots("file_roots")?.unwrap_or_default(),
            pillar_roots: settings.roots("pillar_roots")?.unwrap_or_default(),
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

#[cfg(test)]
mod tests;
