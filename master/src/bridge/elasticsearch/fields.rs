//! `fields: {'drover/app/*/door/*': {count: long}}`: values of applications that have a type of their own, under
//! `drover.fields`. The types are a closed set, so that what does not fit is noticed here and no server refuses it.

use std::collections::BTreeMap;

use drover_proto::event::Event;
use drover_states::yaml::{Data, Node};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

/// Typed fields of a bridge at most: an index takes 1000 fields by default, and these are beside ours.
const MOST: usize = 300;
/// The longest value of a keyword, in bytes. Longer ones are texts.
const KEYWORD: usize = 8191;
/// Doubles hold integers up to here exactly.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// The typed fields of a bridge.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TypedFields {
    /// For each glob on tags, what is typed.
    globs: Vec<(String, Vec<TypedPath>)>,
    /// All of them, by their names.
    types: BTreeMap<String, FieldType>,
}

/// A path within a payload, and the type of what is there.
#[derive(Debug, Clone, PartialEq, Eq)]
struct TypedPath {
    path: Vec<String>,
    kind: FieldType,
}

/// What a server makes of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FieldType {
    Long,
    Double,
    Boolean,
    Keyword,
    Text,
    Date,
    Ip,
}

/// What of an event has types.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Typed<'a> {
    /// `drover.fields`.
    pub(super) values: Map<String, Value>,
    /// Keys of the payload that are there whole.
    pub(super) taken: Vec<&'a str>,
    /// Names of fields whose values have another type.
    pub(super) unfit: Vec<String>,
}

impl TypedFields {
    /// Reads the `fields` of a bridge.
    ///
    /// # Errors
    /// What is wanted.
    pub fn read(node: &Node) -> Result<Self, &'static str> {
        const WANTED: &str = "a map of globs on tags, each with a map of names of the payload and their types, such as \
                              `{'drover/app/*/door/*': {count: long}}`";
        const NAMES: &str = "names of values in the payload: letters, digits, `_` and `-`, in parts with a `.` between";
        const TYPES: &str =
            "`long`, `double`, `boolean`, `keyword`, `text`, `date` or `ip` for each name";
        const CONFLICT: &str = "one type for each name: it is one field, whatever the tag";
        const TOO_MANY: &str = "at most 300 names";
        let Data::Mapping(globs) = &node.data else { return Err(WANTED) };
        let mut fields = Self::default();
        for glob in globs {
            let Data::Mapping(names) = &glob.node.data else { return Err(WANTED) };
            let mut paths = Vec::new();
            for name in names {
                let kind = FieldType::parse(name.node.as_str().ok_or(TYPES)?).ok_or(TYPES)?;
                let path: Vec<_> = name.key.split('.').map(str::to_owned).collect();
                let is_name = |part: &String| {
                    !part.is_empty()
                        && part.len() <= 64
                        && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
                };
                if path.len() > 8 || !path.iter().all(is_name) {
                    return Err(NAMES);
                }
                if *fields.types.entry(name.key.clone()).or_insert(kind) != kind {
                    return Err(CONFLICT);
                }
                paths.push(TypedPath { path, kind });
            }
            fields.globs.push((glob.key.clone(), paths));
        }
        // A field is a value or a map of fields.
        let is_within = |name: &String, other: &String| {
            other.strip_prefix(name.as_str()).is_some_and(|rest| rest.starts_with('.'))
        };
        let names = || fields.types.keys();
        if names().any(|name| names().any(|other| is_within(name, other))) {
            return Err(CONFLICT);
        }
        if fields.types.len() > MOST { Err(TOO_MANY) } else { Ok(fields) }
    }

    /// Their mapping, under `drover.fields`.
    pub(super) fn properties(&self) -> Value {
        let mut properties = json!({});
        for (name, kind) in &self.types {
            let mut at = &mut properties;
            let mut parts = name.split('.').peekable();
            while let Some(part) = parts.next() {
                at = if parts.peek().is_some() {
                    &mut at[part]["properties"]
                } else {
                    &mut at[part]
                };
            }
            *at = kind.mapping();
        }
        properties
    }

    /// The typed values of an event.
    pub(super) fn of<'a>(&'a self, event: &'a Event) -> Typed<'a> {
        let mut typed = Typed::default();
        for (glob, paths) in &self.globs {
            if !event.tag.matches(glob) {
                continue;
            }
            for TypedPath { path, kind } in paths {
                typed.add(&event.data, path, *kind);
            }
        }
        typed
    }
}

impl<'a> Typed<'a> {
    fn add(&mut self, data: &'a Value, path: &'a [String], kind: FieldType) {
        let found = path.iter().try_fold(data, |at, part| at.get(part));
        let Some(value) = found.filter(|value| !value.is_null()) else { return };
        let Some(value) = kind.fit(value) else {
            self.unfit.push(format!("drover.fields.{}", path.join(".")));
            return;
        };
        let Some((last, parents)) = path.split_last() else { return };
        let mut at = &mut self.values;
        for parent in parents {
            let inner = at.entry(parent.as_str()).or_insert_with(|| json!({}));
            let Value::Object(inner) = inner else { return };
            at = inner;
        }
        at.insert(last.clone(), value);
        if parents.is_empty() {
            self.taken.push(last);
        }
    }
}

impl FieldType {
    fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "long" => Self::Long,
            "double" => Self::Double,
            "boolean" => Self::Boolean,
            "keyword" => Self::Keyword,
            "text" => Self::Text,
            "date" => Self::Date,
            "ip" => Self::Ip,
            _ => return None,
        })
    }

    fn mapping(self) -> Value {
        match self {
            Self::Long => json!({"type": "long"}),
            Self::Double => json!({"type": "double"}),
            Self::Boolean => json!({"type": "boolean"}),
            Self::Keyword => json!({"type": "keyword"}),
            Self::Text => json!({"type": "text"}),
            Self::Date => json!({"type": "date"}),
            Self::Ip => json!({"type": "ip"}),
        }
    }

    /// The value as the server takes it; a list of values is a field with several.
    fn fit(self, value: &Value) -> Option<Value> {
        match value {
            Value::Array(items) => {
                let known = items.iter().filter(|item| !item.is_null());
                known.map(|item| self.fit_one(item)).collect::<Option<Vec<_>>>().map(Value::from)
            }
            Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::String(_)
            | Value::Object(_) => self.fit_one(value),
        }
    }

    fn fit_one(self, value: &Value) -> Option<Value> {
        match self {
            Self::Long => integer(value).map(Value::from),
            // Only a finite number is one in JSON.
            Self::Double => value.as_f64().filter(|number| number.is_finite()).map(Value::from),
            Self::Boolean => value.as_bool().map(Value::from),
            Self::Keyword => match value {
                Value::String(text) => (text.len() <= KEYWORD).then(|| value.clone()),
                Value::Bool(_) | Value::Number(_) => Some(Value::from(value.to_string())),
                Value::Null | Value::Array(_) | Value::Object(_) => None,
            },
            Self::Text => value.is_string().then(|| value.clone()),
            Self::Date => {
                let at: Timestamp = value.as_str()?.parse().ok()?;
                // Servers read years of four digits.
                (at.to_string().len() <= "9999-12-30T00:00:00.123456789Z".len()
                    && at.as_second() >= -62_135_596_800)
                    .then(|| json!(at))
            }
            Self::Ip => {
                let address: std::net::IpAddr = value.as_str()?.parse().ok()?;
                Some(Value::from(address.to_string()))
            }
        }
    }
}

fn integer(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| {
        let number =
            value.as_f64().filter(|number| number.abs() <= EXACT && number.fract() == 0.0)?;
        #[expect(clippy::cast_possible_truncation, reason = "it is whole and within the range")]
        Some(number as i64)
    })
}

#[cfg(test)]
mod tests {
    use drover_states::yaml;
    use uuid::Uuid;

    use super::*;

    fn fields(text: &str) -> Result<TypedFields, &'static str> {
        TypedFields::read(&yaml::load_nodes(text).unwrap().unwrap())
    }

    fn event(tag: &str, data: Value) -> Event {
        let ts = Timestamp::UNIX_EPOCH;
        let tag = tag.parse().unwrap();
        Event { id: Uuid::nil(), seq: 1, ts, at: None, tag, minion: None, data }
    }

    #[test]
    fn a_value_of_its_type_is_a_field_and_another_is_told() {
        let fields = fields(
            "'drover/app/*/door/*': {count: long, at: date, by.badge: keyword, open: boolean, ip: ip}\n\
             'drover/app/*/scale': {kg: double, count: long}\n",
        )
        .unwrap();
        let data = json!({
            "count": 3.0, "at": "2026-11-23T10:00:00+10:00", "by": {"badge": 7}, "open": "yes", "ip": [null, "::1"],
        });
        let event = event("drover/app/a/door/open", data);
        let typed = fields.of(&event);
        assert_eq!(
            Value::Object(typed.values),
            json!({"count": 3, "at": "2026-11-23T00:00:00Z", "by": {"badge": "7"}, "ip": ["::1"]})
        );
        assert_eq!(typed.taken, ["count", "at", "ip"]);
        assert_eq!(typed.unfit, ["drover.fields.open"]);
    }

    #[test]
    fn numbers_that_do_not_fit_are_none() {
        for (kind, value) in [
            (FieldType::Long, json!(u64::MAX)),
            (FieldType::Long, json!(1.5)),
            (FieldType::Long, json!(1e300)),
            (FieldType::Long, json!("7")),
            (FieldType::Double, json!("1.0")),
            (FieldType::Keyword, json!("x".repeat(KEYWORD + 1))),
            (FieldType::Keyword, json!({"a": 1})),
            (FieldType::Date, json!("yesterday")),
            (FieldType::Date, json!("-000044-03-15T12:00:00Z")),
            (FieldType::Ip, json!("1.2.3")),
            (FieldType::Long, json!([1, "x"])),
        ] {
            assert_eq!(kind.fit(&value), None, "{kind:?} {value}");
        }
        assert_eq!(FieldType::Long.fit(&json!(i64::MIN)), Some(json!(i64::MIN)));
    }

    #[test]
    fn the_mapping_has_each_name_once() {
        let fields =
            fields("'a/*': {n: long, of.x: double}\n'b/*': {n: long, of.y: ip}\n").unwrap();
        assert_eq!(
            fields.properties(),
            json!({
                "n": {"type": "long"},
                "of": {"properties": {"x": {"type": "double"}, "y": {"type": "ip"}}},
            })
        );
    }

    #[test]
    fn a_name_with_two_meanings_is_refused() {
        for text in [
            "'a/*': {n: long}\n'b/*': {n: double}\n",
            "'a/*': {n: long, n.x: long}\n",
            "'a/*': {n: integer}\n",
            "'a/*': {'n..x': long}\n",
            "'a/*': {'n x': long}\n",
            "'a/*': long\n",
        ] {
            assert!(fields(text).is_err(), "{text}");
        }
    }
}
