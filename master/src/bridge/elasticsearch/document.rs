//! An event as a document, and where it goes.

use drover_proto::event::Event;
use serde_json::{Map, Value, json};

use crate::bridge::sink::Form;

/// An index's name, in which `%Y`, `%m` and the like stand for the time of the event: so an event that is sent again goes
/// where it went before, and is not doubled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexName(String);

impl IndexName {
    /// Takes a name as Elasticsearch does.
    ///
    /// # Errors
    /// What a name must be.
    pub fn new(text: &str) -> Result<Self, &'static str> {
        const WANTED: &str = "an index name: lower case, at most 200 bytes, not beginning with `-`, `_`, `+` or `.`, \
                              without spaces and any of \\ / * ? \" < > | , # :, such as `drover-events`";
        const DATE: &str = "an index name with no other parts of a date than %Y %m %d %H %V %G, not beginning with one";
        // What is left without the parts of a date, which `%` begins.
        let mut pieces = text.split('%');
        let mut fixed = pieces.next().unwrap_or_default().to_owned();
        if fixed.is_empty() && !text.is_empty() {
            return Err(DATE);
        }
        for piece in pieces {
            fixed.push_str(piece.strip_prefix(['Y', 'm', 'd', 'H', 'V', 'G']).ok_or(DATE)?);
        }
        let is_forbidden = |c: char| {
            c.is_whitespace() || c.is_control() || c.is_uppercase() || "\\/*?\"<>|,#:".contains(c)
        };
        let is_valid = !fixed.is_empty()
            && text.len() <= 200
            && !fixed.starts_with(['-', '_', '+', '.'])
            && !fixed.contains(is_forbidden);
        if is_valid { Ok(Self(text.to_owned())) } else { Err(WANTED) }
    }

    /// The index of an event.
    pub(super) fn of(&self, event: &Event) -> String {
        if self.0.contains('%') { event.ts.strftime(&self.0).to_string() } else { self.0.clone() }
    }

    /// What all its indices' names match.
    pub(super) fn pattern(&self) -> String {
        match self.0.split_once('%') {
            Some((fixed, _)) => format!("{fixed}*"),
            None => self.0.clone(),
        }
    }

    /// The name of its template.
    pub(super) fn template(&self) -> String {
        let fixed = self.0.split('%').next().unwrap_or_default();
        format!("drover-bridge-{}", fixed.trim_end_matches(['-', '.', '_']))
    }
}

/// The document of an event: its fields, and `@timestamp`. A payload that is no map is put into one, and a plain one is
/// text, which every server takes.
pub(super) fn document(event: &Event, form: Form) -> Value {
    let mut document = Map::new();
    document.insert("@timestamp".into(), json!(event.ts));
    document.insert("id".into(), json!(event.id));
    document.insert("seq".into(), json!(event.seq));
    document.insert("ts".into(), json!(event.ts));
    if let Some(at) = event.at {
        document.insert("at".into(), json!(at));
    }
    document.insert("tag".into(), json!(event.tag));
    if let Some(minion) = &event.minion {
        document.insert("minion".into(), json!(minion));
    }
    if form == Form::Text {
        document.insert("data_json".into(), Value::from(event.data.to_string()));
    } else {
        let data = match &event.data {
            Value::Object(_) | Value::Null => event.data.clone(),
            value @ (Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_)) => {
                json!({"value": value})
            }
        };
        document.insert("data".into(), data);
    }
    Value::Object(document)
}
