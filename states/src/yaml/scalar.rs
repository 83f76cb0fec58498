//! What a scalar means by YAML 1.1, as PyYAML resolves it with Salt's changes: integers lose leading
//! zeros instead of being octal, and timestamps stay text.

use serde_json::{Number, Value};

/// The scalar's value. Only plain scalars without a tag are guessed at.
pub(super) fn resolve(text: &str, plain: bool, tag: Option<&str>) -> Result<Value, String> {
    match tag {
        None if plain => Ok(guess(text)),
        None => Ok(Value::String(text.to_owned())),
        Some(tag) => {
            let wrong = || format!("`{text}` does not fit its tag `{tag}`");
            match core_tag(tag) {
                Some("str") => Ok(Value::String(text.to_owned())),
                Some("null") => Ok(Value::Null),
                Some("bool") => boolean(text).map(Value::Bool).ok_or_else(wrong),
                Some("int") => integer(text).ok_or_else(wrong),
                Some("float") => {
                    let number = text.replace('_', "").parse().ok().and_then(Number::from_f64);
                    number.map(Value::Number).ok_or_else(wrong)
                }
                Some(_) | None => Err(format!("the tag `{tag}` is not supported")),
            }
        }
    }
}

/// `str` of `tag:yaml.org,2002:str`, however it was written.
pub(super) fn core_tag(tag: &str) -> Option<&str> {
    tag.strip_prefix("tag:yaml.org,2002:").or_else(|| tag.strip_prefix("!!"))
}

fn guess(text: &str) -> Value {
    if let Some(flag) = boolean(text) {
        return Value::Bool(flag);
    }
    if matches!(text, "" | "~" | "null" | "Null" | "NULL") {
        return Value::Null;
    }
    if !text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.')) {
        return Value::String(text.to_owned());
    }
    integer(text).or_else(|| float(text)).unwrap_or_else(|| Value::String(text.to_owned()))
}

fn boolean(text: &str) -> Option<bool> {
    match text {
        "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => Some(true),
        "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => Some(false),
        _ => None,
    }
}

/// PyYAML's integers: `0b1`, `0x1f`, `1_000`, `0644` (644, as Salt reads it), `190:20:30` (base 60).
fn integer(text: &str) -> Option<Value> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let magnitude = if let Some(binary) = digits.strip_prefix("0b") {
        from_digits(binary, 2)?
    } else if let Some(hexadecimal) = digits.strip_prefix("0x") {
        from_digits(hexadecimal, 16)?
    } else if digits.contains(':') {
        sexagesimal(digits)?
    } else if digits.len() > 1 && digits.starts_with('0') {
        // PyYAML's resolver takes it for octal; Salt's constructor then drops the zeros.
        if !digits.bytes().all(|byte| matches!(byte, b'0'..=b'7' | b'_')) {
            return None;
        }
        let rest = digits.trim_start_matches('0');
        if rest.is_empty() { 0 } else { from_digits(rest, 10)? }
    } else {
        if !digits.starts_with(|c: char| c.is_ascii_digit()) {
            return None;
        }
        from_digits(digits, 10)?
    };
    if negative {
        // What does not fit stays text, as it was written: a jid has twenty digits.
        let number = i64::try_from(-i128::from(magnitude)).ok()?;
        return Some(Value::from(number));
    }
    Some(Value::from(magnitude))
}

fn from_digits(digits: &str, radix: u32) -> Option<u64> {
    let digits: String = digits.chars().filter(|c| *c != '_').collect();
    if digits.is_empty() || !digits.chars().all(|c| c.is_digit(radix)) {
        return None;
    }
    u64::from_str_radix(&digits, radix).ok()
}

fn sexagesimal(digits: &str) -> Option<u64> {
    if !digits.starts_with(|c: char| matches!(c, '1'..='9')) {
        return None;
    }
    let mut parts = digits.split(':');
    let mut total = from_digits(parts.next()?, 10)?;
    for part in parts {
        let fits = matches!(part.len(), 1 | 2) && part.bytes().all(|byte| byte.is_ascii_digit());
        let value: u64 = part.parse().ok().filter(|value| fits && *value < 60)?;
        total = total.checked_mul(60)?.checked_add(value)?;
    }
    Some(total)
}

/// PyYAML's floats need a dot: `1e5` is text. Infinity has no place in JSON and stays text.
fn float(text: &str) -> Option<Value> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (mantissa, exponent) = match unsigned.find(['e', 'E']) {
        Some(at) => (&unsigned[..at], Some(&unsigned[at + 1..])),
        None => (unsigned, None),
    };
    let (whole, fraction) = mantissa.split_once('.')?;
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit() || byte == b'_');
    let starts_well = if whole.is_empty() {
        // `.5`, but neither `.` nor `-.5`.
        fraction.starts_with(|c: char| c.is_ascii_digit()) && unsigned.len() == text.len()
    } else {
        whole.starts_with(|c: char| c.is_ascii_digit())
    };
    let exponent_fits = exponent.is_none_or(|exponent| {
        exponent.strip_prefix(['+', '-']).is_some_and(|digits| {
            !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
        })
    });
    if !(starts_well && digits(whole) && digits(fraction) && exponent_fits) {
        return None;
    }
    let number: f64 = text.replace('_', "").parse().ok()?;
    Number::from_f64(number).map(Value::Number)
}
