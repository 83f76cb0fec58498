//! What a state module may reach: the file source, grains and pillar, and (where the device has one)
//! the container engine. Everything else of the device it reaches by the operating system.

use std::sync::Arc;

use serde_json::{Map, Value};

use crate::docker::ContainerEngine;
use crate::files::FileSource;

/// The surroundings of a run.
pub struct Host {
    files: Arc<dyn FileSource>,
    grains: Map<String, Value>,
    pillar: Map<String, Value>,
    engine: Option<Arc<dyn ContainerEngine>>,
}

impl Host {
    /// A host without a container engine.
    #[must_use]
    pub fn new(
        files: Arc<dyn FileSource>,
        grains: Map<String, Value>,
        pillar: Map<String, Value>,
    ) -> Self {
        Self { files, grains, pillar, engine: None }
    }

    /// The same host with a container engine.
    #[must_use]
    pub fn with_engine(mut self, engine: Arc<dyn ContainerEngine>) -> Self {
        self.engine = Some(engine);
        self
    }

    /// The container engine, where the device has one.
    #[must_use]
    pub fn engine(&self) -> Option<&dyn ContainerEngine> {
        self.engine.as_deref()
    }

    /// Where `salt://` leads.
    #[must_use]
    pub fn files(&self) -> &dyn FileSource {
        &*self.files
    }

    /// The device's grains.
    #[must_use]
    pub fn grains(&self) -> &Map<String, Value> {
        &self.grains
    }

    /// The device's pillar.
    #[must_use]
    pub fn pillar(&self) -> &Map<String, Value> {
        &self.pillar
    }
}
