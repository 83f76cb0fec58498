//! A state's arguments, as a state module reads them while compiling. Notes which were asked for, so
//! that a misspelt one is refused with the nearest known name; collects every problem.

use drover_proto::nearest::nearest;
use serde_json::{Map, Value};

/// What is wrong with one argument of a state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ArgumentError {
    /// The argument.
    pub argument: String,
    /// What is wrong with it, in lower case, literals in backticks.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
}

/// The arguments of one state: those of the function, without requisites and global arguments.
#[derive(Debug)]
pub struct Arguments<'a> {
    name: &'a str,
    values: &'a Map<String, Value>,
    known: Vec<&'static str>,
    errors: Vec<ArgumentError>,
}

impl<'a> Arguments<'a> {
    /// Wraps the arguments of the state called `name`.
    #[must_use]
    pub fn new(name: &'a str, values: &'a Map<String, Value>) -> Self {
        Self { name, values, known: vec!["name"], errors: Vec::new() }
    }

    /// The state's name: its `name` argument, or its ID.
    #[must_use]
    pub fn name(&self) -> &'a str {
        self.name
    }

    /// The argument as it was written; `null` is the same as absent.
    pub fn value(&mut self, key: &'static str) -> Option<&'a Value> {
        self.known.push(key);
        self.values.get(key).filter(|value| !value.is_null())
    }

    /// Whether the argument was written at all, `null` included.
    #[must_use]
    pub fn is_written(&self, key: &str) -> bool {
        self.values.contains_key(key)
    }

    /// Text; numbers and booleans are taken as they print in Python (`8080`, `True`).
    pub fn string(&mut self, key: &'static str) -> Option<String> {
        let value = self.value(key)?;
        let text = scalar_text(value);
        if text.is_none() {
            self.refuse_value(key, value, "a string");
        }
        text
    }

    /// Text that must be there.
    pub fn required_string(&mut self, key: &'static str) -> String {
        if self.value(key).is_none() {
            self.error(key, format!("`{key}` is missing"), Some(format!("add `- {key}: …`")));
        }
        self.string(key).unwrap_or_default()
    }

    /// A boolean, or `default` when absent.
    pub fn bool(&mut self, key: &'static str, default: bool) -> bool {
        match self.value(key) {
            None => default,
            Some(Value::Bool(flag)) => *flag,
            Some(other) => {
                self.refuse_value(key, other, "`true` or `false`");
                default
            }
        }
    }

    /// A whole number; a string of digits will do.
    pub fn integer(&mut self, key: &'static str) -> Option<i64> {
        let value = self.value(key)?;
        let number = value.as_i64().or_else(|| value.as_str()?.trim().parse().ok());
        if number.is_none() {
            self.refuse_value(key, value, "a whole number");
        }
        number
    }

    /// A number of seconds or the like; a string of digits will do.
    pub fn number(&mut self, key: &'static str) -> Option<f64> {
        let value = self.value(key)?;
        let number = value.as_f64().or_else(|| value.as_str()?.trim().parse().ok());
        if number.is_none() {
            self.refuse_value(key, value, "a number");
        }
        number
    }

    /// A list of strings; one string is a list of one.
    pub fn strings(&mut self, key: &'static str) -> Option<Vec<String>> {
        let value = self.value(key)?;
        let texts = match value {
            Value::Array(items) => items.iter().map(scalar_text).collect(),
            Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::String(_)
            | Value::Object(_) => scalar_text(value).map(|text| vec![text]),
        };
        if texts.is_none() {
            self.refuse_value(key, value, "a string or a list of strings");
        }
        texts
    }

    /// A map; a list of one-key maps, as SLS files write them, is one too.
    pub fn map(&mut self, key: &'static str) -> Option<Map<String, Value>> {
        let value = self.value(key)?;
        let map = match value {
            Value::Object(map) => Some(map.clone()),
            Value::Array(items) => items
                .iter()
                .map(Value::as_object)
                .collect::<Option<Vec<_>>>()
                .map(|maps| maps.into_iter().flatten().map(|(k, v)| (k.clone(), v.clone())))
                .map(Iterator::collect),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
        };
        if map.is_none() {
            self.refuse_value(key, value, "a map");
        }
        map
    }

    /// Refuses arguments that Salt has and Drover has not, saying why, so that none is ignored.
    pub fn unsupported(&mut self, keys: &[&'static str], hint: &str) {
        for key in keys {
            self.known.push(key);
            if self.values.contains_key(*key) {
                let message = format!("`{key}` is not supported");
                self.error(key, message, Some(hint.to_owned()).filter(|hint| !hint.is_empty()));
            }
        }
    }

    /// Notes a problem.
    pub fn error(&mut self, argument: &str, message: impl Into<String>, hint: Option<String>) {
        self.errors.push(ArgumentError {
            argument: argument.to_owned(),
            message: message.into(),
            hint,
        });
    }

    /// Refuses a value, saying what was wanted.
    pub fn refuse_value(&mut self, key: &str, value: &Value, wanted: &str) {
        self.error(key, format!("`{key}` must be {wanted}, not `{value}`"), None);
    }

    /// Ends the reading: every argument that nobody asked for is a problem too.
    pub(crate) fn finish(mut self, function: &str, global: &[&'static str]) -> Vec<ArgumentError> {
        for key in self.values.keys().filter(|key| !self.known.contains(&key.as_str())) {
            let candidates = self.known.iter().chain(global).copied();
            let hint = nearest(key, candidates).map(|known| format!("did you mean `{known}`?"));
            self.errors.push(ArgumentError {
                argument: key.clone(),
                message: format!("`{function}` has no argument `{key}`"),
                hint,
            });
        }
        self.errors
    }
}

/// A scalar as text, as Python prints it; `None` for lists, maps and null.
#[must_use]
pub(crate) fn scalar_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(true) => Some("True".to_owned()),
        Value::Bool(false) => Some("False".to_owned()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn misspelt_argument_is_refused_with_the_nearest_known_one() {
        let values = json!({"contnets": "x"});
        let mut arguments = Arguments::new("/a", values.as_object().unwrap());
        assert_eq!(arguments.string("contents"), None);
        let errors = arguments.finish("file.managed", &[]);
        assert_eq!(errors.len(), 1);
        assert_eq!(errors[0].to_string(), "`file.managed` has no argument `contnets`");
        assert_eq!(errors[0].hint.as_deref(), Some("did you mean `contents`?"));
    }

    #[test]
    fn list_of_one_key_maps_is_a_map() {
        let values = json!({"environment": [{"A": 1}, {"B": "two"}]});
        let mut arguments = Arguments::new("c", values.as_object().unwrap());
        let map = arguments.map("environment").unwrap();
        assert_eq!(Value::Object(map), json!({"A": 1, "B": "two"}));
    }
}
