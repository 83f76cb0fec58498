//! The index template: one fixed mapping, so that no payload ever conflicts with another. It is put before the first
//! document and after every outage.

use serde_json::{Value, json};

/// Deeper payloads go as text: the wire takes no deeper ones than this from a minion.
const DEPTH: u32 = 64;
/// Longer texts are kept and not searchable. Lucene takes no term over 32,766 bytes; these are UTF-16 units, of at most
/// three bytes, and there has to be room for the key.
const SEARCHABLE: u32 = 8191;

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
            Self::Flattened => {
                json!({"type": "flattened", "ignore_above": SEARCHABLE, "depth_limit": DEPTH})
            }
            Self::FlatObject => json!({"type": "flat_object"}),
            Self::Unindexed => json!({"type": "object", "enabled": false}),
        }
    }
}

/// Whether a refused template is refused for its type of field.
pub(super) fn is_unknown_type(answer: &str) -> bool {
    answer.contains("No handler for type") || answer.contains("unknown type")
}

/// The template for indices whose names begin so.
pub(super) fn template(pattern: &str, flavour: Flavour) -> Value {
    json!({
        "index_patterns": [pattern],
        "priority": 200,
        "_meta": {"description": "events of a Drover master"},
        "template": {
            "mappings": {
                "dynamic": false,
                "properties": {
                    "@timestamp": {"type": "date"},
                    "id": {"type": "keyword"},
                    "seq": {"type": "long"},
                    "ts": {"type": "date"},
                    // A device's clock may say anything.
                    "at": {"type": "date", "ignore_malformed": true},
                    "tag": {"type": "keyword"},
                    "minion": {"type": "keyword"},
                    "data": flavour.mapping(),
                    "data_json": {"type": "text", "index": false},
                },
            },
        },
    })
}
