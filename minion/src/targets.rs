//! Whether a target of a top file means this device: the master's own target language, asked of one minion.

use drover_proto::{
    job::TargetType,
    target::{Expression, Subject},
};
use drover_states::compile::TargetMatcher;
use serde_json::{Map, Value};

/// This device as targets see it.
pub(crate) struct TopMatcher {
    id: String,
    grains: Map<String, Value>,
    pillar: Option<Map<String, Value>>,
}

impl TopMatcher {
    /// `pillar` is none while the pillar itself is made.
    pub(crate) fn new(grains: Map<String, Value>, pillar: Option<Map<String, Value>>) -> Self {
        let id = grains.get("id").and_then(Value::as_str).unwrap_or_default().to_owned();
        Self { id, grains, pillar }
    }
}

impl TargetMatcher for TopMatcher {
    fn matches(&self, expression: &str, kind: &str) -> Result<bool, String> {
        let kind = match kind {
            "compound" => TargetType::Compound,
            "glob" => TargetType::Glob,
            "pcre" => TargetType::Pcre,
            "list" => TargetType::List,
            "grain" => TargetType::Grain,
            "grain_pcre" => TargetType::GrainPcre,
            "pillar" => TargetType::Pillar,
            "pillar_pcre" => TargetType::PillarPcre,
            "ipcidr" => TargetType::Ipcidr,
            "nodegroup" => return Err("nodegroups are known to the master alone".to_owned()),
            other => return Err(format!("`{other}` is no kind of target")),
        };
        let expression =
            Expression::parse(expression, kind).map_err(|why| format!("{why} ({})", why.hint))?;
        Ok(expression.matches(self))
    }
}

impl Subject for TopMatcher {
    fn id(&self) -> &str {
        &self.id
    }

    fn grains(&self) -> &Map<String, Value> {
        &self.grains
    }

    fn pillar(&self) -> Option<&Map<String, Value>> {
        self.pillar.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_target_of_a_top_file_is_matched_as_the_master_matches_it() {
        let grains = json!({"id": "rfid-1", "role": "rfid"}).as_object().unwrap().clone();
        let matcher = TopMatcher::new(grains, None);
        assert_eq!(matcher.matches("G@role:rfid", "compound"), Ok(true));
        assert_eq!(matcher.matches("rfid-*", "compound"), Ok(true));
        assert_eq!(matcher.matches("role:spare", "grain"), Ok(false));
        assert!(matcher.matches("x", "range").is_err());
        assert!(matcher.matches("( x", "compound").is_err());
    }
}
