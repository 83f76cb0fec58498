//! An engine in memory, for tests: it keeps containers as an engine does, and the agent that asks it
//! can be made to die before any of its calls takes effect.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use bollard::models::{
    ContainerCreateBody, ContainerInspectResponse, ContainerSummary, ImageInspect,
};
use futures_util::future::FutureExt;
use serde_json::{Value, json};

use super::{Answer, ContainerEngine, Created, EngineError, Pull};
use crate::docker::reference::ImageReference;

/// What a container made from an image does when it is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Conduct {
    StaysUp,
    Exits(i64),
}

#[derive(Debug, Clone)]
pub(crate) struct Kept {
    pub(crate) id: String,
    pub(crate) image_id: String,
    pub(crate) body: Box<ContainerCreateBody>,
    pub(crate) running: bool,
    pub(crate) paused: bool,
    exit: i64,
    starts: u32,
}

#[derive(Default)]
pub(crate) struct World {
    /// What the registry has: an image's id under its name.
    pub(crate) registry: BTreeMap<String, String>,
    pub(crate) images: BTreeMap<String, String>,
    /// By the image's id; what is not named stays up.
    pub(crate) conduct: BTreeMap<String, Conduct>,
    pub(crate) containers: BTreeMap<String, Kept>,
    /// How many calls that change something are still answered; then the agent hangs until it is
    /// killed. `None` for all.
    pub(crate) calls_left: Option<usize>,
    /// What was asked, for tests that count.
    pub(crate) calls: Vec<String>,
    made: u32,
}

#[derive(Default)]
pub(crate) struct MemoryEngine {
    world: Mutex<World>,
}

impl MemoryEngine {
    pub(crate) fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    /// Carries out a call that changes something, unless the agent dies before it.
    fn change<'a, T: Send + 'a>(
        &'a self,
        attempt: String,
        change: impl FnOnce(&mut World) -> Result<T, String> + Send + 'a,
    ) -> Answer<'a, T> {
        async move {
            if self.world().calls_left == Some(0) {
                std::future::pending::<()>().await;
            }
            let mut world = self.world();
            world.calls_left = world.calls_left.map(|left| left - 1);
            world.calls.push(attempt.clone());
            change(&mut world).map_err(|message| EngineError::Refused {
                attempt,
                status: 409,
                message,
            })
        }
        .boxed()
    }

    fn change_one<'a>(
        &'a self,
        verb: &str,
        name: &'a str,
        change: impl FnOnce(&mut Kept, Conduct) + Send + 'a,
    ) -> Answer<'a, ()> {
        self.change(format!("{verb} {name}"), move |world| {
            let kept = world.containers.get_mut(name).ok_or("no such container")?;
            let conduct = world.conduct.get(&kept.image_id).copied().unwrap_or(Conduct::StaysUp);
            change(kept, conduct);
            Ok(())
        })
    }
}

fn start(kept: &mut Kept, conduct: Conduct) {
    if kept.running {
        return;
    }
    kept.starts += 1;
    match conduct {
        Conduct::StaysUp => kept.running = true,
        Conduct::Exits(status) => kept.exit = status,
    }
}

fn inspection(name: &str, kept: &Kept) -> ContainerInspectResponse {
    let mut config = serde_json::to_value(&kept.body).unwrap();
    let host = config.as_object_mut().unwrap().remove("HostConfig").unwrap_or(Value::Null);
    let status = if kept.running { "running" } else { "exited" };
    serde_json::from_value(json!({
        "Id": kept.id, "Name": format!("/{name}"), "Image": kept.image_id,
        "Config": config, "HostConfig": host, "RestartCount": 0,
        "State": {"Status": status, "Running": kept.running, "Paused": kept.paused,
            "ExitCode": kept.exit, "StartedAt": kept.starts.to_string()},
    }))
    .unwrap()
}

impl ContainerEngine for MemoryEngine {
    fn image<'a>(&'a self, reference: &'a ImageReference) -> Answer<'a, Option<ImageInspect>> {
        let id = self.world().images.get(&reference.to_string()).cloned();
        let image = id.map(|id| ImageInspect {
            repo_digests: Some(vec![format!("{}@digest-of-{id}", reference.repository())]),
            id: Some(id),
            ..ImageInspect::default()
        });
        std::future::ready(Ok(image)).boxed()
    }

    fn registry_digest<'a>(&'a self, reference: &'a ImageReference) -> Answer<'a, String> {
        let id = self.world().registry.get(&reference.to_string()).cloned();
        let digest = id.map(|id| format!("digest-of-{id}")).ok_or_else(|| EngineError::Refused {
            attempt: format!("ask the registry for `{reference}`"),
            status: 404,
            message: "manifest unknown".to_owned(),
        });
        std::future::ready(digest).boxed()
    }

    fn pull<'a>(&'a self, pull: Pull<'a>) -> Answer<'a, ()> {
        let name = pull.reference.to_string();
        self.change(format!("pull {name}"), move |world| {
            let id = world.registry.get(&name).ok_or("manifest unknown")?.clone();
            world.images.insert(name, id);
            Ok(())
        })
    }

    fn remove_image<'a>(&'a self, reference: &'a ImageReference, _force: bool) -> Answer<'a, ()> {
        self.change(format!("remove image {reference}"), move |world| {
            world.images.remove(&reference.to_string());
            Ok(())
        })
    }

    fn container<'a>(&'a self, name: &'a str) -> Answer<'a, Option<Box<ContainerInspectResponse>>> {
        let found = self.world().containers.get(name).map(|kept| Box::new(inspection(name, kept)));
        std::future::ready(Ok(found)).boxed()
    }

    fn containers(&self, _all: bool) -> Answer<'_, Vec<ContainerSummary>> {
        std::future::ready(Ok(Vec::new())).boxed()
    }

    fn create<'a>(&'a self, name: &'a str, body: Box<ContainerCreateBody>) -> Answer<'a, Created> {
        self.change(format!("create {name}"), move |world| {
            if world.containers.contains_key(name) {
                return Err(format!("the name {name} is in use"));
            }
            let image = body.image.clone().unwrap_or_default();
            let image_id = world.images.get(&image).ok_or("no such image")?.clone();
            world.made += 1;
            let id = format!("container-{}", world.made);
            let kept = Kept {
                id: id.clone(),
                image_id,
                body,
                running: false,
                paused: false,
                exit: 0,
                starts: 0,
            };
            world.containers.insert(name.to_owned(), kept);
            Ok(Created { id, warnings: Vec::new() })
        })
    }

    fn start<'a>(&'a self, name: &'a str) -> Answer<'a, ()> {
        self.change_one("start", name, start)
    }

    fn stop<'a>(&'a self, name: &'a str, _grace: Option<Duration>) -> Answer<'a, ()> {
        self.change_one("stop", name, |kept, _| kept.running = false)
    }

    fn restart<'a>(&'a self, name: &'a str, _grace: Option<Duration>) -> Answer<'a, ()> {
        self.change_one("restart", name, |kept, conduct| {
            kept.running = false;
            start(kept, conduct);
        })
    }

    fn signal<'a>(&'a self, name: &'a str, signal: &'a str) -> Answer<'a, ()> {
        self.change_one(&format!("signal {signal}"), name, |_, _| ())
    }

    fn unpause<'a>(&'a self, name: &'a str) -> Answer<'a, ()> {
        self.change_one("unpause", name, |kept, _| kept.paused = false)
    }

    fn rename<'a>(&'a self, from: &'a str, to: &'a str) -> Answer<'a, ()> {
        self.change(format!("rename {from} {to}"), move |world| {
            if world.containers.contains_key(to) {
                return Err(format!("the name {to} is in use"));
            }
            let kept = world.containers.remove(from).ok_or("no such container")?;
            world.containers.insert(to.to_owned(), kept);
            Ok(())
        })
    }

    fn remove<'a>(&'a self, name: &'a str) -> Answer<'a, ()> {
        self.change(format!("remove {name}"), move |world| {
            world.containers.remove(name);
            Ok(())
        })
    }

    fn logs<'a>(&'a self, name: &'a str, _lines: usize) -> Answer<'a, String> {
        std::future::ready(Ok(format!("last words of {name}\n"))).boxed()
    }
}
