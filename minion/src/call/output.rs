//! How a return is shown: Salt's outputters, as far as they are needed on a device.

use std::{fmt::Write as _, str::FromStr};

use serde_json::{Value, json};
use thiserror::Error;

/// A form of output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Output {
    /// For people.
    #[default]
    Nested,
    /// One JSON value.
    Json,
    /// YAML.
    Yaml,
}

/// A name that is no form of output.
#[derive(Debug, Error)]
#[error("`{0}` is no output: use json, yaml or nested")]
pub struct UnknownOutput(String);

impl FromStr for Output {
    type Err = UnknownOutput;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "nested" => Ok(Self::Nested),
            "json" => Ok(Self::Json),
            "yaml" => Ok(Self::Yaml),
            other => Err(UnknownOutput(other.to_owned())),
        }
    }
}

impl Output {
    /// A return under the name `local`, as `salt-call` shows it, with a newline at its end.
    #[must_use]
    pub fn show(self, returned: &Value) -> String {
        match self {
            Self::Json => {
                let whole = json!({ "local": returned });
                serde_json::to_string_pretty(&whole).unwrap_or_default() + "\n"
            }
            Self::Yaml => {
                let mut text = String::from("local:");
                yaml(&mut text, returned, 2);
                text
            }
            Self::Nested => {
                let mut text = String::from("local:\n");
                nested(&mut text, returned, 4);
                text
            }
        }
    }
}

/// After a `key:` or a `-`: a scalar on the same line, a collection beneath it.
fn yaml(text: &mut String, value: &Value, indent: usize) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            text.push('\n');
            for (key, value) in map {
                let _ = write!(text, "{:indent$}{}:", "", yaml_scalar(&Value::String(key.clone())));
                yaml(text, value, indent + 2);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            text.push('\n');
            for item in items {
                let _ = write!(text, "{:indent$}-", "");
                yaml(text, item, indent + 2);
            }
        }
        Value::Null
        | Value::Bool(_)
        | Value::Number(_)
        | Value::String(_)
        | Value::Array(_)
        | Value::Object(_) => {
            let _ = writeln!(text, " {}", yaml_scalar(value));
        }
    }
}

/// A text without quotes only where every reader of YAML takes it for one.
fn yaml_scalar(value: &Value) -> String {
    match value {
        Value::String(text) => {
            let plain = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/')
                && text.chars().all(|c| c.is_ascii_alphanumeric() || "_-./ ".contains(c))
                && !text.ends_with(' ')
                && !matches!(
                    text.to_ascii_lowercase().as_str(),
                    "y" | "n" | "yes" | "no" | "on" | "off" | "true" | "false" | "null" | "none"
                );
            // JSON's strings are YAML's double-quoted ones.
            if plain { text.clone() } else { value.to_string() }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            value.to_string()
        }
    }
}

/// Salt's `nested`: keys with colons, what is beneath them indented by four.
fn nested(text: &mut String, value: &Value, indent: usize) {
    match value {
        Value::Object(map) => {
            if indent > 4 {
                let _ = writeln!(text, "{:1$}----------", "", indent);
            }
            for (key, value) in map {
                let _ = writeln!(text, "{:indent$}{key}:", "");
                nested(text, value, indent + 4);
            }
        }
        Value::Array(items) => {
            for item in items {
                match item {
                    Value::Object(_) | Value::Array(_) => {
                        let _ = writeln!(text, "{:indent$}|_", "");
                        nested(text, item, indent + 2);
                    }
                    Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
                        let _ = writeln!(text, "{:indent$}- {}", "", scalar(item));
                    }
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            for line in scalar(value).split('\n') {
                let _ = writeln!(text, "{:indent$}{line}", "");
            }
        }
    }
}

fn scalar(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        Value::Null => "None".to_owned(),
        Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::*;

    fn example() -> Value {
        json!({"ok": true, "list": [1, "yes", {"a": []}], "text": "one\ntwo"})
    }

    #[test]
    fn nested_is_salts() {
        assert_snapshot!(Output::Nested.show(&example()), @r"
        local:
            ok:
                True
            list:
                - 1
                - yes
                |_
                  ----------
                  a:
            text:
                one
                two
        ");
    }

    #[test]
    fn yaml_is_read_back_as_it_was() {
        let text = Output::Yaml.show(&example());
        let read = drover_states::yaml::load(&text).unwrap();
        assert_eq!(read["local"], example(), "{text}");
    }
}
