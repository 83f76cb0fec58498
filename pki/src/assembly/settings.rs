//! What a station is told once, so that the line's command is short: `station.json` in its
//! directory. Checked each time that it is read, so it may be edited by hand.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{GrainName, GrainValue, IdTemplate, MasterAddress, SerialPattern, UnfitSerial};
use crate::file::{self, Access, FileError};
use crate::name::HardwareSerial;

const FILE: &str = "station.json";
const FORMAT: u32 = 1;

/// A station's settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    format: u32,
    /// What ids are made from; without it, each device is given its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id_template: Option<IdTemplate>,
    /// What serial numbers look like; without it, any is a device's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial_pattern: Option<SerialPattern>,
    /// The masters of a device that is given no other.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub masters: Vec<MasterAddress>,
    /// Enrolled grains of each device, unless it is given another value.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub grains: BTreeMap<GrainName, GrainValue>,
}

/// Why a station's settings could not be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// Not JSON, an unknown setting, or a wrong value.
    #[error("`{}` cannot be used as a station's settings", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        source: serde_json::Error,
    },
    /// Written by a newer Drover.
    #[error("`{}` has format {found}, {FORMAT} is the one known here", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// The format that it states.
        found: u32,
    },
}

impl Default for Settings {
    fn default() -> Self {
        Self::new(None, Vec::new(), BTreeMap::new())
    }
}

impl Settings {
    /// Settings to be kept.
    pub fn new(
        id_template: Option<IdTemplate>,
        masters: Vec<MasterAddress>,
        grains: BTreeMap<GrainName, GrainValue>,
    ) -> Self {
        Self { format: FORMAT, id_template, serial_pattern: None, masters, grains }
    }

    /// Refuses a serial number that no device of this station has.
    ///
    /// # Errors
    /// When it does not fit the pattern.
    pub fn check_serial(&self, serial: &HardwareSerial) -> Result<(), UnfitSerial> {
        self.serial_pattern.as_ref().map_or(Ok(()), |pattern| pattern.check(serial))
    }

    /// Reads the settings of the station in this directory; one without has none set.
    pub fn read(station: &Path) -> Result<Self, SettingsError> {
        let path = station.join(FILE);
        match file::read(&path) {
            Ok(text) => Self::parse(&text).map_err(|wrong| match wrong {
                Wrong::Format(found) => SettingsError::Format { path, found },
                Wrong::Text(source) => SettingsError::Unreadable { path, source },
            }),
            Err(FileError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                Ok(Self::default())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Keeps them in the station's directory.
    pub fn write(&self, station: &Path) -> Result<(), SettingsError> {
        let path = station.join(FILE);
        let text = serde_json::to_string_pretty(self);
        let text =
            text.map_err(|source| SettingsError::Unreadable { path: path.clone(), source })?;
        Ok(file::replace(&path, (text + "\n").as_bytes(), Access::Public)?)
    }

    fn parse(text: &[u8]) -> Result<Self, Wrong> {
        // The format comes first: a newer one may have settings that are unknown here.
        #[derive(Deserialize)]
        struct Versioned {
            format: u32,
        }
        let Versioned { format } = serde_json::from_slice(text).map_err(Wrong::Text)?;
        if format != FORMAT {
            return Err(Wrong::Format(format));
        }
        serde_json::from_slice(text).map_err(Wrong::Text)
    }
}

enum Wrong {
    Format(u32),
    Text(serde_json::Error),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(text: &str) -> Result<Settings, SettingsError> {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join(FILE), text).unwrap();
        Settings::read(directory.path())
    }

    #[test]
    fn settings_are_there_when_the_station_is_opened_again() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(Settings::read(directory.path()).unwrap(), Settings::default());
        let mut settings = Settings::new(
            Some("rfid-{serial}".parse().unwrap()),
            vec!["10.0.0.1:4510".parse().unwrap()],
            BTreeMap::from([("site".parse().unwrap(), "bne".parse().unwrap())]),
        );
        settings.serial_pattern = Some("SN[0-9]+".parse().unwrap());
        settings.write(directory.path()).unwrap();
        assert_eq!(Settings::read(directory.path()).unwrap(), settings);
        insta::assert_snapshot!(
            std::fs::read_to_string(directory.path().join(FILE)).unwrap(),
            @r#"
        {
          "format": 1,
          "id_template": "rfid-{serial}",
          "serial_pattern": "SN[0-9]+",
          "masters": [
            "10.0.0.1:4510"
          ],
          "grains": {
            "site": "bne"
          }
        }
        "#
        );
    }

    #[test]
    fn what_was_edited_wrongly_is_refused() {
        reading(r#"{"format":1}"#).unwrap();
        let newer = reading(r#"{"format":2,"new":true}"#).unwrap_err();
        assert!(matches!(newer, SettingsError::Format { found: 2, .. }));
        for wrong in [
            "",
            "{}",
            r#"{"format":1,"template":"x"}"#,
            r#"{"format":1,"id_template":"rfid"}"#,
            r#"{"format":1,"serial_pattern":"SN["}"#,
            r#"{"format":1,"masters":["a b"]}"#,
            r#"{"format":1,"grains":{"id":"x"}}"#,
            r#"{"format":1,"grains":{"site":1}}"#,
        ] {
            let error = reading(wrong).unwrap_err();
            assert!(matches!(error, SettingsError::Unreadable { .. }), "{wrong}: {error}");
        }
    }

    #[test]
    fn a_grain_with_a_control_character_is_refused_as_on_the_command_line() {
        for value in [r"\u001b[31m", r"a\nb", r"\u0000"] {
            let wrong = format!(r#"{{"format":1,"grains":{{"site":"{value}"}}}}"#);
            let error = reading(&wrong).unwrap_err();
            let SettingsError::Unreadable { source, .. } = error else { panic!("{error}") };
            assert!(source.to_string().contains("no control characters"), "{source}");
        }
        reading(r#"{"format":1,"grains":{"site":"Nürnberg, 2"}}"#).unwrap();
    }
}
