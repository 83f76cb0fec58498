//! `master.yml`: what an operator may set, each with its default. Unknown keys are refused with the nearest known one,
//! and every complaint says file, line and column.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use drover_pki::{
    MasterName,
    host::Host,
    profile::{LDEVID_VALIDITY, YEAR},
};
use drover_proto::{
    job::TargetType,
    target::Expression,
    tunnel::{DEFAULT_PORT, GatewayLimits},
};
use drover_states::{
    diagnostic::Diagnostic,
    settings::{self, Settings},
    yaml::{self, Data, Node, Position},
};
use serde::{Deserialize, Serialize};

use crate::{
    clones::ClonePolicy,
    est::{EstConfig, EstLimits},
    store::Retention,
};

mod section;

pub use drover_states::settings::{ConfigError, DEFAULT_DIRECTORY, log_level};
pub use section::Section;

/// Which authentic minions are accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Acceptance {
    /// Those of an imported manifest.
    Registered,
    /// Those that an operator accepts.
    Manual,
    /// All.
    Auto,
}

/// One master's configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where it was read from.
    pub file: PathBuf,
    /// A label.
    pub name: MasterName,
    /// Where minions connect.
    pub listen: SocketAddr,
    /// Which of them are accepted.
    pub acceptance: Acceptance,
    /// Who is cut off where two machines have one identity.
    pub clones: ClonePolicy,
    /// `master.crt`, `master.key`, `fleet-ca.crt`, `fleet-ca.key` and `root.crt`.
    pub pki_dir: PathBuf,
    /// Whose first line opens `fleet-ca.key`, or is the PIN of the token that it names.
    pub passphrase_file: Option<PathBuf>,
    /// The store.
    pub data_dir: PathBuf,
    /// Sockets.
    pub run_dir: PathBuf,
    /// Where minions' states come from.
    pub file_roots: BTreeMap<String, Vec<PathBuf>>,
    /// Where their pillar comes from.
    pub pillar_roots: BTreeMap<String, Vec<PathBuf>>,
    /// Grains that pillar may go by although a device could claim them; enrolled ones need no naming.
    pub pillar_grains: Vec<String>,
    /// Expressions that `N@NAME` stands for.
    pub nodegroups: BTreeMap<String, String>,
    /// Rules, read by the reactor.
    pub reactor: Option<Section>,
    /// Where events go, read by the bridges.
    pub bridges: Option<Section>,
    /// How long a minion may be away before it is lost.
    pub presence_grace: Duration,
    /// How many events a reactor rule may cause by one minion in a minute.
    pub reactor_rate: u32,
    /// How long a function may run where the request does not say.
    pub job_timeout: Duration,
    /// How long a job is kept for a minion that is away where the request does not say.
    pub pending_ttl: Duration,
    /// How long events and jobs are kept.
    pub retention: Retention,
    /// For how long operational certificates are issued; `None` for a master that issues none.
    pub ldevid_validity: Option<Duration>,
    /// For how long the master's own certificate is issued.
    pub master_validity: Duration,
    /// How long a revocation list is valid; it is made anew half-way.
    pub crl_validity: Duration,
    /// Where EST is served; `None` for a master that does not.
    pub est: Option<EstConfig>,
    /// Where metrics are served; `None` for a master that serves none.
    pub metrics_listen: Option<SocketAddr>,
    /// How much is logged, as `tracing` reads it.
    pub log_level: String,
    /// Who may use the API's socket, beside the master's own user.
    pub group: String,
    /// What a peer may take until it is welcomed.
    pub gateway: GatewayLimits,
}

impl Config {
    /// Reads `master.yml` in `directory`. Relative paths in it start there.
    ///
    /// # Errors
    /// When there is none, or something in it is wrong.
    pub fn load(directory: &Path) -> Result<Self, ConfigError> {
        settings::load(directory, "master.yml", Self::parse)
    }

    /// Reads the text of a `master.yml` that stands in `directory`.
    ///
    /// # Errors
    /// When something in it is wrong.
    pub fn parse(text: &str, directory: &Path) -> Result<Self, Diagnostic> {
        let root = yaml::load_nodes(text)?;
        let mut settings = Settings::new(directory, text, root.as_ref())?;
        let source: Arc<str> = text.into();
        let section = |node: &Node| {
            Ok(Section::new(directory.join("master.yml"), source.clone(), node.clone()))
        };
        let base = |path: PathBuf| BTreeMap::from([("base".to_owned(), vec![path])]);
        let config = Self {
            file: directory.join("master.yml"),
            name: settings.take("name", name)?.unwrap_or_else(default_name),
            listen: settings
                .take("listen", address)?
                .unwrap_or_else(|| SocketAddr::from(([0, 0, 0, 0], DEFAULT_PORT))),
            acceptance: settings.take("acceptance", acceptance)?.unwrap_or(Acceptance::Registered),
            clones: settings.take("clones", clones)?.unwrap_or_default(),
            pki_dir: settings.place("pki_dir", "/etc/drover/pki", "pki")?,
            passphrase_file: settings.path("passphrase_file")?,
            data_dir: settings.place("data_dir", "/var/lib/drover/master", "data")?,
            run_dir: settings.place("run_dir", "/run/drover/master", "run")?,
            file_roots: settings
                .roots("file_roots")?
                .unwrap_or_else(|| base(settings.default_place("/srv/drover/states", "states"))),
            pillar_roots: settings
                .roots("pillar_roots")?
                .unwrap_or_else(|| base(settings.default_place("/srv/drover/pillar", "pillar"))),
            pillar_grains: settings.take("pillar_grains", names)?.unwrap_or_default(),
            nodegroups: settings.take("nodegroups", nodegroups)?.unwrap_or_default(),
            reactor: settings.take("reactor", section)?,
            bridges: settings.take("bridges", section)?,
            presence_grace: settings
                .duration("presence_grace")?
                .unwrap_or(Duration::from_secs(300)),
            reactor_rate: settings.count("reactor_rate")?.unwrap_or(10),
            job_timeout: settings.duration("job_timeout")?.unwrap_or(Duration::from_secs(300)),
            pending_ttl: settings
                .duration("pending_ttl")?
                .unwrap_or(Duration::from_secs(7 * 86_400)),
            retention: retention(&mut settings, root.as_ref(), text)?,
            ldevid_validity: settings
                .take("ldevid_validity", ldevid_validity)?
                .unwrap_or(Some(LDEVID_VALIDITY)),
            master_validity: settings.duration("master_validity")?.unwrap_or(YEAR),
            crl_validity: settings
                .duration("crl_validity")?
                .unwrap_or(Duration::from_secs(7 * 86_400)),
            est: est(&mut settings, root.as_ref(), text)?,
            metrics_listen: settings.take("metrics_listen", metrics_address)?,
            log_level: settings.log_level("log_level")?.unwrap_or_else(|| "info".to_owned()),
            group: settings.text("group")?.unwrap_or_else(|| "drover".to_owned()),
            gateway: gateway(&mut settings)?,
        };
        settings.finish()?;
        check_nodegroups(&config.nodegroups, root.as_ref(), text)?;
        Ok(config)
    }

    /// The API's socket.
    #[must_use]
    pub fn api_socket(&self) -> PathBuf {
        self.run_dir.join("api.sock")
    }
}

fn retention(
    settings: &mut Settings<'_>,
    root: Option<&Node>,
    text: &str,
) -> Result<Retention, Diagnostic> {
    for (key, now) in [("event_age", "max_age"), ("event_bytes", "max_bytes")] {
        if let Some(position) = position_of(root, &[key]) {
            return Err(Diagnostic::new(format!("`{key}` has another name"))
                .at(text, position.line, Some(position.column))
                .hint(format!("write it as `events: {{{now}: …}}`")));
        }
    }
    let kept = Retention::default();
    let jobs = settings.duration("job_age")?.unwrap_or(kept.jobs);
    let events = settings.map("events", |events| {
        let bytes = events.size("max_bytes")?.unwrap_or(kept.bytes);
        Ok(Retention {
            age: events.duration("max_age")?.unwrap_or(kept.age),
            bytes,
            // Where it is not said, whoever gives the log more room does not give the readers less.
            undelivered: events
                .size("undelivered_max_bytes")?
                .unwrap_or_else(|| kept.undelivered.max(bytes)),
            reserve: events.size("reserve")?.unwrap_or(kept.reserve),
            jobs,
        })
    })?;
    Ok(events.unwrap_or(Retention { jobs, ..kept }))
}

fn gateway(settings: &mut Settings<'_>) -> Result<GatewayLimits, Diagnostic> {
    let limits = GatewayLimits::default();
    Ok(GatewayLimits {
        handshakes: settings.count("handshakes")?.unwrap_or(limits.handshakes),
        handshakes_per_address: settings
            .count("handshakes_per_address")?
            .unwrap_or(limits.handshakes_per_address),
        computing: settings.count("handshakes_at_once")?.unwrap_or(limits.computing),
        handshake: settings.duration("handshake_timeout")?.unwrap_or(limits.handshake),
        ready: settings.duration("ready_timeout")?.unwrap_or(limits.ready),
        first_message: settings.duration("hello_timeout")?.unwrap_or(limits.first_message),
        ..limits
    })
}

/// EST is served where there is an address for it. Its certificate has the names that clients call it by.
fn est(
    settings: &mut Settings<'_>,
    root: Option<&Node>,
    text: &str,
) -> Result<Option<EstConfig>, Diagnostic> {
    let listen = settings.take("est_listen", est_address)?;
    let mut names = settings.take("est_names", hosts)?.unwrap_or_default();
    let limits = EstLimits::default();
    let connections = settings.count("est_connections")?.unwrap_or(limits.connections);
    let Some(listen) = listen else { return Ok(None) };
    if names.is_empty() && listen.ip().is_unspecified() {
        let wrong = Diagnostic::new("`est_listen` is on all addresses, and `est_names` is missing");
        let wrong = match position_of(root, &["est_listen"]) {
            Some(position) => wrong.at(text, position.line, Some(position.column)),
            None => wrong,
        };
        return Err(wrong.hint(
            "name what clients call this master, such as `est_names: [est.example.com, 192.0.2.1]`",
        ));
    }
    if names.is_empty() {
        names.push(Host::Address(listen.ip()));
    }
    Ok(Some(EstConfig { listen, names, limits: EstLimits { connections, ..limits } }))
}

fn est_address(node: &Node) -> Result<SocketAddr, &'static str> {
    let text = node.as_str().unwrap_or_default();
    text.parse().map_err(|_| "an address and a port to listen on, such as `127.0.0.1:8443`")
}

fn metrics_address(node: &Node) -> Result<SocketAddr, &'static str> {
    let text = node.as_str().unwrap_or_default();
    text.parse().map_err(|_| "an address and a port to listen on, such as `127.0.0.1:9510`")
}

fn hosts(node: &Node) -> Result<Vec<Host>, &'static str> {
    const WANTED: &str = "a list of DNS names and IP addresses";
    let Data::Sequence(items) = &node.data else { return Err(WANTED) };
    let host = |item: &Node| item.as_str().and_then(|text| text.parse().ok()).ok_or(WANTED);
    items.iter().map(host).collect()
}

fn default_name() -> MasterName {
    "master".parse().expect("a name of letters")
}

fn name(node: &Node) -> Result<MasterName, &'static str> {
    let name = node.as_str().and_then(|text| text.parse().ok());
    name.ok_or("1 to 64 of A-Z a-z 0-9 . _ -, beginning with a letter or a digit")
}

fn ldevid_validity(node: &Node) -> Result<Option<Duration>, &'static str> {
    if node.as_str() == Some("never") {
        return Ok(None);
    }
    let validity = settings::duration(&node.to_value());
    // Certificates count in whole seconds.
    let validity = validity.filter(|validity| *validity >= Duration::from_secs(1));
    validity.map(Some).ok_or("a duration of a second or more, such as `30d` or `12h`, or `never`")
}

fn clones(node: &Node) -> Result<ClonePolicy, &'static str> {
    match node.as_str() {
        Some("first") => Ok(ClonePolicy::First),
        Some("last") => Ok(ClonePolicy::Last),
        Some("both") => Ok(ClonePolicy::Both),
        Some(_) | None => {
            Err("`first`, `last` or `both`: who is cut off where two machines have one identity")
        }
    }
}

fn acceptance(node: &Node) -> Result<Acceptance, &'static str> {
    match node.as_str() {
        Some("registered") => Ok(Acceptance::Registered),
        Some("manual") => Ok(Acceptance::Manual),
        Some("auto") => Ok(Acceptance::Auto),
        Some(_) | None => Err("`registered`, `manual` or `auto`"),
    }
}

/// `address:port`, or an address alone.
fn address(node: &Node) -> Result<SocketAddr, &'static str> {
    let text = node.as_str().unwrap_or_default();
    text.parse()
        .or_else(|_| text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, DEFAULT_PORT)))
        .map_err(|_| "an address and a port to listen on, such as `0.0.0.0:4510` or `[::]:4510`")
}

fn names(node: &Node) -> Result<Vec<String>, &'static str> {
    const WANTED: &str = "a list of grains' names";
    let Data::Sequence(items) = &node.data else { return Err(WANTED) };
    items.iter().map(|item| item.as_str().map(str::to_owned).ok_or(WANTED)).collect()
}

/// A text, or Salt's list form, whose words are joined.
fn nodegroups(node: &Node) -> Result<BTreeMap<String, String>, &'static str> {
    const WANTED: &str = "a map of names, each with an expression";
    let Data::Mapping(groups) = &node.data else { return Err(WANTED) };
    groups
        .iter()
        .map(|group| {
            let expression = match &group.node.data {
                Data::Sequence(words) => {
                    let words: Option<Vec<_>> = words.iter().map(Node::as_str).collect();
                    words.ok_or(WANTED)?.join(" ")
                }
                Data::Scalar(_) => group.node.as_str().ok_or(WANTED)?.to_owned(),
                Data::Mapping(_) => return Err(WANTED),
            };
            Ok((group.key.clone(), expression))
        })
        .collect()
}

/// An expression that is wrong is found now, and not when somebody first needs it.
fn check_nodegroups(
    groups: &BTreeMap<String, String>,
    root: Option<&Node>,
    text: &str,
) -> Result<(), Diagnostic> {
    let resolve = |name: &str| groups.get(name).cloned();
    for name in groups.keys() {
        let Err(error) = Expression::parse_with(name, TargetType::Nodegroup, &resolve) else {
            continue;
        };
        let wrong = Diagnostic::new(error.to_string());
        let wrong = match position_of(root, &["nodegroups", name]) {
            Some(position) => wrong.at(text, position.line, Some(position.column)),
            None => wrong,
        };
        return Err(wrong.hint(error.hint));
    }
    Ok(())
}

fn position_of(root: Option<&Node>, keys: &[&str]) -> Option<Position> {
    let mut node = root?;
    for key in keys {
        let Data::Mapping(entries) = &node.data else { return None };
        node = &entries.iter().find(|entry| entry.key == *key)?.node;
    }
    Some(node.position)
}

#[cfg(test)]
mod tests;
