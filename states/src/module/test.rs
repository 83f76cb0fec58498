//! `test.*`: states that change nothing on the device, for trying requisites and targets.

use std::fmt;

use serde_json::{Map, Value, json};

use super::{Arguments, Failure, Outcome, StateModule};
use crate::host::Host;

/// `test.nop`, `test.succeed_without_changes`, `test.fail_with_changes` and their kin.
///
/// *Condition:* none. *Effect:* none. *Action:* says that it did what its name says.
#[derive(Debug)]
pub struct Pretend<const CHANGES: bool, const RESULT: bool>(Configured);

/// `test.configurable_test_state`
#[derive(Debug)]
pub struct Configured {
    changes: bool,
    result: bool,
    comment: String,
}

/// What would be pretended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// A change.
    Change,
    /// A failure.
    Fail,
}

impl fmt::Display for Step {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Change => "This is a test: a change would be pretended",
            Self::Fail => "This is a test: a failure would be pretended",
        })
    }
}

impl StateModule for Configured {
    type Observed = ();
    type Step = Step;

    fn parse(arguments: &mut Arguments<'_>) -> Self {
        arguments.unsupported(&["warnings", "allow_test_mode_failure"], "");
        Self {
            changes: arguments.bool("changes", true),
            result: arguments.bool("result", true),
            comment: arguments.string("comment").unwrap_or_default(),
        }
    }

    async fn observe(&self, _host: &Host) -> Result<(), Failure> {
        Ok(())
    }

    fn diff(&self, (): &()) -> Result<Vec<Step>, Failure> {
        let change = self.changes.then_some(Step::Change);
        let fail = (!self.result).then_some(Step::Fail);
        Ok(change.into_iter().chain(fail).collect())
    }

    async fn apply(&self, _host: &Host, (): (), steps: Vec<Step>) -> Outcome {
        let changes = self.foretold(&(), &steps);
        Outcome { result: Some(self.result), changes, comment: self.comment.clone() }
    }

    fn unchanged(&self, (): &()) -> String {
        self.comment.clone()
    }

    fn foretold(&self, (): &(), steps: &[Step]) -> Map<String, Value> {
        let mut changes = Map::new();
        if steps.contains(&Step::Change) {
            let change = json!({"old": "Unchanged", "new": "Something pretended to change"});
            changes.insert("testing".to_owned(), change);
        }
        changes
    }

    async fn watched(&self, _host: &Host, _test: bool) -> Option<Outcome> {
        let mut changes = Map::new();
        changes.insert("watch".to_owned(), json!("a watched state has changed"));
        Some(Outcome::changed("Watch statement fired.", changes))
    }
}

impl<const CHANGES: bool, const RESULT: bool> StateModule for Pretend<CHANGES, RESULT> {
    type Observed = ();
    type Step = Step;

    fn parse(_arguments: &mut Arguments<'_>) -> Self {
        let comment = if RESULT { "Success!" } else { "Failure!" }.to_owned();
        Self(Configured { changes: CHANGES, result: RESULT, comment })
    }

    async fn observe(&self, _host: &Host) -> Result<(), Failure> {
        Ok(())
    }

    fn diff(&self, (): &()) -> Result<Vec<Step>, Failure> {
        self.0.diff(&())
    }

    async fn apply(&self, host: &Host, (): (), steps: Vec<Step>) -> Outcome {
        self.0.apply(host, (), steps).await
    }

    fn unchanged(&self, (): &()) -> String {
        self.0.unchanged(&())
    }

    fn foretold(&self, (): &(), steps: &[Step]) -> Map<String, Value> {
        self.0.foretold(&(), steps)
    }

    async fn watched(&self, host: &Host, test: bool) -> Option<Outcome> {
        self.0.watched(host, test).await
    }
}

/// `test.show_notification`: a sentence in the return.
#[derive(Debug)]
pub struct Notification(String);

impl StateModule for Notification {
    type Observed = ();
    type Step = Step;

    fn parse(arguments: &mut Arguments<'_>) -> Self {
        Self(arguments.required_string("text"))
    }

    async fn observe(&self, _host: &Host) -> Result<(), Failure> {
        Ok(())
    }

    fn diff(&self, (): &()) -> Result<Vec<Step>, Failure> {
        Ok(Vec::new())
    }

    async fn apply(&self, _host: &Host, (): (), _steps: Vec<Step>) -> Outcome {
        Outcome::unchanged(self.0.clone())
    }

    fn unchanged(&self, (): &()) -> String {
        self.0.clone()
    }
}
