//! The forms in which Salt takes a container's options: a list, a map, or one string with commas; sizes
//! with units, durations, port numbers and ranges.

use serde_json::{Map, Value};

use crate::module::scalar_text;

/// Several words: a list of scalars, or one string with commas. In a list a one-key map, which is what
/// YAML makes of `a: b`, is taken as `a:b`.
pub(super) fn words(value: &Value) -> Option<Vec<String>> {
    if let Value::Array(items) = value {
        let words = items.iter().map(|item| match item.as_object() {
            Some(map) => joined(map),
            None => Some(vec![scalar_text(item)?.trim().to_owned()]),
        });
        return Some(words.collect::<Option<Vec<_>>>()?.concat());
    }
    if let Value::Object(map) = value {
        return joined(map);
    }
    let text = scalar_text(value)?;
    let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
    Some(words.map(str::to_owned).collect())
}

fn joined(map: &Map<String, Value>) -> Option<Vec<String>> {
    map.iter().map(|(key, value)| Some(format!("{key}:{}", scalar_text(value)?))).collect()
}

/// Names with values: a map, a list of one-key maps or of `NAME=VALUE`, or one string of the latter with
/// commas. A name may stand alone.
pub(super) fn pairs(value: &Value) -> Option<Vec<(String, String)>> {
    let named = |map: &Map<String, Value>| -> Option<Vec<(String, String)>> {
        let entries = map.iter().map(|(name, value)| {
            let value = if value.is_null() { String::new() } else { scalar_text(value)? };
            Some((name.clone(), value))
        });
        entries.collect()
    };
    let split = |text: &str| match text.split_once('=') {
        Some((name, value)) => (name.trim().to_owned(), value.to_owned()),
        None => (text.trim().to_owned(), String::new()),
    };
    if let Value::Array(items) = value {
        let pairs = items.iter().map(|item| match item.as_object() {
            Some(map) => named(map),
            None => Some(vec![split(&scalar_text(item)?)]),
        });
        return Some(pairs.collect::<Option<Vec<_>>>()?.concat());
    }
    if let Value::Object(map) = value {
        return named(map);
    }
    Some(scalar_text(value)?.split(',').map(split).collect())
}

/// A command as a list, or as a string that is split as a shell would.
pub(super) fn command(value: &Value) -> Option<Vec<String>> {
    match value.as_array() {
        Some(items) => items.iter().map(scalar_text).collect(),
        None => shlex::split(&scalar_text(value)?),
    }
}

/// Bytes: a number, or a number with `b`, `k`, `m`, `g` or `t` (also as `mb` or `MiB`).
pub(super) fn bytes(value: &Value) -> Option<i64> {
    if let Some(bytes) = value.as_i64() {
        return Some(bytes);
    }
    let text = value.as_str()?.trim().to_ascii_lowercase();
    let end =
        text.find(|c: char| c != '-' && c != '.' && !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let shift = match unit.trim() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return None,
    };
    match number.parse::<i64>() {
        Ok(number) => number.checked_mul(1 << shift),
        #[expect(clippy::cast_possible_truncation, reason = "a size with a fraction is rounded")]
        Err(_) => number
            .parse::<f64>()
            .ok()
            .map(|number| (number * f64::from(1_i32 << 10).powi(shift / 10)) as i64),
    }
}

/// Nanoseconds: a number of seconds, or text such as `1m30s` and `500ms`.
pub(super) fn nanoseconds(value: &Value) -> Option<i64> {
    if let Some(seconds) = value.as_i64() {
        return seconds.checked_mul(1_000_000_000);
    }
    let text = value.as_str()?.trim();
    let mut rest = text;
    let mut total: i64 = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let number: i64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let letters = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let unit = match &rest[..letters] {
            "h" => 3_600_000_000_000,
            "m" => 60_000_000_000,
            "s" => 1_000_000_000,
            "ms" => 1_000_000,
            "us" | "µs" => 1_000,
            "ns" => 1,
            "" if digits == text.len() => 1_000_000_000,
            _ => return None,
        };
        rest = &rest[letters..];
        total = total.checked_add(number.checked_mul(unit)?)?;
    }
    (!text.is_empty()).then_some(total)
}

/// Container ports as the engine names them: `80`, `53/udp` and `8000-8002` become `80/tcp` and so on.
pub(super) fn container_ports(text: &str) -> Option<Vec<String>> {
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    if !["tcp", "udp", "sctp"].contains(&protocol) {
        return None;
    }
    Some(port_range(ports)?.map(|port| format!("{port}/{protocol}")).collect())
}

/// A port or a range of ports.
pub(super) fn port_range(text: &str) -> Option<std::ops::RangeInclusive<u16>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
    (first > 0 && first <= last).then_some(first..=last)
}

/// One published port: where from, and on which of the host's addresses and ports it is reached.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PublishedPort {
    pub(super) container: String,
    pub(super) address: String,
    /// Empty when the engine is to choose one.
    pub(super) host: String,
}

/// What `docker run --publish` takes: `[[IP:][HOST]:]CONTAINER[/PROTOCOL]`, ranges included.
pub(super) fn published_ports(text: &str) -> Option<Vec<PublishedPort>> {
    let (host, container) = match text.rsplit_once(':') {
        Some((host, container)) => (host, container),
        None => ("", text),
    };
    let (address, host) = match host.rsplit_once(':') {
        Some((address, host)) => (address.trim_matches(['[', ']']), host),
        None if host.contains('.') => (host, ""),
        None => ("", host),
    };
    let containers = container_ports(container)?;
    let hosts: Vec<String> = match host {
        "" => vec![String::new(); containers.len()],
        range => port_range(range)?.map(|port| port.to_string()).collect(),
    };
    if hosts.len() != containers.len() {
        return None;
    }
    let published = containers.into_iter().zip(hosts);
    Some(
        published
            .map(|(container, host)| PublishedPort { container, address: address.to_owned(), host })
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn list_map_and_comma_string_are_the_same_pairs() {
        let wanted =
            Some(vec![("A".to_owned(), "1".to_owned()), ("B".to_owned(), "x=y".to_owned())]);
        for form in [
            json!({"A": 1, "B": "x=y"}),
            json!([{"A": 1}, {"B": "x=y"}]),
            json!(["A=1", "B=x=y"]),
            json!("A=1,B=x=y"),
        ] {
            assert_eq!(pairs(&form), wanted, "{form}");
        }
    }

    #[test]
    fn list_and_comma_string_are_the_same_words() {
        let wanted = Some(vec!["db:db".to_owned(), "mq".to_owned()]);
        assert_eq!(words(&json!(["db:db", "mq"])), wanted);
        assert_eq!(words(&json!([{"db": "db"}, "mq"])), wanted);
        assert_eq!(words(&json!("db:db, mq")), wanted);
        assert_eq!(words(&json!([["nested"]])), None);
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!(bytes(&json!("64m")), Some(64 << 20));
        assert_eq!(bytes(&json!("64MiB")), Some(64 << 20));
        assert_eq!(bytes(&json!("0.5g")), Some(512 << 20));
        assert_eq!(bytes(&json!(1024)), Some(1024));
        assert_eq!(bytes(&json!("-1")), Some(-1));
        assert_eq!(bytes(&json!("64x")), None);
        assert_eq!(bytes(&json!("")), None);
    }

    #[test]
    fn durations_have_units() {
        assert_eq!(nanoseconds(&json!("1m30s")), Some(90_000_000_000));
        assert_eq!(nanoseconds(&json!("500ms")), Some(500_000_000));
        assert_eq!(nanoseconds(&json!(3)), Some(3_000_000_000));
        assert_eq!(nanoseconds(&json!("3")), Some(3_000_000_000));
        assert_eq!(nanoseconds(&json!("3x")), None);
        assert_eq!(nanoseconds(&json!("")), None);
    }

    #[test]
    fn ports_are_published_as_docker_run_does() {
        let published = |text| {
            published_ports(text).map(|ports| {
                ports
                    .iter()
                    .map(|p| format!("{}|{}|{}", p.address, p.host, p.container))
                    .collect::<Vec<_>>()
            })
        };
        let wanted =
            |ports: &[&str]| Some(ports.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(published("80"), wanted(&["||80/tcp"]));
        assert_eq!(published("8080:80"), wanted(&["|8080|80/tcp"]));
        assert_eq!(published("127.0.0.1:8080:80/udp"), wanted(&["127.0.0.1|8080|80/udp"]));
        assert_eq!(published("127.0.0.1::80"), wanted(&["127.0.0.1||80/tcp"]));
        assert_eq!(published("[::1]:8080:80"), wanted(&["::1|8080|80/tcp"]));
        assert_eq!(published("8000-8001:80-81"), wanted(&["|8000|80/tcp", "|8001|81/tcp"]));
        assert_eq!(published("8000-8002:80-81"), None);
        assert_eq!(published("80/icmp"), None);
        assert_eq!(published("0"), None);
        assert_eq!(published("x:80"), None);
    }
}
