//! What a state module may reach: the file source, grains and pillar, and (where the device has one)
//! the container engine. Everything else of the device it reaches by the operating system.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use serde_json::{Map, Value};

use crate::docker::{ContainerEngine, ImageReference};
use crate::files::FileSource;
use crate::render::{Context, ExecutionFunctions, Renderer};

/// The surroundings of a run.
pub struct Host {
    files: Arc<dyn FileSource>,
    context: Context,
    renderer: OnceLock<Renderer>,
    engine: Option<Arc<dyn ContainerEngine>>,
    /// Images that a dry run would have pulled by now.
    foretold: Mutex<BTreeSet<String>>,
}

impl Host {
    /// A host without a container engine.
    #[must_use]
    pub fn new(
        files: Arc<dyn FileSource>,
        grains: Map<String, Value>,
        pillar: Map<String, Value>,
    ) -> Self {
        let context = Context::new(grains, pillar);
        let (renderer, foretold) = Default::default();
        Self { files, context, renderer, engine: None, foretold }
    }

    /// The same host with functions that templates may call.
    #[must_use]
    pub fn with_functions(mut self, functions: Arc<dyn ExecutionFunctions>) -> Self {
        self.context.functions = Some(functions);
        self
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

    /// Notes in a dry run that another image would stand under this name from here on.
    pub(crate) fn foretell_image(&self, reference: &ImageReference) {
        let mut foretold = self.foretold.lock().unwrap_or_else(PoisonError::into_inner);
        foretold.insert(reference.to_string());
    }

    /// Whether an earlier state of this dry run would have brought another image.
    pub(crate) fn is_image_foretold(&self, reference: &ImageReference) -> bool {
        let foretold = self.foretold.lock().unwrap_or_else(PoisonError::into_inner);
        foretold.contains(&reference.to_string())
    }

    /// Where `salt://` leads.
    #[must_use]
    pub fn files(&self) -> &dyn FileSource {
        &*self.files
    }

    /// The device's grains.
    #[must_use]
    pub fn grains(&self) -> &Map<String, Value> {
        &self.context.grains
    }

    /// The device's pillar.
    #[must_use]
    pub fn pillar(&self) -> &Map<String, Value> {
        &self.context.pillar
    }

    /// Renders `template: jinja` sources; made when the first of them comes.
    #[must_use]
    pub fn renderer(&self) -> &Renderer {
        self.renderer.get_or_init(|| Renderer::new(Arc::clone(&self.files), "base", &self.context))
    }
}
