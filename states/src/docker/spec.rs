//! What a container is to be, and the mark by which one that was made so is known again.

use bollard::models::ContainerCreateBody;
use serde_json::Value;

use super::options;
use super::reference::ImageReference;
use crate::module::Arguments;

/// The label that says from which spec a container was made.
pub const MARK_LABEL: &str = "drover.spec";

/// Counts up when the canonical form of a spec changes, so that an upgrade of the agent does not take
/// every container for a different one.
const FORMAT: &str = "1";

/// An image and everything that the state names about a container.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ContainerSpec {
    pub(super) image: ImageReference,
    body: Box<ContainerCreateBody>,
}

impl ContainerSpec {
    /// Reads `image` and the creation options.
    pub(super) fn parse(arguments: &mut Arguments<'_>) -> Self {
        let image = super::image_argument(arguments);
        let mut body = Box::new(options::creation(arguments));
        // By name, so that a moved tag shows, and not by the id that it has at present.
        body.image = Some(image.to_string());
        if body.labels.as_ref().is_some_and(|labels| labels.contains_key(MARK_LABEL)) {
            arguments.error("labels", format!("the label `{MARK_LABEL}` is Drover's own"), None);
        }
        Self { image, body }
    }

    /// What is asked of the engine, without the mark.
    pub(super) fn body(&self) -> &ContainerCreateBody {
        &self.body
    }

    /// What is sent to the engine to make the container.
    pub(super) fn marked_body(&self) -> Box<ContainerCreateBody> {
        let mut body = self.body.clone();
        body.labels.get_or_insert_default().insert(MARK_LABEL.to_owned(), self.mark());
        body
    }

    /// The format and the digest of the canonical form: `1:` and SHA-256 in hex.
    pub(super) fn mark(&self) -> String {
        let body = serde_json::to_value(&self.body).expect("a body has string keys only");
        let canonical = sorted(body).to_string();
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, canonical.as_bytes());
        let hex: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{FORMAT}:{hex}")
    }
}

/// What a container's mark says about a spec.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    /// It was made from this spec.
    Same,
    /// It was made from another spec.
    Other,
    /// It was made from a spec in a form that this agent does not read.
    OtherFormat,
    /// Something else made it.
    Missing,
}

impl Mark {
    pub(super) fn read(label: Option<&str>, spec: &ContainerSpec) -> Self {
        match label {
            None => Self::Missing,
            Some(mark) if mark == spec.mark() => Self::Same,
            Some(mark) if mark.split(':').next() == Some(FORMAT) => Self::Other,
            Some(_) => Self::OtherFormat,
        }
    }
}

/// The same value with the keys of every map in order.
fn sorted(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<_> =
                map.into_iter().map(|(key, value)| (key, sorted(value))).collect();
            entries.sort_by(|(a, _), (b, _)| a.cmp(b));
            Value::Object(entries.into_iter().collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(sorted).collect()),
        scalar @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) => scalar,
    }
}
