//! `template`: an event's text in its receiver's own form. Compiled as the configuration is read, so that what is wrong
//! with it is told before the master starts; what fails for one event is that event's alone.

use std::sync::Arc;

use drover_states::{diagnostic::Diagnostic, yaml::Node};
use minijinja::{
    AutoEscape, Environment, Error, ErrorKind, UndefinedBehavior, Value as Jinja, value::Serde,
};
use serde_json::{Value, json};

use super::config::wrong;

/// What one event's text may spend: a template cannot hold up the bridge.
const FUEL: u64 = 100_000;
/// Its name within its environment.
const NAME: &str = "template";

/// A template that was understood.
#[derive(Debug, Clone)]
pub struct Template {
    environment: Arc<Environment<'static>>,
}

impl Template {
    /// Reads a text.
    ///
    /// # Errors
    /// With the place within the file, when it is no template.
    pub fn read(node: &Node, text: &str) -> Result<Self, Diagnostic> {
        let Some(source) = node.as_str() else {
            return Err(wrong(
                node,
                text,
                "`template` must be a text, such as `'{{ event.tag }}'`",
            ));
        };
        Self::compile(source).map_err(|error| {
            let wrong = Diagnostic::new(format!("`template`: {}", message(&error)));
            let (line, column) = place(node, text, source, &error);
            wrong.at(text, line, Some(column))
        })
    }

    /// Understands a text.
    ///
    /// # Errors
    /// When it is no template.
    pub fn compile(source: &str) -> Result<Self, Error> {
        let mut environment = Environment::new();
        // A field that is missing is an error, and may be asked for with `if` or `default`.
        environment.set_undefined_behavior(UndefinedBehavior::SemiStrict);
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment.set_fuel(Some(FUEL));
        environment.set_debug(true);
        environment.add_template_owned(NAME, source.to_owned())?;
        Ok(Self { environment: Arc::new(environment) })
    }

    /// The text of an event, which is given as JSON; its grains are `grains` too.
    ///
    /// # Errors
    /// What is wrong, with its line in the template.
    pub fn render(&self, event: Value) -> Result<String, String> {
        let grains = event.get("grains").cloned().unwrap_or_else(|| json!({}));
        self.render_with(Jinja::from_pairs([
            ("event", Jinja::from(Serde(&event))),
            ("grains", Jinja::from(Serde(&grains))),
        ]))
    }

    /// The text of something else, whose parts have these names.
    ///
    /// # Errors
    /// What is wrong, with its line in the template.
    pub fn render_in(&self, context: &Value) -> Result<String, String> {
        self.render_with(Jinja::from(Serde(context)))
    }

    fn render_with(&self, context: Jinja) -> Result<String, String> {
        let template = self.environment.get_template(NAME);
        template.and_then(|template| template.render(context)).map_err(|error| {
            let line = error.line().map(|line| format!(", line {line}")).unwrap_or_default();
            format!("template{line}: {}", message(&error))
        })
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the enum is foreign and may grow")]
fn message(error: &Error) -> String {
    let detail = error.detail().unwrap_or_default();
    match error.kind() {
        ErrorKind::SyntaxError => detail.to_owned(),
        ErrorKind::OutOfFuel => {
            "it takes too many steps; look for a loop over a long list".to_owned()
        }
        ErrorKind::UndefinedError => {
            let expression = error.range().and_then(|range| error.template_source()?.get(range));
            match expression {
                Some(expression) => format!("undefined value: `{expression}` is not there"),
                None => "undefined value".to_owned(),
            }
        }
        kind if detail.is_empty() => kind.to_string(),
        kind => format!("{kind}: {detail}"),
    }
}

/// Where in the file an error is: its line is looked for from where the value begins, since a block's text begins on the
/// next line and is indented.
fn place(node: &Node, text: &str, source: &str, error: &Error) -> (usize, usize) {
    let start = (node.position.line, node.position.column);
    let Some(number) = error.line() else { return start };
    let Some(wanted) = source.lines().nth(number.saturating_sub(1)) else { return start };
    let wanted = wanted.trim();
    if wanted.is_empty() {
        return start;
    }
    let found = text.lines().enumerate().skip(start.0 - 1).find_map(|(index, line)| {
        // On its own line the value stands after its key.
        let from = if index + 1 == start.0 { line.char_indices().nth(start.1 - 1)?.0 } else { 0 };
        let at = from + line.get(from..)?.find(wanted)?;
        Some((index + 1, line, at))
    });
    let Some((line, shown, at)) = found else { return start };
    // The error's bytes count from the template's beginning; on its line they count from the line's.
    let before: usize = source.split_inclusive('\n').take(number - 1).map(str::len).sum();
    let lead = source[before..].len() - source[before..].trim_start().len();
    let within = error.range().map_or(0, |range| range.start.saturating_sub(before + lead));
    let column = shown.get(..at + within).unwrap_or(&shown[..at]).chars().count() + 1;
    (line, column)
}

#[cfg(test)]
mod tests {
    use drover_states::yaml::{self, Node};
    use insta::assert_snapshot;

    use super::*;

    fn node(text: &str) -> Node {
        yaml::load_nodes(text).unwrap().unwrap().get("template").unwrap().clone()
    }

    fn wrong(text: &str) -> (String, Option<usize>) {
        let wrong = Template::read(&node(text), text).unwrap_err();
        (wrong.to_string(), wrong.column)
    }

    #[test]
    fn an_error_has_its_place_in_the_file() {
        let (told, column) = wrong("name: x\ntemplate: '{{ event.tag }} {{ event. }}'\n");
        assert_snapshot!(told, @"
        line 2: `template`: unexpected end of variable block, expected identifier or integer
            2 | template: '{{ event.tag }} {{ event. }}'
        ");
        assert_eq!(column, Some(38));
        let (told, column) = wrong("template: |\n  {{ event.tag }}\n  {% if %}\n");
        assert_snapshot!(told, @"
        line 3: `template`: unexpected end of block
            3 |   {% if %}
        ");
        assert_eq!(column, Some(9));
    }

    #[test]
    fn a_template_without_an_end_is_ended() {
        let text =
            "{% for a in range(10000) %}{% for b in range(10000) %}x{% endfor %}{% endfor %}";
        let told = Template::compile(text).unwrap().render(json!({})).unwrap_err();
        assert_snapshot!(told, @"template, line 1: it takes too many steps; look for a loop over a long list");
    }

    #[test]
    fn what_may_be_missing_can_be_asked_for() {
        let text = "{{ event.data.a | default('none') }}{% if event.data.b %}b{% endif %} {{ grains.role }}";
        let template = Template::compile(text).unwrap();
        let event = json!({"data": {}, "grains": {"role": "rfid"}});
        assert_eq!(template.render(event).unwrap(), "none rfid");
    }
}
