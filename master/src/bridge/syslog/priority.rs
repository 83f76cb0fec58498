//! How grave an event is, and of what part of the system, in syslog's numbers (RFC 5424, section 6.2.1). Pure;
//! `docs/bridges/syslog.md` has the same table.

use drover_proto::event::Event;
use serde_json::Value;

/// How grave it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Severity {
    /// The system cannot be used.
    Emergency = 0,
    /// Act at once.
    Alert = 1,
    /// Critical.
    Critical = 2,
    /// Something failed.
    Error = 3,
    /// Something may fail.
    Warning = 4,
    /// Normal, and worth a look.
    Notice = 5,
    /// Normal.
    Info = 6,
    /// For developers.
    Debug = 7,
}

impl Severity {
    /// By its number.
    #[must_use]
    pub(super) const fn of_number(number: u64) -> Option<Self> {
        Some(match number {
            0 => Self::Emergency,
            1 => Self::Alert,
            2 => Self::Critical,
            3 => Self::Error,
            4 => Self::Warning,
            5 => Self::Notice,
            6 => Self::Info,
            7 => Self::Debug,
            _ => return None,
        })
    }

    /// By one of the names that it goes by.
    #[must_use]
    pub(super) fn named(name: &str) -> Option<Self> {
        Some(match name.to_ascii_lowercase().as_str() {
            "emergency" | "emerg" | "panic" => Self::Emergency,
            "alert" => Self::Alert,
            "critical" | "crit" | "fatal" => Self::Critical,
            "error" | "err" => Self::Error,
            "warning" | "warn" => Self::Warning,
            "notice" => Self::Notice,
            "informational" | "info" => Self::Info,
            "debug" | "trace" => Self::Debug,
            _ => return None,
        })
    }

    /// What an event's payload says of itself (`log.level`, as shipped logs have it, `severity` or `priority`), else by its
    /// kind.
    #[must_use]
    pub(super) fn of(event: &Event) -> Self {
        let said = [&event.data["log"]["level"], &event.data["severity"], &event.data["priority"]];
        let said = said.into_iter().find_map(|said| match said {
            Value::String(name) => {
                Self::named(name).or_else(|| name.parse().ok().and_then(Self::of_number))
            }
            Value::Number(number) => number.as_u64().and_then(Self::of_number),
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
        });
        said.unwrap_or_else(|| Self::by_kind(event))
    }

    fn by_kind(event: &Event) -> Self {
        let parts: Vec<&str> = event.tag.as_str().split('/').collect();
        match parts[..] {
            ["drover", "job", _, "ret", _] if is_failed(&event.data) => Self::Error,
            ["drover", "bridge", _, "down" | "missed"]
            | ["drover", "reactor", "error" | "loop" | "dropped", ..] => Self::Error,
            ["drover", "presence", _, "lost"]
            | ["drover", "key", _, "clone" | "revoked" | "rejected"]
            | ["drover", "authority", _, "expires"]
            | ["drover", "station", _, "revoked"]
            | ["drover", "pending", _, "expired"]
            | ["drover", "bridge", _, "paused" | "dead_letters"]
            | ["drover", "reactor", "held", ..]
            | ["drover", "minion", _, .., "refused" | "roots_refused" | "not_stored"] => {
                Self::Warning
            }
            ["drover", "presence" | "key" | "authority" | "station" | "bridge" | "master", ..]
            | ["drover", "beacon", .., "suppressed"] => Self::Notice,
            _ => Self::Info,
        }
    }
}

fn is_failed(data: &Value) -> bool {
    let retcode = data["retcode"].as_i64();
    data["success"] == Value::Bool(false) || retcode.is_some_and(|retcode| retcode != 0)
}

/// Of what part of the system it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Facility(u8);

impl Facility {
    const NAMES: [&str; 24] = [
        "kern",
        "user",
        "mail",
        "daemon",
        "auth",
        "syslog",
        "lpr",
        "news",
        "uucp",
        "cron",
        "authpriv",
        "ftp",
        "ntp",
        "security",
        "console",
        "solaris-cron",
        "local0",
        "local1",
        "local2",
        "local3",
        "local4",
        "local5",
        "local6",
        "local7",
    ];
    const DAEMON: Self = Self(3);
    const AUTHPRIV: Self = Self(10);

    /// By its name, such as `local0`.
    #[must_use]
    pub(super) fn named(name: &str) -> Option<Self> {
        let place = Self::NAMES.iter().position(|known| *known == name)?;
        u8::try_from(place).ok().map(Self)
    }

    /// Keys and authorities are `authpriv`, all else is `daemon`.
    #[must_use]
    pub(super) fn of(event: &Event) -> Self {
        let is_trust = ["drover/key/", "drover/authority/", "drover/station/"]
            .iter()
            .any(|start| event.tag.as_str().starts_with(start));
        if is_trust { Self::AUTHPRIV } else { Self::DAEMON }
    }

    /// Both in one number.
    #[must_use]
    pub(super) const fn with(self, severity: Severity) -> u8 {
        self.0 * 8 + severity as u8
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::json;
    use uuid::Uuid;

    use super::*;

    fn event(tag: &str, data: Value) -> Event {
        let tag = tag.parse().unwrap();
        Event {
            id: Uuid::nil(),
            seq: 1,
            ts: Timestamp::UNIX_EPOCH,
            at: None,
            tag,
            minion: None,
            data,
        }
    }

    #[test]
    fn severity_goes_by_what_happened() {
        let of = |tag, data| Severity::of(&event(tag, data));
        assert_eq!(of("drover/presence/a/lost", Value::Null), Severity::Warning);
        assert_eq!(of("drover/presence/a/back", Value::Null), Severity::Notice);
        assert_eq!(
            of("drover/job/1/ret/a", json!({"success": true, "retcode": 0})),
            Severity::Info
        );
        assert_eq!(of("drover/job/1/ret/a", json!({"retcode": 2})), Severity::Error);
        assert_eq!(of("drover/bridge/elk/down", Value::Null), Severity::Error);
        assert_eq!(of("drover/minion/a/app/refused", Value::Null), Severity::Warning);
        assert_eq!(of("drover/beacon/a/load/", json!({"1m": 9})), Severity::Info);
        assert_eq!(of("own/tag", json!([1])), Severity::Info);
    }

    #[test]
    fn a_payload_may_say_how_grave_it_is() {
        let of = |data| Severity::of(&event("drover/app/a/log", data));
        assert_eq!(of(json!({"log": {"level": "error"}, "severity": 6})), Severity::Error);
        assert_eq!(of(json!({"severity": "crit"})), Severity::Critical);
        assert_eq!(of(json!({"priority": 4})), Severity::Warning);
        assert_eq!(of(json!({"priority": "3"})), Severity::Error);
        assert_eq!(of(json!({"severity": 9, "priority": {}})), Severity::Info);
    }

    #[test]
    fn trust_has_a_facility_of_its_own() {
        let of = |tag| Facility::of(&event(tag, Value::Null)).with(Severity::Notice);
        assert_eq!(of("drover/key/a/accepted"), 10 * 8 + 5);
        assert_eq!(of("drover/minion/a/start"), 3 * 8 + 5);
        assert_eq!(Facility::named("local7"), Some(Facility(23)));
        assert_eq!(Facility::named("local8"), None);
    }
}
