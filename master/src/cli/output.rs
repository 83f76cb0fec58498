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
            Format::Nested | Format::Txt => self.text(&nested::render(value, self.style)),
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

/// JSON as people read it, on one line where it is short of structure.
pub(super) fn pretty(value: &Value) -> String {
    format!("{value:#}")
}

pub(super) fn yaml(value: &Value) -> Result<String, Failure> {
    serde_saphyr::to_string(value)
        .map_err(|error| Failure::failed("cannot write this as YAML").because(error))
}
