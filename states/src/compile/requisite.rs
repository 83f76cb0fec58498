//! Requisites: read from a state's arguments, `_in` forms turned about, names resolved to chunks.

use serde_json::Value;

use super::high::Argument;
use crate::low::{Join, RequisiteKind};
use crate::module::scalar_text;

/// A requisite as written.
#[derive(Debug, Clone)]
pub(super) struct Written {
    /// `require_in`, as the error shows it.
    pub(super) keyword: String,
    pub(super) kind: RequisiteKind,
    pub(super) join: Join,
    /// `true` for the `_in` forms: the targets get the requisite, on this state.
    pub(super) inverted: bool,
    pub(super) targets: Vec<Target>,
    pub(super) argument: Argument,
}

/// One member of a requisite.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    /// `- sls: name`: every state of that SLS.
    Sls(String),
    /// `- file: /etc/x`: a state module and an ID or name.
    State(String, String),
    /// `- some-id`: every state of that ID or name.
    Id(String),
}

impl Target {
    /// How Salt's error names it.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::Sls(sls) => format!("(sls: {sls})"),
            Self::State(state, name) => format!("({state}: {name})"),
            Self::Id(id) => format!("(id: {id})"),
        }
    }

    /// Whether the chunk with these names is meant.
    pub(super) fn matches(&self, sls: &str, state: &str, id: &str, name: &str) -> bool {
        match self {
            Self::Sls(wanted) => glob(wanted, sls),
            Self::State(module, wanted) => {
                state == module && (glob(wanted, id) || glob(wanted, name))
            }
            Self::Id(wanted) => glob(wanted, id) || glob(wanted, name),
        }
    }
}

/// Whether the argument is a requisite of a kind that we have.
pub(super) fn is_requisite(key: &str) -> bool {
    parse_keyword(key).is_some()
}

fn parse_keyword(key: &str) -> Option<(RequisiteKind, Join, bool)> {
    let (key, inverted) = match key.strip_suffix("_in") {
        Some(key) => (key, true),
        None => (key, false),
    };
    let (key, join) = match key.strip_suffix("_any") {
        Some(key) => (key, Join::Any),
        None => (key, Join::All),
    };
    let (kind, join) = match key {
        "require" => (RequisiteKind::Require, join),
        "watch" => (RequisiteKind::Watch, join),
        // One target is enough for these two, as in Salt.
        "onchanges" => (RequisiteKind::Onchanges, Join::Any),
        "onfail" => (RequisiteKind::Onfail, Join::Any),
        "onfail_all" => (RequisiteKind::Onfail, Join::All),
        _ => return None,
    };
    Some((kind, join, inverted))
}

/// Reads a requisite; `None` if the argument is none.
pub(super) fn read(argument: &Argument) -> Option<Result<Written, String>> {
    let (kind, join, inverted) = parse_keyword(&argument.key)?;
    let keyword = argument.key.clone();
    let value = argument.node.to_value();
    let items = match value {
        Value::Array(items) => items,
        one @ (Value::String(_) | Value::Object(_)) => vec![one],
        Value::Null | Value::Bool(_) | Value::Number(_) => {
            return Some(Err(format!("The {keyword} requisite is not formed as a list")));
        }
    };
    let targets = items.iter().map(|item| target(&keyword, item)).collect::<Result<Vec<_>, _>>();
    Some(targets.map(|targets| {
        let argument = argument.clone();
        Written { keyword, kind, join, inverted, targets, argument }
    }))
}

fn target(keyword: &str, item: &Value) -> Result<Target, String> {
    let malformed = || {
        format!(
            "Requisite declaration {item} in `{keyword}` is not formed as a single key dictionary"
        )
    };
    match item {
        Value::Object(map) if map.len() == 1 => {
            let (key, value) = map.iter().next().ok_or_else(malformed)?;
            let name = scalar_text(value).ok_or_else(malformed)?;
            Ok(match key.as_str() {
                "sls" => Target::Sls(name),
                "id" => Target::Id(name),
                state => Target::State(state.to_owned(), name),
            })
        }
        Value::Object(_) | Value::Array(_) | Value::Null => Err(malformed()),
        Value::String(_) | Value::Number(_) | Value::Bool(_) => {
            scalar_text(item).map(Target::Id).ok_or_else(malformed)
        }
    }
}

/// A shell glob (`*`, `?`, `[a-z]`, `[!a-z]`); a text without those means itself.
fn glob(pattern: &str, text: &str) -> bool {
    if pattern == text {
        return true;
    }
    if !pattern.contains(['*', '?', '[']) {
        return false;
    }
    let mut expression = String::from(r"\A(?s:");
    let mut rest = pattern.chars();
    while let Some(c) = rest.next() {
        match c {
            '*' => expression.push_str(".*"),
            '?' => expression.push('.'),
            '[' => match rest.as_str().split_once(']') {
                Some((set, after)) if !set.is_empty() => {
                    let (negated, set) = match set.strip_prefix('!') {
                        Some(set) => ("^", set),
                        None => ("", set),
                    };
                    let set = set.replace('\\', r"\\").replace('[', r"\[").replace('&', r"\&");
                    expression.push_str(&format!("[{negated}{set}]"));
                    rest = after.chars();
                }
                Some(_) | None => expression.push_str(r"\["),
            },
            c => expression.push_str(&regex::escape(c.encode_utf8(&mut [0; 4]))),
        }
    }
    expression.push_str(r")\z");
    regex::Regex::new(&expression).is_ok_and(|regex| regex.is_match(text))
}
