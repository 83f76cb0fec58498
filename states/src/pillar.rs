//! The pillar of a minion: the pillar's top file says which SLS files it gets, and these, rendered
//! with the minion's grains, are merged in their order. The master calls this.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::compile::{Renderers, TargetMatcher, find, load_file, resolve_include, select};
use crate::diagnostic::{CompileErrors, Diagnostic};
use crate::files::FileSource;
use crate::render::Context;

/// Renders pillars from one set of pillar roots.
pub struct Pillar {
    files: Arc<dyn FileSource>,
    saltenv: String,
}

impl Pillar {
    /// For these pillar roots and the environment whose `top.sls` is read.
    #[must_use]
    pub fn new(files: Arc<dyn FileSource>, saltenv: &str) -> Self {
        Self { files, saltenv: saltenv.to_owned() }
    }

    /// The pillar of the minion with these grains; empty where there is no top file.
    ///
    /// # Errors
    /// Every problem that was found. A pillar with an error gives nothing, not a part.
    pub fn render(
        &self,
        grains: Map<String, Value>,
        matcher: &dyn TargetMatcher,
    ) -> Result<Map<String, Value>, CompileErrors> {
        if self.files.read(&self.saltenv, "top.sls").is_err() {
            return Ok(Map::new());
        }
        let context = Context::new(grains, Map::new());
        let mut renderers = Renderers::new(&self.files, &context);
        let selections = select(&mut renderers, &self.saltenv, matcher)?;
        let mut build =
            Build { renderers, seen: BTreeSet::new(), errors: Vec::new(), pillar: Map::new() };
        for selection in selections {
            build.load(&selection.saltenv, &selection.sls, selection.ignore_missing);
        }
        match CompileErrors::from_diagnostics(build.errors) {
            Some(errors) => Err(errors),
            None => Ok(build.pillar),
        }
    }
}

struct Build<'a> {
    renderers: Renderers<'a>,
    seen: BTreeSet<(String, String)>,
    errors: Vec<Diagnostic>,
    pillar: Map<String, Value>,
}

impl Build<'_> {
    fn load(&mut self, saltenv: &str, sls: &str, ignore_missing: bool) {
        if !self.seen.insert((saltenv.to_owned(), sls.to_owned())) {
            return;
        }
        let file = match find(&self.renderers, saltenv, sls) {
            Ok(file) => file,
            Err(_) if ignore_missing => return,
            Err(error) => return self.errors.push(of_pillar(error)),
        };
        let is_init = file.path.ends_with("/init.sls");
        let loaded = match load_file(&mut self.renderers, saltenv, file) {
            Ok(loaded) => loaded,
            Err(error) => return self.errors.push(of_pillar(error)),
        };
        let Some(root) = &loaded.root else { return };
        let Value::Object(mut own) = root.to_value() else {
            let message = format!("Pillar SLS {sls} is not formed as a dictionary");
            return self.errors.push(loaded.error(root, &message));
        };
        // What is included comes first, so that the including file has the last word.
        match own.remove("include") {
            None => {}
            Some(Value::Array(names)) => {
                for name in names {
                    match name.as_str().and_then(|name| resolve_include(sls, is_init, name)) {
                        Some(name) => self.load(saltenv, &name, false),
                        None => {
                            let message = format!("cannot include `{name}` in pillar SLS {sls}");
                            self.errors.push(loaded.error(root, &message));
                        }
                    }
                }
            }
            Some(_) => {
                let message = format!("Include Declaration in SLS {sls} is not formed as a list");
                self.errors.push(loaded.error(root, &message));
            }
        }
        merge(&mut self.pillar, own);
    }
}

/// A problem of any SLS file, told as one of the pillar's.
fn of_pillar(mut error: Diagnostic) -> Diagnostic {
    let misses_grain = error.message.contains("'grains' has no attribute");
    error.message = format!("in the pillar: {}", error.message);
    error.hint = error.hint.map(|hint| hint.replace("file roots", "pillar roots"));
    if misses_grain {
        let which = "a grain that was not given at enrolment counts in pillar where \
                     `pillar_grains` of master.yml names it";
        error.hint = Some(error.hint.map_or(which.to_owned(), |hint| format!("{hint}; {which}")));
    }
    error
}

/// Salt's `smart` strategy for YAML: maps are merged, anything else is replaced.
fn merge(into: &mut Map<String, Value>, from: Map<String, Value>) {
    for (key, value) in from {
        match (into.get_mut(&key), value) {
            (Some(Value::Object(old)), Value::Object(new)) => merge(old, new),
            (_, value) => {
                into.insert(key, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::files::memory::MemoryFiles;

    #[test]
    fn pillar_is_merged_in_the_order_of_the_top_file() {
        let files = MemoryFiles::new(&[
            ("top.sls", "base:\n  '*':\n    - all\n  'd1':\n    - mine\n  'd2':\n    - other\n"),
            ("all.sls", "registry: {host: a, port: 5000}\nlist: [1, 2]\n"),
            (
                "mine/init.sls",
                "include:\n  - .inner\nregistry: {host: {{ grains['id'] }}}\nlist: [3]\n",
            ),
            ("mine/inner.sls", "deep: true\n"),
        ]);
        let grains = json!({"id": "d1"}).as_object().unwrap().clone();
        let matcher = |target: &str, _: &str| Ok(target == "*" || target == "d1");
        let pillar = Pillar::new(files, "base").render(grains, &matcher).unwrap();
        assert_eq!(
            Value::Object(pillar),
            json!({"registry": {"host": "d1", "port": 5000}, "list": [3], "deep": true})
        );
    }

    #[test]
    fn mistakes_in_pillar_name_the_pillar_and_the_grains_that_count() {
        let files = MemoryFiles::new(&[
            ("top.sls", "base:\n  '*':\n    - a\n    - missing\n"),
            ("a.sls", "x: {{ grains['osarch'] }}\n"),
        ]);
        let everybody = |_: &str, _: &str| Ok(true);
        let errors = Pillar::new(files, "base").render(Map::new(), &everybody).unwrap_err();
        insta::assert_snapshot!(errors, @r"
        a.sls:1: in the pillar: Rendering SLS 'base:a' failed: Jinja variable 'grains' has no attribute 'osarch'
            1 | x: {{ grains['osarch'] }}
        hint: define it, or write `grains.get('osarch', …)` if it may be absent; a grain that was not given at enrolment counts in pillar where `pillar_grains` of master.yml names it
        in the pillar: No matching sls found for 'missing' in env 'base'
        hint: it would be `missing.sls` or `missing/init.sls` under the pillar roots
        ");
    }

    #[test]
    fn pillar_without_top_file_is_empty() {
        let pillar = Pillar::new(MemoryFiles::new(&[]), "base");
        assert_eq!(pillar.render(Map::new(), &|_: &str, _: &str| Ok(true)), Ok(Map::new()));
    }
}
