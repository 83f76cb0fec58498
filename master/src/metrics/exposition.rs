//! The text format: <https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format>.

use std::fmt::{Display, Write as _};

/// What a family's numbers are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Only grows, but for restarts.
    Counter,
    /// Goes up and down.
    Gauge,
}

/// Numbers as text.
#[derive(Debug, Default)]
pub(super) struct Exposition(String);

/// One name and its numbers.
pub(super) struct Family<'a> {
    text: &'a mut String,
    name: &'static str,
}

impl Exposition {
    /// The family's numbers follow.
    pub(super) fn family(&mut self, name: &'static str, kind: Kind, help: &str) -> Family<'_> {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        };
        debug_assert!(!help.contains(['\n', '\\']), "help is a line");
        self.0.push_str(&format!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
        Family { text: &mut self.0, name }
    }

    /// A family of one number.
    pub(super) fn one(&mut self, name: &'static str, kind: Kind, help: &str, value: impl Display) {
        self.family(name, kind, help).sample(&[], value);
    }

    pub(super) fn finish(self) -> String {
        self.0
    }
}

impl Family<'_> {
    pub(super) fn sample(&mut self, labels: &[(&str, &str)], value: impl Display) {
        self.text.push_str(self.name);
        for (at, (label, text)) in labels.iter().enumerate() {
            let text = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let before = if at == 0 { '{' } else { ',' };
            let _ = write!(self.text, "{before}{label}=\"{text}\"");
        }
        let end = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.text, "{end} {value}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_has_help_and_type_and_its_labels_are_escaped() {
        let mut exposition = Exposition::default();
        exposition.one("drover_sessions", Kind::Gauge, "Minions.", 3);
        let mut family = exposition.family("drover_events_total", Kind::Counter, "Events.");
        family.sample(&[("kind", "a\"b\\c\nd"), ("x", "y")], 1.5);
        insta::assert_snapshot!(exposition.finish(), @r#"
        # HELP drover_sessions Minions.
        # TYPE drover_sessions gauge
        drover_sessions 3
        # HELP drover_events_total Events.
        # TYPE drover_events_total counter
        drover_events_total{kind="a\"b\\c\nd",x="y"} 1.5
        "#);
    }
}
