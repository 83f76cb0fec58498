//! `journald`: ships the systemd journal's entries as events; with `services`, as Salt's beacon does. `journalctl` reads
//! the journal, since its format is systemd's own business. It follows in a child process whose pipe is read at each
//! look: entries that may not go yet stay in the pipe, and behind it in the journal.

mod child;
mod entry;

use std::{
    ffi::OsString,
    path::PathBuf,
    time::{Duration, Instant},
};

use serde_json::Value;

use self::{
    child::Child,
    entry::{Entry, Moment},
};
use super::{Look, Reading};
use crate::{
    config::{ConfigError, Options},
    log_rate::LogRate,
    system::SystemError,
};

const DEFAULT_LONGEST: u64 = 16 << 10;
/// Bytes that one look reads.
const MOST_READ: usize = 4 << 20;
/// How long after its end `journalctl` is started again, at first and at most.
const RESTART: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(300));
const PRIORITIES: [&str; 8] =
    ["emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"];

#[derive(Debug)]
pub(crate) struct Journald {
    program: PathBuf,
    /// What chooses the entries.
    matches: Vec<OsString>,
    services: Vec<Service>,
    from_boot: bool,
    longest: usize,
    rate: LogRate,
    child: Option<Child>,
    /// Of the last entry that was taken.
    cursor: Option<String>,
    /// What was taken and may not go yet.
    held: Option<Entry>,
    start_at: Option<Instant>,
    patience: Duration,
}

/// Entries in which all these fields have these values are told under a name.
#[derive(Debug)]
struct Service {
    name: String,
    fields: Vec<(String, String)>,
}

impl Journald {
    pub(super) fn configure(options: &mut Options<'_>) -> Result<Self, ConfigError> {
        let mut matches = Vec::new();
        for unit in options.take_texts("units")? {
            matches.push(format!("--unit={unit}").into());
        }
        for identifier in options.take_texts("identifiers")? {
            matches.push(format!("--identifier={identifier}").into());
        }
        if let Some(value) = options.take("priority")? {
            let priority = priority(value).ok_or_else(|| {
                options.wrong("priority", "a name like `warning` or a number up to 7", value)
            })?;
            matches.push(format!("--priority={priority}").into());
        }
        let services = match options.take("services")? {
            None => Vec::new(),
            Some(value) => services(options, value)?,
        };
        for (nth, service) in services.iter().enumerate() {
            if nth > 0 {
                matches.push("+".into());
            }
            matches.extend(
                service.fields.iter().map(|(field, value)| format!("{field}={value}").into()),
            );
        }
        let from_boot = match options.take("from")? {
            None => false,
            Some(from) => match from.as_str() {
                Some("end") => false,
                Some("boot") => true,
                Some(_) | None => return Err(options.wrong("from", "`end` or `boot`", from)),
            },
        };
        let longest = options.take_size("max_line")?.unwrap_or(DEFAULT_LONGEST);
        Ok(Self {
            program: "journalctl".into(),
            matches,
            services,
            from_boot,
            longest: usize::try_from(longest).unwrap_or(usize::MAX).min(child::LONGEST / 4),
            rate: LogRate::take(options)?,
            child: None,
            cursor: None,
            held: None,
            start_at: None,
            patience: RESTART.0,
        })
    }

    pub(super) fn look(
        &mut self,
        Look { now, room, .. }: Look<'_>,
        readings: &mut Vec<Reading>,
    ) -> Result<(), SystemError> {
        self.rate.refill(now);
        if self.child.is_none() && self.start_at.is_none_or(|at| at <= now) {
            self.start(now)?;
        }
        let moment = Moment::now();
        let mut left = MOST_READ;
        loop {
            if let Some(entry) = &self.held {
                if !self.rate.admit(entry.len(), room) {
                    return Ok(());
                }
                readings.extend(self.readings(entry, &moment));
                self.held = None;
            }
            let Some(child) = self.child.as_mut().filter(|_| left > 0) else { return Ok(()) };
            let Some(line) = child.next_line() else { break };
            left = left.saturating_sub(line.len());
            // A line that is no entry is a word of journalctl's own.
            let Some(entry) = Entry::read(&line) else { continue };
            self.patience = RESTART.0;
            self.cursor = entry.cursor().map(str::to_owned).or(self.cursor.take());
            self.held = Some(entry);
        }
        match self.child.take_if(|child| child.has_ended()) {
            None => Ok(()),
            Some(child) => {
                self.start_at = Some(now + self.patience);
                self.patience = (self.patience * 2).min(RESTART.1);
                Err(SystemError::Journal { reason: child.last_words() })
            }
        }
    }

    fn start(&mut self, now: Instant) -> Result<(), SystemError> {
        let mut arguments: Vec<OsString> =
            ["--follow", "--output=json", "--all", "--quiet"].map(OsString::from).into();
        match (&self.cursor, self.from_boot) {
            (Some(cursor), _) => {
                arguments.push("--no-tail".into());
                arguments.push(format!("--after-cursor={cursor}").into());
            }
            (None, true) => arguments.extend(["--no-tail".into(), "--boot".into()]),
            (None, false) => arguments.push("--lines=0".into()),
        }
        if self.services.is_empty() {
            arguments.push(entry::FIELDS.into());
        }
        arguments.extend(self.matches.iter().cloned());
        match Child::start(&self.program, &arguments) {
            Ok(child) => {
                self.child = Some(child);
                Ok(())
            }
            Err(source) => {
                self.start_at = Some(now + self.patience);
                self.patience = (self.patience * 2).min(RESTART.1);
                Err(SystemError::StartJournal { program: self.program.clone(), source })
            }
        }
    }

    fn readings(&self, entry: &Entry, moment: &Moment) -> Vec<Reading> {
        let age = entry.age(moment);
        if self.services.is_empty() {
            let data = entry.document(self.longest);
            return vec![Reading { age, ..Reading::of(data) }];
        }
        let named = self.services.iter().filter(|service| {
            service.fields.iter().all(|(field, value)| entry.text(field).as_ref() == Some(value))
        });
        named
            .map(|service| Reading {
                age,
                data: entry.fields(self.longest),
                ..Reading::tagged(&service.name)
            })
            .collect()
    }
}

fn priority(value: &Value) -> Option<usize> {
    match value {
        Value::Number(number) => {
            usize::try_from(number.as_u64()?).ok().filter(|number| *number < PRIORITIES.len())
        }
        Value::String(text) => PRIORITIES
            .iter()
            .position(|name| name == text || text == "error" && *name == "err")
            .or_else(|| text.parse().ok().filter(|number| *number < PRIORITIES.len())),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

fn services(options: &Options<'_>, value: &Value) -> Result<Vec<Service>, ConfigError> {
    const EXPECTED: &str = "a map like `{sshd: {SYSLOG_IDENTIFIER: sshd}}`";
    let wrong = || options.wrong("services", EXPECTED, value);
    let service = |(name, fields): (&String, &Value)| {
        let field = |(field, value): (&String, &Value)| {
            let is_field = !field.is_empty()
                && field.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_');
            let value = match value {
                Value::String(text) => text.clone(),
                Value::Number(number) => number.to_string(),
                Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => return None,
            };
            is_field.then(|| (field.clone(), value))
        };
        let fields: Option<Vec<_>> = fields.as_object()?.iter().map(field).collect();
        fields
            .filter(|fields| !fields.is_empty())
            .map(|fields| Service { name: name.clone(), fields })
    };
    let map = value.as_object().filter(|map| !map.is_empty()).ok_or_else(wrong)?;
    map.iter().map(|entry| service(entry).ok_or_else(wrong)).collect()
}

#[cfg(test)]
mod tests;
