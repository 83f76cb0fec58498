//! The index template: one fixed mapping, so that no payload ever adds a field or conflicts with another. It has a
//! version; one that a newer master put is left alone.

use drover_states::{diagnostic::Diagnostic, settings::Settings, yaml::Node};
use serde_json::{Map, Value, json};

use super::{
    document::label_name,
    fields::TypedFields,
    indices::{IndexName, Layout},
};
use crate::bridge::config::texts;

/// The version of the mapping. It stands in the `_meta` of template and index, by which ours are known.
pub(super) const VERSION: u64 = 1;
/// The key of the version.
pub(super) const META: &str = "drover_template";
/// Over the templates that come with a server, whose patterns begin like ours at most. The length of the name is added:
/// servers refuse two of one priority that match one name, and the days of `drover-events` match those of
/// `drover-events-2`, whose own template must win.
const PRIORITY: usize = 500;
/// Longer keywords are kept and not searchable: no longer term is taken, in bytes, and these are characters.
const IGNORE_ABOVE: u64 = 1024;

/// How a server maps data of any shape. Each stands for the servers that do not know the one before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flavour {
    /// Elasticsearch since 7.3.
    Flattened,
    /// OpenSearch since 2.7.
    FlatObject,
    /// Kept and shown, not searchable.
    Unindexed,
}

impl Flavour {
    /// The next one to try where the server does not know this one.
    pub(super) const fn next(self) -> Option<Self> {
        match self {
            Self::Flattened => Some(Self::FlatObject),
            Self::FlatObject => Some(Self::Unindexed),
            Self::Unindexed => None,
        }
    }

    fn mapping(self) -> Value {
        match self {
            Self::Flattened => json!({"type": "flattened"}),
            Self::FlatObject => json!({"type": "flat_object"}),
            Self::Unindexed => json!({"type": "object", "enabled": false}),
        }
    }
}

/// Whether a refused template is refused for its type of field.
pub(super) fn is_unknown_type(answer: &str) -> bool {
    ["No handler for type", "The mapper type", "unknown type"]
        .iter()
        .any(|words| answer.contains(words))
}

/// Whether a refused template is refused because the server has no data streams.
pub(super) fn has_no_data_streams(answer: &str) -> bool {
    answer.contains("unknown field [data_stream]")
        || answer.contains("data_stream] is not supported")
}

/// What the configuration adds to the mapping.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Additions {
    /// Grains that become labels.
    pub(super) grains: Vec<String>,
    /// Values of applications with a type.
    pub(super) fields: TypedFields,
    /// Copies of each shard; the server's default where nothing is said.
    pub(super) replicas: Option<u64>,
    /// Any other settings of an index, such as `index.lifecycle.name`.
    pub(super) settings: Map<String, Value>,
}

impl Additions {
    /// Reads `grains`, `fields`, `replicas` and `index_settings`.
    ///
    /// # Errors
    /// With the place of what cannot be used.
    pub(super) fn read(settings: &mut Settings<'_>) -> Result<Self, Diagnostic> {
        let names = |node: &Node| texts(node).map_err(|_| "a list of grains' names");
        let map = |node: &Node| {
            let map = node.to_value().as_object().cloned();
            map.ok_or("a map of settings of an index, such as `{index.lifecycle.name: drover}`")
        };
        let copies = |node: &Node| {
            let copies = node.to_value().as_u64().filter(|copies| *copies <= 100);
            copies.ok_or("a number of copies, 0 or more")
        };
        Ok(Self {
            grains: settings.take("grains", names)?.unwrap_or_default(),
            fields: settings.take("fields", TypedFields::read)?.unwrap_or_default(),
            replicas: settings.take("replicas", copies)?,
            settings: settings.take("index_settings", map)?.unwrap_or_default(),
        })
    }

    /// The template of an index.
    pub(super) fn template(&self, index: &IndexName, layout: Layout, flavour: Flavour) -> Value {
        let mut settings = Map::from_iter([("index.codec".to_owned(), json!("best_compression"))]);
        if let Some(replicas) = self.replicas {
            settings.insert("index.number_of_replicas".to_owned(), json!(replicas));
        }
        settings.extend(self.settings.clone());
        let mut template = json!({
            "index_patterns": [index.pattern(layout)],
            "priority": PRIORITY + index.as_str().len(),
            "version": VERSION,
            "_meta": {META: VERSION, "description": "events of a Drover master"},
            "template": {"settings": settings, "mappings": self.mappings(flavour)},
        });
        if layout == Layout::Stream {
            template["data_stream"] = json!({});
        }
        template
    }

    /// What an index that is there already has to know beside its own mapping: the labels and typed fields that were
    /// configured since it was made.
    pub(super) fn later(&self) -> Value {
        json!({"properties": {
            "labels": {"properties": self.labels()},
            "drover": {"properties": {"fields": {"properties": self.fields.properties()}}},
        }})
    }

    fn labels(&self) -> Value {
        let label = |grain: &String| (label_name(grain), keyword());
        Value::Object(self.grains.iter().map(label).collect())
    }

    fn mappings(&self, flavour: Flavour) -> Value {
        json!({
            "_meta": {META: VERSION},
            "dynamic": false,
            "properties": {
                "@timestamp": {"type": "date"},
                "event": {"properties": {
                    "id": keyword(),
                    "ingested": {"type": "date"},
                    "kind": keyword(),
                    "category": keyword(),
                    "action": keyword(),
                    "dataset": keyword(),
                    "module": keyword(),
                    "outcome": keyword(),
                    "duration": {"type": "long"},
                    "reason": keyword(),
                }},
                "host": {"properties": {"name": keyword(), "id": keyword()}},
                "labels": {"properties": self.labels()},
                "message": {"type": "text"},
                "log": {"properties": {
                    "level": keyword(),
                    "offset": {"type": "long"},
                    "flags": keyword(),
                    "file": {"properties": {"path": keyword()}},
                    "syslog": {"properties": {"priority": {"type": "long"}, "appname": keyword()}},
                }},
                "process": {"properties": {"pid": {"type": "long"}, "name": keyword()}},
                "user": {"properties": {"name": keyword()}},
                "agent": {"properties": {"version": keyword()}},
                "tags": keyword(),
                "ecs": {"properties": {"version": keyword()}},
                "drover": {"properties": {
                    "tag": keyword(),
                    "minion": keyword(),
                    "seq": {"type": "long"},
                    // A device's clock may say anything.
                    "at": {"type": "date", "ignore_malformed": true},
                    "clock": keyword(),
                    "jid": keyword(),
                    "fun": keyword(),
                    "retcode": {"type": "long"},
                    "success": {"type": "boolean"},
                    "cause": keyword(),
                    "rule": keyword(),
                    "count": {"type": "long"},
                    "beacon": keyword(),
                    "metrics": metrics(),
                    "fields": {"properties": self.fields.properties()},
                    "data": flavour.mapping(),
                    "data_text": {"type": "text", "index": false},
                    "cut": {"type": "boolean"},
                    "cut_fields": keyword(),
                }},
            },
        })
    }
}

fn metrics() -> Value {
    let number = || json!({"type": "double"});
    json!({"properties": {
        "load": {"properties": {"1m": number(), "5m": number(), "15m": number()}},
        "memory": {"properties": {"used_percent": number()}},
        "disk": {"properties": {"mount": keyword(), "used_percent": number()}},
        "temperature": {"properties": {"sensor": keyword(), "celsius": number()}},
    }})
}

fn keyword() -> Value {
    json!({"type": "keyword", "ignore_above": IGNORE_ABOVE})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_data_stream_and_daily_indices_have_templates_of_their_own() {
        let index = IndexName::new("e").unwrap();
        let additions = Additions { replicas: Some(0), ..Additions::default() };
        let stream = additions.template(&index, Layout::Stream, Flavour::Flattened);
        assert_eq!(stream["index_patterns"], json!(["e"]));
        assert_eq!(stream["data_stream"], json!({}));
        assert_eq!(stream["template"]["settings"]["index.number_of_replicas"], 0);
        let daily = additions.template(&index, Layout::Daily, Flavour::FlatObject);
        assert_eq!(daily["index_patterns"], json!(["e-*.*.*"]));
        assert!(daily.get("data_stream").is_none());
        let data = &daily["template"]["mappings"]["properties"]["drover"]["properties"]["data"];
        assert_eq!(*data, json!({"type": "flat_object"}));
    }

    #[test]
    fn bridges_whose_names_begin_alike_have_templates_of_different_priority() {
        let priority = |name| {
            let index = IndexName::new(name).unwrap();
            let template = Additions::default().template(&index, Layout::Daily, Flavour::Flattened);
            template["priority"].as_u64().unwrap()
        };
        assert!(priority("drover-events-2") > priority("drover-events"));
    }

    #[test]
    fn chosen_grains_are_labels() {
        let additions =
            Additions { grains: vec!["role".into(), "os.family".into()], ..Additions::default() };
        let later = additions.later();
        assert!(later["properties"]["labels"]["properties"]["role"].is_object());
        assert!(later["properties"]["labels"]["properties"]["os_family"].is_object());
    }
}
