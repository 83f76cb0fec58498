//! Topics: which names a message may be published to (4.7), and which filters match a name.

use super::super::template::Template;

/// The longest name, in bytes.
const LONGEST: usize = 65_535;

/// Where a message goes.
pub(super) fn name(
    template: Option<&Template>,
    event: &serde_json::Value,
) -> Result<String, String> {
    let name = match template {
        Some(template) => template.render(event.clone())?.trim().to_owned(),
        None => event["tag"].as_str().unwrap_or_default().to_owned(),
    };
    if name.is_empty() {
        return Err("the topic is empty".to_owned());
    }
    if let Some(wrong) = name.chars().find(|c| is_forbidden(*c)) {
        return Err(format!(
            "the topic `{}` has {wrong:?}, which no topic may have",
            name.escape_debug()
        ));
    }
    if name.len() > LONGEST {
        return Err(format!("the topic has {} bytes, more than {LONGEST}", name.len()));
    }
    Ok(name)
}

/// Whether a text is a topic's name.
pub(super) fn is_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= LONGEST && !name.contains(is_forbidden)
}

fn is_forbidden(c: char) -> bool {
    matches!(c, '+' | '#') || c.is_control()
}

/// Whether a text is a topic filter.
pub(super) fn is_filter(filter: &str) -> bool {
    let levels: Vec<&str> = filter.split('/').collect();
    let is_level = |(at, level): (usize, &&str)| {
        *level == "+"
            || *level == "#" && at + 1 == levels.len()
            || !level.contains(['+', '#']) && !level.contains(char::is_control)
    };
    !filter.is_empty() && filter.len() <= LONGEST && levels.iter().enumerate().all(is_level)
}

/// Whether a filter matches a name.
pub(super) fn matches(filter: &str, name: &str) -> bool {
    // Wildcards do not match what the broker keeps for itself (4.7.2).
    if name.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let mut names = name.split('/');
    for level in filter.split('/') {
        match (level, names.next()) {
            ("#", _) => return true,
            ("+", Some(_)) => {}
            (level, Some(name)) if level == name => {}
            (_, _) => return false,
        }
    }
    names.next().is_none()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn filters_match_as_the_standard_says() {
        for (filter, name, is_match) in [
            ("site/+/door", "site/bne/door", true),
            ("site/+/door", "site/bne/door/1", false),
            ("site/+/door", "site/door", false),
            ("site/#", "site", true),
            ("site/#", "site/a/b", true),
            ("#", "a/b", true),
            ("#", "$SYS/x", false),
            ("+/x", "$SYS/x", false),
            ("+", "a/", false),
            ("+/+", "a/", true),
        ] {
            assert_eq!(matches(filter, name), is_match, "{filter} {name}");
        }
    }

    #[test]
    fn filters_are_checked() {
        for filter in ["a", "+", "#", "a/+/b/#", "/", "a//b"] {
            assert!(is_filter(filter), "{filter}");
        }
        for filter in ["", "a+", "#/a", "a/b#", "a\0"] {
            assert!(!is_filter(filter), "{filter:?}");
        }
    }

    #[test]
    fn a_topic_is_the_tag_or_what_a_template_makes() {
        let event = json!({"tag": "drover/minion/rfid-1/start", "minion": "rfid-1"});
        assert_eq!(name(None, &event).unwrap(), "drover/minion/rfid-1/start");
        let template = |text| Template::compile(text).unwrap();
        let made = name(Some(&template("fleet/{{ event.minion }}")), &event);
        assert_eq!(made.unwrap(), "fleet/rfid-1");
        for (text, why) in [
            ("a/+", "the topic `a/+` has '+', which no topic may have"),
            ("a\0b", "the topic `a\\0b` has '\\0', which no topic may have"),
            (" ", "the topic is empty"),
        ] {
            assert_eq!(name(Some(&template(text)), &event).unwrap_err(), why);
        }
    }
}
