//! Which events a bridge takes: by their tags, by their minions, and by their minions' grains. All that is given must
//! hold; of a list, any one. A machine.

use std::{path::Path, sync::Arc};

use drover_pki::MinionId;
use drover_proto::{
    event::Event,
    glob,
    job::TargetType,
    target::{Expression, Subject},
};
use drover_states::{
    diagnostic::Diagnostic,
    settings::Settings,
    yaml::{Data, Node},
};
use serde_json::{Map, Value};

use super::config::{texts, wrong};

/// What the registry knows of a minion's grains.
pub type GrainsOf<'a> = &'a dyn Fn(&MinionId) -> Option<Arc<Map<String, Value>>>;

/// What is taken. Without any part, everything is.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Globs on tags.
    tags: Vec<String>,
    /// Globs on minions' ids.
    minions: Vec<String>,
    /// For each grain, what it may be: `key:glob`, as targets have it.
    grains: Vec<Vec<Expression>>,
}

impl Filter {
    /// Of globs on tags and on minions, of which any one must match, and of grains, which must all be so.
    #[must_use]
    pub fn new(tags: Vec<String>, minions: Vec<String>, grains: Vec<Expression>) -> Self {
        Self { tags, minions, grains: grains.into_iter().map(|grain| vec![grain]).collect() }
    }

    /// Reads a glob, a list of them, or a map of `tags`, `minions` and `grains`.
    ///
    /// # Errors
    /// With the place of what cannot be used.
    pub(super) fn read(node: &Node, text: &str) -> Result<Self, Diagnostic> {
        match &node.data {
            Data::Scalar(_) | Data::Sequence(_) => {
                let tags = texts(node).map_err(|_| {
                    wrong(node, text, "`filter` must be a glob on tags, a list of them, or a map")
                        .hint("the map's keys are `tags`, `minions` and `grains`")
                })?;
                Ok(Self { tags, ..Self::default() })
            }
            Data::Mapping(_) => {
                let mut settings = Settings::new(Path::new(""), text, Some(node))?;
                let tags = settings.take("tags", texts)?.unwrap_or_default();
                let mut minions = settings.take("minions", texts)?.unwrap_or_default();
                // `*` is for everything, also for what is about no minion.
                if minions.iter().any(|glob| glob == "*") {
                    minions.clear();
                }
                let grains = settings.parse("grains", grains)?.unwrap_or_default();
                settings.finish()?;
                Ok(Self { tags, minions, grains })
            }
        }
    }

    /// Whether an event is taken.
    #[must_use]
    pub fn takes(&self, event: &Event, grains: GrainsOf<'_>) -> bool {
        if !self.tags.is_empty() && !self.tags.iter().any(|glob| event.tag.matches(glob)) {
            return false;
        }
        if self.minions.is_empty() && self.grains.is_empty() {
            return true;
        }
        let Some(minion) = &event.minion else { return false };
        let id = minion.as_str();
        if !self.minions.is_empty() && !self.minions.iter().any(|glob| glob::matches(glob, id)) {
            return false;
        }
        if self.grains.is_empty() {
            return true;
        }
        let Some(grains) = grains(minion) else { return false };
        let minion = Known { id, grains: &grains };
        self.grains.iter().all(|any| any.iter().any(|one| one.matches(&minion)))
    }
}

/// A minion, as a target's expression asks for it.
struct Known<'a> {
    id: &'a str,
    grains: &'a Map<String, Value>,
}

impl Subject for Known<'_> {
    fn id(&self) -> &str {
        self.id
    }

    fn grains(&self) -> &Map<String, Value> {
        self.grains
    }

    fn pillar(&self) -> Option<&Map<String, Value>> {
        None
    }
}

fn grains(node: &Node, text: &str) -> Result<Vec<Vec<Expression>>, Diagnostic> {
    const WANTED: &str = "`grains` must be a map, each grain with a glob or a list of them";
    let Data::Mapping(entries) = &node.data else { return Err(wrong(node, text, WANTED)) };
    let mut grains = Vec::new();
    for entry in entries {
        let globs = match &entry.node.data {
            Data::Scalar(value) => vec![value.clone()],
            Data::Sequence(items) => items.iter().map(Node::to_value).collect(),
            Data::Mapping(_) => return Err(wrong(&entry.node, text, WANTED)),
        };
        let expression = |glob: &Value| {
            let glob = match glob {
                Value::String(glob) => glob.clone(),
                // As Python prints it, as targets have it.
                Value::Bool(true) => "True".to_owned(),
                Value::Bool(false) => "False".to_owned(),
                Value::Number(number) => number.to_string(),
                Value::Null | Value::Array(_) | Value::Object(_) => {
                    return Err(wrong(&entry.node, text, WANTED));
                }
            };
            Expression::parse(&format!("{}:{glob}", entry.key), TargetType::Grain)
                .map_err(|error| wrong(&entry.node, text, error.reason).hint(error.hint))
        };
        grains.push(globs.iter().map(expression).collect::<Result<_, _>>()?);
    }
    Ok(grains)
}

#[cfg(test)]
mod tests {
    use drover_states::yaml;
    use insta::assert_snapshot;
    use jiff::Timestamp;
    use serde_json::json;
    use uuid::Uuid;

    use super::*;

    fn filter(text: &str) -> Result<Filter, Diagnostic> {
        Filter::read(&yaml::load_nodes(text).unwrap().unwrap(), text)
    }

    fn takes(text: &str, tag: &str, minion: Option<&str>) -> bool {
        let event = Event {
            id: Uuid::nil(),
            seq: 1,
            ts: Timestamp::UNIX_EPOCH,
            at: None,
            tag: tag.parse().unwrap(),
            minion: minion.map(|minion| minion.parse().unwrap()),
            data: Value::Null,
        };
        let grains = |id: &MinionId| {
            let grains =
                json!({"id": id, "role": "rfid", "site": "bne", "slot": 7, "tags": ["a", "b"]});
            (id.as_str() != "gone").then(|| Arc::new(grains.as_object().unwrap().clone()))
        };
        filter(text).unwrap().takes(&event, &grains)
    }

    #[test]
    fn a_glob_and_a_list_are_for_tags() {
        assert!(takes("'drover/job/*'", "drover/job/1/new", None));
        assert!(!takes("'drover/job/*'", "drover/key/a", None));
        assert!(takes("['salt/job/*', 'x']", "drover/job/1/new", None));
        assert!(!takes("['a', 'b']", "c", None));
    }

    #[test]
    fn minions_leave_out_what_is_about_none_of_them_unless_all_are_meant() {
        assert!(takes("{minions: 'rfid-*'}", "a", Some("rfid-1")));
        assert!(!takes("{minions: 'rfid-*'}", "a", Some("gate-1")));
        assert!(!takes("{minions: ['rfid-*']}", "a", None));
        assert!(takes("{minions: '*'}", "a", None));
    }

    #[test]
    fn every_grain_must_hold_and_of_a_list_any() {
        assert!(takes("{grains: {role: rfid, site: [syd, bne]}}", "a", Some("x")));
        assert!(!takes("{grains: {role: rfid, site: syd}}", "a", Some("x")));
        assert!(takes("{grains: {slot: 7, tags: b}}", "a", Some("x")));
        assert!(!takes("{grains: {role: rfid}}", "a", Some("gone")));
        assert!(!takes("{grains: {role: '*'}}", "a", None));
        assert!(!takes("{tags: 'b', grains: {role: rfid}}", "a", Some("x")));
    }

    #[test]
    fn what_is_no_filter_is_refused_with_its_place() {
        let wrong = |text| filter(text).unwrap_err().to_string();
        assert_snapshot!(wrong("{tag: 'a'}"), @"
        line 1: unknown key `tag`
            1 | {tag: 'a'}
        hint: did you mean `tags`?
        ");
        assert_snapshot!(wrong("{grains: [role]}"), @"
        line 1: `grains` must be a map, each grain with a glob or a list of them
            1 | {grains: [role]}
        ");
        assert_snapshot!(wrong("[{a: b}]"), @"
        line 1: `filter` must be a glob on tags, a list of them, or a map
            1 | [{a: b}]
        hint: the map's keys are `tags`, `minions` and `grains`
        ");
    }
}
