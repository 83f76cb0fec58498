//! How a state ended, in the terms of Salt's return. A failed state is an outcome, not an error.

use serde_json::{Map, Value};

use crate::accounts::AccountError;

/// What a state module reports.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// `true` succeeded, `false` failed, `None` would change (a dry run).
    pub result: Option<bool>,
    /// What changed; empty when nothing did.
    pub changes: Map<String, Value>,
    /// What the operator reads.
    pub comment: String,
}

impl Outcome {
    /// Nothing was to be done.
    #[must_use]
    pub fn unchanged(comment: impl Into<String>) -> Self {
        Self { result: Some(true), changes: Map::new(), comment: comment.into() }
    }

    /// It was changed.
    #[must_use]
    pub fn changed(comment: impl Into<String>, changes: Map<String, Value>) -> Self {
        Self { result: Some(true), changes, comment: comment.into() }
    }

    /// It would be changed, were this not a dry run.
    #[must_use]
    pub fn would(comment: impl Into<String>, changes: Map<String, Value>) -> Self {
        Self { result: None, changes, comment: comment.into() }
    }

    /// It failed, and nothing was changed.
    #[must_use]
    pub fn failed(comment: impl Into<String>) -> Self {
        Self { result: Some(false), changes: Map::new(), comment: comment.into() }
    }

    /// The same, with changes that were made before it failed.
    #[must_use]
    pub fn with_changes(mut self, changes: Map<String, Value>) -> Self {
        self.changes = changes;
        self
    }
}

/// Why a state could not be observed or reached; becomes the comment of a failed state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Failure(String);

impl Failure {
    /// A failure with the sentence that the operator reads.
    #[must_use]
    pub fn new(comment: impl Into<String>) -> Self {
        Self(comment.into())
    }
}

impl From<AccountError> for Failure {
    fn from(error: AccountError) -> Self {
        Self(match &error {
            AccountError::UnknownUser(_) | AccountError::UnknownGroup(_) => error.to_string(),
            AccountError::Unreadable { source, .. } => format!("{error}: {source}"),
        })
    }
}

impl From<Failure> for Outcome {
    fn from(failure: Failure) -> Self {
        Self::failed(failure.0)
    }
}
