//! What of an event a sink of lines or messages is sent: its JSON form, of chosen fields where the bridge has `fields`, or
//! the text of a `template`. Elasticsearch has documents of its own.

use drover_proto::nearest::nearest;
use drover_states::{
    diagnostic::Diagnostic,
    settings::Settings,
    yaml::{Data, Node},
};
use serde_json::{Map, Value};

use super::{
    config::wrong,
    sink::{Form, Item},
    template::Template,
};

/// What an event has, as JSON.
const FIELDS: [&str; 8] = ["id", "seq", "ts", "at", "tag", "minion", "data", "grains"];

/// How an event looks to its receiver.
#[derive(Debug, Default)]
pub struct Shape {
    /// Paths of what is sent, such as `data.badge`; empty for everything.
    fields: Vec<Vec<String>>,
    template: Option<Template>,
}

impl Shape {
    /// Reads `fields` and `template`.
    ///
    /// # Errors
    /// With the place of what cannot be used.
    pub fn read(settings: &mut Settings<'_>) -> Result<Self, Diagnostic> {
        let fields = settings.parse("fields", fields)?.unwrap_or_default();
        let template = settings.parse("template", Template::read)?;
        if template.is_some() && !fields.is_empty() {
            return Err(settings
                .wrong("the bridge has `fields` and a `template`")
                .hint("a template chooses by itself: `{{ event.data.badge }}`"));
        }
        Ok(Self { fields, template })
    }

    /// Whether an event's line begins with its id, so that a reader knows the event again.
    #[must_use]
    pub fn has_id(&self) -> bool {
        self.template.is_none()
            && (self.fields.is_empty() || self.fields.iter().any(|path| path == &["id"]))
    }

    /// The event as `drover events --out json` prints it, with the chosen grains.
    #[must_use]
    pub fn json(&self, item: &Item) -> Value {
        let event = &*item.event;
        let mut whole = match serde_json::to_value(event) {
            Ok(Value::Object(fields)) => fields,
            Ok(_) | Err(_) => unreachable!("an event is a map"),
        };
        if item.form == Form::Text {
            whole.insert("data".to_owned(), Value::String(event.data.to_string()));
        }
        if !item.grains.is_empty() {
            whole.insert("grains".to_owned(), Value::Object((*item.grains).clone()));
        }
        if self.fields.is_empty() {
            return Value::Object(whole);
        }
        let mut chosen = Map::new();
        for path in &self.fields {
            choose(&whole, path, &mut chosen);
        }
        Value::Object(chosen)
    }

    /// The template's text, or the JSON form on one line.
    ///
    /// # Errors
    /// Why the template gives nothing for this event: the reason of a dead letter.
    pub fn text(&self, item: &Item) -> Result<String, String> {
        match self.template_text(item) {
            Some(text) => text,
            None if self.fields.is_empty()
                && item.grains.is_empty()
                && item.form == Form::Whole =>
            {
                Ok(serde_json::to_string(&*item.event).expect("an event has a JSON form"))
            }
            None => Ok(self.json(item).to_string()),
        }
    }

    /// The template's text, where there is a template: for a sink that puts it into a document of its own.
    pub fn template_text(&self, item: &Item) -> Option<Result<String, String>> {
        let template = self.template.as_ref()?;
        Some(template.render(self.json(item)))
    }
}

/// Copies what a path leads to, with the maps on its way.
fn choose(from: &Map<String, Value>, path: &[String], to: &mut Map<String, Value>) {
    let Some((key, rest)) = path.split_first() else { return };
    match (from.get(key), rest) {
        (None, _) => {}
        (Some(value), []) => drop(to.insert(key.clone(), value.clone())),
        (Some(Value::Object(inner)), rest) => {
            let mut chosen = match to.remove(key) {
                Some(Value::Object(chosen)) => chosen,
                Some(_) | None => Map::new(),
            };
            choose(inner, rest, &mut chosen);
            if !chosen.is_empty() {
                to.insert(key.clone(), Value::Object(chosen));
            }
        }
        (Some(_), _) => {}
    }
}

fn fields(node: &Node, text: &str) -> Result<Vec<Vec<String>>, Diagnostic> {
    const WANTED: &str =
        "`fields` must be a list of fields, such as `[id, tag, minion, data.badge]`";
    let Data::Sequence(items) = &node.data else { return Err(wrong(node, text, WANTED)) };
    if items.is_empty() {
        return Err(wrong(node, text, WANTED));
    }
    let field = |item: &Node| {
        let path: Vec<String> =
            item.as_str().unwrap_or_default().split('.').map(str::to_owned).collect();
        let first = path[0].as_str();
        if FIELDS.contains(&first) {
            return Ok(path);
        }
        let near = nearest(first, FIELDS).map(|near| format!("did you mean `{near}`?"));
        let known = FIELDS.map(|field| format!("`{field}`")).join(", ");
        Err(wrong(item, text, format!("an event has no field `{first}`"))
            .hint(near.unwrap_or_else(|| format!("it has {known}; data's own are `data.NAME`"))))
    };
    items.iter().map(field).collect()
}

#[cfg(test)]
mod tests {
    use std::{path::Path, sync::Arc};

    use drover_proto::event::Event;
    use drover_states::yaml;
    use insta::assert_snapshot;
    use serde_json::json;
    use uuid::Uuid;

    use super::*;

    fn shape(text: &str) -> Result<Shape, Diagnostic> {
        let root = yaml::load_nodes(text).unwrap();
        let mut settings = Settings::new(Path::new("/x"), text, root.as_ref())?;
        let shape = Shape::read(&mut settings)?;
        settings.finish()?;
        Ok(shape)
    }

    fn item(data: Value) -> Item {
        let event = Event {
            id: Uuid::nil(),
            seq: 7,
            ts: "2026-11-23T02:37:05Z".parse().unwrap(),
            at: None,
            tag: "drover/app/a/door".parse().unwrap(),
            minion: Some("a".parse().unwrap()),
            data,
        };
        Item { event: Arc::new(event), grains: Arc::default(), form: Form::Whole, is_retry: false }
    }

    #[test]
    fn an_event_is_its_own_json_with_the_chosen_grains() {
        let mut item = item(json!({"open": true}));
        let shape = Shape::default();
        assert_snapshot!(shape.text(&item).unwrap(), @r#"{"id":"00000000-0000-0000-0000-000000000000","seq":7,"ts":"2026-11-23T02:37:05Z","tag":"drover/app/a/door","minion":"a","data":{"open":true}}"#);
        item.grains = Arc::new(Map::from_iter([("role".to_owned(), json!("rfid"))]));
        item.form = Form::Text;
        assert_snapshot!(shape.text(&item).unwrap(), @r#"{"id":"00000000-0000-0000-0000-000000000000","seq":7,"ts":"2026-11-23T02:37:05Z","tag":"drover/app/a/door","minion":"a","data":"{\"open\":true}","grains":{"role":"rfid"}}"#);
    }

    #[test]
    fn fields_are_chosen_with_what_they_stand_in() {
        let shape =
            shape("fields: [tag, data.badge.number, data.open, data.none.such, at]").unwrap();
        let item = item(json!({"open": true, "badge": {"number": 7, "pin": 1}, "none": 0}));
        assert_eq!(
            shape.json(&item),
            json!({"tag": "drover/app/a/door", "data": {"badge": {"number": 7}, "open": true}})
        );
        assert!(!shape.has_id());
    }

    #[test]
    fn a_template_is_given_the_event() {
        let shape = shape("template: '{{ event.minion }}: {{ event.data.badge }}'").unwrap();
        assert_eq!(shape.text(&item(json!({"badge": 7}))).unwrap(), "a: 7");
        let failed = shape.text(&item(json!({}))).unwrap_err();
        assert_snapshot!(failed, @"template, line 1: undefined value: `event.data.badge` is not there");
    }

    #[test]
    fn what_cannot_be_chosen_is_refused_with_its_place() {
        let wrong = |text| shape(text).unwrap_err().to_string();
        assert_snapshot!(wrong("fields: [tag, mionin]"), @"
        line 1: an event has no field `mionin`
            1 | fields: [tag, mionin]
        hint: did you mean `minion`?
        ");
        assert_snapshot!(wrong("{fields: [tag], template: x}"), @"
        line 1: the bridge has `fields` and a `template`
            1 | {fields: [tag], template: x}
        hint: a template chooses by itself: `{{ event.data.badge }}`
        ");
    }
}
