//! From SLS files to a low state: renders, reads YAML, applies include, extend and exclude, resolves
//! requisites and parses every argument. All problems are collected; with one, nothing runs.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::diagnostic::{CompileErrors, Diagnostic};
use crate::files::FileSource;
use crate::low::LowState;
use crate::render::{Context, Renderer};

mod body;
mod chunk;
mod global;
mod high;
mod order;
mod requisite;
mod top;

pub(crate) use high::{find, load_file, resolve as resolve_include};
pub(crate) use top::select;

/// Decides whether a target of a top file means this minion.
///
/// `kind` is Salt's name of the match type: `compound` (the default), `glob`, `grain`, `list`, …
pub trait TargetMatcher: Send + Sync {
    /// Whether the expression matches.
    ///
    /// # Errors
    /// What is wrong with the expression.
    fn matches(&self, expression: &str, kind: &str) -> Result<bool, String>;
}

impl<F: Fn(&str, &str) -> Result<bool, String> + Send + Sync> TargetMatcher for F {
    fn matches(&self, expression: &str, kind: &str) -> Result<bool, String> {
        self(expression, kind)
    }
}

/// Compiles for one minion.
pub struct Compiler {
    files: Arc<dyn FileSource>,
    context: Context,
}

impl Compiler {
    /// A compiler for the minion with this context.
    #[must_use]
    pub fn new(files: Arc<dyn FileSource>, context: Context) -> Self {
        Self { files, context }
    }

    /// Compiles what the top file of `saltenv` gives this minion.
    ///
    /// # Errors
    /// Every problem that was found.
    pub fn highstate(
        &self,
        saltenv: &str,
        matcher: &dyn TargetMatcher,
    ) -> Result<LowState, CompileErrors> {
        let mut loader = high::Loader::new(Renderers::new(&self.files, &self.context));
        let selections = select(&mut loader.renderers, saltenv, matcher)?;
        if selections.is_empty() {
            let message = "No Top file or master_tops data matches found.";
            return Err(Diagnostic::new(message)
                .in_file("top.sls")
                .hint("no target in the top file means this minion")
                .into());
        }
        for selection in selections {
            loader.load(&selection.saltenv, &selection.sls);
        }
        chunk::compile(loader.finish())
    }

    /// Compiles the SLS that are named.
    ///
    /// # Errors
    /// Every problem that was found.
    pub fn sls<S: AsRef<str>>(
        &self,
        saltenv: &str,
        names: &[S],
    ) -> Result<LowState, CompileErrors> {
        let mut loader = high::Loader::new(Renderers::new(&self.files, &self.context));
        for name in names {
            loader.load(saltenv, name.as_ref());
        }
        chunk::compile(loader.finish())
    }
}

/// A renderer for each environment, made when it is first needed.
pub(crate) struct Renderers<'a> {
    files: &'a Arc<dyn FileSource>,
    context: &'a Context,
    made: BTreeMap<String, Renderer>,
}

impl<'a> Renderers<'a> {
    pub(crate) fn new(files: &'a Arc<dyn FileSource>, context: &'a Context) -> Self {
        Self { files, context, made: BTreeMap::new() }
    }

    pub(crate) fn files(&self) -> &'a dyn FileSource {
        &**self.files
    }

    pub(crate) fn of(&mut self, saltenv: &str) -> &Renderer {
        self.made
            .entry(saltenv.to_owned())
            .or_insert_with(|| Renderer::new(Arc::clone(self.files), saltenv, self.context))
    }
}

#[cfg(test)]
mod tests;
