//! `docker_container.running`: a container made as its state says runs under its name.

use std::fmt;
use std::time::Duration;

use bollard::models::{ContainerInspectResponse, ContainerState};
use serde_json::{Map, Value, json};

use super::compare::{Difference, as_changes, differences};
use super::reference::ImageReference;
use super::spec::ContainerSpec;
use super::swap::{Place, Standing, SwapError};
use super::{engine, image, settle};
use crate::host::Host;
use crate::module::{Arguments, Failure, Outcome, StateModule};

/// `docker_container.running`.
///
/// *Condition:* a container of this name was made from this image and these options, and runs.
/// *Effect:* one does. *Action:* pull the image if the engine lacks it; make the container, or put a new
/// one in the place of the old one, which comes back if the new one does not come up.
pub struct Running {
    name: String,
    spec: ContainerSpec,
    start: bool,
    force: bool,
    on_watch: OnWatch,
    grace: Option<Duration>,
    settle: Duration,
    patience: Duration,
}

/// What happens when a state that this one watches has changed.
enum OnWatch {
    Restart,
    Replace,
    Signal(String),
}

/// What there is of the container and its image.
pub struct Observed {
    standing: Standing,
    image: Option<String>,
    /// A dry run's earlier state would have pulled a newer one.
    is_newer_foretold: bool,
}

/// One step towards the container that is wanted.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    name: String,
    act: Act,
}

#[derive(Debug, Clone, PartialEq)]
enum Act {
    Pull(ImageReference),
    Discard,
    PutBack,
    Prove,
    Create,
    Replace(Vec<Difference>),
    Start,
    Unpause,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.name;
        match &self.act {
            Act::Pull(image) => write!(f, "Image '{image}' would be pulled"),
            Act::Discard => {
                write!(f, "Container '{name}' left a half-made successor: it would be removed")
            }
            Act::PutBack => {
                write!(f, "Container '{name}' was being replaced: the one before would be put back")
            }
            Act::Prove => {
                write!(f, "Container '{name}' was being replaced: the new one would be proven")
            }
            Act::Create => write!(f, "Container '{name}' would be created"),
            Act::Replace(differences) => {
                write!(f, "Container '{name}' would be replaced")?;
                for (index, difference) in differences.iter().enumerate() {
                    write!(f, "{}{difference}", if index == 0 { ": " } else { "; " })?;
                }
                Ok(())
            }
            Act::Start => write!(f, "Container '{name}' would be started"),
            Act::Unpause => write!(f, "Container '{name}' would be unpaused"),
        }
    }
}

impl Running {
    fn place<'a>(&'a self, host: &'a Host) -> Result<Place<'a>, engine::EngineError> {
        Ok(Place {
            engine: super::engine_of(host)?,
            name: &self.name,
            start: self.start,
            grace: self.grace,
            settle: self.settle,
        })
    }

    fn step(&self, act: Act) -> Step {
        Step { name: self.name.clone(), act }
    }

    /// The steps that mend a replacement that was cut short, and the container that is there then.
    fn repair<'o>(
        &self,
        observed: &'o Observed,
    ) -> (Vec<Step>, Option<&'o ContainerInspectResponse>) {
        let Standing { current, previous, next } = &observed.standing;
        let mut steps = Vec::new();
        if next.is_some() {
            steps.push(self.step(Act::Discard));
        }
        match (current, previous) {
            (current, None) => (steps, current.as_deref()),
            (Some(current), Some(_)) if self.differences(observed, current).is_empty() => {
                steps.push(self.step(Act::Prove));
                (steps, Some(current))
            }
            // Nobody knows whether the present one would have come up; the one before did.
            (_, Some(previous)) => {
                steps.push(self.step(Act::PutBack));
                (steps, Some(previous))
            }
        }
    }

    fn differences(
        &self,
        observed: &Observed,
        container: &ContainerInspectResponse,
    ) -> Vec<Difference> {
        let mut found = differences(&self.spec, observed.image.as_deref(), container);
        if observed.is_newer_foretold {
            found.push(Difference::NewerImage);
        }
        found
    }

    fn steps(&self, observed: &Observed, force: bool) -> Vec<Step> {
        let (mut steps, container) = self.repair(observed);
        if observed.image.is_none() {
            steps.push(self.step(Act::Pull(self.spec.image.clone())));
        }
        let Some(container) = container else {
            steps.push(self.step(Act::Create));
            steps.extend(self.start.then(|| self.step(Act::Start)));
            return steps;
        };
        let proven = steps.iter().any(|step| step.act == Act::Prove);
        let differences = self.differences(observed, container);
        let state = container.state.as_ref();
        if !differences.is_empty() || force {
            steps.push(self.step(Act::Replace(differences)));
        } else if self.start && !proven && !runs(state) {
            steps.push(self.step(Act::Start));
        } else if self.start && state.is_some_and(|state| state.paused == Some(true)) {
            steps.push(self.step(Act::Unpause));
        }
        steps
    }

    async fn carry_out(
        &self,
        host: &Host,
        observed: Observed,
        steps: Vec<Step>,
        force: bool,
    ) -> Outcome {
        let mut report = Report::default();
        match self.carry_out_each(host, observed, steps, force, &mut report).await {
            Ok(()) => Outcome::changed(report.comment(), report.changes),
            Err(error) => {
                report.comments.push(error.to_string());
                Outcome::failed(report.comment()).with_changes(report.changes)
            }
        }
    }

    async fn carry_out_each(
        &self,
        host: &Host,
        mut observed: Observed,
        steps: Vec<Step>,
        force: bool,
        report: &mut Report,
    ) -> Result<(), SwapError> {
        let place = self.place(host)?;
        let mut steps = std::collections::VecDeque::from(steps);
        while let Some(Step { act, .. }) = steps.pop_front() {
            match act {
                Act::Pull(reference) => {
                    let id = image::pull(place.engine, &reference, None, self.patience).await?;
                    report.change("image", json!({"old": null, "new": id}));
                    report.comments.push(format!("Image '{reference}' was pulled"));
                    // What there is to do beside it depends on what has come.
                    observed.image = Some(id);
                    observed.standing = Standing::observe(place.engine, &self.name).await?;
                    steps = self.steps(&observed, force).into();
                }
                Act::Discard => place.engine.remove(&super::swap::next_name(&self.name)).await?,
                Act::PutBack => {
                    place.restore().await?;
                    report.comments.push(format!(
                        "A replacement of '{}' had been cut short; the container before was put back",
                        self.name
                    ));
                    report.change("put_back", json!(true));
                    observed.standing = Standing::observe(place.engine, &self.name).await?;
                }
                Act::Prove => {
                    place.prove_or_put_back().await?;
                    report.comments.push(format!("Replaced container '{}'", self.name));
                    report.change("replaced", json!(true));
                }
                Act::Create => {
                    let created = place.engine.create(&self.name, self.spec.marked_body()).await?;
                    report.created(&created, None);
                    report.comments.push(format!("Created container '{}'", self.name));
                }
                Act::Replace(differences) => {
                    let old = observed.standing.current.as_ref();
                    let old_image = old.and_then(|old| old.image.clone());
                    let old_id = old.and_then(|old| old.id.clone());
                    let created = place.replace(&self.spec).await?;
                    report.created(&created, old_id);
                    if old_image != observed.image {
                        report.change("image", json!({"old": old_image, "new": observed.image}));
                    }
                    let changes = as_changes(&differences);
                    if !changes.is_empty() {
                        report.change("container", Value::Object(changes));
                    }
                    report.comments.push(format!("Replaced container '{}'", self.name));
                }
                Act::Start => {
                    let old = word(observed.standing.current.as_deref());
                    // The container stays as it is when it does not come up: its log tells why.
                    place.prove().await?;
                    report.change("state", json!({"old": old, "new": "running"}));
                    if let Some(old) = old {
                        report.comments.push(format!("State changed from '{old}' to 'running'"));
                    }
                }
                Act::Unpause => {
                    place.engine.unpause(&self.name).await?;
                    report.change("state", json!({"old": "paused", "new": "running"}));
                    report.comments.push("State changed from 'paused' to 'running'".to_owned());
                }
            }
        }
        Ok(())
    }

    async fn restart(&self, host: &Host) -> Result<(), SwapError> {
        let place = self.place(host)?;
        place.engine.restart(&self.name, self.grace).await?;
        place.prove().await
    }
}

/// What was done, as it is done.
#[derive(Default)]
struct Report {
    changes: Map<String, Value>,
    comments: Vec<String>,
}

impl Report {
    fn change(&mut self, key: &str, change: Value) {
        self.changes.insert(key.to_owned(), change);
    }

    fn created(&mut self, created: &engine::Created, removed: Option<String>) {
        let mut ids = Map::from_iter([("added".to_owned(), json!(created.id))]);
        if let Some(removed) = removed {
            ids.insert("removed".to_owned(), json!(removed));
        }
        self.change("container_id", Value::Object(ids));
        self.comments.extend(created.warnings.iter().map(|w| format!("The engine warns: {w}")));
    }

    fn comment(&self) -> String {
        self.comments.join("\n")
    }
}

/// A container that crashes over and over does not run, whatever it does at the moment.
fn runs(state: Option<&ContainerState>) -> bool {
    state.is_some_and(|state| state.running == Some(true) && state.restarting != Some(true))
}

/// A container's condition in Salt's word; `None` when there is no container.
pub(super) fn word(container: Option<&ContainerInspectResponse>) -> Option<&'static str> {
    let state = container?.state.as_ref();
    Some(match state {
        Some(state) if state.paused == Some(true) => "paused",
        state if runs(state) => "running",
        _ => "stopped",
    })
}

impl StateModule for Running {
    type Observed = Observed;
    type Step = Step;

    fn parse(arguments: &mut Arguments<'_>) -> Self {
        let name = super::container_name(arguments);
        let spec = ContainerSpec::parse(arguments);
        let on_watch = match arguments.string("watch_action") {
            None => OnWatch::Restart,
            Some(action) if action == "force" => OnWatch::Replace,
            Some(signal) => OnWatch::Signal(signal),
        };
        Self {
            name,
            spec,
            start: arguments.bool("start", true),
            force: arguments.bool("force", false),
            on_watch,
            grace: super::grace(arguments),
            settle: super::seconds(arguments, "settle").unwrap_or(settle::DEFAULT),
            patience: super::patience(arguments),
        }
    }

    async fn observe(&self, host: &Host) -> Result<Observed, Failure> {
        let engine = super::engine_of(host)?;
        let image = engine.image(&self.spec.image).await?;
        let standing = Standing::observe(engine, &self.name).await?;
        Ok(Observed {
            standing,
            image: image.and_then(|image| image.id),
            is_newer_foretold: host.is_image_foretold(&self.spec.image),
        })
    }

    fn diff(&self, observed: &Observed) -> Result<Vec<Step>, Failure> {
        Ok(self.steps(observed, self.force))
    }

    async fn apply(&self, host: &Host, observed: Observed, steps: Vec<Step>) -> Outcome {
        self.carry_out(host, observed, steps, self.force).await
    }

    fn unchanged(&self, _observed: &Observed) -> String {
        format!("Container '{}' is already configured as specified", self.name)
    }

    fn foretold(&self, _observed: &Observed, steps: &[Step]) -> Map<String, Value> {
        let mut changes = Map::new();
        for step in steps {
            if let Act::Replace(differences) = &step.act {
                changes.insert("container".to_owned(), Value::Object(as_changes(differences)));
            }
        }
        changes
    }

    async fn watched(&self, host: &Host, test: bool) -> Option<Outcome> {
        let name = &self.name;
        if test {
            let what = match &self.on_watch {
                OnWatch::Restart => format!("Container '{name}' would be restarted"),
                OnWatch::Replace => format!("Container '{name}' would be replaced"),
                OnWatch::Signal(signal) => format!("Container '{name}' would be sent {signal}"),
            };
            return Some(Outcome::would(what, Map::new()));
        }
        let (result, change, done) = match &self.on_watch {
            OnWatch::Replace => {
                return Some(match self.observe(host).await {
                    Ok(observed) => {
                        let steps = self.steps(&observed, true);
                        self.carry_out(host, observed, steps, true).await
                    }
                    Err(failure) => failure.into(),
                });
            }
            OnWatch::Restart => (
                self.restart(host).await.map_err(|error| error.to_string()),
                ("restarted", json!(true)),
                format!("Restarted container '{name}'"),
            ),
            OnWatch::Signal(signal) => (
                match super::engine_of(host) {
                    Ok(engine) => engine.signal(name, signal).await,
                    Err(error) => Err(error),
                }
                .map_err(|error| engine::in_words(&error)),
                ("signal", json!(signal)),
                format!("Sent {signal} to container '{name}'"),
            ),
        };
        Some(match result {
            Ok(()) => Outcome::changed(done, Map::from_iter([(change.0.to_owned(), change.1)])),
            Err(comment) => Outcome::failed(comment),
        })
    }
}

#[cfg(test)]
mod tests;
