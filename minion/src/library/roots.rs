//! Pillar without a master, from this device's own directories.

use std::sync::Arc;

use drover_states::{files::FileSource, pillar::Pillar};
use serde_json::{Map, Value};

use super::LibraryError;
use crate::targets::TopMatcher;

pub(super) fn pillar(
    files: Arc<dyn FileSource>,
    grains: Map<String, Value>,
    saltenv: &str,
) -> Result<Map<String, Value>, LibraryError> {
    let matcher = TopMatcher::new(grains.clone(), None);
    Pillar::new(files, saltenv)
        .render(grains, &matcher)
        .map_err(|errors| LibraryError::Pillar(errors.to_string()))
}
