use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::Running;
use crate::docker::ImagePresent;
use crate::docker::engine::memory::{Conduct, MemoryEngine};
use crate::files::memory::MemoryFiles;
use crate::host::Host;
use crate::module::{Arguments, Outcome, StateModule, run};

/// A device with an engine in memory; its registry has `app:1`, `app:2` and `app:bad`.
struct Device {
    engine: Arc<MemoryEngine>,
    host: Host,
}

impl Device {
    fn new() -> Self {
        let engine = Arc::new(MemoryEngine::default());
        for (name, id) in [("app:1", "id-1"), ("app:2", "id-2"), ("app:bad", "id-bad")] {
            engine.world().registry.insert(name.to_owned(), id.to_owned());
        }
        engine.world().conduct.insert("id-bad".to_owned(), Conduct::Exits(3));
        let host = Host::new(MemoryFiles::new(&[]), Map::new(), Map::new());
        let host = host.with_engine(Arc::clone(&engine) as _);
        Self { engine, host }
    }

    async fn apply(&self, values: Value) -> Outcome {
        self.run(values, false).await
    }

    async fn run(&self, values: Value, test: bool) -> Outcome {
        run(&state(values), &self.host, test).await
    }

    /// What stands there: name, image and whether it runs.
    fn standing(&self) -> Vec<String> {
        let world = self.engine.world();
        let containers = world.containers.iter().map(|(name, kept)| {
            format!("{name} {} {}", kept.image_id, if kept.running { "up" } else { "down" })
        });
        containers.collect()
    }
}

fn state(values: Value) -> Running {
    let mut arguments = Arguments::new("rfid", values.as_object().unwrap());
    let state = Running::parse(&mut arguments);
    let errors = arguments.finish("docker_container.running", &[]);
    assert!(errors.is_empty(), "{errors:?}");
    state
}

#[tokio::test(start_paused = true)]
async fn container_is_made_from_an_image_that_is_pulled_first() {
    let device = Device::new();
    let outcome = device.apply(json!({"image": "app:1"})).await;
    assert_eq!(outcome.result, Some(true));
    assert_eq!(outcome.comment, "Image 'app:1' was pulled\nCreated container 'rfid'");
    assert_eq!(
        Value::Object(outcome.changes),
        json!({
            "image": {"old": null, "new": "id-1"},
            "container_id": {"added": "container-1"},
            "state": {"old": null, "new": "running"},
        })
    );
    assert_eq!(device.standing(), ["rfid id-1 up"]);
}

#[tokio::test(start_paused = true)]
async fn second_apply_changes_nothing() {
    let device = Device::new();
    let values = json!({"image": "app:1", "environment": {"A": 1}, "restart_policy": "always"});
    device.apply(values.clone()).await;
    let calls = device.engine.world().calls.len();
    let outcome = device.apply(values).await;
    assert_eq!(outcome, Outcome::unchanged("Container 'rfid' is already configured as specified"));
    assert_eq!(device.engine.world().calls.len(), calls);
}

#[tokio::test(start_paused = true)]
async fn dry_run_tells_and_touches_nothing() {
    let device = Device::new();
    let outcome = device.run(json!({"image": "app:1"}), true).await;
    assert_eq!(outcome.result, None);
    insta::assert_snapshot!(outcome.comment, @r"
    Image 'app:1' would be pulled
    Container 'rfid' would be created
    Container 'rfid' would be started
    ");
    assert_eq!(device.engine.world().calls.len(), 0);

    device.apply(json!({"image": "app:1"})).await;
    let calls = device.engine.world().calls.len();
    let outcome = device.run(json!({"image": "app:1", "command": "b"}), true).await;
    assert_eq!(outcome.comment, r#"Container 'rfid' would be replaced: Cmd is to be ["b"]"#);
    assert_eq!(
        Value::Object(outcome.changes),
        json!({"container": {"Config": {"Cmd": {"old": null, "new": ["b"]}}}})
    );
    assert_eq!(device.engine.world().calls.len(), calls);
}

#[tokio::test(start_paused = true)]
async fn dry_run_foretells_a_replacement_by_an_image_that_would_be_pulled_before() {
    let device = Device::new();
    device.apply(json!({"image": "app:1"})).await;
    device.engine.world().registry.insert("app:1".to_owned(), "id-3".to_owned());
    let values = json!({"force": true});
    let mut arguments = Arguments::new("app:1", values.as_object().unwrap());
    let image = ImagePresent::parse(&mut arguments);
    assert_eq!(run(&image, &device.host, true).await.result, None);

    let told = device.run(json!({"image": "app:1"}), true).await;
    assert_eq!(told.result, None);
    assert_eq!(told.comment, "Container 'rfid' would be replaced: its image would be a newer one");
    // Another image's container stays as it is.
    let other = device.run(json!({"image": "app:2"}), true).await;
    assert!(!other.comment.contains("newer"), "{}", other.comment);
}

#[tokio::test(start_paused = true)]
async fn changed_spec_replaces_the_container() {
    let device = Device::new();
    device.apply(json!({"image": "app:1"})).await;
    let outcome = device.apply(json!({"image": "app:2"})).await;
    assert_eq!(outcome.result, Some(true), "{}", outcome.comment);
    assert_eq!(outcome.changes["image"], json!({"old": "id-1", "new": "id-2"}));
    assert_eq!(
        outcome.changes["container_id"],
        json!({"added": "container-2", "removed": "container-1"})
    );
    assert_eq!(device.standing(), ["rfid id-2 up"]);
}

#[tokio::test(start_paused = true)]
async fn moved_tag_replaces_the_container() {
    let device = Device::new();
    device.apply(json!({"image": "app:1"})).await;
    device.engine.world().images.insert("app:1".to_owned(), "id-2".to_owned());
    let outcome = device.apply(json!({"image": "app:1"})).await;
    assert_eq!(outcome.changes["image"], json!({"old": "id-1", "new": "id-2"}));
    assert_eq!(device.standing(), ["rfid id-2 up"]);
}

#[tokio::test(start_paused = true)]
async fn old_container_comes_back_when_the_new_one_does_not_come_up() {
    let device = Device::new();
    device.apply(json!({"image": "app:1"})).await;
    device.apply(json!({"image": "app:bad", "force": false})).await;
    let outcome = device.apply(json!({"image": "app:bad"})).await;
    assert_eq!(outcome.result, Some(false));
    assert!(outcome.changes.is_empty());
    insta::assert_snapshot!(outcome.comment, @r"
    The new container 'rfid' did not come up: it ended with status 3. The one before was put back
    The end of the new container's log:
    last words of rfid
    ");
    assert_eq!(device.standing(), ["rfid id-1 up"]);
    assert_eq!(device.engine.world().containers["rfid"].id, "container-1");
}

#[tokio::test(start_paused = true)]
async fn container_that_cannot_be_made_leaves_the_old_one_untouched() {
    let device = Device::new();
    device.apply(json!({"image": "app:1"})).await;
    let outcome = device.apply(json!({"image": "app:unknown"})).await;
    assert_eq!(outcome.result, Some(false));
    assert_eq!(outcome.comment, "cannot pull app:unknown: manifest unknown");
    assert!(!device.engine.world().calls.iter().any(|call| call.starts_with("stop")));
    assert_eq!(device.standing(), ["rfid id-1 up"]);
}

#[tokio::test(start_paused = true)]
async fn first_container_that_does_not_come_up_fails_and_keeps_its_log() {
    let device = Device::new();
    let outcome = device.apply(json!({"image": "app:bad"})).await;
    assert_eq!(outcome.result, Some(false));
    assert!(outcome.comment.contains("Container 'rfid' did not come up: it ended with status 3"));
    assert!(outcome.comment.contains("last words of rfid"));
    assert_eq!(device.standing(), ["rfid id-bad down"]);
    // Still not up, still said, and nothing is made again.
    let again = device.apply(json!({"image": "app:bad"})).await;
    assert_eq!(again.result, Some(false));
    assert_eq!(device.engine.world().containers["rfid"].id, "container-1");
}

#[tokio::test(start_paused = true)]
async fn drift_by_hand_is_mended() {
    let device = Device::new();
    let values = json!({"image": "app:1", "restart_policy": "always"});
    device.apply(values.clone()).await;

    device.engine.world().containers.get_mut("rfid").unwrap().running = false;
    let outcome = device.apply(values.clone()).await;
    assert_eq!(
        Value::Object(outcome.changes),
        json!({"state": {"old": "stopped", "new": "running"}})
    );

    device.engine.world().containers.get_mut("rfid").unwrap().paused = true;
    let outcome = device.apply(values.clone()).await;
    assert_eq!(outcome.comment, "State changed from 'paused' to 'running'");

    device.engine.world().containers.clear();
    let outcome = device.apply(values.clone()).await;
    assert_eq!(outcome.comment, "Created container 'rfid'");

    // Recreated by hand: nobody knows with what else, so it is not trusted.
    device.engine.world().containers.get_mut("rfid").unwrap().body.labels = None;
    let outcome = device.apply(values).await;
    assert_eq!(outcome.comment, "Replaced container 'rfid'");
    assert_eq!(device.standing(), ["rfid id-1 up"]);
}

#[tokio::test(start_paused = true)]
async fn container_that_is_not_to_be_started_is_only_made() {
    let device = Device::new();
    let values = json!({"image": "app:bad", "start": false});
    assert_eq!(device.apply(values.clone()).await.result, Some(true));
    assert_eq!(device.standing(), ["rfid id-bad down"]);
    assert!(device.apply(values).await.changes.is_empty());
}

#[tokio::test(start_paused = true)]
async fn watch_restarts_signals_or_replaces() {
    let device = Device::new();
    device.apply(json!({"image": "app:1"})).await;
    let fire = async |values: Value, test| {
        state(values).watched(&device.host, test).await.expect("it has a mod_watch")
    };
    let told = fire(json!({"image": "app:1"}), true).await;
    assert_eq!((told.result, told.comment.as_str()), (None, "Container 'rfid' would be restarted"));

    let restarted = fire(json!({"image": "app:1"}), false).await;
    assert_eq!(Value::Object(restarted.changes), json!({"restarted": true}));
    let signalled = fire(json!({"image": "app:1", "watch_action": "SIGHUP"}), false).await;
    assert_eq!(Value::Object(signalled.changes), json!({"signal": "SIGHUP"}));
    fire(json!({"image": "app:1", "watch_action": "force"}), false).await;
    assert_eq!(device.engine.world().containers["rfid"].id, "container-2");
}

/// The agent is killed before each call of a replacement in turn; the next agent finds what is left.
async fn killed_at_every_step(new_image: &str, then: Value) -> Vec<Vec<String>> {
    let mut ends = Vec::new();
    for calls in 0.. {
        let device = Device::new();
        device.apply(json!({"image": "app:1"})).await;
        {
            let mut world = device.engine.world();
            world.images = world.registry.clone();
            world.calls_left = Some(calls);
        }
        let values = json!({"image": new_image});
        let first = device.apply(values);
        let survived = tokio::time::timeout(Duration::from_secs(3600), first).await.is_ok();
        let left = device.standing();
        assert!(
            left.iter().any(|line| line.contains("id-1"))
                || left == [format!("rfid {} up", id_of(new_image))],
            "neither old nor new after {calls} calls: {left:?}"
        );

        device.engine.world().calls_left = None;
        device.apply(then.clone()).await;
        ends.push(device.standing());
        let settled = device.run(then.clone(), true).await;
        if device.standing() != ["rfid id-1 up"] || then["image"] == "app:1" {
            assert_eq!(settled.result, Some(true), "after {calls} calls: {}", settled.comment);
        }
        if survived {
            break;
        }
    }
    ends
}

fn id_of(image: &str) -> String {
    image.replace("app:", "id-")
}

#[tokio::test(start_paused = true)]
async fn next_apply_finishes_a_replacement_that_was_cut_short_anywhere() {
    let ends = killed_at_every_step("app:2", json!({"image": "app:2"})).await;
    assert_eq!(ends.len(), 7);
    assert!(ends.iter().all(|end| *end == ["rfid id-2 up"]), "{ends:?}");
}

#[tokio::test(start_paused = true)]
async fn next_apply_of_the_old_state_undoes_a_replacement_that_was_cut_short_anywhere() {
    let ends = killed_at_every_step("app:2", json!({"image": "app:1"})).await;
    assert!(ends.iter().all(|end| *end == ["rfid id-1 up"]), "{ends:?}");
}

#[tokio::test(start_paused = true)]
async fn old_container_survives_being_cut_short_anywhere_while_it_is_put_back() {
    let ends = killed_at_every_step("app:bad", json!({"image": "app:bad"})).await;
    assert!(ends.len() > 7);
    assert!(ends.iter().all(|end| *end == ["rfid id-1 up"]), "{ends:?}");
}

#[tokio::test(start_paused = true)]
async fn third_image_follows_a_replacement_that_was_cut_short_anywhere() {
    let ends = killed_at_every_step("app:bad", json!({"image": "app:2"})).await;
    assert!(ends.iter().all(|end| *end == ["rfid id-2 up"]), "{ends:?}");
}
