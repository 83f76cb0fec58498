//! `docker_image.present` and `docker_image.absent`.

use std::fmt;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::engine::{ContainerEngine, EngineError, Pull, in_words};
use super::platform::Platform;
use super::reference::ImageReference;
use crate::host::Host;
use crate::module::{Arguments, Failure, Outcome, StateModule};

/// `docker_image.present`.
///
/// *Condition:* the engine has the image; with `force`, the one that the registry has now. *Effect:* it
/// does. *Action:* pull it.
pub struct Present {
    reference: ImageReference,
    force: bool,
    platform: Option<Platform>,
    patience: Duration,
}

/// What engine and registry have under the image's name.
pub struct Sought {
    id: Option<String>,
    newest: Newest,
}

/// Whether the engine's image is the registry's; asked only for the sake of `force`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Newest {
    NotAsked,
    Same,
    Other,
    /// The registry does not say; a pull will.
    Unknown,
}

/// Pulling the image.
#[derive(Debug, Clone, PartialEq)]
pub struct PullStep(ImageReference);

impl fmt::Display for PullStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Image '{}' would be pulled", self.0)
    }
}

/// Pulls an image and says its id.
pub(super) async fn pull(
    engine: &dyn ContainerEngine,
    reference: &ImageReference,
    platform: Option<Platform>,
    patience: Duration,
) -> Result<String, EngineError> {
    let progress = |report: &super::engine::PullProgress| {
        tracing::debug!(image = %reference, layer = report.layer, bytes = ?report.bytes, "{}", report.status);
    };
    engine.pull(Pull { reference, platform, patience, progress: &progress }).await?;
    let pulled = engine.image(reference).await?.and_then(|image| image.id);
    pulled.ok_or_else(|| EngineError::Refused {
        attempt: format!("find image `{reference}` after it was pulled"),
        status: 404,
        message: "the engine does not have it".to_owned(),
    })
}

impl Present {
    async fn seek(&self, host: &Host, force: bool) -> Result<Sought, EngineError> {
        let engine = super::engine_of(host)?;
        let Some(image) = engine.image(&self.reference).await? else {
            return Ok(Sought { id: None, newest: Newest::NotAsked });
        };
        let newest = if !force {
            Newest::NotAsked
        } else {
            // A registry that does not answer here makes the pull fail, which says why.
            match engine.registry_digest(&self.reference).await {
                Ok(digest) => {
                    let known = image.repo_digests.unwrap_or_default();
                    if self.reference.has_digest(&known, &digest) {
                        Newest::Same
                    } else {
                        Newest::Other
                    }
                }
                Err(_) => Newest::Unknown,
            }
        };
        Ok(Sought { id: image.id, newest })
    }

    fn steps(&self, sought: &Sought) -> Vec<PullStep> {
        let stale = matches!(sought.newest, Newest::Other | Newest::Unknown);
        if sought.id.is_none() || stale {
            vec![PullStep(self.reference.clone())]
        } else {
            Vec::new()
        }
    }

    async fn bring(&self, host: &Host, old: Option<String>) -> Result<Outcome, EngineError> {
        let engine = super::engine_of(host)?;
        let new = pull(engine, &self.reference, self.platform, self.patience).await?;
        if old.as_ref() == Some(&new) {
            return Ok(Outcome::unchanged(self.newest_comment()));
        }
        let changes = Map::from_iter([("image".to_owned(), json!({"old": old, "new": new}))]);
        Ok(Outcome::changed(format!("Image '{}' was pulled", self.reference), changes))
    }

    fn newest_comment(&self) -> String {
        format!("Image '{}' was pulled, but there is no newer one", self.reference)
    }
}

impl StateModule for Present {
    type Observed = Sought;
    type Step = PullStep;

    fn parse(arguments: &mut Arguments<'_>) -> Self {
        let mut reference = super::reference(arguments, "name", arguments.name().to_owned());
        if let Some(tag) = arguments.string("tag") {
            match reference.with_tag(&tag) {
                Ok(tagged) => reference = tagged,
                Err(error) => arguments.error("tag", error.to_string(), None),
            }
        }
        let platform = arguments.string("platform").and_then(|machine| {
            let platform = Platform::of_machine(&machine);
            if platform.is_none() {
                let hint = "write it as registries do, such as `linux/arm/v7`".to_owned();
                arguments.error("platform", format!("`{machine}` is not a platform"), Some(hint));
            }
            platform
        });
        let hint = "push the image to a registry, and name it there";
        arguments.unsupported(
            &["build", "load", "dockerfile", "sls", "base", "saltenv", "pillarenv", "pillar"],
            hint,
        );
        let hint = "name it under `insecure-registries` in the engine's daemon.json";
        arguments.unsupported(&["insecure_registry"], hint);
        let force = arguments.bool("force", false);
        let patience = super::patience(arguments);
        Self { reference, force, platform, patience }
    }

    async fn observe(&self, host: &Host) -> Result<Sought, Failure> {
        Ok(self.seek(host, self.force).await?)
    }

    fn diff(&self, observed: &Sought) -> Result<Vec<PullStep>, Failure> {
        Ok(self.steps(observed))
    }

    async fn apply(&self, host: &Host, observed: Sought, _steps: Vec<PullStep>) -> Outcome {
        match self.bring(host, observed.id).await {
            Ok(outcome) => outcome,
            Err(error) => Outcome::failed(in_words(&error)),
        }
    }

    fn unchanged(&self, observed: &Sought) -> String {
        match observed.newest {
            Newest::Same => format!("Image '{}' is the registry's newest", self.reference),
            Newest::NotAsked | Newest::Other | Newest::Unknown => {
                format!("Image '{}' already present", self.reference)
            }
        }
    }

    fn foretell(&self, host: &Host, observed: &Sought) {
        if observed.newest == Newest::Other {
            host.foretell_image(&self.reference);
        }
    }

    async fn watched(&self, host: &Host, test: bool) -> Option<Outcome> {
        Some(match self.seek(host, true).await {
            Err(error) => Outcome::failed(in_words(&error)),
            Ok(sought) => {
                let steps = self.steps(&sought);
                match steps.is_empty() {
                    true => Outcome::unchanged(self.unchanged(&sought)),
                    false if test => {
                        self.foretell(host, &sought);
                        Outcome::would(self.would(&steps), Map::new())
                    }
                    false => self.apply(host, sought, steps).await,
                }
            }
        })
    }
}

/// `docker_image.absent`.
///
/// *Condition:* the engine has none of these images. *Effect:* it has none. *Action:* remove them.
pub struct Absent {
    images: Vec<ImageReference>,
    force: bool,
}

/// Removing one image.
#[derive(Debug, Clone, PartialEq)]
pub struct RemoveStep(ImageReference);

impl fmt::Display for RemoveStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Image '{}' would be removed", self.0)
    }
}

impl StateModule for Absent {
    type Observed = Vec<ImageReference>;
    type Step = RemoveStep;

    fn parse(arguments: &mut Arguments<'_>) -> Self {
        let names =
            arguments.strings("images").unwrap_or_else(|| vec![arguments.name().to_owned()]);
        let images =
            names.into_iter().map(|name| super::reference(arguments, "images", name)).collect();
        Self { images, force: arguments.bool("force", false) }
    }

    async fn observe(&self, host: &Host) -> Result<Vec<ImageReference>, Failure> {
        let engine = super::engine_of(host)?;
        let mut there = Vec::new();
        for image in &self.images {
            if engine.image(image).await?.is_some() {
                there.push(image.clone());
            }
        }
        Ok(there)
    }

    fn diff(&self, observed: &Vec<ImageReference>) -> Result<Vec<RemoveStep>, Failure> {
        Ok(observed.iter().cloned().map(RemoveStep).collect())
    }

    async fn apply(
        &self,
        host: &Host,
        _observed: Vec<ImageReference>,
        steps: Vec<RemoveStep>,
    ) -> Outcome {
        let mut removed: Vec<String> = Vec::new();
        let changes = |removed: &[String]| match removed {
            [] => Map::new(),
            removed => Map::from_iter([("removed".to_owned(), json!(removed))]),
        };
        for RemoveStep(image) in steps {
            let answer = match super::engine_of(host) {
                Ok(engine) => engine.remove_image(&image, self.force).await,
                Err(error) => Err(error),
            };
            if let Err(error) = answer {
                return Outcome::failed(in_words(&error)).with_changes(changes(&removed));
            }
            removed.push(image.to_string());
        }
        let comment = format!("Removed {}", removed.join(", "));
        Outcome::changed(comment, changes(&removed))
    }

    fn unchanged(&self, _observed: &Vec<ImageReference>) -> String {
        let names: Vec<String> = self.images.iter().map(|image| format!("'{image}'")).collect();
        format!("Image {} is not present", names.join(", "))
    }

    fn foretold(&self, _: &Vec<ImageReference>, steps: &[RemoveStep]) -> Map<String, Value> {
        let names: Vec<String> = steps.iter().map(|step| step.0.to_string()).collect();
        Map::from_iter([("removed".to_owned(), json!(names))])
    }
}

#[cfg(test)]
mod tests;
