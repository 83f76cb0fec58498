//! `load`: the load averages. Without `averages` it reports at every interval; with them, when one
//! leaves its band.

use serde_json::{Value, json};

use super::{Look, Reading};
use crate::alarm::{Alarm, Limits};
use crate::config::{ConfigError, Options, Telling};
use crate::system::{System, SystemError};

const AVERAGES: [&str; 3] = ["1m", "5m", "15m"];

#[derive(Debug)]
pub(crate) struct Load {
    bands: Vec<Band>,
    telling: Telling,
}

/// One average that is watched.
#[derive(Debug)]
struct Band {
    average: usize,
    limits: Limits,
    alarm: Alarm,
}

impl Load {
    pub(super) fn configure(options: &mut Options<'_>) -> Result<Self, ConfigError> {
        let bands = match options.take("averages")? {
            Some(averages) => bands(options, averages)?,
            None => Vec::new(),
        };
        Ok(Self { bands, telling: Telling::take(options)? })
    }

    pub(super) fn look(
        &mut self,
        system: &dyn System,
        Look { now, first, .. }: Look<'_>,
        readings: &mut Vec<Reading>,
    ) -> Result<(), SystemError> {
        let averages = system.load_averages()?;
        // Every band sees the value, so that each one's state is right whichever of them tells.
        let due: Vec<bool> = self
            .bands
            .iter_mut()
            .map(|band| {
                let value = averages[band.average];
                band.alarm.observe(value, band.limits, self.telling.repeat, now)
            })
            .collect();
        if !self.bands.is_empty() && !due.contains(&true) {
            return Ok(());
        }
        for band in &mut self.bands {
            band.alarm.reported(now);
        }
        if self.telling.emit_at_startup || !first {
            let [one, five, fifteen] = averages;
            readings.push(Reading::of(json!({"1m": one, "5m": five, "15m": fifteen})));
        }
        Ok(())
    }
}

fn bands(options: &Options<'_>, averages: &Value) -> Result<Vec<Band>, ConfigError> {
    const EXPECTED: &str =
        "a map like `{1m: [0.0, 2.0]}` with `1m`, `5m` or `15m`, low before high";
    let wrong = || options.wrong("averages", EXPECTED, averages);
    let map = averages.as_object().filter(|map| !map.is_empty()).ok_or_else(wrong)?;
    let band = |(name, limits): (&String, &Value)| {
        let average = AVERAGES.iter().position(|average| average == name)?;
        let [low, high] = limits.as_array()?.as_slice() else { return None };
        let (low, high) = (number(low)?, number(high)?);
        let limits = (low <= high).then_some(Limits::Between(low, high))?;
        Some(Band { average, limits, alarm: Alarm::new() })
    };
    map.iter().map(|entry| band(entry).ok_or_else(wrong)).collect()
}

/// Salt's users write both `1.0` and `'1.0'`.
fn number(value: &Value) -> Option<f64> {
    value.as_f64().or_else(|| value.as_str()?.trim().parse().ok()).filter(|n| n.is_finite())
}
