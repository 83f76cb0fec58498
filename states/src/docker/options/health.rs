//! A container's health check, in Compose's words: `test`, `interval`, `timeout`, `retries`,
//! `start_period`, `disable`.

use bollard::models::HealthConfig;
use serde_json::{Map, Value};

use super::Options;
use crate::docker::forms;
use crate::module::scalar_text;

const WORDS: [&str; 6] = ["test", "interval", "timeout", "retries", "start_period", "disable"];

pub(super) fn check(read: &mut Options<'_, '_>) -> Option<HealthConfig> {
    let wanted = "a map of `test`, `interval`, `timeout`, `retries`, `start_period`, `disable`";
    read.option(&["healthcheck"], wanted, parse)
}

fn parse(value: &Value) -> Option<HealthConfig> {
    // SLS files write a map as a list of one-key maps too.
    let maps = match value.as_array() {
        Some(items) => items.iter().map(Value::as_object).collect::<Option<Vec<_>>>()?,
        None => vec![value.as_object()?],
    };
    let map: Map<String, Value> =
        maps.into_iter().flatten().map(|(key, value)| (key.clone(), value.clone())).collect();
    if map.keys().any(|key| !WORDS.contains(&key.as_str())) {
        return None;
    }
    if map.get("disable").and_then(Value::as_bool) == Some(true) {
        return Some(HealthConfig {
            test: Some(vec!["NONE".to_owned()]),
            ..HealthConfig::default()
        });
    }
    // An option that is there and cannot be read makes the whole check unreadable.
    let duration = |key| match map.get(key) {
        None => Some(None),
        Some(value) => forms::nanoseconds(value).map(Some),
    };
    Some(HealthConfig {
        test: match map.get("test") {
            None => None,
            Some(test) => Some(command(test)?),
        },
        interval: duration("interval")?,
        timeout: duration("timeout")?,
        retries: match map.get("retries") {
            None => None,
            Some(retries) => Some(retries.as_i64()?),
        },
        start_period: duration("start_period")?,
        start_interval: None,
    })
}

/// A string is for the shell; a list is a command unless its first word says what it is.
fn command(test: &Value) -> Option<Vec<String>> {
    let Value::Array(words) = test else {
        return Some(vec!["CMD-SHELL".to_owned(), scalar_text(test)?]);
    };
    let mut words: Vec<String> = words.iter().map(scalar_text).collect::<Option<_>>()?;
    if !["CMD", "CMD-SHELL", "NONE"].contains(&words.first()?.as_str()) {
        words.insert(0, "CMD".to_owned());
    }
    Some(words)
}
