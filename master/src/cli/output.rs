//! What goes to standard output, in the format that was asked for, and the notes beside it that go to standard error.

pub(super) mod highstate;
pub(super) mod nested;
pub(super) mod style;
pub(super) mod table;

use std::io::{self, IsTerminal as _, Write as _};

use serde_json::Value;

use super::{
    arguments::{Format, Global},
    failure::Failure,
};
use style::Style;

/// Prints in one format.
#[derive(Debug)]
pub(super) struct Printer {
    format: Option<Format>,
    style: Style,
}

impl Printer {
    pub(super) fn new(global: &Global) -> Self {
        let is_terminal = io::stdout().is_terminal();
        let refused =
            global.no_color || std::env::var_os("NO_COLOR").is_some_and(|set| !set.is_empty());
        let colours = global.force_color || (is_terminal && !refused);
        Self { format: global.out, style: Style { colours, is_terminal } }
    }

    /// The format, where `default` is this command's own.
    pub(super) fn format_or(&self, default: Format) -> Format {
        self.format.unwrap_or(default)
    }

    pub(super) const fn style(&self) -> Style {
        self.style
    }

    /// One value that is all of the output, where the command has a table for it.
    pub(super) fn print(
        &self,
        value: &Value,
        default: Format,
        table: impl FnOnce(&Value, Style) -> String,
    ) -> Result<(), Failure> {
        match self.format_or(default) {
            Format::Json => self.text(&pretty(value)),
            Format::Yaml => self.text(&yaml(value)?),
            Format::Nested => self.text(&nested::render(value, self.style)),
            Format::Txt => self.text(&lines(value, self.style)),
            Format::Table => self.text(&table(value, self.style)),
            Format::Quiet => Ok(()),
        }
    }

    /// Text, and a line's end where it has none.
    pub(super) fn text(&self, text: &str) -> Result<(), Failure> {
        let end = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
        let mut out = io::stdout().lock();
        write!(out, "{text}{end}").and_then(|()| out.flush()).map_err(|_| Failure::OutputClosed)
    }

    /// A note to standard error.
    pub(super) fn note(&self, text: &str) {
        eprintln!("{text}");
    }
}

/// One line for each entry: its name, and what is known of it; a text stands as it is.
pub(super) fn lines(value: &Value, style: Style) -> String {
    let word = |value: &Value| match value {
        // JSON where a line's end would break the line.
        Value::String(text) if !text.contains(['\n', '\r']) => text.clone(),
        Value::Null
        | Value::Bool(_)
        | Value::Number(_)
        | Value::String(_)
        | Value::Array(_)
        | Value::Object(_) => value.to_string(),
    };
    let line = |text: String| format!("{}\n", style.clean(&text));
    match value {
        Value::Object(fields) => {
            fields.iter().map(|(name, field)| line(format!("{name}: {}", word(field)))).collect()
        }
        Value::Array(items) => items.iter().map(|item| line(word(item))).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => line(word(value)),
    }
}

/// JSON as people read it, on one line where it is short of structure.
pub(super) fn pretty(value: &Value) -> String {
    format!("{value:#}")
}

pub(super) fn yaml(value: &Value) -> Result<String, Failure> {
    serde_saphyr::to_string(value)
        .map_err(|error| Failure::failed("cannot write this as YAML").because(error))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn txt_has_one_line_for_each_entry() {
        let stations = json!({ "line-1": { "manifest": 2 }, "line-2": { "reason": "a\nb" } });
        let expected = "line-1: {\"manifest\":2}\nline-2: {\"reason\":\"a\\nb\"}\n";
        assert_eq!(lines(&stations, Style::default()), expected);
        assert_eq!(lines(&json!(["a", "b\nc", 7]), Style::default()), "a\n\"b\\nc\"\n7\n");
        assert_eq!(lines(&json!({ "rfid-1": "accepted" }), Style::default()), "rfid-1: accepted\n");
    }
}
