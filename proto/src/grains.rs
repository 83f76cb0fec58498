//! A minion's grains from their three sources, and where each came from: enrolled over configured over detected.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::message::GrainSets;

/// Who said so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GrainSource {
    /// Given at the station, in the signed manifest. The device cannot change it.
    Enrolled,
    /// In the minion's configuration, or set at run time.
    Configured,
    /// Found out about the machine.
    Detected,
}

/// The grains that count.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Grains {
    values: Map<String, Value>,
    /// The map is in the order of the sources: so many are enrolled, so many enrolled or configured.
    enrolled: usize,
    configured: usize,
}

impl Grains {
    /// Merges the sources, whole grains at a time. A merged map lists enrolled grains first, detected ones last.
    #[must_use]
    pub fn merge(enrolled: &Map<String, Value>, own: &GrainSets) -> Self {
        let mut merged = enrolled.clone();
        let mut add = |grains: &Map<String, Value>| {
            for (name, value) in grains {
                if !merged.contains_key(name) {
                    merged.insert(name.clone(), value.clone());
                }
            }
            merged.len()
        };
        let enrolled = enrolled.len();
        let configured = add(&own.configured);
        add(&own.detected);
        Self { values: merged, enrolled, configured }
    }

    /// All of them.
    #[must_use]
    pub const fn values(&self) -> &Map<String, Value> {
        &self.values
    }

    /// Where a grain came from.
    #[must_use]
    pub fn source(&self, name: &str) -> Option<GrainSource> {
        let at = self.values.keys().position(|known| known == name)?;
        Some(match at {
            at if at < self.enrolled => GrainSource::Enrolled,
            at if at < self.configured => GrainSource::Configured,
            _ => GrainSource::Detected,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn map(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn what_the_station_gave_wins_and_each_grain_names_its_source() {
        let own = GrainSets {
            configured: map(json!({ "role": "spare", "site": "bne" })),
            detected: map(json!({ "os": "Debian", "site": "?", "role": "?" })),
        };
        let grains = Grains::merge(&map(json!({ "role": "rfid" })), &own);
        assert_eq!(
            Value::Object(grains.values().clone()),
            json!({ "role": "rfid", "site": "bne", "os": "Debian" })
        );
        assert_eq!(grains.source("role"), Some(GrainSource::Enrolled));
        assert_eq!(grains.source("site"), Some(GrainSource::Configured));
        assert_eq!(grains.source("os"), Some(GrainSource::Detected));
        assert_eq!(grains.source("shoe"), None);
    }
}
