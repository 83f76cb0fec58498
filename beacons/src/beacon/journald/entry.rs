//! One entry of the journal, as `journalctl --output=json` writes it. Pure, but for the moment's clock.

use std::{fs, time::Duration};

use rustix::time::{ClockId, clock_gettime};
use serde_json::{Map, Value, json};

use super::PRIORITIES;

/// The fields that a document is made of; `journalctl` adds the addresses by itself.
pub(super) const FIELDS: &str = "--output-fields=MESSAGE,PRIORITY,_SYSTEMD_UNIT,_SYSTEMD_USER_UNIT,\
     SYSLOG_IDENTIFIER,_PID,SYSLOG_PID,_COMM,_TRANSPORT,_BOOT_ID";

#[derive(Debug)]
pub(super) struct Entry {
    fields: Map<String, Value>,
    length: usize,
}

/// Now, by the clock that the journal goes by.
#[derive(Debug)]
pub(super) struct Moment {
    boot: String,
    since_boot: Duration,
}

impl Moment {
    pub(super) fn now() -> Self {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let time = clock_gettime(ClockId::Monotonic);
        let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
        let nanoseconds = u32::try_from(time.tv_nsec).unwrap_or_default();
        Self { boot: boot.trim().replace('-', ""), since_boot: Duration::new(seconds, nanoseconds) }
    }
}

impl Entry {
    pub(super) fn read(line: &[u8]) -> Option<Self> {
        match serde_json::from_slice(line).ok()? {
            Value::Object(fields) => Some(Self { fields, length: line.len() }),
            Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::String(_)
            | Value::Array(_) => None,
        }
    }

    /// The bytes that it has to be paid for.
    pub(super) fn len(&self) -> usize {
        self.length
    }

    pub(super) fn cursor(&self) -> Option<&str> {
        self.fields.get("__CURSOR")?.as_str()
    }

    /// A field's value, the first where there are several.
    pub(super) fn text(&self, field: &str) -> Option<String> {
        text(self.fields.get(field)?).map(|(text, _)| text)
    }

    /// How long ago it was, by the clock that nobody sets; none of an earlier boot.
    pub(super) fn age(&self, moment: &Moment) -> Duration {
        let age = || {
            let is_of_this_boot = self.text("_BOOT_ID")? == moment.boot;
            let microseconds = self.text("__MONOTONIC_TIMESTAMP")?.parse().ok()?;
            let age = moment.since_boot.checked_sub(Duration::from_micros(microseconds))?;
            is_of_this_boot.then_some(age)
        };
        age().unwrap_or_default()
    }

    /// What is told of it, by the names of the Elastic Common Schema.
    pub(super) fn document(&self, longest: usize) -> Value {
        let (message, is_text) = self.fields.get("MESSAGE").and_then(text).unwrap_or_default();
        let (message, is_cut) = cut(message, longest);
        let mut log = Map::new();
        let mut syslog = Map::new();
        if let Some(priority) = self.text("PRIORITY").and_then(|text| text.parse::<usize>().ok())
            && let Some(name) = PRIORITIES.get(priority)
        {
            log.insert("level".to_owned(), level(name).into());
            syslog.insert("priority".to_owned(), priority.into());
        }
        if let Some(name) = self.text("SYSLOG_IDENTIFIER") {
            syslog.insert("appname".to_owned(), name.into());
        }
        if !syslog.is_empty() {
            log.insert("syslog".to_owned(), syslog.into());
        }
        let flags: Vec<&str> = [(is_cut, "truncated"), (!is_text, "not_utf8")]
            .into_iter()
            .filter(|(is_so, _)| *is_so)
            .map(|(_, flag)| flag)
            .collect();
        if !flags.is_empty() {
            log.insert("flags".to_owned(), flags.into());
        }
        let mut data = Map::new();
        data.insert("message".to_owned(), message.into());
        data.insert("log".to_owned(), log.into());
        let pid = self.text("_PID").or_else(|| self.text("SYSLOG_PID"));
        let mut process = Map::new();
        if let Some(pid) = pid.and_then(|pid| pid.parse::<u32>().ok()) {
            process.insert("pid".to_owned(), pid.into());
        }
        if let Some(name) = self.text("_COMM") {
            process.insert("name".to_owned(), name.into());
        }
        if !process.is_empty() {
            data.insert("process".to_owned(), process.into());
        }
        let unit = self.text("_SYSTEMD_UNIT").or_else(|| self.text("_SYSTEMD_USER_UNIT"));
        if let Some(unit) = unit {
            data.insert("systemd".to_owned(), json!({"unit": unit}));
        }
        data.into()
    }

    /// All its fields as text, as Salt tells them.
    pub(super) fn fields(&self, longest: usize) -> Value {
        let field = |(name, value): (&String, &Value)| {
            let (text, _) = text(value)?;
            Some((name.clone(), Value::from(cut(text, longest).0)))
        };
        Value::Object(self.fields.iter().filter_map(field).collect())
    }
}

/// A field is text, or a list of bytes where it is not UTF-8, or a list of such where it is there several times. Says
/// whether it was UTF-8.
fn text(value: &Value) -> Option<(String, bool)> {
    match value {
        Value::String(text) => Some((text.clone(), true)),
        Value::Array(items) => match items.first()? {
            first @ (Value::String(_) | Value::Array(_)) => text(first),
            Value::Number(_) => {
                let byte = |item: &Value| u8::try_from(item.as_u64()?).ok();
                let bytes = items.iter().map(byte).collect::<Option<Vec<u8>>>()?;
                let text = String::from_utf8_lossy(&bytes).into_owned();
                let is_text = text.as_bytes() == bytes;
                Some((text, is_text))
            }
            Value::Null | Value::Bool(_) | Value::Object(_) => None,
        },
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => None,
    }
}

fn cut(mut text: String, longest: usize) -> (String, bool) {
    let is_cut = text.len() > longest;
    if is_cut {
        text.truncate(text.floor_char_boundary(longest));
    }
    (text, is_cut)
}

/// The name that `logfile` gives the same level.
fn level(name: &str) -> &str {
    match name {
        "emerg" => "emergency",
        "crit" => "critical",
        "err" => "error",
        _ => name,
    }
}
