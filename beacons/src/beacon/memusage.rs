//! `memusage`: the share of main memory in use. Without `percent` it reports at every interval;
//! with it, when the share reaches it.

use serde_json::json;

use super::{Look, Reading};
use crate::alarm::{Alarm, Limits};
use crate::config::{ConfigError, Options, Telling};
use crate::system::{System, SystemError};

#[derive(Debug)]
pub(crate) struct Memusage {
    limits: Option<Limits>,
    alarm: Alarm,
    telling: Telling,
}

impl Memusage {
    pub(super) fn configure(options: &mut Options<'_>) -> Result<Self, ConfigError> {
        let limits = match options.take("percent")? {
            Some(percent) => Some(Limits::Below(options.percent("percent", percent)?)),
            None => None,
        };
        Ok(Self { limits, alarm: Alarm::new(), telling: Telling::take(options)? })
    }

    pub(super) fn look(
        &mut self,
        system: &dyn System,
        Look { now, first, .. }: Look<'_>,
        readings: &mut Vec<Reading>,
    ) -> Result<(), SystemError> {
        let used = system.memory()?.percent_used();
        let due = self
            .limits
            .is_none_or(|limits| self.alarm.observe(used, limits, self.telling.repeat, now));
        if due {
            self.alarm.reported(now);
            if self.telling.emit_at_startup || !first {
                readings.push(Reading::of(json!({"memusage": used})));
            }
        }
        Ok(())
    }
}
