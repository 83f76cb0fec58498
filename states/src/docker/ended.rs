//! `docker_container.stopped` and `docker_container.absent`.

use std::fmt;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::engine::{ContainerEngine, EngineError, in_words};
use super::running::word;
use super::swap::{next_name, previous_name};
use crate::host::Host;
use crate::module::{Arguments, Failure, Outcome, StateModule};

/// `docker_container.stopped`.
///
/// *Condition:* these containers do not run. *Effect:* they do not. *Action:* stop them.
pub struct Stopped {
    names: Vec<String>,
    grace: Option<Duration>,
    unpause: bool,
    error_on_absent: bool,
}

/// The condition of each container: `running`, `paused`, `stopped`, or `None` when it is not there.
type Conditions = Vec<(String, Option<&'static str>)>;

/// Stopping one container.
#[derive(Debug, Clone, PartialEq)]
pub struct StopStep {
    name: String,
    old: &'static str,
}

impl fmt::Display for StopStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Container '{}' would be stopped", self.name)
    }
}

async fn conditions(
    engine: &dyn ContainerEngine,
    names: impl IntoIterator<Item = String>,
) -> Result<Conditions, EngineError> {
    let mut conditions = Vec::new();
    for name in names {
        let condition = word(engine.container(&name).await?.as_deref());
        conditions.push((name, condition));
    }
    Ok(conditions)
}

impl StateModule for Stopped {
    type Observed = Conditions;
    type Step = StopStep;

    fn parse(arguments: &mut Arguments<'_>) -> Self {
        let names = match arguments.strings("containers") {
            Some(names) => names,
            None => vec![super::container_name(arguments)],
        };
        Self {
            names,
            grace: super::grace(arguments),
            unpause: arguments.bool("unpause", false),
            error_on_absent: arguments.bool("error_on_absent", true),
        }
    }

    async fn observe(&self, host: &Host) -> Result<Conditions, Failure> {
        Ok(conditions(super::engine_of(host)?, self.names.clone()).await?)
    }

    fn diff(&self, observed: &Conditions) -> Result<Vec<StopStep>, Failure> {
        let mut steps = Vec::new();
        for (name, condition) in observed {
            match condition {
                None if self.error_on_absent => {
                    return Err(Failure::new(format!("Container '{name}' does not exist")));
                }
                Some("paused") if !self.unpause => {
                    return Err(Failure::new(format!(
                        "Container '{name}' is paused\nhint: `unpause: True` lets it end"
                    )));
                }
                None | Some("stopped") => {}
                Some(old) => steps.push(StopStep { name: name.clone(), old }),
            }
        }
        Ok(steps)
    }

    async fn apply(&self, host: &Host, _observed: Conditions, steps: Vec<StopStep>) -> Outcome {
        let mut changes = Map::new();
        for StopStep { name, old } in steps {
            if let Err(error) = self.stop(host, &name, old).await {
                return Outcome::failed(in_words(&error)).with_changes(changes);
            }
            changes.insert(name, json!({"old": old, "new": "stopped"}));
        }
        let names: Vec<String> = changes.keys().map(|name| format!("'{name}'")).collect();
        Outcome::changed(format!("Stopped container {}", names.join(", ")), changes)
    }

    fn unchanged(&self, _observed: &Conditions) -> String {
        let names: Vec<String> = self.names.iter().map(|name| format!("'{name}'")).collect();
        format!("Container {} is stopped already", names.join(", "))
    }
}

impl Stopped {
    async fn stop(&self, host: &Host, name: &str, old: &str) -> Result<(), EngineError> {
        let engine = super::engine_of(host)?;
        if old == "paused" {
            engine.unpause(name).await?;
        }
        engine.stop(name, self.grace).await
    }
}

/// `docker_container.absent`.
///
/// *Condition:* there is no such container, nor what a replacement that was cut short left beside it.
/// *Effect:* there is none. *Action:* remove it, with its anonymous volumes.
pub struct Absent {
    name: String,
    force: bool,
    grace: Option<Duration>,
}

/// Removing one container.
#[derive(Debug, Clone, PartialEq)]
pub struct RemoveStep {
    name: String,
    stop: bool,
}

impl fmt::Display for RemoveStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let act = if self.stop { "stopped and removed" } else { "removed" };
        write!(f, "Container '{}' would be {act}", self.name)
    }
}

impl StateModule for Absent {
    type Observed = Conditions;
    type Step = RemoveStep;

    fn parse(arguments: &mut Arguments<'_>) -> Self {
        Self {
            name: super::container_name(arguments),
            force: arguments.bool("force", false),
            grace: super::grace(arguments),
        }
    }

    async fn observe(&self, host: &Host) -> Result<Conditions, Failure> {
        let names = [self.name.clone(), next_name(&self.name), previous_name(&self.name)];
        Ok(conditions(super::engine_of(host)?, names).await?)
    }

    fn diff(&self, observed: &Conditions) -> Result<Vec<RemoveStep>, Failure> {
        let mut steps = Vec::new();
        for (name, condition) in observed {
            let Some(condition) = condition else { continue };
            let stop = *condition != "stopped";
            if stop && !self.force && *name == self.name {
                return Err(Failure::new(format!(
                    "Container '{name}' is {condition}\nhint: `force: True` stops and removes it"
                )));
            }
            steps.push(RemoveStep { name: name.clone(), stop });
        }
        Ok(steps)
    }

    async fn apply(&self, host: &Host, _observed: Conditions, steps: Vec<RemoveStep>) -> Outcome {
        let mut removed: Vec<String> = Vec::new();
        let changes = |removed: &[String]| match removed {
            [] => Map::new(),
            removed => Map::from_iter([("removed".to_owned(), json!(removed))]),
        };
        for step in steps {
            if let Err(error) = self.remove(host, &step).await {
                return Outcome::failed(in_words(&error)).with_changes(changes(&removed));
            }
            removed.push(step.name);
        }
        Outcome::changed(format!("Removed container '{}'", self.name), changes(&removed))
    }

    fn unchanged(&self, _observed: &Conditions) -> String {
        format!("Container '{}' does not exist", self.name)
    }

    fn foretold(&self, _observed: &Conditions, steps: &[RemoveStep]) -> Map<String, Value> {
        let names: Vec<&str> = steps.iter().map(|step| step.name.as_str()).collect();
        Map::from_iter([("removed".to_owned(), json!(names))])
    }
}

impl Absent {
    async fn remove(&self, host: &Host, step: &RemoveStep) -> Result<(), EngineError> {
        let engine = super::engine_of(host)?;
        if step.stop {
            // It may end in its own way first.
            engine.stop(&step.name, self.grace).await?;
        }
        engine.remove(&step.name).await
    }
}
