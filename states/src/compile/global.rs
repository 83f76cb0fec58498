//! Arguments that every state takes: read, or refused with the reason, never ignored.

use std::time::Duration;

use serde_json::Value;

use crate::low::{GlobalArguments, Retry};
use crate::module::scalar_text;

/// Those that are read here, for the hint beside a misspelt one.
pub(super) const NAMES: &[&str] = &[
    "check_cmd",
    "creates",
    "failhard",
    "name",
    "names",
    "onlyif",
    "order",
    "reload_modules",
    "require",
    "require_in",
    "retry",
    "unless",
    "watch",
    "watch_in",
    "onchanges",
    "onfail",
];

/// Where a state asks to stand among the others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Order {
    /// As written.
    #[default]
    Written,
    /// Before all.
    First,
    /// After all.
    Last,
    /// At this number; a negative one counts from the end.
    At(i64),
}

/// Reads one argument; `None` if it is not a global one.
pub(super) fn read(
    key: &str,
    value: &Value,
    global: &mut GlobalArguments,
    order: &mut Order,
) -> Option<Result<(), String>> {
    let refused = |why: &str| Err(format!("`{key}` is not supported: {why}"));
    Some(match key {
        "order" => match (value.as_str(), value.as_i64()) {
            (Some("first"), _) => set(order, Order::First),
            (Some("last"), _) => set(order, Order::Last),
            (_, Some(number)) => set(order, Order::At(number)),
            _ => Err(format!("`order` must be a number, `first` or `last`, not `{value}`")),
        },
        "failhard" => flag(key, value).map(|flag| global.failhard = flag),
        "onlyif" => commands(key, value).map(|commands| global.onlyif = commands),
        "unless" => commands(key, value).map(|commands| global.unless = commands),
        "creates" => commands(key, value).map(|paths| global.creates = paths),
        "check_cmd" => commands(key, value).map(|commands| global.check_cmd = commands),
        "retry" => retry(value).map(|retry| global.retry = retry),
        // There are no modules to load again: the promise is kept by doing nothing.
        "reload_modules" => flag(key, value).map(|_| ()),
        "reload_grains" | "reload_pillar" => {
            refused("grains and pillar stay what they were when the run began")
        }
        "parallel" => refused("states run one after another"),
        "fire_event" => refused("a run's return is an event already"),
        "aggregate" => refused("states are not merged"),
        "prereq" | "prereq_in" => refused("use `onchanges`, or `require` in the other direction"),
        "listen" | "listen_in" => refused("use `watch`"),
        "use" | "use_in" => refused("write the arguments, or set them in a Jinja variable"),
        "prereq_any" | "listen_any" | "use_any" => refused("there is no such requisite"),
        _ => return None,
    })
}

fn set(order: &mut Order, new: Order) -> Result<(), String> {
    *order = new;
    Ok(())
}

fn flag(key: &str, value: &Value) -> Result<bool, String> {
    value.as_bool().ok_or_else(|| format!("`{key}` must be `true` or `false`, not `{value}`"))
}

/// One command, or a list of them; `true` and `false` stand for the programs of that name.
fn commands(key: &str, value: &Value) -> Result<Vec<String>, String> {
    let one = |value: &Value| match value {
        Value::Bool(flag) => Ok(flag.to_string()),
        Value::Object(_) => Err(format!("`{key}` takes commands; `fun:` maps are not supported")),
        Value::Null | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            scalar_text(value).ok_or_else(|| format!("`{key}` must be a command or a list"))
        }
    };
    match value {
        Value::Array(items) => items.iter().map(one).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => {
            one(value).map(|command| vec![command])
        }
    }
}

fn retry(value: &Value) -> Result<Option<Retry>, String> {
    let mut retry = Retry { attempts: 2, until: true, interval: Duration::from_secs(30) };
    let map = match value {
        Value::Bool(flag) => return Ok(flag.then_some(retry)),
        Value::Object(map) => map.clone(),
        // A list of one-key maps, as SLS files have it.
        Value::Array(items) => items
            .iter()
            .filter_map(Value::as_object)
            .flatten()
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect(),
        Value::Null | Value::Number(_) | Value::String(_) => {
            return Err(format!("`retry` must be a map, not `{value}`"));
        }
    };
    for (key, value) in &map {
        let wrong = || format!("`retry`: `{key}` cannot be `{value}`");
        match key.as_str() {
            "attempts" => {
                let attempts = value.as_u64().and_then(|number| u32::try_from(number).ok());
                retry.attempts = attempts.filter(|number| *number > 0).ok_or_else(wrong)?;
            }
            "interval" => retry.interval = Duration::from_secs(value.as_u64().ok_or_else(wrong)?),
            "until" => retry.until = value.as_bool().ok_or_else(wrong)?,
            "splay" if value.as_u64() == Some(0) => {}
            _ => {
                return Err(format!(
                    "`retry` has no `{key}` here: there are `attempts`, `interval` and `until`"
                ));
            }
        }
    }
    Ok(Some(retry))
}
