//! Salt's Jinja filters beside minijinja's own: the ones that device states and public formulas use.

use minijinja::value::{Kwargs, Rest, Serde};
use minijinja::{Environment, Error, ErrorKind, Value};
use regex::{Regex, RegexBuilder};

use super::functions::traverse;
use crate::yaml;

/// Every filter there is, for the hint beside an unknown one.
pub(super) const NAMES: &[&str] = &[
    "abs",
    "attr",
    "batch",
    "bool",
    "capitalize",
    "count",
    "d",
    "default",
    "dictsort",
    "difference",
    "escape",
    "first",
    "flatten",
    "float",
    "format",
    "from_entries",
    "groupby",
    "indent",
    "int",
    "intersect",
    "is_ip",
    "is_ipv4",
    "is_ipv6",
    "is_list",
    "items",
    "join",
    "json",
    "last",
    "length",
    "lines",
    "list",
    "load_json",
    "load_yaml",
    "lower",
    "map",
    "max",
    "min",
    "path_join",
    "pprint",
    "quote",
    "regex_escape",
    "regex_match",
    "regex_replace",
    "regex_search",
    "reject",
    "rejectattr",
    "replace",
    "reverse",
    "round",
    "safe",
    "select",
    "selectattr",
    "sha256",
    "slice",
    "sort",
    "split",
    "str_to_num",
    "string",
    "sum",
    "symmetric_difference",
    "title",
    "to_bool",
    "to_entries",
    "to_num",
    "tojson",
    "traverse",
    "trim",
    "union",
    "unique",
    "upper",
    "yaml",
    "yaml_dquote",
    "yaml_encode",
    "yaml_squote",
    "zip",
];

/// Adds them.
pub(super) fn add(jinja: &mut Environment<'static>) {
    jinja.add_filter("json", json);
    jinja.add_filter("yaml", to_yaml);
    jinja.add_filter("yaml_encode", |value: Value| json_text(&value));
    jinja.add_filter("yaml_dquote", |value: Value| json_text(&Value::from(value.to_string())));
    jinja.add_filter("yaml_squote", |value: Value| {
        format!("'{}'", value.to_string().replace('\'', "''"))
    });
    jinja.add_filter("load_yaml", |text: String| {
        yaml::load(&text).map(|value| Value::from(Serde(&value))).map_err(|e| bad(&e.to_string()))
    });
    jinja.add_filter("load_json", |text: String| {
        serde_json::from_str::<serde_json::Value>(&text)
            .map(|value| Value::from(Serde(&value)))
            .map_err(|error| bad("not valid JSON").with_source(error))
    });
    jinja.add_filter("to_bool", |value: Value| match value.as_str() {
        Some(text) => matches!(text.to_lowercase().as_str(), "yes" | "1" | "true"),
        None => value.is_true(),
    });
    jinja.add_filter("quote", |text: String| shell_quote(&text));
    jinja.add_filter("regex_escape", |text: String| regex::escape(&text));
    jinja.add_filter("regex_replace", regex_replace);
    jinja.add_filter("regex_search", |text: String, pattern: String, options: Kwargs| {
        groups(&text, &pattern, &options, false)
    });
    jinja.add_filter("regex_match", |text: String, pattern: String, options: Kwargs| {
        groups(&text, &pattern, &options, true)
    });
    jinja.add_filter("to_num", to_number);
    jinja.add_filter("str_to_num", to_number);
    jinja.add_filter("is_list", |value: Value| value.kind() == minijinja::value::ValueKind::Seq);
    jinja.add_filter("is_ip", |text: String| text.parse::<std::net::IpAddr>().is_ok());
    jinja.add_filter("is_ipv4", |text: String| text.parse::<std::net::Ipv4Addr>().is_ok());
    jinja.add_filter("is_ipv6", |text: String| text.parse::<std::net::Ipv6Addr>().is_ok());
    jinja.add_filter("path_join", |first: String, rest: Rest<String>| {
        rest.0.into_iter().fold(first, |path, part| {
            if part.starts_with('/') {
                part
            } else {
                format!("{}/{part}", path.trim_end_matches('/'))
            }
        })
    });
    jinja.add_filter("sha256", |text: String| {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
        digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect::<String>()
    });
    jinja.add_filter("flatten", |value: Value| {
        let mut flat = Vec::new();
        flatten(&value, &mut flat, 0).map(|()| Value::from(flat))
    });
    jinja.add_filter("difference", |one: Value, other: Value| set(&one, &other, &[true, false]));
    jinja.add_filter("intersect", |one: Value, other: Value| set(&one, &other, &[false, false]));
    jinja.add_filter("symmetric_difference", |one: Value, other: Value| {
        set(&one, &other, &[true, true])
    });
    jinja.add_filter("union", union);
    jinja.add_filter("to_entries", to_entries);
    jinja.add_filter("from_entries", from_entries);
    jinja.add_filter("traverse", |value: Value, key: String, default: Option<Value>| {
        let json = serde_json::to_value(&value).unwrap_or_default();
        let found = json.as_object().and_then(|map| traverse(map, &key, ":").cloned());
        found.map_or_else(|| default.unwrap_or_default(), |found| Value::from(Serde(&found)))
    });
    jinja.add_test("match", |text: String, pattern: String, options: Kwargs| {
        groups(&text, &pattern, &options, true).map(|groups| !groups.is_none())
    });
}

fn bad(message: &str) -> Error {
    Error::new(ErrorKind::InvalidOperation, message.to_owned())
}

fn json_text(value: &Value) -> Result<String, Error> {
    serde_json::to_string(value).map_err(|error| bad("cannot be JSON").with_source(error))
}

fn json(value: Value, options: Kwargs) -> Result<String, Error> {
    let sort: Option<bool> = options.get("sort_keys")?;
    let indent: Option<usize> = options.get("indent")?;
    options.assert_all_used()?;
    let json = serde_json::to_value(&value).map_err(|e| bad("cannot be JSON").with_source(e))?;
    let json = if sort.unwrap_or(true) { sorted(json) } else { json };
    let text = match indent {
        None => serde_json::to_string(&json),
        Some(_) => serde_json::to_string_pretty(&json),
    };
    text.map_err(|error| bad("cannot be JSON").with_source(error))
}

fn sorted(value: serde_json::Value) -> serde_json::Value {
    use serde_json::Value as Json;
    match value {
        Json::Object(map) => {
            let mut entries: Vec<_> =
                map.into_iter().map(|(key, value)| (key, sorted(value))).collect();
            entries.sort_by(|(one, _), (other, _)| one.cmp(other));
            Json::Object(entries.into_iter().collect())
        }
        Json::Array(items) => Json::Array(items.into_iter().map(sorted).collect()),
        scalar @ (Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_)) => scalar,
    }
}

/// Flow style, which is JSON: every JSON text is YAML too, on one line at any indentation.
fn to_yaml(value: Value, flow_style: Option<bool>) -> Result<String, Error> {
    if flow_style == Some(false) {
        return Err(bad("`yaml(False)` is not supported; `yaml` writes the flow style"));
    }
    json_text(&value)
}

fn shell_quote(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "@%_-+=:,./".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', "'\"'\"'"))
}

fn compile(pattern: &str, options: &Kwargs, anchored: bool) -> Result<Regex, Error> {
    let ignore: Option<bool> = options.get("ignorecase")?;
    let multiline: Option<bool> = options.get("multiline")?;
    options.assert_all_used()?;
    let pattern = if anchored { format!(r"\A(?:{pattern})") } else { pattern.to_owned() };
    RegexBuilder::new(&pattern)
        .case_insensitive(ignore.unwrap_or(false))
        .multi_line(multiline.unwrap_or(false))
        .size_limit(1 << 20)
        .build()
        .map_err(|error| bad("not a valid regular expression").with_source(error))
}

fn regex_replace(
    text: String,
    pattern: String,
    replacement: String,
    options: Kwargs,
) -> Result<String, Error> {
    let regex = compile(&pattern, &options, false)?;
    // Python writes groups `\1` and `\g<name>`, the regex crate `${1}` and `${name}`.
    let replacement = replacement.replace('$', "$$");
    let numbered = Regex::new(r"\\(?:(\d)|g<(\w+)>)").expect("the pattern is valid");
    let replacement = numbered.replace_all(&replacement, "$${$1$2}");
    Ok(regex.replace_all(&text, replacement.as_ref()).into_owned())
}

/// The groups of the first match as Salt gives them; none without a match.
fn groups(text: &str, pattern: &str, options: &Kwargs, anchored: bool) -> Result<Value, Error> {
    let regex = compile(pattern, options, anchored)?;
    Ok(regex.captures(text).map_or_else(
        || Value::from(()),
        |captures| {
            let group = |index| captures.get(index).map(|found| found.as_str());
            (1..captures.len()).map(|index| Value::from(group(index))).collect::<Vec<_>>().into()
        },
    ))
}

fn to_number(value: Value) -> Value {
    let Some(text) = value.as_str().map(str::trim) else { return value };
    if let Ok(number) = text.parse::<i64>() {
        return Value::from(number);
    }
    text.parse::<f64>().map_or_else(|_| value.clone(), Value::from)
}

fn flatten(value: &Value, flat: &mut Vec<Value>, depth: usize) -> Result<(), Error> {
    if depth > 64 {
        return Err(bad("nested too deeply to flatten"));
    }
    for item in value.try_iter()? {
        if item.kind() == minijinja::value::ValueKind::Seq {
            flatten(&item, flat, depth + 1)?;
        } else {
            flat.push(item);
        }
    }
    Ok(())
}

/// `[keep what only one has, add what only the other has]`; `[false, false]` is the intersection.
fn set(one: &Value, other: &Value, keep: &[bool; 2]) -> Result<Value, Error> {
    let (first, second): (Vec<_>, Vec<_>) =
        (one.try_iter()?.collect(), other.try_iter()?.collect());
    let mut result: Vec<Value> = Vec::new();
    result.extend(first.iter().filter(|item| second.contains(item) != keep[0]).cloned());
    if keep[1] {
        result.extend(second.iter().filter(|item| !first.contains(item)).cloned());
    }
    Ok(Value::from(result))
}

fn union(one: Value, other: Value) -> Result<Value, Error> {
    let mut result: Vec<Value> = Vec::new();
    for item in one.try_iter()?.chain(other.try_iter()?) {
        if !result.contains(&item) {
            result.push(item);
        }
    }
    Ok(Value::from(result))
}

fn to_entries(map: Value) -> Result<Value, Error> {
    let entry = |key: Value| {
        let value = map.get_item(&key)?;
        Ok(Value::from_pairs([("key", key), ("value", value)]))
    };
    map.try_iter()?.map(entry).collect::<Result<Vec<_>, Error>>().map(Value::from)
}

fn from_entries(list: Value) -> Result<Value, Error> {
    let pair = |entry: Value| Ok((entry.get_attr("key")?.to_string(), entry.get_attr("value")?));
    list.try_iter()?.map(pair).collect::<Result<Vec<_>, Error>>().map(Value::from_pairs)
}
