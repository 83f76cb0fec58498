//! In what a container is other than its spec. What no state names, and what comes from the image or
//! from the engine's defaults, is no difference; nor is what the engine itself rewrites or leaves out.

use std::collections::BTreeMap;
use std::fmt;

use bollard::models::ContainerInspectResponse;
use serde_json::{Map, Value, json};

use super::options::{bind, capabilities, network_mode, set};
use super::reference::ImageReference;
use super::spec::{ContainerSpec, MARK_LABEL, Mark};

/// One thing in which a container is not as its state wants it.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Difference {
    /// A property, by its name in the engine's API.
    Property { section: &'static str, name: String, old: Value, new: Value },
    /// Variables, without their values, which may be secret.
    Environment(Vec<String>),
    /// The image's name stands for another image now.
    Image { old: String, new: String },
    /// A dry run: a newer image would have been pulled under the name by now.
    NewerImage,
    /// The spec it was made from named more than the present one.
    NoLongerNamed,
    /// It was not made by a state, so what it was made with is unknown.
    Foreign,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Property { name, old: Value::Null, new, .. } => {
                write!(f, "{name} is to be {new}")
            }
            Self::Property { name, old, new, .. } => write!(f, "{name} {old} is to be {new}"),
            Self::Environment(names) => write!(f, "environment: {}", names.join(", ")),
            Self::Image { old, new } => write!(f, "image {} is now {}", short(old), short(new)),
            Self::NewerImage => write!(f, "its image would be a newer one"),
            Self::NoLongerNamed => write!(f, "it has settings that are no longer named"),
            Self::Foreign => write!(f, "it was not made by Drover"),
        }
    }
}

/// An id as people read it.
pub(super) fn short(id: &str) -> &str {
    let hex = id.strip_prefix("sha256:").unwrap_or(id);
    hex.get(..12).unwrap_or(hex)
}

/// Everything in which `container` differs; `image_id` is what the spec's image name stands for now.
pub(super) fn differences(
    spec: &ContainerSpec,
    image_id: Option<&str>,
    container: &ContainerInspectResponse,
) -> Vec<Difference> {
    let config = to_map(&container.config);
    let host_config = to_map(&container.host_config);
    let mark = Mark::read(config.get("Labels").and_then(|l| l.get(MARK_LABEL)?.as_str()), spec);

    let mut found = Vec::new();
    let mut wanted = to_map(&Some(spec.body()));
    let wanted_host = match wanted.shift_remove("HostConfig") {
        Some(Value::Object(map)) => map,
        _ => Map::new(),
    };
    compare("Config", &wanted, &config, mark, &mut found);
    compare("HostConfig", &with_defaults(wanted_host), &host_config, mark, &mut found);
    if let (Some(old), Some(new)) = (container.image.as_deref(), image_id)
        && old != new
    {
        found.push(Difference::Image { old: old.to_owned(), new: new.to_owned() });
    }
    match mark {
        Mark::Missing => found.push(Difference::Foreign),
        Mark::Other if found.is_empty() => found.push(Difference::NoLongerNamed),
        Mark::Same | Mark::Other | Mark::OtherFormat => {}
    }
    found
}

/// The differences as a state's `changes`, by section and property.
pub(super) fn as_changes(differences: &[Difference]) -> Map<String, Value> {
    let mut changes = Map::new();
    for difference in differences {
        let (section, name, change) = match difference {
            Difference::Property { section, name, old, new } => {
                (*section, name.clone(), json!({"old": old, "new": new}))
            }
            Difference::Environment(names) => ("Config", "Env".to_owned(), json!(names)),
            Difference::Image { old, new } => {
                ("Image", "Id".to_owned(), json!({"old": old, "new": new}))
            }
            Difference::NewerImage | Difference::NoLongerNamed | Difference::Foreign => continue,
        };
        if let Value::Object(section) = changes.entry(section).or_insert_with(|| json!({})) {
            section.insert(name, change);
        }
    }
    changes
}

/// What `docker update` can change on a container that runs is compared even where the state does not
/// name it: nothing but somebody's hand sets it.
fn with_defaults(mut wanted: Map<String, Value>) -> Map<String, Value> {
    for limit in ["Memory", "MemoryReservation", "NanoCpus", "CpuShares", "CpuPeriod", "CpuQuota"] {
        wanted.entry(limit).or_insert_with(|| json!(0));
    }
    for limit in ["CpusetCpus", "CpusetMems"] {
        wanted.entry(limit).or_insert_with(|| json!(""));
    }
    wanted.entry("RestartPolicy").or_insert_with(|| json!({"Name": "no", "MaximumRetryCount": 0}));
    wanted
}

/// How a property that the engine reports is held against the one that was asked for.
enum Relation {
    /// The engine reports what it was given.
    Kept,
    /// The same, in any order.
    Set,
    /// What was asked for is among what is reported; the rest comes from the image.
    Among,
    Environment,
    /// The engine leaves out a limit that the kernel does not have.
    Limit,
    /// The engine may rewrite it, so only a container of another spec is compared.
    Rewritten,
}

fn relation(name: &str) -> Relation {
    match name {
        "Cmd" | "Entrypoint" | "User" | "WorkingDir" | "Hostname" | "Image" | "Privileged"
        | "ReadonlyRootfs" | "RestartPolicy" | "NetworkMode" | "PortBindings" => Relation::Kept,
        "Binds" | "CapAdd" | "CapDrop" => Relation::Set,
        "Labels" | "ExposedPorts" | "Volumes" => Relation::Among,
        "Env" => Relation::Environment,
        "Memory" | "MemoryReservation" | "NanoCpus" | "CpuShares" | "CpuPeriod" | "CpuQuota"
        | "CpusetCpus" | "CpusetMems" => Relation::Limit,
        _ => Relation::Rewritten,
    }
}

fn compare(
    section: &'static str,
    wanted: &Map<String, Value>,
    reported: &Map<String, Value>,
    mark: Mark,
    found: &mut Vec<Difference>,
) {
    for (name, wanted) in wanted {
        let new = canonical(name, wanted);
        let mut old = canonical(name, reported.get(name).unwrap_or(&Value::Null));
        let same = match relation(name) {
            Relation::Kept => new == old || (is_nothing(&new) && is_nothing(&old)),
            Relation::Set => sorted_words(&new) == sorted_words(&old),
            Relation::Among => {
                keep_named(&mut old, &new);
                new == old || new.as_object().is_some_and(|new| new.is_empty() && old.is_null())
            }
            Relation::Environment => {
                let names = changed_variables(&new, &old);
                if !names.is_empty() {
                    found.push(Difference::Environment(names));
                }
                continue;
            }
            Relation::Limit => {
                new == old || (matches!(mark, Mark::Same | Mark::OtherFormat) && is_zero(&old))
            }
            Relation::Rewritten => mark != Mark::Other || new == old,
        };
        if !same {
            found.push(Difference::Property { section, name: name.clone(), old, new });
        }
    }
}

/// One form for what the engine and the state may write in several.
fn canonical(name: &str, value: &Value) -> Value {
    let text = |edit: fn(String) -> String| match value.as_str() {
        Some(text) => Value::String(edit(text.to_owned())),
        None => value.clone(),
    };
    match name {
        // The engine turns the other container's name into its id.
        "NetworkMode" => text(|mode| match mode.split_once(':') {
            Some(("container", _)) => "container".to_owned(),
            _ => network_mode(mode),
        }),
        "Image" => text(|name| {
            name.parse::<ImageReference>()
                .map_or(name, |reference| reference.familiar().to_string())
        }),
        "Binds" => json!(words(value).into_iter().map(bind).collect::<Vec<_>>()),
        "CapAdd" | "CapDrop" => json!(capabilities(words(value))),
        "RestartPolicy" => {
            let policy = value.get("Name").and_then(Value::as_str).filter(|name| !name.is_empty());
            let times = value.get("MaximumRetryCount").and_then(Value::as_i64).unwrap_or(0);
            json!({"Name": policy.unwrap_or("no"), "MaximumRetryCount": times})
        }
        "PortBindings" => port_bindings(value),
        _ if is_limit(name) && value.is_null() => json!(0),
        "CpusetCpus" | "CpusetMems" if value.is_null() => json!(""),
        "Privileged" | "ReadonlyRootfs" if value.is_null() => json!(false),
        _ => value.clone(),
    }
}

fn is_limit(name: &str) -> bool {
    matches!(relation(name), Relation::Limit) && !name.starts_with("Cpuset")
}

/// Ports with their bindings, both in order, absent fields empty.
fn port_bindings(value: &Value) -> Value {
    let field = |binding: &Value, name: &str| {
        binding.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let mut ports = BTreeMap::new();
    for (port, bindings) in value.as_object().into_iter().flatten() {
        let mut bindings: Vec<(String, String)> = bindings
            .as_array()
            .into_iter()
            .flatten()
            .map(|binding| (field(binding, "HostIp"), field(binding, "HostPort")))
            .collect();
        bindings.sort();
        ports.insert(port.clone(), bindings);
    }
    json!(ports)
}

fn is_nothing(value: &Value) -> bool {
    value.is_null()
        || *value == json!("")
        || value.as_array().is_some_and(|words| words.iter().all(|word| *word == json!("")))
}

fn is_zero(value: &Value) -> bool {
    value.as_i64() == Some(0) || value.as_str() == Some("")
}

/// Leaves of a reported map what the wanted one names.
fn keep_named(reported: &mut Value, wanted: &Value) {
    if let (Some(reported), Some(wanted)) = (reported.as_object_mut(), wanted.as_object()) {
        reported.retain(|key, _| wanted.contains_key(key));
    }
}

fn changed_variables(wanted: &Value, reported: &Value) -> Vec<String> {
    let reported = words(reported);
    let name = |variable: &str| variable.split('=').next().unwrap_or_default().to_owned();
    words(wanted)
        .into_iter()
        .filter(|variable| !reported.contains(variable))
        .map(|variable| name(&variable))
        .collect()
}

fn words(value: &Value) -> Vec<String> {
    let words = value.as_array().into_iter().flatten();
    words.filter_map(Value::as_str).map(str::to_owned).collect()
}

fn sorted_words(value: &Value) -> Vec<String> {
    set(words(value))
}

fn to_map<T: serde::Serialize>(value: &Option<T>) -> Map<String, Value> {
    match serde_json::to_value(value) {
        Ok(Value::Object(map)) => map,
        _ => Map::new(),
    }
}

#[cfg(test)]
mod tests;
