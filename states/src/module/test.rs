//! `test.*`: states that change nothing on the device, for trying requisites and targets.

use std::convert::Infallible;

use serde_json::{Map, Value};

use super::{Arguments, Failure, Outcome, StateModule};
use crate::host::Host;

/// `test.nop` and `test.succeed_without_changes`.
///
/// *Condition:* none. *Effect:* none. *Action:* none.
pub struct Nop;

impl StateModule for Nop {
    type Observed = ();
    type Step = Infallible;

    fn parse(_arguments: &mut Arguments<'_>) -> Self {
        Self
    }

    async fn observe(&self, _host: &Host) -> Result<(), Failure> {
        Ok(())
    }

    fn diff(&self, (): &()) -> Result<Vec<Infallible>, Failure> {
        Ok(Vec::new())
    }

    async fn apply(&self, _host: &Host, (): (), _steps: Vec<Infallible>) -> Outcome {
        Outcome::unchanged(self.unchanged(&()))
    }

    fn unchanged(&self, (): &()) -> String {
        "Success!".to_owned()
    }

    fn foretold(&self, (): &(), _steps: &[Infallible]) -> Map<String, Value> {
        Map::new()
    }
}
