//! `temperature`: how warm sensors are, in degrees Celsius: every thermal zone of the kernel, or the files that are named.
//! Without `celsius` it reports at every interval; with it, when a sensor leaves its limits. Each is told for itself.

use std::{collections::BTreeMap, path::PathBuf};

use serde_json::{Value, json};

use super::{Look, Reading};
use crate::alarm::{Alarm, Limits};
use crate::config::{ConfigError, Options, Telling};
use crate::system::{Sensor, System, SystemError};

#[derive(Debug)]
pub(crate) struct Temperature {
    limits: Option<Limits>,
    /// Those that the operator named; the thermal zones where there are none.
    sensors: Vec<Sensor>,
    /// By the sensor's name.
    alarms: BTreeMap<String, Alarm>,
    telling: Telling,
}

impl Temperature {
    pub(super) fn configure(options: &mut Options<'_>) -> Result<Self, ConfigError> {
        let limits = match options.take("celsius")? {
            Some(celsius) => Some(limits(options, celsius)?),
            None => None,
        };
        let sensors = match options.take("sensors")? {
            Some(named) => sensors(options, named)?,
            None => Vec::new(),
        };
        Ok(Self { limits, sensors, alarms: BTreeMap::new(), telling: Telling::take(options)? })
    }

    pub(super) fn look(
        &mut self,
        system: &dyn System,
        Look { now, first, .. }: Look<'_>,
        readings: &mut Vec<Reading>,
    ) -> Result<(), SystemError> {
        let zones;
        let sensors = if self.sensors.is_empty() {
            zones = system.thermal_zones()?;
            &zones
        } else {
            &self.sensors
        };
        let mut failed = None;
        for sensor in sensors {
            let celsius = match system.temperature(sensor) {
                Ok(celsius) => celsius,
                // A sensor that is switched off must not hide the others.
                Err(error) => {
                    failed = Some(error);
                    continue;
                }
            };
            if let Some(limits) = self.limits {
                let alarm = self.alarms.entry(sensor.name.clone()).or_insert_with(Alarm::new);
                if !alarm.observe(celsius, limits, self.telling.repeat, now) {
                    continue;
                }
                alarm.reported(now);
            }
            if self.telling.emit_at_startup || !first {
                readings.push(Reading::of(json!({"sensor": sensor.name, "celsius": celsius})));
            }
        }
        failed.map_or(Ok(()), Err)
    }
}

fn limits(options: &Options<'_>, celsius: &Value) -> Result<Limits, ConfigError> {
    const EXPECTED: &str =
        "a temperature such as `80`, or the coldest and the warmest, `[-10, 80]`";
    let wrong = || options.wrong("celsius", EXPECTED, celsius);
    let Some(band) = celsius.as_array() else {
        return celsius.as_f64().map(Limits::Below).ok_or_else(wrong);
    };
    let [low, high] = band.as_slice() else { return Err(wrong()) };
    let (low, high) = low.as_f64().zip(high.as_f64()).ok_or_else(wrong)?;
    (low <= high).then_some(Limits::Between(low, high)).ok_or_else(wrong)
}

fn sensors(options: &Options<'_>, named: &Value) -> Result<Vec<Sensor>, ConfigError> {
    const EXPECTED: &str =
        "a map of names and files, such as `{board: /sys/class/hwmon/hwmon0/temp1_input}`";
    let wrong = || options.wrong("sensors", EXPECTED, named);
    let map = named.as_object().filter(|map| !map.is_empty()).ok_or_else(wrong)?;
    let sensor = |(name, path): (&String, &Value)| {
        let path = path.as_str().map(PathBuf::from).filter(|path| path.is_absolute())?;
        Some(Sensor { name: name.clone(), path })
    };
    map.iter().map(|entry| sensor(entry).ok_or_else(wrong)).collect()
}
