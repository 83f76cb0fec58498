//! Arguments as Salt's command line reads them: each is YAML where that makes sense of it, and `KEY=VALUE` is a keyword.

use std::time::Duration;

use drover_states::yaml;
use serde_json::{Map, Value};

/// Splits a function's arguments into positional and keyword ones.
pub(super) fn arguments(texts: &[String]) -> (Vec<Value>, Map<String, Value>) {
    let mut positional = Vec::new();
    let mut keywords = Map::new();
    for text in texts {
        match keyword(text) {
            Some((key, value)) => {
                keywords.insert(key.to_owned(), value_of(value));
            }
            None => positional.push(value_of(text)),
        }
    }
    (positional, keywords)
}

/// `KEY=VALUE`, where `KEY` begins with a letter or `_`; `a==b` is none.
pub(super) fn keyword(text: &str) -> Option<(&str, &str)> {
    let (key, value) = text.split_once('=')?;
    let first = key.chars().next()?;
    let is_key = (first.is_alphabetic() || first == '_')
        && key.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '.' | '-'));
    (is_key && !value.starts_with('=')).then_some((key, value))
}

/// What YAML makes of it, unless that would lose something that was meant literally: a map or list is only taken in
/// its bracketed form, a `#` does not begin a comment, and what is no YAML is text.
pub(super) fn value_of(text: &str) -> Value {
    let literal = || Value::String(text.to_owned());
    let digits_and_underscores =
        text.contains('_') && text.chars().all(|c| c.is_ascii_digit() || matches!(c, '_' | '-'));
    if text.trim().is_empty() || digits_and_underscores {
        return literal();
    }
    if text == "None" {
        return Value::Null;
    }
    let Ok(value) = yaml::load(text) else { return literal() };
    match value {
        Value::Object(_) if !text.starts_with('{') => literal(),
        Value::Array(_) if !text.starts_with('[') => literal(),
        Value::String(_) if text.contains('#') => literal(),
        Value::Null if text.contains('#') || text == "!" => literal(),
        Value::String(empty) if empty.is_empty() && matches!(text, "|" | "!") => literal(),
        Value::Null
        | Value::Bool(_)
        | Value::Number(_)
        | Value::String(_)
        | Value::Array(_)
        | Value::Object(_) => value,
    }
}

/// `90`, `90s`, `15m`, `12h`, `7d`, `2w`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    let seconds = match unit {
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3_600.0,
        "d" => 86_400.0,
        "w" => 604_800.0,
        _ => return Err(format!("`{unit}` is no unit; use s, m, h, d or w, as in 12h")),
    };
    let number: f64 = text[..text.len() - unit.len()]
        .parse()
        .map_err(|_| "a duration is a number and a unit, as in 90s, 15m, 12h, 7d".to_owned())?;
    Duration::try_from_secs_f64(number * seconds).map_err(|_| "this is too long".to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn arguments_are_read_as_salt_reads_them() {
        for (text, value) in [
            ("false", json!(false)),
            ("yes", json!(true)),
            ("7", json!(7)),
            ("1.5", json!(1.5)),
            ("[1, yes, x]", json!([1, true, "x"])),
            ("{a: {b: 1}}", json!({ "a": { "b": 1 } })),
            ("a: b", json!("a: b")),
            ("- a", json!("- a")),
            ("echo one; echo two", json!("echo one; echo two")),
            ("a # b", json!("a # b")),
            ("#", json!("#")),
            ("1_000", json!("1_000")),
            ("None", json!(null)),
            ("null", json!(null)),
            ("", json!("")),
            ("[unclosed", json!("[unclosed")),
            ("'quoted'", json!("quoted")),
            ("|", json!("|")),
        ] {
            assert_eq!(value_of(text), value, "{text}");
        }
    }

    #[test]
    fn a_key_and_a_value_are_a_keyword() {
        let texts = ["rfid", "test=True", "pillar={a: 1}", "a==b", "1=2", "x y=z", "="];
        let (positional, keywords) = arguments(&texts.map(str::to_owned));
        assert_eq!(
            positional,
            [json!("rfid"), json!("a==b"), json!("1=2"), json!("x y=z"), json!("=")]
        );
        assert_eq!(Value::Object(keywords), json!({ "test": true, "pillar": { "a": 1 } }));
    }

    #[test]
    fn durations_have_units() {
        for (text, seconds) in
            [("1s", 1.0), ("90", 90.0), ("1.5m", 90.0), ("12h", 43_200.0), ("7d", 604_800.0)]
        {
            assert_eq!(duration(text).unwrap().as_secs_f64(), seconds, "{text}");
        }
        for text in ["", "x", "1y", "-1", "1.2.3", "99999999999999999999d"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
