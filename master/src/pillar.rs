//! Pillar, rendered for each minion as it asks: by its id and what the registry vouches for. A device could claim any
//! grain of its own, so only enrolled grains count, and those that `pillar_grains` in master.yml names.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use drover_proto::{
    job::TargetType,
    target::{Expression, Subject},
};
use drover_states::{
    compile::Compiler,
    diagnostic::CompileErrors,
    files::{DirectoryRoots, FileSource},
    low::LowState,
    pillar::Pillar,
    render::Context,
};
use serde_json::{Map, Value};

use crate::registry::Shown;

/// Renders pillar, and compiles states for previews; clones share it.
#[derive(Clone)]
pub struct Pillars(Arc<Inner>);

struct Inner {
    pillar: Arc<dyn FileSource>,
    states: Arc<dyn FileSource>,
    /// Grains that count although a device could claim them.
    trusted: Vec<String>,
    nodegroups: BTreeMap<String, String>,
}

impl Pillars {
    /// From the roots of the master's configuration.
    #[must_use]
    pub fn new(
        pillar_roots: BTreeMap<String, Vec<PathBuf>>,
        file_roots: BTreeMap<String, Vec<PathBuf>>,
        trusted: Vec<String>,
        nodegroups: BTreeMap<String, String>,
    ) -> Self {
        Self(Arc::new(Inner {
            pillar: Arc::new(DirectoryRoots::new(pillar_roots)),
            states: Arc::new(DirectoryRoots::new(file_roots)),
            trusted,
            nodegroups,
        }))
    }

    /// A minion's pillar. Reads files, so it belongs on a thread that may block.
    ///
    /// # Errors
    /// Every problem that was found.
    pub fn render(
        &self,
        minion: &Shown,
        saltenv: &str,
    ) -> Result<Map<String, Value>, CompileErrors> {
        let grains = self.vouched(minion);
        let matcher = self.matcher(minion, grains.clone(), Map::new());
        Pillar::new(self.0.pillar.clone(), saltenv).render(grains, &matcher)
    }

    /// What a minion would run: the SLS named, or what its top file gives it. Reads files too.
    ///
    /// # Errors
    /// Every problem that was found.
    pub fn preview(&self, minion: &Shown, sls: &[String]) -> Result<LowState, CompileErrors> {
        const SALTENV: &str = "base";
        let pillar = self.render(minion, SALTENV)?;
        let grains = Map::clone(&minion.grains);
        let compiler =
            Compiler::new(self.0.states.clone(), Context::new(grains.clone(), pillar.clone()));
        if sls.is_empty() {
            compiler.highstate(SALTENV, &self.matcher(minion, grains, pillar))
        } else {
            compiler.sls(SALTENV, sls)
        }
    }

    /// Reads a target expression; nodegroups are the configuration's.
    ///
    /// # Errors
    /// With the position and a hint.
    pub fn expression(
        &self,
        text: &str,
        kind: TargetType,
    ) -> Result<Expression, drover_proto::target::TargetError> {
        Expression::parse_with(text, kind, &|name| self.0.nodegroups.get(name).cloned())
    }

    fn vouched(&self, minion: &Shown) -> Map<String, Value> {
        let entry = &minion.entry;
        let is_vouched = |name: &str| {
            name == "id"
                || entry.enrolled.contains_key(name)
                || self.0.trusted.iter().any(|trusted| trusted == name)
        };
        let grains = minion.grains.iter().filter(|(name, _)| is_vouched(name));
        grains.map(|(name, value)| (name.clone(), value.clone())).collect()
    }

    fn matcher(
        &self,
        minion: &Shown,
        grains: Map<String, Value>,
        pillar: Map<String, Value>,
    ) -> impl Fn(&str, &str) -> Result<bool, String> + Send + Sync + use<> {
        let subject = TopSubject { id: minion.entry.id.to_string(), grains, pillar };
        let pillars = self.clone();
        move |expression: &str, kind: &str| {
            let kind: TargetType = serde_json::from_value(kind.into())
                .map_err(|_| format!("there is no match type `{kind}`"))?;
            let expression =
                pillars.expression(expression, kind).map_err(|error| error.to_string())?;
            Ok(expression.matches(&subject))
        }
    }
}

/// A minion as a top file sees it.
struct TopSubject {
    id: String,
    grains: Map<String, Value>,
    pillar: Map<String, Value>,
}

impl Subject for TopSubject {
    fn id(&self) -> &str {
        &self.id
    }

    fn grains(&self) -> &Map<String, Value> {
        &self.grains
    }

    fn pillar(&self) -> Option<&Map<String, Value>> {
        Some(&self.pillar)
    }
}
