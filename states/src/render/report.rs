//! A template's error in the operator's words: file, line, the line itself, and the nearest known
//! name where a name was wrong.

use std::error::Error as _;

use drover_proto::nearest::nearest;
use minijinja::{Error, ErrorKind, Value};

use super::filters;
use crate::diagnostic::Diagnostic;

#[expect(clippy::wildcard_enum_match_arm, reason = "the enum is foreign and may grow")]
/// Turns an error of rendering `text` into a diagnostic. `known` gives the global of a name.
pub(super) fn diagnostic(
    error: &Error,
    file: &str,
    text: &str,
    known: impl Fn(&str) -> Option<Value>,
) -> Diagnostic {
    let expression = error.range().and_then(|range| text.get(range)).unwrap_or_default();
    let (message, hint) = match error.kind() {
        ErrorKind::UndefinedError => undefined(expression, known),
        ErrorKind::UnknownFilter => {
            let detail = error.detail().unwrap_or_default();
            let name = detail.split_whitespace().nth(1).unwrap_or(detail).trim_matches('`');
            let near = nearest(name, filters::NAMES.iter().copied());
            (format!("unknown Jinja filter `{name}`"), near.map(did_you_mean))
        }
        ErrorKind::TemplateNotFound => (
            error.detail().unwrap_or("template not found").to_owned(),
            Some("paths begin at the file root; `./` is the importing file's directory".to_owned()),
        ),
        ErrorKind::SyntaxError => {
            let detail = error.detail().unwrap_or("syntax error");
            (format!("Jinja syntax error: {detail}"), syntax_hint(detail))
        }
        ErrorKind::UnknownMethod => (
            error.detail().unwrap_or("unknown method").to_owned(),
            Some(
                "lists and maps do not change in templates: write `{% set x = x + [item] %}`, \
                 with a `namespace` inside loops"
                    .to_owned(),
            ),
        ),
        ErrorKind::OutOfFuel => (
            "the template takes too many steps".to_owned(),
            Some("look for a loop over a very long list".to_owned()),
        ),
        _ => {
            let mut message = error.detail().unwrap_or("error in template").to_owned();
            if let Some(source) = error.source() {
                message = format!("{message}: {source}");
            }
            (message, None)
        }
    };
    let diagnostic = Diagnostic::new(message).in_file(file).maybe_hint(hint);
    match error.line() {
        Some(line) => diagnostic.at(text, line, None),
        None => diagnostic,
    }
}

fn did_you_mean(name: &str) -> String {
    format!("did you mean `{name}`?")
}

/// `grains['chanel']`: names what is missing, and the key that is there and looks like it.
fn undefined(expression: &str, known: impl Fn(&str) -> Option<Value>) -> (String, Option<String>) {
    if expression.is_empty() {
        return ("a Jinja variable is undefined".to_owned(), None);
    }
    let path = path(expression);
    let Some((last, parents)) = path.split_last() else {
        return (format!("Jinja variable `{expression}` is undefined"), None);
    };
    let Some((root, between)) = parents.split_first() else {
        let message = format!("Jinja variable '{last}' is undefined");
        let names = ["grains", "pillar", "salt", "opts", "saltenv", "sls", "slspath", "tpldir"];
        return (message, nearest(last, names).map(did_you_mean));
    };
    let message = format!("Jinja variable '{}' has no attribute '{last}'", parents.join(":"));
    let parent = between.iter().try_fold(known(root).unwrap_or_default(), |value, key| {
        value.get_item(&Value::from(*key)).ok()
    });
    let keys: Vec<String> = parent
        .and_then(|parent| parent.try_iter().ok().map(|keys| keys.map(|key| key.to_string())))
        .map(Iterator::collect)
        .unwrap_or_default();
    let near = nearest(last, keys.iter().map(String::as_str)).map(did_you_mean);
    let default = format!("or write `{root}.get('{last}', …)` if it may be absent");
    let hint = near.map_or_else(
        || format!("define it, {default}"),
        |near| format!("{near} {}", default.replacen("or write", "Write", 1)),
    );
    (message, Some(hint))
}

/// The names of `a.b['c']["d"]`; empty if it is anything else.
fn path(expression: &str) -> Vec<&str> {
    let mut names = Vec::new();
    for part in expression.split(['.', '[']) {
        let name = part.trim().trim_end_matches(']').trim_matches(['\'', '"']);
        if name.is_empty() || !name.chars().all(|c| c.is_alphanumeric() || "_-:/".contains(c)) {
            return Vec::new();
        }
        names.push(name);
    }
    names
}

fn syntax_hint(detail: &str) -> Option<String> {
    let statement = detail.strip_prefix("unknown statement ")?;
    Some(match statement {
        "import_yaml" | "import_json" | "import_text" | "load_yaml" | "load_json" | "load_text" => {
            format!(
                "`{statement}` is not supported: put the data into a map with `set` and import \
                 it, or use the filters `load_yaml` and `load_json`"
            )
        }
        _ => "supported are if, for, set, macro, call, filter, raw, include, import, from, do, \
              with, break and continue"
            .to_owned(),
    })
}
