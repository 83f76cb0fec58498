//! `key:sub:pattern` on grains and pillar, as Salt's `subdict_match` does it: every way to cut the expression into a
//! path and a pattern is tried, the longest path first.

use regex::Regex;
use serde_json::{Map, Value};

use super::{TargetError, matches_at_start, regex};
use crate::glob;

/// Each cut is tried at each level of the data, so their number is bounded.
const MOST_CUTS: usize = 16;

/// How a value is compared. Either way upper and lower case are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    Glob,
    Pcre,
}

#[derive(Debug, Clone)]
pub(super) struct DataPattern {
    /// The expression, cut at every delimiter.
    keys: Vec<String>,
    /// What is left from each cut on: `patterns[n]` takes the place of `keys[n..]`.
    patterns: Vec<Pattern>,
}

#[derive(Debug, Clone)]
enum Pattern {
    /// Lower case.
    Glob(String),
    Pcre(Regex),
    /// Cut in the middle of a group, say. Another cut is the one that is meant.
    Nothing,
}

impl DataPattern {
    pub(super) fn parse(text: &str, delimiter: char, how: How) -> Result<Self, TargetError> {
        let keys: Vec<String> = text.split(delimiter).map(str::to_owned).collect();
        if keys.len() == 1 {
            return Err(TargetError::new(
                text.chars().count(),
                format!("`{text}` has no `{delimiter}` between key and value"),
                format!("write `{text}{delimiter}value`, or `{text}{delimiter}*` for any value"),
            ));
        }
        if keys.len() > MOST_CUTS + 1 {
            return Err(TargetError::new(
                0,
                format!("more than {MOST_CUTS} levels"),
                "use another delimiter, as in `G|@key|value`, where the value has colons itself",
            ));
        }
        let mut patterns = Vec::with_capacity(keys.len());
        for from in 0..keys.len() {
            let rest = keys[from..].join(delimiter.encode_utf8(&mut [0; 4]));
            patterns.push(match how {
                How::Glob => Pattern::Glob(rest.to_lowercase()),
                How::Pcre => match regex(&rest, true) {
                    Ok(regex) => Pattern::Pcre(regex),
                    // The whole value must make sense; a part of it need not.
                    Err(error) if from == 1 => {
                        return Err(error.shifted(keys[0].chars().count() + 1));
                    }
                    Err(_) => Pattern::Nothing,
                },
            });
        }
        Ok(Self { keys, patterns })
    }

    pub(super) fn matches(&self, data: &Map<String, Value>) -> bool {
        self.in_map(data, 0)
    }

    /// `keys[from..]` on a map: some of them are a path into it, the rest is the pattern.
    fn in_map(&self, data: &Map<String, Value>, from: usize) -> bool {
        (from + 1..self.keys.len()).rev().any(|cut| {
            if cut == from + 1 && self.keys[from] == "*" {
                return self.in_entries(data, from);
            }
            match descend(data, &self.keys[from..cut]) {
                None => false,
                Some(Value::Object(map)) => !map.is_empty() && self.in_entries(map, cut),
                Some(Value::Array(members)) => members.iter().any(|member| {
                    member.as_object().is_some_and(|map| self.in_entries(map, cut))
                        || self.is_value(member, cut)
                }),
                Some(value) => self.is_value(value, cut),
            }
        })
    }

    /// `keys[from..]` on a map that a path has led to: a key of it, a further path, or `*` for any key.
    fn in_entries(&self, map: &Map<String, Value>, from: usize) -> bool {
        let any_key = self.keys.len() > from + 1 && self.keys[from] == "*";
        let from = if any_key { from + 1 } else { from };
        if let [only] = &self.keys[from..]
            && (only == "*" || map.contains_key(only))
        {
            return true;
        }
        if self.in_map(map, from) {
            return true;
        }
        any_key
            && map.values().any(|value| match value {
                Value::Object(inner) => self.in_entries(inner, from),
                Value::Array(members) => members.iter().any(|member| self.is_value(member, from)),
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
                    self.is_value(value, from)
                }
            })
    }

    fn is_value(&self, value: &Value, from: usize) -> bool {
        let text = match value {
            Value::String(text) => text.to_lowercase(),
            Value::Null => "none".to_owned(),
            Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
                value.to_string().to_lowercase()
            }
        };
        match &self.patterns[from] {
            Pattern::Glob(pattern) => glob::matches(pattern, &text),
            Pattern::Pcre(regex) => matches_at_start(regex, &text),
            Pattern::Nothing => false,
        }
    }
}

/// What lies at a path. A number is an index into a list; any other key is looked for in the list's maps.
fn descend<'a>(data: &'a Map<String, Value>, path: &[String]) -> Option<&'a Value> {
    let (first, rest) = path.split_first()?;
    rest.iter().try_fold(data.get(first)?, |value, key| match value {
        Value::Object(map) => map.get(key),
        Value::Array(members) => match key.parse::<usize>() {
            Ok(index) => members.get(index),
            Err(_) => members.iter().find_map(|member| member.as_object()?.get(key)),
        },
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    })
}
