//! `diskusage`: how full file systems are, by mount point or by a regular expression of mount
//! points. Each file system is watched, and told, for itself.

use std::collections::BTreeMap;

use regex::Regex;
use serde_json::json;

use super::{Look, Reading};
use crate::alarm::{Alarm, Limits};
use crate::config::{ConfigError, Options, Telling};
use crate::system::{Mount, System, SystemError};

#[derive(Debug)]
pub(crate) struct Diskusage {
    watches: Vec<Watch>,
    telling: Telling,
}

#[derive(Debug)]
struct Watch {
    /// As the operator wrote it.
    written: String,
    pattern: Regex,
    limits: Limits,
    /// By mount point, for those that are mounted.
    alarms: BTreeMap<String, Alarm>,
}

impl Diskusage {
    pub(super) fn configure(options: &mut Options<'_>) -> Result<Self, ConfigError> {
        let telling = Telling::take(options)?;
        let mut watches = Vec::new();
        for (written, percent) in options.take_others(is_mount_point) {
            watches.push(Watch {
                written: written.to_owned(),
                // Salt matches the whole mount point.
                pattern: options.regex(written, &format!("^(?:{written})$"))?,
                limits: Limits::Below(options.percent(written, percent)?),
                alarms: BTreeMap::new(),
            });
        }
        Ok(Self { watches, telling })
    }

    /// Whether it was told what to watch. Asked last: a misspelt option is the likelier mistake.
    pub(super) fn check(&self, beacon: &str) -> Result<(), ConfigError> {
        if self.watches.is_empty() {
            let hint = "a mount point like `/: 90%`";
            return Err(ConfigError::NothingToWatch { beacon: beacon.to_owned(), hint });
        }
        Ok(())
    }

    pub(super) fn look(
        &mut self,
        system: &dyn System,
        Look { now, first, .. }: Look<'_>,
        readings: &mut Vec<Reading>,
    ) -> Result<(), SystemError> {
        let mounts = system.mounts()?;
        let mut failed = None;
        for watch in &mut self.watches {
            watch.follow(&mounts);
            for (point, alarm) in &mut watch.alarms {
                let used = match system.disk_space(point) {
                    Ok(space) => space.percent_used(),
                    // One file system that is broken must not hide the others.
                    Err(error) => {
                        failed = Some(error);
                        continue;
                    }
                };
                if !alarm.observe(used, watch.limits, self.telling.repeat, now) {
                    continue;
                }
                alarm.reported(now);
                if self.telling.emit_at_startup || !first {
                    readings.push(Reading::of(json!({"mount": point, "diskusage": used})));
                }
            }
        }
        failed.map_or(Ok(()), Err)
    }
}

impl Watch {
    /// Forgets what is no longer mounted and begins with what is new.
    fn follow(&mut self, mounts: &[Mount]) {
        let mut before = std::mem::take(&mut self.alarms);
        for mount in mounts {
            if self.wants(mount) {
                let alarm = before.remove(&mount.point).unwrap_or_else(Alarm::new);
                self.alarms.insert(mount.point.clone(), alarm);
            }
        }
    }

    /// A server that is away would block the look, so it must be asked for by name.
    fn wants(&self, mount: &Mount) -> bool {
        mount.point == self.written || (!mount.is_remote() && self.pattern.is_match(&mount.point))
    }
}

/// Option names are plain words, mount points and expressions are not.
fn is_mount_point(name: &str) -> bool {
    !name.chars().all(|char| char.is_ascii_alphanumeric() || char == '_')
}
