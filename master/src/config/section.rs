//! A part of `master.yml` that its owner reads: the reactor's rules, the bridges. It brings its place, so that the
//! owner's complaints say file, line and column too.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use drover_states::{diagnostic::Diagnostic, settings::Settings, yaml::Node};

/// The value of one key, and where it stands.
#[derive(Debug, Clone)]
pub struct Section {
    file: PathBuf,
    text: Arc<str>,
    node: Node,
}

impl Section {
    pub(super) const fn new(file: PathBuf, text: Arc<str>, node: Node) -> Self {
        Self { file, text, node }
    }

    /// The value.
    #[must_use]
    pub const fn node(&self) -> &Node {
        &self.node
    }

    /// The directory that relative paths in it start from.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.file.parent().unwrap_or(Path::new("."))
    }

    /// The settings in a map that is a part of it. Their complaints have no file yet: [`Self::in_file`].
    ///
    /// # Errors
    /// When that part is no map.
    pub fn settings<'a>(&'a self, at: &'a Node) -> Result<Settings<'a>, Diagnostic> {
        Settings::new(self.directory(), &self.text, Some(at)).map_err(|wrong| self.in_file(wrong))
    }

    /// A complaint that names its file.
    #[must_use]
    pub fn in_file(&self, wrong: Diagnostic) -> Diagnostic {
        wrong.in_file(self.file.display().to_string())
    }

    /// A complaint about a part of it.
    #[must_use]
    pub fn wrong(&self, at: &Node, message: impl Into<String>) -> Diagnostic {
        let position = at.position;
        Diagnostic::new(message)
            .at(&self.text, position.line, Some(position.column))
            .in_file(self.file.display().to_string())
    }
}
