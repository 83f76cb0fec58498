//! The station's template for ids: a serial number is scanned, and the id follows from it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::name::{HardwareSerial, MinionId, NameError};

const SERIAL: &str = "{serial}";

/// A template such as `rfid-{serial}`, which makes an id of at least the shortest serial numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct IdTemplate(String);

/// Why a text is no template for ids.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdTemplateError {
    /// All devices would have one id, or the serial number stands there twice.
    #[error("a template for ids has `{SERIAL}` once, unlike `{}`", given.escape_debug())]
    Serial {
        /// The text.
        given: String,
    },
    /// Around the serial number stands what no id has.
    #[error("the template `{}` makes no id, not even of the serial number `0`", given.escape_debug())]
    Id {
        /// The text.
        given: String,
        /// What is wrong with the id.
        source: NameError,
    },
}

/// A serial number of which the template makes no id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the template `{template}` makes no id of the serial number `{serial}`: {reason}")]
pub struct NoId {
    template: IdTemplate,
    serial: HardwareSerial,
    // Boxed, so that lists of faults stay small.
    reason: Box<NameError>,
}

impl IdTemplate {
    /// The id of the device with this serial number.
    pub fn id(&self, serial: &HardwareSerial) -> Result<MinionId, NoId> {
        self.expand(serial.as_str()).parse().map_err(|reason| NoId {
            template: self.clone(),
            serial: serial.clone(),
            reason: Box::new(reason),
        })
    }

    fn expand(&self, serial: &str) -> String {
        self.0.replace(SERIAL, serial)
    }
}

impl FromStr for IdTemplate {
    type Err = IdTemplateError;

    fn from_str(text: &str) -> Result<Self, IdTemplateError> {
        if text.matches(SERIAL).count() != 1 {
            return Err(IdTemplateError::Serial { given: text.to_owned() });
        }
        let template = Self(text.to_owned());
        match template.expand("0").parse::<MinionId>() {
            Ok(_) => Ok(template),
            Err(source) => Err(IdTemplateError::Id { given: text.to_owned(), source }),
        }
    }
}

impl fmt::Display for IdTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for IdTemplate {
    type Error = IdTemplateError;

    fn try_from(text: String) -> Result<Self, IdTemplateError> {
        text.parse()
    }
}

impl From<IdTemplate> for String {
    fn from(template: IdTemplate) -> Self {
        template.0
    }
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::*;

    fn serial(text: &str) -> HardwareSerial {
        text.parse().unwrap()
    }

    #[test]
    fn an_id_follows_from_the_serial_number() {
        let template: IdTemplate = "rfid-{serial}.bne".parse().unwrap();
        assert_eq!(template.id(&serial("SN0001")).unwrap().as_str(), "rfid-SN0001.bne");
        assert_eq!(template.to_string(), "rfid-{serial}.bne");
        let bare: IdTemplate = "{serial}".parse().unwrap();
        assert_eq!(bare.id(&serial("7")).unwrap().as_str(), "7");
    }

    #[test]
    fn a_template_that_makes_no_id_is_refused_when_it_is_set() {
        let refusal = |text: &str| text.parse::<IdTemplate>().unwrap_err();
        assert_snapshot!(refusal("rfid"), @"a template for ids has `{serial}` once, unlike `rfid`");
        refusal("{serial}{serial}");
        refusal("{id}-{serial}");
        refusal("-{serial}");
        refusal(&("x".repeat(64) + "{serial}"));
        assert_snapshot!(
            refusal("rfid/{serial}"),
            @"the template `rfid/{serial}` makes no id, not even of the serial number `0`"
        );
    }

    #[test]
    fn a_serial_number_that_no_id_can_have_is_refused_with_the_reason() {
        let template: IdTemplate = "rfid-{serial}".parse().unwrap();
        assert_snapshot!(
            template.id(&serial("10/04")).unwrap_err(),
            @"the template `rfid-{serial}` makes no id of the serial number `10/04`: minion id `rfid-10/04` has the character `/`, allowed are A-Z a-z 0-9 . _ -"
        );
        template.id(&serial(&"9".repeat(64))).unwrap_err();
    }
}
