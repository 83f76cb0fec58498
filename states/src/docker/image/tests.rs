use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::{Absent, Present};
use crate::docker::engine::memory::MemoryEngine;
use crate::files::memory::MemoryFiles;
use crate::host::Host;
use crate::module::{Arguments, Outcome, StateModule, run};

const APP: &str = "127.0.0.1:5000/fleet/app";

/// An engine without images; the registry has `APP:latest` and `APP:live`, both as `id-1`.
fn device() -> (Arc<MemoryEngine>, Host) {
    let engine = Arc::new(MemoryEngine::default());
    for tag in ["latest", "live"] {
        engine.world().registry.insert(format!("{APP}:{tag}"), "id-1".to_owned());
    }
    let host = Host::new(MemoryFiles::new(&[]), Map::new(), Map::new());
    let host = host.with_engine(Arc::clone(&engine) as _);
    (engine, host)
}

fn parse<M: StateModule>(values: &Value) -> Result<M, String> {
    let mut arguments = Arguments::new(APP, values.as_object().unwrap());
    let state = M::parse(&mut arguments);
    match arguments.finish("docker_image.present", &[]).first() {
        None => Ok(state),
        Some(error) => Err(error.to_string()),
    }
}

async fn present(host: &Host, values: Value, test: bool) -> Outcome {
    run(&parse::<Present>(&values).unwrap(), host, test).await
}

fn pulls(engine: &MemoryEngine) -> usize {
    engine.world().calls.iter().filter(|call| call.starts_with("pull")).count()
}

#[tokio::test]
async fn missing_image_is_pulled_and_name_without_tag_means_latest() {
    let (engine, host) = device();
    let told = present(&host, json!({}), true).await;
    assert_eq!(told.result, None);
    assert_eq!(told.comment, format!("Image '{APP}:latest' would be pulled"));
    let pulled = present(&host, json!({}), false).await;
    assert_eq!(pulled.comment, format!("Image '{APP}:latest' was pulled"));
    assert_eq!(pulled.changes["image"], json!({"old": null, "new": "id-1"}));
    let again = present(&host, json!({}), false).await;
    assert_eq!(again, Outcome::unchanged(format!("Image '{APP}:latest' already present")));
    assert_eq!(pulls(&engine), 1);
}

#[tokio::test]
async fn tag_argument_wins_over_the_name() {
    let (engine, host) = device();
    present(&host, json!({"tag": "live"}), false).await;
    assert!(engine.world().images.contains_key(&format!("{APP}:live")));
}

#[tokio::test]
async fn force_changes_nothing_while_the_registry_has_nothing_newer() {
    let (engine, host) = device();
    present(&host, json!({"force": true}), false).await;
    for test in [false, true] {
        let again = present(&host, json!({"force": true}), test).await;
        assert_eq!(
            again,
            Outcome::unchanged(format!("Image '{APP}:latest' is the registry's newest"))
        );
    }
    assert_eq!(pulls(&engine), 1);
}

#[tokio::test]
async fn force_pulls_what_is_newer_in_the_registry() {
    let (engine, host) = device();
    present(&host, json!({}), false).await;
    engine.world().registry.insert(format!("{APP}:latest"), "id-2".to_owned());
    assert!(present(&host, json!({}), false).await.changes.is_empty());
    assert_eq!(present(&host, json!({"force": true}), true).await.result, None);
    let pulled = present(&host, json!({"force": true}), false).await;
    assert_eq!(pulled.changes["image"], json!({"old": "id-1", "new": "id-2"}));
}

#[tokio::test]
async fn forced_pull_fails_while_the_registry_does_not_answer() {
    let (engine, host) = device();
    present(&host, json!({}), false).await;
    engine.world().registry.clear();
    let failed = present(&host, json!({"force": true}), false).await;
    assert_eq!(failed.result, Some(false));
    assert!(failed.comment.contains("manifest unknown"), "{}", failed.comment);
    assert!(present(&host, json!({}), false).await.changes.is_empty());
}

#[tokio::test]
async fn watch_pulls_what_is_newer() {
    let (engine, host) = device();
    let state = parse::<Present>(&json!({})).unwrap();
    run(&state, &host, false).await;
    assert!(state.watched(&host, false).await.unwrap().changes.is_empty());
    engine.world().registry.insert(format!("{APP}:latest"), "id-2".to_owned());
    assert_eq!(state.watched(&host, true).await.unwrap().result, None);
    assert!(!state.watched(&host, false).await.unwrap().changes.is_empty());
}

#[tokio::test]
async fn absent_image_stays_absent() {
    let (_, host) = device();
    present(&host, json!({}), false).await;
    let absent = parse::<Absent>(&json!({})).unwrap();
    let removed = run(&absent, &host, false).await;
    assert_eq!(removed.changes["removed"], json!([format!("{APP}:latest")]));
    assert!(run(&absent, &host, false).await.changes.is_empty());
}

#[test]
fn platform_is_named_as_the_machine_or_as_the_registry_does() {
    assert!(parse::<Present>(&json!({"platform": "armv7l"})).is_ok());
    assert!(parse::<Present>(&json!({"platform": "linux/arm/v7"})).is_ok());
    let refused = parse::<Present>(&json!({"platform": "vax"})).err();
    assert_eq!(refused.as_deref(), Some("`vax` is not a platform"));
    let refused = parse::<Present>(&json!({"build": "/src"})).err();
    assert_eq!(refused.as_deref(), Some("`build` is not supported"));
}

#[tokio::test]
async fn device_without_an_engine_says_so() {
    let host = Host::new(MemoryFiles::new(&[]), Map::new(), Map::new());
    let failed = present(&host, json!({}), false).await;
    insta::assert_snapshot!(failed.comment, @r"
    this device has no container engine configured
    hint: name its socket as `docker:` in minion.yml
    ");
}
