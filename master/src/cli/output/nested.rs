//! Salt's nested output: keys with their values indented below them.

use serde_json::Value;

use super::style::{Colour, Style};

/// The value, without a minion's name.
pub(in crate::cli) fn render(value: &Value, style: Style) -> String {
    let mut out = Nested { style, text: String::new() };
    out.value(value, 0, "");
    out.text
}

/// The value, further to the right.
pub(super) fn render_at(value: &Value, indent: usize, style: Style) -> String {
    let mut out = Nested { style, text: String::new() };
    out.value(value, indent, "");
    out.text
}

/// A minion's return below its name.
pub(in crate::cli) fn render_return(
    minion: &str,
    value: &Value,
    colour: Colour,
    style: Style,
) -> String {
    let mut out =
        Nested { style, text: format!("{}\n", style.paint(colour, &format!("{minion}:"))) };
    out.value(value, 4, "");
    out.text
}

struct Nested {
    style: Style,
    text: String,
}

impl Nested {
    fn value(&mut self, value: &Value, indent: usize, prefix: &str) {
        match value {
            Value::Null => self.line(Colour::Yellow, indent, prefix, "None"),
            Value::Bool(true) => self.line(Colour::Yellow, indent, prefix, "True"),
            Value::Bool(false) => self.line(Colour::Yellow, indent, prefix, "False"),
            Value::Number(number) => {
                self.line(Colour::Yellow, indent, prefix, &number.to_string());
            }
            Value::String(text) => {
                let mut prefix = prefix.to_owned();
                for line in text.lines() {
                    self.line(Colour::Green, indent, &prefix, line);
                    prefix = " ".repeat(prefix.len());
                }
            }
            Value::Array(items) => {
                for item in items {
                    match item {
                        Value::Array(_) => {
                            self.line(Colour::Green, indent, "", "|_");
                            self.value(item, indent + 2, "- ");
                        }
                        Value::Object(_) => {
                            self.line(Colour::Green, indent, "", "|_");
                            self.value(item, indent + 2, "");
                        }
                        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
                            self.value(item, indent, "- ");
                        }
                    }
                }
            }
            Value::Object(fields) => {
                if indent > 0 {
                    self.line(Colour::Cyan, indent, "", "----------");
                }
                let mut fields: Vec<_> = fields.iter().collect();
                fields.sort_by_key(|(key, _)| *key);
                for (key, field) in fields {
                    self.line(Colour::Cyan, indent, prefix, &format!("{key}:"));
                    self.value(field, indent + 4, "");
                }
            }
        }
    }

    fn line(&mut self, colour: Colour, indent: usize, prefix: &str, text: &str) {
        self.text.push_str(&" ".repeat(indent));
        self.text.push_str(&self.style.paint(colour, &format!("{prefix}{text}")));
        self.text.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;
    use serde_json::json;

    use super::*;

    #[test]
    fn returns_look_as_salts_do() {
        let value = json!({
            "os": "Debian",
            "roles": ["rfid", 7, null, ["a", "b"], { "deep": true }],
            "text": "one\ntwo",
            "armed": false,
            "lines": ["first\nsecond"],
        });
        assert_snapshot!(render_return("rfid-1", &value, Colour::Green, Style::default()), @"
        rfid-1:
            ----------
            armed:
                False
            lines:
                - first
                  second
            os:
                Debian
            roles:
                - rfid
                - 7
                - None
                |_
                  - a
                  - b
                |_
                  ----------
                  deep:
                      True
            text:
                one
                two
        ");
        assert_snapshot!(render_return("rfid-1", &json!(true), Colour::Green, Style::default()), @"
        rfid-1:
            True
        ");
    }
}
