//! The master as a process: puts its parts together in an order in which none misses what another does, says what it
//! listens on, and ends when it is told to, or when a part that it cannot do without has failed.

use std::{collections::BTreeMap, fs, future::Future, sync::Arc, time::Duration};

use anyhow::{Context, Result, bail};
use drover_pki::passphrase::PassphraseSource;
use drover_proto::{
    session::REQUEST_WINDOW,
    tunnel::{
        Gateway, GatewayConfig,
        descriptors::{self, DescriptorLimit},
        socket,
    },
};
use drover_states::diagnostic::Diagnostic;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    task::JoinSet,
    time::{MissedTickBehavior, timeout},
};
use zeromq::{RouterSocket, Socket};

use crate::{
    api,
    authorities::{Authorities, AuthorityParts},
    backup::{Backups, Sources},
    bridge,
    bridge::{Bridge, BridgeTask},
    bus::{InjectTask, PublisherTask},
    clock::Now,
    config::Config,
    crl::CrlTask,
    est::{EstParts, EstTask},
    expiry::ExpiryTask,
    files::Files,
    hub::{HubParts, HubTask},
    identity::{IdentityTask, OwnCertificate},
    jobs::JobLimits,
    master::{Master, Parts},
    metrics::{Collector, EventKindsTask, MetricsTask, ServeLimits},
    operational::Operational,
    pillar::Pillars,
    presence::PresenceTask,
    reactor::{ReactorTask, Rules},
    registry::Registry,
    requests::RequestsTask,
    restore,
    retire::{RetireHandle, RetireTask},
    status::{self, StatusSource},
    store::{Store, StoreError},
};

/// Signs of life that wait for presence before the hub waits.
const SIGNS: usize = 16_384;
/// Connections whose windows of requests fit into the queue; more than a machine's descriptors carry.
const CONNECTIONS: usize = 65_536;
/// Superseded certificates that wait to be told of.
const ALARMS: usize = 64;
/// How often the store forgets what is old.
const EXPIRE_EVERY: Duration = Duration::from_secs(60);
/// How long a master that ends waits until what its minions brought is durable. On a disk without any room that never is.
const LAST_WRITES: Duration = Duration::from_secs(5);

/// A configuration of which every section is read.
pub struct Plan {
    config: Config,
    passphrase: PassphraseSource,
    rules: Rules,
    bridges: Vec<Bridge>,
}

impl Plan {
    /// Reads the sections whose owners are parts of the master. The passphrase is the fleet CA's.
    ///
    /// # Errors
    /// When something in one is wrong, with its place.
    pub fn of(config: Config, passphrase: PassphraseSource) -> Result<Self, Diagnostic> {
        let rules = match &config.reactor {
            Some(section) => Rules::read(section, config.file_roots.clone())?,
            None => Rules::none(),
        };
        let bridges = match &config.bridges {
            Some(section) => bridge::read(section)?,
            None => Vec::new(),
        };
        Ok(Self { config, passphrase, rules, bridges })
    }
}

/// Runs a master until SIGTERM or SIGINT.
///
/// # Errors
/// When it cannot start, or a part of it fails.
pub async fn run(plan: Plan) -> Result<()> {
    let Plan { config, passphrase, rules, bridges } = plan;
    let started = Now::read();
    let mut stop = stop_signals()?;
    let limit = descriptors::raise_limit();
    // One that was cut off after it had decided: before anything of it is read.
    restore::finish(&config.data_dir, &config.pki_dir)?;
    let authorities = Authorities::open(&config.pki_dir, passphrase)
        .with_context(|| format!("load the authorities from `{}`", config.pki_dir.display()))?;
    let anchors = authorities.anchors();

    let store = Store::open(&config.data_dir, config.retention)?;
    let (registry, newcomers) = Registry::open(store.clone(), config.acceptance)?;
    let fleet_ca = authorities.fleet_ca();
    let certificate = OwnCertificate::new(
        &config.pki_dir,
        config.name.clone(),
        config.master_validity,
        anchors.clone(),
    );
    let own = certificate.take_up(fleet_ca.as_deref(), started.wall).with_context(|| {
        format!(
            "load the master's identity from `{}`, which `drover-enrol init-fleet` makes",
            config.pki_dir.display()
        )
    })?;
    let identity = own.identity(&authorities.shown_also())?;
    let (crl, crl_task) = CrlTask::open(
        store.clone(),
        config.pki_dir.clone(),
        config.crl_validity,
        authorities.issuers(),
    )
    .await?;
    registry.set_crl(crl.clone());
    let operational = Operational::new(registry.clone(), config.ldevid_validity);
    operational.set_authority(fleet_ca);
    let (signs, signs_to_presence) = mpsc::channel(SIGNS);
    let (presence, presence_task) =
        PresenceTask::new(store.clone(), config.presence_grace, signs_to_presence).await?;
    let pillars = Pillars::new(
        config.pillar_roots.clone(),
        config.file_roots.clone(),
        config.pillar_grains.clone(),
        config.nodegroups.clone(),
    );

    // Whoever listens to events is there before the first minion is.
    let publisher = PublisherTask::bind(store.clone(), &config.run_dir).await?;
    let inject = InjectTask::bind(store.clone(), &config.run_dir).await?;
    let router_socket = config.run_dir.join("gateway/router.sock");
    let mut router = RouterSocket::new();
    router
        .bind_listener(socket::listen(&router_socket)?)
        .await
        .context("open the ROUTER socket")?;
    let (sender, receiver) = router.split();
    let gateway = Gateway::bind(
        GatewayConfig {
            listen: config.listen,
            router: router_socket,
            identity,
            anchors: anchors.clone(),
            limits: config.gateway.clone(),
        },
        Arc::new(registry.clone()),
    )?;
    let (gateway, connections) = gateway.start();
    registry.set_gateway(gateway.clone());
    let (identity_task, identity) = IdentityTask::new(
        certificate,
        own,
        authorities.shown_also(),
        operational.clone(),
        gateway.clone(),
        store.clone(),
    );
    let (requests, asked) = mpsc::channel(CONNECTIONS * REQUEST_WINDOW);
    let (alarms, superseded) = mpsc::channel(ALARMS);
    registry.set_alarms(alarms);
    let (hub_task, hub) = HubTask::open(HubParts {
        store: store.clone(),
        registry: registry.clone(),
        limits: JobLimits { timeout: config.job_timeout, ttl: config.pending_ttl },
        gateway: gateway.clone(),
        connections,
        sender,
        receiver,
        requests,
        signs,
        clones: config.clones,
        superseded,
        root_lists: authorities.lists().clone(),
    })?;
    let requests_task = RequestsTask::new(
        Files::new(config.file_roots.clone()),
        pillars.clone(),
        registry.clone(),
        operational.clone(),
        hub.clone(),
    );
    let mut tasks = Tasks::default();
    let est = match &config.est {
        Some(est) => {
            let (handle, task) = EstTask::bind(EstParts {
                config: est.clone(),
                anchors,
                registry: registry.clone(),
                operational: operational.clone(),
                crl: crl.clone(),
            })
            .await?;
            tasks.essential("EST", task.run());
            Some(handle)
        }
        None => None,
    };
    authorities.set_parts(AuthorityParts {
        gateway: gateway.clone(),
        operational: operational.clone(),
        crl: crl.clone(),
        identity: identity.clone(),
        est: est.clone(),
        registry: registry.clone(),
        hub: hub.clone(),
        store: store.clone(),
    });
    let retirements = RetireHandle::default();
    let sources = Sources {
        name: config.name.clone(),
        config_file: config.file.clone(),
        pki_dir: config.pki_dir.clone(),
        data_dir: config.data_dir.clone(),
    };
    let master = Master::new(Parts {
        backups: Backups::new(store.clone(), sources),
        listen: gateway.local_addr(),
        authorities: authorities.clone(),
        store: store.clone(),
        registry,
        crl,
        est,
        operational,
        identity,
        hub: hub.clone(),
        retirements: retirements.clone(),
        presence,
        pillars,
        started,
        config,
    });
    let config = &master.config;
    let reactor =
        ReactorTask::new(store.clone(), master.clone(), rules, config.reactor_rate).await?;
    let reactor_handle = reactor.handle();

    // The store has failed, or a part has: the master ends, and whoever keeps it starts it again.
    tasks.essential("the hub", hub_task.run());
    tasks.essential("presence", presence_task.run());
    tasks.essential("the registry", newcomers.run());
    tasks.essential("the master's certificate", identity_task.run());
    tasks.essential("the revocation lists", crl_task.run());
    let expiry = ExpiryTask::new(store.clone(), config.pki_dir.clone(), master.crl.clone());
    tasks.essential("the authorities' ends", expiry.run());
    tasks.essential("the reactor", reactor.run());
    tasks.essential("retirements", RetireTask::new(master.clone(), retirements).run());
    tasks.essential("the event bus", publisher.run());
    tasks.essential("the event intake", inject.run());
    let mut handles = Vec::new();
    for bridge in bridges {
        let (handle, task) = BridgeTask::new(store.clone(), master.registry.clone(), bridge)?;
        handles.push(handle);
        tasks.essential("a bridge", task.run());
    }
    // After every reader has said what it holds.
    tasks.essential("retention", expire(store.clone()));
    tasks.essential("the disk", store.clone().watch_disk());
    tasks.essential("requests", async move {
        requests_task.run(asked).await;
        Ok::<(), std::io::Error>(())
    });

    let source = StatusSource {
        master: master.clone(),
        gateway: gateway.clone(),
        reactor: reactor_handle,
        bridges: handles.clone(),
    };
    if let Some(listen) = config.metrics_listen {
        let (kinds, counting) = EventKindsTask::new(store.clone());
        let collector = Collector::new(source.clone(), kinds);
        let serving =
            MetricsTask::bind(listen, ServeLimits::default(), move || collector.collect()).await;
        let serving = serving.with_context(|| format!("serve metrics on `{listen}`"))?;
        tasks.essential("the counting of events", counting.run());
        tasks.essential("the metrics", serving.run());
        tracing::info!(metrics = %listen, "metrics are served");
    }

    // Last, so that who reaches the API reaches a whole master; and after the bus, whose socket makes the directory 0700.
    let api_socket = config.api_socket();
    let listener = api::listen(&api_socket, group_id(&config.group))
        .with_context(|| format!("open the API's socket `{}`", api_socket.display()))?;
    let others = bridge::routes(handles).merge(status::routes(source));
    let app =
        api::router(master.clone(), others).into_make_service_with_connect_info::<api::Peer>();
    tasks.essential("the API", async move { axum::serve(listener, app).await });
    announce(&master, limit);

    let ended = tokio::select! {
        () = stop.received() => None,
        ended = tasks.first_ended() => Some(ended),
        () = store.failed() => Some("the store failed".to_owned()),
    };
    tracing::info!("stopping");
    // Not a new connection, then nothing more from the open ones, then what they brought becomes durable.
    master.presence.end();
    gateway.shutdown();
    let settled = timeout(LAST_WRITES, async {
        if hub.stop().await.is_ok() {
            tasks.until("the hub").await;
        }
    });
    if settled.await.is_err() {
        // Nobody was told that it is done.
        tracing::warn!("what waits for room on the disk is left out: it was not acknowledged");
    }
    let _ = fs::remove_file(&api_socket);
    match ended {
        None => Ok(()),
        Some(ended) => bail!(ended),
    }
}

/// Forgets what is old, for as long as the master runs.
async fn expire(store: Store) -> Result<(), StoreError> {
    let mut passes = tokio::time::interval(EXPIRE_EVERY);
    passes.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        passes.tick().await;
        while store.expire().await? {}
    }
}

fn announce(master: &Master, limit: DescriptorLimit) {
    let config = &master.config;
    tracing::info!(
        name = %config.name,
        minions = %master.listen,
        api = %config.api_socket().display(),
        "drover-master {} listens",
        env!("CARGO_PKG_VERSION")
    );
    match master.operational.validity() {
        Some(validity) => {
            tracing::info!(?validity, "operational certificates are issued");
        }
        None => tracing::warn!(
            "no operational certificates are issued: minions live by their birth certificates, which do not end"
        ),
    }
    if let Some(est) = &master.est {
        tracing::info!(est = %est.local_addr(), "EST listens");
    }
    match (limit.descriptors, limit.connections()) {
        (Some(descriptors), Some(minions)) => {
            tracing::info!(descriptors, minions, "RLIMIT_NOFILE carries so many connected minions");
        }
        (None, _) | (_, None) => tracing::info!("RLIMIT_NOFILE is unlimited"),
    }
}

/// The parts that run, by name.
#[derive(Default)]
struct Tasks {
    running: JoinSet<(&'static str, Result<(), String>)>,
    names: BTreeMap<&'static str, ()>,
}

impl Tasks {
    fn essential<E: std::error::Error>(
        &mut self,
        name: &'static str,
        task: impl Future<Output = Result<(), E>> + Send + 'static,
    ) {
        self.names.insert(name, ());
        self.running.spawn(async move { (name, task.await.map_err(|error| error.to_string())) });
    }

    /// Why the first part that ended has. One that has nothing to do may end.
    async fn first_ended(&mut self) -> String {
        while let Some(ended) = self.running.join_next().await {
            match ended {
                Ok((name, Ok(()))) => drop(self.names.remove(name)),
                Ok((name, Err(error))) => return format!("{name} failed: {error}"),
                Err(error) => return format!("a part of the master panicked: {error}"),
            }
        }
        "every part has ended".to_owned()
    }

    async fn until(&mut self, wanted: &str) {
        while self.names.contains_key(wanted) {
            match self.running.join_next().await {
                Some(Ok((name, result))) => {
                    if let Err(error) = result {
                        tracing::error!(error, "{name} failed");
                    }
                    self.names.remove(name);
                }
                Some(Err(_)) => {}
                None => break,
            }
        }
    }
}

/// SIGTERM and SIGINT.
struct Stop {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

fn stop_signals() -> Result<Stop> {
    let on = |kind| signal(kind).context("watch for signals");
    Ok(Stop { terminate: on(SignalKind::terminate())?, interrupt: on(SignalKind::interrupt())? })
}

impl Stop {
    async fn received(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// A group's number, where the system has it.
fn group_id(name: &str) -> Option<u32> {
    let groups = fs::read_to_string("/etc/group").ok()?;
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok()).flatten()
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn wrong_rules_and_bridges_are_refused_before_the_master_starts() {
        for text in ["reactor: {'*': [a.sls]}\n", "bridges: [{name: elk, type: soap}]\n"] {
            let config = Config::parse(text, Path::new("/x")).unwrap();
            let plan = Plan::of(config, PassphraseSource::nowhere());
            let wrong = plan.err().unwrap().to_string();
            assert!(wrong.starts_with("/x/master.yml:1:"), "{wrong}");
        }
    }
}
