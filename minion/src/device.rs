//! What execution functions reach: the device's configuration, grains, files, pillar and container engine. A handle that
//! is cheap to clone; the agent's loop and the functions it started hold the same device.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use drover_proto::{MinionId, message::GrainSets};
use drover_states::docker::BollardEngine;
use jiff::Timestamp;
use serde_json::{Map, Value};
use tokio::sync::Notify;

use crate::{
    config::Config,
    durable::FileError,
    grains::{Grains, SetGrainError, detected},
    library::{Library, LibraryError},
    progress::Reporter,
};

/// One device. See the module.
#[derive(Clone)]
pub struct Device {
    inner: Arc<Inner>,
    /// Set where it serves one of the master's jobs.
    reporter: Option<Reporter>,
}

struct Inner {
    id: MinionId,
    serial: Option<String>,
    config: Config,
    grains: Mutex<Grains>,
    grains_changed: Notify,
    library: Library,
    jobs: Mutex<Value>,
    state_turn: Arc<tokio::sync::Mutex<()>>,
}

impl Device {
    /// The device that a certificate names. `serial` is the hardware serial number in it.
    #[must_use]
    pub fn new(id: MinionId, serial: Option<String>, config: Config, library: Library) -> Self {
        let found =
            detected::detect(&id, serial.as_deref(), config.master.first().map(String::as_str));
        let grains = Grains::load(&config.data_dir, config.grains.clone(), found);
        let inner = Inner {
            id,
            serial,
            config,
            grains: Mutex::new(grains),
            grains_changed: Notify::new(),
            library,
            jobs: Mutex::new(Value::Array(Vec::new())),
            state_turn: Arc::default(),
        };
        Self { inner: Arc::new(inner), reporter: None }
    }

    /// The same device for one job, which tells its steps to `reporter`.
    pub(crate) fn reporting_to(&self, reporter: Reporter) -> Self {
        Self { inner: self.inner.clone(), reporter: Some(reporter) }
    }

    /// Tells the master a step of the job that this serves, if it is the master's.
    pub(crate) fn report(&self, step: impl FnOnce() -> Value) {
        if let Some(reporter) = &self.reporter {
            reporter.report(step());
        }
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> &MinionId {
        &self.inner.id
    }

    /// Its configuration.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.inner.config
    }

    /// Its files and its pillar.
    #[must_use]
    pub fn library(&self) -> &Library {
        &self.inner.library
    }

    /// All grains, by their precedence.
    #[must_use]
    pub fn grains(&self) -> Map<String, Value> {
        self.lock_grains().merged()
    }

    /// The grains that it tells the master.
    #[must_use]
    pub fn own_grains(&self) -> GrainSets {
        self.lock_grains().own()
    }

    /// Looks at the machine anew.
    pub fn detect_grains(&self) {
        let master = self.inner.config.master.first().map(String::as_str);
        let found = detected::detect(&self.inner.id, self.inner.serial.as_deref(), master);
        self.lock_grains().detect(found);
    }

    /// Sets a grain at run time, or takes back what was set. The master is told.
    ///
    /// # Errors
    /// When it may not be changed here, or the disk does not take it.
    pub fn set_grain(&self, name: &str, value: Option<Value>) -> Result<(), SetGrainError> {
        if self.lock_grains().set(name, value)? {
            self.inner.grains_changed.notify_one();
        }
        Ok(())
    }

    /// Takes the enrolled grains that a welcome brought.
    ///
    /// # Errors
    /// When the disk does not take the copy; they hold until the agent ends.
    pub fn enrol_grains(&self, enrolled: Map<String, Value>) -> Result<(), FileError> {
        self.lock_grains().enrol(enrolled)
    }

    /// When the device ends, as the master said last.
    #[must_use]
    pub fn retires(&self) -> Option<Timestamp> {
        self.lock_grains().retires()
    }

    /// Takes the day on which the device ends: the grain `retires_at`. The master is told.
    ///
    /// # Errors
    /// When the disk does not take it; it holds until the agent ends.
    pub fn retire(&self, at: Option<Timestamp>) -> Result<(), FileError> {
        let mut grains = self.lock_grains();
        let before = grains.retires();
        let kept = grains.retire(at);
        if before != at {
            match at {
                Some(at) => {
                    tracing::warn!(%at, "this device retires: nothing is renewed past the date")
                }
                None => tracing::info!("this device does not retire any more"),
            }
            self.inner.grains_changed.notify_one();
        }
        kept
    }

    /// Waits until a grain was set.
    pub async fn grains_changed(&self) {
        self.inner.grains_changed.notified().await;
    }

    /// The pillar: asked for anew, or as it was kept where there is no connection.
    ///
    /// # Errors
    /// When the master refuses it, or there is none.
    pub async fn pillar(&self, saltenv: &str) -> Result<Map<String, Value>, LibraryError> {
        self.inner.library.pillar(self, saltenv).await
    }

    /// The container engine of the configuration. It is connected to when it is first asked.
    #[must_use]
    pub fn engine(&self) -> BollardEngine {
        BollardEngine::new(&self.inner.config.docker)
    }

    /// The jobs that run and wait, as `saltutil.running` lists them.
    #[must_use]
    pub fn running_jobs(&self) -> Value {
        lock(&self.inner.jobs).clone()
    }

    /// The agent's loop says what runs and waits.
    pub(crate) fn publish_jobs(&self, jobs: Value) {
        *lock(&self.inner.jobs) = jobs;
    }

    /// The right to run states. One run has it at a time; it is given back when that run has really ended, also where
    /// its job was stopped before.
    pub(crate) async fn state_turn(&self) -> tokio::sync::OwnedMutexGuard<()> {
        Arc::clone(&self.inner.state_turn).lock_owned().await
    }

    fn lock_grains(&self) -> MutexGuard<'_, Grains> {
        lock(&self.inner.grains)
    }
}

/// A panic in a function must not take the agent with it: what it held is whole, because every change is one assignment.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
